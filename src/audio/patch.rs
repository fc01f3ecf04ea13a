//! Decides which JACK ports to connect; [`super::jack`] does it.

use std::collections::BTreeSet;

use glob::Pattern;

/// What flows through a port, seen from the graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortFlow {
    /// Gives audio, as a microphone's port does.
    Source,
    /// Takes audio, as a loudspeaker's port does.
    Sink,
}

/// An audio port of the graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortInfo {
    /// Full name, `client:port`.
    pub name: String,
    /// Other names that the port goes by.
    pub aliases: Vec<String>,
    /// Its direction.
    pub flow: PortFlow,
}

/// What a listener wants to be connected to.
#[derive(Debug, Clone, Default)]
pub struct Patch {
    capture_from: Vec<Pattern>,
    playback_to: Vec<Pattern>,
}

/// A pattern that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the port pattern '{pattern}' can't be read: {reason}; write a port's name with * and ? as wildcards, such as 'system:capture_*'"
)]
pub struct PatternError {
    /// The pattern as given.
    pub pattern: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Patch {
    /// Takes patterns of full port names or aliases, with `*`, `?` and `[…]` as wildcards, case-sensitive.
    ///
    /// # Errors
    /// [`PatternError`] for the first pattern that makes no sense.
    pub fn new(capture_from: &[String], playback_to: &[String]) -> Result<Self, PatternError> {
        let parse = |patterns: &[String]| {
            patterns
                .iter()
                .map(|text| {
                    let refused = |reason: String| PatternError { pattern: text.clone(), reason };
                    if text.trim().is_empty() {
                        return Err(refused("it is empty".to_owned()));
                    }
                    Pattern::new(text).map_err(|err| refused(err.to_string()))
                })
                .collect::<Result<Vec<_>, _>>()
        };
        Ok(Self { capture_from: parse(capture_from)?, playback_to: parse(playback_to)? })
    }

    /// The connections to make, as (source, sink), now that `ports` are there and those named in `known` were there
    /// before.
    ///
    /// Only ports that are new are connected, so that a connection that the user takes away stays away until the port
    /// comes anew. All ports that match are connected; JACK sums what meets in one input. The listener's own two ports
    /// are never connected to each other.
    #[must_use]
    pub fn wanted(
        &self,
        voice_in: &str,
        voice_out: &str,
        ports: &[PortInfo],
        known: &BTreeSet<String>,
    ) -> Vec<(String, String)> {
        ports
            .iter()
            .filter(|port| port.name != voice_in && port.name != voice_out && !known.contains(&port.name))
            .filter_map(|port| match port.flow {
                PortFlow::Source => matches(&self.capture_from, port).then(|| (port.name.clone(), voice_in.to_owned())),
                PortFlow::Sink => matches(&self.playback_to, port).then(|| (voice_out.to_owned(), port.name.clone())),
            })
            .collect()
    }
}

fn matches(patterns: &[Pattern], port: &PortInfo) -> bool {
    patterns.iter().any(|pattern| std::iter::once(&port.name).chain(&port.aliases).any(|name| pattern.matches(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(name: &str, flow: PortFlow) -> PortInfo {
        PortInfo { name: name.to_owned(), aliases: Vec::new(), flow }
    }

    fn patch(capture: &[&str], playback: &[&str]) -> Patch {
        let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        Patch::new(&owned(capture), &owned(playback)).unwrap()
    }

    fn wanted(patch: &Patch, ports: &[PortInfo], known: &[&str]) -> Vec<(String, String)> {
        let known = known.iter().map(|&name| name.to_owned()).collect();
        patch.wanted("me:voice_in", "me:voice_out", ports, &known)
    }

    #[test]
    fn direction_and_pattern_decide() {
        let patch = patch(&["system:capture_1"], &["system:playback_*"]);
        let ports = [
            port("system:capture_1", PortFlow::Source),
            port("system:capture_10", PortFlow::Source),
            port("system:playback_1", PortFlow::Sink),
            port("system:playback_2", PortFlow::Sink),
            port("system:playback_3", PortFlow::Source),
        ];
        let connections = [
            ("system:capture_1".to_owned(), "me:voice_in".to_owned()),
            ("me:voice_out".to_owned(), "system:playback_1".to_owned()),
            ("me:voice_out".to_owned(), "system:playback_2".to_owned()),
        ];
        assert_eq!(wanted(&patch, &ports, &[]), connections);
    }

    #[test]
    fn a_port_that_was_there_is_left_alone() {
        let patch = patch(&["*"], &[]);
        let ports = [port("a:out", PortFlow::Source), port("b:out", PortFlow::Source)];
        assert_eq!(wanted(&patch, &ports, &["a:out"]), [("b:out".to_owned(), "me:voice_in".to_owned())]);
    }

    #[test]
    fn own_ports_are_never_joined() {
        let patch = patch(&["*"], &["*"]);
        let ports = [port("me:voice_out", PortFlow::Source), port("me:voice_in", PortFlow::Sink)];
        assert_eq!(wanted(&patch, &ports, &[]), []);
    }

    #[test]
    fn an_alias_matches_and_the_name_is_used() {
        let patch = patch(&["USB Mic:*"], &[]);
        let mut mic = port("alsa_input.usb-3:capture_MONO", PortFlow::Source);
        mic.aliases.push("USB Mic:1".to_owned());
        assert_eq!(wanted(&patch, &[mic.clone()], &[]), [(mic.name, "me:voice_in".to_owned())]);
    }

    #[test]
    fn a_pattern_without_sense_says_so() {
        for pattern in ["", " ", "a[", "a***b"] {
            let error = Patch::new(&[pattern.to_owned()], &[]).unwrap_err();
            assert_eq!(error.pattern, pattern);
            assert!(error.to_string().contains("system:capture_*"), "{error}");
        }
    }
}
