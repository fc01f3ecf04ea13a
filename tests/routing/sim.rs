//! A discrete-event simulation of hosts that work and callers that ask them.
//!
//! As in reality, hosts report every 3 s and are forgotten 10 s after their last report, so that what callers know is
//! up to 3 s old; each caller has learnt things of its own; a host whose slots are taken refuses at once; one that dies
//! takes its work with it. All choosers face the same arrivals, the same work, the same deaths, and the same way of
//! asking again. To the advantage of the queue groups, the server is taken to know at once which members have gone.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt as _, SeedableRng as _};
use sidetone::router::{Health, Host, Load, Need, Offer, OfferId, Outcome, Permit, Policy, Router, TARGETS_MAX, View};

use super::figures::Figures;

const S: u64 = 1_000_000;
/// From a caller to a host, or back.
const ONE_WAY_US: u64 = 500;
const REPORT_US: u64 = 3 * S;
const EXPIRY_US: u64 = 10 * S;
/// When a caller notices that the host that worked for it has died.
const SILENCE_US: u64 = S;
/// How long a caller pauses after as many refusals as a decision names hosts; it doubles four times.
const PAUSE_US: u64 = 10_000;
/// After this time a request is given up, and whoever asked is told.
const DEADLINE_US: u64 = 10 * S;
/// How long a burst lasts, and the time between two on average.
const BURST_US: u64 = S;
const LULL_US: f64 = 7e6;
/// For how long the requests to a host that came back are counted.
const RETURN_US: u64 = 3 * S;

/// Who chooses a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chooser {
    /// Ours.
    Router,
    /// A queue group: a member at random.
    Random,
    /// The least loaded by the reports: what two draws avoid.
    Least,
}

/// What is simulated.
#[derive(Debug, Clone)]
pub struct Scenario {
    pub hosts: usize,
    pub callers: usize,
    /// What is asked for on average, of what all hosts together can do.
    pub utilisation: f64,
    /// How many times as much comes in a burst.
    pub burst: f64,
    /// What a request takes on average on the slowest host; the fastest is 8 times as fast.
    pub work_s: f64,
    /// Of all hosts.
    pub deaths_per_s: f64,
    /// What comes before is not counted.
    pub warm_up_s: u64,
    pub seconds: u64,
    pub seed: u64,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            hosts: 1000,
            callers: 50,
            utilisation: 0.82,
            burst: 1.5,
            work_s: 30.0,
            deaths_per_s: 1.0,
            warm_up_s: 40,
            seconds: 130,
            seed: 0,
        }
    }
}

/// A host as it is.
struct Worker {
    name: String,
    speed: f64,
    slots: u32,
    alive: bool,
    /// Which run of its program this is, from 0.
    run: u64,
    /// The requests it works on.
    working: Vec<usize>,
    /// Over the last ones; 0 before the first.
    usual_us: f64,
    reported_us: u64,
    /// When, and which of all returns it was.
    returned: Option<(u64, usize)>,
    /// How many requests it began.
    begun: usize,
}

struct Request {
    caller: usize,
    arrived_us: u64,
    /// What it takes on a host of speed 1.
    work_us: f64,
    /// When the work on it began, the last time.
    begun_us: u64,
    /// Whom to ask next.
    targets: VecDeque<usize>,
    permit: Option<Permit>,
    /// How often it was refused, or lost its host.
    in_vain: usize,
    /// Whether it came after the warm-up.
    counts: bool,
}

/// Requests and hosts by their numbers.
#[derive(Debug, Clone, Copy)]
enum Event {
    Arrive,
    Burst {
        begins: bool,
    },
    /// A caller looks for a host.
    Choose {
        request: usize,
    },
    /// A request comes to a host.
    Reach {
        request: usize,
        host: usize,
    },
    /// A host has done its work.
    Done {
        request: usize,
        host: usize,
        run: u64,
    },
    /// A caller hears how it went.
    Hear {
        request: usize,
        outcome: Outcome,
    },
    Report {
        host: usize,
        run: u64,
    },
    /// The last report of a host that died is forgotten.
    Expire {
        host: usize,
        run: u64,
    },
    Die,
    Return {
        host: usize,
    },
}

