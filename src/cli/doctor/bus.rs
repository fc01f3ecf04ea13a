//! The bus: the embedded server's program, the server that runs, the hosts on it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::case::{Case, Row};
use crate::bus::{Bus, ServerFacts, roster};
use crate::node;
use crate::process::{answer, version};

/// The oldest server that will do.
const OLDEST: (u32, u32) = (2, 12);
/// A clip of 30 s must fit into a message; 1 MiB is NATS' own default.
const SMALLEST_PAYLOAD: usize = 1 << 20;
/// How long the server may take to let us in.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(1_200);
/// How long reading the hosts may take.
const NODES_TIMEOUT: Duration = Duration::from_millis(700);

/// All of it.
pub async fn bus(case: Arc<Case>) -> Vec<Row> {
    let bus = &case.config.bus;
    if !bus.is_embedded() {
        return running(&case, "start it, or correct --bus, $SIDETONE_BUS or bus.url").await;
    }
    let mut rows = vec![embedded_program(&case).await];
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, bus.port));
    if TcpStream::connect(address).await.is_ok() {
        let todo = "something else has the port: stop it, or choose another with --set bus.port=…";
        rows.extend(running(&case, todo).await);
    } else {
        rows.push(Row::ok("hosts", format!("none is up; port {} is free for `sidetone run`", bus.port)));
    }
    rows
}

async fn embedded_program(case: &Case) -> Row {
    let what = "nats-server";
    let install =
        "install nats-server 2.12 or newer (`make setup` in a checkout does), or set bus.url to a server of yours";
    let program = case.home.program("nats-server");
    match answer(&program, &["--version"]).await {
        Ok(None) => Row::fail(what, "there is no program nats-server", install),
        Err(why) => Row::fail(what, format!("{} does not run ({why})", program.display()), install),
        Ok(Some(text)) => match version(&text) {
            Some((version, number)) if number >= OLDEST => Row::ok(what, format!("{version}, embedded")),
            Some((version, _)) => Row::fail(what, format!("{version} is too old"), install),
            None => Row::warn(what, format!("says {text:?} when asked for its version"), install),
        },
    }
}

/// The server of the settings and the hosts on it.
async fn running(case: &Case, todo: &str) -> Vec<Row> {
    let access = match node::access(&case.config) {
        Ok(access) => access,
        Err(error) => return vec![Row::fail("bus", error.to_string(), "correct that setting, or bring the file")],
    };
    let bus = match timeout(CONNECT_TIMEOUT, Bus::connect(access, "doctor")).await {
        Err(_) => return vec![Row::fail("bus", "no answer from the NATS server in time", todo)],
        Ok(Err(error)) => {
            let text = error.to_string();
            return vec![Row::fail("bus", text.split(';').next().unwrap_or(&text), todo)];
        }
        Ok(Ok(bus)) => bus,
    };
    let mut facts = bus.server_facts();
    // A leaf of others has theirs.
    facts.jetstream = facts.jetstream || bus.has_jetstream().await;
    let mut rows = vec![server(&bus.server(), &facts)];
    if !facts.jetstream {
        return rows;
    }
    rows.push(match timeout(NODES_TIMEOUT, roster::nodes(&bus)).await {
        Ok(Ok(nodes)) if nodes.is_empty() => Row::ok("hosts", "none is up: `sidetone run` starts one"),
        Ok(Ok(nodes)) => {
            let own = case.config.node_name();
            let names = nodes.iter().map(|node| {
                let roles = node.offers.iter().map(|offer| offer.role.as_str()).collect::<Vec<_>>().join(", ");
                let this = if node.node == own { ", this host" } else { "" };
                format!("{} ({roles}{this})", node.node)
            });
            Row::ok("hosts", names.collect::<Vec<_>>().join("; "))
        }
        Ok(Err(error)) => Row::fail("hosts", error.to_string(), "give this user the use of JetStream"),
        Err(_) => Row::fail("hosts", "JetStream does not answer in time", "look at the server's log"),
    });
    rows
}

fn server(name: &str, facts: &ServerFacts) -> Row {
    let what = "bus";
    if version(&facts.version).is_none_or(|(_, number)| number < OLDEST) {
        return Row::fail(what, format!("{name} is too old"), "install nats-server 2.12 or newer there");
    }
    if !facts.jetstream {
        return Row::fail(
            what,
            format!("{name} has no JetStream"),
            "start it with -js, or with jetstream {} in its configuration",
        );
    }
    if facts.max_payload_bytes < SMALLEST_PAYLOAD {
        let detail = format!("{name} takes messages of {} bytes only", facts.max_payload_bytes);
        return Row::fail(what, detail, "set max_payload to 1MB or more in its configuration");
    }
    Row::ok(what, format!("{name}, JetStream, messages up to {} KiB", facts.max_payload_bytes >> 10))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::case::Status;

    #[test]
    fn a_server_must_be_new_have_jetstream_and_take_clips() {
        let good = ServerFacts { version: "2.12.0".to_owned(), jetstream: true, max_payload_bytes: 1 << 20 };
        let status = |facts: &ServerFacts| server("nats", facts).status;
        assert_eq!(status(&good), Status::Ok);
        assert_eq!(status(&ServerFacts { version: "3.0.1".to_owned(), ..good.clone() }), Status::Ok);
        for bad in [
            ServerFacts { version: "2.9.25".to_owned(), ..good.clone() },
            ServerFacts { version: String::new(), ..good.clone() },
            ServerFacts { jetstream: false, ..good.clone() },
            ServerFacts { max_payload_bytes: 65_536, ..good.clone() },
        ] {
            assert_eq!(status(&bad), Status::Fail, "{bad:?}");
            assert!(!server("nats", &bad).todo.is_empty());
        }
    }
}
