//! Rules, restoring, and what holds of the policy whatever happens.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;

use super::restore::Plan;
use super::*;

fn port(name: &str, flow: PortFlow) -> GraphPort {
    let kind = if name.contains("midi") { PortKind::Midi } else { PortKind::Audio };
    GraphPort::named(name, kind, flow)
}

fn source(name: &str) -> GraphPort {
    port(name, PortFlow::Source)
}

fn sink(name: &str) -> GraphPort {
    port(name, PortFlow::Sink)
}

fn graph(ports: impl IntoIterator<Item = GraphPort>) -> GraphState {
    GraphState { ports: ports.into_iter().collect(), connections: BTreeSet::new() }
}

fn connect(from: &str, to: &str) -> ConnectRule {
    let pattern = |text| PortPattern::new(text).unwrap();
    ConnectRule { from: pattern(from), to: pattern(to), kind: None, channels: Channels::Auto, pinned: false }
}

fn pinned(from: &str, to: &str) -> ConnectRule {
    ConnectRule { pinned: true, ..connect(from, to) }
}

fn disconnect(from: &str, to: &str, pinned: bool) -> DisconnectRule {
    let pattern = |text| PortPattern::new(text).unwrap();
    DisconnectRule { from: pattern(from), to: pattern(to), kind: None, pinned }
}

fn pair(source: &str, sink: &str) -> Connection {
    (source.to_owned(), sink.to_owned())
}

fn pairs(list: &[(&str, &str)]) -> Vec<Connection> {
    list.iter().map(|(source, sink)| pair(source, sink)).collect()
}

const MS: Duration = Duration::from_millis(1);

/// A graph with a policy, and everything that happens to it.
struct Stage {
    state: GraphState,
    news: News,
    policy: Policy,
    now: Duration,
}

impl Stage {
    fn new(connect: Vec<ConnectRule>, disconnect: Vec<DisconnectRule>) -> Self {
        let policy = Policy::new(Rules { connect, disconnect });
        Self { state: GraphState::default(), news: News::default(), policy, now: Duration::ZERO }
    }

    fn comes(&mut self, port: GraphPort) {
        if !self.state.ports.iter().any(|other| other.name == port.name) {
            self.news.fresh.insert(port.name.clone());
            self.state.ports.push(port);
        }
    }

    /// A port of a client that is not active: it is there, and JACK does not tell of it.
    fn is_there(&mut self, port: GraphPort) {
        self.state.ports.push(port);
    }

    fn at(&mut self, now: Duration) -> Vec<Step> {
        self.now = now;
        let news = std::mem::take(&mut self.news);
        self.policy.decide(&self.state, &news, self.now)
    }

    fn goes(&mut self, name: &str) {
        self.news.went = true;
        self.state.ports.retain(|port| port.name != name);
        self.state.connections.retain(|(source, sink)| source != name && sink != name);
    }

    fn apply(&mut self, step: &Step) {
        let connection = pair(&step.source, &step.sink);
        match step.kind {
            StepKind::Connect => assert!(self.state.connections.insert(connection), "{step:?} is there already"),
            StepKind::Part => assert!(self.state.connections.remove(&connection), "{step:?} is not there"),
        }
        self.policy.done(step, Outcome::Done, self.now);
    }

    fn steps(&mut self) -> Vec<Step> {
        self.at(self.now + 10 * MS)
    }

    /// Looks and acts until there is nothing more to do.
    fn settle(&mut self) -> Vec<Step> {
        let mut all = Vec::new();
        for _ in 0..10 {
            let steps = self.steps();
            for step in &steps {
                self.apply(step);
            }
            // Ports that have just come are waited for.
            let waits = self.policy.next_look().is_some_and(|next| next <= self.now + 10 * MS);
            if steps.is_empty() && !waits {
                return all;
            }
            all.extend(steps);
        }
        panic!("it does not come to rest: {all:?}");
    }

    fn connections(&self) -> Vec<Connection> {
        self.state.connections.iter().cloned().collect()
    }
}

#[test]
fn ports_are_counted_as_people_count() {
    let mut names = ["out_10", "out_2", "out_1", "out_02", "left", "out", "out_1b"];
    names.sort_by(|a, b| natural(a, b));
    assert_eq!(names, ["left", "out", "out_1", "out_1b", "out_2", "out_02", "out_10"]);
}