struct Simulation<'a> {
    scenario: &'a Scenario,
    chooser: Chooser,
    now_us: u64,
    /// By time, then in the order in which they were scheduled.
    events: BTreeMap<(u64, u64), Event>,
    scheduled: u64,
    /// What happens: the same for all choosers.
    world: Xoshiro256PlusPlus,
    /// What is chosen.
    choice: Xoshiro256PlusPlus,
    workers: Vec<Worker>,
    alive: Vec<usize>,
    numbers: BTreeMap<String, usize>,
    requests: Vec<Request>,
    need: Need,
    policy: Policy,
    /// Callers see the same reports; each has learnt things of its own.
    view: View,
    health: Vec<Health>,
    /// Requests a µs that the hosts can do, and that come outside of bursts.
    capacity: f64,
    rate: f64,
    bursting: bool,
    figures: Figures,
}

/// Runs a scenario to its end.
pub fn run(scenario: &Scenario, chooser: Chooser) -> Figures {
    let mut simulation = Simulation::new(scenario, chooser);
    while let Some(((now_us, _), event)) = simulation.events.pop_first() {
        simulation.now_us = now_us;
        simulation.handle(event);
    }
    simulation.figures()
}

fn exponential(rng: &mut Xoshiro256PlusPlus, mean: f64) -> f64 {
    -mean * (1.0 - rng.random::<f64>()).ln()
}

fn worker(number: usize, rng: &mut Xoshiro256PlusPlus) -> Worker {
    Worker {
        name: format!("host-{number}"),
        // From 1 to 8; as many between 1 and 2 as between 4 and 8.
        speed: 8_f64.powf(rng.random()),
        slots: rng.random_range(1..=4),
        alive: true,
        run: 0,
        working: Vec::new(),
        usual_us: 0.0,
        reported_us: 0,
        returned: None,
        begun: 0,
    }
}

impl<'a> Simulation<'a> {
    fn new(scenario: &'a Scenario, chooser: Chooser) -> Self {
        let mut world = Xoshiro256PlusPlus::seed_from_u64(scenario.seed);
        let workers: Vec<Worker> = (0..scenario.hosts).map(|number| worker(number, &mut world)).collect();
        let speeds: f64 = workers.iter().map(|worker| worker.speed * f64::from(worker.slots)).sum();
        let capacity = speeds / (scenario.work_s * S as f64);
        let in_bursts = BURST_US as f64 / (BURST_US as f64 + LULL_US);
        let mut simulation = Self {
            scenario,
            chooser,
            now_us: 0,
            events: BTreeMap::new(),
            scheduled: 0,
            choice: Xoshiro256PlusPlus::seed_from_u64(!scenario.seed),
            alive: (0..workers.len()).collect(),
            numbers: workers.iter().enumerate().map(|(number, worker)| (worker.name.clone(), number)).collect(),
            requests: Vec::new(),
            need: Need { capability: "llm".to_owned(), ..Need::default() },
            policy: Policy::default(),
            view: View::new(),
            health: vec![Health::new(); scenario.callers],
            capacity,
            rate: capacity * scenario.utilisation / (1.0 + in_bursts * (scenario.burst - 1.0)),
            bursting: false,
            figures: Figures::default(),
            world,
            workers,
        };
        for host in 0..scenario.hosts {
            simulation.report(host);
            let first_us = simulation.world.random_range(0..REPORT_US);
            simulation.schedule(first_us, Event::Report { host, run: 0 });
        }
        simulation.schedule(0, Event::Arrive);
        simulation.schedule_about(LULL_US, Event::Burst { begins: true });
        simulation.schedule_about(S as f64 / scenario.deaths_per_s, Event::Die);
        simulation
    }

    fn schedule(&mut self, in_us: u64, event: Event) {
        self.scheduled += 1;
        self.events.insert((self.now_us + in_us, self.scheduled), event);
    }

    fn schedule_about(&mut self, mean_us: f64, event: Event) {
        let in_us = exponential(&mut self.world, mean_us) as u64;
        self.schedule(in_us, event);
    }

