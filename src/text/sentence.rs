//! Cuts a model's text into sentences while it is still being written, so that a voice can begin with the first.
//!
//! It reads one character at a time and holds what may still belong to the current sentence:
//!
//! ```text
//!            . ! ? …            space            capital, digit, quote, mark
//!   Inside ──────────▶ Stop ──────────▶ Gap ──────────────────────────────▶ cut
//!     ▲ │  ◀─ 3.14, a.b ┘  ◀─ lower case ┘ │ after U.S., Inc., J.
//!     │ │ newline                          ▼
//!     │ └────────▶ Line ──▶ cut           Word ── the, it, … ──▶ cut
//!     └── lower case ┘                     └── else ──▶ Inside
//! ```
//!
//! `!` and `?` before a space, and 。！？, cut without a look at what follows. A block of code fenced by ``` is never
//! cut into sentences. Unicode's own rule (UAX #29) is what this does for plain text; it takes `Mr. Smith` for two
//! sentences and needs the whole text, so it is used in tests only.
//!
//! What a sentence is depends on the characters alone and not on how they were chunked into deltas.

use unicode_segmentation::UnicodeSegmentation;

use super::abbreviation::{After, after_full_stop, is_starter};
use super::fence::closes_fence;

/// The shortest first piece that is cut off at a comma: less would be spoken before the next piece is ready.
const FIRST_MIN_CHARS: usize = 20;

/// How long a piece may get, in characters (Unicode scalar values).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SplitSettings {
    /// When the first sentence is longer than this, it is cut at a comma, semicolon, colon or dash: at the last one
    /// before, else at the next one. The voice begins earlier then.
    pub first_max_chars: usize,
    /// No piece is longer: it is cut at such a mark in its second half, else between words, else anywhere.
    pub max_chars: usize,
}

impl Default for SplitSettings {
    fn default() -> Self {
        Self { first_max_chars: 60, max_chars: 280 }
    }
}

/// Cuts streamed text into sentences; the module says how.
///
/// All pieces joined are the text, apart from whitespace between them. The memory held is that of `max_chars`
/// characters.
#[derive(Debug, Clone)]
pub struct SentenceSplitter {
    settings: SplitSettings,
    /// What is held: never begins with whitespace.
    held: String,
    /// Characters in `held`.
    chars: usize,
    state: State,
    /// Where in `held` the last clause ends that is long enough to be cut off.
    clause: Option<usize>,
    /// Whether nothing was given out yet.
    first: bool,
    /// Whether `held` begins where a line does.
    line_start: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Within a sentence.
    Inside,
    /// After stops, which begin at the byte `stop`, and the quotes and brackets that close behind them.
    Stop { stop: usize, kind: Stop, closed: bool },
    /// After a space behind `end`; `after` must follow.
    Gap { end: usize, after: After },
    /// In the word at `from`, which decides whether the sentence ended at `end`.
    Word { end: usize, from: usize },
    /// After a newline behind `end` that may be a mere wrap.
    Line { end: usize },
    /// In fenced code; `open` once the line that opened it is over.
    Fence { mark: char, open: bool },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    Full,
    Ellipsis,
    Strong,
    /// Of a script that puts no space between sentences.
    Wide,
}

/// What the next character means for what is held.
enum Step {
    /// The sentence ends at this byte; the character comes after it.
    Cut(usize),
    /// It goes on, in this state before the character is added.
    On(State),
}

impl Default for SentenceSplitter {
    fn default() -> Self {
        Self::new(SplitSettings::default())
    }
}

impl SentenceSplitter {
    /// A splitter at the beginning of a text. Lengths below 1 count as 1.
    #[must_use]
    pub fn new(settings: SplitSettings) -> Self {
        let max_chars = settings.max_chars.max(1);
        let first_max_chars = settings.first_max_chars.clamp(1, max_chars);
        Self {
            settings: SplitSettings { first_max_chars, max_chars },
            held: String::new(),
            chars: 0,
            state: State::Inside,
            clause: None,
            first: true,
            line_start: true,
        }
    }

