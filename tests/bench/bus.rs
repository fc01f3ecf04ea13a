//! The bus against bare async-nats: a request and its reply, and a stream of audio, on one server in the same run.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use async_nats::Client;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::try_join_all;
use hdrhistogram::Histogram;
use sidetone::bus::codec::{self, Format};
use sidetone::bus::message::llm::{Answer, Chat, ChatMessage, Role};
use sidetone::bus::message::{Ask, Blob, Pcm, SampleFormat, tts};
use sidetone::bus::service::{Incoming, Server, ServiceSpec};
use sidetone::bus::subject::Target;
use sidetone::bus::{Bus, Call, embedded};
use tokio::time::timeout;

use crate::support::{BenchHome, Row, Scope, free_port, median, progress};

const SECTION: &str = "bus";
/// More than anything here takes.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// A request's body and its reply's, in bytes.
const BODIES: [usize; 2] = [128, 8 * 1_024];
/// Chunks of a stream: 20 ms each of 48 kHz mono, as floats.
pub(super) const CHUNKS: usize = 32;
pub(super) const CHUNK_SAMPLES: usize = 960;
/// Streams at once: as many as keep two processors busy, as publishing does. With 8, a tenth of their time is idle.
pub(super) const STREAMS: usize = 32;
/// The same for a busy host of the size that is common.
const FEW_STREAMS: usize = 8;

/// Measures it all.
pub fn run(scope: Scope) -> anyhow::Result<Vec<Row>> {
    tokio::runtime::Runtime::new().context("no runtime")?.block_on(measure(scope))
}

async fn measure(scope: Scope) -> anyhow::Result<Vec<Row>> {
    let (home, port) = (BenchHome::new()?, free_port()?);
    let server = embedded::start(&home.home, port).await?;
    let url = embedded::url(port);
    let (host, caller) = (Bus::connect(&url, "bench-host").await?, Bus::connect(&url, "bench-caller").await?);
    let (raw_host, raw_caller) = (async_nats::connect(&url).await?, async_nats::connect(&url).await?);
    let _services = (serve_chat(&host).await?, serve_speech(&host).await?);
    serve_raw(&raw_host, &raw_caller).await?;
    let mut rows = Vec::new();
    for bytes in BODIES {
        rows.extend(requests(scope, &caller, &raw_caller, bytes).await?);
    }
    rows.extend(streams(scope, &caller, &raw_host, &raw_caller).await?);
    drop((host, caller));
    server.stop(Duration::from_secs(5)).await;
    Ok(rows)
}

pub(super) fn spec<A: Ask>() -> ServiceSpec {
    ServiceSpec {
        capability: A::VERB.capability,
        about: "a bench",
        engine: String::new(),
        models: Vec::new(),
        slots: 64,
    }
}

/// Answers a chat with as many bytes as were asked with.
pub(super) async fn serve_chat(bus: &Bus) -> anyhow::Result<Server> {
    let server = bus.service(spec::<Chat>()).await?;
    server
        .serve(|incoming: Incoming<Chat>| async move {
            let asked = incoming.request.messages.into_iter().next().map(|message| message.content);
            Ok(Answer { text: asked.unwrap_or_default(), done: None })
        })
        .await?;
    server.ready().await?;
    Ok(server)
}

/// Speaks a stream of chunks.
pub(super) async fn serve_speech(bus: &Bus) -> anyhow::Result<Server> {
    let server = bus.service(spec::<tts::Stream>()).await?;
    server
        .serve(|incoming: Incoming<tts::Stream>| async move {
            let chunk = chunk();
            for _ in 1..CHUNKS {
                incoming.replies.send(&chunk).await?;
            }
            Ok(chunk)
        })
        .await?;
    server.ready().await?;
    Ok(server)
}

pub(super) fn chunk() -> tts::Chunk {
    let data = Blob(Bytes::from(vec![0x3c; CHUNK_SAMPLES * 4]));
    tts::Chunk { pcm: Pcm { format: SampleFormat::F32le, rate_hz: 48_000, channels: 1, data }, done: None }
}

