//! A host that speaks is killed in the middle of a sentence.

use sidetone::bus::message::voice::{Control, TurnState};

use super::{Events, host};
use crate::support::host::{FAKES, Follow, HostSpec};
use crate::support::jack::{self, JackServer};
use crate::support::nats::Nats;
use crate::support::studio::{RATE_HZ, Studio};

/// Stretches over which it is decided whether something sounds.
const WINDOW_MS: usize = 10;

#[tokio::test(flavor = "multi_thread")]
async fn a_sentence_goes_on_where_its_speaker_was_killed() {
    if !jack::available() {
        return;
    }
    let Some(nats) = Nats::start().await else { return };
    let jack = JackServer::start(48_000, 256);
    let slow = ["tts.voices=[\"slow:60\"]"];
    let mut hosts = [host(&nats, "a", "tts", &slow).await, host(&nats, "b", "tts", &slow).await];
    let spec = HostSpec::new("stage", "voice").set(FAKES).on(&nats.url());
    let stage = spec.listener(&jack, "mode = \"push_to_talk\"").start().await;
    let studio = Studio::open(&jack, 48_000);
    studio.connected().await;
    stage.has_audio().await;
    let mut follow = Follow::new(stage.bus()).await;
    let mut events = Events::new(stage.bus()).await;
    // 40 letters of 60 ms.
    let text = "abcdefghij abcdefghij abcdefghij abcdefghij.".to_owned();
    stage.control(Control::Say { text }).await.unwrap();
    let (_, routed) = events.routed("tts").await;
    studio.sounds().await;
    hosts.iter_mut().find(|host| host.spec.name == routed.host).unwrap().end(libc::SIGKILL);
    let (_, again) = events.routed("tts").await;
    assert!(again.host != routed.host && again.attempt == 2, "{again:?}");
    follow.state(TurnState::Speaking).await;
    assert_eq!(follow.state(TurnState::Idle).await.why, "answered");
    studio.silent_for(200).await;
    let heard = studio.take_heard();
    let windows = heard.chunks(RATE_HZ as usize * WINDOW_MS / 1_000);
    let sounding = windows.filter(|window| window.iter().any(|sample| sample.abs() > 0.1)).count() * WINDOW_MS;
    // Neither a part that sounds twice nor one that is left out: both would be 100 ms, a chunk, or more.
    assert!(sounding.abs_diff(40 * 60) < 80, "{sounding} ms were heard of {} ms", 40 * 60);
}