    /// Takes more of the text and gives the sentences that are complete now, without the space around them.
    pub fn push(&mut self, delta: &str) -> Vec<String> {
        let mut out = Vec::new();
        // A stack, the next character on top: after a cut, what is left of `held` is read again.
        let mut todo: Vec<char> = delta.chars().rev().collect();
        while let Some(c) = todo.pop() {
            let cut = match self.step(c) {
                Step::Cut(end) => {
                    todo.push(c);
                    Some(end)
                }
                Step::On(state) => {
                    self.state = state;
                    self.add(c)
                }
            };
            if let Some(end) = cut {
                let rest = self.cut(end, &mut out);
                todo.extend(rest.chars().rev());
            }
        }
        out
    }

    /// Gives what is left at the end of the text, and is ready for another.
    pub fn finish(&mut self) -> Option<String> {
        let held = std::mem::take(&mut self.held);
        *self = Self::new(self.settings);
        let rest = held.trim();
        (!rest.is_empty()).then(|| rest.to_owned())
    }

    /// Gives out `held[..end]` and returns the rest.
    fn cut(&mut self, end: usize, out: &mut Vec<String>) -> String {
        let rest = self.held.split_off(end);
        let piece = self.held.trim_end();
        if !piece.is_empty() {
            out.push(piece.to_owned());
            self.first = false;
        }
        self.line_start = self.held.ends_with('\n');
        self.held.clear();
        self.chars = 0;
        self.clause = None;
        if !matches!(self.state, State::Fence { .. }) {
            self.state = State::Inside;
        }
        rest
    }

    /// What `c` means after what is held.
    fn step(&mut self, c: char) -> Step {
        match self.state {
            State::Inside => Step::On(State::Inside),
            State::Stop { stop, kind, closed } => self.after_stop(c, stop, kind, closed),
            State::Gap { end, after } => match c {
                '\n' => Step::Cut(end),
                _ if c.is_whitespace() => Step::On(self.state),
                _ if c.is_lowercase() || ",;:)]}.!?%–—".contains(c) => Step::On(State::Inside),
                _ if after == After::NotDigit && c.is_numeric() => Step::On(State::Inside),
                _ if after == After::Starter && c.is_uppercase() => {
                    Step::On(State::Word { end, from: self.held.len() })
                }
                _ if matches!(after, After::Starter | After::Never) => Step::On(State::Inside),
                _ => Step::Cut(end),
            },
            State::Word { .. } if c.is_alphabetic() || matches!(c, '\'' | '\u{2019}') => Step::On(self.state),
            State::Word { end, from } if c != '.' && self.held.get(from..).is_some_and(is_starter) => Step::Cut(end),
            State::Word { .. } => Step::On(State::Inside),
            State::Line { end } => match c {
                '\n' => Step::Cut(end),
                _ if c.is_whitespace() => Step::On(self.state),
                _ if c.is_lowercase() => Step::On(State::Inside),
                _ => Step::Cut(end),
            },
            State::Fence { mark, open } => self.in_fence(c, mark, open),
        }
    }

    fn after_stop(&self, c: char, stop: usize, kind: Stop, closed: bool) -> Step {
        let end = self.held.len();
        if let Some(next) = stop_kind(c).filter(|_| !closed) {
            let kind = match (kind, next) {
                (Stop::Full | Stop::Ellipsis, Stop::Full | Stop::Ellipsis) => Stop::Ellipsis,
                (Stop::Wide, _) | (_, Stop::Wide) => Stop::Wide,
                _ => Stop::Strong,
            };
            return Step::On(State::Stop { stop, kind, closed });
        }
        if is_closer(c) {
            return Step::On(State::Stop { stop, kind, closed: true });
        }
        if kind == Stop::Wide {
            return Step::Cut(end);
        }
        if !c.is_whitespace() {
            return Step::On(State::Inside);
        }
        let after = match kind {
            Stop::Full if !closed => after_full_stop(&self.held[..stop], self.line_start),
            Stop::Strong if !closed => return Step::Cut(end),
            _ => After::NotLower,
        };
        match after {
            After::Never => Step::On(State::Inside),
            _ if c == '\n' => Step::Cut(end),
            _ => Step::On(State::Gap { end, after }),
        }
    }

