//! Failing hosts are left alone, probed once at a time, and taken back.

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::world::rng;
use crate::router::*;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn host(name: &str, instance: &str, in_flight: u32) -> Host {
    let load = Load { slots: 4, in_flight, queued: 0, usual_ms: 100 };
    let offers = vec![Offer { capability: "stt".to_owned(), load, ..Offer::default() }];
    Host { name: name.to_owned(), instance: instance.to_owned(), offers, ..Host::default() }
}

fn rack() -> OfferId {
    OfferId::new("rack", "")
}

fn one_host() -> View {
    [host("rack", "a", 0)].into_iter().collect()
}

fn fail(health: &mut Health, view: &View, now: Duration) {
    let permit = health.admit(view, "stt", &rack(), now).unwrap();
    health.settle(view, permit, Outcome::Failed, now);
}

#[test]
fn each_failure_doubles_the_rest_up_to_half_a_minute() {
    let (view, mut health) = (one_host(), Health::new());
    let mut now = Duration::ZERO;
    for rest_s in [1, 2, 4, 8, 16, 30, 30] {
        fail(&mut health, &view, now);
        assert!(health.admit(&view, "stt", &rack(), now + ms(rest_s * 1000 - 1)).is_none());
        now += ms(rest_s * 1000);
    }
    let probe = health.admit(&view, "stt", &rack(), now).unwrap();
    health.settle(&view, probe, Outcome::Answered, now);
    assert!(health.is_empty());
}

#[test]
fn one_probe_at_a_time() {
    let (view, mut health) = (one_host(), Health::new());
    fail(&mut health, &view, ms(0));
    let probe = health.admit(&view, "stt", &rack(), ms(1000)).unwrap();
    assert!(probe.is_probe());
    assert!(health.admit(&view, "stt", &rack(), ms(1000)).is_none());
    // Given up by the caller, it has told nothing: the next may go.
    health.settle(&view, probe, Outcome::Abandoned, ms(1100));
    let probe = health.admit(&view, "stt", &rack(), ms(1100)).unwrap();
    // Lost, it does not keep the host out for ever.
    assert!(health.admit(&view, "stt", &rack(), ms(1100) + PROBE_MAX - ms(1)).is_none());
    let second = health.admit(&view, "stt", &rack(), ms(1100) + PROBE_MAX).unwrap();
    // The late failure of the first does not end the second's turn.
    health.settle(&view, probe, Outcome::Failed, ms(1200) + PROBE_MAX);
    assert!(health.admit(&view, "stt", &rack(), ms(1300) + PROBE_MAX).is_none());
    health.settle(&view, second, Outcome::Answered, ms(1400) + PROBE_MAX);
    assert_eq!(health.standing(&view, "stt", &rack(), ms(1400) + PROBE_MAX), Standing::Well);
}

#[test]
fn what_was_on_its_way_at_a_failure_counts_once() {
    let (view, mut health) = (one_host(), Health::new());
    let permits: Vec<Permit> = (0..10).map(|_| health.admit(&view, "stt", &rack(), ms(0)).unwrap()).collect();
    for (n, permit) in permits.into_iter().enumerate() {
        health.settle(&view, permit, Outcome::Failed, ms(10 + n as u64));
    }
    let standing = health.standing(&view, "stt", &rack(), ms(10));
    assert_eq!(standing, Standing::CoolingDown { left: COOL_DOWN_MIN, failures: 1 });
}

#[test]
fn busy_is_no_failure_and_passes_with_the_next_report() {
    let (mut view, mut health) = (one_host(), Health::new());
    let policy = Policy::default();
    let need = Need { capability: "stt".to_owned(), latency: Latency::Batch, ..Need::default() };
    let permit = health.admit(&view, "stt", &rack(), ms(0)).unwrap();
    health.settle(&view, permit, Outcome::Busy, ms(1));
    assert_eq!(health.standing(&view, "stt", &rack(), ms(1)), Standing::Well);
    let asked = |view: &View, health: &Health, now| {
        Router { here: "desk", view, policy: &policy, health }.decide(&need, now, &mut rng(1)).is_ok()
    };
    assert!(!asked(&view, &health, ms(2)));
    assert!(asked(&view, &health, ms(1) + BUSY_AVOID));
    view.put(host("rack", "a", 0));
    assert!(asked(&view, &health, ms(2)));
}

