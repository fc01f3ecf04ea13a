//! The bus against bare async-nats: a request and its reply, and a stream of audio, on one server in the same run.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use async_nats::Client;
use bytes::Bytes;
use futures::StreamExt as _;
use hdrhistogram::Histogram;
use sidetone::bus::codec::{self, Format};
use sidetone::bus::message::Ask;
use sidetone::bus::message::llm::{Answer, Chat, ChatMessage, Role};
use sidetone::bus::service::{Incoming, Server, ServiceSpec};
use sidetone::bus::subject::Target;
use sidetone::bus::{Bus, Call, embedded};
use tokio::time::timeout;

use crate::streams::{self, FEW, MANY, Shape, Sound};
use crate::support::{BenchHome, Row, Scope, free_port, progress};

const SECTION: &str = "bus";
/// More than anything here takes.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// A request's body and its reply's, in bytes.
const BODIES: [usize; 2] = [128, 8 * 1_024];

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
    let _services = (serve_chat(&host).await?, streams::serve(&host).await?);
    serve_raw(&raw_host, &raw_caller).await?;
    let mut rows = Vec::new();
    for bytes in BODIES {
        rows.extend(requests(scope, &caller, &raw_caller, bytes).await?);
    }
    for sound in Sound::ALL {
        rows.extend(streams(scope, sound, &caller, &raw_host, &raw_caller).await?);
    }
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

/// The bare counterparts: `raw.echo` gives back what it gets; and streams.
pub(super) async fn serve_raw(host: &Client, caller: &Client) -> anyhow::Result<()> {
    let mut echo = host.queue_subscribe("raw.echo", "raw".to_owned()).await?;
    let client = host.clone();
    tokio::spawn(async move {
        while let Some(message) = echo.next().await {
            let (client, Some(reply)) = (client.clone(), message.reply) else { continue };
            tokio::spawn(async move { client.publish(reply, message.payload).await });
        }
    });
    streams::serve_raw(host).await?;
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
        cut_next: 0,
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

async fn streams(
    scope: Scope,
    sound: Sound,
    caller: &Bus,
    raw_host: &Client,
    raw: &Client,
) -> anyhow::Result<Vec<Row>> {
    let call = Call::within(PATIENCE);
    let ours = |shape: Shape| {
        let call = &call;
        move || async move {
            let mut stream = caller.open(Target::Any, &sound.request(shape.chunks), call).await?;
            streams::hear(sound, shape.chunks, async || stream.next().await).await
        }
    };
    let rounds = streams::Rounds::new(scope, sound);
    let (mut many, mut few, mut bare, mut published) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let bar = progress("audio streams", rounds.count);
    for round in 0..=rounds.count {
        let of_bare = rounds.rate(MANY, || streams::bare(sound, MANY.chunks, raw)).await?;
        let of_many = rounds.rate(MANY, ours(MANY)).await?;
        let of_few = rounds.rate(FEW, ours(FEW)).await?;
        let of_publishing = rounds.publish_rate(raw_host, raw).await?;
        // The first round warms up.
        if round > 0 {
            bare.push(of_bare);
            many.push(of_many);
            few.push(of_few);
            published.push(of_publishing);
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    let against_bare = format!("   {}, against bare ones, without slots, credit or end", rounds.what(MANY));
    let mut rows = vec![
        rounds.row(SECTION, MANY, &many, &published),
        streams::compared(SECTION, against_bare, &many, &bare),
        rounds.row(SECTION, FEW, &few, &published),
    ];
    if sound == Sound::Spoken {
        // A few that speak leave the processors idle for a part of the time.
        let row = &mut rows[2];
        (row.target, row.met) = (String::new(), None);
    }
    Ok(rows)
}
