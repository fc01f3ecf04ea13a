use proptest::prelude::*;

use super::set::WORDS_MAX;
use super::*;
use crate::action::Effect;

fn builtin_set() -> CommandSet {
    CommandSet::load(&builtin()).unwrap()
}

fn source(text: &str) -> CommandFile {
    CommandFile { name: "mine.toml".to_owned(), text: text.to_owned() }
}

/// A set of `say` commands, one a pattern, that say nothing but their number.
fn patterns(patterns: &[&str]) -> Result<CommandSet, CommandError> {
    let text: String = patterns
        .iter()
        .enumerate()
        .map(|(index, pattern)| {
            format!(
                "[[command]]\nname = 'c{index}'\ndescription = ''\nintent = 'action'\npatterns = [{pattern:?}]\n\
                 action = {{ do = 'say', text = '{index}' }}\n"
            )
        })
        .collect();
    CommandSet::load(&[source(&text)])
}

fn name(set: &CommandSet, text: &str) -> Option<String> {
    set.matches(text).map(|found| found.command.name.clone())
}

fn slot(set: &CommandSet, text: &str, slot: &str) -> Option<String> {
    set.matches(text)?.slots.get(slot).cloned()
}

#[test]
fn the_builtin_commands_hear_what_people_say() {
    let set = builtin_set();
    for (text, expected) in [
        ("What time is it?", Some("time")),
        ("what's the time", Some("time")),
        ("Can you tell me what time is it?", Some("time")),
        ("What\u{2019}s the time, please?", Some("time")),
        ("Could you please tell me the time?", Some("time")),
        ("Can you tell me what time it is?", Some("time")),
        (" WHAT TIME IS IT", Some("time")),
        ("Do you have the time?", Some("time")),
        ("What day is it?", Some("date")),
        ("what's the date today?", Some("date")),
        ("What's today's date?", Some("date")),
        ("Stop.", Some("stop")),
        ("Stop it!", Some("stop")),
        ("Please be quiet.", Some("stop")),
        ("Shut up!", Some("stop")),
        ("Never mind.", Some("stop")),
        ("okay, cancel", Some("stop")),
        ("Ask the model: why is the sky blue?", Some("ask")),
        ("ask the assistant what time it is", Some("ask")),
        ("Repeat after me: hello.", Some("say")),
        ("what time is it in the song lyrics", None),
        ("so what time is it", None),
        ("stop sign", None),
        ("say", None),
        ("Tell me a joke.", None),
        ("", None),
        ("?!", None),
    ] {
        assert_eq!(name(&set, text).as_deref(), expected, "{text:?}");
    }
}

#[test]
fn slots_keep_the_speakers_spelling() {
    let set = builtin_set();
    for (text, expected) in [
        ("Say Hello, World.", "Hello, World"),
        ("say how are you?", "how are you?"),
        ("Say: “Good evening.”", "Good evening"),
        ("Say \"stop\" and \"go\".", "\"stop\" and \"go\""),
        ("say twenty-five C# notes...", "twenty-five C# notes..."),
        ("please say it's 10:30", "it's 10:30"),
        ("say -5 degrees", "-5 degrees"),
        ("say please", "please"),
        ("say hello please", "hello please"),
        ("repeat after me, say cheese!", "say cheese!"),
        ("say 你好", "你好"),
    ] {
        assert_eq!(slot(&set, text, "text").as_deref(), Some(expected), "{text:?}");
    }
    assert_eq!(slot(&set, "Ask the model why the sky is blue.", "question").unwrap(), "why the sky is blue");
}

#[test]
fn slots_end_where_the_pattern_goes_on() {
    let set = patterns(&["play <chord> on <port>", "tempo <bpm:number> [bpm]", "mute <channel:word> [now]"]).unwrap();
    let found = set.matches("Play C# minor, seven on the grand piano on stage.").unwrap();
    assert_eq!(found.slots["chord"], "C# minor, seven");
    assert_eq!(found.slots["port"], "the grand piano on stage");
    for (text, expected) in [
        ("tempo 120", "120"),
        ("Tempo one hundred and twenty.", "120"),
        ("tempo ninety-five BPM", "95"),
        ("tempo 97.5", "97.5"),
        ("tempo 1,200 bpm", "1200"),
        ("tempo -3", "-3"),
        ("tempo minus three", "-3"),
        ("tempo zero", "0"),
    ] {
        assert_eq!(slot(&set, text, "bpm").as_deref(), Some(expected), "{text:?}");
    }
    for text in ["tempo fast", "tempo 1,2", "tempo 5 6", "tempo minus", "tempo minus minus 3"] {
        assert_eq!(name(&set, text), None, "{text:?}");
    }
    assert_eq!(slot(&set, "mute e-guitar now", "channel").unwrap(), "e-guitar");
    assert_eq!(name(&set, "mute the guitar"), None);
}