#[test]
fn a_host_that_is_silent_rests_for_all_it_offers_until_it_reports() {
    let both = |instance: &str| {
        let mut host = host("rack", instance, 0);
        host.offers.push(Offer { capability: "tts".to_owned(), ..host.offers[0].clone() });
        host
    };
    let (mut view, mut health): (View, _) = ([both("a")].into_iter().collect(), Health::new());
    let permit = health.admit(&view, "stt", &rack(), ms(0)).unwrap();
    health.fell_silent(&view, "rack", ms(2700));
    health.settle(&view, permit, Outcome::Failed, ms(2700));
    for capability in ["stt", "tts"] {
        let standing = health.standing(&view, capability, &rack(), ms(2700));
        assert_eq!(standing, Standing::CoolingDown { left: SILENT_REST, failures: 1 }, "{capability}");
        assert!(health.admit(&view, capability, &rack(), ms(2700)).is_none());
    }
    // It may have been cut off from the registry alone: one request at a time finds that out.
    let probe = health.admit(&view, "tts", &rack(), ms(2700) + SILENT_REST).unwrap();
    assert!(probe.is_probe());
    health.settle(&view, probe, Outcome::Abandoned, ms(2700) + SILENT_REST);
    view.put(both("a"));
    for capability in ["stt", "tts"] {
        assert_eq!(health.standing(&view, capability, &rack(), ms(2800)), Standing::Well, "{capability}");
        assert!(!health.admit(&view, capability, &rack(), ms(2800)).unwrap().is_probe());
    }
    // What it has failed at itself a report does not mend.
    let (view, mut health) = (one_host(), Health::new());
    fail(&mut health, &view, ms(0));
    health.fell_silent(&view, "rack", ms(1));
    assert_eq!(
        health.standing(&view, "stt", &rack(), ms(1)),
        Standing::CoolingDown { left: COOL_DOWN_MIN - ms(1), failures: 1 }
    );
}

#[test]
fn an_engine_that_fails_takes_no_other_of_its_host_along() {
    let two = |more: &[&str]| {
        let mut host = host("rack", "a", 0);
        let named = |name: &&str| Offer { name: (*name).to_owned(), ..host.offers[0].clone() };
        host.offers = ["one", "two"].iter().chain(more).map(named).collect();
        host
    };
    let (mut view, mut health): (View, _) = ([two(&[])].into_iter().collect(), Health::new());
    let [one, other] = ["one", "two"].map(|name| OfferId::new("rack", name));
    let permit = health.admit(&view, "stt", &one, ms(0)).unwrap();
    health.settle(&view, permit, Outcome::Failed, ms(1));
    assert!(health.admit(&view, "stt", &one, ms(2)).is_none());
    let permit = health.admit(&view, "stt", &other, ms(2)).unwrap();
    health.settle(&view, permit, Outcome::Answered, ms(3));
    // A third that comes changes nothing of that; one that leaves takes what was known of it along.
    view.put(two(&["three"]));
    assert!(health.admit(&view, "stt", &one, ms(4)).is_none());
    let mut alone = two(&[]);
    alone.offers.remove(0);
    view.put(alone);
    assert_eq!(health.standing(&view, "stt", &one, ms(5)), Standing::Well);
    view.put(two(&["three"]));
    assert_eq!(health.standing(&view, "stt", &one, ms(5)), Standing::Well);
    // Silence is the host's.
    health.fell_silent(&view, "rack", ms(6));
    for id in [&one, &other] {
        assert!(health.admit(&view, "stt", id, ms(7)).is_none(), "{id}");
    }
}

