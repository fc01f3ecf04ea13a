use proptest::prelude::*;

use super::*;
use crate::action::ListenerName;
use crate::bus::message::osc;
use crate::bus::message::voice::Mode;

fn lane(name: &str) -> Lane {
    Lane::Listener(name.to_owned())
}

fn put(lanes: &mut Lanes<u32>, name: &str, what: u32, kind: Kind, now: Instant) -> Result<Put<u32>, Full<u32>> {
    lanes.put(&lane(name), what, kind, 0, now)
}

/// All that is done in a lane, and what was too late.
fn drain(lanes: &mut Lanes<u32>, name: &str, stops: u64, now: Instant) -> (Vec<u32>, Vec<u32>) {
    let (mut done, mut late) = (Vec::new(), Vec::new());
    loop {
        let turn = lanes.next(&lane(name), stops, now);
        late.extend(turn.late);
        match turn.next {
            Some((what, _)) => done.push(what),
            None => return (done, late),
        }
    }
}

#[test]
fn a_lane_goes_in_order_and_holds_up_no_other() {
    let (mut lanes, now) = (Lanes::default(), Instant::now());
    let begins = |put: Result<Put<u32>, Full<u32>>| put.unwrap().begins;
    assert!(begins(put(&mut lanes, "silent", 1, Kind::Press, now)));
    assert_eq!(lanes.next(&lane("silent"), 0, now).next, Some((1, Kind::Press)));
    // It is under way, and the next waits; the other listener's begins.
    assert!(!begins(put(&mut lanes, "silent", 2, Kind::Lasting, now)));
    assert!(begins(put(&mut lanes, "quick", 3, Kind::Press, now)));
    assert_eq!(drain(&mut lanes, "quick", 0, now).0, [3]);
    assert_eq!(drain(&mut lanes, "silent", 0, now).0, [2]);
    // A lane that is at its end takes no place.
    assert!(lanes.0.is_empty());
    assert!(begins(put(&mut lanes, "silent", 4, Kind::Press, now)));
}

#[test]
fn presses_grow_too_old_and_nothing_else_does() {
    let (mut lanes, now) = (Lanes::default(), Instant::now());
    for (what, kind) in [(1, Kind::Press), (2, Kind::Lasting), (3, Kind::Value), (4, Kind::Press)] {
        put(&mut lanes, "a", what, kind, now).unwrap();
    }
    put(&mut lanes, "a", 5, Kind::Press, now + FRESH).unwrap();
    assert_eq!(drain(&mut lanes, "a", 0, now + FRESH + FRESH / 2), (vec![2, 3, 5], vec![1, 4]));
}

#[test]
fn a_stop_calls_off_all_that_would_not_hang() {
    let (mut lanes, now) = (Lanes::default(), Instant::now());
    for (what, kind) in [(1, Kind::Press), (2, Kind::Value), (3, Kind::Lasting)] {
        put(&mut lanes, "a", what, kind, now).unwrap();
    }
    // What comes after the stop is done.
    lanes.put(&lane("a"), 4, Kind::Press, 1, now).unwrap();
    assert_eq!(drain(&mut lanes, "a", 1, now), (vec![3, 4], vec![]));
}

#[test]
fn what_a_stop_has_called_off_takes_no_room() {
    let (mut lanes, now) = (Lanes::default(), Instant::now());
    for what in 0..WAITING {
        put(&mut lanes, "a", u32::try_from(what).unwrap(), Kind::Value, now).unwrap();
    }
    assert!(put(&mut lanes, "a", 999, Kind::Value, now).is_err());
    lanes.put(&lane("a"), 1_000, Kind::Value, 1, now).unwrap();
    assert_eq!(drain(&mut lanes, "a", 1, now).0, [1_000]);
}

#[test]
fn a_full_lane_says_so_and_a_release_takes_the_place_of_a_press() {
    let (mut lanes, now) = (Lanes::default(), Instant::now());
    put(&mut lanes, "a", 0, Kind::Lasting, now).unwrap();
    put(&mut lanes, "a", 1, Kind::Press, now).unwrap();
    for what in 2..WAITING {
        put(&mut lanes, "a", u32::try_from(what).unwrap(), Kind::Lasting, now).unwrap();
    }
    let full = put(&mut lanes, "a", 300, Kind::Press, now).unwrap_err();
    assert!(full.what == 300 && full.why.contains("256 deeds wait for the listener a already"), "{full:?}");
    assert_eq!(put(&mut lanes, "a", 301, Kind::Lasting, now).unwrap().instead, Some(1));
    assert_eq!(put(&mut lanes, "a", 302, Kind::Lasting, now).unwrap_err().what, 302);
    assert_eq!(drain(&mut lanes, "a", 0, now).0.len(), WAITING);
}