#[test]
fn the_most_specific_match_wins_then_the_first() {
    let set = patterns(&["play <x>", "play <n:number>", "play <x> loud", "can you <x>", "<x> it", "it (is|was) <y>"])
        .unwrap();
    assert_eq!(name(&set, "play five").unwrap(), "c1", "a typed slot is closer than text");
    assert_eq!(name(&set, "play five loud").unwrap(), "c2", "more literal words");
    assert_eq!(name(&set, "please play five loud").unwrap(), "c2");
    assert_eq!(name(&set, "can you play five").unwrap(), "c3", "more literal words than `play <n:number>`");
    assert_eq!(name(&set, "can you play five loud").unwrap(), "c3", "equals: the one that leaves nothing off");
    assert_eq!(name(&set, "play it").unwrap(), "c0", "equals: the first of the files");
}

#[test]
fn a_dry_run_says_why() {
    let set = builtin_set();
    let all = set.explain("What time is it in the song?");
    assert_eq!(all.len(), set.commands().len());
    assert!(all.iter().all(|candidate| !candidate.matched && !candidate.chosen));
    assert_eq!(all[0].command, "time");
    assert_eq!(all[0].reason, "`in the song?` is left over");

    let all = set.explain("ask my model something");
    assert_eq!((all[0].command.as_str(), all[0].reason.as_str()), ("ask", "expected `model`, heard `my`"));

    let all = set.explain("say");
    let say = all.iter().find(|candidate| candidate.command == "say").unwrap();
    assert_eq!(say.reason, "expected words for <text>, but that was all");

    let set = patterns(&["play <x>", "play <x> loud", "stop"]).unwrap();
    let all = set.explain("play it loud");
    assert_eq!(all[0].reason, "matches with 2 literal words");
    assert!(all[0].chosen && all[1].matched && !all[1].chosen && !all[2].matched);
    assert_eq!(all[1].reason, "matches too, with 1 literal word, but `c1` is more specific: 2 literal words");
}

#[test]
fn an_utterance_of_any_length_is_dealt_with() {
    let set = patterns(&["play <a> on <b> with <c> for <d>"]).unwrap();
    let text = format!("play {}", "on with ".repeat(480));
    assert_eq!(name(&set, &text), None);
    assert_eq!(name(&builtin_set(), &format!("say {}", "la ".repeat(WORDS_MAX))), None);
    assert!(builtin_set().explain(&"la ".repeat(WORDS_MAX + 1))[0].reason.contains("more than"));
}

