use proptest::prelude::*;

use super::*;

fn to(name: &str) -> Destination {
    Destination::Listener(name.to_owned())
}

fn put(
    outboxes: &mut Outboxes<u32>,
    name: &str,
    what: u32,
    urgency: Urgency,
    now: Instant,
) -> Result<Put<u32>, LeftOut<u32>> {
    outboxes.put(&to(name), what, urgency, 0, now)
}

/// All that is done from an outbox, and what was too late.
fn drain(outboxes: &mut Outboxes<u32>, name: &str, stops: u64, now: Instant) -> (Vec<u32>, Vec<u32>) {
    let (mut done, mut late) = (Vec::new(), Vec::new());
    loop {
        let next = outboxes.next(&to(name), stops, now);
        late.extend(next.late);
        match next.next {
            Some((what, _)) => done.push(what),
            None => return (done, late),
        }
    }
}

#[test]
fn an_outbox_goes_in_order_and_holds_up_no_other() {
    let (mut outboxes, now) = (Outboxes::default(), Instant::now());
    let begins = |put: Result<Put<u32>, LeftOut<u32>>| put.unwrap().begins;
    assert!(begins(put(&mut outboxes, "silent", 1, Urgency::Press, now)));
    assert_eq!(outboxes.next(&to("silent"), 0, now).next, Some((1, Urgency::Press)));
    // It is under way, and the next waits; the other listener's begins.
    assert!(!begins(put(&mut outboxes, "silent", 2, Urgency::Lasting, now)));
    assert!(begins(put(&mut outboxes, "quick", 3, Urgency::Press, now)));
    assert_eq!(drain(&mut outboxes, "quick", 0, now).0, [3]);
    assert_eq!(drain(&mut outboxes, "silent", 0, now).0, [2]);
    // An outbox that is empty takes no place.
    assert!(outboxes.0.is_empty());
    assert!(begins(put(&mut outboxes, "silent", 4, Urgency::Press, now)));
}

#[test]
fn presses_grow_too_old_and_nothing_else_does() {
    let (mut outboxes, now) = (Outboxes::default(), Instant::now());
    for (what, kind) in [(1, Urgency::Press), (2, Urgency::Lasting), (3, Urgency::Value), (4, Urgency::Press)] {
        put(&mut outboxes, "a", what, kind, now).unwrap();
    }
    put(&mut outboxes, "a", 5, Urgency::Press, now + FRESH).unwrap();
    assert_eq!(drain(&mut outboxes, "a", 0, now + FRESH + FRESH / 2), (vec![2, 3, 5], vec![1, 4]));
}

#[test]
fn a_stop_cancels_all_that_would_not_hang() {
    let (mut outboxes, now) = (Outboxes::default(), Instant::now());
    for (what, kind) in [(1, Urgency::Press), (2, Urgency::Value), (3, Urgency::Lasting)] {
        put(&mut outboxes, "a", what, kind, now).unwrap();
    }
    // What comes after the stop is done.
    outboxes.put(&to("a"), 4, Urgency::Press, 1, now).unwrap();
    assert_eq!(drain(&mut outboxes, "a", 1, now), (vec![3, 4], vec![]));
}

#[test]
fn what_a_stop_has_cancelled_takes_no_room() {
    let (mut outboxes, now) = (Outboxes::default(), Instant::now());
    for what in 0..WAITING {
        put(&mut outboxes, "a", u32::try_from(what).unwrap(), Urgency::Value, now).unwrap();
    }
    assert!(put(&mut outboxes, "a", 999, Urgency::Value, now).is_err());
    outboxes.put(&to("a"), 1_000, Urgency::Value, 1, now).unwrap();
    assert_eq!(drain(&mut outboxes, "a", 1, now).0, [1_000]);
}

#[test]
fn a_full_outbox_says_so_and_a_release_takes_the_place_of_a_press() {
    let (mut outboxes, now) = (Outboxes::default(), Instant::now());
    put(&mut outboxes, "a", 0, Urgency::Lasting, now).unwrap();
    put(&mut outboxes, "a", 1, Urgency::Press, now).unwrap();
    for what in 2..WAITING {
        put(&mut outboxes, "a", u32::try_from(what).unwrap(), Urgency::Lasting, now).unwrap();
    }
    let full = put(&mut outboxes, "a", 300, Urgency::Press, now).unwrap_err();
    assert!(full.what == 300 && full.why.contains("256 effects wait for the listener a already"), "{full:?}");
    assert_eq!(put(&mut outboxes, "a", 301, Urgency::Lasting, now).unwrap().instead, Some(1));
    assert_eq!(put(&mut outboxes, "a", 302, Urgency::Lasting, now).unwrap_err().what, 302);
    assert_eq!(drain(&mut outboxes, "a", 0, now).0.len(), WAITING);
}

