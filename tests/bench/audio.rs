//! Real time: a host answers spoken turns on a JACK server with short periods. What that server misses is compared with
//! what a second one misses at the same time, where a client that only copies is in the host's place: both have the same
//! graph on the same machine under the same load.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use sidetone::config::Config;

use crate::jack::{JackServer, Peer, available, wait_for};
use crate::running::{RunningHost, end, part};
use crate::support::{BenchHome, Row, Scope, median, progress};
use crate::turns::{Kind, PEER, RATE_HZ, Speaker, Turn, questions};

const SECTION: &str = "audio";
/// Frames of a period.
pub const PERIOD: u32 = 128;
/// The share of a period that a callback may take.
const MOST_OF_PERIOD: f64 = 5.0;
/// What the fabric may add between the end of speech and the first sample of the answer, in ms.
const MOST_ADDED_MS: f64 = 30.0;

/// The settings of a listener between the ports of the bench, with answers that are not too long.
pub fn settings(server: &str) -> Vec<String> {
    vec![
        format!("jack.server={server}"),
        format!(
            r#"voice.listeners=[{{ name = "main", capture_from = ["{PEER}:mouth"], playback_to = ["{PEER}:ear"] }}]"#
        ),
        // What is measured must be the same on a machine that has an Ollama.
        "llm.engine=llamacpp".to_owned(),
        "agent.max_tokens=40".to_owned(),
    ]
}

/// Runs it.
pub fn run(scope: Scope) -> anyhow::Result<Vec<Row>> {
    if !available() {
        return Ok(vec![Row::note(SECTION, "skipped: jackd is not installed", "")]);
    }
    let runtime = tokio::runtime::Runtime::new()?;
    let home = BenchHome::new()?;
    let length = Duration::from_secs(scope.of(60, 10));
    let questions = runtime.block_on(questions(&home.home, &Config::default()))?;
    let server = JackServer::start(RATE_HZ, PERIOD);
    let peer = Peer::open(&server, PEER);
    let mut host = RunningHost::start(&home.home, &settings(server.name()))?;
    let mut control = Control::start()?;
    // Changes of the graph make a server miss periods by themselves: they belong to neither side.
    wait_for("the listener to be connected", || {
        let both = ["mouth", "ear"].map(|port| !peer.connections(&format!("{PEER}:{port}")).is_empty());
        both.iter().all(|connected| *connected).then_some(())
    });
    let (turns, unheard, busy, idle) = runtime.block_on(async {
        let mut speaker = Speaker::new(&host.url, peer).await?;
        let before = (speaker.xruns(), control.xruns()?);
        let begun = Instant::now();
        let bar = progress("JACK while turns run", length.as_secs());
        let (mut turns, mut unheard) = (Vec::new(), 0);
        for question in questions.iter().cycle() {
            if begun.elapsed() >= length {
                break;
            }
            match speaker.ask(question).await? {
                Some(turn) => turns.push(turn),
                None => unheard += 1,
            }
            host.check()?;
            bar.set_position(begun.elapsed().as_secs().min(length.as_secs()));
        }
        bar.finish_and_clear();
        anyhow::Ok((turns, unheard, speaker.xruns() - before.0, control.xruns()? - before.1))
    })?;

    let seconds = length.as_secs();
    // Two counts of the same chance differ by this much and more once in twenty times.
    let most = idle as f64 + 2.0 * (2.0 * idle as f64).sqrt();
    let mut rows = vec![Row {
        baseline: format!("{idle} with an idle client at the same time"),
        compared: format!("{:+}", i128::from(busy) - i128::from(idle)),
        target: format!("≤ {most:.0}: no more, but for chance"),
        met: Some(busy as f64 <= most),
        ..Row::note(SECTION, format!("xruns in {seconds} s, {} turns, {PERIOD} frames", turns.len()), busy.to_string())
    }];
    if unheard > 0 {
        rows.push(Row::note(SECTION, "   wake words that were not heard", unheard.to_string()));
    }
    rows.extend(callbacks(&host)?);
    rows.extend(answers(&turns));
    Ok(rows)
}

