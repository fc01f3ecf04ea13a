use proptest::prelude::*;

use super::*;
use crate::midi::{Message as M, Note};

fn step(json: &str) -> Result<Step, String> {
    let out: Out = serde_json::from_str(json).map_err(|e| e.to_string())?;
    let plays = out.plays().map_err(|fault| fault.message)?;
    assert_eq!(plays.len(), 1, "{json}");
    Ok(plays.into_iter().next().unwrap().step)
}

fn notes(json: &str) -> (Vec<u8>, u8, Length) {
    match step(json) {
        Ok(Step::Notes { notes, velocity, length }) => (notes.into_iter().map(|Note(n)| n).collect(), velocity, length),
        other => panic!("{json}: {other:?}"),
    }
}

fn sends(json: &str) -> Vec<M> {
    match step(json) {
        Ok(Step::Send(messages)) => messages,
        other => panic!("{json}: {other:?}"),
    }
}

#[test]
fn what_people_write_is_played() {
    assert_eq!(notes(r#"{"chord":"G7","beats":8}"#), (vec![67, 71, 74, 77], 100, Length::Beats(8.0)));
    assert_eq!(notes(r#"{"note":60}"#), (vec![60], 100, Length::Beats(1.0)));
    assert_eq!(notes(r#"{"note":"60","velocity":"30","ms":"5"}"#), (vec![60], 30, Length::Ms(5.0)));
    assert_eq!(notes(r#"{"note":["C4",64,"Bb3"],"hold":true}"#), (vec![58, 60, 64], 100, Length::Hold));
    assert_eq!(notes(r#"{"chord":"a minor","octave":3,"bars":2}"#).0, [57, 60, 64]);
    assert_eq!(sends(r#"{"note":"C4","velocity":0,"channel":3}"#), [M::NoteOff { channel: 3, note: 60, velocity: 64 }]);
    assert_eq!(sends(r#"{"off":"Am"}"#).len(), 3);
    assert_eq!(sends(r#"{"cc":74,"value":100}"#), [M::Control { channel: 1, controller: 74, value: 100 }]);
    assert_eq!(sends(r#"{"cc":74,"value":true}"#), [M::Control { channel: 1, controller: 74, value: 1 }]);
    assert_eq!(sends(r#"{"cc14":1,"value":8192}"#).len(), 2);
    assert_eq!(sends(r#"{"nrpn":300,"value":9000}"#).len(), 6);
    assert_eq!(sends(r#"{"program":5,"bank":129}"#).len(), 3);
    assert_eq!(sends(r#"{"bend":-8192,"channel":16}"#), [M::PitchBend { channel: 16, value: -8192 }]);
    assert_eq!(sends(r#"{"sysex":"F0 7E 7F 06 01 F7"}"#), [M::SysEx(vec![0x7e, 0x7f, 6, 1])]);
    assert_eq!(sends(r#"{"sysex":[126,127,6,1]}"#), [M::SysEx(vec![0x7e, 0x7f, 6, 1])]);
    assert_eq!(sends(r#"{"raw":"903C40 f8"}"#), [M::NoteOn { channel: 1, note: 60, velocity: 64 }, M::Clock]);
    assert_eq!(step(r#"{"transport":"start"}"#), Ok(Step::Transport(Transport::Start)));
    assert_eq!(step(r#"{"panic":true}"#), Ok(Step::Panic { all: false }));
    assert_eq!(step(r#"{"panic":"all"}"#), Ok(Step::Panic { all: true }));
    assert_eq!(step(r#"{"bpm":"90"}"#), Ok(Step::Tempo(90.0)));
}

#[test]
fn several_are_one() {
    let json = r#"{"port":"synth","channel":2,"all":[{"program":3},{"chord":"C","channel":4},{"note":1,"port":"x"}]}"#;
    let plays = serde_json::from_str::<Out>(json).unwrap().plays().unwrap();
    let where_to: Vec<_> = plays.iter().map(|play| (play.port.as_deref().unwrap(), play.channel)).collect();
    assert_eq!(where_to, [("synth", 2), ("synth", 4), ("x", 2)]);
}

#[test]
fn a_tempo_goes_with_the_transport() {
    let out: Out = serde_json::from_str(r#"{"transport":"start","bpm":"140","port":"pad"}"#).unwrap();
    let plays = out.plays().unwrap();
    let steps: Vec<_> = plays.iter().map(|play| play.step.clone()).collect();
    assert_eq!(steps, [Step::Tempo(140.0), Step::Transport(Transport::Start)]);
    assert!(plays.iter().all(|play| play.port.as_deref() == Some("pad")));
    assert!(step(r#"{"transport":"start","bpm":4}"#).unwrap_err().contains("bpm 4 can't be"));
    assert!(step(r#"{"transport":"start","bpm":120,"cc":1}"#).unwrap_err().contains("in one message"));
}

#[test]
fn what_can_not_be_is_told_with_what_would_do() {
    for (json, told) in [
        ("{}", "nothing says what to send; give one of note, chord"),
        (r#"{"note":60,"cc":1,"value":2}"#, r#"note and cc in one message; send them as {"all": [{…}, {…}]}"#),
        (r#"{"note":128}"#, "there is no note 128 in MIDI"),
        (r#"{"note":"H4"}"#, "`H4` is no note; write one as C4"),
        (r#"{"note":[]}"#, "an empty list of notes"),
        (r#"{"chord":"Xyz"}"#, "`Xyz` is no chord; write one as C, Am"),
        (r#"{"cc":74}"#, "cc without a value; add \"value\": 0 to 127"),
        (r#"{"cc":74,"value":128}"#, "value 128 can't be: it goes from 0 to 127"),
        (r#"{"cc":7,"value":1,"channel":17}"#, "channel 17 can't be: it goes from 1 to 16"),
        (r#"{"note":60,"ms":5,"beats":1}"#, "ms and beats both say how long"),
        (r#"{"note":60,"ms":0}"#, "ms 0 can't be"),
        (r#"{"note":60,"ms":5,"hold":true}"#, "leave one out"),
        (r#"{"sysex":"F0 80 F7"}"#, "80 can't stand within it"),
        (r#"{"sysex":"zz"}"#, "`zz` is no hexadecimal"),
        (r#"{"raw":"90 3C"}"#, "of 2 bytes are no whole MIDI message"),
        (r#"{"bpm":1}"#, "bpm 1 can't be"),
        (r#"{"notes":60}"#, "unknown field `notes`"),
        (r#"{"note":[[60]]}"#, "expected a note"),
        (r#"{"cc":"x","value":1}"#, "`x` is no number"),
        (r#"{"all":[{"all":[{"note":1}]}]}"#, "one list is enough"),
        (r#"{"chord":"C","octave":9,"inversion":3}"#, "goes beyond the notes of MIDI"),
    ] {
        let error = step(json).unwrap_err();
        assert!(error.contains(told), "{json}: {error}");
    }
}

#[test]
fn it_crosses_the_bus_in_both_formats() {
    let out =
        Out { on: Some(Quantum::Beat), note: Some(Keys(vec!["C4".to_owned(), "64".to_owned()])), ..Out::example() };
    let json = serde_json::to_vec(&out).unwrap();
    assert_eq!(serde_json::from_slice::<Out>(&json).unwrap(), out);
    let packed = rmp_serde::to_vec_named(&out).unwrap();
    assert_eq!(rmp_serde::from_slice::<Out>(&packed).unwrap(), out);
    let sysex = Out { sysex: Some(Data(vec![0xf0, 1, 2, 0xf7])), ..Out::default() };
    assert_eq!(serde_json::to_string(&sysex).unwrap(), r#"{"sysex":"F0 01 02 F7"}"#);
}

proptest! {
    #[test]
    fn nothing_panics(
        note in ".{0,6}",
        chord in ".{0,8}",
        number in any::<f64>(),
        octave in any::<i32>(),
        bytes in prop::collection::vec(any::<u8>(), 0..40),
        which in 0..12,
    ) {
        let number = number.is_finite().then(|| Number::new(number));
        let mut out = Out { value: number, channel: number, octave: Some(octave.into()), ms: number, ..Out::default() };
        match which {
            0 => out.note = Some(Keys(vec![note])),
            1 => out.chord = Some(chord),
            2 => out.off = Some(Keys::one(chord)),
            3 => out.cc = number,
            4 => out.nrpn = number,
            5 => out.bend = number,
            6 => out.bpm = number,
            7 => out.sysex = Some(Data(bytes)),
            8 => out.raw = Some(Data(bytes)),
            9 => out.position = number,
            10 => out.program = number,
            _ => out.key_pressure = Some(Keys(vec![note])),
        }
        if let Ok(plays) = out.plays() {
            for play in plays {
                prop_assert!((1..=16).contains(&play.channel));
                if let Step::Send(messages) = play.step {
                    prop_assert!(messages.iter().all(|message| message.bytes().as_slice().len() <= 16_000));
                }
            }
        }
    }
}
