//! Which of a host's engines of one capability takes a request.
//!
//! Each engine is a service of its own, with slots of its own. All of them hear what is asked of their host, and NATS hands
//! a request to any one of them; that one gives it to the engine that it is for. A caller names one by the header `Engine`.
//! Without it the request goes to an engine that may have it and has what it names, to one with a free slot before a full
//! one, and else in the order of the settings.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_nats::service::Request;

use super::slots::Slots;
use crate::wire::message::node::{Offer, Privacy};

/// Takes a request up.
pub(super) type Take = Arc<dyn Fn(Request) + Send + Sync>;

/// The engines of one capability of this host. Cloning shares them.
#[derive(Clone, Default)]
pub struct Engines(Arc<Mutex<Vec<Entry>>>);

struct Entry {
    rank: usize,
    offer: Offer,
    /// Those that it works with, by which it is told from the others.
    slots: Arc<Slots>,
    /// By the name of the verb.
    verbs: HashMap<&'static str, Take>,
}

impl Entry {
    fn standing(&self) -> Standing<'_> {
        Standing { offer: &self.offer, is_free: self.slots.is_free() }
    }
}

/// What a request says of the engine that it is for. An empty text says nothing.
#[derive(Debug, Clone, Default)]
pub(super) struct Wanted {
    /// The engine, by its name.
    pub(super) engine: String,
    /// The model, voice or class.
    pub(super) model: Option<String>,
    pub(super) language: Option<String>,
    pub(super) privacy: Privacy,
    /// Whether it came by the subject of a model, which the engine that has heard it has.
    pub(super) is_by_model: bool,
}

/// Who takes a request.
pub(super) enum Taker {
    /// The engine that has heard it.
    Itself,
    /// Another of the host.
    Other(Take),
    /// The host has no engine of the name; these it has.
    Nobody(String),
}

impl fmt::Debug for Engines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.lock().iter().map(|entry| &entry.offer.name)).finish()
    }
}

impl Engines {
    /// Whether none is there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// An engine is there. Those of a lower `rank` are asked first.
    pub(super) fn add(&self, slots: &Arc<Slots>, offer: Offer, rank: usize) {
        let mut entries = self.lock();
        entries.push(Entry { rank, offer, slots: Arc::clone(slots), verbs: HashMap::new() });
        entries.sort_by_key(|entry| entry.rank);
    }

    /// An engine takes a verb.
    pub(super) fn takes(&self, own: &Arc<Slots>, verb: &'static str, take: Take) {
        if let Some(entry) = self.lock().iter_mut().find(|entry| Arc::ptr_eq(&entry.slots, own)) {
            entry.verbs.insert(verb, take);
        }
    }

    /// An engine is there no more.
    pub(super) fn remove(&self, own: &Arc<Slots>) {
        self.lock().retain(|entry| !Arc::ptr_eq(&entry.slots, own));
    }

    /// Whether there are others.
    pub(super) fn are_several(&self) -> bool {
        self.lock().len() > 1
    }

    /// Whether another than `own` can do with a model and a language what `own` can't.
    pub(super) fn has_other_for(&self, own: &Offer, model: Option<&str>, language: Option<&str>) -> bool {
        let can = |offer: &Offer| {
            model.is_none_or(|model| offer.has_model(model)) && language.is_none_or(|language| speaks(offer, language))
        };
        !can(own) && self.lock().iter().any(|entry| can(&entry.offer))
    }

