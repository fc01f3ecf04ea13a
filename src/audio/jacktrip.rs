//! JackTrip: the arguments of the program, and what its lines mean. Pure; a role runs it.
//!
//! ```text
//! p2p-server ◀── UDP, both ways ── p2p-client          one peer each
//! hub-server ◀── TCP, then UDP ─── hub-client, …       a JACK client a peer on the hub's side
//! ```
//!
//! Written against JackTrip 1.7; lines that are not known are left alone.

use std::collections::VecDeque;
use std::time::Duration;

/// The program.
pub const PROGRAM: &str = "jacktrip";
/// What to do when it is missing.
pub const INSTALL_HINT: &str =
    "install the package 'jacktrip' (1.5 or newer), or take [[audio.link]] out of the settings";
/// Where JackTrip listens unless an argument says otherwise.
pub const DEFAULT_PORT: u16 = 4464;
/// JackTrip says every 30 ms that nothing came. After so many in a row a peer counts as lost.
const SILENCES: u32 = 10;
/// When nothing has come for so long, a new connection to a hub is made: the hub may have forgotten it.
const HUB_PATIENCE: Duration = Duration::from_millis(900);
/// Two peers find each other again by themselves; after so long they are helped.
const PEER_PATIENCE: Duration = Duration::from_secs(8);
/// Reports of the last so many seconds make the loss.
const LOSS_REPORTS: usize = 10;

/// Which end of a link this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Waits for one peer.
    P2pServer,
    /// Calls one peer.
    P2pClient,
    /// Waits for any number of peers.
    HubServer,
    /// Calls a hub.
    HubClient,
}

impl End {
    /// Whether it calls another host.
    #[must_use]
    pub const fn calls(self) -> bool {
        matches!(self, Self::P2pClient | Self::HubClient)
    }
}

/// How JackTrip is to be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// The name of its JACK client; of a hub, its peers say theirs.
    pub name: String,
    /// Which end this is.
    pub end: End,
    /// The address that is called.
    pub peer: String,
    /// The port where the other side listens, or this one does.
    pub port: u16,
    /// The port that a client sends from; 0: the same.
    pub bind_port: u16,
    /// Channels each way.
    pub channels: u16,
    /// Packets that are buffered against jitter.
    pub queue: u16,
    /// How often each packet is sent.
    pub redundancy: u16,
    /// Bits of a sample.
    pub bits: u16,
    /// The name of this end on a hub.
    pub remote_name: String,
    /// The first of the UDP ports of a hub, one a peer.
    pub hub_base_port: u16,
}

impl Invocation {
    /// The arguments. The graph connects the ports, so an argument keeps JackTrip from it.
    #[must_use]
    pub fn args(&self) -> Vec<String> {
        let mut args: Vec<String> = Vec::new();
        let mut add = |words: &[&str]| args.extend(words.iter().map(|&word| word.to_owned()));
        let (port, bind) = (self.port.to_string(), if self.bind_port == 0 { self.port } else { self.bind_port });
        let bind = bind.to_string();
        match self.end {
            End::P2pServer => add(&["-s", "-B", &port]),
            End::P2pClient => add(&["-c", &self.peer, "-P", &port, "-B", &bind]),
            // 5: its ports are not connected with each other.
            End::HubServer => add(&["-S", "-B", &port, "-p", "5", "-U", &self.hub_base_port.to_string()]),
            End::HubClient => add(&["-C", &self.peer, "-P", &port, "-B", &bind, "-K", &self.remote_name]),
        }
        add(&["-n", &self.channels.to_string(), "-q", &self.queue.to_string(), "-r", &self.redundancy.to_string()]);
        add(&["-b", &self.bits.to_string(), "-D", "-J", &self.name, "-I", "1"]);
        args
    }
}

/// What a line means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// The program works, and no peer has called, or answered, yet.
    Waiting,
    /// The peer is there.
    Connected,
    /// Nothing came for 30 ms.
    Silence,
    /// What has come from a peer since it connected.
    Report {
        /// Its address.
        address: String,
        /// Packets that did not come.
        lost: u64,
        /// Packets that should have.
        total: u64,
    },
    /// The other side has ended.
    PeerStopped,
    /// A hub does not answer.
    NoHub,
    /// The peer's rate, in Hz, which is not ours.
    OtherRate(u32),
    /// The port is another program's.
    PortTaken,
    /// There is no JACK server.
    NoJack,
    /// Another error.
    Error(String),
}

