//! What is said of a written text: Markdown, emoji, code and marks for machines are left out, the words are kept.
//!
//! Markdown is read by pulldown-cmark. As a sentence may hold half of a `**pair**`, what is left of such marks is taken
//! away afterwards.

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};
use unicode_properties::{EmojiStatus, UnicodeEmoji};
use unicode_segmentation::UnicodeSegmentation;

use super::fence::{closes_fence, opens_fence};

/// What is said instead of a block of code.
const CODE_NOTICE: &str = "Code omitted.";

/// What is said of a text that comes in pieces, such as those of a [`super::SentenceSplitter`]: it remembers whether a
/// block of code goes on from one piece to the next.
#[derive(Debug, Clone)]
pub struct SpeechFilter {
    code_notice: String,
    /// The mark of the fence that is open.
    fence: Option<char>,
}

impl Default for SpeechFilter {
    fn default() -> Self {
        Self::new(CODE_NOTICE)
    }
}

impl SpeechFilter {
    /// A filter at the beginning of a text. `code_notice` is said once for each block of code; it may be empty.
    #[must_use]
    pub fn new(code_notice: &str) -> Self {
        Self { code_notice: code_notice.to_owned(), fence: None }
    }

    /// What is said of the next piece; empty if nothing.
    pub fn speakable(&mut self, piece: &str) -> String {
        let mut said = Blocks::default();
        let mut prose = String::new();
        for line in piece.lines() {
            match self.fence {
                Some(mark) if closes_fence(line, mark) => self.fence = None,
                Some(_) => {}
                None => match opens_fence(line.trim_start()) {
                    Some(mark) => {
                        self.fence = Some(mark);
                        said.block(&prose_speech(&std::mem::take(&mut prose)));
                        said.block(&self.code_notice);
                    }
                    None => {
                        prose.push_str(line);
                        prose.push('\n');
                    }
                },
            }
        }
        said.block(&prose_speech(&prose));
        said.out
    }
}

/// What is said of a whole text: see [`SpeechFilter`].
#[must_use]
pub fn speakable(text: &str) -> String {
    SpeechFilter::default().speakable(text)
}

fn prose_speech(prose: &str) -> String {
    let prose = without_tokens(prose);
    let text = if prose.lines().count() == 1 && prose.trim_start().starts_with('|') {
        table_row(&prose)
    } else {
        without_markdown(&prose)
    };
    let words: Vec<String> = without_stage_marks(&text).split_whitespace().map(spoken_url).collect();
    let text = without_emoji(&without_stray_marks(&words.join(" ")));
    let text = tidy(&text);
    if text.chars().any(char::is_alphanumeric) { text } else { String::new() }
}

/// Takes out a model's special tokens, such as `<|im_end|>`.
fn without_tokens(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("<|") {
        out.push_str(before);
        match after.split_once("|>") {
            Some((token, more)) if !token.contains(char::is_whitespace) => rest = more,
            _ => {
                out.push_str("<|");
                rest = after;
            }
        }
    }
    out + rest
}

/// A line of a table that came without its table: the cells with commas between.
fn table_row(line: &str) -> String {
    let cells = line.split('|').map(str::trim).filter(|cell| cell.chars().any(|c| !"-: ".contains(c)));
    cells.map(without_markdown).collect::<Vec<_>>().join(", ")
}

/// Text in which a pause stands between one block (heading, item, paragraph, row) and the next.
#[derive(Default)]
struct Blocks {
    out: String,
    pause: bool,
}

impl Blocks {
    fn push(&mut self, text: &str) {
        if self.pause && !text.trim().is_empty() {
            self.out.truncate(self.out.trim_end().len());
            // A block with a mark of its own at its end needs no other.
            self.out.push_str(if self.out.ends_with(char::is_alphanumeric) { ". " } else { " " });
            self.pause = false;
        }
        self.out.push_str(text);
    }

    /// Adds a whole block.
    fn block(&mut self, text: &str) {
        self.push(text);
        self.end();
    }

    /// Ends a block: a pause comes before whatever follows.
    fn end(&mut self) {
        self.pause = !self.out.trim().is_empty();
    }
}

fn without_markdown(text: &str) -> String {
    let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS;
    let mut blocks = Blocks::default();
    let mut numbers: Vec<Option<u64>> = Vec::new();
    let mut row_began = false;
    let mut any = false;
    for event in Parser::new_ext(text, options) {
        any = true;
        match event {
            Event::Text(text) | Event::Code(text) => blocks.push(&text),
            Event::Html(html) | Event::InlineHtml(html) => blocks.push(&without_tags(&html)),
            Event::SoftBreak | Event::HardBreak => blocks.push(" "),
            Event::Start(Tag::List(first)) => {
                blocks.end();
                numbers.push(first);
            }
            Event::End(TagEnd::List(_)) => {
                numbers.pop();
            }
            Event::Start(Tag::Item) => {
                if let Some(Some(number)) = numbers.last_mut() {
                    blocks.push(&format!("{number}. "));
                    *number = number.saturating_add(1);
                }
            }
            Event::Start(Tag::TableHead | Tag::TableRow) => row_began = true,
            Event::Start(Tag::TableCell) if std::mem::take(&mut row_began) => {}
            Event::Start(Tag::TableCell) => blocks.push(", "),
            Event::End(
                TagEnd::Paragraph
                | TagEnd::Heading(_)
                | TagEnd::Item
                | TagEnd::TableHead
                | TagEnd::TableRow
                | TagEnd::CodeBlock
                | TagEnd::HtmlBlock,
            ) => blocks.end(),
            _ => {}
        }
    }
    // A definition of a link is read as nothing, and `[Note]: important` looks like one.
    if any { blocks.out } else { text.to_owned() }
}

