//! `sidetone doctor`: checks what a host needs, and says what to do about what is missing.
//!
//! A check is a function and a row of [`CHECKS`]. All run at once, each within [`DEADLINE`].

mod audio;
mod bus;
mod case;
mod engines;
mod host;
mod osc;
mod ports;

use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt as _, join_all};

use super::globals::Globals;
use super::print;
use case::{Case, Row, Status};

/// How long a check may take.
const DEADLINE: Duration = Duration::from_secs(2);

/// Check the bus, JACK, models and engines that this host's roles need
#[derive(Debug, clap::Args)]
pub struct DoctorArgs {
    /// Print a JSON array instead of lines
    #[arg(long)]
    json: bool,
}

/// A check there is.
struct Check {
    /// What is looked at, should it give no answer.
    what: &'static str,
    /// The role that needs it; empty: every host does.
    role: &'static str,
    run: fn(Arc<Case>) -> BoxFuture<'static, Vec<Row>>,
}

/// All checks there are, in the order of their rows.
const CHECKS: &[Check] = &[
    Check { what: "settings", role: "", run: |case| host::settings(case).boxed() },
    Check { what: "build", role: "", run: |case| host::features(case).boxed() },
    Check { what: "home", role: "", run: |case| host::home(case).boxed() },
    Check { what: "bus", role: "", run: |case| bus::bus(case).boxed() },
    Check { what: "JACK", role: "voice", run: |case| ports::ports(case).boxed() },
    Check { what: "real time", role: "voice", run: |case| ports::real_time(case).boxed() },
    Check { what: "wake model", role: "voice", run: |case| host::wake_model(case).boxed() },
    Check { what: "graph", role: "audio", run: |case| audio::graph(case).boxed() },
    Check { what: "JackTrip", role: "audio", run: |case| audio::jacktrip(case).boxed() },
    Check { what: "speech model", role: "stt", run: |case| engines::recognizers(case).boxed() },
    Check { what: "voices", role: "tts", run: |case| engines::synthesizers(case).boxed() },
    Check { what: "chat model", role: "llm", run: |case| engines::chat(case).boxed() },
    Check { what: "commands", role: "agent", run: |case| host::commands(case).boxed() },
    Check { what: "OSC", role: "osc", run: |case| osc::osc(case).boxed() },
];

/// Runs it.
///
/// # Errors
/// Something fails that a configured role needs.
pub async fn run(args: DoctorArgs, globals: &Globals) -> anyhow::Result<()> {
    let case = Arc::new(Case::of(globals));
    let checks = CHECKS.iter().filter(|check| case.has_role(check.role)).map(|check| {
        let case = Arc::clone(&case);
        async move {
            let rows = tokio::time::timeout(DEADLINE, (check.run)(case)).await;
            rows.unwrap_or_else(|_| vec![overdue(check.what)])
        }
    });
    let rows: Vec<Row> = join_all(checks).await.into_iter().flatten().collect();
    if args.json {
        print::json(&rows)?;
    } else {
        print::lines(&lines(&rows))?;
    }
    match rows.iter().filter(|row| row.status == Status::Fail).count() {
        0 => Ok(()),
        1 => anyhow::bail!("1 check failed"),
        failed => anyhow::bail!("{failed} checks failed"),
    }
}

fn overdue(what: &str) -> Row {
    let detail = format!("no answer within {} s", DEADLINE.as_secs());
    Row::fail(what, detail, "it hangs, or the machine is very busy: look at it by its own tools, and try again")
}

/// The rows in columns.
fn lines(rows: &[Row]) -> Vec<String> {
    let width = rows.iter().map(|row| row.what.chars().count()).max().unwrap_or_default();
    rows.iter()
        .map(|Row { status, what, detail, todo }| {
            let status = match status {
                Status::Ok => "ok",
                Status::Warn => "warn",
                Status::Fail => "FAIL",
            };
            let todo = if todo.is_empty() { String::new() } else { format!("  → {todo}") };
            // One line each, whatever an error's text is.
            format!("{status:4}  {what:width$}  {detail}{todo}").replace(['\n', '\r'], " ").trim_end().to_owned()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::home::Home;

    #[test]
    fn rows_are_one_line_each_in_columns() {
        let rows = [
            Row::ok("home", "/srv/sidetone, 12.0 GB free"),
            Row::warn("real time", "not allowed", "join the group audio"),
            Row::fail("bus", "two\nlines", "start it"),
        ];
        assert_eq!(
            lines(&rows),
            [
                "ok    home       /srv/sidetone, 12.0 GB free",
                "warn  real time  not allowed  → join the group audio",
                "FAIL  bus        two lines  → start it",
            ]
        );
        assert_eq!(lines(&[]), Vec::<String>::new());
    }

    #[test]
    fn an_error_is_taken_apart_into_what_and_what_to_do() {
        assert_eq!(
            Row::error("JACK", &"no server; start one; or wait"),
            Row::fail("JACK", "no server", "start one; or wait")
        );
        assert_eq!(Row::error("JACK", &"no server"), Row::fail("JACK", "no server", ""));
    }

    #[test]
    fn a_role_that_is_off_needs_nothing() {
        let config = Config {
            node: crate::config::NodeConfig { roles: vec!["stt".to_owned()], ..Default::default() },
            ..Config::default()
        };
        let case = Case { config, config_error: None, files: Vec::new(), home: Home::find(None) };
        let needed: Vec<&str> =
            CHECKS.iter().filter(|check| case.has_role(check.role)).map(|check| check.what).collect();
        assert_eq!(needed, ["settings", "build", "home", "bus", "speech model"]);
        for check in CHECKS {
            assert!(check.role.is_empty() || crate::role::find(&[check.role.to_owned()]).is_ok(), "{}", check.role);
        }
    }
}
