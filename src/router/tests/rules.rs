//! Who may be asked, and in which order: properties.

use proptest::prelude::*;

use super::world::{HERE, Wish, World, may, models, place, rng, wish, world};
use crate::router::*;

/// What the rules say of a world.
struct Read {
    wish: Wish,
    /// Who may be asked.
    open: Vec<Host>,
    health: Health,
    view: View,
}

fn read(world: &World) -> Read {
    let view = world.view();
    let health = world.health(&view);
    // Where hosts disagree about a model's classes, the first in the view is believed.
    let asked = |model: &&Model| model.name == world.need.model || model.classes.contains(&world.need.model);
    let first = |host: &Host| host.offer("stt").is_some_and(|offer| offer.models.iter().any(|model| asked(&model)));
    let said = view.seats().map(|(_, seat)| &seat.host).find(|host| first(host));
    let models = said.and_then(|host| host.offer("stt")).into_iter().flat_map(|offer| &offer.models);
    let named = models.filter(|model| model.name == world.need.model);
    let classes: Vec<String> = named.flat_map(|model| model.classes.clone()).collect();
    let wish = wish(&world.need, &world.policy, &classes);
    let open =
        |host: &&Host| may(&world.need, &wish, host) && health.standing(&view, "stt", &host.name, world.now).is_open();
    let open = world.hosts.iter().filter(open).cloned().collect();
    Read { wish, open, health, view }
}

impl Read {
    fn router<'a>(&'a self, world: &'a World) -> Router<'a> {
        Router { here: HERE, view: &self.view, policy: &world.policy, health: &self.health }
    }

    /// Who may be asked for this need now: batch work does not go to full hosts.
    fn eligible(&self, world: &World) -> Vec<&String> {
        let anyhow = Need { latency: Latency::Interactive, ..world.need.clone() };
        let lines = self.router(world).explain(&anyhow, world.now, &mut rng(0));
        let full = |host: &&Host| {
            let verdict = lines.iter().find(|line| line.host == host.name).map(|line| &line.verdict);
            matches!(verdict, Some(Verdict::Taken { reason, .. } | Verdict::Spare(reason)) if reason.full)
        };
        let batch = world.need.latency == Latency::Batch;
        self.open.iter().filter(|host| !batch || !full(host)).map(|host| &host.name).collect()
    }
}

