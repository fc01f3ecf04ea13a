//! From what hosts and requests say on the bus to what the router reads, and back.

use crate::bus::message::node::{self, NodeInfo};
use crate::bus::subject::Capability;
use crate::router::{Host, Load, Model, Need, Offer, Privacy};

/// The capability whose models are voices.
const SPEAKS: &str = "tts";

/// A host as the router sees it.
pub(super) fn host(info: &NodeInfo) -> Host {
    Host {
        name: info.node.clone(),
        instance: info.instance.clone(),
        tags: info.tags.clone(),
        draining: info.draining,
        offers: info.offers.iter().map(offer).collect(),
    }
}

fn offer(offer: &node::Offer) -> Offer {
    let small = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let model = |name: &String| Model {
        name: name.clone(),
        warm: offer.warm.contains(name),
        classes: offer.classes.iter().filter(|(_, of)| of.contains(name)).map(|(class, _)| class.clone()).collect(),
        languages: Vec::new(),
    };
    Offer {
        capability: offer.role.clone(),
        engine: offer.engine.clone(),
        models: offer.models.iter().map(model).collect(),
        voices: if offer.role == SPEAKS { offer.models.clone() } else { Vec::new() },
        languages: offer.languages.clone(),
        privacy: if offer.cloud { Privacy::Any } else { Privacy::Host },
        load: Load {
            slots: small(offer.slots),
            in_flight: small(offer.in_flight),
            queued: small(offer.queued),
            usual_ms: u32::try_from(offer.usual_ms).unwrap_or(u32::MAX),
        },
    }
}

/// A need for a capability, and nothing in particular of it.
#[must_use]
pub fn need(capability: Capability) -> Need {
    Need { capability: capability.token().to_owned(), ..Need::default() }
}

/// How far a request may travel, from the wire: what it sets off may go no further.
#[must_use]
pub fn privacy_of(privacy: node::Privacy) -> Privacy {
    match privacy {
        node::Privacy::Host => Privacy::Host,
        node::Privacy::Lan => Privacy::Lan,
        node::Privacy::Any => Privacy::Any,
    }
}

/// How far a request may travel, as it stands on the wire.
#[must_use]
pub fn wire_privacy(privacy: Privacy) -> node::Privacy {
    match privacy {
        Privacy::Host => node::Privacy::Host,
        Privacy::Lan => node::Privacy::Lan,
        Privacy::Any => node::Privacy::Any,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn warmth_classes_and_voices_are_told_by_model() {
        let spoken = node::Offer {
            role: "tts".to_owned(),
            models: vec!["amy".to_owned(), "joe".to_owned()],
            warm: vec!["joe".to_owned()],
            classes: BTreeMap::from([("calm".to_owned(), vec!["amy".to_owned()])]),
            cloud: true,
            ..node::Offer::default()
        };
        let seen = offer(&spoken);
        assert_eq!(seen.voices, ["amy", "joe"]);
        assert_eq!(seen.models.iter().map(|model| model.warm).collect::<Vec<_>>(), [false, true]);
        assert_eq!(seen.models[0].classes, ["calm"]);
        assert_eq!(seen.privacy, Privacy::Any);
    }
}