/// The bare counterparts: `raw.echo` gives back what it gets, `raw.stream` as many chunks.
pub(super) async fn serve_raw(host: &Client, caller: &Client) -> anyhow::Result<()> {
    let mut echo = host.queue_subscribe("raw.echo", "raw".to_owned()).await?;
    let mut stream = host.queue_subscribe("raw.stream", "raw".to_owned()).await?;
    let client = host.clone();
    tokio::spawn(async move {
        while let Some(message) = echo.next().await {
            let (client, Some(reply)) = (client.clone(), message.reply) else { continue };
            tokio::spawn(async move { client.publish(reply, message.payload).await });
        }
    });
    let client = host.clone();
    tokio::spawn(async move {
        while let Some(message) = stream.next().await {
            let (client, Some(reply)) = (client.clone(), message.reply) else { continue };
            tokio::spawn(async move {
                // Written anew for every chunk, as samples would be.
                let chunk = chunk();
                for _ in 0..CHUNKS {
                    let Ok(body) = codec::encode(&chunk, Format::MsgPack) else { return };
                    if client.publish(reply.clone(), body).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    let standing = async { while caller.request("raw.echo", "".into()).await.is_err() {} };
    timeout(PATIENCE, standing).await.context("the bare echo does not come up")
}

/// A chat whose body has exactly `bytes` bytes.
pub(super) fn chat(bytes: usize) -> anyhow::Result<Chat> {
    let with = |content: usize| Chat {
        messages: vec![ChatMessage::new(Role::User, "x".repeat(content))],
        stream: false,
        model: None,
        temperature: None,
        max_tokens: None,
        format: None,
    };
    let fits = |content: &usize| codec::encode(&with(*content), Format::MsgPack).is_ok_and(|body| body.len() == bytes);
    let content = (0..=bytes).rev().find(fits).with_context(|| format!("no chat has {bytes} bytes"))?;
    Ok(with(content))
}

async fn requests(scope: Scope, caller: &Bus, raw: &Client, bytes: usize) -> anyhow::Result<Vec<Row>> {
    let (warm_up, rounds) = (scope.of(2_000, 200), scope.of(20_000_u64, 2_000));
    let (request, call, body) = (chat(bytes)?, Call::within(PATIENCE), Bytes::from(vec![b'x'; bytes]));
    let (mut ours, mut bare) = (Histogram::<u64>::new(3)?, Histogram::<u64>::new(3)?);
    let bar = progress(&format!("requests of {bytes} bytes"), rounds);
    for round in 0..warm_up + rounds {
        let begun = Instant::now();
        let reply = raw.request("raw.echo", body.clone()).await?;
        let bare_time = begun.elapsed();
        ensure!(reply.payload.len() == bytes, "a bare reply is cut off");
        let begun = Instant::now();
        let reply = caller.ask(Target::Any, &request, &call).await?;
        let our_time = begun.elapsed();
        ensure!(reply.text == request.messages[0].content, "a reply is cut off");
        if round >= warm_up {
            bare.record(nanoseconds(bare_time))?;
            ours.record(nanoseconds(our_time))?;
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    let row = |quantile: f64, name: &str, most: f64| {
        let (ours, bare) = (us(ours.value_at_quantile(quantile)), us(bare.value_at_quantile(quantile)));
        Row {
            baseline: format!("{bare:.0} µs"),
            compared: format!("{:.2} ×", ours / bare),
            target: format!("≤ {most} ×"),
            met: Some(ours / bare <= most),
            ..Row::note(SECTION, format!("request and reply, {bytes} B, {name}"), format!("{ours:.0} µs"))
        }
    };
    Ok(vec![row(0.5, "p50", 1.25), row(0.99, "p99", 1.5)])
}

pub(super) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[allow(clippy::cast_precision_loss, reason = "nanoseconds of one request")]
pub(super) fn us(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1_000.0
}

async fn streams(scope: Scope, caller: &Bus, raw_host: &Client, raw: &Client) -> anyhow::Result<Vec<Row>> {
    // Rounds of about 0.2 s: in a shorter one a publisher only fills the buffers on the way.
    let (rounds, streams) = (scope.of(15, 4), scope.of(50, 12));
    let (mut ours, mut few, mut bare, mut published) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let bar = progress("audio streams", rounds);
    for round in 0..=rounds {
        let of_bare = rate(STREAMS, streams, || bare_stream(raw)).await?;
        let of_ours = rate(STREAMS, streams, || our_stream(caller)).await?;
        let of_few = rate(FEW_STREAMS, streams * STREAMS / FEW_STREAMS, || our_stream(caller)).await?;
        let of_publishing = publish_rate(raw_host, raw, streams * STREAMS * CHUNKS).await?;
        // The first round warms up.
        if round > 0 {
            bare.push(of_bare);
            ours.push(of_ours);
            few.push(of_few);
            published.push(of_publishing);
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    let row = |measure: String, ours: &[f64], baseline: &[f64]| {
        let (ours, bare) = (median(ours), median(baseline));
        Row {
            baseline: format!("{bare:.0} /s"),
            compared: format!("{:.2} ×", ours / bare),
            ..Row::note(SECTION, measure, format!("{ours:.0} /s"))
        }
    };
    let measure = format!("{CHUNKS}-chunk audio streams, {STREAMS} at once");
    let publishing = row(format!("{measure}, against bare publishing"), &ours, &published);
    let met = Some(median(&ours) / median(&published) >= 0.8);
    Ok(vec![
        Row { target: "≥ 0.8 ×".to_owned(), met, ..publishing },
        row("   against bare streams, without slots, credit or end".to_owned(), &ours, &bare),
        row(format!("   {FEW_STREAMS} at once, against bare publishing"), &few, &published),
    ])
}

/// Chunks a second of `callers` that each hear `streams` streams, one after the other.
#[allow(clippy::cast_precision_loss, reason = "a count of chunks")]
pub(super) async fn rate<F>(callers: usize, streams: usize, stream: impl Fn() -> F) -> anyhow::Result<f64>
where
    F: Future<Output = anyhow::Result<()>>,
{
    let begun = Instant::now();
    let all = (0..callers).map(|_| async {
        for _ in 0..streams {
            stream().await?;
        }
        anyhow::Ok(())
    });
    timeout(PATIENCE, try_join_all(all)).await.context("a stream does not end")??;
    Ok((callers * streams * CHUNKS) as f64 / begun.elapsed().as_secs_f64())
}

async fn our_stream(caller: &Bus) -> anyhow::Result<()> {
    let request = tts::Stream(tts::Say { text: "a".to_owned(), ..tts::Say::default() });
    let mut stream = caller.open(Target::Any, &request, &Call::within(PATIENCE)).await?;
    let mut chunks = 0;
    while let Some(chunk) = stream.next().await {
        chunks += usize::from(chunk?.pcm.data.0.len() == CHUNK_SAMPLES * 4);
    }
    ensure!(chunks == CHUNKS, "{chunks} of {CHUNKS} chunks came");
    Ok(())
}

async fn bare_stream(raw: &Client) -> anyhow::Result<()> {
    let inbox = raw.new_inbox();
    let mut messages = raw.subscribe(inbox.clone()).await?;
    raw.publish_with_reply("raw.stream", inbox, "a".into()).await?;
    for _ in 0..CHUNKS {
        let message = messages.next().await.context("a bare stream is cut off")?;
        let chunk: tts::Chunk = codec::decode(Format::MsgPack.content_type(), &message.payload)?;
        ensure!(chunk.pcm.data.0.len() == CHUNK_SAMPLES * 4, "a bare chunk is cut off");
    }
    Ok(())
}

/// Messages a second from one client to another, of a chunk's size and without anything else.
#[allow(clippy::cast_precision_loss, reason = "a count of chunks")]
pub(super) async fn publish_rate(host: &Client, caller: &Client, messages: usize) -> anyhow::Result<f64> {
    let inbox = caller.new_inbox();
    let mut received = caller.subscribe(inbox.clone()).await?;
    let standing = async {
        loop {
            host.publish(inbox.clone(), Bytes::new()).await?;
            if timeout(Duration::from_millis(50), received.next()).await.is_ok() {
                return anyhow::Ok(());
            }
        }
    };
    timeout(PATIENCE, standing).await.context("a subscription does not stand")??;
    let body = codec::encode(&chunk(), Format::MsgPack)?;
    let begun = Instant::now();
    let publish = async {
        for _ in 0..messages {
            host.publish(inbox.clone(), body.clone()).await?;
        }
        anyhow::Ok(())
    };
    let receive = async {
        let mut count = 0;
        while count < messages {
            let message = received.next().await.context("publishing is cut off")?;
            count += usize::from(message.payload.len() == body.len());
        }
        anyhow::Ok(())
    };
    timeout(PATIENCE, async { tokio::try_join!(publish, receive) }).await.context("messages are lost")??;
    Ok(messages as f64 / begun.elapsed().as_secs_f64())
}

/// The encoded example must stay in step with what is compared.
const _: () = assert!(CHUNK_SAMPLES * 4 == 3_840);
