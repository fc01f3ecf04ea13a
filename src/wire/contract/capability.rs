//! What there is to know of each capability beyond its verbs. Adding one is a row.

use super::table::{VERBS, VerbRow};
use crate::wire::message::Replies;
use crate::wire::subject::{Capability, SESSIONS, VOICE_LEVELS, VOICE_STATES, pattern};

/// A capability.
#[derive(Debug, Clone, Copy)]
pub struct CapabilityRow {
    /// Which.
    pub capability: Capability,
    /// Whether its models are voices, so that a request names one as its voice.
    pub has_voices: bool,
    /// Whether it hears or reads what people say; its hosts may then make the streams and buckets that keep it.
    pub hears_people: bool,
    /// Whether it can be set to ask tools.
    pub asks_tools: bool,
    /// Which events it hears.
    pub hears: &'static [Hears],
}

/// Events that a capability hears.
#[derive(Debug, Clone, Copy)]
pub enum Hears {
    /// Of its own host, by their pattern.
    Own(&'static str),
    /// Of all hosts.
    All(&'static str),
    /// Of all hosts, if its host hears people anyhow.
    Overheard(&'static str),
}

impl CapabilityRow {
    const fn of(capability: Capability) -> Self {
        Self { capability, has_voices: false, hears_people: false, asks_tools: false, hears: &[] }
    }

    const fn of_people(capability: Capability) -> Self {
        Self { hears_people: true, ..Self::of(capability) }
    }
}

/// All capabilities there are.
pub const CAPABILITIES: &[CapabilityRow] = &[
    CapabilityRow::of_people(Capability::Stt),
    CapabilityRow { has_voices: true, ..CapabilityRow::of_people(Capability::Tts) },
    CapabilityRow::of_people(Capability::Llm),
    CapabilityRow { asks_tools: true, ..CapabilityRow::of_people(Capability::Agent) },
    CapabilityRow::of_people(Capability::Voice),
    // Surfaces show how listeners are; and what is said, on a host that hears it anyhow.
    CapabilityRow {
        asks_tools: true,
        hears: &[Hears::All(VOICE_STATES), Hears::Overheard(VOICE_LEVELS), Hears::Overheard(SESSIONS)],
        ..CapabilityRow::of(Capability::Osc)
    },
    // Lights follow the listeners of the host; notes end with the host that asked for them.
    CapabilityRow {
        asks_tools: true,
        hears: &[Hears::Own(pattern::VOICE_STATE), Hears::All(pattern::LOST), Hears::All(pattern::DOWN)],
        ..CapabilityRow::of(Capability::Midi)
    },
    CapabilityRow::of(Capability::Audio),
    CapabilityRow::of(Capability::Node),
];

/// The row of a capability.
#[must_use]
pub fn row(capability: Capability) -> &'static CapabilityRow {
    const NONE: CapabilityRow = CapabilityRow::of(Capability::Node);
    CAPABILITIES.iter().find(|row| row.capability == capability).unwrap_or(&NONE)
}

/// On which of a host's connections a capability is served: sound has one of its own.
#[must_use]
pub fn carries(capability: Capability) -> Replies {
    let sounds = |row: &&VerbRow| row.verb.capability == capability && row.replies == Replies::Audio;
    VERBS.iter().find(sounds).map_or(Replies::One, |row| row.replies)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_capability_has_one_row() {
        for capability in Capability::ALL {
            assert_eq!(CAPABILITIES.iter().filter(|row| row.capability == capability).count(), 1, "{capability}");
        }
        assert_eq!(Capability::ALL.map(carries).iter().filter(|replies| **replies == Replies::Audio).count(), 1);
        assert_eq!(carries(Capability::Tts), Replies::Audio);
    }
}
