//! Audio on its way to a worker.

use std::time::Duration;

use async_nats::Client;
use bytes::Bytes;
use futures::FutureExt as _;
use sidetone::bus::ingest::{CHUNKS, Ingest, MAX_CHUNK_BYTES};
use sidetone::bus::message::fault::{Fault, FaultCode};
use sidetone::bus::message::stt::{Started, Stream, StreamDone, StreamEvent};
use sidetone::bus::service::{Incoming, Server};
use sidetone::bus::subject::Target;
use sidetone::bus::{Bus, BusError};
use tokio::sync::mpsc;

use super::{LONG, call, code, serve, speak};
use crate::support::nats::{Nats, within};

fn started(ingest: &Ingest) -> StreamEvent {
    let ingest = ingest.subject().to_owned();
    StreamEvent::Started(Started { ingest, credit: CHUNKS, max_bytes: MAX_CHUNK_BYTES, ..Started::default() })
}

/// Serves `stt.stream` by giving each ingest away, and by waiting until it comes back with how it ended.
async fn serve_ingest(
    bus: &Bus,
    idle: Duration,
) -> (Server, mpsc::UnboundedReceiver<(Ingest, mpsc::UnboundedSender<Result<u64, Fault>>)>) {
    let (give, given) = mpsc::unbounded_channel();
    let host = bus.clone();
    let server = serve(bus, 4, move |incoming: Incoming<Stream>| {
        let (host, give) = (host.clone(), give.clone());
        async move {
            let ingest = host.ingest(idle).await.unwrap();
            incoming.replies.send(&started(&ingest)).await?;
            let (end, mut ends) = mpsc::unbounded_channel();
            give.send((ingest, end)).unwrap();
            let bytes = ends.recv().await.unwrap()?;
            Ok(StreamEvent::Done(StreamDone { audio_ms: bytes, ..StreamDone::default() }))
        }
    })
    .await;
    (server, given)
}

async fn read_all(ingest: &mut Ingest) -> Result<Vec<u8>, Fault> {
    let mut audio = Vec::new();
    while let Some(chunk) = within(ingest.next()).await {
        audio.extend_from_slice(&chunk?);
    }
    Ok(audio)
}

