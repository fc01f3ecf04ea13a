//! Role `audio`: the rules of the graph, and JackTrip.

use std::sync::Arc;

use tokio::process::Command;

use super::case::{Case, Row};
use crate::audio::graph::Rules;
use crate::audio::jack::{GraphClient, GraphState};
use crate::audio::jacktrip;
use crate::config::{AudioConfig, JackConfig};
use crate::role::audio::{convert, is_program};

/// Whether the rules make sense, and what they would connect now.
pub async fn graph(case: Arc<Case>) -> Vec<Row> {
    let rules = match convert::rules(&case.config.audio) {
        Ok(rules) => rules,
        Err(error) => return vec![Row::error("graph", &error)],
    };
    let jack = case.config.jack.clone();
    // libjack blocks, and may hang with its server.
    let looked = tokio::task::spawn_blocking(move || look(&jack)).await;
    match looked {
        Ok(Ok(state)) => vec![wanted(&case.config.audio, &rules, &state)],
        Ok(Err(row)) => vec![row],
        Err(error) => vec![Row::fail("graph", format!("libjack broke: {error}"), "see the JACK server's log")],
    }
}

fn look(jack: &JackConfig) -> Result<GraphState, Row> {
    let server = Some(jack.server.as_str()).filter(|name| !name.is_empty());
    let name = format!("sidetone-doctor-{}", std::process::id());
    let client = GraphClient::open(&name, server).map_err(|error| Row::error("graph", &error))?;
    Ok(client.state())
}

fn wanted(config: &AudioConfig, rules: &Rules, state: &GraphState) -> Row {
    let idle: Vec<String> = rules
        .connect
        .iter()
        .filter(|rule| rule.wanted(state).is_empty())
        .map(|rule| format!("{} → {}", rule.from.text(), rule.to.text()))
        .collect();
    let all = config.connect.len();
    let detail = format!("{} ports; {} of {all} rules find theirs", state.ports.len(), all - idle.len());
    match idle.is_empty() {
        true => Row::ok("graph", detail),
        // Their clients may come later: that is what rules are for.
        false => Row::warn("graph", detail, format!("not there yet: {}", idle.join(", "))),
    }
}

/// Whether JackTrip is there.
pub async fn jacktrip(case: Arc<Case>) -> Vec<Row> {
    let what = "JackTrip";
    let links = case.config.audio.link.len();
    let program = case.home.program(jacktrip::PROGRAM);
    if !is_program(&program) {
        let row = if links == 0 { Row::warn } else { Row::fail };
        let detail = format!("there is no program {}", program.display());
        return vec![row(what.to_owned(), detail, jacktrip::INSTALL_HINT.to_owned())];
    }
    let run = Command::new(&program).arg("--version").env("QT_QPA_PLATFORM", "offscreen").output().await;
    let text = run.map(|done| String::from_utf8_lossy(&done.stdout).into_owned()).unwrap_or_default();
    let version =
        text.lines().find_map(|line| line.split_once("VERSION: ")).map_or("of unknown version", |(_, v)| v.trim());
    vec![Row::ok(what, format!("{version}, for {links} links"))]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::case::Status;
    use crate::config::ConnectConfig;

    #[test]
    fn a_rule_without_its_ports_is_named() {
        let rule = ConnectConfig { from: "mic".to_owned(), to: "main".to_owned(), ..ConnectConfig::default() };
        let config = AudioConfig { connect: vec![rule], ..AudioConfig::default() };
        let row = wanted(&config, &convert::rules(&config).unwrap(), &GraphState::default());
        assert_eq!((row.status, row.todo.as_str()), (Status::Warn, "not there yet: mic → main"));
        let none = AudioConfig::default();
        let row = wanted(&none, &Rules::default(), &GraphState::default());
        assert_eq!(row.status, Status::Ok);
    }
}