    fn in_fence(&mut self, c: char, mark: char, open: bool) -> Step {
        if c != '\n' {
            // A backtick in the line that opens: it is code within a line, and no fence.
            let inline = !open && mark == '`' && c == '`' && !self.held.ends_with('`');
            return Step::On(if inline { State::Inside } else { self.state });
        }
        let line = self.held.rsplit('\n').next().unwrap_or_default();
        if !open {
            return Step::On(State::Fence { mark, open: true });
        }
        if !closes_fence(line, mark) {
            return Step::On(self.state);
        }
        self.state = State::Inside;
        Step::Cut(self.held.len())
    }

    /// Adds `c` to what is held; gives the byte to cut at, if that follows at once.
    fn add(&mut self, c: char) -> Option<usize> {
        if self.held.is_empty() && c.is_whitespace() {
            self.line_start |= c == '\n';
            return None;
        }
        let before = self.held.len();
        self.held.push(c);
        self.chars += 1;
        if self.state == State::Inside {
            if let Some(cut) = self.inside(c, before) {
                return Some(cut);
            }
            let SplitSettings { first_max_chars, max_chars } = self.settings;
            let first_over = self.first && (first_max_chars + 1..=max_chars).contains(&self.chars);
            if first_over && self.state == State::Inside && self.clause.is_some() {
                return self.clause;
            }
        }
        (self.chars > self.settings.max_chars).then(|| self.hard_cut())
    }

    /// What `c`, added at the byte `before`, begins or ends within a sentence.
    fn inside(&mut self, c: char, before: usize) -> Option<usize> {
        if let Some(kind) = stop_kind(c) {
            self.state = State::Stop { stop: before, kind, closed: false };
            return None;
        }
        let text = &self.held[..before];
        if c == '\n' {
            let trimmed = text.trim_end();
            if trimmed.ends_with(':') {
                return Some(trimmed.len());
            }
            self.state = State::Line { end: trimmed.len() };
            return None;
        }
        if matches!(c, '`' | '~') && self.held.ends_with(if c == '`' { "```" } else { "~~~" }) {
            let start = self.held.len() - 3;
            if start == 0 {
                self.state = State::Fence { mark: c, open: false };
                return None;
            }
            if self.held[..start].ends_with(char::is_whitespace) {
                return Some(start);
            }
        }
        let mark = text.trim_end_matches(is_closer);
        let clause = match c {
            '\u{2014}' | '，' | '、' | '；' | '：' => Some(self.held.len()),
            _ if c.is_whitespace() && mark.ends_with([',', ';', ':', '\u{2013}']) => Some(before),
            _ if c.is_whitespace() && text.ends_with(" -") => Some(before),
            _ => None,
        };
        let least = FIRST_MIN_CHARS.min(self.settings.first_max_chars);
        if clause.is_some() && self.chars >= least {
            self.clause = clause;
        }
        None
    }

    /// Where to cut what is one character longer than it may be.
    fn hard_cut(&self) -> usize {
        let limit = self.held.char_indices().next_back().map_or(0, |(at, _)| at);
        let in_code = matches!(self.state, State::Fence { .. });
        let newline = self.held.rfind('\n');
        if let Some(at) = newline.filter(|at| in_code && *at > 0) {
            return at;
        }
        if let Some(at) = self.clause.filter(|at| *at > self.held.len() / 2 && *at <= limit && !in_code) {
            return at;
        }
        if let Some((at, _)) = self.held.char_indices().rfind(|(at, c)| *at > 0 && c.is_whitespace()) {
            return at;
        }
        let mut graphemes = self.held.grapheme_indices(true).map(|(at, _)| at);
        graphemes.rfind(|at| *at > 0 && *at <= limit).unwrap_or(limit)
    }
}

fn stop_kind(c: char) -> Option<Stop> {
    match c {
        '.' => Some(Stop::Full),
        '…' => Some(Stop::Ellipsis),
        '!' | '?' | '‼' | '⁉' | '؟' | '।' => Some(Stop::Strong),
        '。' | '｡' | '！' | '？' => Some(Stop::Wide),
        _ => None,
    }
}

/// Quotes, brackets and Markdown marks that belong to the sentence before them.
fn is_closer(c: char) -> bool {
    "\"'”’»›)]}」』）】》*_`~".contains(c)
}

#[cfg(test)]
#[path = "sentence_tests.rs"]
mod tests;
