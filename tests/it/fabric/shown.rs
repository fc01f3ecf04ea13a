//! What people see of the hosts, and hosts on a server that keeps nothing.

use serde_json::Value;
use sidetone::bus::message::llm::Chat;
use sidetone::bus::subject::{Capability, Target};
use sidetone::config::Config;
use sidetone::fabric::need;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use super::{Events, call, chat, cli, fabric, host, knows, words};
use crate::support::nats::{Nats, within};

/// Runs `sidetone` to its end; gives its exit code, what it prints, and what it complains of.
async fn done(nats: &Nats, arguments: &[&str]) -> (i32, String, String) {
    let output = within(cli(nats, arguments).wait_with_output()).await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fixed_list_of_hosts_needs_no_jetstream() {
    let Some(nats) = Nats::with("jetstream: disabled").await else { return };
    let list = "bus.hosts=[\"a\", \"b\", \"c\"]";
    let mut a = host(&nats, "a", "llm", &[list]).await;
    let mut b = host(&nats, "b", "llm,tts", &[list]).await;
    let mut config = Config::default();
    config.bus.hosts = ["a", "b", "c"].map(str::to_owned).into();
    let all = fabric(b.bus(), &config, &["a", "b"]).await;
    let mut events = Events::new(b.bus()).await;
    let ask = Chat { stream: false, ..chat("hello") };
    assert_eq!(within(all.ask(&need(Capability::Llm), &ask, &call())).await.unwrap().text, "hello");
    // One that is killed is missed, and told of.
    a.end(libc::SIGKILL);
    assert_eq!(within(all.ask(&need(Capability::Llm), &ask, &call())).await.unwrap().text, "hello");
    events.until("lost", "a").await;
    knows(&all, &["b"]).await;
    let (code, printed, why) = done(&nats, &["nodes", "--json", "--set", list]).await;
    assert_eq!(code, 0, "{why}");
    let nodes: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(nodes.as_array().unwrap().iter().map(|node| &node["node"]).collect::<Vec<_>>(), ["b"]);
    // It is drained like any other.
    let (code, printed, why) = done(&nats, &["drain", "--node", "b", "--set", list]).await;
    assert!(code == 0 && printed.ends_with("b is down\n"), "{code}: {printed}{why}");
    assert_eq!(b.ended().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_shows_each_change_of_who_is_there() {
    let Some(nats) = Nats::start().await else { return };
    let mut a = host(&nats, "a", "llm", &["llm.model=slow:100"]).await;
    let mut watch = cli(&nats, &["nodes", "--watch", "--json"]);
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut until = async |what: &str, wanted: &dyn Fn(&[Value]) -> bool| {
        let found = within(async {
            loop {
                let line = lines.next_line().await.unwrap().unwrap_or_else(|| panic!("no more lines before {what}"));
                let nodes: Value = serde_json::from_str(&line).unwrap();
                if wanted(nodes.as_array().unwrap()) {
                    return;
                }
            }
        });
        found.await;
    };
    until("the first", &|nodes| nodes.len() == 1 && nodes[0]["offers"][0]["role"] == "llm").await;
    let _b = host(&nats, "b", "tts", &[]).await;
    until("the second", &|nodes| nodes.len() == 2 && nodes[1]["offers"][0]["role"] == "tts").await;
    // A host that is told to end finishes its work, and says meanwhile that it has changed.
    let bus = nats.host("tests").await;
    let mut events = Events::new(&bus).await;
    let mut answer = within(bus.open(Target::Node("a"), &chat(&words(30)), &call())).await.unwrap();
    within(answer.next()).await.unwrap().unwrap();
    a.signal(libc::SIGTERM);
    assert!(events.until("changed", "a").await.draining);
    until("the drain", &|nodes| nodes[0]["draining"] == true).await;
    while let Some(piece) = within(answer.next()).await {
        piece.unwrap();
    }
    events.until("down", "a").await;
    until("the end", &|nodes| nodes.len() == 1 && nodes[0]["node"] == "b").await;
    assert_eq!(a.ended().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_is_explained_to_whoever_asks() {
    let Some(nats) = Nats::start().await else { return };
    let one = host(&nats, "one", "llm", &[]).await;
    let _two = host(&nats, "two", "llm", &[]).await;
    drop(fabric(one.bus(), &Config::default(), &["one", "two"]).await);
    let denied = ["--set", "route.llm.deny=[\"two\"]"];
    let (code, printed, why) = done(&nats, &[&["route", "llm", "--explain", "--json"], &denied[..]].concat()).await;
    assert_eq!(code, 0, "{why}");
    let lines: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!((&lines[0]["host"], &lines[0]["rank"]), (&Value::from("one"), &Value::from(1)), "{printed}");
    assert!(lines[0]["why"].as_str().unwrap().starts_with("lan, warm echo, 0 of "), "{printed}");
    assert_eq!((&lines[1]["host"], &lines[1]["rank"]), (&Value::from("two"), &Value::Null), "{printed}");
    assert_eq!(lines[1]["why"], "denied by the policy", "{printed}");
    // Without it, only those who would be asked.
    let (_, printed, _) = done(&nats, &[&["route", "llm"], &denied[..]].concat()).await;
    assert!(printed.contains("one") && !printed.contains("two"), "{printed}");
    let (code, printed, why) = done(&nats, &["route", "stt", "--lang", "en"]).await;
    assert!(code == 3 && why.contains("nobody offers stt"), "{code}: {printed}{why}");
}
