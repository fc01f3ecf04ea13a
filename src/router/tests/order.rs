//! The rules by example.

use std::collections::BTreeMap;
use std::time::Duration;

use super::world::rng;
use crate::router::*;

fn model(name: &str, warm: bool, classes: &[&str]) -> Model {
    let classes = classes.iter().map(|class| (*class).to_owned()).collect();
    Model { name: name.to_owned(), warm, classes, ..Model::default() }
}

fn host(name: &str, in_flight: u32, slots: u32, models: Vec<Model>) -> Host {
    let load = Load { slots, in_flight, queued: 0, usual_ms: 500 };
    let offers = vec![Offer { capability: "llm".to_owned(), models, load, ..Offer::default() }];
    Host { name: name.to_owned(), offers, ..Host::default() }
}

fn cloud(mut host: Host) -> Host {
    host.offers[0].privacy = Privacy::Any;
    host
}

fn llm(model: &str) -> Need {
    Need { capability: "llm".to_owned(), model: model.to_owned(), ..Need::default() }
}

/// Each target as `host: reason`.
fn list(hosts: Vec<Host>, policy: &str, need: &Need, seed: u64) -> Vec<String> {
    let policy: Policy = toml::from_str(policy).unwrap();
    let router = Router { here: "desk", view: &hosts.into_iter().collect(), policy: &policy, health: &Health::new() };
    let targets = router.decide(need, Duration::ZERO, &mut rng(seed)).unwrap();
    targets.into_iter().map(|target| format!("{}: {}", target.id, target.reason)).collect()
}

#[test]
fn local_is_left_when_its_slots_are_taken_and_not_before() {
    let need = llm("");
    let free = vec![host("desk", 1, 2, Vec::new()), host("rack", 0, 8, Vec::new())];
    assert_eq!(list(free, "", &need, 1), ["desk: local, 1 of 2 busy", "rack: lan, 0 of 8 busy"]);
    let taken = vec![host("desk", 2, 2, Vec::new()), host("rack", 7, 8, Vec::new())];
    assert_eq!(list(taken, "", &need, 1), ["rack: lan, 7 of 8 busy", "desk: local, full: 2 of 2 busy"]);
}

#[test]
fn warm_before_cold_and_the_lan_before_the_cloud() {
    let hosts = vec![
        cloud(host("gate", 0, 9, vec![model("qwen", true, &[])])),
        host("den", 0, 2, vec![model("qwen", false, &[])]),
        host("rack", 1, 2, vec![model("gemma", true, &[]), model("qwen", true, &[])]),
    ];
    let expected = [
        "rack: lan, warm qwen, 1 of 2 busy",
        "den: lan, cold qwen, 0 of 2 busy",
        "gate: cloud, warm qwen, 0 of 9 busy",
    ];
    assert_eq!(list(hosts, "", &llm("qwen"), 1), expected);
}

#[test]
fn the_policy_overrides() {
    let big = || vec![model("qwen3-32b", true, &["planner"])];
    let hosts = || vec![host("desk", 0, 2, big()), host("rack", 0, 2, big()), host("den", 0, 4, big())];
    let first = |policy: &str, need: &Need| list(hosts(), policy, need, 3)[0].clone();
    assert_eq!(first("pin = 'rack'", &llm("")), "rack: pinned, lan, warm qwen3-32b, 0 of 2 busy");
    assert!(first("deny = ['desk', 'rack']", &llm("")).starts_with("den: "));
    assert!(first("weights = { rack = 100 }\nprefer = ['lan']", &llm("")).starts_with("rack: "));
    let rules = "[[rules]]\nmodels = ['planner']\nprefer = ['lan', 'local']";
    assert!(first(rules, &llm("planner")).contains(": lan, "));
    assert!(first(rules, &llm("qwen3-32b")).contains(": lan, "), "a model of the class is meant too");
    assert!(first(rules, &llm("")).starts_with("desk: local, "));
}

/// A host with an engine of its own and one that passes on to a provider outside.
fn two_engines() -> Host {
    let mut both = host("rack", 0, 2, vec![model("small", true, &["chat"])]);
    both.offers[0].name = "ollama".to_owned();
    let far = cloud(host("rack", 1, 9, vec![model("big", true, &["planner"]), model("small", true, &[])]));
    both.offers.extend(far.offers.into_iter().map(|offer| Offer { name: "openai".to_owned(), ..offer }));
    both
}

