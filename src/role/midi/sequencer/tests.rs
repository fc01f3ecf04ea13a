use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::super::mapping::Mapping;
use super::state::WAITING_MAX;
use super::*;
use crate::action::Effect;
use crate::bus::message::fault::FaultCode;
use crate::bus::message::midi::Out;
use crate::config::MidiOn;
use crate::midi::Kind;

const MS: u64 = 1_000;

fn sequencer(on: &str) -> Sequencer {
    let table: BTreeMap<String, Vec<MidiOn>> =
        if on.is_empty() { Default::default() } else { toml::from_str(on).unwrap() };
    let ports = vec!["midi_out".to_owned(), "pad".to_owned()];
    let mapping = Mapping::new(table.get("on").map_or(&[][..], Vec::as_slice), &ports).unwrap();
    let publish = Kind::ALL.into_iter().filter(|kind| *kind != Kind::Realtime).collect();
    let (clock_from, clock_to) = ("any".to_owned(), Vec::new());
    let setup = Setup { ports, mapping, publish, bpm: 120.0, beats_per_bar: 4, clock_from, clock_to };
    let mut sequencer = Sequencer::new(setup, 0).unwrap();
    sequencer.is_up = true;
    (sequencer.lead_us, sequencer.period_us) = (10 * MS, 5 * MS);
    sequencer
}

fn out(json: &str) -> Out {
    serde_json::from_str(json).unwrap()
}

/// What went out: port, time in µs if any, bytes.
fn sent(sequencer: &mut Sequencer) -> Vec<(usize, Option<u64>, Vec<u8>)> {
    let sends = std::mem::take(&mut sequencer.output).sends;
    sends.into_iter().map(|send| (send.port, send.at_us, send.message.bytes().as_slice().to_vec())).collect()
}

/// Lets time pass up to `until`, in the steps that the sequencer asks for; gives what went out.
fn run(sequencer: &mut Sequencer, from: u64, until: u64) -> Vec<(usize, Option<u64>, Vec<u8>)> {
    let mut all = Vec::new();
    let mut now = from;
    loop {
        sequencer.poll(now);
        all.extend(sent(sequencer));
        match sequencer.next_us(now) {
            Some(next) if next <= until => now = next.max(now),
            _ => return all,
        }
    }
}

