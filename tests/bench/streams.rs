//! Streams of audio through the bus, bare, and as mere publishing: for the benches of the bus and of the fabric.

use std::time::Instant;

use anyhow::{Context as _, ensure};
use async_nats::Client;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::try_join_all;
use sidetone::bus::codec::{self, Format};
use sidetone::bus::message::fault::Fault;
use sidetone::bus::message::{Blob, Pcm, SampleFormat, tts};
use sidetone::bus::service::{Incoming, Server};
use sidetone::bus::{Bus, BusError};
use sidetone::role::tts::CHUNK_MS;
use sidetone::sound::to_wire;
use tokio::time::timeout;

use crate::bus::{PATIENCE, spec};
use crate::support::{Row, Scope, median};

/// How many streams at once, and of how many chunks each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Streams at once.
    pub streams: usize,
    /// Chunks of each.
    pub chunks: usize,
}

/// As many short streams as keep two processors busy, as publishing does.
pub const MANY: Shape = Shape { streams: 32, chunks: 32 };
/// The same for a busy host of the size that is common.
pub const FEW: Shape = Shape { streams: 8, chunks: 32 };
/// One that goes on: 41 s of chunks of 20 ms.
pub const ONE: Shape = Shape { streams: 1, chunks: 2_048 };
/// Samples a second of the Piper voices of medium quality.
const VOICE_HZ: u32 = 22_050;
/// Samples of 20 ms at 48 kHz.
const SHORT_SAMPLES: usize = 960;

/// What the chunks hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sound {
    /// Speech, as the role tts sends it: 200 ms of 16-bit samples.
    Spoken,
    /// A tenth of that in time: 20 ms of floats at 48 kHz. Nothing sends such; it shows what a chunk costs whatever its size.
    Short,
}

impl Sound {
    /// Each of them.
    pub const ALL: [Self; 2] = [Self::Spoken, Self::Short];

    const fn text(self) -> &'static str {
        match self {
            Self::Spoken => "spoken",
            Self::Short => "short",
        }
    }

    /// What is to be reached of the rate of bare publishing.
    const fn least(self) -> f64 {
        match self {
            Self::Spoken => 0.8,
            Self::Short => 0.85,
        }
    }

    /// Asks for a stream of so many chunks of it.
    pub fn request(self, chunks: usize) -> tts::Stream {
        tts::Stream(tts::Say { text: format!("{} {chunks}", self.text()), ..tts::Say::default() })
    }

    /// Bytes of samples of a chunk.
    fn bytes(self) -> usize {
        match self {
            Self::Spoken => spoken_samples() * 2,
            Self::Short => SHORT_SAMPLES * 4,
        }
    }

    /// A chunk of it.
    pub fn chunk(self) -> tts::Chunk {
        let pcm = match self {
            Self::Spoken => to_wire(&vec![0.25; spoken_samples()], VOICE_HZ),
            Self::Short => Pcm {
                format: SampleFormat::F32le,
                rate_hz: 48_000,
                channels: 1,
                data: Blob(Bytes::from(vec![0x3c; SHORT_SAMPLES * 4])),
            },
        };
        tts::Chunk { pcm, done: None }
    }

    /// What a request asks for, and how many chunks of it.
    fn of(text: &str) -> Option<(Self, usize)> {
        let (sound, chunks) = text.split_once(' ')?;
        Some((Self::ALL.into_iter().find(|known| known.text() == sound)?, chunks.parse().ok()?))
    }
}

const fn spoken_samples() -> usize {
    (VOICE_HZ * CHUNK_MS / 1_000) as usize
}

/// Serves the streams.
pub async fn serve(bus: &Bus) -> anyhow::Result<Server> {
    let server = bus.service(spec::<tts::Stream>()).await?;
    server.serve(speak).await?;
    server.ready().await?;
    Ok(server)
}

/// Answers by a stream of what is asked for.
pub async fn speak(incoming: Incoming<tts::Stream>) -> Result<tts::Chunk, Fault> {
    let asked = &incoming.request.0.text;
    let (sound, chunks) = Sound::of(asked).ok_or_else(|| Fault::invalid(format!("no sound: {asked:?}")))?;
    let chunk = sound.chunk();
    for _ in 1..chunks {
        incoming.replies.send(&chunk).await?;
    }
    Ok(chunk)
}

