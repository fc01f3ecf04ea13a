//! A talk with the embedded model: whether its first word comes as soon in a late turn as in an early one.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use sidetone::bus::message::agent::{Run, RunDone, RunEvent};
use sidetone::bus::subject::Target;
use sidetone::bus::{Bus, Call};

use crate::running::{NODE, RunningHost};
use crate::support::{BenchHome, Row, Scope, median, ms, progress};

const SECTION: &str = "chat";
/// A late turn may wait so much longer for its first word.
const MOST: f64 = 1.2;
/// Questions of much the same length.
const TALK: [&str; 12] = [
    "Where is the city of Paris?",
    "What is the city known for?",
    "How many people live in it?",
    "Which river flows through it?",
    "What would you eat in Paris?",
    "When is it best to go there?",
    "How do I get there by train?",
    "What would the train cost me?",
    "Is the city safe at night?",
    "Which museum is the best one?",
    "How warm is it there in June?",
    "What should I take with me?",
];
/// The turns whose prompt begins otherwise than that of the turn before, counted from 1: the window has been cut.
const MOVED: [usize; 1] = [10];
/// As long as a short answer is spoken.
const SPOKEN: Duration = Duration::from_secs(4);

/// A turn of a talk.
struct Turn {
    first_ms: f64,
    done: RunDone,
}

/// Runs it.
pub fn run(scope: Scope) -> anyhow::Result<Vec<Row>> {
    let runtime = tokio::runtime::Runtime::new()?;
    let home = BenchHome::new()?;
    let sets = [r#"node.roles=["agent","llm"]"#, "llm.engine=llamacpp", "agent.max_tokens=30"].map(str::to_owned);
    let mut host = RunningHost::start(&home.home, &sets)?;
    let rows = runtime.block_on(rows(scope, &host.url));
    host.check()?;
    rows
}

async fn rows(scope: Scope, url: &str) -> anyhow::Result<Vec<Row>> {
    let bus = Bus::connect(url, "bench-caller").await?;
    let talks = scope.of(7, 1);
    let bar = progress("talks of twelve turns", 2 * talks);
    let (mut at_once, mut spoken) = (Vec::new(), Vec::new());
    for number in 0..talks {
        at_once.push(talk(&bus, &format!("at-once-{number}"), Duration::ZERO).await?);
        bar.inc(1);
        spoken.push(talk(&bus, &format!("spoken-{number}"), SPOKEN).await?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    let first = |talks: &[Vec<Turn>], turns: &[usize]| {
        let of = |turn: &usize| talks.iter().map(|talk| talk[turn - 1].first_ms).collect::<Vec<_>>();
        median(&turns.iter().flat_map(of).collect::<Vec<_>>())
    };
    let (early, late) = ([2, 3, 4, 5, 6], [8, 9, 10, 11, 12]);
    let row = |what: &str, talks: &[Vec<Turn>], turns: &[usize]| {
        Row::ratio(SECTION, what, first(talks, turns), first(talks, &early), MOST)
    };
    Ok(vec![
        row("first word of turns 8 to 12, against 2 to 6", &at_once, &late),
        row("the same with pauses as if answers were spoken", &spoken, &late),
        row("of these, the turn whose prompt begins anew", &spoken, &MOVED),
        Row::note(SECTION, "tokens read anew in turns 2 to 12, pauses", anew(&spoken)),
        Row::note(SECTION, "tokens read anew in turns 2 to 12, none", anew(&at_once)),
    ])
}

/// The median count of each turn but the first.
fn anew(talks: &[Vec<Turn>]) -> String {
    let read = |turn: &Turn| Some(f64::from(turn.done.prompt_tokens? - turn.done.cached_tokens?));
    let of = |turn: usize| median(&talks.iter().filter_map(|talk| read(&talk[turn])).collect::<Vec<_>>());
    (1..TALK.len()).map(|turn| format!("{:.0}", of(turn))).collect::<Vec<_>>().join(" ")
}

/// Has a talk; nobody speaks for `pause` after the answers before a prompt that begins anew.
async fn talk(bus: &Bus, session: &str, pause: Duration) -> anyhow::Result<Vec<Turn>> {
    let mut turns = Vec::new();
    for (number, text) in TALK.iter().enumerate() {
        if MOVED.contains(&(number + 1)) {
            tokio::time::sleep(pause).await;
        }
        turns.push(ask(bus, session, text).await?);
    }
    Ok(turns)
}

async fn ask(bus: &Bus, session: &str, text: &str) -> anyhow::Result<Turn> {
    let run = Run {
        text: text.to_owned(),
        session: Some(session.to_owned()),
        turn: None,
        stream: true,
        heard: None,
        said: String::new(),
    };
    let (begun, mut first) = (Instant::now(), None);
    let mut events = bus.open(Target::Node(NODE), &run, &Call::within(Duration::from_secs(60))).await?;
    while let Some(event) = events.next().await {
        match event? {
            RunEvent::Text { .. } => _ = first.get_or_insert_with(|| ms(begun.elapsed())),
            RunEvent::Done(done) => return Ok(Turn { first_ms: first.context("no word came")?, done }),
            _ => {}
        }
    }
    bail!("a turn has no end")
}
