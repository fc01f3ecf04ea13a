//! Floods: whether anything is lost, and what they fill. And how even the clock is.

use std::net::UdpSocket;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use futures::StreamExt as _;
use sidetone::bus::Call;
use sidetone::bus::message::midi::{self, In, State, StateQuery};
use sidetone::bus::subject::{Target, pattern};
use tokio_util::task::AbortOnDropHandle;

use super::{PATIENCE, PERIOD, RATE_HZ, SECTION, Stage, Times};
use crate::running::{NODE, Process};
use crate::support::{Row, Scope, median, progress};

/// OSC messages a second.
const OSC_A_SECOND: u32 = 5_000;
/// Of MIDI as many a period as more than fill a cable, which carries 1,042 messages of three bytes a second.
pub const A_PERIOD: usize = 3;
/// What a host may hold more after a flood, in MB.
const MOST_MB: f64 = 16.0;
/// After the last one, until what has not come is lost.
const QUIET: Duration = Duration::from_secs(2);
/// The tempo of the clock, which has 24 ticks a beat: a tick is no whole number of periods.
const BPM: u32 = 120;
const TICK_FRAMES: f64 = RATE_HZ as f64 * 60.0 / (BPM as f64 * 24.0);

pub async fn rows(scope: Scope, stage: &mut Stage) -> anyhow::Result<Vec<Row>> {
    let seconds = scope.of(10, 2);
    // What is allocated once is no growth.
    bus_flood(stage, 1).await?;
    relay_flood(stage, 1)?;
    cable(stage, 1).await?;
    let before = memory(stage)?;
    let mut rows = vec![
        lost("OSC → osc.in on the bus", OSC_A_SECOND, bus_flood(stage, seconds).await?),
        lost("OSC → OSC by a handler", OSC_A_SECOND, relay_flood(stage, seconds)?),
    ];
    rows.extend(cable(stage, seconds).await?.rows());
    let after = memory(stage)?;
    rows.push(
        Row::below(SECTION, format!("memory after 3 × {seconds} s of that"), after - before, MOST_MB, "MB more")
            .beside(format!("{before:.0} MB before")),
    );
    rows.extend(clock(scope, stage).await?);
    Ok(rows)
}

fn memory(stage: &Stage) -> anyhow::Result<f64> {
    Ok(Process::read(stage.near.pid())?.memory()?.resident_mb)
}

/// How many were sent, and how many came.
type Count = (u64, u64);

fn lost(measure: &str, a_second: u32, (sent, came): Count) -> Row {
    Row {
        target: "0".to_owned(),
        met: Some(sent == came),
        ..Row::note(
            SECTION,
            format!("lost of {sent}, {a_second} a second: {measure}"),
            (sent.cast_signed() - came.cast_signed()).to_string(),
        )
    }
}

/// Sends to `address` by the millisecond; each is another one.
fn flood(stage: &Stage, address: &str, seconds: u32) -> anyhow::Result<u64> {
    let (begun, all) = (Instant::now(), u64::from(OSC_A_SECOND) * u64::from(seconds));
    let bar = progress(&format!("a flood of {address}"), u64::from(seconds));
    let mut sent = 0;
    while sent < all {
        let due = (u64::try_from(begun.elapsed().as_millis())? + 1) * u64::from(OSC_A_SECOND) / 1_000;
        while sent < due.min(all) {
            stage.surface.send(address, &[i32::try_from(sent)?])?;
            sent += 1;
        }
        bar.set_position(begun.elapsed().as_secs());
        std::thread::sleep(Duration::from_millis(1));
    }
    bar.finish_and_clear();
    Ok(sent)
}