#[test]
fn a_rule_pairs_client_by_client_and_kind_by_kind() {
    let state = graph([
        source("mic:out"),
        source("keys:left"),
        source("keys:right"),
        source("keys:midi_out"),
        source("main:monitor"),
        sink("main:in_10"),
        sink("main:in_2"),
        sink("main:midi_in"),
    ]);
    assert_eq!(connect("mic", "main").wanted(&state), pairs(&[("mic:out", "main:in_2"), ("mic:out", "main:in_10")]));
    assert_eq!(
        connect("keys", "main").wanted(&state),
        pairs(&[("keys:left", "main:in_2"), ("keys:right", "main:in_10"), ("keys:midi_out", "main:midi_in")])
    );
    let midi = ConnectRule { kind: Some(PortKind::Midi), ..connect("keys", "*:*") };
    assert_eq!(midi.wanted(&state), pairs(&[("keys:midi_out", "main:midi_in")]));
    // A client is not connected with itself by a pattern.
    assert_eq!(connect("main", "main").wanted(&state), []);
    assert_eq!(connect("main:monitor", "main:in_2").wanted(&state), pairs(&[("main:monitor", "main:in_2")]));
    assert_eq!(connect("main:in_2", "mic:out").wanted(&state), []);
}

#[test]
fn what_is_taken_away_stays_away_until_a_port_comes_anew() {
    let mut stage = Stage::new(vec![connect("mic:out", "main:in")], Vec::new());
    stage.comes(source("mic:out"));
    stage.comes(sink("main:in"));
    stage.settle();
    let made = pair("mic:out", "main:in");
    assert_eq!(stage.connections(), std::slice::from_ref(&made));
    stage.state.connections.clear();
    assert_eq!(stage.settle(), []);
    // By hand again, and away again: still theirs.
    stage.state.connections.insert(made.clone());
    assert_eq!(stage.settle(), []);
    stage.state.connections.clear();
    assert_eq!(stage.settle(), []);
    // Another port of the same name, too quick to be seen away.
    stage.news.went = true;
    stage.news.fresh.insert("mic:out".to_owned());
    stage.settle();
    assert_eq!(stage.connections(), [made]);
}

#[test]
fn jack_may_be_late_with_the_news_of_a_port() {
    // A client's own ports are there when it first looks, and it is told of them after that.
    let mut stage = Stage::new(vec![connect("mic:out", "main:in")], Vec::new());
    stage.is_there(source("mic:out"));
    stage.is_there(sink("main:in"));
    stage.settle();
    assert_eq!(stage.connections(), [pair("mic:out", "main:in")]);
    stage.state.connections.clear();
    stage.news.fresh.insert("main:in".to_owned());
    assert_eq!(stage.settle(), []);
    // Once ports have gone, it may be another of that name.
    stage.news = News { fresh: ["main:in".to_owned()].into(), went: true };
    stage.settle();
    assert_eq!(stage.connections(), [pair("mic:out", "main:in")]);
}

#[test]
fn a_port_that_is_seen_before_jack_tells_of_it_is_one_port_and_takes_no_connection_until_then() {
    let mut stage = Stage::new(vec![connect("mic", "main")], Vec::new());
    stage.settle();
    stage.is_there(source("mic:out"));
    stage.comes(sink("main:in"));
    assert_eq!(stage.settle(), []);
    stage.news.fresh.insert("mic:out".to_owned());
    stage.settle();
    assert_eq!(stage.connections(), [pair("mic:out", "main:in")]);
    stage.state.connections.clear();
    assert_eq!(stage.settle(), []);

    // A server that tells of none is not waited for for ever.
    let mut stage = Stage::new(vec![connect("mic", "main")], Vec::new());
    stage.settle();
    stage.is_there(source("mic:out"));
    stage.is_there(sink("main:in"));
    assert_eq!(stage.settle(), []);
    stage.now += Duration::from_secs(6);
    stage.settle();
    assert_eq!(stage.connections(), [pair("mic:out", "main:in")]);
}

#[test]
fn all_ports_of_a_client_are_connected_at_once_when_the_first_of_them_is_told() {
    let mut stage = Stage::new(vec![connect("keys", "main")], Vec::new());
    stage.comes(sink("main:in_1"));
    stage.comes(sink("main:in_2"));
    stage.settle();
    stage.is_there(source("keys:left"));
    stage.is_there(source("keys:right"));
    let now = stage.now + 100 * MS;
    assert_eq!(stage.at(now), []);
    stage.news.fresh.insert("keys:left".to_owned());
    let steps = stage.at(now + 20 * MS);
    let made: Vec<_> = steps.iter().map(|step| pair(&step.source, &step.sink)).collect();
    assert_eq!(made, pairs(&[("keys:left", "main:in_1"), ("keys:right", "main:in_2")]));
}