/// What stands between the tags of `html`.
fn without_tags(html: &str) -> String {
    let mut parts = html.split('<');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push(' ');
        out.push_str(part.split_once('>').map_or("", |(_, text)| text));
    }
    out
}

/// Takes out what is meant for machines or readers: `[ACTION]`, `[PAUSE: 2]`, `[1]`.
fn without_stage_marks(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('[') {
        out.push_str(before);
        match after.split_once(']') {
            Some((inner, more)) if is_stage_mark(inner) => rest = more,
            _ => {
                out.push('[');
                rest = after;
            }
        }
    }
    out + rest
}

fn is_stage_mark(inner: &str) -> bool {
    let inner = inner.trim_start_matches('^');
    let reference = !inner.is_empty() && inner.len() <= 3 && inner.bytes().all(|byte| byte.is_ascii_digit());
    let name = inner.split(':').next().unwrap_or_default();
    let command = name.len() >= 3
        && name.starts_with(|c: char| c.is_ascii_uppercase())
        && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || "_- ".contains(c));
    reference || command
}

/// A web address as people say it: its host.
fn spoken_url(word: &str) -> String {
    let start = word.find("http://").or_else(|| word.find("https://")).unwrap_or(0);
    let (before, address) = word.split_at(start);
    let Some(rest) = ["https://", "http://", "www."].iter().find_map(|scheme| address.strip_prefix(scheme)) else {
        return word.to_owned();
    };
    let rest = rest.strip_prefix("www.").unwrap_or(rest);
    let host: String = rest.chars().take_while(|c| c.is_alphanumeric() || "-.".contains(*c)).collect();
    let host = host.trim_end_matches('.');
    // A mark at the end belongs to the sentence and not to the address.
    let bare = rest.trim_end_matches(|c| ".,;:!?)]}\"'”’>".contains(c));
    let end = rest.get(bare.len().max(host.len())..).unwrap_or_default();
    format!("{before}{host}{end}")
}

/// Takes out halves of Markdown's pairs. A `*` between numbers or spaces and a `_` within a word stay.
fn without_stray_marks(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while let Some(&c) = chars.get(at) {
        let run = chars[at..].iter().take_while(|next| **next == c).count();
        let before = at.checked_sub(1).and_then(|index| chars.get(index)).copied().unwrap_or(' ');
        let after = chars.get(at + run).copied().unwrap_or(' ');
        let keep = match c {
            '`' => false,
            '*' => {
                let spaced = before.is_whitespace() && after.is_whitespace() && at > 0 && at + run < chars.len();
                run == 1 && (spaced || (before.is_alphanumeric() && after.is_numeric()))
            }
            '_' => before.is_alphanumeric() && after.is_alphanumeric(),
            '~' | '#' => run == 1,
            _ => true,
        };
        if keep {
            out.extend(&chars[at..at + run]);
        }
        at += run;
    }
    out
}

/// Takes out pictures, and of keycaps such as 1️⃣ all but the digit.
fn without_emoji(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for grapheme in text.graphemes(true) {
        // A family or a flag is one grapheme of several characters: its first tells.
        if !grapheme.starts_with(is_emoji) {
            out.extend(grapheme.chars().filter(|c| !is_emoji(*c) && !matches!(c, '\u{fe0f}' | '\u{20e3}')));
        }
    }
    out
}

fn is_emoji(c: char) -> bool {
    // Signs that are words: copyright, registered, trade mark, information.
    let word = c.is_ascii() || matches!(c, '©' | '®' | '™' | 'ℹ' | '‼' | '⁉');
    !word
        && c.is_emoji_char()
        && !matches!(c.emoji_status(), EmojiStatus::NonEmoji | EmojiStatus::NonEmojiButEmojiComponent)
}

/// One space between words, none before a mark, nothing that can't be seen.
fn tidy(text: &str) -> String {
    let visible: String =
        text.chars().filter(|c| !is_invisible(*c) && (c.is_whitespace() || !c.is_control())).collect();
    let mut out = String::with_capacity(visible.len());
    for word in visible.split_whitespace() {
        let only_marks = word.chars().all(|c| ".,;:!?…".contains(c));
        if !out.is_empty() && !only_marks {
            out.push(' ');
        }
        out.push_str(word);
    }
    out
}