/// Waits until as many have come, or none came for a while.
fn settle(count: &AtomicU64, sent: u64) -> u64 {
    let (mut last, mut since) = (count.load(Ordering::Relaxed), Instant::now());
    while last < sent && since.elapsed() < QUIET {
        std::thread::sleep(Duration::from_millis(20));
        let now = count.load(Ordering::Relaxed);
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
    last
}

/// Counts what comes on a subject.
async fn counted(stage: &Stage, subject: String) -> anyhow::Result<(Arc<AtomicU64>, AbortOnDropHandle<()>)> {
    let mut messages = stage.nats.subscribe(subject).await?;
    stage.nats.flush().await?;
    let count = Arc::<AtomicU64>::default();
    let counting = Arc::clone(&count);
    let task = tokio::spawn(async move {
        while messages.next().await.is_some() {
            counting.fetch_add(1, Ordering::Relaxed);
        }
    });
    Ok((count, AbortOnDropHandle::new(task)))
}

async fn bus_flood(stage: &Stage, seconds: u32) -> anyhow::Result<Count> {
    let (count, _counting) = counted(stage, pattern::filter(pattern::OSC_IN, Some(NODE))).await?;
    let sent = flood(stage, "/desk/fader/3", seconds)?;
    Ok((sent, settle(&count, sent)))
}

fn relay_flood(stage: &Stage, seconds: u32) -> anyhow::Result<Count> {
    let back = stage.back.try_clone()?;
    widen(&back)?;
    back.set_read_timeout(Some(Duration::from_millis(50)))?;
    let (count, done) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|threads| {
        threads.spawn(|| {
            let mut buffer = [0; 1_024];
            while !done.load(Ordering::Relaxed) {
                if back.recv(&mut buffer).is_ok() {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        let sent = flood(stage, "/relay", seconds);
        let came = sent.as_ref().map_or(0, |sent| settle(&count, *sent));
        done.store(true, Ordering::Relaxed);
        Ok((sent?, came))
    })
}

/// Gives a socket as much room as it may have, so that nothing is lost here.
fn widen(socket: &UdpSocket) -> anyhow::Result<()> {
    let room: libc::c_int = 4 << 20;
    let size = u32::try_from(size_of_val(&room))?;
    // SAFETY: a plain call with a number and its size.
    let done = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVBUF, (&raw const room).cast(), size)
    };
    ensure!(done == 0, "the socket takes no more room");
    Ok(())
}

/// What became of the messages of a cable.
struct Cable {
    sent: u64,
    /// What a client of JACK heard that does nothing but hear.
    bare: u64,
    /// What JACK gave to the host.
    given: u64,
    /// What came on the bus.
    told: u64,
    /// Periods that JACK missed.
    xruns: u64,
}

impl Cable {
    fn rows(&self) -> Vec<Row> {
        let measure = format!(
            "lost of {}, {} a second: MIDI in → midi.in on the bus",
            self.given,
            RATE_HZ / PERIOD * A_PERIOD as u32
        );
        let missed = |came: u64| (self.sent.saturating_sub(came)).to_string();
        vec![
            Row {
                target: "0".to_owned(),
                met: Some(self.told == self.given),
                ..Row::note(SECTION, measure, (self.given.cast_signed() - self.told.cast_signed()).to_string())
            },
            Row::note(
                SECTION,
                "   not given to the host by JACK, which drops a period that it misses",
                missed(self.given),
            )
            .beside(format!("{} to a client that only hears; {} xruns", missed(self.bare), self.xruns)),
        ]
    }
}

/// A cable that is full: notes and controllers.
async fn cable(stage: &mut Stage, seconds: u32) -> anyhow::Result<Cable> {
    let mut told = stage.bus.subscribe::<In>(&pattern::filter(pattern::MIDI_IN, Some(NODE))).await?;
    let count = Arc::<AtomicU64>::default();
    let counting = Arc::clone(&count);
    let _counting = AbortOnDropHandle::new(tokio::spawn(async move {
        while let Some((_, message)) = told.next().await {
            // One that can't be read has not come.
            counting.fetch_add(u64::from(message.is_ok()), Ordering::Relaxed);
        }
    }));
    let before = (midi(stage).await?.received, stage.synth.xruns());
    while stage.ear.next().is_some() {}
    let sent = u64::from(seconds) * u64::from(RATE_HZ / PERIOD) * A_PERIOD as u64;
    let bar = progress("a full MIDI cable", u64::from(seconds));
    for n in 0..sent {
        let value = (n % 127 + 1) as u8;
        stage.keys.play([[0x90, value, 64], [0x80, value, 0], [0xb0, 20, value]][(n % 3) as usize])?;
    }
    for _ in 0..seconds {
        std::thread::sleep(Duration::from_secs(1));
        bar.inc(1);
    }
    bar.finish_and_clear();
    let told = settle(&count, sent);
    let given = midi(stage).await?.received - before.0;
    let bare = std::iter::from_fn(|| stage.ear.next()).count() as u64;
    Ok(Cable { sent, bare, given, told, xruns: stage.synth.xruns() - before.1 })
}

/// What the host says of its MIDI.
async fn midi(stage: &Stage) -> anyhow::Result<State> {
    Ok(stage.bus.ask(Target::Node(NODE), &StateQuery::default(), &Call::within(PATIENCE)).await?)
}

/// The ticks of the clock against their grid.
async fn clock(scope: Scope, stage: &mut Stage) -> anyhow::Result<Vec<Row>> {
    let send = |json: &'static str| serde_json::from_str::<midi::Out>(json).context("that is no MIDI");
    let call = Call::within(PATIENCE);
    stage.synth.forget();
    let xruns = stage.synth.xruns();
    stage.bus.ask(Target::Node(NODE), &send(r#"{"all": [{"bpm": 120}, {"transport": "start"}]}"#)?, &call).await?;
    crate::support::pass("the MIDI clock", Duration::from_secs(scope.of(30, 5)));
    stage.bus.ask(Target::Node(NODE), &send(r#"{"transport": "stop"}"#)?, &call).await?;
    let xruns = stage.synth.xruns() - xruns;
    let heard: Vec<_> = std::iter::from_fn(|| stage.synth.next()).filter(|heard| heard.bytes[0] == 0xf8).collect();
    ensure!(heard.len() > 1, "there were no ticks");
    // The server's time. Its frames stand still while the dummy driver misses periods; those of a card do not.
    let by_time = jitter(heard.iter().map(|tick| {
        let begun = tick.period.1.saturating_sub(heard[0].period.1) as f64 * f64::from(RATE_HZ) / 1e6;
        begun + f64::from(tick.frame.wrapping_sub(tick.period.0))
    }));
    let by_frame = jitter(heard.iter().map(|tick| f64::from(tick.frame.wrapping_sub(heard[0].frame))));
    let beside = |jitter: &Times| format!("p50 {:.0}, p99 {:.0}", jitter.p50(), jitter.p99());
    let measure = format!("jitter of {} ticks of the MIDI clock at {BPM}: the most", heard.len());
    let count = format!("{:.0} frames; {xruns} xruns", by_frame.max());
    Ok(vec![
        Row {
            target: format!("≤ {PERIOD} frames, one period"),
            met: Some(by_time.max() <= f64::from(PERIOD)),
            ..Row::note(SECTION, measure, format!("{:.0} frames", by_time.max()))
        }
        .beside(beside(&by_time)),
        Row::note(SECTION, "   by the frames of the dummy driver, which stand still in an xrun", count)
            .beside(beside(&by_frame)),
    ])
}

/// How far ticks at these times are from their grid, in frames.
fn jitter(at: impl Iterator<Item = f64>) -> Times {
    let off: Vec<f64> = (0..).zip(at).map(|(n, at)| at - f64::from(n) * TICK_FRAMES).collect();
    // Where the first tick lies on the grid is not known: the middle of all says.
    let middle = median(&off);
    Times { took: off.into_iter().map(|off| (off - middle).abs()).collect(), unheard: 0 }
}