#[test]
fn ports_that_come_one_after_the_other_are_waited_for_but_not_for_ever() {
    let mut stage = Stage::new(vec![connect("keys", "main")], Vec::new());
    stage.comes(sink("main:in_1"));
    stage.comes(sink("main:in_2"));
    stage.settle();
    let begun = stage.now + 100 * MS;
    stage.comes(source("keys:out_1"));
    assert_eq!(stage.at(begun), []);
    assert_eq!(stage.policy.next_look(), Some(begun + 5 * MS));
    stage.comes(source("keys:out_2"));
    assert_eq!(stage.at(begun + 3 * MS), []);
    // No first port is connected with both.
    let steps = stage.at(begun + 8 * MS);
    let made: Vec<_> = steps.iter().map(|step| pair(&step.source, &step.sink)).collect();
    assert_eq!(made, pairs(&[("keys:out_1", "main:in_1"), ("keys:out_2", "main:in_2")]));

    let mut stage = Stage::new(vec![connect("keys", "main")], Vec::new());
    stage.comes(sink("main:in_1"));
    stage.settle();
    let begun = stage.now + 100 * MS;
    let waited = (0..100).find(|n| {
        stage.comes(source(&format!("keys:out_{n}")));
        !stage.at(begun + *n * MS).is_empty()
    });
    assert_eq!(waited, Some(60));
}

#[test]
fn what_is_pinned_is_put_right_but_not_for_ever() {
    let mut stage = Stage::new(vec![pinned("mic:out", "main:in")], Vec::new());
    stage.comes(source("mic:out"));
    stage.comes(sink("main:in"));
    assert!(!stage.settle()[0].again);
    let mut righted = 0;
    for _ in 0..20 {
        stage.state.connections.clear();
        righted += stage.settle().iter().filter(|step| step.again).count();
    }
    assert_eq!(righted, 5, "somebody else insists, and the policy must not go round with them");
    let later = stage.policy.next_look().expect("it tries again");
    stage.now = later;
    stage.settle();
    assert_eq!(stage.connections(), [pair("mic:out", "main:in")]);
}

#[test]
fn channels_that_come_one_by_one_end_as_if_they_had_come_at_once() {
    let mut stage = Stage::new(vec![connect("keys", "main")], Vec::new());
    for port in [sink("main:in_1"), sink("main:in_2"), source("keys:left")] {
        stage.comes(port);
        stage.settle();
    }
    assert_eq!(stage.connections(), pairs(&[("keys:left", "main:in_1"), ("keys:left", "main:in_2")]));
    stage.comes(source("keys:right"));
    stage.settle();
    assert_eq!(stage.connections(), pairs(&[("keys:left", "main:in_1"), ("keys:right", "main:in_2")]));
    stage.goes("keys:right");
    stage.settle();
    assert_eq!(stage.connections(), pairs(&[("keys:left", "main:in_1"), ("keys:left", "main:in_2")]));
}

#[test]
fn a_forbidden_connection_of_a_program_is_parted_and_one_of_a_person_is_not() {
    for is_pinned in [false, true] {
        let mut stage = Stage::new(Vec::new(), vec![disconnect("browser", "system", is_pinned)]);
        stage.comes(source("browser:out"));
        stage.comes(sink("system:playback_1"));
        let made = pair("browser:out", "system:playback_1");
        stage.settle();
        stage.state.connections.insert(made.clone());
        let steps = stage.settle();
        assert_eq!(steps.len(), 1, "{steps:?}");
        stage.now += 2 * Policy::SETTLE;
        stage.state.connections.insert(made.clone());
        let steps = stage.settle();
        assert_eq!(steps.iter().filter(|step| step.again).count(), usize::from(is_pinned), "{steps:?}");
        assert_eq!(stage.state.connections.contains(&made), !is_pinned);
    }
}

#[test]
fn what_a_rule_wants_is_not_parted_by_another() {
    let mut stage = Stage::new(vec![connect("mic", "main")], vec![disconnect("*:*", "*:*", true)]);
    stage.comes(source("mic:out"));
    stage.comes(sink("main:in"));
    stage.settle();
    assert_eq!(stage.connections(), [pair("mic:out", "main:in")]);
}

