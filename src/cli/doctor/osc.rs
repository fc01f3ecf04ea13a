//! OSC: the ports, and where it goes to.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UdpSocket, lookup_host};
use tokio::time::timeout;

use super::case::{Case, Row};
use crate::config::{OscTarget, OscTransport};
use crate::role::osc::allow::Allow;
use crate::role::osc::handlers::Handlers;

/// How long a target may take to be found.
const TARGET_TIMEOUT: Duration = Duration::from_millis(800);

/// All of it.
pub async fn osc(case: Arc<Case>) -> Vec<Row> {
    let config = &case.config.osc;
    let mut rows = vec![port("osc.listen", &config.listen, true).await];
    if !config.query.is_empty() {
        rows.push(port("osc.query", &config.query, false).await);
    }
    rows.extend(Allow::new(&config.allow).err().map(|error| Row::error("osc.allow", &error)));
    rows.extend(Handlers::new(&config.on).err().map(|error| Row::error("osc.on", &error)));
    let targets = config.targets.iter().map(|(name, target)| self::target(name, target));
    rows.extend(futures::future::join_all(targets).await);
    rows
}

/// Whether a port is free, by TCP and where it is used by UDP.
async fn port(what: &str, listen: &str, udp: bool) -> Row {
    let tcp = TcpListener::bind(listen).await.map(drop);
    let both = match tcp {
        Ok(()) if udp => UdpSocket::bind(listen).await.map(drop),
        tcp => tcp,
    };
    match both {
        Ok(()) => Row::ok(what, format!("{listen} is free for `sidetone run`")),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            let todo =
                format!("nothing if this host is up; else stop the other program, or choose another port with {what}");
            Row::warn(what, format!("{listen} is taken"), todo)
        }
        Err(error) => Row::fail(what, format!("{listen}: {error}"), "give an address of this host and a port"),
    }
}

async fn target(name: &str, target: &OscTarget) -> Row {
    let what = format!("OSC target {name}");
    let found = match timeout(TARGET_TIMEOUT, lookup_host(&target.to)).await {
        Ok(Ok(mut found)) => found.next(),
        Ok(Err(error)) => {
            return Row::fail(what, format!("{}: {error}", target.to), format!("correct osc.targets.{name}"));
        }
        Err(_) => None,
    };
    let Some(at) = found else {
        return Row::fail(what, format!("{} is not found", target.to), format!("correct osc.targets.{name}"));
    };
    if target.by == OscTransport::Udp {
        return Row::ok(what, format!("{at} by UDP; whether anybody hears it can't be seen"));
    }
    match timeout(TARGET_TIMEOUT, TcpStream::connect(at)).await {
        Ok(Ok(_)) => Row::ok(what, format!("{at} by TCP")),
        Ok(Err(error)) => Row::warn(what, format!("{at}: {error}"), "start it; it is connected as soon as it is there"),
        Err(_) => Row::warn(what, format!("{at} does not answer"), "start it; it is connected as soon as it is there"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::case::Status;

    fn target_at(to: &str, by: OscTransport) -> OscTarget {
        OscTarget { to: to.to_owned(), by, ttl: 1, interface: String::new() }
    }

    #[tokio::test]
    async fn ports_and_targets_are_looked_at() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = taken.local_addr().unwrap().to_string();
        let row = port("osc.listen", &at, true).await;
        assert_eq!((row.status, row.detail), (Status::Warn, format!("{at} is taken")));
        assert_eq!(port("osc.listen", "127.0.0.1:0", true).await.status, Status::Ok);
        assert_eq!(port("osc.query", "192.0.2.1:9001", false).await.status, Status::Fail);
        assert_eq!(target("desk", &target_at(&at, OscTransport::Tcp)).await.status, Status::Ok);
        drop(taken);
        assert_eq!(target("desk", &target_at(&at, OscTransport::Tcp)).await.status, Status::Warn);
        assert_eq!(target("desk", &target_at(&at, OscTransport::Udp)).await.status, Status::Ok);
        assert_eq!(target("desk", &target_at("10.0.0.5", OscTransport::Udp)).await.status, Status::Fail);
    }
}
