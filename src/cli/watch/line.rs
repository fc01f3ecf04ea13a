//! An event as a line for people. Pure: the time, the time zone and the terminal are given.
//!
//! ```text
//! 10:27:03.120  studio/main     Q6T2B0  · listening (wake phrase "Computer")
//! 10:27:04.310  studio/main     Q6T2B0  → heard: What time is it? (1.2 s)
//! ```

use console::{Style, measure_text_width, truncate_str};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::event::Event;
use crate::bus::message::node::{NodeInfo, Routed};
use crate::bus::message::session::{SessionEvent, Times, What};
use crate::bus::message::voice::{State, TurnState};

const PLACE_WIDTH: usize = 16;
/// The end of a ULID is random: six characters tell the turns of an evening apart.
const TURN_CHARS: usize = 6;
/// Columns that a text needs beside the first columns; with less it begins on a line of its own.
const TEXT_WIDTH_MIN: usize = 24;
/// Lines that one text may take on a terminal.
const LINES_MAX: usize = 8;

/// How events are shown.
#[derive(Debug, Clone)]
pub(super) struct LineView {
    /// The reader's time zone.
    pub(super) zone: TimeZone,
    /// Columns of the terminal; `None`: each event is one line, as long as it may be.
    pub(super) width: Option<usize>,
    /// Whether colours are wanted.
    pub(super) colour: bool,
}

/// What stands in a line.
struct LineParts<'a> {
    /// When, in RFC 3339; absent: now.
    at: Option<&'a str>,
    place: String,
    turn: Option<&'a str>,
    /// What happened, in a word or two after a sign.
    head: String,
    text: String,
    style: Style,
}

/// The line of `event`, which may be several on a terminal; without the last line break.
pub(super) fn line(event: &Event, now: Timestamp, view: &LineView) -> String {
    let parts = parts(event);
    let at = parts.at.and_then(|at| at.parse().ok()).unwrap_or(now);
    let place = truncate_str(&clean(&parts.place), PLACE_WIDTH, "…").into_owned();
    let turn = clean(parts.turn.unwrap_or_default());
    let turn: String = turn.chars().skip(turn.chars().count().saturating_sub(TURN_CHARS)).collect();
    let columns = [
        (time(at, now, &view.zone), 12, Style::new().dim()),
        (place, PLACE_WIDTH, Style::new().cyan()),
        (turn, TURN_CHARS, Style::new().dim()),
    ];
    let mut out = String::new();
    let mut at = 0;
    for (text, width, style) in columns {
        let used = measure_text_width(&text);
        out += &paint(view, &style, &text);
        out += &" ".repeat(width.saturating_sub(used) + 2);
        at += width.max(used) + 2;
    }
    let head = clean(&parts.head);
    let text = clean(&parts.text);
    let Some(width) = view.width else {
        return (out + &paint(view, &parts.style, &head) + " " + &text).trim_end().to_owned();
    };
    let fits = width >= at + TEXT_WIDTH_MIN;
    let indent = if fits { at } else { 4 };
    if !fits {
        out.truncate(out.trim_end().len());
        out += &format!("\n{}", " ".repeat(indent));
    }
    let gap = " ".repeat(measure_text_width(&head) + 1);
    let options =
        textwrap::Options::new(width.saturating_sub(indent).max(1)).initial_indent(&gap).subsequent_indent("  ");
    let mut lines: Vec<_> = textwrap::wrap(&text, options).into_iter().map(|line| line.into_owned()).collect();
    if lines.len() > LINES_MAX {
        lines.truncate(LINES_MAX);
        if let Some(last) = lines.last_mut() {
            *last =
                truncate_str(&format!("{last}    "), width.saturating_sub(indent).max(2) - 1, "").trim_end().to_owned()
                    + "…";
        }
    }
    out += &paint(view, &parts.style, &head);
    for (number, line) in lines.iter().enumerate() {
        if number == 0 {
            out += " ";
            out += line.trim_start();
        } else {
            out += &format!("\n{}{line}", " ".repeat(indent));
        }
    }
    out.trim_end().to_owned()
}

fn paint(view: &LineView, style: &Style, text: &str) -> String {
    if text.is_empty() {
        return String::new();
    }
    style.clone().force_styling(view.colour).apply_to(text).to_string()
}