/// A server with the same graph as the one under test, in a process of its own: libjack serves one server a process.
struct Control {
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Control {
    fn start() -> anyhow::Result<Self> {
        let mut child = part(&["control"], Stdio::piped())?;
        let questions = child.stdin.take().context("no standard input")?;
        let answers = BufReader::new(child.stdout.take().context("no standard output")?);
        Ok(Self { child, questions, answers })
    }

    /// Periods that it has missed so far.
    fn xruns(&mut self) -> anyhow::Result<u64> {
        writeln!(self.questions)?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        answer.trim().parse().context("the second JACK server is gone")
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// The process behind [`Control`]: says how many periods were missed whenever it is sent a line.
pub fn control() -> anyhow::Result<()> {
    let server = JackServer::start(RATE_HZ, PERIOD);
    let (peer, idle) = (Peer::open(&server, PEER), Peer::open(&server, "idle"));
    for (source, sink) in [("bench:mouth", "bench:ear"), ("bench:mouth", "idle:ear"), ("idle:mouth", "bench:ear")] {
        peer.connect(source, sink);
    }
    for line in std::io::stdin().lines() {
        line?;
        println!("{}", peer.xruns());
    }
    drop(idle);
    Ok(())
}

/// How long the callbacks of the host took, by its own log.
fn callbacks(host: &RunningHost) -> anyhow::Result<Vec<Row>> {
    if !cfg!(feature = "rt-check") {
        let how = "not measured: cargo bench --features rt-check -- audio";
        return Ok(vec![Row::note(SECTION, "callback time", how)]);
    }
    let logged = host.logged("callback times").context("the host logs no callback times")?;
    let us = |name: &str| logged[name].as_f64().unwrap_or(f64::NAN);
    let period_us = f64::from(PERIOD) * 1e6 / f64::from(RATE_HZ);
    let beside = format!("p50 {} µs, p99 {} µs, longest {} µs", us("p50_us"), us("p99_us"), us("max_us"));
    let count = &logged["count"];
    Ok(vec![
        Row::below(
            SECTION,
            format!("callback p99 of {count}"),
            us("p99_us") * 100.0 / period_us,
            MOST_OF_PERIOD,
            "% of a period",
        )
        .beside(beside),
        // One allocation would have ended the host.
        Row { met: Some(true), target: "0".to_owned(), ..Row::note(SECTION, "allocations in callbacks", "0") },
    ])
}

/// End of speech to first sample out, against what its parts take by themselves.
fn answers(turns: &[Turn]) -> Vec<Row> {
    let period_ms = f64::from(PERIOD) * 1e3 / f64::from(RATE_HZ);
    let mut rows = Vec::new();
    for (kind, name) in
        [(Kind::Command, "command"), (Kind::Model, "chat model"), (Kind::Wake, "command after a wake word")]
    {
        let of_kind: Vec<&Turn> = turns.iter().filter(|turn| turn.kind == kind).collect();
        if of_kind.is_empty() {
            continue;
        }
        let parts = |turn: &&Turn| {
            let work = &turn.work;
            let first = |times: &[f64]| times.first().copied().unwrap_or(0.0);
            // The wake word's own look at the utterance may be its transcript.
            let stt = work.stt_ms.first().copied().unwrap_or(turn.times.stt_ms as f64);
            turn.times.endpoint_ms as f64
                + stt
                + first(&work.first_sentence_ms)
                + first(&work.first_audio_ms)
                + period_ms
        };
        let totals: Vec<f64> = of_kind.iter().map(|turn| turn.times.total_ms as f64).collect();
        let sums: Vec<f64> = of_kind.iter().map(parts).collect();
        let added: Vec<f64> = totals.iter().zip(&sums).map(|(total, sum)| total - sum).collect();
        let measure = format!("end of speech → first sample: {name} ({} turns)", of_kind.len());
        rows.push(Row {
            baseline: format!("{:.0} ms: silence + engines + period", median(&sums)),
            compared: format!("{:+.1} ms", median(&added)),
            met: Some(median(&added) <= MOST_ADDED_MS),
            ..Row::excess(SECTION, measure, median(&totals), median(&sums), MOST_ADDED_MS)
        });
        let median_of = |part: fn(&Turn) -> f64| median(&of_kind.iter().map(|turn| part(turn)).collect::<Vec<_>>());
        let stages = format!(
            "silence {:.0}, transcript {:.0}, first sentence {:.0}, first audio {:.0}, first sample {:.0} ms",
            median_of(|turn| turn.times.endpoint_ms as f64),
            median_of(|turn| turn.times.stt_ms as f64),
            median_of(|turn| turn.times.first_sentence_ms as f64),
            median_of(|turn| turn.times.first_audio_ms as f64),
            median_of(|turn| turn.times.first_sample_ms as f64),
        );
        let heard = median_of(|turn| turn.heard_ms);
        rows.push(
            Row::note(SECTION, "   last sound → first sound, as recorded", format!("{heard:.0} ms")).beside(stages),
        );
    }
    rows
}
