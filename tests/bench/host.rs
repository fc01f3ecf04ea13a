//! The host as a whole: what it costs while nothing is said, how soon it is up, what `sidetone ask` adds.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use sidetone::bus::message::{Blob, stt, tts};
use sidetone::bus::subject::Target;
use sidetone::bus::{Bus, Call};
use sidetone::config::Config;
use sidetone::engine::{ChatModel as _, ChatTimeouts, LlamaCpp, LlamaCppSpec, SpeakOptions, TranscribeOptions};
use sidetone::home::Home;
use sidetone::role::model_cache::{ModelCache, blocking, recognizer_spec, synthesizer_spec};
use tokio_util::sync::CancellationToken;

use crate::audio::{PERIOD, settings};
use crate::jack::{JackServer, Peer, available};
use crate::observe::Observer;
use crate::running::{Process, RunningHost, SIDETONE, end, part};
use crate::support::{BenchHome, Row, Scope, fixture, median, ms, pass, progress};
use crate::turns::RATE_HZ;

const SECTION: &str = "host";
/// What a host may take on top of its models, to be up.
const MOST_UP_MS: f64 = 3_000.0;
/// What `sidetone ask` may add to the model's own time.
const MOST_ASK_MS: f64 = 30.0;
/// The share of one core that a host in silence may take.
const MOST_IDLE_PERCENT: f64 = 3.0;
/// What a host with all models loaded may hold in memory.
const MOST_MB: f64 = 400.0;
/// After the start, until the measurement in silence begins.
const SETTLE: Duration = Duration::from_secs(4);
/// After the work, until freed memory is given back.
const AFTER_WORK: Duration = Duration::from_secs(15);
const QUESTION: &str = "Name three colours.";

