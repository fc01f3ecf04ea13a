use proptest::prelude::*;

use super::super::message::strategy::message;
use super::*;

const MS: u64 = 1_000;

fn row(control: ControlKind, number: &str, when: When) -> TriggerRow {
    TriggerRow {
        port: None,
        channel: None,
        control,
        number: SpanText::Text(number.to_owned()).try_into().unwrap(),
        value: Span::ANY,
        when,
        long_us: 500 * MS,
        double_us: 300 * MS,
    }
}

fn on(note: u8) -> Message {
    Message::NoteOn { channel: 1, note, velocity: 100 }
}

fn off(note: u8) -> Message {
    Message::NoteOff { channel: 1, note, velocity: 64 }
}

/// Feeds events (time in ms) and polls at every time that was asked for; gives (row, on, time in ms).
fn play(rows: Vec<TriggerRow>, events: &[(u64, Message)]) -> Vec<(usize, bool, u64)> {
    let mut triggers = Triggers::new(rows);
    let mut out = Vec::new();
    for (at, message) in events {
        while let Some(due) = triggers.next_us().filter(|due| *due <= at * MS) {
            out.extend(triggers.poll(due));
        }
        out.extend(triggers.feed(0, message, at * MS));
    }
    while let Some(due) = triggers.next_us() {
        out.extend(triggers.poll(due));
    }
    out.into_iter().map(|fired| (fired.row, fired.on, fired.at_us / MS)).collect()
}

#[test]
fn a_press_fires_at_once_when_nothing_else_can_come() {
    let rows = vec![row(ControlKind::Note, "60", When::Press), row(ControlKind::Note, "C3..C5", When::Toggle)];
    let events = [(0, on(60)), (10, off(60)), (20, on(60)), (30, on(62)), (40, on(90))];
    assert_eq!(play(rows, &events), [(0, true, 0), (1, true, 0), (0, true, 20), (1, false, 20), (1, true, 30)]);
}

#[test]
fn held_is_on_and_off() {
    let rows = vec![row(ControlKind::Cc, "64", When::Held)];
    let cc = |value| Message::Control { channel: 1, controller: 64, value };
    let events = [(0, cc(127)), (5, cc(100)), (10, cc(63)), (15, cc(0)), (20, cc(64))];
    assert_eq!(play(rows, &events), [(0, true, 0), (0, false, 10), (0, true, 20)]);
}

#[test]
fn long_double_and_plain_presses_are_told_apart() {
    let rows = || {
        vec![
            row(ControlKind::Note, "60", When::Press),
            row(ControlKind::Note, "60", When::Long),
            row(ControlKind::Note, "60", When::Double),
        ]
    };
    assert_eq!(play(rows(), &[(0, on(60)), (100, off(60))]), [(0, true, 300)], "no second one came");
    assert_eq!(play(rows(), &[(0, on(60)), (900, off(60))]), [(1, true, 500)]);
    assert_eq!(play(rows(), &[(0, on(60)), (50, off(60)), (100, on(60)), (150, off(60))]), [(2, true, 100)]);
    assert_eq!(
        play(rows(), &[(0, on(60)), (400, off(60))]),
        [(0, true, 400)],
        "too long for a double, too short for long"
    );
    let twice = [(0, on(60)), (50, off(60)), (350, on(60)), (400, off(60))];
    assert_eq!(play(rows(), &twice), [(0, true, 300), (0, true, 650)], "too far apart");
}

#[test]
fn a_long_press_alone_leaves_the_press_to_its_end() {
    let rows = vec![row(ControlKind::Note, "60", When::Press), row(ControlKind::Note, "60", When::Long)];
    assert_eq!(play(rows.clone(), &[(0, on(60)), (100, off(60))]), [(0, true, 100)]);
    assert_eq!(play(rows, &[(0, on(60)), (600, off(60))]), [(1, true, 500)]);
}