#[test]
fn each_engine_of_a_host_stands_for_itself() {
    let (near, far) = ("rack/ollama: lan, warm small, 0 of 2 busy", "rack/openai: cloud, warm small, 1 of 9 busy");
    let all = |policy: &str, need: &Need| list(vec![two_engines()], policy, need, 1);
    assert_eq!(all("", &llm("small")), [near, far]);
    assert_eq!(all("", &llm("planner")), ["rack/openai: cloud, warm big, 1 of 9 busy"]);
    assert_eq!(all("", &Need { privacy: Privacy::Lan, ..llm("small") }), [near]);
    assert_eq!(all("", &Need { engine: "openai".to_owned(), ..llm("small") }), [far]);
    assert_eq!(all("deny = ['rack/ollama']", &llm("small")), [far]);
    assert_eq!(all("deny = ['*/openai']", &llm("small")), [near]);
    let pinned = ["rack/openai: pinned, cloud, warm small, 1 of 9 busy", near];
    assert_eq!(all("pin = 'rack/openai'", &llm("small")), pinned);
    assert_eq!(all("pin = '*/openai'", &llm("small")), pinned);
    // All engines of a pinned host are, in the order of places.
    let both = [near, far].map(|line| line.replacen(": ", ": pinned, ", 1));
    assert_eq!(all("pin = 'rack'\nprefer = ['local']", &llm("small")), both);
}

#[test]
fn a_model_is_asked_only_for_what_it_is_made_for() {
    let mut rack = host("rack", 0, 2, vec![Model { kind: "embed".to_owned(), ..model("nomic", true, &[]) }]);
    rack.offers[0].name = "embed".to_owned();
    let embed = Need { kind: "embed".to_owned(), ..llm("") };
    let (line, chat) = ("rack/embed: lan, warm nomic, 0 of 2 busy", "den: lan, 0 of 2 busy");
    let hosts = || vec![rack.clone(), host("den", 0, 2, Vec::new())];
    assert_eq!(list(hosts(), "", &llm(""), 1), [chat]);
    assert_eq!(list(hosts(), "", &embed, 1), [line]);
    let view: View = hosts().into_iter().collect();
    let router = Router { here: "desk", view: &view, policy: &Policy::default(), health: &Health::new() };
    let nobody = router.decide(&llm("nomic"), Duration::ZERO, &mut rng(0)).unwrap_err().to_string();
    assert!(nobody.starts_with("nobody offers llm model nomic; offered: "), "{nobody}");
    let lines = router.explain(&embed, Duration::ZERO, &mut rng(0));
    assert_eq!(lines[1].to_string(), "den: no kind embed; it has none");
}

#[test]
fn the_nearest_weight_counts() {
    let (mut rack, mut den) = (two_engines(), two_engines());
    (rack.name, den.name) = ("rack".to_owned(), "den".to_owned());
    let first = |weights: &str| {
        let policy = format!("prefer = ['lan']\nweights = {{ {weights} }}");
        list(vec![rack.clone(), den.clone()], &policy, &llm("small"), 3)[0].clone()
    };
    assert!(first("rack = 9").starts_with("rack/ollama: "));
    assert!(first("rack = 9, 'rack/ollama' = 0.1").starts_with("den/ollama: "));
    assert!(first("'*/ollama' = 5, den = 9").starts_with("den/ollama: "));
}

#[test]
fn the_less_loaded_of_two_says_so() {
    let hosts = vec![host("rack", 0, 2, Vec::new()), host("den", 1, 2, Vec::new())];
    for seed in 0..20 {
        assert_eq!(list(hosts.clone(), "", &llm(""), seed)[0], "rack: lan, 0 of 2 busy, less loaded than den");
    }
}

#[test]
fn who_had_no_request_yet_counts_as_its_peers_do() {
    let measured = |name: &str, in_flight, usual_ms| {
        let mut host = host(name, in_flight, 4, Vec::new());
        host.offers[0].load.usual_ms = usual_ms;
        host
    };
    let mut hosts = vec![measured("rack", 0, 400), measured("fresh", 3, 0)];
    for seed in 0..20 {
        assert!(list(hosts.clone(), "", &llm(""), seed)[0].starts_with("rack: "), "quick for want of a measure");
    }
    // With weights, where nobody has a measure.
    hosts.iter_mut().for_each(|host| host.offers[0].load.usual_ms = 0);
    for seed in 0..20 {
        let first = list(hosts.clone(), "weights = { fresh = 5 }", &llm(""), seed)[0].clone();
        assert!(first.starts_with("fresh: "), "{first}");
    }
}