/// Publishes chunks by hand, without acknowledgements.
async fn publish(raw: &Client, ingest: &Ingest, chunks: &[(u64, usize)]) {
    for (number, bytes) in chunks {
        raw.publish(format!("{}.{number}", ingest.subject()), vec![1; *bytes].into()).await.unwrap();
    }
    // The server has them all when it has answered what came after them.
    within(raw.request("nobody.is.here", Bytes::new())).await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread")]
async fn audio_of_any_length_arrives_whole_and_the_last_word_is_heard() {
    let Some(nats) = Nats::start().await else { return };
    let (host, other) = (nats.host("studio").await, nats.host("other").await);
    let (_server, mut given) = serve_ingest(&host, LONG).await;
    let sound: Bytes = (0..1_000_001_u32).map(|n| n.to_le_bytes()[1]).collect::<Vec<_>>().into();
    for (target, block, copies) in
        [(Target::Any, 3_200, 1), (Target::Node("studio"), 500_000, 8), (Target::Model("small:1b"), 1 << 20, 1)]
    {
        let (mut sender, mut heard) = within(other.listen(target, &Stream::default(), &call())).await.unwrap();
        let (mut ingest, end) = within(given.recv()).await.unwrap();
        let send = async {
            for _ in 0..copies {
                let mut rest = sound.clone();
                while !rest.is_empty() {
                    sender.send(rest.split_to(block.min(rest.len()))).await.unwrap();
                }
            }
            sender.end().await.unwrap();
        };
        let ((), audio) = tokio::join!(within(send), read_all(&mut ingest));
        assert!(audio.unwrap() == sound.repeat(copies), "the audio is not the same");
        assert!(within(ingest.next()).await.is_none());
        end.send(Ok(7)).unwrap();
        let last = within(heard.next()).await.unwrap().unwrap();
        assert!(matches!(&last, StreamEvent::Done(done) if done.audio_ms == 7), "{last:?}");
        assert!(within(heard.next()).await.is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_does_not_take_audio_makes_the_sender_wait() {
    let Some(nats) = Nats::start().await else { return };
    let host = nats.host("studio").await;
    let (_server, mut given) = serve_ingest(&host, LONG).await;
    let (mut sender, _heard) = within(host.listen(Target::Any, &Stream::default(), &call())).await.unwrap();
    let (mut ingest, _end) = within(given.recv()).await.unwrap();
    for _ in 0..CHUNKS {
        within(sender.send(vec![0; 320].into())).await.unwrap();
    }
    // It can't even begin to send one more.
    assert!(sender.send(vec![0; 320].into()).now_or_never().is_none());
    let more = tokio::spawn(async move {
        for _ in 0..3 * CHUNKS {
            sender.send(vec![0; 320].into()).await.unwrap();
        }
        sender.end().await.unwrap();
    });
    assert_eq!(read_all(&mut ingest).await.unwrap().len(), 4 * 320 * CHUNKS as usize);
    within(more).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn audio_that_is_not_whole_or_too_much_is_refused() {
    let Some(nats) = Nats::start().await else { return };
    let (host, raw) = (nats.host("studio").await, nats.raw().await);
    let flood: Vec<_> = (0..=4 * CHUNKS).map(|number| (number, 10)).collect();
    for (chunks, wanted, why) in [
        (vec![(0, 10), (2, 10)], FaultCode::Failed, "message 1 is missing (got 2)"),
        (vec![(1, 10)], FaultCode::Failed, "message 0 is missing (got 1)"),
        (vec![(0, 10), (0, 10)], FaultCode::Failed, "message 1 is missing (got 0)"),
        (vec![(0, MAX_CHUNK_BYTES + 1)], FaultCode::TooLarge, "65537 bytes, and 65536 are taken"),
        (flood, FaultCode::TooLarge, "more than 64 messages"),
    ] {
        let mut ingest = within(host.ingest(LONG)).await.unwrap();
        // Nobody takes any meanwhile: what is too much is too much.
        publish(&raw, &ingest, &chunks).await;
        let mut nobody = within(host.open(Target::Any, &speak(1), &call())).await.unwrap();
        // Audio has a connection of its own: after this answer all of it is here.
        within(nobody.next()).await.unwrap().unwrap_err();
        let fault = read_all(&mut ingest).await.unwrap_err();
        assert_eq!(fault.code, wanted, "{fault}");
        assert!(fault.message.contains(why), "{fault}");
        assert!(within(ingest.next()).await.is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn audio_that_stays_away_is_given_up() {
    let Some(nats) = Nats::start().await else { return };
    let (host, raw) = (nats.host("studio").await, nats.raw().await);
    let mut ingest = within(host.ingest(Duration::from_secs(2))).await.unwrap();
    publish(&raw, &ingest, &[(0, 10)]).await;
    let fault = read_all(&mut ingest).await.unwrap_err();
    assert_eq!(fault.code, FaultCode::Deadline);
    assert!(fault.message.starts_with("no audio came for 2000 ms after 1 messages"), "{fault}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_worker_says_at_its_end_is_told_and_that_it_is_gone_as_well() {
    let Some(nats) = Nats::start().await else { return };
    let (host, other) = (nats.host("studio").await, nats.host("other").await);
    let (_server, mut given) = serve_ingest(&host, LONG).await;
    for says_why in [true, false] {
        let (mut sender, mut heard) = within(other.listen(Target::Any, &Stream::default(), &call())).await.unwrap();
        let (ingest, end) = within(given.recv()).await.unwrap();
        drop(ingest);
        if says_why {
            end.send(Err(Fault::unavailable("the engine fell over"))).unwrap();
        }
        // Without a word, as when its process is killed: the server tells that nobody takes the audio.
        let error = within(heard.next()).await.unwrap().unwrap_err();
        if says_why {
            assert_eq!(error.to_string(), "the engine fell over");
            assert_eq!(code::<()>(Err(error)), FaultCode::Unavailable);
        } else {
            assert!(matches!(&error, BusError::Cut { why, .. } if why.contains("has gone")), "{error}");
        }
        let refused = within(async {
            loop {
                if let Err(error) = sender.send(vec![0; 2].into()).await {
                    return error;
                }
            }
        });
        assert!(matches!(refused.await, BusError::Cut { .. }));
        drop(end);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_who_listens_is_told_at_once() {
    let Some(nats) = Nats::start().await else { return };
    let host = nats.host("studio").await;
    let error = within(host.listen(Target::Node("rack"), &Stream::default(), &call())).await.err().unwrap();
    assert!(matches!(&error, BusError::Nobody { subject } if subject == "stt.stream.n.rack"), "{error}");
}