#[test]
fn a_device_that_goes_lets_everything_go() {
    let mut triggers =
        Triggers::new(vec![row(ControlKind::Note, "any", When::Held), row(ControlKind::Note, "any", When::Long)]);
    triggers.feed(0, &on(60), 0);
    triggers.feed(1, &on(61), 0);
    let fired = triggers.release(0, 5);
    assert_eq!(fired.iter().map(|f| (f.row, f.key.number, f.on)).collect::<Vec<_>>(), [(0, 60, false)]);
    assert_eq!(triggers.next_us(), Some(500 * MS), "the other port's key is still down");
}

#[test]
fn ranges_channels_and_ports_choose() {
    let mut wanted = row(ControlKind::Cc, "20..27", When::Change);
    wanted.channel = Some(3);
    wanted.port = Some(1);
    wanted.value = Span { from: 10, to: 20 };
    let mut triggers = Triggers::new(vec![wanted]);
    let mut cc = |port, channel, controller, value| {
        triggers.feed(port, &Message::Control { channel, controller, value }, 0).first().map(|fired| fired.value)
    };
    assert_eq!(cc(1, 3, 20, 15), Some(15));
    assert_eq!(cc(0, 3, 20, 15), None);
    assert_eq!(cc(1, 2, 20, 15), None);
    assert_eq!(cc(1, 3, 28, 15), None);
    assert_eq!(cc(1, 3, 27, 21), None);
}

#[test]
fn a_parameter_is_a_control() {
    let mut triggers = Triggers::new(vec![row(ControlKind::Nrpn, "300", When::Change)]);
    let values: Vec<_> = super::super::controller::parameter(5, false, 300, 9_000)
        .iter()
        .flat_map(|message| triggers.feed(0, message, 0))
        .map(|fired| (fired.key.channel, fired.value))
        .collect();
    assert_eq!(values.last(), Some(&(5, 9_000)));
}

#[test]
fn spans_are_written_as_people_do() {
    let span = |text: &str| serde_json::from_str::<Span>(text).map_err(|e| e.to_string());
    assert_eq!(span("60"), Ok(Span { from: 60, to: 60 }));
    assert_eq!(span("\"C3..B3\""), Ok(Span { from: 48, to: 59 }));
    assert_eq!(span("\"any\""), Ok(Span::ANY));
    assert_eq!(serde_json::to_string(&Span { from: 48, to: 59 }).unwrap(), "\"48..59\"");
    assert!(span("\"B3..C3\"").unwrap_err().contains("ends before it begins"));
    assert!(span("\"H3\"").unwrap_err().contains("neither a number"));
}

proptest! {
    /// Held rows go on and off in turn, for each control, whatever comes; and after the port has gone none is on.
    #[test]
    fn held_rows_alternate(events in prop::collection::vec((0..400_000u64, 0..2usize, message()), 0..200)) {
        let whens = [When::Held, When::Long, When::Double, When::Press, When::Toggle, When::Release];
        let rows: Vec<_> = whens
            .iter()
            .flat_map(|when| [row(ControlKind::Note, "any", *when), row(ControlKind::Cc, "0..95", *when)])
            .collect();
        let mut triggers = Triggers::new(rows.clone());
        let mut down = std::collections::BTreeSet::new();
        let mut now = 0;
        let mut check = |fired: Vec<Fired>| {
            for fired in fired {
                if rows[fired.row].when == When::Held {
                    let changed = if fired.on { down.insert((fired.row, fired.key)) } else { down.remove(&(fired.row, fired.key)) };
                    assert!(changed, "{fired:?} twice in a row");
                }
            }
            down.len()
        };
        for (step, port, message) in events {
            now += step;
            check(triggers.feed(port, &message, now));
            prop_assert!(triggers.next_us().is_none_or(|next| next > now));
        }
        check(triggers.release(0, now));
        prop_assert_eq!(check(triggers.release(1, now)), 0);
        prop_assert_eq!(triggers.next_us(), None);
    }
}