#[test]
fn what_jack_refuses_is_tried_again_less_and_less_often() {
    let mut stage = Stage::new(vec![connect("mic", "main")], Vec::new());
    stage.comes(source("mic:out"));
    stage.comes(sink("main:in"));
    let mut tries = 0;
    let until = stage.now + 1000 * MS;
    while stage.now < until {
        for step in stage.steps() {
            tries += 1;
            stage.policy.done(&step, Outcome::Refused, stage.now);
        }
    }
    assert!((5..=10).contains(&tries), "{tries}");
    assert_eq!(stage.policy.refused().count(), 1);
    stage.now = stage.policy.next_look().unwrap();
    stage.settle();
    assert_eq!(stage.policy.refused().count(), 0);
}

#[test]
fn what_is_gone_before_it_is_parted_is_not_waited_for() {
    let mut stage = Stage::new(Vec::new(), vec![disconnect("mic", "main", false)]);
    stage.comes(source("mic:out"));
    stage.comes(sink("main:in"));
    stage.state.connections.insert(pair("mic:out", "main:in"));
    let steps = stage.steps();
    assert_eq!(steps.iter().map(|step| step.kind).collect::<Vec<_>>(), [StepKind::Part]);
    stage.state.connections.clear();
    stage.policy.done(&steps[0], Outcome::Refused, stage.now);
    assert_eq!((stage.steps(), stage.policy.next_look(), stage.policy.refused().count()), (vec![], None, 0));
}

#[test]
fn what_is_there_although_it_was_parted_is_not_waited_for_in_the_past() {
    let mut stage = Stage::new(Vec::new(), vec![disconnect("mic", "main", true)]);
    stage.comes(source("mic:out"));
    stage.comes(sink("main:in"));
    stage.settle();
    stage.now += Policy::SETTLE + 1_000 * MS;
    stage.state.connections.insert(pair("mic:out", "main:in"));
    // Somebody makes it again each time before it is seen to be away.
    let mut parted = 0;
    for _ in 0..20 {
        for step in stage.steps() {
            stage.policy.done(&step, Outcome::Done, stage.now);
            parted += 1;
        }
        assert!(stage.policy.next_look().is_some_and(|next| next > stage.now), "after {parted} times");
        stage.now += 400 * MS;
    }
    assert_eq!(parted, 5);
}

#[test]
fn a_plan_says_what_can_not_be_and_why() {
    let mut state = graph([source("mic:out"), source("keys:midi"), sink("main:in"), sink("main:in_2")]);
    state.connections = [pair("mic:out", "main:in_2")].into();
    let rules = [
        connect("mic:out", "main:in"),
        connect("mic:out", "main:in_2"),
        connect("gone:out", "main:in"),
        connect("mic:other", "main:in"),
        connect("nothing*", "main:in"),
        connect("main:in", "main:in_2"),
        connect("mic:out", "keys:midi"),
        connect("keys:midi", "main:in"),
    ];
    let plan = Plan::new(&rules, &state, false);
    assert_eq!(plan.make, [pair("mic:out", "main:in")]);
    assert_eq!(plan.there, [pair("mic:out", "main:in_2")]);
    let why: Vec<&str> = plan.missing.iter().map(|missing| missing.why.as_str()).collect();
    assert_eq!(
        why,
        [
            "client 'gone' is not running",
            "client 'mic' has no port 'mic:other' now",
            "no port matches 'nothing*'",
            "'main:in' takes and gives nothing",
            "'keys:midi' gives and takes nothing",
            "their kinds, clients or channels do not fit each other",
        ]
    );
    let plan = Plan::new(&rules[..1], &state, true);
    assert_eq!(plan.part, [pair("mic:out", "main:in_2")]);
}

/// Something that happens on a stage.
#[derive(Debug, Clone)]
enum Event {
    Comes(usize),
    Goes(usize),
    Anew(usize),
    /// Somebody connects.
    Makes(usize, usize),
    /// Somebody parts.
    Takes(usize),
    /// Time passes.
    Waits(u64),
    /// The policy looks once.
    Looks,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        (0usize..10).prop_map(Event::Comes),
        (0usize..10).prop_map(Event::Goes),
        (0usize..10).prop_map(Event::Anew),
        (0usize..10, 0usize..10).prop_map(|(a, b)| Event::Makes(a, b)),
        (0usize..20).prop_map(Event::Takes),
        (0u64..4_000).prop_map(Event::Waits),
        Just(Event::Looks),
    ];
    prop::collection::vec(event, 0..60)
}

