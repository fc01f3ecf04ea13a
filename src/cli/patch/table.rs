//! A graph as people read it.

use crate::bus::message::audio::{Applied, Connection, Graph, Port};
use crate::cli::print;

/// The ports as a table, and what the server is; with `filter` those whose name has it.
#[must_use]
pub fn ports(graph: &Graph, filter: Option<&str>) -> String {
    let period_ms = f64::from(graph.period_frames) * 1_000.0 / f64::from(graph.rate_hz.max(1));
    let head = format!(
        "{}: {} Hz, periods of {} frames ({period_ms:.1} ms), {} xruns, {} ports, {} connections\n",
        graph.node,
        graph.rate_hz,
        graph.period_frames,
        graph.xruns,
        graph.ports.len(),
        graph.connections.len()
    );
    let has = |port: &&Port| {
        let mut names = std::iter::once(&port.name).chain(&port.aliases).chain(&port.pretty_name);
        filter.is_none_or(|filter| names.any(|name| name.contains(filter)))
    };
    let rows = graph.ports.iter().filter(has).map(|port| {
        [
            clean(&port.name),
            port.pretty_name.as_deref().map(clean).unwrap_or_default(),
            port.kind.clone(),
            if port.gives { "gives" } else { "takes" }.to_owned(),
            latency(if port.gives { port.capture_frames } else { port.playback_frames }, graph.rate_hz),
            connected(port, &graph.connections),
        ]
    });
    head + &print::rendered(&["port", "name", "type", "", "latency", "connected"], rows)
}

/// How far a port is from the outside, in frames and ms.
fn latency([min, max]: [u32; 2], rate_hz: u32) -> String {
    let ms = |frames: u32| f64::from(frames) * 1_000.0 / f64::from(rate_hz.max(1));
    match (min, max) {
        (0, 0) => String::new(),
        (min, max) if min == max => format!("{max} ({:.1} ms)", ms(max)),
        (min, max) => format!("{min}–{max} ({:.1}–{:.1} ms)", ms(min), ms(max)),
    }
}

fn connected(port: &Port, connections: &[Connection]) -> String {
    let others = connections.iter().filter_map(|connection| match port.gives {
        true if connection.from == port.name => Some(format!("→ {}", clean(&connection.to))),
        false if connection.to == port.name => Some(format!("← {}", clean(&connection.from))),
        _ => None,
    });
    others.collect::<Vec<_>>().join("\n")
}

/// What became of an order.
#[must_use]
pub fn applied(applied: &Applied) -> Vec<String> {
    let line = |what: &str, connection: &Connection| {
        format!("{what}  {} → {}", clean(&connection.from), clean(&connection.to))
    };
    let made = applied.made.iter().map(|connection| line("connected   ", connection));
    let parted = applied.parted.iter().map(|connection| line("parted      ", connection));
    let missing = applied.missing.iter().map(|missing| {
        format!("not restored  {} → {}: {}", clean(&missing.from), clean(&missing.to), clean(&missing.why))
    });
    let there = applied.there.len();
    let there = (there > 0).then(|| format!("{there} {} there already", if there == 1 { "was" } else { "were" }));
    let lines: Vec<String> = made.chain(parted).chain(there).chain(missing).collect();
    if lines.is_empty() { vec!["the file has no connections, and none was parted".to_owned()] } else { lines }
}

/// A port's name is another program's, and must not control the terminal.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::message::Message as _;

    #[test]
    fn that_there_was_nothing_to_do_is_said() {
        assert_eq!(applied(&Applied::default()), ["the file has no connections, and none was parted"]);
    }

    #[test]
    fn a_port_is_shown_with_its_latency_and_its_peers() {
        let text = ports(&Graph::example(), None);
        assert!(text.starts_with("studio: 48000 Hz, periods of 128 frames (2.7 ms), 0 xruns, 2 ports"), "{text}");
        assert!(text.contains("128 (2.7 ms)") && text.contains("→ sidetone-main:voice_in"), "{text}");
        let text = ports(&Graph::example(), Some("voice"));
        assert!(!text.contains("128 (2.7 ms)") && text.contains("← system:capture_1"), "{text}");
        assert_eq!(latency([128, 4_224], 48_000), "128–4224 (2.7–88.0 ms)");
    }

    #[test]
    fn what_could_not_be_is_said_last_and_nothing_controls_the_terminal() {
        let mut example = Applied::example();
        example.missing[0].from = "a\u{1b}[2J".to_owned();
        let lines = applied(&example);
        assert_eq!(lines[0], "connected     system:capture_1 → sidetone-main:voice_in");
        assert!(lines[1].ends_with("client 'synth' is not running"), "{lines:?}");
        assert!(lines.iter().all(|line| !line.contains(char::is_control)));
    }
}
