//! Who may be asked, and in which order: properties.

use proptest::prelude::*;

use super::world::{Engine, HERE, Wish, World, engines, id, is_meant, may, models, place, rng, wish, world};
use crate::router::*;

/// What the rules say of a world.
struct Read<'a> {
    wish: Wish,
    /// What may be asked.
    open: Vec<Engine<'a>>,
    health: Health,
    view: View,
}

fn read(world: &World) -> Read<'_> {
    let view = world.view();
    let health = world.health(&view);
    // Where engines disagree about a model's classes, the first in the index is believed.
    let need = &world.need;
    let asked =
        |model: &Model| model.kind == need.kind && (model.name == need.model || model.classes.contains(&need.model));
    let offers =
        view.index_of("stt").into_iter().flat_map(|index| index.listings()).map(|(_, listing)| listing.offer());
    let said = offers.into_iter().find(|offer| offer.models.iter().any(asked));
    let named = said.into_iter().flat_map(|offer| &offer.models).filter(|model| model.name == need.model);
    let classes: Vec<String> = named.flat_map(|model| model.classes.clone()).collect();
    let wish = wish(need, &world.policy, &classes);
    let open = |engine: &Engine<'_>| {
        may(need, &wish, *engine) && health.standing(&view, "stt", &id(*engine), world.now).is_open()
    };
    let open = engines(&world.hosts).into_iter().filter(open).collect();
    Read { wish, open, health, view }
}

impl Read<'_> {
    fn router<'a>(&'a self, world: &'a World) -> Router<'a> {
        Router { here: HERE, view: &self.view, policy: &world.policy, health: &self.health }
    }

    /// What may be asked for this need now: batch work does not go to full engines.
    fn eligible(&self, world: &World) -> Vec<OfferId> {
        let anyhow = Need { latency: Latency::Interactive, ..world.need.clone() };
        let lines = self.router(world).explain(&anyhow, world.now, &mut rng(0));
        let full = |id: &OfferId| {
            let verdict = lines.iter().find(|line| line.id == *id).map(|line| &line.verdict);
            matches!(verdict, Some(Verdict::Taken { reason, .. } | Verdict::Spare(reason)) if reason.full)
        };
        let batch = world.need.latency == Latency::Batch;
        self.open.iter().map(|engine| id(*engine)).filter(|id| !batch || !full(id)).collect()
    }

    fn is_pinned(&self, engine: Engine<'_>) -> bool {
        is_meant(&self.wish.pin, engine.0, engine.1)
    }
}

/// The engine of a target.
fn engine<'a>(world: &'a World, target: &Target) -> Engine<'a> {
    engines(&world.hosts).into_iter().find(|engine| id(*engine) == target.id).unwrap()
}

/// The wave, the place in the policy's order and the warmth: what the list is sorted by.
fn tier(world: &World, wish: &Wish, target: &Target) -> (bool, usize, bool) {
    let (host, offer) = engine(world, target);
    let fitting = models(&world.need, offer);
    let warm = offer.models.is_empty() || fitting.iter().any(|model| model.warm);
    assert_eq!(target.reason.warm, warm, "{} of {}", target.reason, target.id);
    let order = wish.prefer.iter().position(|preferred| *preferred == place(host, offer));
    // Those that are pinned may be elsewhere: local, lan, cloud.
    let order = order.unwrap_or(3 + place(host, offer) as usize);
    (target.reason.full, order, !warm)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_may_is_listed_and_nothing_else(world in world()) {
        let read = read(&world);
        let decided = read.router(&world).decide(&world.need, world.now, &mut rng(world.seed));
        let eligible = read.eligible(&world);
        match decided {
            Ok(targets) => {
                for target in &targets {
                    prop_assert!(eligible.contains(&target.id), "{} may not be asked", target.id);
                }
                let mut names: Vec<&OfferId> = targets.iter().map(|target| &target.id).collect();
                names.sort();
                names.dedup();
                prop_assert_eq!(names.len(), targets.len(), "an engine twice");
                prop_assert_eq!(targets.len(), eligible.len().min(TARGETS_MAX));
            }
            Err(nobody) => {
                prop_assert!(eligible.is_empty(), "{nobody}, but {eligible:?} may be asked");
                prop_assert!(nobody.to_string().contains("stt"));
            }
        }
    }

    #[test]
    fn a_caller_that_asks_on_comes_to_all_that_may_be_asked(world in world()) {
        let read = read(&world);
        let (router, mut rng) = (read.router(&world), rng(world.seed));
        let (mut tried, mut wanted) = (Vec::new(), read.eligible(&world));
        while let Ok(targets) = router.decide_beyond(&tried, &world.need, world.now, &mut rng) {
            prop_assert!(!targets.is_empty());
            for target in targets {
                prop_assert!(!tried.contains(&target.id), "{} a second time", target.id);
                tried.push(target.id);
            }
        }
        tried.sort();
        wanted.sort();
        prop_assert_eq!(tried, wanted);
    }

    #[test]
    fn privacy_is_never_broken(world in world()) {
        let read = read(&world);
        for target in read.router(&world).decide(&world.need, world.now, &mut rng(world.seed)).unwrap_or_default() {
            let (host, offer) = engine(&world, &target);
            let keeps = offer.privacy;
            match world.need.privacy {
                Privacy::Host => prop_assert!(host.name == HERE && keeps == Privacy::Host),
                Privacy::Lan => prop_assert!(keeps != Privacy::Any && target.reason.place != Place::Cloud),
                Privacy::Any => {}
            }
            prop_assert!(!world.policy.deny.iter().any(|denied| is_meant(denied, host, offer)));
        }
    }

    #[test]
    fn pinned_then_free_then_by_place_then_warm(world in world()) {
        let read = read(&world);
        let targets = read.router(&world).decide(&world.need, world.now, &mut rng(world.seed)).unwrap_or_default();
        let is_pinned = |target: &&Target| read.is_pinned(engine(&world, target));
        let pinned = targets.iter().take_while(is_pinned).count();
        let wanted = read.open.iter().filter(|engine| read.is_pinned(**engine)).count();
        if world.need.latency == Latency::Interactive {
            prop_assert_eq!(pinned, wanted.min(TARGETS_MAX));
        }
        let (pinned, rest) = targets.split_at(pinned);
        prop_assert!(!rest.iter().any(|target| is_pinned(&target)) && pinned.iter().all(|target| target.reason.pinned));
        let tiers = |of: &[Target]| of.iter().map(|target| tier(&world, &read.wish, target)).collect::<Vec<_>>();
        let (pinned, rest) = (tiers(pinned), tiers(rest));
        // Doubted reports tell free from full no more.
        let sorted = pinned.is_sorted() && rest.is_sorted();
        prop_assert!(sorted || read.health.doubts_reports("stt"), "{pinned:?} {rest:?}");
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
        let cost = |target: &Target| index.measured(target.reason.load).cost_ms() / weight(&target.id.host);
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
        prop_assert_eq!(lines.len(), engines(&world.hosts).len());
        for (n, line) in lines.iter().enumerate() {
            match &line.verdict {
                Verdict::Taken { rank, reason } => {
                    prop_assert_eq!(*rank, n + 1);
                    prop_assert_eq!(&line.id, &targets[n].id);
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
