use proptest::prelude::*;

use super::*;

/// The pieces of `text`, pushed whole.
fn split(text: &str) -> Vec<String> {
    split_with(SplitSettings { first_max_chars: 280, max_chars: 280 }, &[text])
}

fn split_with(settings: SplitSettings, deltas: &[&str]) -> Vec<String> {
    let mut splitter = SentenceSplitter::new(settings);
    let mut out: Vec<String> = deltas.iter().flat_map(|delta| splitter.push(delta)).collect();
    out.extend(splitter.finish());
    out
}

fn without_space(text: &str) -> String {
    text.chars().filter(|c| !c.is_whitespace()).collect()
}

#[test]
fn sentences_end_where_a_reader_says_so() {
    // `|` is where a cut is expected.
    for text in [
        "Hello there!| How are you?| I'm fine.| Thanks",
        "Mr. Smith met Dr. Jones at 5 p.m. in St. Louis.| They talked.",
        "It starts at 5 p.m.| The doors open at 4.| Bring a coat.",
        "The U.S. Navy and the U.S. are old.| It is in the U.S.| The sea is near.",
        "Pi is 3.14159, roughly.| Version 2.0.1 is out.| 7 is odd.",
        "Use e.g. Ableton, i.e. a DAW, vs. Pd.| Fine.",
        "See Fig. 3 and No. 5 on p. 12.| No.| I won't.",
        "J. R. R. Tolkien and George W. Bush met A. A. Milne.| Plan B.| It failed.",
        "Well...| I think so... maybe.| Hm…| Yes.",
        "Well… she said nothing.",
        "He said \"Stop.\"| Then he left.| (She stayed.)| “Why?”| Nobody knew.",
        "\"Really?\" he asked.| \"Yes!\" she said.",
        "\"Never down.\" — so says Dr. Jones.",
        "What?!| No!!!| Wow.",
        "Open config.toml or https://example.com/a.b?c=d.| Then run a.out.| Node.js is fine.",
        "Mail me at a.b@example.com.| Thanks.",
        "**Note.**| Read this.| *Really?*| `Yes.`| _Done._",
        "你好。|今天天气很好！|“真的吗？”|是的。",
        "¿Qué hora es?| ¡Las dos!| «Bien.»| Adiós.",
        "Nice!| 😊 Great.| 🎵 Music.| 😀 ok.",
        "Acme Inc. Records and Foo Ltd. are firms.| He left Acme Inc.| They miss him.",
        "Jan. 5 is cold.| It was Jan.| We froze.",
        "At 10:30, stop.| Then go.",
        "So do I.| Me too.",
    ] {
        let expected: Vec<&str> = text.split('|').map(str::trim).collect();
        assert_eq!(split(&text.replace('|', "")), expected);
    }
}

#[test]
fn lines_and_lists_are_cut_and_wraps_are_not() {
    let text = "Here are some:\n\n1. **First**: do this\n2. Then that. It helps.\n- a bullet\n* Another\n\nThe line is\nwrapped here\nonly.\n\n## Title\nText";
    assert_eq!(
        split(text),
        [
            "Here are some:",
            "1. **First**: do this",
            "2. Then that.",
            "It helps.",
            "- a bullet",
            "* Another",
            "The line is\nwrapped here\nonly.",
            "## Title",
            "Text"
        ]
    );
    assert_eq!(split("a. first\nb. second"), ["a. first\nb. second"]);
    assert_eq!(split("\n\n  \n"), Vec::<String>::new());
    assert_eq!(split("1. **1. Use it:** Yes.\n2. Go"), ["1. **1. Use it:** Yes.", "2. Go"]);
    assert_eq!(split("It was 1999.\nThen"), ["It was 1999.", "Then"]);
}

#[test]
fn code_is_one_piece() {
    let text = "Run this: ```sh\nls. Then\n\n# No. Stop!\n```\nDone. Use ```x``` here. ~~~\nA. B\n~~~";
    assert_eq!(
        split(text),
        ["Run this:", "```sh\nls. Then\n\n# No. Stop!\n```", "Done.", "Use", "```x``` here.", "~~~\nA. B\n~~~"]
    );
}

#[test]
fn a_sentence_is_given_as_soon_as_it_is_sure() {
    let mut splitter = SentenceSplitter::default();
    assert!(splitter.push("Hello").is_empty());
    assert!(splitter.push(" there!").is_empty());
    assert_eq!(splitter.push(" "), ["Hello there!"]);
    assert!(splitter.push("It is 3.").is_empty());
    assert!(splitter.push("5 now. ").is_empty());
    assert_eq!(splitter.push("N"), ["It is 3.5 now."]);
    assert_eq!(splitter.push("ow.\n"), ["Now."]);
    assert_eq!(splitter.push("你好。今"), ["你好。"]);
    assert_eq!(splitter.finish().as_deref(), Some("今"));
    assert_eq!(splitter.finish(), None);
}

