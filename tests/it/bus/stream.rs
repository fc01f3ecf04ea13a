//! Many replies to one request.

use std::time::Duration;

use async_nats::{Client, HeaderMap, Message, Subscriber};
use futures::{FutureExt as _, StreamExt as _};
use sidetone::bus::codec::{self, Format};
use sidetone::bus::message::fault::{Fault, FaultCode};
use sidetone::bus::message::llm::{Answer, Chat};
use sidetone::bus::message::{Ask, Message as _, tts};
use sidetone::bus::service::{Incoming, Server};
use sidetone::bus::stream::Stream;
use sidetone::bus::subject::Target;
use sidetone::bus::{Bus, BusError, Call};
use sidetone::wire::stream::{ACK_EVERY, CREDIT};
use tokio::sync::{mpsc, watch};

use super::{call, chat, code, delta, serve, serve_llm, serve_stt, serve_tts, speak, summary};
use crate::support::nats::{Nats, eventually, within};

fn header(message: &Message, name: &str) -> Option<String> {
    Some(message.headers.as_ref()?.get(name)?.to_string())
}

/// Asks as the stock CLI does: an inbox, no credit, nothing acknowledged.
async fn ask_raw(raw: &Client, subject: &'static str, body: String) -> Subscriber {
    let inbox = raw.new_inbox();
    let replies = raw.subscribe(inbox.clone()).await.unwrap();
    raw.publish_with_reply(subject, inbox, body.into()).await.unwrap();
    replies
}

fn json<M: serde::Serialize>(message: &M) -> String {
    serde_json::to_string(message).unwrap()
}

