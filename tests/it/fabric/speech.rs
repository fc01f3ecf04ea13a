//! A host that speaks is killed in the middle of a sentence.

use std::f32::consts::TAU;
use std::time::Duration;

use futures::StreamExt as _;
use sidetone::bus::message::node::{NodeInfo, Offer};
use sidetone::bus::message::tts::{Chunk, Stream};
use sidetone::bus::message::voice::{Control, TurnState};
use sidetone::bus::registry::Claim;
use sidetone::bus::service::{Incoming, ServiceSpec};
use sidetone::bus::subject::Capability;
use sidetone::sound::to_wire;
use tokio_util::sync::CancellationToken;

use super::{Events, host};
use crate::support::host::{FAKES, Follow, HostSpec};
use crate::support::jack::{self, JackServer};
use crate::support::nats::{Nats, within};
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
    stage.control(Control::Say { text: text.clone() }).await.unwrap();
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
    let missed = studio.missed_ms();
    assert!(
        sounding.abs_diff(40 * 60) < 80 + missed,
        "{sounding} ms were heard of {} ms, JACK missed {missed}",
        40 * 60
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_that_come_late_from_another_host_leave_no_gap() {
    if !jack::available() {
        return;
    }
    let Some(nats) = Nats::start().await else { return };
    // A host that speaks a second of tone. Its second chunk is held up for longer than the first one sounds.
    let far = nats.host("far").await;
    let spec = ServiceSpec {
        capability: Capability::Tts,
        about: "a stub",
        engine: String::new(),
        models: Vec::new(),
        slots: 2,
    };
    let speaks = within(far.service(spec)).await.unwrap();
    let speak = |incoming: Incoming<Stream>| async move {
        let chunk = |n: usize| {
            let tone: Vec<f32> =
                (0..3_200).map(|at| 0.5 * (TAU * 400.0 * (n * 3_200 + at) as f32 / 16_000.0).sin()).collect();
            Chunk { pcm: to_wire(&tone, 16_000), done: None }
        };
        incoming.replies.send(&chunk(0)).await?;
        tokio::time::sleep(Duration::from_millis(300)).await;
        for n in 1..4 {
            incoming.replies.send(&chunk(n)).await?;
        }
        Ok(chunk(4))
    };
    speaks.serve(speak).await.unwrap();
    within(speaks.ready()).await.unwrap();
    let offers = vec![Offer { role: "tts".to_owned(), models: vec!["echo".to_owned()], slots: 2, ..Offer::default() }];
    let info = NodeInfo { node: "far".to_owned(), instance: "far".to_owned(), offers, ..NodeInfo::default() };
    let claim = within(Claim::make(&far, &info)).await.unwrap();
    let keep = claim.keep(move || info.clone(), futures::stream::pending().boxed(), CancellationToken::new());
    let _entry = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(async move { keep.await.unwrap() }));

    let jack = JackServer::start(48_000, 256);
    let spec = HostSpec::new("stage", "voice").set(FAKES).on(&nats.url());
    let stage = spec.listener(&jack, "mode = \"push_to_talk\"").start().await;
    let studio = Studio::open(&jack, 48_000);
    studio.connected().await;
    stage.has_audio().await;
    let mut follow = Follow::new(stage.bus()).await;
    stage.control(Control::Say { text: "hello".to_owned() }).await.unwrap();
    studio.sounds().await;
    assert_eq!(follow.state(TurnState::Idle).await.why, "answered");
    studio.silent_for(200).await;
    let heard = studio.take_heard();
    let sounds = |window: &[f32]| window.iter().any(|sample| sample.abs() > 0.1);
    let windows: Vec<bool> = heard.chunks(RATE_HZ as usize * WINDOW_MS / 1_000).map(sounds).collect();
    let first = windows.iter().position(|sounds| *sounds).unwrap();
    let last = windows.iter().rposition(|sounds| *sounds).unwrap();
    let silent_ms = windows[first..=last].iter().filter(|sounds| !**sounds).count() * WINDOW_MS;
    let missed = studio.missed_ms();
    assert!(
        silent_ms < 50 + missed,
        "a gap of {silent_ms} ms within {} ms, JACK missed {missed}",
        (last - first) * WINDOW_MS
    );
}