#[test]
fn a_long_first_sentence_is_cut_at_a_clause() {
    let settings = SplitSettings { first_max_chars: 40, max_chars: 80 };
    let long = "Yes, although it rained for a while, we went on to the old harbour and looked at the ships there";
    let pieces =
        split_with(settings, &[long, " until the evening. And here, although it is long, nothing is cut off."]);
    assert_eq!(pieces[0], "Yes, although it rained for a while,");
    assert_eq!(pieces[1], "we went on to the old harbour and looked at the ships there until the evening.");
    assert_eq!(pieces[2], "And here, although it is long, nothing is cut off.");

    let late = "We went on and on to the old harbour without a mark, then home";
    assert_eq!(split_with(settings, &[late])[0], "We went on and on to the old harbour without a mark,");
    assert_eq!(split_with(settings, &["Yes, no."]), ["Yes, no."]);
    let mut splitter = SentenceSplitter::new(settings);
    assert_eq!(splitter.push(&long[..41]), ["Yes, although it rained for a while,"], "nothing is waited for");
}

#[test]
fn what_never_ends_is_cut_between_words() {
    let settings = SplitSettings { first_max_chars: 40, max_chars: 40 };
    let words = "word ".repeat(50);
    let pieces = split_with(settings, &[&words]);
    assert!(pieces.iter().all(|piece| piece.chars().count() <= 40 && piece.ends_with("word")), "{pieces:?}");
    let tight = SplitSettings { first_max_chars: 1, max_chars: 1 };
    assert_eq!(split_with(tight, &["a—b"]), ["a", "—", "b"]);
    let family = "👨‍👩‍👧".repeat(30);
    let pieces = split_with(settings, &[&family]);
    assert!(pieces.iter().all(|piece| piece.chars().count() % 5 == 0), "no emoji is torn: {pieces:?}");
    let mut splitter = SentenceSplitter::new(settings);
    for _ in 0..10_000 {
        splitter.push("abc");
        splitter.push("```");
    }
    assert!(splitter.held.chars().count() <= 40);
}

fn messy() -> impl Strategy<Value = String> {
    let bits = prop::sample::select(vec![
        "Hello",
        "world",
        "the",
        "It",
        " ",
        " ",
        " ",
        "\n",
        "\n\n",
        ".",
        ".",
        "!",
        "?",
        "...",
        "…",
        ",",
        ", ",
        ": ",
        "—",
        " - ",
        "Mr.",
        "e.g.",
        "U.S.",
        "J.",
        "No.",
        "3",
        "3.14",
        "1. ",
        "- ",
        "*",
        "**",
        "_",
        "`",
        "```",
        "~~~",
        "```\n",
        "\"",
        "”",
        "(",
        ")",
        "。",
        "？",
        "你好",
        "😊",
        "👨‍👩‍👧",
        "é",
        "e\u{301}",
        "https://a.b/c?d",
        "\r\n",
        "\t",
        "\u{a0}",
    ]);
    prop::collection::vec(bits, 0..60).prop_map(|bits| bits.concat())
}

fn settings() -> impl Strategy<Value = SplitSettings> {
    (1usize..80, 1usize..120).prop_map(|(first_max_chars, max_chars)| SplitSettings { first_max_chars, max_chars })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn chunking_changes_nothing(text in prop_oneof![messy(), any::<String>()], settings in settings(), seed in any::<u64>()) {
        let whole = split_with(settings, &[&text]);
        let chars: Vec<String> = text.chars().map(String::from).collect();
        let chars: Vec<&str> = chars.iter().map(String::as_str).collect();
        prop_assert_eq!(&split_with(settings, &chars), &whole);
        let mut state = seed;
        let mut chunks = vec![String::new()];
        for c in text.chars() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            if state >> 62 == 0 {
                chunks.push(String::new());
            }
            chunks.last_mut().unwrap().push(c);
        }
        let chunks: Vec<&str> = chunks.iter().map(String::as_str).collect();
        prop_assert_eq!(&split_with(settings, &chunks), &whole);
    }

    #[test]
    fn nothing_is_lost_and_nothing_is_too_long(text in prop_oneof![messy(), any::<String>()], settings in settings()) {
        let pieces = split_with(settings, &[&text]);
        prop_assert_eq!(without_space(&pieces.concat()), without_space(&text));
        for piece in &pieces {
            prop_assert!(!piece.is_empty() && piece.trim() == piece, "{:?}", piece);
            prop_assert!(piece.chars().count() <= settings.max_chars, "{:?}", piece);
        }
    }

    #[test]
    fn words_are_whole_where_they_fit(words in prop::collection::vec("[a-z]{1,20}", 1..80), max_chars in 20usize..100) {
        let pieces = split_with(SplitSettings { first_max_chars: 20, max_chars }, &[&words.join(" ")]);
        prop_assert_eq!(pieces.join(" "), words.join(" "));
    }

    #[test]
    fn plain_sentences_are_those_of_unicode(
        sentences in prop::collection::vec("[A-Z][a-z]{3,8}( [a-z]{3,8}){0,6}(\\.|!|\\?|\\?!|\\.\")", 1..8),
    ) {
        let text = sentences.join(" ");
        let unicode: Vec<String> = text.unicode_sentences().map(|piece| piece.trim().to_owned()).collect();
        // Month names and titles are abbreviations here and nothing in Unicode: the words above are too long for most.
        prop_assume!(sentences.iter().all(|s| {
            let last = s.trim_end_matches(|c: char| !c.is_alphabetic()).rsplit(' ').next().unwrap_or_default();
            after_full_stop(last, false) == After::NotLower
        }));
        prop_assert_eq!(split(&text), unicode);
    }
}