/// The wave, the place in the policy's order and the warmth: what the list is sorted by.
fn tier(world: &World, wish: &Wish, target: &Target) -> (bool, usize, bool) {
    let host = world.hosts.iter().find(|host| host.name == target.host).unwrap();
    let offer = host.offer("stt").unwrap();
    let fitting = models(&world.need, offer);
    let warm = offer.models.is_empty() || fitting.iter().any(|model| model.warm);
    assert_eq!(target.reason.warm, warm, "{} of {}", target.reason, host.name);
    let order = wish.prefer.iter().position(|preferred| *preferred == place(host, offer));
    (target.reason.full, order.unwrap_or(usize::MAX), !warm)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn whoever_may_is_listed_and_nobody_else(world in world()) {
        let read = read(&world);
        let decided = read.router(&world).decide(&world.need, world.now, &mut rng(world.seed));
        let eligible = read.eligible(&world);
        match decided {
            Ok(targets) => {
                for target in &targets {
                    prop_assert!(eligible.contains(&&target.host), "{} may not be asked", target.host);
                }
                let mut names: Vec<&String> = targets.iter().map(|target| &target.host).collect();
                names.sort();
                names.dedup();
                prop_assert_eq!(names.len(), targets.len(), "a host twice");
                prop_assert_eq!(targets.len(), eligible.len().min(TARGETS_MAX));
            }
            Err(nobody) => {
                prop_assert!(eligible.is_empty(), "{nobody}, but {eligible:?} may be asked");
                prop_assert!(nobody.to_string().contains("stt"));
            }
        }
    }

    #[test]
    fn whoever_asks_on_comes_to_all_who_may_be_asked(world in world()) {
        let read = read(&world);
        let (router, mut rng) = (read.router(&world), rng(world.seed));
        let (mut tried, mut wanted) = (Vec::new(), read.eligible(&world));
        while let Ok(targets) = router.decide_beyond(&tried, &world.need, world.now, &mut rng) {
            prop_assert!(!targets.is_empty());
            for target in targets {
                prop_assert!(!tried.contains(&target.host), "{} a second time", target.host);
                tried.push(target.host);
            }
        }
        tried.sort();
        wanted.sort();
        prop_assert_eq!(tried.iter().collect::<Vec<_>>(), wanted);
    }

    #[test]
    fn privacy_is_never_broken(world in world()) {
        let read = read(&world);
        for target in read.router(&world).decide(&world.need, world.now, &mut rng(world.seed)).unwrap_or_default() {
            let host = read.view.host(&target.host).unwrap();
            let keeps = host.offer("stt").unwrap().privacy;
            match world.need.privacy {
                Privacy::Host => prop_assert!(target.host == HERE && keeps == Privacy::Host),
                Privacy::Lan => prop_assert!(keeps != Privacy::Any && target.reason.place != Place::Cloud),
                Privacy::Any => {}
            }
            prop_assert!(!world.policy.deny.contains(&target.host));
        }
    }

    #[test]
    fn pinned_then_free_then_by_place_then_warm(world in world()) {
        let read = read(&world);
        let targets = read.router(&world).decide(&world.need, world.now, &mut rng(world.seed)).unwrap_or_default();
        let pinned = targets.iter().position(|target| target.host == read.wish.pin);
        if world.need.latency == Latency::Interactive && read.open.iter().any(|host| host.name == read.wish.pin) {
            prop_assert_eq!(pinned, Some(0));
        }
        prop_assert!(pinned.is_none_or(|at| at == 0));
        let rest = targets.iter().skip(usize::from(pinned.is_some()));
        let rest: Vec<_> = rest.map(|target| tier(&world, &read.wish, target)).collect();
        // Doubted reports tell free from full no more.
        prop_assert!(rest.is_sorted() || read.health.doubts_reports("stt"), "{rest:?}");
        prop_assert!(world.need.latency == Latency::Interactive || targets.iter().all(|target| !target.reason.full));
    }

    #[test]
    fn of_those_alike_the_most_loaded_is_not_the_first(world in world()) {
        let read = read(&world);
        let router = read.router(&world);
        let decided = router.decide(&world.need, world.now, &mut rng(world.seed));
        let Ok(targets) = decided else { return Ok(()) };
        let weight = |host: &str| world.policy.weights.get(host).map_or(1.0, |weight| f64::from(*weight));
        let index = read.view.index_of("stt").unwrap();
        let cost = |target: &Target| index.measured(target.reason.load).cost_ms() / weight(&target.host);
        let unpinned: Vec<&Target> = targets.iter().filter(|target| !target.reason.pinned).collect();
        // With fewer than TARGETS_MAX, all who may are listed.
        prop_assume!(targets.len() < TARGETS_MAX && unpinned.len() > 1 && !read.health.doubts_reports("stt"));
        let alike = tier(&world, &read.wish, unpinned[0]);
        let those = unpinned.iter().filter(|target| tier(&world, &read.wish, target) == alike);
        let costs: Vec<f64> = those.map(|target| cost(target)).collect();
        let most = costs.iter().copied().fold(0.0, f64::max);
        prop_assert!(costs.iter().all(|cost| *cost == most) || costs[0] < most, "{costs:?}");
    }

    #[test]
    fn one_seed_gives_one_list_and_explain_tells_it(world in world()) {
        let read = read(&world);
        let router = read.router(&world);
        let targets = router.decide(&world.need, world.now, &mut rng(world.seed)).unwrap_or_default();
        prop_assert_eq!(&targets, &router.decide(&world.need, world.now, &mut rng(world.seed)).unwrap_or_default());
        let lines = router.explain(&world.need, world.now, &mut rng(world.seed));
        let offering = world.hosts.iter().filter(|host| host.offer("stt").is_some()).count();
        prop_assert_eq!(lines.len(), offering);
        for (n, line) in lines.iter().enumerate() {
            match &line.verdict {
                Verdict::Taken { rank, reason } => {
                    prop_assert_eq!(*rank, n + 1);
                    prop_assert_eq!(&line.host, &targets[n].host);
                    prop_assert_eq!(reason, &targets[n].reason);
                }
                Verdict::Spare(_) => prop_assert!(targets.len() == TARGETS_MAX),
                _ => prop_assert!(n >= targets.len()),
            }
        }
        let taken = lines.iter().filter(|line| matches!(line.verdict, Verdict::Taken { .. })).count();
        prop_assert_eq!(taken, targets.len());
    }
}
