//! What a host does. A role is a file (or folder) and a row of [`ROLES`]; roles meet on the bus, even on one host.

pub mod agent;
pub mod audio;
pub mod llm;
pub mod midi;
pub mod osc;
pub mod pool;
pub mod stt;
pub mod tts;
pub mod voice;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::bus::contract::rights::Sessions;
use crate::bus::message::fault::{Fault, FaultCode};
use crate::bus::message::node::Offer;
use crate::bus::message::{self, Ask as _};
use crate::bus::service::{Load, Server};
use crate::bus::session::SessionLog;
use crate::bus::subject::{Capability, Verb};
use crate::bus::{Bus, BusError};
use crate::config::Config;
use crate::engine::EngineError;
use crate::fabric::Fabric;
use crate::home::Home;
use crate::http::Http;
use crate::models::ModelError;
use crate::rig::Rig;
use pool::Pool;

/// A part of a host that serves others, or people.
#[async_trait]
pub trait Role: Send {
    /// Works until `context.stop` fires or something breaks. Calls [`RoleContext::up`] once it serves.
    ///
    /// # Errors
    /// [`RoleError`] says whether starting it again can help.
    async fn run(self: Box<Self>, context: RoleContext) -> Result<(), RoleError>;
}

/// One role there is.
pub struct RoleRow {
    /// Its name in the configuration.
    pub name: &'static str,
    /// One line for people.
    pub about: &'static str,
    /// When it drains: those with a lower number ask those with a higher one, and have finished before.
    pub drains: u8,
    /// What it serves. This and the next two are all that its host is allowed on a bus with permissions.
    pub serves: Capability,
    /// What it asks of others.
    pub asks: &'static [Verb],
    /// What it does with sessions.
    pub sessions: Sessions,
    /// Makes a new one; it is made anew when it is started again.
    pub build: fn() -> Box<dyn Role>,
}

/// What gear sets off.
const GEAR: &[Verb] =
    &[message::agent::Run::VERB, message::voice::Control::VERB, message::osc::Out::VERB, message::midi::Out::VERB];

/// All roles there are.
pub const ROLES: &[RoleRow] = &[
    RoleRow {
        name: "voice",
        about: "hears and speaks through JACK",
        drains: 0,
        serves: Capability::Voice,
        asks: &[message::stt::Request::VERB, message::tts::Stream::VERB, message::agent::Run::VERB],
        sessions: Sessions::Writes,
        build: || Box::new(voice::Voice),
    },
    RoleRow {
        name: "stt",
        about: "speech to text",
        drains: 2,
        serves: Capability::Stt,
        asks: &[],
        sessions: Sessions::None,
        build: || Box::new(stt::Stt),
    },
    RoleRow {
        name: "tts",
        about: "text to speech",
        drains: 2,
        serves: Capability::Tts,
        asks: &[],
        sessions: Sessions::None,
        build: || Box::new(tts::Tts),
    },
    RoleRow {
        name: "llm",
        about: "chat models",
        drains: 2,
        serves: Capability::Llm,
        asks: &[],
        sessions: Sessions::None,
        build: || Box::new(llm::Llm),
    },
    RoleRow {
        name: "agent",
        about: "commands, then the model",
        drains: 1,
        serves: Capability::Agent,
        asks: &[message::llm::Chat::VERB, message::osc::Out::VERB, message::midi::Out::VERB],
        sessions: Sessions::Reads,
        build: || Box::new(agent::Agent),
    },
    RoleRow {
        name: "osc",
        about: "sends and hears OSC",
        drains: 1,
        serves: Capability::Osc,
        asks: GEAR,
        sessions: Sessions::None,
        build: || Box::new(osc::Osc),
    },
    RoleRow {
        name: "midi",
        about: "sends and hears MIDI",
        drains: 1,
        serves: Capability::Midi,
        asks: GEAR,
        sessions: Sessions::None,
        build: || Box::new(midi::Midi),
    },
    RoleRow {
        name: "audio",
        about: "keeps the JACK graph, and links it to other hosts",
        drains: 2,
        serves: Capability::Audio,
        asks: &[],
        sessions: Sessions::None,
        build: || Box::new(audio::Audio),
    },
];

/// Finds the rows of `names`, in the order of [`ROLES`].
///
/// # Errors
/// What is wrong with a name, and which there are.
pub fn find(names: &[String]) -> Result<Vec<&'static RoleRow>, String> {
    let all = || ROLES.iter().map(|row| row.name).collect::<Vec<_>>().join(", ");
    if names.is_empty() {
        return Err(format!("no role is switched on; choose from {}", all()));
    }
    if let Some(name) = names.iter().find(|name| !ROLES.iter().any(|row| row.name == **name)) {
        return Err(format!("there is no role {name:?}; there are {}", all()));
    }
    Ok(ROLES.iter().filter(|row| names.iter().any(|name| name == row.name)).collect())
}