/// The time of day; with the date if it is another day's.
fn time(at: Timestamp, now: Timestamp, zone: &TimeZone) -> String {
    let (at, now) = (at.to_zoned_datetime(zone.clone()), now.to_zoned_datetime(zone.clone()));
    let format = if at.date() == now.date() { "%H:%M:%S%.3f" } else { "%Y-%m-%d %H:%M:%S%.3f" };
    at.strftime(format).to_string()
}

/// On one line, and nothing in it that a terminal obeys.
fn clean(text: &str) -> String {
    let words: Vec<_> = text.split_whitespace().collect();
    words.join(" ").replace(char::is_control, "\u{fffd}")
}

fn parts(event: &Event) -> LineParts<'_> {
    let plain = |place: String, head: &str, text: String, style: Style| LineParts {
        at: None,
        place,
        turn: None,
        head: head.to_owned(),
        text,
        style,
    };
    match event {
        Event::Session(event) => session(event),
        Event::State(state) => LineParts {
            at: Some(&state.at),
            place: format!("{}/{}", state.node, state.listener),
            turn: state.turn.as_deref(),
            head: head_of(state.state),
            text: condition(state),
            style: style_of(state.state),
        },
        Event::Up(info) => plain(info.node.clone(), "▲ up:", offers(info), Style::new().green()),
        Event::Down(info) => plain(info.node.clone(), "▼ down", String::new(), Style::new().yellow()),
        Event::Changed(info) => plain(info.node.clone(), "△ now offers:", offers(info), Style::new().green()),
        Event::Back(info) => plain(info.node.clone(), "▲ back:", offers(info), Style::new().green()),
        Event::Gone(info) => {
            let text = "gone without a word; its work goes to other hosts".to_owned();
            plain(info.node.clone(), "▼ lost:", text, Style::new().red().bold())
        }
        Event::Routed { node, routed } => self::routed(node, routed),
        Event::Fault { node, fault } => {
            plain(node.clone(), "✗ error:", fault.message.clone(), Style::new().red().bold())
        }
        Event::Unknown { subject, why } => {
            plain(String::new(), "? unreadable:", format!("{subject}: {why}"), Style::new().yellow())
        }
        Event::Lost => {
            let text = "the connection dropped; waiting for the server to come back".to_owned();
            plain(String::new(), "✗ bus:", text, Style::new().red())
        }
        Event::Watching { server } => {
            plain(String::new(), "✓ bus:", format!("watching {server}"), Style::new().green())
        }
    }
}

fn routed<'a>(node: &str, routed: &'a Routed) -> LineParts<'a> {
    let asked = match (routed.host.as_str(), routed.engine.as_str()) {
        ("", _) => "whoever takes it".to_owned(),
        (host, "") => host.to_owned(),
        (host, engine) => format!("{host}/{engine}"),
    };
    let (after, style) = match &routed.after {
        Some(after) => (format!("; try {}, as {after}", routed.attempt), Style::new().yellow()),
        None => (String::new(), Style::new().dim()),
    };
    LineParts {
        at: None,
        place: node.to_owned(),
        turn: routed.turn.as_deref(),
        head: format!("⇢ {}:", routed.capability),
        text: format!("{asked} ({}){after}", routed.reason),
        style,
    }
}

fn session(event: &SessionEvent) -> LineParts<'_> {
    let (listener, head, text, style) = match &event.what {
        What::Utterance { text, listener, audio_ms } => {
            let length = audio_ms.map(|ms| format!(" ({})", seconds(ms))).unwrap_or_default();
            let head = if listener.is_some() { "→ heard:" } else { "→ written:" };
            (listener.as_deref(), head.to_owned(), format!("{text}{length}"), Style::new().green())
        }
        What::Command { name, slots, .. } => {
            let slots: Vec<_> = slots.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
            (None, format!("▸ command {name}"), slots.join(" "), Style::new().magenta())
        }
        What::Reply { text, model } => {
            let model = model.as_ref().map(|model| format!(" ({model})")).unwrap_or_default();
            (None, "← said:".to_owned(), format!("{text}{model}"), Style::new().blue().bold())
        }
        What::State { listener, state, why } => {
            (Some(listener.as_str()), head_of(*state), bracketed(why), style_of(*state))
        }
        What::Times(times) => (None, "= times:".to_owned(), stages(times), Style::new().dim()),
        What::Error { code, message, stage } => {
            let name = serde_json::to_value(code).ok().and_then(|name| name.as_str().map(str::to_owned));
            let name = name.map(|name| format!(" ({})", name.replace('_', " "))).unwrap_or_default();
            (None, format!("✗ error {stage}:"), format!("{message}{name}"), Style::new().red().bold())
        }
    };
    let place = listener.map_or_else(|| event.node.clone(), |listener| format!("{}/{listener}", event.node));
    LineParts { at: Some(&event.at), place, turn: event.turn.as_deref(), head, text, style }
}

