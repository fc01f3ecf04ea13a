//! What was said and done stays, once and in order.

use std::time::Duration;

use async_nats::jetstream::{self, stream::StorageType};
use futures::StreamExt as _;
use sidetone::bus::Bus;
use sidetone::bus::message::session::{SessionEvent, What};
use sidetone::bus::session::{QueueSettings, SessionLog, history, list};
use sidetone::wire::storage;
use ulid::Ulid;

use super::LONG;
use crate::support::nats::{Nats, eventually, within};

fn reply(text: impl ToString) -> What {
    What::Reply { text: text.to_string(), model: None }
}

fn texts(events: &[SessionEvent]) -> Vec<&str> {
    events.iter().map(|event| if let What::Reply { text, .. } = &event.what { text.as_str() } else { "?" }).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_kept_in_the_order_in_which_they_were_told() {
    let Some(nats) = Nats::start().await else { return };
    let host = nats.host("studio").await;
    let log = within(SessionLog::start(&host)).await.unwrap();
    let turn = Ulid::generate();
    for i in 0..100 {
        within(log.append("a.b", Some(turn), reply(i))).await;
        within(log.append("c", None, What::Utterance { text: i.to_string(), listener: None, audio_ms: None })).await;
    }
    assert!(within(log.flush(LONG)).await);
    let events = within(history(&host, "a.b", 1_000)).await.unwrap();
    assert_eq!(texts(&events), (0..100).map(|i| i.to_string()).collect::<Vec<_>>());
    let turn = turn.to_string();
    assert!(
        events
            .iter()
            .all(|event| event.session == "a.b" && event.node == "studio" && event.turn.as_ref() == Some(&turn))
    );
    assert_eq!(texts(&within(history(&host, "a.b", 3)).await.unwrap()), ["97", "98", "99"]);
    assert_eq!(within(history(&host, "c", 200)).await.unwrap().len(), 100);
    assert!(within(history(&host, "nobody", 10)).await.unwrap().is_empty());

    let context = jetstream::new(nats.raw().await);
    let mut stream = within(context.get_stream(storage::SESSIONS)).await.unwrap();
    let info = within(stream.info()).await.unwrap();
    assert_eq!(info.state.messages, 200);
    assert_eq!(info.state.consumer_count, 0, "a history leaves nothing behind");
    assert_eq!(info.config.subjects, ["session.>"]);
    assert_eq!(info.config.storage, StorageType::File);
    assert_eq!(info.config.duplicate_window, Duration::from_secs(120));
    assert!(info.config.deny_delete && info.config.allow_direct);
    assert!(within(stream.delete_message(1)).await.is_err(), "what was said can't be unsaid");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hosts_write_one_session_and_nothing_is_lost_or_doubled() {
    let Some(nats) = Nats::start().await else { return };
    let (a, b) = (nats.host("a").await, nats.host("b").await);
    let (log_a, log_b) = (within(SessionLog::start(&a)).await.unwrap(), within(SessionLog::start(&b)).await.unwrap());
    let write = |log: SessionLog| async move {
        for i in 0..60 {
            log.append("shared", None, reply(i)).await;
        }
        assert!(log.flush(LONG).await);
    };
    within(async { tokio::join!(write(log_a), write(log_b)) }).await;
    let events = within(history(&a, "shared", 1_000)).await.unwrap();
    let wanted: Vec<_> = (0..60).map(|i| i.to_string()).collect();
    for node in ["a", "b"] {
        let own: Vec<_> = events.iter().filter(|event| event.node == node).cloned().collect();
        assert_eq!(texts(&own), wanted, "{node}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fence_is_the_whole_session() {
    let Some(nats) = Nats::start().await else { return };
    let host = nats.host("studio").await;
    let log = within(SessionLog::start(&host)).await.unwrap();
    within(log.append("s", None, reply("first"))).await;
    assert!(within(log.flush(LONG)).await);
    // Somebody else appends another kind, unfenced; the log finds out and goes on after it.
    let context = jetstream::new(nats.raw().await);
    let example = serde_json::to_vec(&SessionEvent { what: reply("foreign"), ..sidetone_example() }).unwrap();
    within(within(context.publish("session.s.note", example.into())).await.unwrap().into_future()).await.unwrap();
    // A writer that has not seen it is refused: the server counts every kind of the session.
    let stale = async_nats::jetstream::message::PublishMessage::build()
        .header("Nats-Expected-Last-Subject-Sequence-Subject", "session.s.>")
        .expected_last_subject_sequence(1)
        .payload("{}".into());
    let refused = within(within(context.send_publish("session.s.reply", stale)).await.unwrap().into_future()).await;
    assert!(refused.unwrap_err().to_string().contains("wrong last sequence"));
    within(log.append("s", None, reply("second"))).await;
    assert!(within(log.flush(LONG)).await);
    let events = within(history(&host, "s", 10)).await.unwrap();
    assert_eq!(texts(&events), ["first", "foreign", "second"]);
}

fn sidetone_example() -> SessionEvent {
    <SessionEvent as sidetone::bus::message::Message>::example()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_leaves_no_gap_and_no_double() {
    let Some(mut nats) = Nats::start().await else { return };
    let host = nats.host("studio").await;
    let log = within(SessionLog::start(&host)).await.unwrap();
    let mut wanted = Vec::new();
    for round in 0..3 {
        let lost = host.lost();
        for i in 0..40 {
            let text = format!("{round}-{i}");
            within(log.append("s", None, reply(&text))).await;
            wanted.push(text);
            if i == 20 {
                // Some appends are on their way, some wait, some come while the server is away.
                nats.kill().await;
            }
        }
        within(lost).await;
        assert!(!log.flush(Duration::from_millis(20)).await, "they wait for the server");
        nats.restart().await;
        assert!(within(log.flush(LONG)).await);
    }
    assert_eq!(texts(&within(history(&host, "s", 1_000)).await.unwrap()), wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_whose_acknowledgement_was_lost_is_kept_once() {
    let Some(nats) = Nats::start().await else { return };
    let (host, raw) = (nats.host("studio").await, nats.raw().await);
    let log = within(SessionLog::start(&host)).await.unwrap();
    within(log.append("s", None, reply("first"))).await;
    assert!(within(log.flush(LONG)).await);
    // The same event again, as a retry sends it: fenced as before, and with a fence that fits.
    let context = jetstream::new(raw);
    let stream = within(context.get_stream(storage::SESSIONS)).await.unwrap();
    let kept = within(stream.get_last_raw_message_by_subject("session.s.>")).await.unwrap();
    let id = kept.headers.get("Nats-Msg-Id").unwrap().to_string();
    for (expected, is_duplicate) in [(0, None), (1, Some(true))] {
        let again = async_nats::jetstream::message::PublishMessage::build()
            .header("Nats-Expected-Last-Subject-Sequence-Subject", "session.s.>")
            .message_id(&id)
            .expected_last_subject_sequence(expected)
            .payload(kept.payload.clone());
        let ack = within(within(context.send_publish("session.s.reply", again)).await.unwrap().into_future()).await;
        assert_eq!(ack.ok().map(|ack| ack.duplicate), is_duplicate, "expected {expected}");
    }
    assert_eq!(within(history(&host, "s", 10)).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_too_large_does_not_stop_the_others() {
    let Some(nats) = Nats::start().await else { return };
    let host = nats.host("studio").await;
    let log = within(SessionLog::start(&host)).await.unwrap();
    within(log.append("s", None, reply("a".repeat(2 << 20)))).await;
    within(log.append("s", None, reply("small"))).await;
    assert!(within(log.flush(LONG)).await);
    assert_eq!(texts(&within(history(&host, "s", 10)).await.unwrap()), ["small"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_jetstream_is_named() {
    let Some(nats) = Nats::start().await else { return };
    let raw = nats.raw().await;
    // An account without JetStream looks the same as a server without.
    let Some(bare) = Nats::with("accounts: { A: { users: [ { user: a, password: a } ] } }").await else { return };
    let url = bare.url().replace("nats://", "nats://a:a@");
    let host = within(sidetone::bus::Bus::connect(&url, "studio")).await.unwrap();
    let error = within(SessionLog::start(&host)).await.unwrap_err().to_string();
    assert!(error.contains("SESSIONS") && error.contains("start nats-server with -js"), "{error}");
    // And an event on a server that has it is seen by a plain subscriber.
    let host = nats.host("studio").await;
    let mut seen = nats.hear(&raw, "session.>").await;
    let log = within(SessionLog::start(&host)).await.unwrap();
    within(log.append("s", None, reply("x"))).await;
    assert_eq!(within(seen.next()).await.unwrap().subject.as_str(), "session.s.reply");
}

/// What is kept of session `s`, in texts.
async fn kept(host: &Bus, count: usize) -> Vec<String> {
    let events = within(history(host, "s", count + 10)).await.unwrap();
    texts(&events).into_iter().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_outage_holds_no_turn_up_and_loses_nothing_in_order() {
    let Some(mut nats) = Nats::start().await else { return };
    let host = nats.host("studio").await;
    let file = nats.folder().join("state/studio.jsonl");
    let settings = QueueSettings { events: 16, file: Some(file.clone()), ..Default::default() };
    let log = within(SessionLog::start_with(&host, settings.clone())).await.unwrap();
    let lost = host.lost();
    nats.kill().await;
    within(lost).await;
    // Far more than fits into memory.
    for i in 0..700 {
        within(log.append("s", None, reply(i))).await;
    }
    assert!(file.exists());
    nats.restart().await;
    for i in 700..720 {
        within(log.append("s", None, reply(i))).await;
    }
    assert!(within(log.flush(LONG)).await);
    assert_eq!(kept(&host, 720).await, (0..720).map(|i| i.to_string()).collect::<Vec<_>>());
    assert!(!file.exists(), "nothing waits any more");

    // A host that ends while the server is away leaves the rest to its next run.
    let lost = host.lost();
    nats.kill().await;
    within(lost).await;
    for i in 720..760 {
        within(log.append("s", None, reply(i))).await;
    }
    assert_eq!(log.park().unwrap(), 40);
    drop(log);
    // Some of them were kept after all: their acknowledgement was lost.
    nats.restart().await;
    within(host.until_up()).await;
    let waiting = std::fs::read_to_string(&file).unwrap();
    let context = jetstream::new(nats.raw().await);
    for line in waiting.lines().take(3) {
        within(within(context.publish("session.s.reply", line.to_owned().into())).await.unwrap().into_future())
            .await
            .unwrap();
    }
    let log = within(SessionLog::start_with(&host, settings)).await.unwrap();
    within(log.append("s", None, reply("after"))).await;
    assert!(within(log.flush(LONG)).await);
    let wanted: Vec<_> = (0..760).map(|i| i.to_string()).chain(["after".to_owned()]).collect();
    assert_eq!(kept(&host, 800).await, wanted);
    assert!(!file.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_room_an_event_is_lost_in_time_and_that_is_reported() {
    let Some(mut nats) = Nats::start().await else { return };
    let host = nats.host("studio").await;
    let log = within(SessionLog::start_with(&host, QueueSettings { events: 4, ..Default::default() })).await.unwrap();
    let lost = host.lost();
    nats.kill().await;
    within(lost).await;
    for i in 0..4 {
        within(log.append("s", None, reply(i))).await;
    }
    // It ends by its own deadline.
    within(log.append("s", None, reply("too many"))).await;
    nats.restart().await;
    assert!(within(log.flush(LONG)).await);
    assert_eq!(kept(&host, 10).await, ["0", "1", "2", "3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hosts_that_take_turns_in_one_session_read_each_other_again() {
    let Some(nats) = Nats::start().await else { return };
    let (a, b) = (nats.host("a").await, nats.host("b").await);
    let (log_a, log_b) = (within(SessionLog::start(&a)).await.unwrap(), within(SessionLog::start(&b)).await.unwrap());
    // Each append finds a sequence that the other has raised since: one is refused, reads again, and goes on.
    for i in 0..20 {
        for (log, name) in [(&log_a, "a"), (&log_b, "b")] {
            within(log.append("s", None, reply(format!("{name}{i}")))).await;
            assert!(within(log.flush(LONG)).await);
        }
    }
    let wanted: Vec<_> = (0..20).flat_map(|i| [format!("a{i}"), format!("b{i}")]).collect();
    assert_eq!(kept(&a, 40).await, wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_listed_the_latest_first() {
    let Some(nats) = Nats::start().await else { return };
    let (a, b) = (nats.host("a").await, nats.host("b").await);
    assert!(within(list(&a, 10)).await.unwrap().is_empty());
    let (log_a, log_b) = (within(SessionLog::start(&a)).await.unwrap(), within(SessionLog::start(&b)).await.unwrap());
    let said = |text: &str| What::Utterance { text: text.to_owned(), listener: None, audio_ms: None };
    for (log, session, what) in [
        (&log_a, "old", said("What was that?")),
        (&log_a, "one.two", said("First")),
        (&log_b, "one.two", reply("Answer")),
        (&log_a, "one.two", said("Second")),
    ] {
        within(log.append(session, None, what)).await;
        assert!(within(log.flush(LONG)).await);
    }
    let found = within(list(&b, 10)).await.unwrap();
    assert_eq!(found.iter().map(|one| one.session.as_str()).collect::<Vec<_>>(), ["one.two", "old"]);
    let one = &found[0];
    assert_eq!((one.utterances, one.events, one.text.as_str()), (2, 3, "Second"));
    assert_eq!(one.hosts.iter().map(String::as_str).collect::<Vec<_>>(), ["a", "b"]);
    assert!(one.first <= one.last, "{one:?}");
    assert_eq!(within(list(&b, 1)).await.unwrap(), found[..1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_turn_has_one_of_is_kept_once_however_late_it_is_told_again() {
    let Some(nats) = Nats::start().await else { return };
    let context = jetstream::new(nats.raw().await);
    let window = Duration::from_millis(100);
    let stream = jetstream::stream::Config {
        name: storage::SESSIONS.to_owned(),
        subjects: vec!["session.>".to_owned()],
        duplicate_window: window,
        allow_direct: true,
        ..jetstream::stream::Config::default()
    };
    within(context.create_stream(stream)).await.unwrap();
    let (a, b) = (nats.host("a").await, nats.host("b").await);
    let (log_a, log_b) = (within(SessionLog::start(&a)).await.unwrap(), within(SessionLog::start(&b)).await.unwrap());
    let turn = Ulid::generate();
    let said = || What::Utterance { text: "hello".to_owned(), listener: None, audio_ms: None };
    within(log_a.append_once("s", turn, said())).await;
    within(log_a.append("s", Some(turn), reply("half"))).await;
    assert!(within(log_a.flush(LONG)).await);
    let told = std::cell::Cell::new(false);
    // Until the server has forgotten a later id, and so the utterance's as well.
    eventually(|| async {
        let again = async_nats::jetstream::message::PublishMessage::build().message_id("later").payload("{}".into());
        let sent = context.send_publish("session.other.note", again).await.unwrap();
        let is_new = !sent.await.unwrap().duplicate;
        (is_new && told.replace(true)).then_some(())
    })
    .await;
    within(log_b.append_once("s", turn, said())).await;
    within(log_b.append("s", Some(turn), reply("whole"))).await;
    assert!(within(log_b.flush(LONG)).await);
    assert_eq!(texts(&within(history(&b, "s", 10)).await.unwrap()), ["?", "half", "whole"]);
}