    /// Who takes a request for `verb` that `own` has heard.
    pub(super) fn taker(&self, own: &Arc<Slots>, verb: &str, wanted: &Wanted) -> Taker {
        let entries = self.lock();
        let serving: Vec<&Entry> = entries.iter().filter(|entry| entry.verbs.contains_key(verb)).collect();
        let own_at = serving.iter().position(|entry| Arc::ptr_eq(&entry.slots, own));
        let standings: Vec<Standing<'_>> = serving.iter().map(|entry| entry.standing()).collect();
        match choose(&standings, own_at, wanted) {
            Choice::Own => Taker::Itself,
            Choice::At(at) if Some(at) == own_at => Taker::Itself,
            Choice::At(at) => serving[at].verbs.get(verb).cloned().map_or(Taker::Itself, Taker::Other),
            Choice::Unknown => {
                let names = serving.iter().map(|entry| entry.offer.name.as_str());
                Taker::Nobody(names.collect::<Vec<_>>().join(", "))
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn speaks(offer: &Offer, language: &str) -> bool {
    let primary = |tag: &str| tag.split(['-', '_']).next().unwrap_or_default().to_lowercase();
    offer.languages.is_empty() || offer.languages.iter().any(|own| primary(own) == primary(language))
}

/// An engine that serves the verb.
struct Standing<'a> {
    offer: &'a Offer,
    is_free: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Choice {
    /// The one that has heard it: it says why no engine can.
    Own,
    At(usize),
    /// There is none of the name.
    Unknown,
}

/// Which of `engines`, in the order of the settings, takes a request that the one at `own` has heard.
fn choose(engines: &[Standing<'_>], own: Option<usize>, wanted: &Wanted) -> Choice {
    if !wanted.engine.is_empty() {
        let named = engines.iter().position(|engine| engine.offer.name == wanted.engine);
        return named.map_or(Choice::Unknown, Choice::At);
    }
    let may = (0..engines.len()).filter(|at| engines[*at].offer.keeps_within(wanted.privacy));
    let mut left: Vec<usize> = may.collect();
    if wanted.is_by_model
        && let Some(own) = own.filter(|own| left.contains(own))
    {
        return Choice::At(own);
    }
    if let Some(model) = &wanted.model {
        left.retain(|at| engines[*at].offer.has_model(model));
    }
    if let Some(language) = &wanted.language {
        left.retain(|at| speaks(engines[*at].offer, language));
    }
    let free = left.iter().copied().find(|at| engines[*at].is_free);
    free.or(left.first().copied()).map_or(Choice::Own, Choice::At)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(name: &str, models: &[&str], privacy: Privacy) -> Offer {
        let models = models.iter().map(|model| (*model).to_owned()).collect();
        Offer { name: name.to_owned(), models, languages: vec!["en-US".to_owned()], ..Offer::default() }
            .reaching(privacy)
    }

    /// Which of an engine of this host and one that passes on to a provider outside, as the second has heard it.
    fn chosen(free: [bool; 2], wanted: &Wanted) -> Choice {
        let offers = [offer("near", &["small"], Privacy::Host), offer("far", &["small", "big"], Privacy::Any)];
        let engines: Vec<_> = offers.iter().zip(free).map(|(offer, is_free)| Standing { offer, is_free }).collect();
        choose(&engines, Some(1), wanted)
    }

    #[test]
    fn an_engine_is_found_by_name_privacy_model_and_language() {
        let model = |model: &str| Wanted { model: Some(model.to_owned()), ..Wanted::default() };
        let named = |engine: &str| Wanted { engine: engine.to_owned(), ..Wanted::default() };
        assert_eq!(chosen([true; 2], &Wanted::default()), Choice::At(0));
        assert_eq!(chosen([true; 2], &model("big")), Choice::At(1));
        assert_eq!(chosen([true; 2], &named("far")), Choice::At(1));
        assert_eq!(chosen([true; 2], &named("none")), Choice::Unknown);
        assert_eq!(chosen([true; 2], &Wanted { is_by_model: true, ..model("small") }), Choice::At(1));
        let english = Wanted { language: Some("en".to_owned()), ..Wanted::default() };
        assert_eq!(chosen([true; 2], &english), Choice::At(0));
        for none in [model("huge"), Wanted { language: Some("de".to_owned()), ..Wanted::default() }] {
            assert_eq!(chosen([true; 2], &none), Choice::Own);
        }
    }

    #[test]
    fn one_with_a_free_slot_goes_before_a_full_one() {
        assert_eq!(chosen([false, true], &Wanted::default()), Choice::At(1));
        assert_eq!(chosen([false, false], &Wanted::default()), Choice::At(0));
    }

    #[test]
    fn what_stays_in_the_lan_never_goes_to_a_provider_outside() {
        let lan = Wanted { privacy: Privacy::Lan, ..Wanted::default() };
        for free in [[true, true], [false, true], [false, false]] {
            assert_eq!(chosen(free, &lan), Choice::At(0));
            assert_eq!(chosen(free, &Wanted { is_by_model: true, ..lan.clone() }), Choice::At(0));
        }
        // No engine may have it: the one that has heard it says so.
        assert_eq!(chosen([true; 2], &Wanted { model: Some("big".to_owned()), ..lan }), Choice::Own);
    }
}