/// What a role works with.
#[derive(Clone)]
pub struct RoleContext {
    /// Where this host is heard and serves.
    pub bus: Bus,
    /// The way to whoever can.
    pub fabric: Fabric,
    /// The host's settings.
    pub config: Arc<Config>,
    /// The host's files.
    pub home: Home,
    /// What is said and done.
    pub sessions: SessionLog,
    /// Models that roles of this host share.
    pub pool: Pool,
    /// What gear sets off, and what goes out to it; the one stop.
    pub rig: Rig,
    /// The host's HTTP server; a role may mount routes on it.
    pub http: Http,
    /// Fires when the role is to finish.
    pub stop: CancellationToken,
    /// What the host says of itself.
    pub offers: Offers,
}

impl RoleContext {
    /// Says that the role serves, and what.
    pub fn up(&self, offer: Offer, load: Option<Load>) {
        tracing::info!(models = offer.models.join(","), engine = offer.engine, "up");
        self.offers.set(offer, load);
    }

    /// How long the role may take to finish its work.
    #[must_use]
    pub fn drain_timeout(&self) -> Duration {
        Duration::from_millis(self.config.node.drain_timeout_ms)
    }

    /// Serves until the role is to stop, then finishes the work.
    ///
    /// # Errors
    /// [`BusError::DeniedHearing`] when the server no longer lets this host hear what it serves.
    pub async fn serve_until_stopped(&self, server: Server) -> Result<(), RoleError> {
        let ended = tokio::select! {
            () = self.stop.cancelled() => Ok(()),
            error = server.refused() => Err(error.into()),
        };
        if !server.stop(self.drain_timeout()).await {
            tracing::warn!("work was cut off: it was not done within node.drain_timeout_ms");
        }
        ended
    }
}

/// An offer, and its load if it has slots.
type Offered = (Offer, Option<Load>);

/// What the roles of a host offer at the moment. Cloning shares it.
#[derive(Debug, Clone, Default)]
pub struct Offers(Arc<watch::Sender<Vec<Offered>>>);

impl Offers {
    fn set(&self, offer: Offer, load: Option<Load>) {
        self.0.send_modify(|offers| {
            offers.retain(|(other, _)| other.role != offer.role);
            offers.push((offer, load));
            offers.sort_by(|(a, _), (b, _)| a.role.cmp(&b.role));
        });
    }

    /// Takes back what a role offers.
    pub fn remove(&self, role: &str) {
        self.0.send_modify(|offers| offers.retain(|(offer, _)| offer.role != role));
    }

    /// Waits until a role offers something.
    pub async fn until(&self, role: &str) {
        let mut offers = self.0.subscribe();
        // The sender is `self`, so this ends only by what is waited for.
        let _ = offers.wait_for(|offers| offers.iter().any(|(offer, _)| offer.role == role)).await;
    }

    /// Each change of what is on offer.
    #[must_use]
    pub fn changes(&self) -> BoxStream<'static, ()> {
        let offers = self.0.subscribe();
        let next = |mut offers: watch::Receiver<Vec<Offered>>| async move {
            offers.changed().await.ok().map(|()| ((), offers))
        };
        stream::unfold(offers, next).boxed()
    }

    /// What is on offer, with its load.
    #[must_use]
    pub fn now(&self) -> Vec<Offer> {
        let offer = |(offer, load): &Offered| match load {
            Some(load) => Offer { in_flight: load.in_flight(), usual_ms: load.usual_ms(), ..offer.clone() },
            None => offer.clone(),
        };
        self.0.borrow().iter().map(offer).collect()
    }
}

/// Why a role ended.
#[derive(Debug, thiserror::Error)]
pub enum RoleError {
    /// The bus.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A model.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A setting that can't be.
    #[error("{0}")]
    Setting(String),
}

impl RoleError {
    /// Whether starting the role again can help.
    #[must_use]
    pub const fn can_retry(&self) -> bool {
        match self {
            Self::Bus(error) => error.can_retry(),
            Self::Engine(error) => matches!(error, EngineError::Unavailable(_) | EngineError::Failed(_)),
            Self::Model(_) | Self::Setting(_) => false,
        }
    }
}

/// An engine's error as the bus says it.
impl From<EngineError> for Fault {
    fn from(error: EngineError) -> Self {
        let code = match &error {
            EngineError::Missing(_) => FaultCode::NotFound,
            EngineError::Invalid(_) => FaultCode::Invalid,
            EngineError::TooLarge(_) => FaultCode::TooLarge,
            EngineError::Unavailable(_) => FaultCode::Unavailable,
            EngineError::Failed(_) => FaultCode::Failed,
            EngineError::Cancelled => FaultCode::Cancelled,
        };
        Self::new(code, error.to_string())
    }
}

/// A duration in whole milliseconds.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_found_by_name() {
        let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let found = find(&names(&["tts", "voice"])).unwrap();
        assert_eq!(found.iter().map(|row| row.name).collect::<Vec<_>>(), ["voice", "tts"]);
        assert_eq!(
            find(&names(&["tss"])).err().unwrap(),
            "there is no role \"tss\"; there are voice, stt, tts, llm, agent, osc, midi, audio"
        );
        assert!(find(&[]).is_err());
    }
}
