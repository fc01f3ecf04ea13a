//! All roles there are.

use super::{Role, agent, audio, llm, midi, osc, stt, tts, voice};
use crate::bus::contract::rights::Sessions;
use crate::bus::message::{self, Ask as _};
use crate::bus::subject::{Capability, Verb};

/// One role there is.
pub struct RoleRow {
    /// Its name in the configuration.
    pub name: &'static str,
    /// One line for people.
    pub about: &'static str,
    /// When it drains: those with a lower number ask those with a higher one, and have finished before.
    pub drains: u8,
    /// What it serves on the bus; nothing, if it serves people alone. This and the next two are all that its host is allowed on
    /// a bus with permissions.
    pub serves: &'static [Capability],
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
        serves: &[Capability::Voice],
        asks: &[message::stt::Request::VERB, message::tts::Stream::VERB, message::agent::Run::VERB],
        sessions: Sessions::Writes,
        build: || Box::new(voice::Voice),
    },
    RoleRow {
        name: "stt",
        about: "speech to text",
        drains: 2,
        serves: &[Capability::Stt],
        asks: &[],
        sessions: Sessions::None,
        build: || Box::new(stt::Stt),
    },
    RoleRow {
        name: "tts",
        about: "text to speech",
        drains: 2,
        serves: &[Capability::Tts],
        asks: &[],
        sessions: Sessions::None,
        build: || Box::new(tts::Tts),
    },
    RoleRow {
        name: "llm",
        about: "chat models",
        drains: 2,
        serves: &[Capability::Llm],
        asks: &[],
        sessions: Sessions::None,
        build: || Box::new(llm::Llm),
    },
    RoleRow {
        name: "agent",
        about: "commands, then the model",
        drains: 1,
        serves: &[Capability::Agent],
        asks: &[message::llm::Chat::VERB, message::osc::Out::VERB, message::midi::Out::VERB],
        sessions: Sessions::Reads,
        build: || Box::new(agent::Agent),
    },
    RoleRow {
        name: "osc",
        about: "sends and hears OSC",
        drains: 1,
        serves: &[Capability::Osc],
        asks: GEAR,
        sessions: Sessions::None,
        build: || Box::new(osc::Osc),
    },
    RoleRow {
        name: "midi",
        about: "sends and hears MIDI",
        drains: 1,
        serves: &[Capability::Midi],
        asks: GEAR,
        sessions: Sessions::None,
        build: || Box::new(midi::Midi),
    },
    RoleRow {
        name: "audio",
        about: "keeps the JACK graph, and links it to other hosts",
        drains: 2,
        serves: &[Capability::Audio],
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