#[test]
fn own_requests_count_until_the_host_reports_them() {
    let (mut view, mut health) = (one_host(), Health::new());
    let policy = Policy::default();
    let need = Need { capability: "stt".to_owned(), ..Need::default() };
    let busy = |view: &View, health: &Health| {
        let router = Router { here: "desk", view, policy: &policy, health };
        router.decide(&need, ms(0), &mut rng(1)).unwrap()[0].reason.load.in_flight
    };
    let first = health.admit(&view, "stt", &rack(), ms(0)).unwrap();
    let second = health.admit(&view, "stt", &rack(), ms(0)).unwrap();
    assert_eq!(busy(&view, &health), 2);
    // It reports those two and one of somebody else.
    view.put(host("rack", "a", 3));
    assert_eq!(busy(&view, &health), 3);
    health.settle(&view, first, Outcome::Answered, ms(0));
    assert_eq!(busy(&view, &health), 2);
    health.settle(&view, second, Outcome::Answered, ms(0));
    assert_eq!(busy(&view, &health), 1);
    view.put(host("rack", "a", 1));
    assert_eq!(busy(&view, &health), 1);
}

#[test]
fn who_comes_back_has_a_clean_slate_and_who_left_is_forgotten() {
    let (mut view, mut health) = (one_host(), Health::new());
    fail(&mut health, &view, ms(0));
    view.put(host("rack", "b", 0));
    assert_eq!(health.standing(&view, "stt", &rack(), ms(1)), Standing::Well);
    let before = health.admit(&view, "stt", &rack(), ms(1)).unwrap();
    view.remove("rack");
    view.put(host("rack", "c", 0));
    // Of a run that is over, it tells nothing about this one.
    health.settle(&view, before, Outcome::Failed, ms(2));
    assert_eq!(health.standing(&view, "stt", &rack(), ms(2)), Standing::Well);
    assert!(health.is_empty());
}

proptest! {
    /// Whatever happens: no request in a cool-down, one probe at most, and no more entries than hosts.
    #[test]
    fn a_failing_host_is_left_alone(steps in vec((0_u64..1500, select(vec!["rack", "den"]), 0_u8..6), 1..200)) {
        let mut view: View = [host("rack", "a", 0), host("den", "a", 0)].into_iter().collect();
        let mut health = Health::new();
        let mut now = Duration::ZERO;
        let mut running: Vec<(&str, Permit)> = Vec::new();
        for (pause_ms, name, step) in steps {
            now += ms(pause_ms);
            let id = OfferId::new(name, "");
            let standing = health.standing(&view, "stt", &id, now);
            match step {
                0 | 1 => {
                    let permit = health.admit(&view, "stt", &id, now);
                    match standing {
                        Standing::Well => prop_assert!(permit.as_ref().is_some_and(|permit| !permit.is_probe())),
                        Standing::Due { .. } => prop_assert!(permit.as_ref().is_some_and(Permit::is_probe)),
                        Standing::CoolingDown { .. } | Standing::Probing { .. } => prop_assert!(permit.is_none()),
                    }
                    running.extend(permit.map(|permit| (name, permit)));
                }
                2 => view.put(host(name, "a", 1)),
                _ => if let Some(at) = running.iter().position(|(of, _)| *of == name) {
                    let (_, permit) = running.remove(at);
                    let outcome = [Outcome::Answered, Outcome::Failed, Outcome::Busy][usize::from(step) - 3];
                    let probe = permit.is_probe() && matches!(standing, Standing::Probing { .. });
                    health.settle(&view, permit, outcome, now);
                    let after = health.standing(&view, "stt", &id, now);
                    match outcome {
                        Outcome::Failed => prop_assert!(after != Standing::Well),
                        _ => prop_assert_eq!(after, Standing::Well),
                    }
                    if let (true, Standing::CoolingDown { left, failures }) = (probe, after) {
                        prop_assert_eq!(left, (COOL_DOWN_MIN * (1 << (failures - 1).min(5))).min(COOL_DOWN_MAX));
                    }
                },
            }
            prop_assert!(health.len() <= view.len());
        }
    }
}