fn head_of(state: TurnState) -> String {
    format!("· {}", state.name().replace('_', " "))
}

fn style_of(state: TurnState) -> Style {
    match state {
        TurnState::Idle => Style::new().dim(),
        TurnState::WakeDetected | TurnState::Listening => Style::new().yellow(),
        TurnState::Processing | TurnState::Speaking => Style::new(),
    }
}

fn condition(state: &State) -> String {
    let mut text = bracketed(&state.why);
    if state.muted {
        text += " [muted]";
    }
    if !state.audio {
        text += " [no audio]";
    }
    text
}

fn bracketed(why: &str) -> String {
    if why.is_empty() { String::new() } else { format!("({why})") }
}

fn offers(info: &NodeInfo) -> String {
    if info.offers.is_empty() {
        return "nothing".to_owned();
    }
    let offers: Vec<_> = info
        .offers
        .iter()
        .map(|offer| {
            if offer.models.is_empty() {
                offer.role.clone()
            } else {
                format!("{} {}", offer.role, offer.models.join(" "))
            }
        })
        .collect();
    offers.join(", ")
}

/// The way from the last sample of speech to the first of the answer.
fn stages(times: &Times) -> String {
    format!(
        "{} from speech to speech = silence {} + stt {} + first sentence {} + first audio {} + playback {} ms; spoke for {}",
        seconds(times.total_ms),
        times.endpoint_ms,
        times.stt_ms,
        times.first_sentence_ms,
        times.first_audio_ms,
        times.first_sample_ms,
        seconds(times.spoken_ms),
    )
}