async fn rest<M: sidetone::bus::message::Message>(mut stream: Stream<M>) -> Result<Vec<M>, BusError> {
    let mut all = Vec::new();
    while let Some(item) = within(stream.next()).await {
        all.push(item?);
    }
    Ok(all)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_without_credit_gets_every_chunk_numbered_and_the_end() {
    let Some(nats) = Nats::start().await else { return };
    let (host, raw) = (nats.host("studio").await, nats.raw().await);
    let _servers = (serve_llm(&host).await, serve_tts(&host).await);
    for (subject, body) in [("llm.chat", json(&chat(300, true))), ("tts.stream", json(&speak(300)))] {
        let mut replies = ask_raw(&raw, subject, body).await;
        for seq in 0..301 {
            let chunk = within(replies.next()).await.unwrap();
            assert_eq!(header(&chunk, "Seq"), Some(seq.to_string()));
            assert_eq!(header(&chunk, "Content-Type").as_deref(), Some("application/json"));
            assert!(!chunk.payload.is_empty() && chunk.reply.is_some());
        }
        let end = within(replies.next()).await.unwrap();
        assert_eq!(header(&end, "Status").as_deref(), Some("200"));
        assert_eq!(header(&end, "Chunks").as_deref(), Some("301"));
        assert_eq!(header(&end, "Node").as_deref(), Some("studio"));
        assert!(end.payload.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_arrives_whole_and_in_order() {
    let Some(nats) = Nats::start().await else { return };
    let (host, other) = (nats.host("studio").await, nats.host("other").await);
    let _servers = (serve_llm(&host).await, serve_tts(&host).await);
    for deltas in [0, 1, 31, 32, 33, 500] {
        let stream = within(other.open(Target::Any, &chat(deltas, true), &call())).await.unwrap();
        let answers = rest(stream).await.unwrap();
        let wanted: Vec<_> = (0..deltas).map(delta).chain([summary()]).collect();
        assert_eq!(answers, wanted);
        let stream = within(other.open(Target::Node("studio"), &speak(deltas), &call())).await.unwrap();
        assert_eq!(rest(stream).await.unwrap().len(), deltas + 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn giving_up_on_next_loses_nothing() {
    let Some(nats) = Nats::start().await else { return };
    let host = nats.host("studio").await;
    let _server = serve_llm(&host).await;
    let mut stream = within(host.open(Target::Any, &chat(300, true), &call())).await.unwrap();
    let mut answers = Vec::new();
    within(async {
        loop {
            match stream.next().now_or_never() {
                Some(Some(answer)) => answers.push(answer.unwrap()),
                Some(None) => break,
                None => tokio::task::yield_now().await,
            }
        }
    })
    .await;
    let wanted: Vec<_> = (0..300).map(delta).chain([summary()]).collect();
    assert_eq!(answers, wanted);
}

/// Serves `A` by chunks without end; tells how many have left, and how it ended.
async fn serve_endless<A: Ask>(
    bus: &Bus,
    chunk: impl Fn() -> A::Reply + Clone + Send + Sync + 'static,
) -> (Server, watch::Receiver<u64>, mpsc::UnboundedReceiver<Fault>) {
    let (sent, left) = watch::channel(0);
    let (end, ends) = mpsc::unbounded_channel();
    let server = serve(bus, 2, move |incoming: Incoming<A>| {
        let (sent, end, chunk) = (sent.clone(), end.clone(), chunk.clone());
        async move {
            // On a task of its own, since the handler's future is dropped when the request is cancelled.
            let work = tokio::spawn(async move {
                loop {
                    if let Err(fault) = incoming.replies.send(&chunk()).await {
                        let _ = end.send(fault.clone());
                        return fault;
                    }
                    sent.send_modify(|sent| *sent += 1);
                }
            });
            Err(work.await.unwrap())
        }
    })
    .await;
    (server, left, ends)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_stalls_makes_the_worker_pause() {
    let Some(nats) = Nats::start().await else { return };
    let (host, other) = (nats.host("studio").await, nats.host("other").await);
    let (_server, mut left, mut ends) = serve_endless::<Chat>(&host, || delta(0)).await;
    let _stt = serve_stt(&host, 1).await;
    let mut stream = within(other.open(Target::Any, &chat(1, true), &call())).await.unwrap();
    let mut read = 0;
    for round in 0..20 {
        within(left.wait_for(|left| *left >= CREDIT + read / ACK_EVERY * ACK_EVERY)).await.unwrap();
        // A whole round trip later the worker still waits.
        within(other.ask(Target::Any, &sidetone::bus::message::stt::Request::default(), &call())).await.unwrap();
        assert_eq!(*left.borrow(), CREDIT + read / ACK_EVERY * ACK_EVERY, "round {round}");
        // What has been read is acknowledged when more is asked for, ACK_EVERY at once.
        for _ in 0..ACK_EVERY {
            within(stream.next()).await.unwrap().unwrap();
        }
        read += if round == 0 { ACK_EVERY - 1 } else { ACK_EVERY };
    }
    drop(stream);
    assert_eq!(within(ends.recv()).await.unwrap().code, FaultCode::Cancelled);
}

/// Asks with credit, as another client than ours would.
async fn ask_with_credit(raw: &Client, credit: u64) -> Subscriber {
    let inbox = raw.new_inbox();
    let replies = raw.subscribe(inbox.clone()).await.unwrap();
    let mut headers = HeaderMap::new();
    headers.insert("Credit", credit.to_string());
    raw.publish_with_reply_and_headers("llm.chat", inbox, headers, json(&chat(1, true)).into()).await.unwrap();
    replies
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_for_a_caller_with_credit_are_bare_and_a_publish_on_a_reply_acknowledges_them() {
    let Some(nats) = Nats::start().await else { return };
    let (host, raw) = (nats.host("studio").await, nats.raw().await);
    let (_server, mut left, _ends) = serve_endless::<Chat>(&host, || delta(0)).await;
    let mut replies = ask_with_credit(&raw, 4).await;
    let (mut control, mut asked) = (String::new(), 0);
    for round in 0..5 {
        within(left.wait_for(|left| *left >= 4 + 3 * round)).await.unwrap();
        for seq in 3 * round..3 * round + 3 {
            let chunk = within(replies.next()).await.unwrap();
            assert!(chunk.headers.is_none());
            assert_eq!(codec::decode_chunk(Format::Json, &chunk.payload).unwrap(), (delta(0), seq));
            // The first has a reply subject, and then at least every other one of four.
            if let Some(reply) = chunk.reply {
                let (place, number) = reply.rsplit_once('.').unwrap();
                assert_eq!(number.parse(), Ok(seq));
                control = place.to_owned();
                asked = seq;
            }
            assert!(seq < asked + 2, "{seq}");
        }
        assert_eq!(*left.borrow(), 4 + 3 * round);
        raw.publish(format!("{control}.{}", 3 * round + 2), "".into()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_dies_while_the_worker_waits_for_it_stops_the_worker() {
    let Some(nats) = Nats::start().await else { return };
    let host = nats.host("studio").await;
    let (_server, mut left, mut ends) = serve_endless::<Chat>(&host, || delta(0)).await;
    let raw = nats.raw().await;
    let replies = ask_with_credit(&raw, 2).await;
    within(left.wait_for(|left| *left == 2)).await.unwrap();
    drop((replies, raw));
    assert_eq!(within(ends.recv()).await.unwrap().code, FaultCode::Cancelled);
}

/// Answers `llm.chat` by hand: every `(headers, body)` in turn.
async fn answer_by_hand(nats: &Nats, raw: &Client, replies: Vec<(Vec<(&'static str, &'static str)>, &'static str)>) {
    let mut requests = nats.hear(raw, "llm.chat").await;
    let raw = raw.clone();
    tokio::spawn(async move {
        let inbox = requests.next().await.unwrap().reply.unwrap();
        for (headers, body) in replies {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.insert(name, value);
            }
            raw.publish_with_headers(inbox.clone(), map, body.into()).await.unwrap();
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_that_is_lost_is_an_error() {
    let Some(nats) = Nats::start().await else { return };
    let (host, raw) = (nats.host("studio").await, nats.raw().await);
    let text = "{\"text\":\"a\"}";
    for (replies, why) in [
        (vec![(vec![("Seq", "0")], text), (vec![("Seq", "2")], text)], "chunk 1 is missing (got 2)"),
        (vec![(vec![("Seq", "1")], text)], "chunk 0 is missing (got 1)"),
        (vec![(vec![("Seq", "0")], text), (vec![("Status", "200"), ("Chunks", "3")], "")], "1 of 3 chunks arrived"),
        (vec![(vec![("Seq", "0")], text), (vec![("Node", "a")], text)], "a chunk without a number arrived"),
    ] {
        answer_by_hand(&nats, &raw, replies).await;
        let stream = within(host.open(Target::Any, &chat(1, true), &call())).await.unwrap();
        let error = rest(stream).await.unwrap_err();
        assert_eq!(error.to_string(), format!("the answer of llm.chat is not whole: {why}"));
    }
    answer_by_hand(&nats, &raw, vec![(vec![("Seq", "0")], text), (vec![], text)]).await;
    let error = rest(within(host.open(Target::Any, &chat(1, true), &call())).await.unwrap()).await.unwrap_err();
    assert!(error.to_string().contains("a chunk and its number are wanted"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bare_chunk_that_is_lost_is_an_error_and_a_probe_is_no_chunk() {
    let Some(nats) = Nats::start().await else { return };
    let (host, raw) = (nats.host("studio").await, nats.raw().await);
    let mut requests = nats.hear(&raw, "llm.chat").await;
    let mut stream = within(host.open(Target::Any, &chat(1, true), &call())).await.unwrap();
    let inbox = within(requests.next()).await.unwrap().reply.unwrap();
    let chunk = |seq| codec::encode_chunk(&delta(0), seq, Format::MsgPack, 0).unwrap();
    let mut probe = HeaderMap::new();
    probe.insert("Status", "100");
    raw.publish_with_reply(inbox.clone(), "control.7.0", chunk(0)).await.unwrap();
    raw.publish_with_reply_and_headers(inbox.clone(), "control.7.0", probe, "".into()).await.unwrap();
    raw.publish(inbox.clone(), chunk(1)).await.unwrap();
    raw.publish(inbox, chunk(3)).await.unwrap();
    for _ in 0..2 {
        assert_eq!(within(stream.next()).await.unwrap().unwrap(), delta(0));
    }
    let error = within(stream.next()).await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "the answer of llm.chat is not whole: chunk 2 is missing (got 3)");

    let mut stream = within(host.open(Target::Any, &chat(1, true), &call())).await.unwrap();
    let inbox = within(requests.next()).await.unwrap().reply.unwrap();
    raw.publish(inbox, chunk(1)).await.unwrap();
    let error = within(stream.next()).await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "the answer of llm.chat is not whole: chunk 0 is missing (got 1)");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_end_is_an_error() {
    let Some(nats) = Nats::start().await else { return };
    let (host, raw) = (nats.host("studio").await, nats.raw().await);
    answer_by_hand(&nats, &raw, vec![(vec![("Seq", "0")], "{\"text\":\"a\"}")]).await;
    let call = Call::within(Duration::from_millis(100));
    let error = rest(within(host.open(Target::Any, &chat(1, true), &call)).await.unwrap()).await.unwrap_err();
    assert!(matches!(&error, BusError::Deadline { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_nobody_serves_or_that_breaks_says_so() {
    let Some(nats) = Nats::start().await else { return };
    let host = nats.host("studio").await;
    let open = || async { within(host.open(Target::Any, &chat(1, true), &call())).await.unwrap() };
    let error = rest(open().await).await.unwrap_err();
    assert!(matches!(&error, BusError::Nobody { .. }), "{error}");
    let _server = serve(&host, 1, |incoming: Incoming<Chat>| async move {
        incoming.replies.send(&delta(0)).await?;
        Err(Fault::unavailable("the model\nfell over"))
    })
    .await;
    let mut stream = open().await;
    assert_eq!(within(stream.next()).await.unwrap().unwrap(), delta(0));
    let error = within(stream.next()).await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "the model fell over");
    assert_eq!(code::<()>(Err(error)), FaultCode::Unavailable);
    assert!(within(stream.next()).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_dies_stops_the_worker() {
    let Some(nats) = Nats::start().await else { return };
    let host = nats.host("studio").await;
    let (_llm, _, mut chats) = serve_endless::<Chat>(&host, || delta(0)).await;
    let (_tts, _, mut voices) = serve_endless::<tts::Stream>(&host, tts::Chunk::example).await;
    for (subject, body, ends) in
        [("llm.chat", json(&chat(1, true)), &mut chats), ("tts.stream", json(&speak(1)), &mut voices)]
    {
        let raw = nats.raw().await;
        let mut replies = ask_raw(&raw, subject, body).await;
        within(replies.next()).await.unwrap();
        // As when the process is killed: no cancel is published, its subscriptions are gone.
        drop((replies, raw));
        assert_eq!(within(ends.recv()).await.unwrap().code, FaultCode::Cancelled, "{subject}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_dropped_stops_the_worker() {
    let Some(nats) = Nats::start().await else { return };
    let (host, other) = (nats.host("studio").await, nats.host("other").await);
    let (server, _, mut ends) = serve_endless::<tts::Stream>(&host, tts::Chunk::example).await;
    let mut stream = within(other.open(Target::Any, &speak(1), &call())).await.unwrap();
    within(stream.next()).await.unwrap().unwrap();
    drop(stream);
    assert_eq!(within(ends.recv()).await.unwrap().code, FaultCode::Cancelled);
    eventually(|| async { (server.load().in_flight() == 0).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_stream_the_summary_comes_alone() {
    let Some(nats) = Nats::start().await else { return };
    let (host, raw) = (nats.host("studio").await, nats.raw().await);
    let _server = serve_llm(&host).await;
    let reply = within(raw.request("llm.chat", json(&chat(40, false)).into())).await.unwrap();
    assert_eq!(serde_json::from_slice::<Answer>(&reply.payload).unwrap(), summary());
    assert_eq!((header(&reply, "Seq"), header(&reply, "Status")), (None, None));
    let stream = within(host.open(Target::Any, &chat(40, false), &call())).await.unwrap();
    assert_eq!(rest(stream).await.unwrap(), [summary()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_into_a_message_is_refused_with_its_size() {
    let Some(nats) = Nats::start().await else { return };
    let host = nats.host("studio").await;
    let long = "a".repeat(2 << 20);
    let answer = Answer { text: long.clone(), done: None };
    let _server = serve(&host, 2, move |incoming: Incoming<Chat>| {
        let answer = answer.clone();
        async move {
            if incoming.request.stream {
                incoming.replies.send(&answer).await?;
            }
            Ok(answer)
        }
    })
    .await;
    let mut large = chat(1, true);
    large.messages[0].content = long;
    for error in [
        within(host.open(Target::Any, &large, &call())).await.map(|_| ()).unwrap_err(),
        within(host.ask(Target::Any, &Chat { stream: false, ..large }, &call())).await.map(|_| ()).unwrap_err(),
    ] {
        assert!(
            matches!(&error, BusError::TooLarge { bytes, max, .. } if *bytes > 2 << 20 && *max < 1 << 20),
            "{error}"
        );
    }
    let streamed = within(host.open(Target::Any, &chat(1, true), &call())).await.unwrap();
    let error = rest(streamed).await.unwrap_err();
    assert!(error.to_string().contains("is 2097"), "{error}");
    assert_eq!(code::<()>(Err(error)), FaultCode::TooLarge);
    assert_eq!(code(within(host.ask(Target::Any, &chat(1, false), &call())).await), FaultCode::TooLarge);
}
