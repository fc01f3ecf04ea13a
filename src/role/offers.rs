//! What the roles of a host offer at the moment.

use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use tokio::sync::watch;

use crate::bus::message::node::Offer;
use crate::bus::service::Load;

/// An offer as it stands.
#[derive(Debug)]
struct Offered {
    offer: Offer,
    /// Its load, if it has slots.
    load: Option<Load>,
    /// Its place among those of its role.
    rank: usize,
}

/// What the roles of a host offer at the moment. Cloning shares it.
#[derive(Debug, Clone, Default)]
pub struct Offers(Arc<watch::Sender<Vec<Offered>>>);

impl Offers {
    /// Offers something, in the place of what the role has offered by the same name. Those of a role stand in the order of
    /// their ranks: a host that knows but one engine a role takes the first.
    pub fn set(&self, offer: Offer, load: Option<Load>, rank: usize) {
        self.0.send_modify(|offers| {
            offers.retain(|Offered { offer: other, .. }| other.role != offer.role || other.name != offer.name);
            offers.push(Offered { offer, load, rank });
            offers.sort_by(|a, b| (&a.offer.role, a.rank).cmp(&(&b.offer.role, b.rank)));
        });
    }

    /// Takes back what a role offers.
    pub fn remove(&self, role: &str) {
        self.0.send_modify(|offers| offers.retain(|offered| offered.offer.role != role));
    }

    /// Takes back one engine of a role.
    pub fn remove_engine(&self, role: &str, name: &str) {
        self.0.send_modify(|offers| offers.retain(|offered| offered.offer.role != role || offered.offer.name != name));
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
        let offer = |Offered { offer, load, .. }: &Offered| match load {
            Some(load) => Offer { in_flight: load.in_flight(), usual_ms: load.usual_ms(), ..offer.clone() },
            None => offer.clone(),
        };
        self.0.borrow().iter().map(offer).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(role: &str, name: &str) -> Offer {
        Offer { role: role.to_owned(), name: name.to_owned(), ..Offer::default() }
    }

    #[test]
    fn engines_of_a_role_stand_in_the_order_of_the_settings() {
        let offers = Offers::default();
        offers.set(offer("tts", ""), None, 0);
        offers.set(offer("llm", "far"), None, 1);
        offers.set(offer("llm", "near"), None, 0);
        offers.set(offer("llm", "far"), None, 1);
        let now = || offers.now().iter().map(|offer| format!("{} {}", offer.role, offer.name)).collect::<Vec<_>>();
        assert_eq!(now(), ["llm near", "llm far", "tts "]);
        offers.remove_engine("llm", "near");
        assert_eq!(now(), ["llm far", "tts "]);
        offers.remove("llm");
        assert_eq!(now(), ["tts "]);
    }
}
