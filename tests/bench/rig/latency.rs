//! How long things take, against what the driver and bare NATS take in the same run.

use std::time::Instant;

use anyhow::Context as _;
use futures::StreamExt as _;
use sidetone::bus::message::node::Stop;
use sidetone::bus::message::voice::State;
use sidetone::bus::subject;
use tokio::time::timeout;

use super::{LISTENER, PATIENCE, SECTION, Stage, Times, pause, wait};
use crate::running::NODE;
use crate::support::{Row, Scope, ms, progress};

/// From OSC to a changed state, in ms.
const MOST_STATE_MS: f64 = 2.0;
/// From OSC to MIDI on one host, over the driver's own.
const MOST_LOCAL_MS: f64 = 1.0;
/// The same across two hosts, over bare NATS and the driver.
const MOST_ACROSS_MS: f64 = 3.0;
/// From the stop to the end of a note.
const MOST_STOP_MS: f64 = 50.0;
/// The driver's own notes are on channel 2.
const OWN: u8 = 1;

pub async fn rows(scope: Scope, stage: &mut Stage) -> anyhow::Result<Vec<Row>> {
    let mut rows = state(scope, stage).await?;
    rows.extend(local(scope, stage)?);
    rows.extend(across(scope, stage).await?);
    rows.extend(stop(scope, stage).await?);
    Ok(rows)
}

/// The note and velocity of a round: other ones each time, as a player's are.
fn note(round: u32) -> (u8, u8) {
    ((round % 96 + 16) as u8, (round % 127 + 1) as u8)
}

/// `/assistant/mute` until the listener says so on the bus.
async fn state(scope: Scope, stage: &Stage) -> anyhow::Result<Vec<Row>> {
    let mut states = stage.bus.subscribe::<State>(&subject::voice_state(NODE, LISTENER)).await?;
    let mut bare = stage.nats.subscribe("bench.state").await?;
    stage.nats.flush().await?;
    let rounds = scope.of(2_000, 200);
    let bar = progress("OSC to a state", rounds);
    let (mut own, mut raw) = (Times::default(), Times::default());
    for round in 0..rounds {
        let muted = round % 2 == 0;
        let begun = stage.surface.send("/assistant/mute", &[i32::from(muted)])?;
        loop {
            let (_, state) =
                timeout(PATIENCE, states.next()).await.context("no state came")?.context("the bus is gone")?;
            if state?.muted == muted {
                break;
            }
        }
        own.took.push(ms(begun.elapsed()));
        let begun = Instant::now();
        stage.nats.publish("bench.state", "muted".into()).await?;
        timeout(PATIENCE, bare.next()).await.context("no message came")?;
        raw.took.push(ms(begun.elapsed()));
        pause();
        bar.inc(1);
    }
    bar.finish_and_clear();
    let mut rows = own.below("OSC in → state on the bus", MOST_STATE_MS);
    rows[0].baseline = format!("{:.2} ms bare NATS alone", raw.p99());
    rows[1].baseline = format!("{:.2} ms", raw.p50());
    Ok(rows)
}