#[test]
fn notes_end_after_their_time() {
    let mut sequencer = sequencer("");
    let played = sequencer.play(&out(r#"{"chord":"C","beats":2,"port":"pad","channel":2}"#), 0).unwrap();
    assert_eq!((played.messages, played.notes), (3, ["C4", "E4", "G4"].map(str::to_owned).to_vec()));
    let begun = sent(&mut sequencer);
    assert_eq!(begun.iter().map(|(port, at, bytes)| (*port, *at, bytes[0])).collect::<Vec<_>>(), [(1, None, 0x91); 3]);
    let ended = run(&mut sequencer, 0, 2_000 * MS);
    // Two beats at 120 are a second; sent ahead, with its time.
    assert_eq!(
        ended.iter().map(|(_, at, bytes)| (*at, bytes[1])).collect::<Vec<_>>(),
        [(Some(1_000 * MS), 60), (Some(1_000 * MS), 64), (Some(1_000 * MS), 67)]
    );
    assert_eq!(sequencer.ports[1].sounding.notes().count(), 0);
}

#[test]
fn what_waits_for_a_bar_goes_out_on_it() {
    let mut sequencer = sequencer("");
    let played = sequencer.play(&out(r#"{"note":60,"on":"bar","ms":100}"#), 300 * MS).unwrap();
    assert_eq!((played.in_ms, played.messages), (Some(1_700), 0));
    let all = run(&mut sequencer, 300 * MS, 3_000 * MS);
    assert_eq!(all, [(0, Some(2_000 * MS), vec![0x90, 60, 100]), (0, Some(2_100 * MS), vec![0x80, 60, 64])]);
}

#[test]
fn panic_ends_what_sounds_and_takes_back_what_waits() {
    let mut sequencer = sequencer("");
    sequencer.play(&out(r#"{"note":60,"hold":true}"#), 0).unwrap();
    sequencer.play(&out(r#"{"note":62,"on":"bar"}"#), 0).unwrap();
    sequencer.play(&out(r#"{"note":64,"on":"bar"}"#), 100 * MS).unwrap();
    sent(&mut sequencer);
    assert_eq!(sequencer.panic(None, false, 200 * MS), 1);
    assert!(sequencer.output.flush);
    assert_eq!(sent(&mut sequencer), [(0, None, vec![0x80, 60, 64])]);
    assert_eq!((run(&mut sequencer, 200 * MS, 10_000 * MS), sequencer.waiting()), (vec![], 0));
    sequencer.panic(Some(1), true, 0);
    assert_eq!(sent(&mut sequencer).len(), 48);
}

#[test]
fn a_key_that_is_struck_anew_ends_first_and_lasts_as_long_as_the_last() {
    let mut sequencer = sequencer("");
    sequencer.play(&out(r#"{"note":60,"ms":100}"#), 0).unwrap();
    sequencer.play(&out(r#"{"note":60,"ms":100}"#), 50 * MS).unwrap();
    assert_eq!(sent(&mut sequencer).iter().map(|(_, _, bytes)| bytes[0]).collect::<Vec<_>>(), [0x90, 0x80, 0x90]);
    assert_eq!(run(&mut sequencer, 50 * MS, 1_000 * MS), [(0, Some(150 * MS), vec![0x80, 60, 64])]);
}

#[test]
fn a_key_that_is_struck_while_its_end_is_on_its_way_begins_after_it() {
    let mut sequencer = sequencer("");
    sequencer.play(&out(r#"{"note":60,"ms":100}"#), 0).unwrap();
    sent(&mut sequencer);
    // Sent ahead.
    sequencer.poll(92 * MS);
    assert_eq!(sent(&mut sequencer), [(0, Some(100 * MS), vec![0x80, 60, 64])]);
    sequencer.play(&out(r#"{"note":60,"ms":100}"#), 95 * MS).unwrap();
    sequencer.play(&out(r#"{"note":61,"ms":100}"#), 95 * MS).unwrap();
    assert_eq!(sent(&mut sequencer), [(0, Some(100 * MS), vec![0x90, 60, 100]), (0, None, vec![0x90, 61, 100])]);
    let ended = run(&mut sequencer, 95 * MS, 1_000 * MS);
    assert_eq!(ended, [(0, Some(195 * MS), vec![0x80, 61, 64]), (0, Some(200 * MS), vec![0x80, 60, 64])]);
}

#[test]
fn a_key_that_is_struck_while_its_beginning_is_on_its_way_begins_after_it() {
    let mut sequencer = sequencer("");
    sequencer.play(&out(r#"{"note":60,"on":"bar","ms":50}"#), 300 * MS).unwrap();
    sequencer.poll(1_995 * MS);
    assert_eq!(sent(&mut sequencer), [(0, Some(2_000 * MS), vec![0x90, 60, 100])]);
    sequencer.play(&out(r#"{"note":60,"ms":100}"#), 1_996 * MS).unwrap();
    let at = Some(2_000 * MS);
    assert_eq!(sent(&mut sequencer), [(0, at, vec![0x80, 60, 64]), (0, at, vec![0x90, 60, 100])]);
    assert_eq!(run(&mut sequencer, 1_996 * MS, 5_000 * MS), [(0, Some(2_100 * MS), vec![0x80, 60, 64])]);
}

#[test]
fn a_pad_plays_another_port_for_as_long_as_it_is_down() {
    let mut sequencer = sequencer(
        "[[on]]\nport = 'pad'\nnote = 'any'\nwhen = 'held'\ndo = { midi = { note = '{note}', velocity = '{velocity}', channel = 3 } }",
    );
    sequencer.input(1, 1_000 * MS, &[0x90, 60, 99]);
    sequencer.input(1, 1_007 * MS, &[0x80, 60, 0]);
    sequencer.input(0, 1_008 * MS, &[0x90, 60, 99]);
    // A period later than they came.
    assert_eq!(
        sent(&mut sequencer),
        [(0, Some(1_005 * MS), vec![0x92, 60, 99]), (0, Some(1_012 * MS), vec![0x82, 60, 64])]
    );
    sequencer.input(1, 1_020 * MS, &[0x90, 62, 99]);
    sent(&mut sequencer);
    let empty = BTreeSet::new;
    sequencer.connected(1, ["a2j:pad".to_owned()].into(), empty(), empty(), 1_030 * MS);
    sequencer.connected(1, empty(), empty(), empty(), 1_040 * MS);
    assert_eq!(
        sequencer.output.notices,
        ["MIDI port pad: a2j:pad has gone with 1 keys down; they are taken as released"]
    );
    assert_eq!(sent(&mut sequencer), [(0, Some(1_045 * MS), vec![0x82, 62, 64])]);
}

#[test]
fn a_device_that_goes_is_told_the_end_of_its_notes_when_it_is_back() {
    let mut sequencer = sequencer("");
    let device = || BTreeSet::from(["a2j:synth".to_owned()]);
    sequencer.connected(1, BTreeSet::new(), device(), BTreeSet::new(), 0);
    sequencer.play(&out(r#"{"note":60,"port":"pad","hold":true}"#), 0).unwrap();
    sent(&mut sequencer);
    sequencer.connected(1, BTreeSet::new(), BTreeSet::new(), BTreeSet::new(), 10 * MS);
    assert!(sequencer.output.notices[0].contains("has gone while 1 notes sounded"), "{:?}", sequencer.output.notices);
    assert_eq!(sent(&mut sequencer), []);
    sequencer.connected(1, BTreeSet::new(), device(), ["other:out".to_owned()].into(), 20 * MS);
    assert!(sequencer.output.notices[0].contains("other:out plays the same device"), "{:?}", sequencer.output.notices);
    let up = |number: u8| (1, None, vec![0xb0, number, 0]);
    assert_eq!(sent(&mut sequencer), [(1, None, vec![0x80, 60, 64]), up(64), up(66), up(69)]);
}

#[test]
fn a_device_that_goes_with_a_pedal_down_is_told_that_it_is_up() {
    let mut sequencer = sequencer("");
    let device = || BTreeSet::from(["a2j:synth".to_owned()]);
    sequencer.connected(1, BTreeSet::new(), device(), BTreeSet::new(), 0);
    sequencer.play(&out(r#"{"cc":64,"value":127,"channel":3,"port":"pad"}"#), 0).unwrap();
    sent(&mut sequencer);
    sequencer.connected(1, BTreeSet::new(), BTreeSet::new(), BTreeSet::new(), 10 * MS);
    sequencer.connected(1, BTreeSet::new(), device(), BTreeSet::new(), 20 * MS);
    let up = |number: u8| (1, None, vec![0xb2, number, 0]);
    assert_eq!(sent(&mut sequencer), [up(64), up(66), up(69)]);
    sequencer.connected(1, BTreeSet::new(), BTreeSet::new(), BTreeSet::new(), 30 * MS);
    sequencer.connected(1, BTreeSet::new(), device(), BTreeSet::new(), 40 * MS);
    assert_eq!(sent(&mut sequencer), []);
}

#[test]
fn what_is_passed_on_from_a_device_that_goes_ends() {
    let table = "[[on]]\nany = true\nport = 'pad'\ndo = { midi = { raw = '{bytes}' } }";
    for table in [table, "[[on]]\nnote = 'any'\nport = 'pad'\nwhen = 'held'\ndo = { midi = { raw = '{bytes}' } }"] {
        let mut sequencer = sequencer(table);
        let device = || BTreeSet::from(["a2j:pad".to_owned()]);
        sequencer.connected(1, device(), BTreeSet::new(), BTreeSet::new(), 0);
        sequencer.input(1, 1_000 * MS, &[0x90, 60, 99]);
        sequencer.input(1, 1_001 * MS, &[0xb0, 64, 127]);
        sent(&mut sequencer);
        sequencer.connected(1, BTreeSet::new(), BTreeSet::new(), BTreeSet::new(), 2_000 * MS);
        // It is also published.
        let published: Vec<_> =
            sequencer.output.published.iter().map(|(_, message, _)| message.bytes().as_slice().to_vec()).collect();
        assert_eq!(published, [vec![0x80, 60, 64], vec![0xb0, 64, 0]]);
        let ended: Vec<_> = sent(&mut sequencer).into_iter().map(|(.., bytes)| bytes[..2].to_vec()).collect();
        assert_eq!(ended[0], [0x80, 60], "{table}");
        assert_eq!(ended.contains(&vec![0xb0, 64]), table.contains("any = true"), "{table}");
        assert_eq!(sequencer.ports[0].sounding.notes().count(), 0);
    }
}

#[test]
fn all_notes_off_comes_after_beginnings_that_are_on_their_way() {
    for (json, status) in [(r#"{"cc":123,"value":0}"#, 0xb0), (r#"{"raw":"FF"}"#, 0xff)] {
        let mut sequencer = sequencer("");
        sequencer.play(&out(r#"{"note":60,"on":"bar","hold":true}"#), 300 * MS).unwrap();
        sequencer.poll(1_995 * MS);
        assert_eq!(sent(&mut sequencer), [(0, Some(2_000 * MS), vec![0x90, 60, 100])]);
        sequencer.play(&out(json), 1_996 * MS).unwrap();
        let kept = sequencer.output.journal.clone();
        let sends = sent(&mut sequencer);
        assert_eq!((sends.len(), sends[0].1, sends[0].2[0]), (1, Some(2_000 * MS), status));
        assert_eq!((kept, sequencer.ports[0].sounding.notes().count()), (vec![(0, 1, 60, false)], 0));
    }
}

#[test]
fn a_pedal_that_goes_up_is_not_taken_back_by_a_stop() {
    let mut sequencer = sequencer("[[on]]\nany = true\nport = 'pad'\ndo = { midi = { raw = '{bytes}' } }");
    sequencer.input(1, 1_000 * MS, &[0xb0, 64, 127]);
    sent(&mut sequencer);
    sequencer.input(1, 1_010 * MS, &[0xb0, 64, 0, 0xb0, 7, 9]);
    sequencer.panic(None, false, 1_011 * MS);
    assert_eq!(sent(&mut sequencer), [(0, Some(1_015 * MS), vec![0xb0, 64, 0])]);
}

#[test]
fn what_is_the_same_for_on_and_off_is_done_once() {
    let mut sequencer = sequencer(
        "[[on]]\nnote = 36\nwhen = 'held'\ndo = { midi = { transport = 'start' } }\n\
         [[on]]\nnote = 37\nwhen = 'held'\ndo = { midi = { cc = 1, value = '{value}' } }",
    );
    let mut press = |note: u8| {
        sequencer.input(0, 1_000 * MS, &[0x90, note, 99, 0x80, note, 0]);
        sent(&mut sequencer).into_iter().map(|(.., bytes)| bytes).collect::<Vec<_>>()
    };
    assert_eq!(press(36), [[0xfa]]);
    assert_eq!(press(37), [[0xb0, 1, 99], [0xb0, 1, 0]]);
}

#[test]
fn a_toggle_stands_as_the_listener_that_it_mutes() {
    let mut sequencer = sequencer("[[on]]\nnote = 60\nwhen = 'toggle'\ndo = { mute = { listener = 'main' } }");
    let pressed = |sequencer: &mut Sequencer, at: u64| {
        sequencer.input(0, at, &[0x90, 60, 99]);
        sequencer.input(0, at + MS, &[0x80, 60, 0]);
        std::mem::take(&mut sequencer.output).effects.into_iter().map(|triggered| triggered.effect).collect::<Vec<_>>()
    };
    let mute = |on: bool| {
        let control = crate::bus::message::voice::Control::Mute { on: Some(on) };
        [Effect::Listener { listener: crate::action::ListenerName("main".to_owned()), control }]
    };
    assert_eq!(pressed(&mut sequencer, 1_000 * MS), mute(true));
    // A person unmutes it by voice or by hand: the next press mutes.
    sequencer.muted("other", false, false);
    sequencer.muted("main", true, false);
    assert_eq!(pressed(&mut sequencer, 2_000 * MS), mute(true));
    assert_eq!(pressed(&mut sequencer, 3_000 * MS), mute(false));
}

#[test]
fn a_host_that_is_gone_leaves_no_notes() {
    let mut sequencer = sequencer("");
    sequencer.play(&out(r#"{"note":60,"hold":true,"by":"stage"}"#), 0).unwrap();
    sequencer.play(&out(r#"{"note":62,"hold":true,"by":"studio"}"#), 0).unwrap();
    sequencer.play(&out(r#"{"note":64,"on":"bar","by":"stage"}"#), 100 * MS).unwrap();
    sent(&mut sequencer);
    assert_eq!(sequencer.release_of("stage", 200 * MS), 1);
    assert_eq!(sent(&mut sequencer), [(0, None, vec![0x80, 60, 64])]);
    assert_eq!(sequencer.waiting(), 0);
}

#[test]
fn a_clock_that_comes_in_is_followed_and_passed_on() {
    let mut sequencer = sequencer("");
    sequencer.play(&out(r#"{"transport":"start","port":"pad"}"#), 0).unwrap();
    sent(&mut sequencer);
    for n in 0..60 {
        sequencer.input(0, 100_000 + n * 25_000, &[0xf8]);
    }
    let (grid, source, _) = sequencer.clock(1_600_000);
    assert_eq!((source, grid.bpm().round()), (Some(0), 100.0));
    let passed = sent(&mut sequencer);
    assert!(passed.len() > 50 && passed.iter().all(|(port, at, bytes)| *port == 1 && at.is_some() && *bytes == [0xf8]));
    // It falls silent: this host's own goes on.
    assert_eq!(sequencer.clock(5_000_000).1, None);
}

#[test]
fn ticks_that_go_out_are_each_at_its_time() {
    let mut sequencer = sequencer("");
    sequencer.play(&out(r#"{"all":[{"bpm":125},{"transport":"start"}]}"#), 0).unwrap();
    let mut all = sent(&mut sequencer);
    all.extend(run(&mut sequencer, 0, 1_000 * MS));
    assert_eq!(all[0], (0, Some(10 * MS), vec![0xfa]));
    for (n, (_, at, bytes)) in all[1..].iter().enumerate() {
        assert_eq!((at.unwrap(), bytes.as_slice()), (11_000 + n as u64 * 20_000, &[0xf8][..]), "tick {n}");
    }
    assert!(all.len() > 49);
    sequencer.play(&out(r#"{"transport":"stop"}"#), 1_010 * MS).unwrap();
    sent(&mut sequencer);
    assert_eq!(run(&mut sequencer, 1_010 * MS, 2_000 * MS), []);
}

#[test]
fn what_can_not_be_played_is_refused() {
    let mut sequencer = sequencer("");
    let error = sequencer.play(&out(r#"{"note":60,"port":"synth"}"#), 0).unwrap_err();
    assert_eq!(error.message, "this host has no MIDI port \"synth\"; it has midi_out, pad");
    for _ in 0..WAITING_MAX / 2 {
        sequencer.play(&out(r#"{"note":60,"on":"bar"}"#), 1).unwrap();
    }
    sequencer.play(&out(r#"{"note":[1,2,3],"on":"bar"}"#), 1).map(|_| ()).ok();
    for _ in 0..WAITING_MAX {
        let _ = sequencer.play(&out(r#"{"note":60,"on":"bar"}"#), 1);
    }
    let error = sequencer.play(&out(r#"{"note":60}"#), 1).unwrap_err();
    assert_eq!(error.code, FaultCode::Busy, "{}", error.message);
    assert!(sequencer.waiting() <= WAITING_MAX);
    sequencer.is_up = false;
    assert_eq!(sequencer.play(&out(r#"{"cc":1,"value":1}"#), 0).unwrap_err().code, FaultCode::Unavailable);
    assert!(sequencer.play(&out(r#"{"panic":true}"#), 0).is_ok());
}

#[test]
fn a_loop_is_broken_and_reported_and_a_fast_player_is_not() {
    let table = "[[on]]\nany = true\nport = 'pad'\ndo = { midi = { raw = '{bytes}' } }";
    let mut sequencer = sequencer(table);
    // What is sent comes back two periods later.
    let mut now = 1_000 * MS;
    let mut rounds = 0;
    sequencer.input(1, now, &[0xb0, 7, 100]);
    while !sent(&mut sequencer).is_empty() {
        rounds += 1;
        now += 10 * MS;
        sequencer.input(1, now, &[0xb0, 7, 100]);
        assert!(rounds < 100, "it goes on for ever");
    }
    let due = sequencer.next_us(now).unwrap();
    sequencer.poll(due);
    assert!(sequencer.output.notices[0].contains("B0 07 has triggered itself"), "{:?}", sequencer.output.notices);
    sent(&mut sequencer);

    // A pedal that is pressed and let go fast enough to look like a loop still comes up.
    let table = "[[on]]\ncc = 64\nport = 'pad'\nwhen = 'held'\ndo = { midi = { cc = 1, value = '{value}' } }";
    let mut pedal = super::tests::sequencer(table);
    let (mut at, mut left) = (now, 0);
    for _ in 0..40 {
        for value in [127, 0] {
            at += 10 * MS;
            pedal.input(1, at, &[0xb0, 64, value]);
            let is_sent = !sent(&mut pedal).is_empty();
            left += usize::from(!is_sent);
            assert!(is_sent || value == 127, "a release was left");
        }
    }
    assert!(left > 0, "it never looked like a loop");

    // Sixteenths at 180, always the same: each is played.
    for n in 0..200 {
        sequencer.input(1, now + 5_000 * MS + n * 83 * MS, &[0x99, 42, 100]);
        assert!(!sent(&mut sequencer).is_empty(), "stroke {n}");
    }
}

/// A step of a run.
#[derive(Debug, Clone)]
enum Act {
    Play(String),
    Input(usize, Vec<u8>),
    Wait(u64),
    Panic,
    Plug(usize, bool),
}

fn act() -> impl Strategy<Value = Act> {
    let play = (0..128u8, 0..6usize, 0..2usize, 1..=3u8).prop_map(|(note, how, port, channel)| {
        let port = ["midi_out", "pad"][port];
        let how = [
            "\"ms\":40",
            "\"hold\":true",
            "\"on\":\"beat\"",
            "\"velocity\":0",
            "\"bars\":1,\"on\":\"bar\"",
            "\"beats\":0.1",
        ][how];
        Act::Play(format!("{{\"note\":{note},\"port\":\"{port}\",\"channel\":{channel},{how}}}"))
    });
    prop_oneof![
        play,
        (0..2usize, prop::collection::vec(any::<u8>(), 0..12)).prop_map(|(port, bytes)| Act::Input(port, bytes)),
        (0..900_000u64).prop_map(Act::Wait),
        Just(Act::Panic),
        (0..2usize, any::<bool>()).prop_map(|(port, there)| Act::Plug(port, there)),
    ]
}

proptest! {
    /// Whatever is played and comes in: when all is stopped at the end, each key that a device was told to begin was told to end
    /// after that, nothing waits, and what was kept for the next run is nothing but what a device that has gone is owed.
    #[test]
    fn nothing_sounds_in_the_end(acts in prop::collection::vec(act(), 1..60)) {
        let table = "[[on]]\nnote = 'any'\nwhen = 'held'\ndo = { midi = { note = '{number}', port = 'pad', channel = 9 } }";
        let mut sequencer = sequencer(table);
        let (mut now, mut on, mut kept) = (1_000_000, BTreeSet::new(), BTreeSet::new());
        // Lanes as the driver has them: what has a time can be flushed until it is due.
        let mut ahead: Vec<(u64, usize, Vec<u8>, bool)> = Vec::new();
        let mut hear = |sequencer: &mut Sequencer, now: u64, last: bool| {
            let output = std::mem::take(&mut sequencer.output);
            for (port, channel, note, begins) in output.journal {
                if begins { kept.insert((port, channel, note)); } else { kept.remove(&(port, channel, note)); }
            }
            if output.flush {
                ahead.retain(|(at, _, _, keep)| *at <= now || *keep);
            }
            let mut due = std::mem::take(&mut ahead);
            due.sort_by_key(|(at, ..)| *at);
            let (mut due, later): (Vec<_>, Vec<_>) = due.into_iter().partition(|(at, ..)| last || *at <= now);
            ahead = later;
            for send in output.sends {
                let bytes = send.message.bytes().as_slice().to_vec();
                match send.at_us { Some(at) if !last => ahead.push((at, send.port, bytes, send.keep)), _ => due.push((now, send.port, bytes, send.keep)) }
            }
            for (_, port, bytes, _) in due {
                match bytes[0] & 0xf0 {
                    0x90 if bytes[2] > 0 => { on.insert((port, bytes[0] & 0x0f, bytes[1])); }
                    0x80 | 0x90 => { on.remove(&(port, bytes[0] & 0x0f, bytes[1])); }
                    _ => {}
                }
            }
            // What a device ends up with when nothing more is sent: the sequencer must believe the same.
            let mut will = on.clone();
            let mut rest = ahead.clone();
            rest.sort_by_key(|(at, ..)| *at);
            for (_, port, bytes, _) in rest {
                let key = (port, bytes[0] & 0x0f, bytes[1]);
                match bytes[0] & 0xf0 {
                    0x90 if bytes[2] > 0 => { will.insert(key); }
                    0x80 | 0x90 => { will.remove(&key); }
                    _ => {}
                }
            }
            (on.clone(), kept.clone(), will)
        };
        let mut plugged = false;
        for act in acts {
            match act {
                Act::Play(json) => { let _ = sequencer.play(&out(&json), now); }
                Act::Input(port, bytes) => sequencer.input(port, now, &bytes),
                Act::Wait(us) => {
                    let until = now + us;
                    while let Some(next) = sequencer.next_us(now).filter(|next| *next < until) {
                        now = next.max(now);
                        sequencer.poll(now);
                        hear(&mut sequencer, now, false);
                    }
                    now = until;
                }
                Act::Panic => { sequencer.panic(None, false, now); }
                Act::Plug(port, there) => {
                    plugged = true;
                    let device = if there { BTreeSet::from(["x:y".to_owned()]) } else { BTreeSet::new() };
                    sequencer.connected(port, device.clone(), device, BTreeSet::new(), now);
                }
            }
            sequencer.poll(now);
            let (_, _, will) = hear(&mut sequencer, now, false);
            let sounding: std::collections::BTreeSet<_> = sequencer.ports.iter().enumerate()
                .flat_map(|(at, port)| port.sounding.notes().map(move |(channel, note, _)| (at, channel - 1, note)))
                .collect();
            if !plugged {
                prop_assert_eq!(will, sounding);
            }
        }
        sequencer.panic(None, false, now);
        let device = || BTreeSet::from(["z:z".to_owned()]);
        hear(&mut sequencer, now, true);
        for port in 0..2 {
            sequencer.connected(port, device(), device(), BTreeSet::new(), now);
        }
        sequencer.panic(None, false, now);
        let (on, kept, _) = hear(&mut sequencer, now, true);
        prop_assert_eq!(sequencer.waiting(), 0);
        prop_assert!(kept.is_empty(), "{:?}", kept);
        if !plugged {
            prop_assert!(on.is_empty(), "{:?}", on);
        }
    }
}