#[test]
fn lanes_are_bounded_by_those_that_are_busy() {
    let (mut lanes, now) = (Lanes::default(), Instant::now());
    for number in 0..LANES {
        put(&mut lanes, &number.to_string(), 0, Kind::Lasting, now).unwrap();
    }
    let full = put(&mut lanes, "one more", 7, Kind::Lasting, now).unwrap_err();
    assert!(full.why.contains("64 listeners") && full.why.contains("the listener one more"), "{full:?}");
    drain(&mut lanes, "3", 0, now);
    put(&mut lanes, "one more", 7, Kind::Lasting, now).unwrap();
}

#[test]
fn a_stop_of_one_listener_is_its_next_and_is_asked_for_once() {
    let (mut lanes, now) = (Lanes::default(), Instant::now());
    put(&mut lanes, "a", 1, Kind::Lasting, now).unwrap();
    lanes.next(&lane("a"), 0, now);
    put(&mut lanes, "a", 2, Kind::Press, now).unwrap();
    put(&mut lanes, "a", 3, Kind::Lasting, now).unwrap();
    put(&mut lanes, "b", 4, Kind::Press, now).unwrap();
    assert!(!lanes.hurries(&lane("a")));
    assert!(!lanes.outrank(&lane("a"), 10, 0, now).unwrap().begins);
    assert!(lanes.hurries(&lane("a")) && !lanes.hurries(&lane("b")));
    lanes.outrank(&lane("a"), 11, 0, now).unwrap();
    put(&mut lanes, "a", 5, Kind::Press, now).unwrap();
    assert_eq!(lanes.next(&lane("a"), 0, now).next, Some((10, Kind::Lasting)));
    // While it is under way, what has come since is thrown away by another, which need not be sent.
    assert!(!lanes.hurries(&lane("a")));
    lanes.outrank(&lane("a"), 12, 0, now).unwrap();
    assert!(!lanes.hurries(&lane("a")));
    assert_eq!(drain(&mut lanes, "a", 0, now).0, [3]);
    assert_eq!(drain(&mut lanes, "b", 0, now).0, [4]);
    // Without anything before it, it is like all else.
    assert!(lanes.outrank(&lane("a"), 13, 0, now).unwrap().begins && !lanes.hurries(&lane("a")));
}

#[test]
fn what_ends_something_lasts() {
    let told = |control| Kind::of(&Deed::Listener { listener: ListenerName::default(), control });
    for control in [
        Control::PushToTalk { held: Some(false) },
        Control::Mute { on: None },
        Control::Mode { mode: Mode::Open },
        Control::Stop,
    ] {
        assert_eq!(told(control), Kind::Lasting);
    }
    for held in [None, Some(true)] {
        assert_eq!(told(Control::PushToTalk { held }), Kind::Press);
    }
    assert_eq!(told(Control::Say { text: "x".to_owned() }), Kind::Press);
    let midi = |json: &str| Kind::of(&Deed::Midi(serde_json::from_str(json).unwrap()));
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
        assert_eq!(midi(json), Kind::Lasting, "{json}");
    }
    assert_eq!(midi(r#"{"note":"C4"}"#), Kind::Press);
    for json in [r#"{"cc":64,"value":1}"#, r#"{"program":3}"#, r#"{"all":[{"off":"C4"},{"note":"D4"}]}"#] {
        assert_eq!(midi(json), Kind::Value, "{json}");
    }
    let osc = |args: Vec<Arg>| {
        Kind::of(&Deed::Osc(osc::Out { target: "a".to_owned(), address: "/a".to_owned(), args, at: None }))
    };
    assert_eq!((osc(vec![Arg::Float(0.0)]), osc(vec![Arg::Int(1)])), (Kind::Lasting, Kind::Value));
    assert_eq!(osc(vec![]), Kind::Value);
}

proptest! {
    #[test]
    fn nothing_that_lasts_is_lost_or_overtaken(steps in prop::collection::vec((0_u8..6, 0_u64..900), 1..200)) {
        let (mut lanes, mut now, mut stops) = (Lanes::default(), Instant::now(), 0);
        let (mut put, mut done, mut late, mut lasting) = (0, Vec::new(), Vec::new(), Vec::new());
        for (step, wait) in steps {
            now += Duration::from_millis(wait);
            match step {
                0..=2 => {
                    let kind = [Kind::Press, Kind::Value, Kind::Lasting][usize::from(step)];
                    lanes.put(&lane("a"), put, kind, stops, now).unwrap();
                    if kind == Kind::Lasting {
                        lasting.push(put);
                    }
                    put += 1;
                }
                3 => stops += 1,
                _ => {
                    let turn = lanes.next(&lane("a"), stops, now);
                    late.extend(turn.late);
                    done.extend(turn.next.map(|(what, _)| what));
                }
            }
        }
        let (rest, rest_late) = drain(&mut lanes, "a", stops, now);
        done.extend(rest);
        late.extend(rest_late);
        prop_assert!(done.is_sorted() && lanes.0.is_empty());
        prop_assert!(lasting.iter().all(|what| done.contains(what)));
        prop_assert!(late.iter().all(|what| !done.contains(what) && !lasting.contains(what)));
    }
}