fn some_port(n: usize) -> GraphPort {
    match n {
        0..=1 => source(&format!("mic:out_{n}")),
        2..=4 => source(&format!("keys:out_{n}")),
        5..=6 => sink(&format!("main:in_{n}")),
        7 => sink("main:midi_7"),
        8 => source("keys:midi_8"),
        _ => sink("rec:in_9"),
    }
}

fn rules(is_pinned: bool) -> Vec<ConnectRule> {
    ["mic|main", "keys|main", "*:*|rec"]
        .iter()
        .map(|rule| rule.split_once('|').unwrap())
        .map(|(from, to)| ConnectRule { pinned: is_pinned, ..connect(from, to) })
        .collect()
}

impl Stage {
    /// What people do; returns what they took away.
    fn happens(&mut self, event: &Event) -> Option<Connection> {
        match event {
            Event::Comes(n) => self.comes(some_port(*n)),
            Event::Goes(n) => self.goes(&some_port(*n).name),
            Event::Anew(n) => {
                self.goes(&some_port(*n).name);
                self.comes(some_port(*n));
            }
            Event::Makes(a, b) => {
                let (a, b) = (some_port(*a), some_port(*b));
                let is_there = |port: &GraphPort| self.state.ports.iter().any(|other| other.name == port.name);
                if a.flow == PortFlow::Source
                    && b.flow == PortFlow::Sink
                    && a.kind == b.kind
                    && is_there(&a)
                    && is_there(&b)
                {
                    self.state.connections.insert(pair(&a.name, &b.name));
                }
            }
            Event::Takes(n) => {
                let taken = self.state.connections.iter().nth(*n).cloned();
                if let Some(taken) = &taken {
                    self.state.connections.remove(taken);
                }
                return taken;
            }
            Event::Waits(ms) => self.now += *ms as u32 * MS,
            Event::Looks => {
                for step in self.steps() {
                    self.apply(&step);
                }
            }
        }
        None
    }
}

proptest! {
    #[test]
    fn nothing_more_is_done_once_all_is_done(events in events(), is_pinned: bool) {
        let mut stage = Stage::new(rules(is_pinned), vec![disconnect("keys", "rec", false)]);
        for event in &events {
            stage.happens(event);
        }
        stage.now += Duration::from_secs(20);
        stage.settle();
        let before = stage.connections();
        stage.now += Duration::from_secs(20);
        prop_assert_eq!(stage.settle(), vec![]);
        prop_assert_eq!(stage.connections(), before);
    }

    #[test]
    fn what_a_person_took_away_never_comes_back_by_itself(events in events()) {
        let mut stage = Stage::new(rules(false), Vec::new());
        let mut taken = BTreeSet::new();
        stage.settle();
        for event in &events {
            // The policy has seen what people take away: it can't tell what it never saw.
            stage.settle();
            for connection in &taken {
                prop_assert!(!stage.state.connections.contains(connection), "{:?} came back", connection);
            }
            taken.extend(stage.happens(event));
            let is_anew = |name: &String| {
                stage.news.fresh.contains(name) || !stage.state.ports.iter().any(|port| port.name == *name)
            };
            taken.retain(|(source, sink): &Connection| {
                !is_anew(source) && !is_anew(sink) && !stage.state.connections.contains(&pair(source, sink))
            });
        }
    }

    #[test]
    fn what_a_person_made_is_never_parted(
        events in events(),
        a in 0usize..5,
        b in prop::sample::select(vec![5usize, 6, 9]),
    ) {
        let mut stage = Stage::new(rules(true), Vec::new());
        let (a, b) = (some_port(a), some_port(b));
        let made = pair(&a.name, &b.name);
        stage.comes(a.clone());
        stage.comes(b.clone());
        stage.state.connections.insert(made.clone());
        stage.settle();
        for event in &events {
            let touches = matches!(event, Event::Goes(n) | Event::Anew(n) if [&a.name, &b.name].contains(&&some_port(*n).name));
            if touches || matches!(event, Event::Takes(_)) {
                continue;
            }
            stage.happens(event);
            stage.settle();
            prop_assert!(stage.state.connections.contains(&made));
        }
    }

    #[test]
    fn with_pinned_rules_it_ends_as_the_rules_say(events in events()) {
        let mut stage = Stage::new(rules(true), vec![disconnect("*:*", "*:*", true)]);
        for event in &events {
            stage.happens(event);
        }
        stage.now += Duration::from_secs(20);
        stage.settle();
        let wanted: BTreeSet<Connection> = rules(true).iter().flat_map(|rule| rule.wanted(&stage.state)).collect();
        prop_assert_eq!(&stage.state.connections, &wanted);
    }
}