#[test]
fn outboxes_are_bounded_by_those_that_are_busy() {
    let (mut outboxes, now) = (Outboxes::default(), Instant::now());
    for number in 0..OUTBOXES {
        put(&mut outboxes, &number.to_string(), 0, Urgency::Lasting, now).unwrap();
    }
    let full = put(&mut outboxes, "one more", 7, Urgency::Lasting, now).unwrap_err();
    assert!(full.why.contains("64 listeners") && full.why.contains("the listener one more"), "{full:?}");
    drain(&mut outboxes, "3", 0, now);
    put(&mut outboxes, "one more", 7, Urgency::Lasting, now).unwrap();
}

#[test]
fn a_stop_of_one_listener_is_its_next_and_is_asked_for_once() {
    let (mut outboxes, now) = (Outboxes::default(), Instant::now());
    put(&mut outboxes, "a", 1, Urgency::Lasting, now).unwrap();
    outboxes.next(&to("a"), 0, now);
    put(&mut outboxes, "a", 2, Urgency::Press, now).unwrap();
    put(&mut outboxes, "a", 3, Urgency::Lasting, now).unwrap();
    put(&mut outboxes, "b", 4, Urgency::Press, now).unwrap();
    assert!(!outboxes.hurries(&to("a")));
    assert!(!outboxes.outrank(&to("a"), 10, 0, now).unwrap().begins);
    assert!(outboxes.hurries(&to("a")) && !outboxes.hurries(&to("b")));
    outboxes.outrank(&to("a"), 11, 0, now).unwrap();
    put(&mut outboxes, "a", 5, Urgency::Press, now).unwrap();
    assert_eq!(outboxes.next(&to("a"), 0, now).next, Some((10, Urgency::Lasting)));
    // While it is under way, what has come since is thrown away by another, which need not be sent.
    assert!(!outboxes.hurries(&to("a")));
    outboxes.outrank(&to("a"), 12, 0, now).unwrap();
    assert!(!outboxes.hurries(&to("a")));
    assert_eq!(drain(&mut outboxes, "a", 0, now).0, [3]);
    assert_eq!(drain(&mut outboxes, "b", 0, now).0, [4]);
    // Without anything before it, it is like all else.
    assert!(outboxes.outrank(&to("a"), 13, 0, now).unwrap().begins && !outboxes.hurries(&to("a")));
}

proptest! {
    #[test]
    fn nothing_that_lasts_is_lost_or_overtaken(steps in prop::collection::vec((0_u8..6, 0_u64..900), 1..200)) {
        let (mut outboxes, mut now, mut stops) = (Outboxes::default(), Instant::now(), 0);
        let (mut put, mut done, mut late, mut lasting) = (0, Vec::new(), Vec::new(), Vec::new());
        for (step, wait) in steps {
            now += Duration::from_millis(wait);
            match step {
                0..=2 => {
                    let kind = [Urgency::Press, Urgency::Value, Urgency::Lasting][usize::from(step)];
                    outboxes.put(&to("a"), put, kind, stops, now).unwrap();
                    if kind == Urgency::Lasting {
                        lasting.push(put);
                    }
                    put += 1;
                }
                3 => stops += 1,
                _ => {
                    let next = outboxes.next(&to("a"), stops, now);
                    late.extend(next.late);
                    done.extend(next.next.map(|(what, _)| what));
                }
            }
        }
        let (rest, rest_late) = drain(&mut outboxes, "a", stops, now);
        done.extend(rest);
        late.extend(rest_late);
        prop_assert!(done.is_sorted() && outboxes.0.is_empty());
        prop_assert!(lasting.iter().all(|what| done.contains(what)));
        prop_assert!(late.iter().all(|what| !done.contains(what) && !lasting.contains(what)));
    }
}
