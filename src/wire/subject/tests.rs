use proptest::prelude::*;

use super::*;

#[test]
fn a_model_becomes_a_token() {
    assert_eq!(token("llama3:8b"), "llama3=3A8b");
    let verb = Verb::new(Capability::Llm, "chat");
    assert_eq!(verb.subject(Target::Any), "llm.chat");
    assert_eq!(verb.subject(Target::Model("llama3:8b")), "llm.chat.m.llama3=3A8b");
    assert_eq!(verb.subject(Target::Node("stage.left")), "llm.chat.n.stage=2Eleft");
}

#[test]
fn an_osc_address_becomes_tokens() {
    assert_eq!(osc_in("stage.left", "/mixer/1/fader"), "osc.in.stage=2Eleft.mixer.1.fader");
    assert_eq!(osc_in("stage", "/a b/*//x.y"), "osc.in.stage.a=20b.=2A.=.x=2Ey");
    assert_eq!(osc_in("stage", "/"), "osc.in.stage.=");
    assert!(lies_within(&osc_in("stage", "/a/>"), &pattern::filter(pattern::OSC_IN, Some("stage"))));
}

#[test]
fn patterns_and_builders_agree() {
    let value = |name: &str| match name {
        "model" => Some("llama3:8b"),
        "node" => Some("stage.left"),
        "listener" => Some("main"),
        "port" => Some("pad"),
        "session" => Some("main-1"),
        "kind" => Some("reply"),
        "request" => Some("R1"),
        "capability" => Some("llm"),
        "verb" => Some("chat"),
        "job" => Some("J1"),
        _ => None,
    };
    let verb = Verb::new(Capability::Llm, "chat");
    for (pattern, built) in [
        (pattern::any(&verb), verb.subject(Target::Any)),
        (pattern::model(&verb), verb.subject(Target::Model("llama3:8b"))),
        (pattern::node(&verb), verb.subject(Target::Node("stage.left"))),
        (pattern::VOICE_CONTROL.to_owned(), voice_control("stage.left", "main")),
        (pattern::VOICE_STATE.to_owned(), voice_state("stage.left", "main")),
        (pattern::MIDI_IN.to_owned(), midi_in("stage.left", "pad", "reply")),
        (pattern::SESSION.to_owned(), session("main-1", "reply")),
        (pattern::UP.to_owned(), event("stage.left", "up")),
        (pattern::DOWN.to_owned(), event("stage.left", "down")),
        (pattern::FAULT.to_owned(), event("stage.left", "fault")),
        (pattern::cancel(Capability::Llm), cancel(Capability::Llm, "R1")),
        (pattern::JOB.to_owned(), job(&verb, Target::Any, "J1")),
    ] {
        assert_eq!(pattern::fill(&pattern, value), built);
    }
    assert_eq!(pattern::names(pattern::VOICE_STATE).collect::<Vec<_>>(), ["node", "listener"]);
}

#[test]
fn a_subject_lies_within_a_filter_or_not() {
    for (subject, filter, does) in [
        ("a.b", "a.b", true),
        ("a.b", "a.*", true),
        ("a.b.c", "a.>", true),
        ("a", "a.>", false),
        ("a.b.c", "a.*", false),
        ("a.*", "a.b", false),
        ("a.*", "a.*", true),
        ("a.>", "a.*", false),
        ("a.>", "a.>", true),
        ("a.>", ">", true),
        ("a.*.c", "a.>", true),
    ] {
        assert_eq!(lies_within(subject, filter), does, "{subject} in {filter}");
    }
    assert_eq!(pattern::filter(pattern::VOICE_STATE, Some("stage.left")), "voice.stage=2Eleft.*.state");
    assert_eq!(pattern::filter(pattern::VOICE_STATE, None), VOICE_STATES);
    assert!(lies_within(&credit("stage.left", "x.1.2"), CREDITS));
    assert!(lies_within(&credit("stage.left", "x.1.2"), &format!("{}.>", inbox("stage.left"))));
}

#[test]
fn answers_go_to_inboxes_and_not_where_something_is_told() {
    for reply in ["_INBOX.studio.x.1", "_INBOX.x", "_R_.x", "my.inbox"] {
        assert!(is_for_answers(reply), "{reply}");
    }
    for reply in [
        "control.stop",
        "session.s.reply",
        "voice.a.b.control",
        "llm.chat",
        "node.info",
        "$KV.NODES.a",
        "job.stt.x",
        "",
    ] {
        assert!(!is_for_answers(reply), "{reply}");
    }
}

#[test]
fn a_job_is_found_in_its_subject() {
    let verb = Verb::new(Capability::Stt, "request");
    for target in [Target::Any, Target::Model("a.b"), Target::Node("any")] {
        let found = parse_job(&job(&verb, target, "my job"));
        assert_eq!(found, Some(("stt".to_owned(), "request".to_owned(), "my job".to_owned())), "{target:?}");
    }
    assert_eq!(parse_job("job.stt"), None);
    assert_eq!(job(&verb, Target::Any, "*"), "job.stt.request.any.*");
}

proptest! {
    #[test]
    fn any_name_survives_as_one_token(text in ".*") {
        let token = token(&text);
        prop_assert!(!token.is_empty());
        prop_assert!(token.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-=".contains(&b)));
        prop_assert_eq!(name(&token), Some(text));
    }

    #[test]
    fn what_is_built_parses(node in ".+", listener in ".+") {
        prop_assert_eq!(
            parse(&voice_state(&node, &listener)),
            Some(Parsed::VoiceState { node: node.clone(), listener })
        );
        prop_assert_eq!(
            parse(&session(&node, "reply")),
            Some(Parsed::Session { id: node, kind: "reply".to_owned() })
        );
    }

    #[test]
    fn foreign_tokens_do_not_panic(text in "[A-Za-z=0-9.*>]{0,40}") {
        let _ = (name(&text), parse(&text));
    }
}
