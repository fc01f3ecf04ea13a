//! What a listener is to be connected to, as rules of the graph.

use super::graph::{Channels, ConnectRule, PortPattern, PortPatternError};
use super::jack::{GraphPort, GraphState, PortFlow, PortKind};

/// What a listener wants to be connected to.
#[derive(Debug, Clone, Default)]
pub struct Patch {
    capture_from: Vec<PortPattern>,
    playback_to: Vec<PortPattern>,
}

impl Patch {
    /// Takes patterns as [`PortPattern::new`] reads them.
    ///
    /// # Errors
    /// [`PortPatternError`] for the first pattern that makes no sense.
    pub fn new(capture_from: &[String], playback_to: &[String]) -> Result<Self, PortPatternError> {
        let read =
            |patterns: &[String]| patterns.iter().map(|text| PortPattern::new(text)).collect::<Result<Vec<_>, _>>();
        Ok(Self { capture_from: read(capture_from)?, playback_to: read(playback_to)? })
    }

    /// The rules that keep a listener's ports connected to all that it wants; JACK sums what meets in one input. Its two
    /// ports are never connected to each other.
    #[must_use]
    pub fn rules(&self, voice_in: &str, voice_out: &str) -> Vec<ConnectRule> {
        let rule = |from: PortPattern, to: PortPattern| ConnectRule {
            from,
            to,
            kind: Some(PortKind::Audio),
            channels: Channels::All,
            pinned: false,
        };
        let means = |pattern: &&PortPattern, own: &str| pattern.is_exact() && pattern.matches_name(own);
        let (own_in, own_out) = (PortPattern::exactly(voice_in), PortPattern::exactly(voice_out));
        let capture = self.capture_from.iter().filter(|pattern| !means(pattern, voice_out));
        let playback = self.playback_to.iter().filter(|pattern| !means(pattern, voice_in));
        let capture = capture.map(|pattern| rule(pattern.clone(), own_in.clone()));
        capture.chain(playback.map(|pattern| rule(own_out.clone(), pattern.clone()))).collect()
    }

    /// The names of the ports of `state` that it means: what is heard, and where it speaks.
    #[must_use]
    pub fn found<'a>(&self, state: &'a GraphState) -> (Vec<&'a str>, Vec<&'a str>) {
        let of = |flow: PortFlow, patterns: &[PortPattern]| {
            let fits = |port: &&GraphPort| {
                port.kind == PortKind::Audio
                    && port.flow == flow
                    && patterns.iter().any(|pattern| pattern.matches(port))
            };
            state.ports.iter().filter(fits).map(|port| port.name.as_str()).collect()
        };
        (of(PortFlow::Source, &self.capture_from), of(PortFlow::Sink, &self.playback_to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::graph::Connection;

    const OWN: (&str, &str) = ("me:voice_in", "me:voice_out");

    fn port(name: &str, flow: PortFlow) -> GraphPort {
        GraphPort::named(name, PortKind::Audio, flow)
    }

    fn patch(capture: &[&str], playback: &[&str]) -> Patch {
        let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        Patch::new(&owned(capture), &owned(playback)).unwrap()
    }

    /// What is wanted among these ports and its own.
    fn wanted(patch: &Patch, ports: Vec<GraphPort>) -> Vec<Connection> {
        let own = [port(OWN.0, PortFlow::Sink), port(OWN.1, PortFlow::Source)];
        let state = GraphState { ports: own.into_iter().chain(ports).collect(), ..GraphState::default() };
        patch.rules(OWN.0, OWN.1).iter().flat_map(|rule| rule.wanted(&state)).collect()
    }

    fn pair(source: &str, sink: &str) -> Connection {
        (source.to_owned(), sink.to_owned())
    }

    #[test]
    fn direction_kind_and_pattern_decide() {
        let patch = patch(&["system:capture_1"], &["system:playback_*"]);
        let ports = vec![
            port("system:capture_1", PortFlow::Source),
            port("system:capture_10", PortFlow::Source),
            port("system:playback_1", PortFlow::Sink),
            port("system:playback_2", PortFlow::Sink),
            port("system:playback_3", PortFlow::Source),
            GraphPort { kind: PortKind::Midi, ..port("system:playback_4", PortFlow::Sink) },
        ];
        let connections =
            [pair("system:capture_1", OWN.0), pair(OWN.1, "system:playback_1"), pair(OWN.1, "system:playback_2")];
        let state = GraphState { ports: ports.clone(), ..GraphState::default() };
        assert_eq!(patch.found(&state), (vec!["system:capture_1"], vec!["system:playback_1", "system:playback_2"]));
        assert_eq!(wanted(&patch, ports), connections);
    }

    #[test]
    fn own_ports_are_never_joined() {
        assert_eq!(wanted(&patch(&["*:*"], &["*:*"]), Vec::new()), []);
        assert_eq!(wanted(&patch(&[OWN.1], &[OWN.0]), Vec::new()), []);
    }

    #[test]
    fn an_alias_matches_and_the_name_is_used() {
        let mic = port("alsa_input.usb-3:capture_MONO", PortFlow::Source);
        let mic = GraphPort { aliases: vec!["USB Mic:1".to_owned()], ..mic };
        let made = pair(&mic.name, OWN.0);
        assert_eq!(wanted(&patch(&["USB Mic:*"], &[]), vec![mic]), [made]);
    }
}