fn seconds(ms: u64) -> String {
    format!("{}.{} s", ms / 1_000, ms % 1_000 / 100)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::bus::message::Message as _;
    use crate::bus::message::fault::{Fault, FaultCode};

    fn now() -> Timestamp {
        "2026-11-24T12:00:00Z".parse().unwrap()
    }

    fn view(width: Option<usize>) -> LineView {
        LineView { zone: TimeZone::UTC, width, colour: false }
    }

    fn of_turn(what: What) -> Event {
        Event::Session(SessionEvent { what, ..SessionEvent::example() })
    }

    fn reply(text: &str) -> Event {
        of_turn(What::Reply { text: text.to_owned(), model: None })
    }

    #[test]
    fn a_turn_reads_as_a_story() {
        let times = Times {
            endpoint_ms: 500,
            stt_ms: 262,
            first_sentence_ms: 84,
            first_audio_ms: 190,
            first_sample_ms: 12,
            total_ms: 1_048,
            spoken_ms: 1_840,
        };
        let error = What::Error { code: FaultCode::NotFound, message: "no model".to_owned(), stage: "stt".to_owned() };
        let slots = [("text".to_owned(), "good evening".to_owned())].into();
        let story = [
            Event::State(State::example()),
            Event::Session(SessionEvent::example()),
            of_turn(What::Command { name: "say".to_owned(), slots, prompt: None }),
            reply("It is\n10:27 AM."),
            of_turn(What::Times(times)),
            of_turn(error),
            Event::State(State {
                muted: true,
                audio: false,
                why: String::new(),
                turn: None,
                state: TurnState::Idle,
                ..State::example()
            }),
            Event::Up(NodeInfo::example()),
            Event::Changed(NodeInfo { offers: Vec::new(), ..NodeInfo::example() }),
            Event::Gone(NodeInfo::example()),
            Event::Back(NodeInfo::example()),
            Event::Routed {
                node: "stage".to_owned(),
                routed: Routed {
                    host: String::new(),
                    reason: "nobody is known".to_owned(),
                    attempt: 1,
                    after: None,
                    ..Routed::example()
                },
            },
            Event::Routed { node: "stage".to_owned(), routed: Routed::example() },
            Event::Fault { node: "studio".to_owned(), fault: Fault::example() },
            Event::Lost,
        ];
        let lines: Vec<_> = story.iter().map(|event| line(event, now(), &view(None))).collect();
        assert_eq!(
            lines.join("\n"),
            "10:27:03.120  studio/main       F4D2B0  · listening (wake phrase \"Computer\")\n\
             10:27:04.310  studio/main       F4D2B0  → heard: What time is it? (1.2 s)\n\
             10:27:04.310  studio            F4D2B0  ▸ command say text=\"good evening\"\n\
             10:27:04.310  studio            F4D2B0  ← said: It is 10:27 AM.\n\
             10:27:04.310  studio            F4D2B0  = times: 1.0 s from speech to speech = silence 500 + stt 262 + first sentence 84 \
             + first audio 190 + playback 12 ms; spoke for 1.8 s\n\
             10:27:04.310  studio            F4D2B0  ✗ error stt: no model (not found)\n\
             10:27:03.120  studio/main               · idle [muted] [no audio]\n\
             12:00:00.000  studio                    ▲ up: stt whisper-tiny.en\n\
             12:00:00.000  studio                    △ now offers: nothing\n\
             12:00:00.000  studio                    ▼ lost: gone without a word; its work goes to other hosts\n\
             12:00:00.000  studio                    ▲ back: stt whisper-tiny.en\n\
             12:00:00.000  stage             F4D2B0  ⇢ stt: whoever takes it (nobody is known)\n\
             12:00:00.000  stage             F4D2B0  ⇢ stt: studio/whisper (lan, warm whisper-tiny.en, 0 of 2 busy); try 2, as nobody \
             offers stt.request.n.den\n\
             12:00:00.000  studio                    ✗ error: all 2 slots of stt on studio are taken: try again, or ask another host\n\
             12:00:00.000                            ✗ bus: the connection dropped; waiting for the server to come back"
        );
    }

    #[test]
    fn a_long_text_is_wrapped_under_itself_and_cut_in_the_end() {
        let event = reply("one two three four five six seven eight nine ten");
        assert_eq!(
            line(&event, now(), &view(Some(66))),
            "10:27:04.310  studio            F4D2B0  ← said: one two three four\n\
             \x20                                         five six seven eight\n\
             \x20                                         nine ten"
        );
        // Too narrow for columns: the text begins on a line of its own.
        assert_eq!(
            line(&event, now(), &view(Some(44))),
            "10:27:04.310  studio            F4D2B0\n    ← said: one two three four five six\n      seven eight nine ten"
        );
        let long = line(&reply(&"word ".repeat(1_000)), now(), &view(Some(80)));
        assert_eq!(long.lines().count(), LINES_MAX);
        assert!(long.ends_with('…'), "{long}");
    }

    #[test]
    fn colours_change_nothing_but_colours() {
        let event = Event::Session(SessionEvent::example());
        let coloured = line(&event, now(), &LineView { colour: true, ..view(Some(80)) });
        assert!(coloured.contains("\u{1b}["));
        assert_eq!(console::strip_ansi_codes(&coloured), line(&event, now(), &view(Some(80))));
    }

    #[test]
    fn the_time_is_the_readers() {
        let view = LineView { zone: TimeZone::fixed(jiff::tz::offset(-11)), ..view(None) };
        let text = line(&Event::Session(SessionEvent::example()), now(), &view);
        assert!(text.starts_with("2026-11-23 23:27:04.310  "), "{text}");
        let odd = SessionEvent { at: "yesterday".to_owned(), ..SessionEvent::example() };
        assert!(line(&Event::Session(odd), now(), &view).starts_with("01:00:00.000  "));
    }

    proptest! {
        #[test]
        fn nothing_controls_the_terminal_and_all_fits(text in "\\PC{0,40}[\\x00-\\x9f\u{4e00}-\u{4e20} ]{0,300}", width in 42usize..200) {
            let event = of_turn(What::Utterance { text: text.clone(), listener: Some(text), audio_ms: None });
            let one = line(&event, now(), &view(None));
            prop_assert!(!one.contains(char::is_control), "{one:?}");
            let many = line(&event, now(), &view(Some(width)));
            for part in many.lines() {
                prop_assert!(!part.contains(char::is_control), "{part:?}");
                prop_assert!(measure_text_width(part) <= width, "{part:?} in {width}");
            }
        }
    }
}