/// Reads lines.
#[derive(Debug, Default)]
pub struct Reader {
    /// The line before was `ERROR:`, and this one says which.
    is_error: bool,
}

impl Reader {
    /// What a line means; `None` for most.
    pub fn read(&mut self, line: &str) -> Option<Said> {
        let line = line.trim();
        let is_error = std::mem::take(&mut self.is_error);
        if line == "ERROR:" {
            self.is_error = true;
            return None;
        }
        if line.starts_with("UDP waiting too long") {
            return Some(Said::Silence);
        }
        if let Some(report) = report(line) {
            return Some(report);
        }
        if let Some(rate) = line.strip_prefix("ERROR: Peer Sampling Rate is") {
            return rate.trim_start_matches([' ', ':']).parse().ok().map(Said::OtherRate);
        }
        if line.starts_with("Could not bind") {
            return Some(Said::PortTaken);
        }
        if line.contains("JACK server running?") || line == "Unable to connect to JACK server" {
            return Some(Said::NoJack);
        }
        if is_error || line.starts_with("ERROR:") {
            return Some(Said::Error(line.trim_start_matches("ERROR:").trim().to_owned()));
        }
        match line {
            "Waiting for Peer..."
            | "Waiting for Connection From a Client..."
            | "JackTrip HUB SERVER: Waiting for client connections..." => Some(Said::Waiting),
            "Received Connection from Peer!" => Some(Said::Connected),
            "Peer Stopped" => Some(Said::PeerStopped),
            _ if line.starts_with("Connection timed out. Retrying") => Some(Said::NoHub),
            _ => None,
        }
    }

    /// Whether a line is worth a place in the log: the silences come 33 times a second.
    #[must_use]
    pub fn is_noise(line: &str) -> bool {
        let line = line.trim();
        line.is_empty() || line.starts_with("UDP waiting too long") || line.chars().all(|c| c == '-' || c == '=')
    }
}

/// `2026-11-24T18:06:43 127.0.0.1 send: 0/0 recv: 0/1 prot: 0/0/0 tot: 385 sync: …`: of `prot` the first are the lost ones.
fn report(line: &str) -> Option<Said> {
    let mut words = line.split_whitespace();
    let address = words.nth(1)?;
    let lost = after(line, " prot: ")?.split('/').next()?.parse().ok()?;
    let total = after(line, " tot: ")?.split(' ').next()?.parse().ok()?;
    Some(Said::Report { address: address.to_owned(), lost, total })
}

fn after<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    line.split_once(key).map(|(_, rest)| rest)
}

/// Where a link stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Standing {
    /// JackTrip starts.
    #[default]
    Starting,
    /// It waits for the peer.
    Waiting,
    /// Audio flows; a hub is there for its peers.
    Up,
    /// Nothing comes any more.
    Lost,
    /// The peer runs at another rate, in Hz.
    OtherRate(u32),
    /// It can't be, and why.
    Failed(String),
}

/// What to do with the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Nothing.
    Stay,
    /// End it and start it again.
    Restart,
    /// End it, and try again only when something has changed or some time has passed.
    GiveUp,
}

/// Follows one run of the program.
#[derive(Debug)]
pub struct Run {
    end: End,
    reader: Reader,
    standing: Standing,
    silences: u32,
    /// When the last packet came, or the last silence began.
    heard_at: Duration,
    said_at: Duration,
    reports: Reports,
}

/// What of the packets has been lost.
#[derive(Debug, Default)]
struct Reports {
    /// The last counts of each peer, the latest last.
    last: VecDeque<(String, u64, u64)>,
    /// (lost, total) of each second.
    seconds: VecDeque<(u64, u64)>,
}

/// Peers of a hub that are told apart; of more, the one that was not heard of for longest is forgotten.
const PEERS_MAX: usize = 64;

impl Run {
    /// A run that begins now.
    #[must_use]
    pub fn new(end: End, now: Duration) -> Self {
        let (reader, standing, reports) = (Reader::default(), Standing::Starting, Reports::default());
        Self { end, reader, standing, silences: 0, heard_at: now, said_at: now, reports }
    }