/// Runs it.
pub fn run(scope: Scope) -> anyhow::Result<Vec<Row>> {
    let home = BenchHome::new()?;
    // Once for the page cache: whoever loads first would pay for the disk.
    bare_engines(&home.home)?;
    let bare = bare_engines(&home.home)?;
    let server = available().then(|| JackServer::start(RATE_HZ, PERIOD));
    let mut sets = server.as_ref().map_or_else(Vec::new, |server| settings(server.name()));
    if server.is_none() {
        sets.extend(
            [r#"node.roles=["stt","tts","llm","agent"]"#, "llm.engine=llamacpp", "agent.max_tokens=40"]
                .map(String::from),
        );
    }
    // Twice the same question is twice the same work.
    sets.push("agent.temperature=0.0".to_owned());
    let mut host = RunningHost::start(&home.home, &sets)?;
    let mut rows = vec![Row {
        measure: "start → up, with nats-server".to_owned(),
        ..Row::excess(SECTION, "", ms(host.up_after), bare.load_ms, MOST_UP_MS)
    }];
    if let Some(server) = &server {
        host.wait_for_log("JACK client up", Duration::from_secs(20))?;
        rows.extend(silence(scope, &host, server)?);
    } else {
        rows.push(Row::note(SECTION, "idle", "not measured: jackd is not installed"));
    }
    rows.extend(ask(scope, &host)?);
    work(&host)?;
    host.check()?;
    rows.extend(memory(&host, &bare)?);
    Ok(rows)
}

/// The processor's time in silence.
fn silence(scope: Scope, host: &RunningHost, server: &JackServer) -> anyhow::Result<Vec<Row>> {
    let mut copier = part(&["copy", server.name()], Stdio::null())?;
    let result = silence_beside(scope, host, copier.id());
    end(&mut copier);
    result
}

fn silence_beside(scope: Scope, host: &RunningHost, copier: u32) -> anyhow::Result<Vec<Row>> {
    std::thread::sleep(SETTLE);
    let look = || -> anyhow::Result<_> {
        Ok((Instant::now(), Process::read(host.pid())?, Process::descendants(host.pid())?, Process::read(copier)?))
    };
    let before = look()?;
    pass("a host in silence", Duration::from_secs(scope.of(30, 5)));
    let after = look()?;
    let wall = after.0.duration_since(before.0).as_secs_f64();
    let percent = |now: &Process, then: &Process| now.cpu().saturating_sub(then.cpu()).as_secs_f64() * 100.0 / wall;
    let children: Vec<String> = (after.2.iter())
        .filter_map(|now| {
            let then = before.2.iter().find(|then| then.pid == now.pid)?;
            Some(format!("{} {:.2} %", now.name, percent(now, then)))
        })
        .collect();
    Ok(vec![
        Row::below(SECTION, "silence, one listener", percent(&after.1, &before.1), MOST_IDLE_PERCENT, "% of a core")
            .beside(format!("{:.2} % for a JACK client that only copies", percent(&after.3, &before.3))),
        Row::note(SECTION, "   its children in silence", children.join(", ")),
    ])
}

/// `sidetone ask` against the model's own time.
fn ask(scope: Scope, host: &RunningHost) -> anyhow::Result<Vec<Row>> {
    let rounds = scope.of(10, 3);
    let start_up = (0..rounds).map(|_| run_cli(&["--version"])).collect::<anyhow::Result<Vec<f64>>>()?;
    let runtime = tokio::runtime::Runtime::new()?;
    let observer = runtime.block_on(Observer::start(&host.url))?;
    let bar = progress("sidetone ask", rounds + 1);
    let (mut walls, mut models, mut added) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=rounds {
        let wall = run_cli(&["--bus", &host.url, "ask", QUESTION])?;
        let model = *observer.take().llm_ms.first().context("no answer of the chat model was seen")?;
        // The first one fills the model's cache.
        if round > 0 {
            walls.push(wall);
            models.push(model);
            added.push(wall - model);
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let (start_up, added) = (median(&start_up), median(&added));
    let excess = added - start_up;
    Ok(vec![
        Row {
            baseline: format!("{:.0} ms model + {start_up:.1} ms start of the program", median(&models)),
            compared: format!("{excess:+.1} ms"),
            target: format!("≤ +{MOST_ASK_MS} ms"),
            met: Some(excess <= MOST_ASK_MS),
            ..Row::note(SECTION, format!("sidetone ask (median of {rounds})"), format!("{:.1} ms", median(&walls)))
        },
        Row::note(SECTION, "   with the start of the program", format!("{added:+.1} ms")),
    ])
}

/// How long `sidetone` takes with `arguments`, in ms.
fn run_cli(arguments: &[&str]) -> anyhow::Result<f64> {
    let begun = Instant::now();
    let output = Command::new(SIDETONE).args(arguments).stdin(Stdio::null()).output()?;
    let wall = ms(begun.elapsed());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    anyhow::ensure!(output.status.success(), "sidetone {} failed: {said}", arguments.join(" "));
    Ok(wall)
}

/// Has every engine work once: what they take for it is theirs from then on.
fn work(host: &RunningHost) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let bus = Bus::connect(&host.url, "bench-caller").await?;
        let call = Call::within(Duration::from_secs(60));
        let file = Some(Blob(fixture("jfk.flac")?.into()));
        let heard = bus.ask(Target::Any, &stt::Request { file, ..stt::Request::default() }, &call).await?;
        let say = tts::Say { text: heard.text, ..tts::Say::default() };
        bus.ask(Target::Any, &tts::Request(say), &call).await?;
        Ok(())
    })
}

/// What the host holds a while after it has worked.
fn memory(host: &RunningHost, bare: &Loaded) -> anyhow::Result<Vec<Row>> {
    pass("a host after its work", AFTER_WORK);
    let own = Process::read(host.pid())?.memory()?;
    let mut total_mb = own.resident_mb;
    let mut parts = vec![format!("host {:.0} MB", own.resident_mb)];
    for child in Process::descendants(host.pid())? {
        let resident_mb = child.memory()?.resident_mb;
        total_mb += resident_mb;
        parts.push(format!("{} {resident_mb:.0} MB", child.name));
    }
    parts.push(format!("{:.0} MB in the host are the JACK server's own", own.shared_mb));
    Ok(vec![
        Row::below(SECTION, "memory of the host, without JACK's", own.resident_mb - own.shared_mb, MOST_MB, "MB")
            .beside(format!("{:.0} MB for the bare engines", bare.own_mb)),
        Row::note(SECTION, "   with its children", format!("{:.0} MB", total_mb - own.shared_mb))
            .beside(format!("{:.0} MB for the bare engines", bare.own_mb + bare.children_mb)),
        Row::note(SECTION, "   in parts", parts.join(", ")),
    ])
}

