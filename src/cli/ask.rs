//! `sidetone ask`: a turn in writing.

use std::time::Duration;

use ulid::Ulid;

use super::globals::Globals;
use super::{client, print};
use crate::bus::Call;
use crate::bus::message::agent::{Run, RunEvent};
use crate::bus::subject::Capability;
use crate::fabric;

/// Ask the agent: a command or a question, answered as it is written
#[derive(Debug, clap::Args)]
pub struct AskArgs {
    /// What to ask; several words need no quotes
    #[arg(required = true, value_name = "TEXT")]
    text: Vec<String>,
    /// The session to go on with; a new one if absent
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// Print every event as a line of JSON
    #[arg(long)]
    json: bool,
    /// How long to wait for the whole answer
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    timeout_s: u64,
}

/// Runs it.
///
/// # Errors
/// No host answers, or the answer fails.
pub async fn run(args: AskArgs, globals: &Globals) -> anyhow::Result<()> {
    let (fabric, _) = client::fabric(globals).await?;
    let turn = Ulid::generate();
    let mut request = Run {
        text: args.text.join(" "),
        session: args.session,
        turn: Some(turn.to_string()),
        stream: true,
        heard: None,
        said: String::new(),
    };
    let call = Call::within(Duration::from_secs(args.timeout_s)).of_turn(turn);
    let mut events = fabric.open(&fabric::need(Capability::Agent), request.clone(), &call).await?;
    let mut said_something = false;
    while let Some(event) = events.next().await {
        let event = match event {
            Ok(event) => event,
            // Another host takes the turn up where this one left it.
            Err(error) if events.go_on(&error, request.clone()) => continue,
            Err(error) => return Err(error.into()),
        };
        match &event {
            // The rest of the answer belongs to the session that was begun.
            RunEvent::Started { session, .. } => request.session = Some(session.clone()),
            RunEvent::Text { text } => request.said.push_str(text),
            _ => {}
        }
        if args.json {
            print::json(&event)?;
            continue;
        }
        if let RunEvent::Text { text } = &event {
            said_something = true;
            print::text(text)?;
        }
    }
    if said_something {
        print::text("\n")?;
    } else if !args.json {
        print::text("(done; there is nothing to say)\n")?;
    }
    Ok(())
}
