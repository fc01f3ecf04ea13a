//! JACK: the library, the server, the ports, and leave to run in real time.

use std::sync::Arc;

use rustix::process::{Resource, geteuid, getrlimit};

use super::case::{Case, Row};
use crate::audio::jack::{GraphState, PortKind};
use crate::audio::{JackClient, JackSettings, Patch, SourceKind};
use crate::config::{JackConfig, ListenerConfig};

/// The priority that JACK's clients are given unless `jackd -P` says otherwise, less what the server keeps for itself.
const PRIORITY: u64 = 55;

/// The server, and what each listener would be connected to.
pub async fn ports(case: Arc<Case>) -> Vec<Row> {
    let config = case.config.jack.clone();
    // libjack blocks, and may hang with its server.
    let looked = tokio::task::spawn_blocking(move || look(&config)).await;
    match looked {
        Ok(Ok((detail, state))) => {
            let listeners = case.config.voice.listeners.iter().map(|listener| patch(listener, &state));
            std::iter::once(Row::ok("JACK", detail)).chain(listeners).collect()
        }
        Ok(Err(row)) => vec![row],
        Err(error) => vec![Row::fail("JACK", format!("libjack broke: {error}"), "see the JACK server's log")],
    }
}

fn look(config: &JackConfig) -> Result<(String, GraphState), Row> {
    let settings = JackSettings {
        client_name: "sidetone-doctor".to_owned(),
        server: (!config.server.is_empty()).then(|| config.server.clone()),
        ..JackSettings::for_listener("doctor")
    };
    let (client, _capture, _playback) = JackClient::open(&settings).map_err(|error| Row::error("JACK", &error))?;
    let (own_in, own_out) = client.port_names();
    let mut state = client.patchbay().state();
    state.ports.retain(|port| port.kind == PortKind::Audio && port.name != own_in && port.name != own_out);
    let (rate_hz, frames) = (client.watch().rate_hz(), client.watch().buffer_frames());
    let period_ms = f64::from(frames) * 1_000.0 / f64::from(rate_hz.max(1));
    Ok((format!("{rate_hz} Hz, periods of {frames} frames ({period_ms:.1} ms)"), state))
}

/// Whether a listener finds what it is to be connected to.
fn patch(listener: &ListenerConfig, state: &GraphState) -> Row {
    let what = format!("listener {}", listener.name);
    let is_jack = match listener.source.parse::<SourceKind>() {
        Ok(kind) => kind == SourceKind::Jack,
        Err(error) => return Row::error(what, &error),
    };
    let patch = match Patch::new(&listener.capture_from, &listener.playback_to) {
        Ok(patch) => patch,
        Err(error) => return Row::error(what, &error),
    };
    let (sources, sinks) = patch.found(state);
    let missing = |key: &str, patterns: &[String]| {
        let there = state.ports.iter().map(|port| port.name.as_str()).collect::<Vec<_>>().join(", ");
        let detail = format!("{key} {} matches no port", patterns.join(", "));
        let there = if there.is_empty() { "there are none".to_owned() } else { format!("there are {there}") };
        Row::warn(&what, detail, format!("correct it in voice.listeners, or start what has the port; {there}"))
    };
    if is_jack && sources.is_empty() && !listener.capture_from.is_empty() {
        return missing("capture_from", &listener.capture_from);
    }
    if sinks.is_empty() && !listener.playback_to.is_empty() {
        return missing("playback_to", &listener.playback_to);
    }
    let named = |ports: &[&str]| if ports.is_empty() { "nothing".to_owned() } else { ports.join(", ") };
    let heard = if is_jack { named(&sources) } else { listener.source.clone() };
    Row::ok(what, format!("hears {heard}, speaks to {}", named(&sinks)))
}

/// Whether this user's programs may run in real time, without which audio breaks up under load.
pub async fn real_time(_: Arc<Case>) -> Vec<Row> {
    // No limit is no number.
    let limit = |resource| getrlimit(resource).current;
    vec![allowed(geteuid().is_root(), limit(Resource::Rtprio), limit(Resource::Memlock))]
}

fn allowed(is_root: bool, rtprio: Option<u64>, memlock: Option<u64>) -> Row {
    let what = "real time";
    if is_root {
        return Row::ok(what, "allowed (root)");
    }
    let todo = "in /etc/security/limits.d/audio.conf: `@audio - rtprio 95` and `@audio - memlock unlimited`; join the group audio and log in again";
    if let Some(rtprio) = rtprio.filter(|&rtprio| rtprio < PRIORITY) {
        return Row::warn(what, format!("priority {rtprio} at most, {PRIORITY} is wanted"), todo);
    }
    match memlock {
        Some(bytes) => Row::warn(what, format!("allowed, but only {} KiB of memory can be locked", bytes >> 10), todo),
        None => Row::ok(what, "allowed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::PortFlow;
    use crate::audio::jack::GraphPort;
    use crate::cli::doctor::case::Status;

    fn graph(ports: &[(&str, PortFlow)]) -> GraphState {
        let ports = ports.iter().map(|(name, flow)| GraphPort::named(name, PortKind::Audio, *flow));
        GraphState { ports: ports.collect(), ..GraphState::default() }
    }

    #[test]
    fn a_listener_finds_its_ports_or_is_told_which_there_are() {
        let ports = [("system:capture_1", PortFlow::Source), ("system:playback_1", PortFlow::Sink)];
        let row = patch(&ListenerConfig::default(), &graph(&ports));
        assert_eq!(row, Row::ok("listener main", "hears system:capture_1, speaks to system:playback_1"));

        let row = patch(&ListenerConfig::default(), &graph(&ports[1..]));
        assert_eq!((row.status, row.detail.as_str()), (Status::Warn, "capture_from system:capture_1 matches no port"));
        assert!(row.todo.ends_with("there are system:playback_1"), "{}", row.todo);

        let unpatched = ListenerConfig { capture_from: Vec::new(), playback_to: Vec::new(), ..Default::default() };
        assert_eq!(patch(&unpatched, &graph(&[])), Row::ok("listener main", "hears nothing, speaks to nothing"));
        let recorded = ListenerConfig { source: "file:/a.wav".to_owned(), ..Default::default() };
        assert_eq!(
            patch(&recorded, &graph(&ports[1..])),
            Row::ok("listener main", "hears file:/a.wav, speaks to system:playback_1")
        );
        for source in ["alsa", "file:"] {
            let wrong = ListenerConfig { source: source.to_owned(), ..Default::default() };
            assert_eq!(patch(&wrong, &graph(&ports)).status, Status::Fail);
        }
        let wrong = ListenerConfig { capture_from: vec!["[".to_owned()], ..Default::default() };
        assert_eq!(patch(&wrong, &graph(&ports)).status, Status::Fail);
    }

    #[test]
    fn real_time_needs_priority_and_locked_memory() {
        let status = |root, rtprio, memlock| allowed(root, rtprio, memlock).status;
        assert_eq!(status(true, Some(0), Some(0)), Status::Ok);
        assert_eq!(status(false, Some(0), None), Status::Warn);
        assert_eq!(status(false, Some(95), Some(65_536)), Status::Warn);
        assert_eq!(status(false, Some(95), None), Status::Ok);
        assert_eq!(status(false, None, None), Status::Ok);
    }
}