/// What the engines take in a process of their own.
#[derive(Debug, Serialize, Deserialize)]
struct Loaded {
    load_ms: f64,
    own_mb: f64,
    children_mb: f64,
}

/// Loads the engines in a fresh process.
fn bare_engines(home: &Home) -> anyhow::Result<Loaded> {
    let home = home.path().to_str().context("a folder that is not UTF-8")?;
    let output = part(&["load", home], Stdio::null())?.wait_with_output()?;
    anyhow::ensure!(output.status.success(), "the bare engines do not load: {}", output.status);
    serde_json::from_slice(&output.stdout).context("the bare engines say nothing")
}

/// The process that loads the engines of `home`.
pub fn load_part(home: &str) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let loaded = runtime.block_on(load(&Home::find(Some(home.as_ref()))))?;
    println!("{}", serde_json::to_string(&loaded)?);
    Ok(())
}

/// The process with a JACK client on `server` that only copies.
pub fn copy_part(server: &str) -> anyhow::Result<()> {
    let _peer = Peer::open_at(server, "copier");
    loop {
        std::thread::park();
    }
}

/// Loads and warms the engines of the default settings, all at once as a host does.
async fn load(home: &Home) -> anyhow::Result<Loaded> {
    let begun = Instant::now();
    let config = Config::default();
    let model_cache = ModelCache::new(home)?;
    let hear = async {
        let provider = config.stt.providers.first().context("no recognizer is set")?;
        let spec = recognizer_spec(&config.stt, provider, &provider.model);
        let recognizer = model_cache.recognizer(&provider.engine, spec).await?;
        blocking::<_, sidetone::engine::EngineError>(move || {
            // As role `stt` does: silence would not get as far as the model.
            let hum: Vec<f32> = (0..16_000).map(|n| 0.01 * (n as f32 * 0.086).sin()).collect();
            recognizer.transcribe(&hum, &TranscribeOptions::default(), &CancellationToken::new())?;
            Ok(recognizer)
        })
        .await
        .map_err(anyhow::Error::from)
    };
    let speak = async {
        let provider = config.tts.providers.first().context("no synthesizer is set")?;
        let voice = provider.voices.first().context("no voice is set")?;
        let voice = model_cache.synthesizer(&provider.engine, synthesizer_spec(&config.tts, provider, voice)).await?;
        blocking::<_, sidetone::engine::EngineError>(move || {
            voice.speak("Ready.", &SpeakOptions::default(), &mut |_| std::ops::ControlFlow::Continue(()))?;
            Ok(voice)
        })
        .await
        .map_err(anyhow::Error::from)
    };
    let chat = async {
        let provider = config.llm.providers.first().context("no provider is set")?;
        let spec = LlamaCppSpec {
            model: provider.embedded_model.clone(),
            path: model_cache.catalogue().find(&provider.embedded_model)?.dir(home),
            threads: config.llm.threads,
            context_tokens: provider.context_tokens,
            load_timeout: Duration::from_secs(120),
        };
        let model = LlamaCpp::start(&spec, ChatTimeouts::default(), home).await?;
        model.warm().await?;
        anyhow::Ok(model)
    };
    let engines = tokio::try_join!(hear, speak, chat)?;
    let load_ms = ms(begun.elapsed());
    let pid = std::process::id();
    let own_mb = Process::read(pid)?.memory()?.resident_mb;
    let mut children_mb = 0.0;
    for child in Process::descendants(pid)? {
        children_mb += child.memory()?.resident_mb;
    }
    engines.2.stop(Duration::from_secs(5)).await;
    Ok(Loaded { load_ms, own_mb, children_mb })
}