#[test]
fn mistakes_are_reported_with_their_place() {
    let command =
        |body: &str| format!("# a comment\n\n[[command]]\nname = 'x'\ndescription = ''\nintent = 'query'\n{body}\n");
    let say = "action = { do = 'say', text = 'hi' }";
    for (text, expected) in [
        ("[[command]", vec!["mine.toml", "line 1"]),
        ("[[comand]]\nname = 'x'", vec!["mine.toml", "comand", "[[command]]"]),
        (&command("paterns = ['a']\naction = { do = 'stop' }"), vec!["mine.toml:3", "`x`", "paterns", "patterns"]),
        (
            &command("patterns = ['a']\naction = { do = 'stop' }").replace("'query'", "'qury'"),
            vec!["`qury`", "in `intent`", "`query`"],
        ),
        (&command("patterns = ['a']"), vec!["mine.toml:3", "`x`", "action"]),
        (&command("patterns = ['a']\naction = { do = 'dance' }"), vec!["`x`, action", "dance", "`stop`"]),
        (&command("patterns = ['a']\naction = { do = 'say', txt = 'b' }"), vec!["`x`, action", "txt"]),
        (
            &command("patterns = ['a']\naction = { do = 'say', text = '{b}' }"),
            vec!["action.text", "{b}", "`a`", "no such slot"],
        ),
        (&command("patterns = ['a [<b>]']\naction = { do = 'say', text = '{b}' }"), vec!["action.text", "patterns[1]"]),
        (
            &command("patterns = ['a <time>']\naction = { do = 'time', answer = '{time}' }"),
            vec!["patterns[1]", "{time}"],
        ),
        (
            &command("patterns = ['a']\naction = { do = 'time', format = '%&', answer = '{time}' }"),
            vec!["action", "`%&`"],
        ),
        (&command("patterns = ['a']\naction = { do = 'say', text = '{b' }"), vec!["action", "never closed"]),
        (&command(say), vec!["patterns", "at least one"]),
        (&command(&format!("patterns = ['ok', '']\n{say}")), vec!["patterns[2]", "is empty"]),
        (&command(&format!("patterns = ['?!']\n{say}")), vec!["patterns[1]", "nothing to say"]),
        (&command(&format!("patterns = ['[please] <x>']\n{say}")), vec!["patterns[1]", "everything"]),
        (&command(&format!("patterns = ['say [it']\n{say}")), vec!["character 5", "never closed"]),
        (&command(&format!("patterns = ['say it)']\n{say}")), vec!["character 7", "not opened"]),
        (&command(&format!("patterns = ['say (a|)']\n{say}")), vec!["character 8", "empty choice"]),
        (&command(&format!("patterns = ['a|b']\n{say}")), vec!["character 2", "outside of brackets"]),
        (&command(&format!("patterns = ['say <x']\n{say}")), vec!["character 5", "never closed"]),
        (&command(&format!("patterns = ['say <X>']\n{say}")), vec!["character 5", "`X`"]),
        (
            &command(&format!("patterns = ['say <x:int>']\n{say}")),
            vec!["character 5", "text, word, number, chord and note"],
        ),
        (&command(&format!("patterns = ['say <x> <y>']\n{say}")), vec!["<x> and <y>"]),
        (&command(&format!("patterns = ['say <x> to <x>']\n{say}")), vec!["<x> twice"]),
        (&command(&format!("patterns = ['{}a']\n{say}", "(a|b) ".repeat(12))), vec!["more than 256"]),
        (&command(&format!("patterns = ['{}a']\n{say}", "(".repeat(5000))), vec!["deeper than 8"]),
        (&command(&format!("patterns = ['{}']\n{say}", "la ".repeat(65))), vec!["more than 64 words"]),
        (
            &command(&format!("patterns = ['hi']\naliases = ['say <x>']\n{say}")),
            vec!["aliases[1]", "move it to `patterns`"],
        ),
        (&command(&format!("patterns = ['say <x>', 'say <y>']\n{say}")), vec!["patterns[2]", "same words"]),
        (&command(&format!("name = 'y'\npatterns = ['a']\n{say}")), vec!["mine.toml", "duplicate key"]),
        (&command(&format!("patterns = ['a']\n{say}")).replace("'x'", "'X y'"), vec!["`X y`, name", "a-z"]),
    ] {
        let error = CommandSet::load(&[source(text)]).unwrap_err().to_string();
        for part in expected {
            assert!(error.contains(part), "{text}\n→ {error}\nlacks {part:?}");
        }
    }
}

#[test]
fn commands_of_two_files_may_not_clash() {
    let mine = |name: &str, pattern: &str| {
        source(&format!(
            "[[command]]\nname = '{name}'\ndescription = ''\nintent = 'query'\npatterns = [\"{pattern}\"]\naction = {{ do = 'stop' }}"
        ))
    };
    let load = |other: CommandFile| CommandSet::load(&[builtin(), vec![other]].concat()).map_err(|e| e.to_string());
    let error = load(mine("time", "tick")).unwrap_err();
    assert!(error.contains("builtin clock.toml") && error.contains("mine.toml:1"), "{error}");
    let error = load(mine("clock", "what's the time?")).unwrap_err();
    assert!(error.contains("command `time`") && error.contains("patterns[1]"), "{error}");
    assert_eq!(load(mine("clock", "what is the time in <town>")).unwrap().commands().len(), 15);
}

#[test]
fn what_is_rendered_is_what_was_matched() {
    let set = builtin_set();
    let now = jiff::civil::date(2025, 11, 24).at(10, 27, 0, 0).in_tz("UTC").unwrap();
    let facts = Facts { now };
    let run = |text: &str| {
        let found = set.matches(text).unwrap();
        found.command.action.render(&found.slots, &facts).unwrap()
    };
    assert_eq!(run("What time is it?"), CommandEffect::Say("It is 10:27 AM.".to_owned()));
    assert_eq!(run("What day is it today?"), CommandEffect::Say("It is Monday, November 24.".to_owned()));
    assert_eq!(run("Say {time}, please!"), CommandEffect::Say("{time}, please!".to_owned()));
    assert_eq!(run("Ask the model who you are."), CommandEffect::Ask("who you are".to_owned()));
    assert_eq!(run("Stop!"), CommandEffect::Do(Effect::Stop, None));
}

