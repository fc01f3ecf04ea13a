use serde_json::json;

use super::*;
use crate::wire::message::voice::Control;

fn read(toml: &str) -> Result<Action, String> {
    #[derive(Deserialize)]
    struct On {
        r#do: Action,
    }
    toml::from_str::<On>(toml).map(|on| on.r#do).map_err(|e| e.to_string())
}

#[test]
fn an_action_is_a_name_or_a_table() {
    assert_eq!(read("do = 'stop'").unwrap().fill(&Slots::new()).unwrap(), Effect::Stop);
    let tap = Control::PushToTalk { held: None };
    let effect = Effect::Listener { listener: ListenerName::default(), control: tap };
    assert_eq!(read("do = 'push_to_talk'").unwrap().fill(&Slots::new()).unwrap(), effect);
    let slots = Slots::from([("1".to_owned(), "two".to_owned())]);
    let say = read("do = { say = { text = 'scene {1}', listener = 'stage/main' } }").unwrap();
    let control = Control::Say { text: "scene two".to_owned() };
    let effect = Effect::Listener { listener: ListenerName("stage/main".to_owned()), control };
    assert_eq!(say.fill(&slots).unwrap(), effect);
    assert_eq!(say.slots(), ["1"]);
}

#[test]
fn osc_takes_slots_as_numbers_and_texts() {
    let osc = read("do = { osc = { target = 'lights', address = '/scene/{1}', args = ['{1}', 'go'] } }").unwrap();
    let effect = osc.fill(&Slots::from([("1".to_owned(), "3".to_owned())])).unwrap();
    let Effect::Osc(out) = effect else { panic!("{effect:?}") };
    assert_eq!((out.target.as_str(), out.address.as_str()), ("lights", "/scene/3"));
    assert_eq!(serde_json::to_value(&out.args).unwrap(), json!([3, "go"]));
    assert!(matches!(osc.fill(&Slots::new()), Err(FillError::NoSlot { .. })));
}

#[test]
fn what_can_never_be_done_is_refused_when_it_is_read() {
    for (bad, part) in [
        ("do = 'dance'", "unknown variant `dance`"),
        ("do = 'dance'", "expected one of `command`, `ask`"),
        ("do = 7", "7 is no action"),
        ("do = { stop = {}, mute = {} }", "a table with one name"),
        ("do = 'say'", "missing field `text`"),
        ("do = { stop = { now = true } }", "now"),
        ("do = { say = { words = 'x' } }", "words"),
        ("do = { mode = { mode = 'party' } }", "party"),
        ("do = { osc = { target = 'lights', adress = '/x' } }", "adress"),
        ("do = { say = { text = '{open' } }", "never closed"),
    ] {
        let error = read(bad).unwrap_err();
        assert!(error.contains(part), "{bad}: {error}");
    }
}

#[test]
fn values_without_slots_are_checked_before_they_are_sent() {
    let midi = |out: &str| read(&format!("do = {{ midi = {out} }}")).unwrap().check_values();
    assert!(midi("{ chord = 'Xyz' }").unwrap_err().contains("`Xyz` is no chord"));
    assert_eq!((midi("{ chord = 'Am' }"), midi("{ chord = '{value}' }")), (Ok(()), Ok(())));
}

/// An example of each kind, as it is written and as its schema has it.
fn examples() -> Vec<(Value, Value)> {
    let table = |name: &str, arguments: Value| (json!({ name: arguments.clone() }), arguments);
    vec![
        table("command", json!({ "text": "play scene {1}" })),
        table("ask", json!({ "text": "how late is it", "listener": "main" })),
        table("say", json!({ "text": "hello" })),
        (json!("push_to_talk"), json!({})),
        table("mute", json!({ "on": true })),
        table("mode", json!({ "mode": "open" })),
        (json!("stop"), json!({})),
        table("osc", json!({ "target": "lights", "address": "/scene", "args": [1, "go"] })),
        table("midi", json!({ "chord": "Am7", "beats": 2 })),
        table("tool", json!({ "name": "dice", "input": { "sides": 6 } })),
    ]
}

#[test]
fn every_kind_is_written_as_it_is_read_and_has_a_schema() {
    let examples = examples();
    assert_eq!(examples.len(), KINDS.len());
    for ((written, arguments), row) in examples.into_iter().zip(KINDS) {
        let action = Action::try_from(written.clone()).unwrap();
        assert_eq!(action.row().name, row.name);
        assert_eq!(Value::from(action), written);
        let schema = serde_json::to_value((row.schema)()).unwrap();
        let schema = jsonschema::validator_for(&schema).unwrap();
        assert!(schema.is_valid(&arguments), "{}: {arguments}", row.name);
        assert!(!schema.is_valid(&json!({ "no such key": 1 })), "{}", row.name);
    }
}

#[test]
fn a_kind_says_what_it_may_touch() {
    let kinds = |effect: EffectKind| -> Vec<&str> {
        KINDS.iter().filter(|row| row.effect == effect).map(|row| row.name).collect()
    };
    assert_eq!(kinds(EffectKind::External), ["osc", "midi", "tool"]);
    assert_eq!(kinds(EffectKind::Sound), ["ask", "say"]);
    let about = |toml: &str| read(toml).unwrap().about();
    assert_eq!(about("do = { tool = { name = 'dice' } }"), "asks the tool dice");
    assert_eq!(about("do = 'stop'"), "stops everything");
}
