//! What the fabric costs beside the engines: the same clip and the same sentence, bare and through a role, by turns.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use sidetone::audio::{Clip, resample, wav_bytes};
use sidetone::bus::message::{Blob, stt, tts};
use sidetone::bus::subject::Target;
use sidetone::bus::{Bus, Call, embedded};
use sidetone::config::Config;
use sidetone::engine::{RECOGNIZER_RATE_HZ, Recognizer, SpeakOptions, Synthesizer, TranscribeOptions};
use sidetone::role::model_cache::{ModelCache, recognizer_spec, synthesizer_spec};
use tokio_util::sync::CancellationToken;

use crate::support::{BenchHome, Row, Scope, fixture, free_port, median, ms, progress};

const SECTION: &str = "speech";
/// The fabric may cost a tenth of what the engine takes.
const MOST: f64 = 1.1;
/// The rate of the recording that goes through the role, so that resampling is part of it.
const CLIP_RATE_HZ: u32 = 48_000;
const TEXT: &str = "The capital of France is Paris, a city on the river Seine.";

/// Runs it.
pub fn run(scope: Scope) -> anyhow::Result<Vec<Row>> {
    let runtime = tokio::runtime::Runtime::new()?;
    let home = BenchHome::new()?;
    let sets = [r#"node.roles=["stt","tts"]"#, "node.name=bench-speech", &format!("bus.port={}", free_port()?)]
        .map(String::from);
    let config = Config::load(&[], &sets)?;
    let rows = runtime.block_on(compare(scope, config, &home));
    runtime.shutdown_timeout(Duration::from_secs(5));
    rows
}

/// The engines, loaded once more beside those of the roles.
struct Bare {
    recognizer: Arc<dyn Recognizer>,
    synthesizer: Arc<dyn Synthesizer>,
}

async fn compare(scope: Scope, config: Config, home: &BenchHome) -> anyhow::Result<Vec<Row>> {
    let model_cache = ModelCache::new(&home.home)?;
    let hears = config.stt.providers.first().context("no recognizer is set")?;
    let speaks = config.tts.providers.first().context("no synthesizer is set")?;
    let voice = speaks.voices.first().context("no voice is set")?;
    let spec = recognizer_spec(&config.stt, hears, &hears.model);
    let bare = Bare {
        recognizer: model_cache.recognizer(&hears.engine, spec).await?,
        synthesizer: model_cache.synthesizer(&speaks.engine, synthesizer_spec(&config.tts, speaks, voice)).await?,
    };
    let url = embedded::url(config.bus.port);
    let (up, is_up) = tokio::sync::oneshot::channel();
    let stop = CancellationToken::new();
    let host = tokio::spawn(sidetone::node::run(config, home.home.clone(), stop.clone(), |_| {
        let _ = up.send(());
    }));
    if is_up.await.is_err() {
        host.await??;
        anyhow::bail!("the roles ended before they were up");
    }
    let bus = Bus::connect(&url, "bench-caller").await?;
    let rows = rows(scope, &bus, &bare).await;
    stop.cancel();
    host.await??;
    rows
}

async fn rows(scope: Scope, bus: &Bus, bare: &Bare) -> anyhow::Result<Vec<Row>> {
    let rounds = scope.of(15, 3);
    let jfk = Clip::decode(&fixture("jfk.flac")?)?;
    let at_16k = resample(&jfk.samples, jfk.rate_hz, RECOGNIZER_RATE_HZ)?;
    let two_seconds = &at_16k[..2 * RECOGNIZER_RATE_HZ as usize];
    let mut rows = Vec::new();
    for (what, samples) in
        [("transcribe 11 s, WAV of 48 kHz", at_16k.as_slice()), ("transcribe 2 s, WAV of 48 kHz", two_seconds)]
    {
        let times = transcriptions(bus, bare, samples, rounds, what).await?;
        rows.push(row(what, &times));
    }
    let what = "first audio of a sentence";
    let times = first_audios(bus, bare, rounds, what).await?;
    rows.push(row(what, &times));
    Ok(rows)
}

/// Times through the role and bare, in ms, a pair a round.
#[derive(Default)]
struct Pairs {
    role: Vec<f64>,
    bare: Vec<f64>,
}

/// Neighbours see the same machine, so each round gives a ratio; its median is what counts.
fn row(what: &str, pairs: &Pairs) -> Row {
    let ratios: Vec<f64> = pairs.role.iter().zip(&pairs.bare).map(|(role, bare)| role / bare).collect();
    let ratio = median(&ratios);
    Row {
        compared: format!("{ratio:.3} × (median of {})", ratios.len()),
        met: Some(ratio <= MOST),
        ..Row::ratio(SECTION, what, median(&pairs.role), median(&pairs.bare), MOST)
    }
}

async fn transcriptions(bus: &Bus, bare: &Bare, samples: &[f32], rounds: u64, what: &str) -> anyhow::Result<Pairs> {
    let file = wav_bytes(&resample(samples, RECOGNIZER_RATE_HZ, CLIP_RATE_HZ)?, CLIP_RATE_HZ)?;
    // The engine hears the same samples on both ways.
    let clip = Clip::decode(&file)?;
    let heard: Arc<[f32]> = resample(&clip.samples, clip.rate_hz, RECOGNIZER_RATE_HZ)?.into();
    let request = stt::Request { file: Some(Blob(Bytes::from(file))), ..stt::Request::default() };
    let bar = progress(what, rounds + 1);
    let mut pairs = Pairs::default();
    for round in 0..=rounds {
        let (mut role, mut alone) = ((0.0, String::new()), (0.0, String::new()));
        for way in [round % 2, (round + 1) % 2] {
            if way == 0 {
                let begun = Instant::now();
                let transcript = bus.ask(Target::Any, &request, &Call::within(Duration::from_secs(60))).await?;
                role = (ms(begun.elapsed()), transcript.text);
            } else {
                let (recognizer, heard) = (Arc::clone(&bare.recognizer), Arc::clone(&heard));
                alone = tokio::task::spawn_blocking(move || {
                    let options = TranscribeOptions { language: Some("en".to_owned()), prompt: None };
                    let begun = Instant::now();
                    let heard = recognizer.transcribe(&heard, &options, &CancellationToken::new());
                    heard.map(|heard| (ms(begun.elapsed()), heard.text))
                })
                .await??;
            }
        }
        ensure!(role.1 == alone.1, "the role heard {:?} and the engine {:?}", role.1, alone.1);
        // The first round warms both up.
        if round > 0 {
            pairs.role.push(role.0);
            pairs.bare.push(alone.0);
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(pairs)
}

async fn first_audios(bus: &Bus, bare: &Bare, rounds: u64, what: &str) -> anyhow::Result<Pairs> {
    let bar = progress(what, rounds + 1);
    let mut pairs = Pairs::default();
    for round in 0..=rounds {
        let (mut role, mut alone) = (None, None);
        for way in [round % 2, (round + 1) % 2] {
            if way == 0 {
                let begun = Instant::now();
                let say = tts::Stream(tts::Say { text: TEXT.to_owned(), ..tts::Say::default() });
                let mut stream = bus.open(Target::Any, &say, &Call::within(Duration::from_secs(60))).await?;
                while let Some(chunk) = stream.next().await {
                    if !chunk?.pcm.data.0.is_empty() {
                        role.get_or_insert_with(|| ms(begun.elapsed()));
                    }
                }
            } else {
                let synthesizer = Arc::clone(&bare.synthesizer);
                alone = tokio::task::spawn_blocking(move || {
                    let (begun, mut first) = (Instant::now(), None);
                    // To its end, as the role does: what is left over must not fall into the next measurement.
                    let spoken = synthesizer.speak(TEXT, &SpeakOptions::default(), &mut |_| {
                        first.get_or_insert_with(|| ms(begun.elapsed()));
                        ControlFlow::Continue(())
                    });
                    spoken.map(|()| first)
                })
                .await??;
            }
        }
        if round > 0 {
            pairs.role.push(role.context("the role gave no audio")?);
            pairs.bare.push(alone.context("the engine gave no audio")?);
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(pairs)
}