/// When everybody runs to the few that had a free slot, it is as likely to be found at another.
#[test]
fn refused_by_most_it_asks_those_too_that_reported_to_be_full() {
    let hosts = (0..20).map(|n| host(&format!("h{n}"), if n < 2 { 0 } else { 2 }, 2, Vec::new()));
    let own = [cloud(host("gate", 0, 9, Vec::new())), host("desk", 2, 2, Vec::new())];
    let (view, mut health, policy) = (hosts.chain(own).collect::<View>(), Health::new(), Policy::default());
    let firsts = |health: &Health, need: &Need| {
        let router = Router { here: "desk", view: &view, policy: &policy, health };
        let now = Duration::from_secs(9);
        let lists = (0..200).map(|seed| router.decide(need, now, &mut rng(seed)).unwrap());
        lists.map(|list| list[0].clone()).collect::<Vec<_>>()
    };
    assert!(firsts(&health, &llm("")).iter().all(|target| !target.reason.full));
    for _ in 0..9 {
        let permit = health.admit(&view, "llm", &OfferId::new("h0", ""), Duration::ZERO).unwrap();
        health.settle(&view, permit, Outcome::Busy, Duration::ZERO);
    }
    assert!(health.doubts_reports("llm"));
    let first = firsts(&health, &llm(""));
    let full = first.iter().filter(|target| target.reason.full).count();
    // Both of two are full in (18 / 20)² of all draws.
    assert!((140..=185).contains(&full), "{full} of 200");
    assert!(first.iter().all(|target| target.reason.place == Place::Lan), "this host knows itself that it is full");
    let batch = Need { latency: Latency::Batch, ..llm("") };
    assert!(firsts(&health, &batch).iter().all(|target| !target.reason.full));
}

/// A host that comes back with nothing to do is not everybody's first choice.
#[test]
fn an_idle_host_among_busy_ones_is_drawn_as_often_as_two_draws_can() {
    let hosts = (0..100).map(|n| host(&format!("h{n}"), u32::from(n > 0), 2, Vec::new()));
    let (view, health, policy) = (hosts.collect::<View>(), Health::new(), Policy::default());
    let router = Router { here: "desk", view: &view, policy: &policy, health: &health };
    let mut rng = rng(7);
    let first =
        (0..5000).filter(|_| router.decide(&llm(""), Duration::ZERO, &mut rng).unwrap()[0].id.host == "h0").count();
    // 2 of 100 draws have it in.
    assert!((60..=140).contains(&first), "{first} of 5000");
}

#[test]
fn alike_hosts_are_drawn_alike() {
    let hosts = (0..70).map(|n| host(&format!("h{n}"), 0, 2, Vec::new()));
    let (view, health, policy) = (hosts.collect::<View>(), Health::new(), Policy::default());
    let router = Router { here: "desk", view: &view, policy: &policy, health: &health };
    let (mut rng, mut counts) = (rng(7), BTreeMap::new());
    for _ in 0..7000 {
        let targets = router.decide(&llm(""), Duration::ZERO, &mut rng).unwrap();
        *counts.entry(targets[0].id.host.clone()).or_insert(0) += 1;
    }
    assert_eq!(counts.len(), 70);
    assert!(counts.values().all(|count| (60..=150).contains(count)), "{counts:?}");
}

#[test]
fn the_policy_reads_from_toml_and_refuses_what_can_not_be() {
    let text = "prefer = ['lan', 'local']\npin = 'rack'\ndeny = ['den']\nweights = { rack = 2.0 }";
    let policy: Policy = toml::from_str(text).unwrap();
    assert_eq!(toml::from_str::<Policy>(&toml::to_string(&policy).unwrap()).unwrap(), policy);
    assert_eq!(toml::from_str::<Policy>("").unwrap(), Policy::default());
    for (wrong, says) in [
        ("prefer = []", "names no place"),
        ("prefer = ['lan', 'lan']", "lan twice"),
        ("weights = { rack = 0 }", "put it into deny"),
        ("pins = 'rack'", "pins"),
        ("[[rules]]\nmodel = ['x']", "model"),
    ] {
        let error = toml::from_str::<Policy>(wrong).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}