    fn handle(&mut self, event: Event) {
        let over = self.now_us >= self.scenario.seconds * S;
        match event {
            Event::Choose { request } => self.choose(request),
            Event::Reach { request, host } => self.reach(request, host),
            Event::Done { request, host, run } => self.done(request, host, run),
            Event::Hear { request, outcome } => self.hear(request, outcome),
            Event::Return { host } => self.come_back(host),
            Event::Expire { host, run } if self.workers[host].run == run => self.view.remove(&self.workers[host].name),
            Event::Arrive if !over => self.arrive(),
            Event::Burst { begins } if !over => self.burst(begins),
            Event::Die if !over => self.die(),
            Event::Report { host, run } if !over && self.workers[host].alive && self.workers[host].run == run => {
                self.report(host);
                self.schedule(REPORT_US, event);
            }
            _ => {}
        }
    }

    fn burst(&mut self, begins: bool) {
        self.bursting = begins;
        if begins {
            self.schedule(BURST_US, Event::Burst { begins: false });
        } else {
            self.schedule_about(LULL_US, Event::Burst { begins: true });
        }
    }

    fn arrive(&mut self) {
        let rate = if self.bursting { self.rate * self.scenario.burst } else { self.rate };
        self.schedule_about(1.0 / rate, Event::Arrive);
        let request = Request {
            caller: self.world.random_range(0..self.scenario.callers),
            arrived_us: self.now_us,
            work_us: exponential(&mut self.world, self.scenario.work_s * S as f64),
            begun_us: 0,
            targets: VecDeque::new(),
            permit: None,
            in_vain: 0,
            counts: self.now_us >= self.scenario.warm_up_s * S,
        };
        self.figures.requests += usize::from(request.counts);
        self.requests.push(request);
        self.choose(self.requests.len() - 1);
    }

    fn choose(&mut self, at: usize) {
        if self.now_us > self.requests[at].arrived_us + DEADLINE_US {
            self.figures.told += usize::from(self.requests[at].counts);
            return;
        }
        let host = match self.chooser {
            Chooser::Router => self.next_target(at),
            Chooser::Random => Some(self.alive[self.choice.random_range(0..self.alive.len())]),
            Chooser::Least => self.least(),
        };
        match host {
            Some(host) => self.schedule(ONE_WAY_US, Event::Reach { request: at, host }),
            None => self.schedule(PAUSE_US, Event::Choose { request: at }),
        }
    }

    /// The next host of the list that may be asked; of a new list when it is at its end.
    fn next_target(&mut self, at: usize) -> Option<usize> {
        let now = Duration::from_micros(self.now_us);
        let request = &mut self.requests[at];
        let health = &mut self.health[request.caller];
        if request.targets.is_empty() {
            // No caller works itself, so that nothing is local.
            let router = Router { here: "caller", view: &self.view, policy: &self.policy, health };
            let targets = router.decide(&self.need, now, &mut self.choice).unwrap_or_default();
            request.targets = targets.iter().map(|target| self.numbers[&target.id.host]).collect();
        }
        while let Some(host) = request.targets.pop_front() {
            let id = OfferId::new(&self.workers[host].name, "");
            request.permit = health.admit(&self.view, "llm", &id, now);
            if request.permit.is_some() {
                return Some(host);
            }
        }
        None
    }

    fn least(&self) -> Option<usize> {
        let cost = |host: &Host| (host.offers[0].load.is_full(), host.offers[0].load.cost_ms());
        let least = self.view.hosts().min_by(|a, b| cost(a).partial_cmp(&cost(b)).unwrap());
        least.map(|host| self.numbers[&host.name])
    }

    fn reach(&mut self, at: usize, host: usize) {
        let worker = &mut self.workers[host];
        let request = &mut self.requests[at];
        if let Some((returned_us, at)) = worker.returned
            && self.now_us < returned_us + RETURN_US
        {
            self.figures.after_return[at] += 1;
        }
        if !worker.alive {
            self.schedule(ONE_WAY_US, Event::Hear { request: at, outcome: Outcome::Failed });
        } else if worker.working.len() >= worker.slots as usize {
            self.figures.refusals += usize::from(request.counts);
            self.schedule(ONE_WAY_US, Event::Hear { request: at, outcome: Outcome::Busy });
        } else {
            worker.working.push(at);
            worker.begun += 1;
            request.begun_us = self.now_us;
            let (takes_us, run) = ((request.work_us / worker.speed) as u64, worker.run);
            self.schedule(takes_us, Event::Done { request: at, host, run });
        }
    }

