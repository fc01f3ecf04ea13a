//! Hosts, needs and policies at random, of few words, so that they often meet; and the rules, read plainly.

use std::time::Duration;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use rand::SeedableRng as _;
use rand::rngs::Xoshiro256PlusPlus;

use crate::router::*;

pub const HERE: &str = "h0";

pub fn rng(seed: u64) -> Xoshiro256PlusPlus {
    Xoshiro256PlusPlus::seed_from_u64(seed)
}

/// An engine and its host.
pub type Engine<'a> = (&'a Host, &'a Offer);

/// The engines of the capability that is asked for, of all hosts.
pub fn engines(hosts: &[Host]) -> Vec<Engine<'_>> {
    hosts.iter().flat_map(|host| host.offers_of("stt").map(move |offer| (host, offer))).collect()
}

/// By its names.
pub fn id((host, offer): Engine<'_>) -> OfferId {
    OfferId::new(&host.name, &offer.name)
}

/// The hosts, a need, a policy, what the caller went through, and a seed.
#[derive(Debug, Clone)]
pub struct World {
    pub hosts: Vec<Host>,
    /// As they were before.
    pub before: Vec<Host>,
    pub need: Need,
    pub policy: Policy,
    /// What came of requests, to the host of that number and its engine of that name.
    pub past: Vec<(usize, &'static str, Option<Outcome>)>,
    pub now: Duration,
    pub seed: u64,
}

impl World {
    pub fn view(&self) -> View {
        let mut view: View = self.before.iter().cloned().collect();
        for gone in self.before.iter().filter(|old| self.hosts.iter().all(|host| host.name != old.name)) {
            view.remove(&gone.name);
        }
        self.hosts.iter().cloned().for_each(|host| view.put(host));
        view
    }

    pub fn health(&self, view: &View) -> Health {
        let mut health = Health::new();
        for (n, (host, engine, outcome)) in self.past.iter().enumerate() {
            let began = Duration::from_millis(200 * n as u64);
            let id = OfferId::new(format!("h{host}"), *engine);
            let permit = health.admit(view, &self.need.capability, &id, began);
            if let (Some(permit), Some(outcome)) = (permit, outcome) {
                health.settle(view, permit, *outcome, began + Duration::from_millis(100));
            }
        }
        health
    }
}

fn texts(of: &'static [&'static str], most: usize) -> impl Strategy<Value = Vec<String>> {
    subsequence(of, 0..=most.min(of.len())).prop_map(|some| some.into_iter().map(str::to_owned).collect())
}

fn text(of: &'static [&'static str]) -> impl Strategy<Value = String> {
    // Most needs are undemanding.
    prop_oneof![2 => Just(String::new()), 1 => select(of).prop_map(str::to_owned)]
}

fn privacy() -> impl Strategy<Value = Privacy> {
    select(vec![Privacy::Host, Privacy::Lan, Privacy::Any])
}

prop_compose! {
    fn model()(
        name in select(vec!["tiny", "base"]),
        kind in select(vec!["", "", "", "embed"]),
        warm: bool,
        classes in texts(&["chat", "planner"], 2),
        languages in texts(&["en", "en-GB", "de_AT"], 2),
    ) -> Model {
        Model { name: name.to_owned(), kind: kind.to_owned(), warm, classes, languages }
    }
}

prop_compose! {
    fn offer()(
        capability in select(vec!["stt", "stt", "stt", "tts"]),
        name in select(vec!["", "a", "b"]),
        models in vec(model(), 0..3),
        voices in texts(&["amy", "joe"], 2),
        languages in texts(&["en", "fr"], 2),
        privacy in privacy(),
        slots in 0_u32..4,
        in_flight in 0_u32..3,
        queued in 0_u32..2,
        usual_ms in 0_u32..2000,
    ) -> Offer {
        let load = Load { slots, in_flight, queued, usual_ms };
        let (name, engine) = (name.to_owned(), "fake".to_owned());
        Offer { capability: capability.to_owned(), name, engine, models, voices, languages, privacy, load }
    }
}

prop_compose! {
    fn host()(
        number in 0..8,
        instance in select(vec!["a", "b"]),
        tags in texts(&["gpu", "high_mem"], 2),
        draining in prop::bool::weighted(0.15),
        offers in vec(offer(), 0..4),
    ) -> Host {
        Host { name: format!("h{number}"), instance: instance.to_owned(), tags, draining, offers }
    }
}

fn hosts() -> impl Strategy<Value = Vec<Host>> {
    vec(host(), 0..10).prop_map(|mut hosts: Vec<Host>| {
        hosts.sort_by(|a, b| a.name.cmp(&b.name));
        hosts.dedup_by(|a, b| a.name == b.name);
        hosts
    })
}

prop_compose! {
    fn need()(
        kind in prop_oneof![4 => Just(String::new()), 1 => Just("embed".to_owned())],
        engine in prop_oneof![4 => Just(String::new()), 1 => select(vec!["a", "fake", "none"]).prop_map(str::to_owned)],
        model in text(&["tiny", "base", "chat", "planner", "huge"]),
        language in text(&["en", "en-US", "EN_gb", "de", "fr"]),
        voice in text(&["amy", "joe", "zoe"]),
        tags in prop_oneof![3 => Just(Vec::new()), 1 => texts(&["gpu", "high_mem"], 2)],
        latency in select(vec![Latency::Interactive, Latency::Batch]),
        privacy in prop_oneof![2 => Just(Privacy::Any), 1 => privacy()],
    ) -> Need {
        Need { capability: "stt".to_owned(), kind, engine, model, language, voice, tags, latency, privacy }
    }
}