proptest! {
    #[test]
    fn nothing_that_is_heard_makes_it_fail(text in any::<String>()) {
        let set = builtin_set();
        let found = set.matches(&text).map(|found| found.command.name.clone());
        let all = set.explain(&text);
        prop_assert_eq!(all.len(), set.commands().len());
        let chosen = all.iter().find(|candidate| candidate.chosen).map(|candidate| candidate.command.clone());
        prop_assert_eq!(chosen, found);
    }

    #[test]
    fn no_pattern_makes_it_fail(pattern in "[a-b <>:()|\\[\\]]{0,24}") {
        if let Ok(set) = patterns(&[&pattern]) {
            prop_assert_eq!(set.explain("a b a b").len(), 1);
        }
    }

    #[test]
    fn the_words_of_a_slot_come_back(words in prop::collection::vec("[A-Za-z]{1,6}(-[a-z]{1,3}|'s)?", 1..12)) {
        let text = words.join(" ");
        let slot = slot(&builtin_set(), &format!("Say {text}."), "text");
        prop_assert_eq!(slot, Some(text));
    }

    #[test]
    fn case_punctuation_and_politeness_make_no_difference(
        command in prop::sample::select(vec!["what time is it", "stop it", "what's the date", "never mind"]),
        before in prop::sample::select(vec!["", "please ", "Could you ", "Hey, can you please ", "um, "]),
        after in prop::sample::select(vec!["", ".", "?", "!", ", please.", " thanks", ", thank you!"]),
        upper in any::<bool>(),
    ) {
        let set = builtin_set();
        let said = format!("{before}{command}{after}");
        let said = if upper { said.to_uppercase() } else { said };
        prop_assert_eq!(name(&set, &said), name(&set, command));
    }

    #[test]
    fn a_whole_command_inside_of_more_words_is_none(word in "(lyrics|song|but|seven)") {
        let set = builtin_set();
        for text in [format!("what time is it {word}"), format!("{word} what time is it"), format!("stop it {word}")] {
            prop_assert_eq!(name(&set, &text), None, "{}", text);
        }
    }

    #[test]
    fn every_number_is_the_same_in_words_and_digits(n in 0u32..=100) {
        let ones = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
            "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"];
        let tens = ["", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"];
        let words = match n {
            0..20 => ones[n as usize].to_owned(),
            100 => "one hundred".to_owned(),
            _ if n % 10 == 0 => tens[n as usize / 10].to_owned(),
            _ => format!("{}-{}", tens[n as usize / 10], ones[n as usize % 10]),
        };
        let set = patterns(&["channel <n:number> up", "scene seven"]).unwrap();
        prop_assert_eq!(slot(&set, &format!("Channel {words} up."), "n"), Some(n.to_string()));
        prop_assert_eq!(slot(&set, &format!("channel {n} up"), "n"), Some(n.to_string()));
        prop_assert_eq!(name(&set, "scene 7"), name(&set, "Scene seven."));
    }
}

#[test]
fn chords_and_notes_are_heard_and_nothing_else_is_played() {
    let set = builtin_set();
    let now = jiff::civil::date(2025, 11, 24).at(10, 27, 0, 0).in_tz("UTC").unwrap();
    let sent = |text: &str| -> Option<serde_json::Value> {
        let found = set.matches(text)?;
        match found.command.action.render(&found.slots, &Facts { now: now.clone() }).unwrap() {
            CommandEffect::Do(Effect::Midi(out), _) => {
                out.plays().unwrap();
                Some(serde_json::to_value(out).unwrap())
            }
            _ => None,
        }
    };
    let midi = |json: &str| {
        let action = serde_json::json!({ "midi": serde_json::from_str::<serde_json::Value>(json).unwrap() });
        match crate::action::Action::try_from(action).unwrap().fill(&Default::default()).unwrap() {
            Effect::Midi(out) => serde_json::to_value(out).unwrap(),
            other => panic!("{other:?}"),
        }
    };
    for (text, json) in [
        ("Play C major.", r#"{"chord":"C","beats":2}"#),
        ("play a G7 on the pad for two bars", r#"{"chord":"G7","bars":2,"port":"pad"}"#),
        ("Please play an A minor chord", r#"{"chord":"Am","beats":2}"#),
        ("Play a minor.", r#"{"chord":"Am","beats":2}"#),
        ("Play F#m7b5 for 3 beats.", r#"{"chord":"F#m7b5","beats":3}"#),
        ("play G seven for one bar", r#"{"chord":"G7","bars":1}"#),
        ("play E flat major seven on synth", r#"{"chord":"Ebmaj7","beats":2,"port":"synth"}"#),
        ("play C/E", r#"{"chord":"C/E","beats":2}"#),
        ("play the note F sharp 3", r#"{"note":"F#3"}"#),
        ("Play note C4 on the pad.", r#"{"note":"C4","port":"pad"}"#),
        ("Set the tempo to ninety.", r#"{"bpm":90}"#),
    ] {
        assert_eq!(sent(text), Some(midi(json)), "{text}");
    }
    for text in ["Play some jazz.", "play it again", "play a game on the pad", "play a chord", "play A and B", "play"] {
        assert_eq!(set.matches(text).map(|found| found.command.name.clone()), None, "{text}");
    }
}
