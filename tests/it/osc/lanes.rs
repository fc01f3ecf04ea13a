//! Listeners that do not answer, and what waits for them meanwhile.

use futures::StreamExt as _;
use sidetone::bus::message::voice::Control;
use sidetone::bus::subject;
use sidetone::osc::OscType;
use sidetone::osc::time::IMMEDIATELY;

use crate::support::booth::Booth;
use crate::support::host::HostSpec;
use crate::support::nats::{Nats, within};
use crate::support::osc::{OscHost, Surface, bundle, first_text, message, text};

const SILENT: &str = "/assistant/booth/silent";

fn to(verb: &str) -> String {
    format!("{SILENT}/{verb}")
}

fn say(text: &str) -> Control {
    Control::Say { text: text.to_owned() }
}

const MUTE: Control = Control::Mute { on: Some(true) };
const HELD: Control = Control::PushToTalk { held: Some(true) };
const RELEASED: Control = Control::PushToTalk { held: Some(false) };

async fn setting(settings: &str) -> Option<(Nats, OscHost, Surface, Booth, Booth)> {
    let nats = Nats::start().await?;
    let (silent, quick) = (Booth::new(&nats, "silent").await, Booth::new(&nats, "quick").await);
    let settings = format!("[osc]\nlisteners = [\"booth/quick\", \"booth/silent\"]\n{settings}");
    let host = OscHost::with(HostSpec::new("stage", "osc").on(&nats.url()), &settings, &[]).await;
    let surface = host.surface();
    Some((nats, host, surface, silent, quick))
}

/// What has gone wrong up to now. That the silent listener does not answer is among it once the host no longer waits.
fn errors(surface: &Surface) -> Vec<String> {
    let seen = surface.settle();
    seen.iter().filter(|message| message.addr == "/assistant/error").map(|message| first_text(&message.args)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_does_not_answer_holds_up_no_other() {
    let Some((_nats, _host, surface, mut silent, mut quick)) = setting("").await else { return };
    surface.send(&to("ptt"), &[OscType::Int(1)]);
    assert_eq!(silent.next().await, HELD);
    for number in 1..=3 {
        let number = number.to_string();
        surface.send("/assistant/say", &[text(&number)]);
        assert_eq!(quick.answer().await, say(&number));
    }
    // What silences goes to all of them, side by side.
    surface.send("/assistant/mute", &[OscType::Int(1)]);
    assert_eq!(quick.answer().await, MUTE);
    assert_eq!(errors(&surface), [""; 0], "the other was waited for");
}

#[tokio::test(flavor = "multi_thread")]
async fn presses_that_are_too_late_are_left_out_and_told_and_releases_are_not() {
    let Some((_nats, _host, surface, mut silent, _quick)) = setting("").await else { return };
    surface.send(&to("ptt"), &[OscType::Int(1)]);
    assert_eq!(silent.next().await, HELD);
    surface.send(&to("say"), &[text("too late")]);
    surface.send(&to("ptt"), &[OscType::Int(0)]);
    surface.send(&to("mode"), &[text("open")]);
    // It is given up.
    assert_eq!(silent.answer().await, RELEASED);
    assert!(matches!(silent.answer().await, Control::Mode { .. }));
    let is_late = |args: &[OscType]| first_text(args).contains("the listener booth/silent has not answered");
    surface.until_that("/assistant/error", is_late);
    // Whoever answers again is told at once.
    surface.send(&to("say"), &[text("in time")]);
    assert_eq!(silent.answer().await, say("in time"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_throws_away_the_presses_that_wait_and_nothing_that_would_hang() {
    let Some((_nats, host, surface, mut silent, _quick)) = setting("").await else { return };
    let mut stops = host.host.bus().subscribe::<sidetone::bus::message::node::Stop>(subject::STOP).await.unwrap();
    surface.send(&to("ptt"), &[OscType::Int(1)]);
    assert_eq!(silent.next().await, HELD);
    surface.send(&to("say"), &[text("never")]);
    surface.send(&to("mute"), &[OscType::Int(1)]);
    surface.send("/assistant/stop", &[]);
    // The stop waits for nobody, and neither does what is behind it.
    within(stops.next()).await.unwrap().1.unwrap();
    assert_eq!(silent.answer().await, MUTE);
    surface.send(&to("say"), &[text("after")]);
    assert_eq!(silent.answer().await, say("after"));
    assert_eq!(errors(&surface), [""; 0], "the stop has waited");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stop_of_a_listener_outranks_what_it_has_not_answered() {
    let Some((_nats, _host, surface, mut silent, _quick)) = setting("").await else { return };
    for waits_for in [HELD, MUTE] {
        let (verb, arg) = if waits_for == HELD { ("ptt", 1) } else { ("mute", 1) };
        surface.send(&to(verb), &[OscType::Int(arg)]);
        assert_eq!(silent.next().await, waits_for);
        surface.send(&to("say"), &[text("never")]);
        surface.send(&to("ptt"), &[OscType::Int(0)]);
        surface.send(&to("stop"), &[]);
        surface.send(&to("say"), &[text("after")]);
        assert_eq!(silent.answer().await, Control::Stop);
        assert_eq!(silent.answer().await, RELEASED);
        assert_eq!(silent.answer().await, say("after"));
    }
    assert_eq!(errors(&surface), [""; 0], "the stop has waited");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_lane_is_told() {
    let Some((_nats, _host, surface, mut silent, mut quick)) = setting("").await else { return };
    let mute = message(&to("mute"), &[OscType::Int(1)]);
    surface.send_raw(&mute);
    assert_eq!(silent.next().await, MUTE);
    for _ in 0..4 {
        surface.send_raw(&bundle(IMMEDIATELY, &vec![mute.clone(); 64]));
        // What comes after them is done: they are in their lane.
        surface.send("/assistant/say", &[text("in between")]);
        assert_eq!(quick.answer().await, say("in between"));
    }
    assert_eq!(errors(&surface), [""; 0]);
    surface.send_raw(&mute);
    let why = first_text(&surface.until("/assistant/error"));
    assert!(why.contains("256 effects wait for the listener booth/silent already"), "{why}");
    // There is room in the others.
    surface.send("/assistant/say", &[text("hello")]);
    assert_eq!(quick.answer().await, say("hello"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_bar_goes_to_the_same_listener_in_its_order() {
    let on =
        |address: &str, action: &str, on: &str| format!("[[osc.on]]\naddress = \"{address}\"\ndo = {action}\n{on}\n");
    let bar = "on = \"bar\"";
    let settings = [
        on("/later/hold", "{ push_to_talk = { held = true } }", bar),
        on("/later/release", "{ push_to_talk = { held = false } }", bar),
        on("/later/mute", "{ mute = { on = true } }", bar),
        on("/now", "{ say = { text = \"now\" } }", ""),
    ];
    let settings = format!("{}[midi]\nbpm = 80.0\n", settings.concat());
    let Some((_nats, _host, surface, mut silent, mut quick)) = setting(&settings).await else { return };
    let all = ["/later/hold", "/later/mute", "/later/release", "/now"].map(|address| message(address, &[]));
    surface.send_raw(&bundle(IMMEDIATELY, &all));
    for told in [say("now"), HELD, MUTE, RELEASED] {
        assert_eq!(quick.answer().await, told);
    }
    // What silences is for all, then as now.
    assert_eq!(silent.answer().await, MUTE);
    assert_eq!(errors(&surface), [""; 0]);
}