/// OSC that plays a note, against a note that the driver plays.
fn local(scope: Scope, stage: &mut Stage) -> anyhow::Result<Vec<Row>> {
    let xruns = stage.synth.xruns();
    let rounds: u32 = scope.of(2_000, 200);
    let bar = progress("OSC to MIDI on one host", u64::from(rounds));
    let (mut own, mut bare) = (Times::default(), Times::default());
    for round in 0..rounds {
        let (note, velocity) = note(round);
        let begun = stage.surface.send("/play", &[note.into(), velocity.into()])?;
        own.heard(begun, stage.synth.until(|heard| heard.is_on(0, note)));
        pause();
        let begun = stage.driver.play([0x90 | OWN, note, velocity])?;
        bare.heard(begun, stage.synth.until(|heard| heard.is_on(OWN, note)));
        pause();
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(own.over("OSC in → MIDI out, one host", &bare, "by the driver", MOST_LOCAL_MS, stage.synth.xruns() - xruns))
}

/// The same where another host has the MIDI, against a note that the driver plays when it hears of it by bare NATS.
async fn across(scope: Scope, stage: &mut Stage) -> anyhow::Result<Vec<Row>> {
    let mut told = stage.nats.subscribe("bench.note").await?;
    stage.nats.flush().await?;
    // The far host hears of the near one's MIDI when it hears of it.
    let mut last = None::<Instant>;
    wait("the far host to play", || {
        if last.is_none_or(|last| last.elapsed().as_millis() > 200) {
            last = Some(Instant::now());
            stage.far_surface.send("/play", &[1, 1]).ok()?;
        }
        stage.synth.next().filter(|heard| heard.is_on(0, 1))
    })?;
    let (rounds, xruns): (u32, _) = (scope.of(2_000, 200), stage.synth.xruns());
    let bar = progress("OSC to MIDI across two hosts", u64::from(rounds));
    let (mut own, mut bare) = (Times::default(), Times::default());
    for round in 0..rounds {
        let (note, velocity) = note(round);
        let begun = stage.far_surface.send("/play", &[note.into(), velocity.into()])?;
        own.heard(begun, stage.synth.until(|heard| heard.is_on(0, note)));
        pause();
        let begun = Instant::now();
        stage.nats.publish("bench.note", vec![0x90 | OWN, note, velocity].into()).await?;
        let message = timeout(PATIENCE, told.next()).await.context("no message came")?.context("the bus is gone")?;
        stage.driver.play(message.payload.as_ref().try_into().context("that is no note")?)?;
        bare.heard(begun, stage.synth.until(|heard| heard.is_on(OWN, note)));
        pause();
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(own.over(
        "OSC in → MIDI out, two hosts",
        &bare,
        "by bare NATS and the driver",
        MOST_ACROSS_MS,
        stage.synth.xruns() - xruns,
    ))
}

/// A held note and `/assistant/stop`.
async fn stop(scope: Scope, stage: &mut Stage) -> anyhow::Result<Vec<Row>> {
    let mut stops = stage.bus.subscribe::<Stop>(subject::STOP).await?;
    let rounds: u32 = scope.of(500, 50);
    let bar = progress("the one stop", u64::from(rounds));
    let (mut silent, mut far, mut told) = (Times::default(), Times::default(), Times::default());
    for round in 0..rounds {
        let (note, _) = note(round);
        for surface in [&stage.surface, &stage.far_surface] {
            stage.surface.send("/hold", &[note.into()])?;
            stage.synth.until(|heard| heard.is_on(0, note));
            pause();
            let begun = surface.send("/assistant/stop", &[])?;
            let heard = stage.synth.until(|heard| heard.is_off(0, note));
            let silent = if std::ptr::eq(surface, &raw const stage.surface) { &mut silent } else { &mut far };
            silent.heard(begun, heard);
            timeout(PATIENCE, stops.next()).await.context("no stop was told")?.context("the bus is gone")?.1?;
            pause();
        }
        // Waiting for the note would hide when it was told.
        let begun = stage.surface.send("/assistant/stop", &[])?;
        timeout(PATIENCE, stops.next()).await.context("no stop was told")?.context("the bus is gone")?.1?;
        told.took.push(ms(begun.elapsed()));
        pause();
        stage.synth.forget();
        bar.inc(1);
    }
    bar.finish_and_clear();
    let mut rows = silent.below("stop by OSC → the end of a held note", MOST_STOP_MS);
    if silent.unheard + far.unheard > 0 {
        let count = (silent.unheard + far.unheard).to_string();
        rows.push(Row::note(SECTION, "   ends that JACK dropped with a period", count));
    }
    rows.extend(far.below("the same, by OSC of another host", MOST_STOP_MS));
    let beside = format!("p50 {:.2} ms, longest {:.2} ms", told.p50(), told.max());
    let told = told.p99();
    rows.push(Row::below(SECTION, "stop by OSC → told on the bus: p99", told, MOST_STOP_MS, "ms").beside(beside));
    Ok(rows)
}
