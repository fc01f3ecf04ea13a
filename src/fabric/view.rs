//! From what hosts and requests say on the bus to what the router reads, and back.

use crate::bus::contract::capability;
use crate::bus::message::node::{self, NodeInfo};
use crate::bus::subject::Capability;
use crate::router::{Host, Load, Model, Need, Offer, Privacy};

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
    let model = |name: &String, kind: &str| Model {
        name: name.clone(),
        kind: kind.to_owned(),
        warm: offer.warm.contains(name),
        classes: offer.classes.iter().filter(|(_, of)| of.contains(name)).map(|(class, _)| class.clone()).collect(),
        languages: Vec::new(),
    };
    let of_kinds = offer.kinds.iter().flat_map(|(kind, names)| names.iter().map(move |name| model(name, kind)));
    let speaks = Capability::of(&offer.role).is_some_and(|capability| capability::row(capability).has_voices);
    Offer {
        capability: offer.role.clone(),
        name: offer.name.clone(),
        engine: offer.engine.clone(),
        models: offer.models.iter().map(|name| model(name, "")).chain(of_kinds).collect(),
        voices: if speaks { offer.models.clone() } else { Vec::new() },
        languages: offer.languages.clone(),
        privacy: privacy_of(offer.reach()),
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
    use crate::router::Privacy;

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

    #[test]
    fn what_older_hosts_say_of_privacy_is_read_as_well() {
        for (told, read) in [
            (r#"{"role":"llm","cloud":true}"#, Privacy::Any),
            (r#"{"role":"llm"}"#, Privacy::Host),
            (r#"{"role":"llm","privacy":"lan"}"#, Privacy::Lan),
        ] {
            let seen = offer(&serde_json::from_str(told).unwrap());
            assert_eq!((seen.privacy, seen.name.as_str()), (read, ""), "{told}");
        }
    }

    #[test]
    fn models_of_another_kind_are_told_from_those_that_chat() {
        let kinds = BTreeMap::from([("embed".to_owned(), vec!["nomic".to_owned()])]);
        let spoken =
            node::Offer { role: "llm".to_owned(), models: vec!["smol".to_owned()], kinds, ..node::Offer::default() };
        let seen = offer(&spoken);
        let kinds = seen.models.iter().map(|model| (model.name.as_str(), model.kind.as_str())).collect::<Vec<_>>();
        assert_eq!(kinds, [("smol", ""), ("nomic", "embed")]);
    }
}