/// The bare counterpart, on `raw.stream`.
pub async fn serve_raw(host: &Client) -> anyhow::Result<()> {
    let mut asked = host.queue_subscribe("raw.stream", "raw".to_owned()).await?;
    let client = host.clone();
    tokio::spawn(async move {
        while let Some(message) = asked.next().await {
            let (client, Some(reply)) = (client.clone(), message.reply) else { continue };
            tokio::spawn(async move {
                // Written anew for every chunk, as samples would be.
                let Some((sound, chunks)) = str::from_utf8(&message.payload).ok().and_then(Sound::of) else { return };
                let chunk = sound.chunk();
                for _ in 0..chunks {
                    let Ok(body) = codec::encode(&chunk, Format::MsgPack) else { return };
                    if client.publish(reply.clone(), body).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    Ok(())
}

/// Hears a stream to its end, a chunk by each `next`.
pub async fn hear(
    sound: Sound,
    chunks: usize,
    mut next: impl AsyncFnMut() -> Option<Result<tts::Chunk, BusError>>,
) -> anyhow::Result<()> {
    let (mut heard, bytes) = (0, sound.bytes());
    while let Some(chunk) = next().await {
        heard += usize::from(chunk?.pcm.data.0.len() == bytes);
    }
    ensure!(heard == chunks, "{heard} of {chunks} chunks came");
    Ok(())
}

/// Hears a bare stream.
pub async fn bare(sound: Sound, chunks: usize, raw: &Client) -> anyhow::Result<()> {
    let (inbox, bytes) = (raw.new_inbox(), sound.bytes());
    let mut messages = raw.subscribe(inbox.clone()).await?;
    raw.publish_with_reply("raw.stream", inbox, sound.request(chunks).0.text.into()).await?;
    for _ in 0..chunks {
        let message = messages.next().await.context("a bare stream is cut off")?;
        let chunk: tts::Chunk = codec::decode(Format::MsgPack.content_type(), &message.payload)?;
        ensure!(chunk.pcm.data.0.len() == bytes, "a bare chunk is cut off");
    }
    Ok(())
}

/// How much of it is measured.
#[derive(Debug, Clone, Copy)]
pub struct Rounds {
    sound: Sound,
    /// Rounds, beside one that warms up.
    pub count: u64,
    /// Chunks of a round.
    chunks: usize,
}

impl Rounds {
    /// Rounds of about a quarter of a second: in shorter ones a publisher only fills the buffers on the way.
    pub fn new(scope: Scope, sound: Sound) -> Self {
        let chunks = match sound {
            Sound::Spoken => scope.of(25_600, 6_144),
            Sound::Short => scope.of(51_200, 12_288),
        };
        Self { sound, count: scope.of(15, 4), chunks }
    }

    /// Chunks a second of callers that each hear streams, one after the other.
    #[allow(clippy::cast_precision_loss, reason = "a count of chunks")]
    pub async fn rate<F>(&self, shape: Shape, stream: impl Fn() -> F) -> anyhow::Result<f64>
    where
        F: Future<Output = anyhow::Result<()>>,
    {
        let (begun, each) = (Instant::now(), self.chunks / shape.chunks / shape.streams);
        let all = (0..shape.streams).map(|_| async {
            for _ in 0..each {
                stream().await?;
            }
            anyhow::Ok(())
        });
        timeout(PATIENCE, try_join_all(all)).await.context("a stream does not end")??;
        Ok((shape.streams * each * shape.chunks) as f64 / begun.elapsed().as_secs_f64())
    }

    /// Messages a second from one client to another, of a chunk's size and without anything else.
    #[allow(clippy::cast_precision_loss, reason = "a count of chunks")]
    pub async fn publish_rate(&self, host: &Client, caller: &Client) -> anyhow::Result<f64> {
        let (messages, inbox) = (self.chunks, caller.new_inbox());
        let mut received = caller.subscribe(inbox.clone()).await?;
        // A message that comes back on the same connection: the subscription stands.
        caller.publish(inbox.clone(), Bytes::new()).await?;
        timeout(PATIENCE, received.next()).await.context("a subscription does not stand")?;
        let body = codec::encode(&self.sound.chunk(), Format::MsgPack)?;
        let begun = Instant::now();
        let publish = async {
            for _ in 0..messages {
                host.publish(inbox.clone(), body.clone()).await?;
            }
            anyhow::Ok(())
        };
        let receive = async {
            for _ in 0..messages {
                let message = received.next().await.context("publishing is cut off")?;
                ensure!(message.payload.len() == body.len(), "a message is cut off");
            }
            anyhow::Ok(())
        };
        timeout(PATIENCE, async { tokio::try_join!(publish, receive) }).await.context("messages are lost")??;
        Ok(messages as f64 / begun.elapsed().as_secs_f64())
    }

    /// The rate of streams against that of publishing, which is to be reached but for a part.
    pub fn row(&self, section: &'static str, shape: Shape, ours: &[f64], published: &[f64]) -> Row {
        let (least, measure) = (self.sound.least(), format!("{}, against bare publishing", self.what(shape)));
        let met = Some(median(ours) / median(published) >= least);
        Row { target: format!("≥ {least} ×"), met, ..compared(section, measure, ours, published) }
    }

    /// What is heard, for a row.
    pub fn what(&self, shape: Shape) -> String {
        let Shape { streams, chunks } = shape;
        let what = match self.sound {
            Sound::Spoken => format!("speech ({CHUNK_MS} ms a chunk)"),
            Sound::Short => "20 ms chunks".to_owned(),
        };
        format!("{chunks}-chunk streams of {what}, {streams} at once")
    }
}

/// One rate against another.
pub fn compared(section: &'static str, measure: String, ours: &[f64], baseline: &[f64]) -> Row {
    let (ours, bare) = (median(ours), median(baseline));
    Row {
        baseline: format!("{bare:.0} /s"),
        compared: format!("{:.2} ×", ours / bare),
        ..Row::note(section, measure, format!("{ours:.0} /s"))
    }
}
