//! Speech that is spoken to whoever can: hosts that refuse, that die before they have taken anything, and later.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use sidetone::bus::ingest::{CHUNKS, Ingest, MAX_CHUNK_BYTES};
use sidetone::bus::message::fault::{Fault, FaultCode};
use sidetone::bus::message::node::Offer;
use sidetone::bus::message::stt::{Started, Stream, StreamDone, StreamEvent};
use sidetone::bus::service::Incoming;
use sidetone::bus::subject::Capability;
use sidetone::bus::{Bus, BusError};
use sidetone::fabric::{Fabric, Texts, Whom, need};

use super::call;
use super::refusals::{Stub, pinning};
use crate::support::nats::{Nats, within};

/// What a host does with the audio.
#[derive(Clone, Copy)]
enum Does {
    /// It refuses.
    Refuses,
    /// It listens, and breaks before it has taken anything.
    Breaks,
    /// It says what it has heard of the beginning, and breaks.
    BreaksLater,
    /// It hears all of it, and says how many bytes that was.
    Hears,
}

async fn hear(bus: &Bus, does: Does, incoming: &Incoming<Stream>) -> Result<StreamEvent, Fault> {
    if matches!(does, Does::Refuses) {
        return Err(Fault::new(FaultCode::Busy, "full"));
    }
    let mut ingest: Ingest = bus.ingest(super::LONG).await.map_err(|error| error.to_fault())?;
    let started = Started {
        ingest: ingest.subject().to_owned(),
        credit: CHUNKS,
        max_bytes: MAX_CHUNK_BYTES,
        ..Started::default()
    };
    incoming.replies.send(&StreamEvent::Started(started)).await?;
    let mut bytes = 0;
    while let Some(chunk) = ingest.next().await {
        let chunk = chunk?;
        match does {
            Does::Breaks => return Err(Fault::unavailable("it broke")),
            Does::BreaksLater => {
                let text = "the beginning".to_owned();
                incoming.replies.send(&StreamEvent::Partial { start_ms: 0, text }).await?;
                return Err(Fault::unavailable("it broke"));
            }
            _ => {}
        }
        // Each block is its own number.
        assert!(chunk.iter().all(|byte| u64::from(*byte) == bytes / 320 % 256), "the audio is not whole");
        bytes += chunk.len() as u64;
    }
    Ok(StreamEvent::Done(StreamDone { audio_ms: bytes, ..StreamDone::default() }))
}

/// Two hosts, of which the first is asked first, and how often the second was.
async fn two(nats: &Nats, bus: &Bus, first: Does) -> ((Stub, Stub), Fabric, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let of = |does: Does, asked: Option<Arc<AtomicUsize>>| {
        let bus = bus.clone();
        move |incoming: Incoming<Stream>| {
            let bus = bus.clone();
            if let Some(asked) = &asked {
                asked.fetch_add(1, Ordering::SeqCst);
            }
            async move { hear(&bus, does, &incoming).await }
        }
    };
    let offer = || Offer { slots: 2, usual_ms: 10, ..Offer::default() };
    let hosts = (
        Stub::of(nats, "first", offer(), 4, of(first, None)).await,
        Stub::of(nats, "second", offer(), 4, of(Does::Hears, Some(Arc::clone(&asked)))).await,
    );
    let all = pinning(bus, "first", &["first", "second"]).await;
    (hosts, all, asked)
}

/// Speaks so many blocks of 320 bytes, each its own number, and gives what is heard.
async fn speak(all: &Fabric, blocks: usize) -> Result<Vec<StreamEvent>, BusError> {
    let need = need(Capability::Stt);
    let (speech, mut texts) = all.listen(Whom::Need(&need), Stream::default(), &call()).await?;
    let feed = async move {
        for number in 0..blocks {
            if !speech.send(Bytes::from(vec![number as u8; 320])).await {
                return;
            }
        }
    };
    let ((), heard) = within(async { tokio::join!(feed, rest(&mut texts)) }).await;
    heard
}

async fn rest(texts: &mut Texts) -> Result<Vec<StreamEvent>, BusError> {
    let mut events = Vec::new();
    while let Some(event) = texts.next().await {
        events.push(event?);
    }
    Ok(events)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_refuses_or_breaks_before_it_has_taken_audio_is_replaced_and_nothing_is_lost() {
    let Some(nats) = Nats::start().await else { return };
    let bus = nats.host("tests").await;
    for does in [Does::Refuses, Does::Breaks] {
        let (_hosts, all, asked) = two(&nats, &bus, does).await;
        // More than a stream's credit.
        for blocks in [1, 10, 200] {
            let events = speak(&all, blocks).await.unwrap();
            let [StreamEvent::Done(done)] = &events[..] else { panic!("{events:?}") };
            assert_eq!(done.audio_ms, blocks as u64 * 320);
        }
        assert!(asked.load(Ordering::SeqCst) >= 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_breaks_when_it_has_said_something_is_an_error() {
    let Some(nats) = Nats::start().await else { return };
    let bus = nats.host("tests").await;
    let (_hosts, all, asked) = two(&nats, &bus, Does::BreaksLater).await;
    let need = need(Capability::Stt);
    let (speech, mut texts) = within(all.listen(Whom::Need(&need), Stream::default(), &call())).await.unwrap();
    assert!(within(speech.send(Bytes::from(vec![0; 320]))).await);
    let event = within(texts.next()).await.unwrap().unwrap();
    assert!(matches!(&event, StreamEvent::Partial { text, .. } if text == "the beginning"), "{event:?}");
    let error = within(texts.next()).await.unwrap().unwrap_err();
    assert!(error.to_string().contains("it broke"), "{error}");
    assert!(within(texts.next()).await.is_none());
    assert_eq!(asked.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_named_is_asked_and_no_other() {
    let Some(nats) = Nats::start().await else { return };
    let bus = nats.host("tests").await;
    let (_hosts, all, asked) = two(&nats, &bus, Does::Refuses).await;
    let (_speech, mut texts) = within(all.listen(Whom::Host("first"), Stream::default(), &call())).await.unwrap();
    let error = within(texts.next()).await.unwrap().unwrap_err();
    assert!(error.to_string().contains("full"), "{error}");
    assert_eq!(asked.load(Ordering::SeqCst), 0);
}