    fn done(&mut self, at: usize, host: usize, run: u64) {
        let worker = &mut self.workers[host];
        if worker.run != run || !worker.alive {
            return;
        }
        worker.working.retain(|working| *working != at);
        let took_us = (self.now_us - self.requests[at].begun_us) as f64;
        let weight = if worker.usual_us == 0.0 { 1.0 } else { 0.2 };
        worker.usual_us += (took_us - worker.usual_us) * weight;
        self.schedule(ONE_WAY_US, Event::Hear { request: at, outcome: Outcome::Answered });
    }

    fn hear(&mut self, at: usize, outcome: Outcome) {
        let request = &mut self.requests[at];
        if let Some(permit) = request.permit.take() {
            let now = Duration::from_micros(self.now_us);
            self.health[request.caller].settle(&self.view, permit, outcome, now);
        }
        if outcome == Outcome::Answered {
            if request.counts {
                self.figures.answered += 1;
                self.figures.waits_ms.push((request.begun_us - request.arrived_us) as f64 / 1000.0);
            }
            return;
        }
        request.in_vain += 1;
        if request.in_vain.is_multiple_of(TARGETS_MAX) {
            let doubled = (request.in_vain / TARGETS_MAX - 1).min(4);
            self.schedule(PAUSE_US << doubled, Event::Choose { request: at });
        } else {
            self.choose(at);
        }
    }

    fn report(&mut self, host: usize) {
        let worker = &mut self.workers[host];
        worker.reported_us = self.now_us;
        let in_flight = worker.working.len() as u32;
        let load = Load { slots: worker.slots, in_flight, queued: 0, usual_ms: (worker.usual_us / 1000.0) as u32 };
        let offers = vec![Offer { capability: "llm".to_owned(), load, ..Offer::default() }];
        let (name, instance) = (worker.name.clone(), worker.run.to_string());
        self.view.put(Host { name, instance, offers, ..Host::default() });
    }

    fn die(&mut self) {
        self.schedule_about(S as f64 / self.scenario.deaths_per_s, Event::Die);
        let host = self.world.random_range(0..self.workers.len());
        let back_us = self.world.random_range(5 * S..20 * S);
        let worker = &mut self.workers[host];
        if !worker.alive {
            return;
        }
        worker.alive = false;
        let (run, forgotten_us) = (worker.run, worker.reported_us + EXPIRY_US - self.now_us);
        for request in std::mem::take(&mut worker.working) {
            self.figures.lost += usize::from(self.requests[request].counts);
            self.schedule(SILENCE_US, Event::Hear { request, outcome: Outcome::Failed });
        }
        self.alive.retain(|alive| *alive != host);
        self.schedule(forgotten_us, Event::Expire { host, run });
        self.schedule(back_us, Event::Return { host });
    }

    fn come_back(&mut self, host: usize) {
        let worker = &mut self.workers[host];
        worker.alive = true;
        worker.run += 1;
        worker.usual_us = 0.0;
        worker.returned = Some((self.now_us, self.figures.after_return.len()));
        self.figures.after_return.push(0);
        let run = worker.run;
        self.alive.push(host);
        self.report(host);
        self.schedule(REPORT_US, Event::Report { host, run });
    }

    fn figures(mut self) -> Figures {
        let counted_s = (self.scenario.seconds - self.scenario.warm_up_s) as f64;
        let figures = &mut self.figures;
        figures.idle_hosts =
            self.workers.iter().filter(|worker| worker.returned.is_none() && worker.begun == 0).count();
        let asked = (figures.requests + figures.refusals) as f64;
        figures.usual_in_3_s = asked / counted_s * 3.0 / self.scenario.hosts as f64;
        let work_us: f64 = self.requests.iter().filter(|request| request.counts).map(|request| request.work_us).sum();
        let could_us = self.capacity * self.scenario.work_s * S as f64 * counted_s * S as f64;
        figures.utilisation = work_us / could_us;
        figures.waits_ms.sort_by(f64::total_cmp);
        self.figures
    }
}