    /// Where the link stands.
    #[must_use]
    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    /// The share of packets that did not come within the last 10 s, from 0 to 1; `None` before the first report.
    #[must_use]
    pub fn loss(&self) -> Option<f64> {
        let (lost, total) =
            self.reports.seconds.iter().fold((0, 0), |sum, second| (sum.0 + second.0, sum.1 + second.1));
        (total > 0).then(|| (lost as f64 / total as f64).min(1.0))
    }

    /// Takes a line that the program has written.
    pub fn read(&mut self, line: &str, now: Duration) -> Act {
        let Some(said) = self.reader.read(line) else { return Act::Stay };
        match said {
            Said::Waiting => {
                let is_hub = self.end == End::HubServer;
                if self.standing == Standing::Starting {
                    self.standing = if is_hub { Standing::Up } else { Standing::Waiting };
                }
            }
            Said::Connected => self.heard(now),
            // One of a hub's peers, who are its guests: the others go on.
            Said::Silence | Said::PeerStopped | Said::OtherRate(_) if self.end == End::HubServer => {}
            Said::Silence => {
                self.silences += 1;
                self.said_at = now;
                if self.silences >= SILENCES && self.standing == Standing::Up {
                    self.standing = Standing::Lost;
                }
            }
            Said::Report { address, lost, total } => {
                let more = self.reports.take(address, lost, total);
                if more > 0 && self.standing == Standing::Lost && now > self.said_at + Duration::from_millis(60) {
                    self.heard(now);
                }
            }
            Said::PeerStopped => {
                self.standing = Standing::Lost;
                return Act::Restart;
            }
            Said::NoHub => {
                self.standing = Standing::Waiting;
                return Act::Restart;
            }
            // The last packet of a peer that ends has no rate in it: it has seen ours, and will not have it.
            Said::OtherRate(0) => {
                let why = "the other side ended at our first packet; most likely its JACK server runs at another rate";
                self.standing = Standing::Failed(why.to_owned());
                return Act::Restart;
            }
            Said::OtherRate(rate_hz) => {
                self.standing = Standing::OtherRate(rate_hz);
                return Act::GiveUp;
            }
            Said::PortTaken => {
                self.standing =
                    Standing::Failed("its port is taken by another program; choose another port".to_owned());
                return Act::GiveUp;
            }
            Said::NoJack => {
                self.standing = Standing::Failed("JackTrip finds no JACK server".to_owned());
                return Act::Restart;
            }
            Said::Error(why) => {
                self.standing = Standing::Failed(format!("JackTrip says: {why}"));
                return Act::GiveUp;
            }
        }
        Act::Stay
    }

    /// Looks at the time: JackTrip does not say that packets come again.
    pub fn tick(&mut self, now: Duration) -> Act {
        if self.silences > 0 && now > self.said_at + Duration::from_millis(100) {
            // It has stopped complaining.
            if matches!(self.standing, Standing::Lost | Standing::Up) {
                self.heard(now);
            }
        } else if self.silences == 0 && self.standing == Standing::Up {
            self.heard_at = now;
        }
        let patience = match self.end {
            End::HubClient => HUB_PATIENCE,
            _ => PEER_PATIENCE,
        };
        if self.standing == Standing::Lost && now > self.heard_at + patience { Act::Restart } else { Act::Stay }
    }

    fn heard(&mut self, now: Duration) {
        self.standing = Standing::Up;
        self.silences = 0;
        self.heard_at = now;
    }
}

impl Reports {
    /// Takes a peer's counts; returns how many packets came since the last.
    fn take(&mut self, address: String, lost: u64, total: u64) -> u64 {
        let known = self.last.iter().position(|(other, ..)| *other == address).and_then(|at| self.last.remove(at));
        let (more_lost, more) = match known {
            // With fewer than before it has connected again, and the counts start at 0.
            Some((_, lost_before, before)) if total >= before => (lost.saturating_sub(lost_before), total - before),
            _ => (lost, total),
        };
        if self.last.len() >= PEERS_MAX {
            self.last.pop_front();
        }
        self.last.push_back((address, lost, total));
        self.seconds.push_back((more_lost, more));
        while self.seconds.len() > LOSS_REPORTS * self.last.len() {
            self.seconds.pop_front();
        }
        more.saturating_sub(more_lost)
    }
}

#[cfg(test)]
mod tests;
