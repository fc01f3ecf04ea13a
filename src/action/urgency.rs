//! What becomes of something that has to wait: too late, late, or done in any case. Pure.

use crate::midi::{parse, sounding};
use crate::wire::message::osc::Arg;
use crate::wire::message::voice::Control;
use crate::wire::message::{midi, osc};

/// What becomes of an effect that has to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// Worth nothing when it comes late.
    Press,
    /// Better late than never, but not after a stop.
    Value,
    /// Without it something would hang.
    Lasting,
}

pub(super) const fn of_control(control: &Control) -> Urgency {
    match control {
        Control::PushToTalk { held: None | Some(true) } | Control::Say { .. } | Control::Ask { .. } => Urgency::Press,
        Control::PushToTalk { held: Some(false) }
        | Control::Mute { .. }
        | Control::Mode { .. }
        | Control::Meter { .. }
        | Control::Stop => Urgency::Lasting,
    }
}

/// As a surface sends it: 0 is a button that was let go.
pub(super) fn of_osc(out: &osc::Out) -> Urgency {
    if out.args.first().is_some_and(is_off) { Urgency::Lasting } else { Urgency::Value }
}

fn is_off(arg: &Arg) -> bool {
    match arg {
        Arg::Int(number) => *number == 0,
        Arg::Int64(number) => *number == 0,
        Arg::Float(number) => *number == 0.0,
        Arg::Double(number) => *number == 0.0,
        Arg::Bool(is) => !is,
        _ => false,
    }
}

/// Whether it begins notes, or a chord.
pub(super) const fn has_notes(out: &midi::Out) -> bool {
    out.note.is_some() || out.chord.is_some()
}

pub(super) fn of_midi(out: &midi::Out) -> Urgency {
    if ends(out) {
        Urgency::Lasting
    } else if has_notes(out) {
        Urgency::Press
    } else {
        Urgency::Value
    }
}

/// Whether it only ends things: notes, a pedal, a pressure, a bend, a song.
fn ends(out: &midi::Out) -> bool {
    if !out.all.is_empty() {
        return out.all.iter().all(ends);
    }
    let is_zero = |number: Option<midi::Number>| number.is_some_and(|number| number.get() == 0.0);
    let has_value = out.cc.is_some() || out.cc14.is_some() || out.key_pressure.is_some();
    let raw = out.raw.as_ref().and_then(|bytes| parse::all(&bytes.0).ok());
    out.off.is_some()
        || out.transport == Some(midi::Transport::Stop)
        || raw.is_some_and(|all| !all.is_empty() && all.iter().all(sounding::ends))
        || matches!(out.panic, Some(midi::Panic::Ours(true) | midi::Panic::Word(_)))
        || (is_zero(out.velocity) && has_notes(out))
        || (is_zero(out.value) && has_value)
        || is_zero(out.pressure)
        || is_zero(out.bend)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::message::voice::Mode;

    #[test]
    fn what_ends_something_lasts() {
        let told = |control| of_control(&control);
        for control in [
            Control::PushToTalk { held: Some(false) },
            Control::Mute { on: None },
            Control::Mode { mode: Mode::Open },
            Control::Stop,
        ] {
            assert_eq!(told(control), Urgency::Lasting);
        }
        for held in [None, Some(true)] {
            assert_eq!(told(Control::PushToTalk { held }), Urgency::Press);
        }
        assert_eq!(told(Control::Say { text: "x".to_owned() }), Urgency::Press);
        let midi = |json: &str| of_midi(&serde_json::from_str(json).unwrap());
        for json in [
            r#"{"off":"C4"}"#,
            r#"{"note":"C4","velocity":0}"#,
            r#"{"chord":"C","velocity":0}"#,
            r#"{"raw":"80 3C 00 B0 40 00"}"#,
            r#"{"transport":"stop"}"#,
            r#"{"cc":64,"value":0}"#,
            r#"{"bend":0}"#,
            r#"{"panic":true}"#,
            r#"{"all":[{"off":"C4"},{"cc":64,"value":0}]}"#,
        ] {
            assert_eq!(midi(json), Urgency::Lasting, "{json}");
        }
        assert_eq!(midi(r#"{"note":"C4"}"#), Urgency::Press);
        for json in [r#"{"cc":64,"value":1}"#, r#"{"program":3}"#, r#"{"all":[{"off":"C4"},{"note":"D4"}]}"#] {
            assert_eq!(midi(json), Urgency::Value, "{json}");
        }
        let osc =
            |args: Vec<Arg>| of_osc(&osc::Out { target: "a".to_owned(), address: "/a".to_owned(), args, at: None });
        assert_eq!((osc(vec![Arg::Float(0.0)]), osc(vec![Arg::Int(1)])), (Urgency::Lasting, Urgency::Value));
        assert_eq!(osc(vec![]), Urgency::Value);
    }
}