/// Marks of direction, soft hyphens, zero-width spaces. Joiners stay: some scripts are spelled with them.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{fe0e}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::text::{SentenceSplitter, SplitSettings};

    #[test]
    fn marks_are_left_out_and_words_are_kept() {
        for (text, expected) in [
            ("Hello, world!", "Hello, world!"),
            ("**Bold** and *italic* and `code`.", "Bold and italic and code."),
            ("**Half of a pair.", "Half of a pair."),
            ("The other half.**", "The other half."),
            ("## A heading", "A heading"),
            ("- a bullet", "a bullet"),
            ("2. **Second**: done", "2. Second: done"),
            ("1986. A great year!", "1986. A great year!"),
            ("[x] [docs](https://a.b/c) and ![a cat](c.png).", "[x] docs and a cat."),
            ("See https://www.example.com/a?b=c, or (http://x.org).", "See example.com, or (x.org)."),
            ("<https://docs.rs/foo>", "docs.rs"),
            ("| Name | Value |", "Name, Value"),
            ("|---|:--:|", ""),
            ("---", ""),
            ("Great 😊! 👨‍👩‍👧 Done ✅.", "Great! Done."),
            ("Press 1️⃣ or #2 ❤️ ©", "Press 1 or #2 ©"),
            ("[PAUSE] Well [ACTION: wave] then [1].", "Well then."),
            ("[sic] stays", "[sic] stays"),
            ("[Note]: important", "[Note]: important"),
            ("Bye.<|im_end|>", "Bye."),
            ("2 * 3 is 6, 2*3 too; snake_case, __init__", "2 * 3 is 6, 2*3 too; snake_case, init"),
            ("if a < b & c > d", "if a < b & c > d"),
            ("a &amp; b<br>c <b>d</b>", "a & b c d"),
            ("<p>Hello</p>", "Hello"),
            ("bell\u{7} and\u{200b} zero\tand\nline", "bell and zero and line"),
            ("> quoted", "quoted"),
            ("~~old~~ new", "old new"),
            ("- [ ] a task", "a task"),
            ("Is `", "Is"),
            ("", ""),
            ("😊", ""),
            ("𑼂🎞a🏻", "𑼂a"),
            ("  \n ", ""),
            ("你好。", "你好。"),
        ] {
            assert_eq!(speakable(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_whole_answer_is_read_with_pauses() {
        let text = "# Title\n\nSome text:\n\n- one\n- two\n\n```rust\nfn main() {}\n```\n\nThe end.\n\n| A | B |\n|---|---|\n| 1 | 2 |\n";
        assert_eq!(speakable(text), "Title. Some text: one. two. Code omitted. The end. A, B. 1, 2");
    }

    #[test]
    fn code_is_left_out_across_pieces() {
        let code = "let x = 1; // It is. No?\n".repeat(40);
        let text = format!("Try this:\n```rust\n{code}```\nIt works. Right?");
        let mut splitter = SentenceSplitter::new(SplitSettings::default());
        let mut pieces = splitter.push(&text);
        pieces.extend(splitter.finish());
        let mut filter = SpeechFilter::new("See the screen.");
        let said: Vec<String> =
            pieces.iter().map(|piece| filter.speakable(piece)).filter(|said| !said.is_empty()).collect();
        assert_eq!(said, ["Try this:", "See the screen.", "It works.", "Right?"]);
    }

    proptest! {
        #[test]
        fn plain_text_is_said_as_it_is(words in prop::collection::vec("[A-Za-z]{1,8}(-[a-z]{1,4}|'s)?[,;]?", 1..12), end in "[.!?]?") {
            let text = words.join(" ") + &end;
            prop_assert_eq!(speakable(&text), text);
        }

        #[test]
        fn marked_words_are_kept(words in prop::collection::vec(("[a-z]{1,8}", 0usize..7), 1..10)) {
            let marked: Vec<String> = words.iter().map(|(word, mark)| match mark {
                0 => format!("**{word}**"),
                1 => format!("*{word}*"),
                2 => format!("`{word}`"),
                3 => format!("[{word}](https://a.b/{word})"),
                4 => format!("{word} 😊"),
                5 => format!("~~{word}~~"),
                _ => word.clone(),
            }).collect();
            let plain: Vec<&str> = words.iter().map(|(word, _)| word.as_str()).collect();
            prop_assert_eq!(speakable(&marked.join(" ")), plain.join(" "));
        }

        #[test]
        fn nothing_unspeakable_is_left(text in any::<String>()) {
            let said = speakable(&text);
            prop_assert!(!said.chars().any(|c| c.is_control() || c == '`' || is_emoji(c)), "{:?}", said);
            prop_assert!(!said.contains("**") && !said.contains("  ") && said.trim() == said, "{:?}", said);
            prop_assert!(said.is_empty() || said.chars().any(char::is_alphanumeric));
        }

        #[test]
        fn no_markdown_makes_it_fail(text in "[-a1 *_`~#|<>\\[\\]()!.:\\\\\n]{0,40}") {
            let said = speakable(&text);
            prop_assert!(!said.contains('`') && !said.contains("**"), "{:?}", said);
        }
    }
}
