//! `stt.stream` on a real host: what is said is transcribed while it is said.

use std::time::Duration;

use async_nats::{HeaderMap, Subscriber};
use bytes::Bytes;
use futures::StreamExt as _;
use sidetone::audio::{Clip, PcmFormat, mono_to_pcm};
use sidetone::bus::listen::Transcripts;
use sidetone::bus::message::fault::FaultCode;
use sidetone::bus::message::stt::{Request, Started, Stream, StreamDone, StreamEvent};
use sidetone::bus::message::{Blob, Pcm, SampleFormat};
use sidetone::bus::subject::{self, Capability, Target};
use sidetone::bus::{Bus, BusError, Call};

use crate::support::host::{FAKES, Host, HostSpec};
use crate::support::model;
use crate::support::nats::{eventually, program, within};

/// A tenth of a second at 16 kHz, 16 bits.
const BLOCK: usize = 3_200;

fn call() -> Call {
    Call::within(Duration::from_secs(300))
}

/// 11 s of speech at 16 kHz.
fn jfk() -> Vec<f32> {
    let clip = Clip::decode(include_bytes!("../fixtures/audio/jfk.flac")).unwrap();
    assert_eq!(clip.rate_hz, 16_000);
    clip.samples
}

fn pcm(samples: &[f32]) -> Bytes {
    mono_to_pcm(samples, PcmFormat::S16Le).into()
}

/// A host with the role `stt` and a scripted engine; `None` where there is no NATS server.
async fn fake(script: &str, settings: &[&str]) -> Option<Host> {
    program("nats-server")?;
    let spec = HostSpec::new("listener", "stt").set(FAKES).set(&[&format!("stt.model={script}")]).set(settings);
    Some(spec.start().await)
}

async fn listen(bus: &Bus, start: &Stream) -> Result<(sidetone::bus::listen::AudioSender, Transcripts), BusError> {
    within(bus.listen(Target::Node("listener"), start, &call())).await
}

/// Everything that is heard from now on.
async fn rest(heard: &mut Transcripts) -> Result<(Vec<StreamEvent>, StreamDone), BusError> {
    let mut events = Vec::new();
    loop {
        match within(heard.next()).await.unwrap()? {
            StreamEvent::Done(done) => {
                assert!(within(heard.next()).await.is_none());
                return Ok((events, done));
            }
            event => events.push(event),
        }
    }
}

