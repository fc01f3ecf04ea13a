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

/// Chunks of a stream.
pub const CHUNKS: usize = 32;
/// Streams at once: as many as keep two processors busy, as publishing does. With 8, a tenth of their time is idle.
pub const STREAMS: usize = 32;
/// The same for a busy host of the size that is common.
pub const FEW_STREAMS: usize = 8;
/// What is to be reached of the rate of bare publishing.
const LEAST: f64 = 0.8;
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

    /// Asks for a stream of it.
    pub fn request(self) -> tts::Stream {
        tts::Stream(tts::Say { text: self.text().to_owned(), ..tts::Say::default() })
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

    fn of(text: &[u8]) -> Self {
        if text == Self::Short.text().as_bytes() { Self::Short } else { Self::Spoken }
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
    let chunk = Sound::of(incoming.request.0.text.as_bytes()).chunk();
    for _ in 1..CHUNKS {
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
                let chunk = Sound::of(&message.payload).chunk();
                for _ in 0..CHUNKS {
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
    mut next: impl AsyncFnMut() -> Option<Result<tts::Chunk, BusError>>,
) -> anyhow::Result<()> {
    let (mut chunks, bytes) = (0, sound.bytes());
    while let Some(chunk) = next().await {
        chunks += usize::from(chunk?.pcm.data.0.len() == bytes);
    }
    ensure!(chunks == CHUNKS, "{chunks} of {CHUNKS} chunks came");
    Ok(())
}

/// Hears a bare stream.
pub async fn bare(sound: Sound, raw: &Client) -> anyhow::Result<()> {
    let (inbox, bytes) = (raw.new_inbox(), sound.bytes());
    let mut messages = raw.subscribe(inbox.clone()).await?;
    raw.publish_with_reply("raw.stream", inbox, sound.text().into()).await?;
    for _ in 0..CHUNKS {
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
    streams: usize,
}

impl Rounds {
    /// Rounds of about a quarter of a second: in shorter ones a publisher only fills the buffers on the way.
    pub fn new(scope: Scope, sound: Sound) -> Self {
        let streams = match sound {
            Sound::Spoken => STREAMS * scope.of(25, 6),
            Sound::Short => STREAMS * scope.of(50, 12),
        };
        Self { sound, count: scope.of(15, 4), streams }
    }

    /// Chunks a second of `callers` that each hear streams, one after the other.
    #[allow(clippy::cast_precision_loss, reason = "a count of chunks")]
    pub async fn rate<F>(&self, callers: usize, stream: impl Fn() -> F) -> anyhow::Result<f64>
    where
        F: Future<Output = anyhow::Result<()>>,
    {
        let begun = Instant::now();
        let all = (0..callers).map(|_| async {
            for _ in 0..self.streams / callers {
                stream().await?;
            }
            anyhow::Ok(())
        });
        timeout(PATIENCE, try_join_all(all)).await.context("a stream does not end")??;
        Ok((self.streams * CHUNKS) as f64 / begun.elapsed().as_secs_f64())
    }

    /// Messages a second from one client to another, of a chunk's size and without anything else.
    #[allow(clippy::cast_precision_loss, reason = "a count of chunks")]
    pub async fn publish_rate(&self, host: &Client, caller: &Client) -> anyhow::Result<f64> {
        let (messages, inbox) = (self.streams * CHUNKS, caller.new_inbox());
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

    /// The rate of streams against that of publishing.
    pub fn row(&self, section: &'static str, ours: &[f64], published: &[f64]) -> Row {
        let measure = format!("{}, {STREAMS} at once, against bare publishing", self.what());
        let row = compared(section, measure, ours, published);
        match self.sound {
            Sound::Spoken => {
                let met = Some(median(ours) / median(published) >= LEAST);
                Row { target: format!("≥ {LEAST} ×"), met, ..row }
            }
            Sound::Short => row,
        }
    }

    /// What is heard, for a row.
    pub fn what(&self) -> String {
        let what = match self.sound {
            Sound::Spoken => format!("speech ({CHUNK_MS} ms a chunk)"),
            Sound::Short => "20 ms chunks".to_owned(),
        };
        format!("{CHUNKS}-chunk streams of {what}")
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
