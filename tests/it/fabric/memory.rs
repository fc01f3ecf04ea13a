//! What an agent shows the model of what was said before.

use sidetone::bus::message::agent::{Run, RunDone, RunEvent};
use sidetone::bus::message::session::What;
use sidetone::bus::subject::Target;
use sidetone::bus::{Bus, session};
use sidetone::config::Config;

use super::{call, fabric, host, turn};
use crate::support::nats::{Nats, eventually, within};

/// Has `node` answer `text` in the session `s`, and waits until the session has `replies` answers.
async fn answered(bus: &Bus, node: &str, text: &str, replies: usize) -> RunDone {
    let run = Run { session: Some("s".to_owned()), stream: false, ..turn(text) };
    let event = within(bus.ask(Target::Node(node), &run, &call())).await.unwrap();
    let RunEvent::Done(done) = event else { panic!("{event:?}") };
    eventually(|| async {
        let events = session::history(bus, "s", 1_000).await.unwrap();
        let kept = events.iter().filter(|event| matches!(event.what, What::Reply { .. })).count();
        (kept == replies).then_some(())
    })
    .await;
    done
}

#[tokio::test(flavor = "multi_thread")]
async fn a_talk_that_goes_from_host_to_host_is_one() {
    let Some(nats) = Nats::start().await else { return };
    let _c = host(&nats, "c", "llm", &["llm.model=all"]).await;
    let a = host(&nats, "a", "agent", &[]).await;
    let _b = host(&nats, "b", "agent", &[]).await;
    let bus = a.bus();
    let _known = fabric(bus, &Config::default(), &["a", "b", "c"]).await;
    assert_eq!(answered(bus, "a", "one", 1).await.text, "one");
    assert_eq!(answered(bus, "b", "two", 2).await.text, "one two");
    // What it remembers itself is not all there is.
    assert_eq!(answered(bus, "a", "three", 3).await.text, "one two three");
    assert_eq!(answered(bus, "a", "four", 4).await.text, "one two three four");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_talk_goes_on_when_it_is_more_than_the_model_holds() {
    let Some(nats) = Nats::start().await else { return };
    // The model holds less than the agent believes, and refuses.
    let one = host(&nats, "one", "agent,llm", &["llm.model=context:3000"]).await;
    let long = |word: &str| vec![word; 300].join(" ");
    for (turn, word) in ["apples", "pears", "plums"].into_iter().enumerate() {
        assert_eq!(answered(one.bus(), "one", &long(word), turn + 1).await.text, long(word));
    }
    // A question that is too long by itself is refused, and the talk goes on after it.
    let run = Run { session: Some("s".to_owned()), stream: false, ..turn(&vec!["cherries"; 500].join(" ")) };
    let error = within(one.bus().ask(Target::Node("one"), &run, &call())).await.unwrap_err();
    assert!(error.to_string().contains("holds 3000 bytes"), "{error}");
    assert_eq!(answered(one.bus(), "one", &long("figs"), 4).await.text, long("figs"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_model_is_shown_what_fits() {
    let Some(nats) = Nats::start().await else { return };
    let settings = ["llm.model=all", "agent.system_prompt=", "agent.max_tokens=200", "agent.context_tokens=300"];
    let one = host(&nats, "one", "agent,llm", &settings).await;
    let [apples, pears, plums] = ["apples", "pears", "plums"].map(|word| [word; 10].join(" "));
    assert_eq!(answered(one.bus(), "one", &apples, 1).await.text, apples);
    assert_eq!(answered(one.bus(), "one", &pears, 2).await.text, format!("{apples} {pears}"));
    let third = answered(one.bus(), "one", &plums, 3).await.text;
    assert!(third.ends_with(&plums) && !third.contains(&apples), "{third}");
}