fn finals(events: &[StreamEvent]) -> Vec<&str> {
    let finals = events.iter().filter_map(|event| match event {
        StreamEvent::Final { text, .. } => Some(text.as_str()),
        _ => None,
    });
    finals.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn speech_is_heard_while_it_is_spoken_and_at_last_as_a_clip_is() {
    if model("whisper-tiny.en", "model.bin").is_none() || program("nats-server").is_none() {
        return;
    }
    let host = HostSpec::new("listener", "stt").start().await;
    let bus = host.bus();
    let audio = pcm(&jfk());
    let clip = Pcm { format: SampleFormat::S16le, rate_hz: 16_000, channels: 1, data: Blob(audio.clone()) };
    let request = Request { pcm: Some(clip), ..Request::default() };
    let whole = within(bus.ask(Target::Any, &request, &call())).await.unwrap();
    for target in [Target::Any, Target::Node("listener"), Target::Model("whisper-tiny.en")] {
        let (mut sender, mut heard) = within(bus.listen(target, &Stream::default(), &call())).await.unwrap();
        assert_eq!((heard.started().node.as_str(), heard.started().model.as_str()), ("listener", "whisper-tiny.en"));
        let (beginning, end) = audio.split_at(audio.len() * 2 / 3);
        for block in beginning.chunks(BLOCK) {
            within(sender.send(Bytes::copy_from_slice(block))).await.unwrap();
        }
        // The speaker pauses for breath; what was said so far is there before the end.
        loop {
            let event = within(heard.next()).await.unwrap().unwrap();
            let StreamEvent::Partial { start_ms: 0, text } = &event else { panic!("{event:?}") };
            if text.contains("fellow Americans") {
                break;
            }
        }
        within(sender.send(Bytes::copy_from_slice(end))).await.unwrap();
        within(sender.end()).await.unwrap();
        let (events, done) = rest(&mut heard).await.unwrap();
        assert_eq!(finals(&events), [whole.text.as_str()]);
        let Some(StreamEvent::Final { segments, language, .. }) = events.last() else { panic!("{events:?}") };
        assert_eq!((segments, language), (&whole.segments, &whole.language));
        assert_eq!((done.audio_ms, done.model.as_str()), (whole.audio_ms, "whisper-tiny.en"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn long_speech_is_settled_at_its_pauses() {
    let Some(host) = fake("echo", &[]).await else { return };
    let speech = jfk();
    let gap = vec![0.0; 64_000];
    let samples = [speech.as_slice(), &gap, &speech, &gap, &speech].concat();
    let frames: Vec<u8> =
        mono_to_pcm(&samples, PcmFormat::F32Le).chunks(4).flat_map(|sample| sample.repeat(2)).collect();
    let start = Stream { channels: 2, format: SampleFormat::F32le, partials: false, ..Stream::default() };
    let (mut sender, mut heard) = listen(host.bus(), &start).await.unwrap();
    // As fast as it is taken, much faster than is spoken.
    let send = async move {
        sender.send(frames.into()).await.unwrap();
        sender.end().await.unwrap();
    };
    let ((), all) = tokio::join!(within(send), rest(&mut heard));
    let (events, done) = all.unwrap();
    assert_eq!(done.audio_ms, samples.len() as u64 / 16);
    let starts: Vec<u64> = events
        .iter()
        .map(|event| match event {
            StreamEvent::Final { segments, .. } => segments[0].start_ms,
            other => panic!("no partial text was wanted: {other:?}"),
        })
        .collect();
    assert_eq!(starts.len(), 3, "{events:?}");
    for (start, wanted) in starts.iter().zip([0, 15_000, 30_000]) {
        assert!(start.abs_diff(wanted) < 1_500, "{starts:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_is_refused_with_what_would_do() {
    let Some(host) = fake("echo", &[]).await else { return };
    for (start, word) in [
        (Stream { rate_hz: 0, ..Stream::default() }, "0 Hz"),
        (Stream { channels: 0, ..Stream::default() }, "channels is 0"),
        (Stream { language: Some("fr".to_owned()), ..Stream::default() }, "offers en"),
        (Stream { model: Some("huge".to_owned()), ..Stream::default() }, "it offers echo"),
    ] {
        let error = listen(host.bus(), &start).await.err().unwrap();
        assert!(error.to_string().contains(word), "{error}");
    }
    let (mut sender, mut heard) = listen(host.bus(), &Stream::default()).await.unwrap();
    within(sender.send(Bytes::from_static(&[1, 2, 3]))).await.unwrap();
    let Err(BusError::Fault(fault)) = rest(&mut heard).await else { panic!("half a sample was taken") };
    assert_eq!(fault.code, FaultCode::Invalid, "{fault}");
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_is_no_text_and_no_audio_is_said() {
    let Some(host) = fake("say:Hello.", &["stt.stream_idle_ms=1000"]).await else { return };
    let (sender, mut heard) = listen(host.bus(), &Stream::default()).await.unwrap();
    within(sender.end()).await.unwrap();
    let (events, done) = rest(&mut heard).await.unwrap();
    assert!(events.is_empty() && done.audio_ms == 0, "{events:?} {done:?}");

    let (mut sender, mut heard) = listen(host.bus(), &Stream::default()).await.unwrap();
    within(sender.send(pcm(&[0.0; 1_600]))).await.unwrap();
    let Err(BusError::Fault(fault)) = rest(&mut heard).await else { panic!("it waits for ever") };
    assert_eq!(fault.code, FaultCode::Deadline);
    assert!(fault.message.contains("no audio came for 1000 ms after 1 messages"), "{fault}");
}

/// Waits until the one slot of the host is free.
async fn until_free(bus: &Bus) {
    eventually(|| async {
        match bus.listen(Target::Node("listener"), &Stream::default(), &call()).await {
            Ok(_) => Some(()),
            Err(BusError::Fault(fault)) if fault.code == FaultCode::Busy => None,
            Err(error) => panic!("{error}"),
        }
    })
    .await;
}

/// Opens a stream as another client than ours would; gives where the audio goes.
async fn open_raw(host: &Host, id: &str) -> (async_nats::Client, Subscriber, Started) {
    let raw = async_nats::connect(host.spec.url()).await.unwrap();
    // The stream before may be on its way out.
    let (replies, first) = eventually(|| async {
        let inbox = raw.new_inbox();
        let mut replies = raw.subscribe(inbox.clone()).await.unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("Req-Id", id);
        raw.publish_with_reply_and_headers("stt.stream", inbox, headers, "{}".into()).await.unwrap();
        let first = replies.next().await.unwrap();
        let code = first.headers.as_ref().and_then(|headers| headers.get("Nats-Service-Error-Code"));
        match code.map(ToString::to_string) {
            None => Some((replies, first)),
            Some(code) if code == FaultCode::Busy.number().to_string() => None,
            Some(code) => panic!("{code}: {first:?}"),
        }
    })
    .await;
    let StreamEvent::Started(started) = serde_json::from_slice(&first.payload).unwrap() else { panic!("{first:?}") };
    (raw, replies, started)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_cancelled_or_whose_caller_dies_gives_its_slot_back() {
    // Audio may stay away for long: nothing else ends a stream.
    let settings = ["stt.slots=1", "stt.stream_idle_ms=3600000"];
    let Some(host) = fake("slow:500", &settings).await else { return };
    let bus = host.bus();
    let busy = || async {
        let Err(BusError::Fault(fault)) = listen(bus, &Stream::default()).await else { panic!("two at once") };
        assert_eq!(fault.code, FaultCode::Busy);
    };
    let (mut sender, heard) = listen(bus, &Stream::default()).await.unwrap();
    within(sender.send(pcm(&jfk()))).await.unwrap();
    busy().await;
    drop(heard);
    until_free(bus).await;
    drop(sender);

    let (raw, mut replies, started) = open_raw(&host, "by-hand").await;
    raw.publish(format!("{}.0", started.ingest), pcm(&[0.0; 1_600])).await.unwrap();
    busy().await;
    raw.publish(subject::cancel(Capability::Stt, "by-hand"), "".into()).await.unwrap();
    let last = within(async {
        loop {
            let reply = replies.next().await.unwrap();
            if let Some(code) = reply.headers.as_ref().and_then(|headers| headers.get("Nats-Service-Error-Code")) {
                return code.to_string();
            }
        }
    });
    assert_eq!(last.await, FaultCode::Cancelled.number().to_string());
    until_free(bus).await;

    // Killed: it says nothing, and its subscriptions are gone.
    let (raw, replies, _) = open_raw(&host, "killed").await;
    busy().await;
    drop((raw, replies));
    until_free(bus).await;
}