fn places() -> impl Strategy<Value = Places> {
    let all = vec![Place::Local, Place::Lan, Place::Cloud];
    subsequence(all, 1..=3).prop_shuffle().prop_map(|places| Places::try_from(places).unwrap())
}

prop_compose! {
    fn policy()(
        prefer in prop_oneof![Just(Places::default()), places()],
        pin in text(&["h1", "h2", "gone", "h1/a", "*/b", "h2/fake"]),
        deny in texts(&["h2", "h3", "gone", "h1/b", "*/a"], 2),
        weight in 0.1_f64..4.0,
        rule in option::of((texts(&["tiny", "planner"], 2), option::of(places()), option::of(text(&["h4", "h4/a"])))),
    ) -> Policy {
        let weights = [("h4".to_owned(), Weight::try_from(weight).unwrap())].into();
        let deny_too = vec!["h5".to_owned()];
        let rules = rule.into_iter().map(|(models, prefer, pin)| Rule { models, prefer, pin, deny: deny_too.clone() });
        Policy { prefer, pin, deny, weights, rules: rules.collect() }
    }
}

fn outcome() -> impl Strategy<Value = Option<Outcome>> {
    select(vec![None, Some(Outcome::Answered), Some(Outcome::Busy), Some(Outcome::Failed), Some(Outcome::Abandoned)])
}

prop_compose! {
    pub fn world()(
        hosts in hosts(),
        before in hosts(),
        need in need(),
        policy in policy(),
        past in vec((0_usize..8, select(vec!["", "a", "b"]), outcome()), 0..12),
        later_ms in 0_u64..3000,
        seed: u64,
    ) -> World {
        let now = Duration::from_millis(200 * past.len() as u64 + later_ms);
        World { hosts, before, need, policy, past, now, seed }
    }
}

/// The policy's places, pin and denied hosts for a need.
pub struct Wish {
    pub prefer: Vec<Place>,
    pub pin: String,
    pub deny: Vec<String>,
}

/// Reads the rules plainly; `classes` are those of the model that is asked for by name.
pub fn wish(need: &Need, policy: &Policy, classes: &[String]) -> Wish {
    let fits = |model: &String| !need.model.is_empty() && (*model == need.model || classes.contains(model));
    let rule = policy.rules.iter().find(|rule| rule.models.iter().any(fits));
    let prefer = rule.and_then(|rule| rule.prefer.clone()).unwrap_or_else(|| policy.prefer.clone());
    let pin = rule.and_then(|rule| rule.pin.clone()).unwrap_or_else(|| policy.pin.clone());
    let deny = policy.deny.iter().chain(rule.into_iter().flat_map(|rule| &rule.deny)).cloned().collect();
    Wish { prefer: prefer.into(), pin, deny }
}

fn speaks(languages: &[String], wanted: &str) -> bool {
    let plain = |language: &str| language.to_lowercase().replace('_', "-");
    let wanted = plain(wanted);
    languages.is_empty()
        || languages.iter().map(|language| plain(language)).any(|has| {
            has == wanted || has.starts_with(&format!("{wanted}-")) || wanted.starts_with(&format!("{has}-"))
        })
}

/// Which models of an offer would do. An offer that has none at all may still do.
pub fn models<'a>(need: &Need, offer: &'a Offer) -> Vec<&'a Model> {
    let wanted = |model: &&Model| {
        let languages = if model.languages.is_empty() { &offer.languages } else { &model.languages };
        model.kind == need.kind
            && (need.model.is_empty() || model.name == need.model || model.classes.contains(&need.model))
            && (need.language.is_empty() || speaks(languages, &need.language))
    };
    offer.models.iter().filter(wanted).collect()
}

pub fn place(host: &Host, offer: &Offer) -> Place {
    match (offer.privacy, host.name == HERE) {
        (Privacy::Any, _) => Place::Cloud,
        (_, true) => Place::Local,
        (_, false) => Place::Lan,
    }
}

/// Whether the policy means an engine by a name.
pub fn is_meant(name: &str, host: &Host, offer: &Offer) -> bool {
    let engines = [&offer.name, &offer.engine];
    let of_host = |host: &str| engines.iter().any(|engine| name == format!("{host}/{engine}"));
    name == host.name || of_host(&host.name) || of_host("*")
}

/// Whether an engine may be asked, its health and load aside.
pub fn may(need: &Need, wish: &Wish, (host, offer): Engine<'_>) -> bool {
    let has_model = if offer.models.is_empty() {
        need.kind.is_empty()
            && need.model.is_empty()
            && (need.language.is_empty() || speaks(&offer.languages, &need.language))
    } else {
        !models(need, offer).is_empty()
    };
    let private = match need.privacy {
        Privacy::Host => host.name == HERE && offer.privacy == Privacy::Host,
        Privacy::Lan => offer.privacy != Privacy::Any,
        Privacy::Any => true,
    };
    has_model
        && private
        && (need.engine.is_empty() || need.engine == offer.name || need.engine == offer.engine)
        && (need.voice.is_empty() || offer.voices.contains(&need.voice))
        && need.tags.iter().all(|tag| host.tags.contains(tag))
        && !wish.deny.iter().any(|denied| is_meant(denied, host, offer))
        && (is_meant(&wish.pin, host, offer) || wish.prefer.contains(&place(host, offer)))
        && !host.draining
}
