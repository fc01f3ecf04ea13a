//! Several chunks in one message, for callers that read such.

use async_nats::{Client, HeaderMap, Message, Subscriber};
use futures::StreamExt as _;
use sidetone::bus::BusError;
use sidetone::bus::message::fault::{Fault, FaultCode};
use sidetone::bus::message::llm::{Answer, Chat};
use sidetone::bus::pack::MAX_CHUNKS;
use sidetone::bus::service::Incoming;
use sidetone::bus::subject::Target;
use sidetone::wire::stream::CREDIT;
use tokio::sync::watch;

use super::{call, chat, code, delta, serve, serve_llm, summary};
use crate::support::nats::{Nats, within};

/// Asks for a chat of `deltas` with these headers, as another client than ours would.
async fn ask(raw: &Client, deltas: usize, headers: &[(&'static str, u64)]) -> Subscriber {
    let inbox = raw.new_inbox();
    let replies = raw.subscribe(inbox.clone()).await.unwrap();
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.insert(*name, value.to_string());
    }
    let body = serde_json::to_string(&chat(deltas, true)).unwrap();
    raw.publish_with_reply_and_headers("llm.chat", inbox, map, body.into()).await.unwrap();
    replies
}

/// The chunks of a message, and the number of the first.
fn chunks(message: &Message) -> (Vec<Answer>, u64) {
    assert!(message.headers.is_none());
    let (chunks, first) = str::from_utf8(&message.payload).unwrap().rsplit_once('\n').unwrap();
    let all = if chunks.starts_with('[') {
        serde_json::from_str(chunks).unwrap()
    } else {
        vec![serde_json::from_str(chunks).unwrap()]
    };
    (all, first.parse().unwrap())
}

/// What comes until the end: the chunks, and how many messages had how many of them.
async fn all(replies: &mut Subscriber) -> (Vec<Answer>, Vec<usize>) {
    let (mut answers, mut sizes) = (Vec::new(), Vec::new());
    loop {
        let message = within(replies.next()).await.unwrap();
        if let Some(headers) = &message.headers {
            assert_eq!(headers.get("Status").unwrap().as_str(), "200");
            assert_eq!(headers.get("Chunks").unwrap().as_str(), answers.len().to_string());
            return (answers, sizes);
        }
        let (more, first) = chunks(&message);
        assert_eq!(first, answers.len() as u64);
        sizes.push(more.len());
        answers.extend(more);
        if let Some(reply) = message.reply {
            // It acknowledges all that has come.
            assert_eq!(reply.rsplit('.').next().unwrap(), (answers.len() - 1).to_string());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_that_are_ready_at_once_come_in_one_message_if_the_caller_reads_that() {
    let Some(nats) = Nats::start().await else { return };
    let (host, raw) = (nats.host("studio").await, nats.raw().await);
    let _server = serve_llm(&host).await;
    let wanted: Vec<_> = (0..50).map(delta).chain([summary()]).collect();
    let (answers, sizes) = all(&mut ask(&raw, 50, &[("Credit", 100), ("Pack", 7)]).await).await;
    assert_eq!(answers, wanted);
    assert_eq!(sizes[0], 1, "the first waits for none: {sizes:?}");
    assert!(sizes.iter().all(|size| *size <= 7) && sizes.iter().any(|size| *size > 1), "{sizes:?}");
    // Those of callers from before that header, or for whom a message has but one number.
    for (headers, packed) in
        [(&[("Credit", 100)][..], 1), (&[("Credit", 100), ("Pack", 1)], 1), (&[("Credit", 100), ("Pack", 0)], 1)]
    {
        let (answers, sizes) = all(&mut ask(&raw, 50, headers).await).await;
        assert_eq!((answers, sizes), (wanted.clone(), vec![packed; 51]));
    }
    let mut numbered = ask(&raw, 3, &[("Pack", 7)]).await;
    for seq in 0..4 {
        let message = within(numbered.next()).await.unwrap();
        assert_eq!(message.headers.unwrap().get("Seq").unwrap().as_str(), seq.to_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn packs_keep_to_the_credit() {
    let Some(nats) = Nats::start().await else { return };
    let (host, raw) = (nats.host("studio").await, nats.raw().await);
    let _server = serve_llm(&host).await;
    let mut replies = ask(&raw, 100, &[("Credit", 10), ("Pack", 16)]).await;
    let (mut got, mut acknowledged) = (0, 0);
    while got < 101 {
        let message = within(replies.next()).await.unwrap();
        if message.headers.is_some() {
            // Is anybody there?
            continue;
        }
        let (more, first) = chunks(&message);
        assert_eq!(first, got);
        got += more.len() as u64;
        assert!(got <= acknowledged + 10, "{got} chunks have come, {acknowledged} were acknowledged");
        if let Some(reply) = message.reply {
            raw.publish(reply, "".into()).await.unwrap();
            acknowledged = got;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_before_the_worker_waits_or_fails_has_left() {
    let Some(nats) = Nats::start().await else { return };
    let (host, other) = (nats.host("studio").await, nats.host("other").await);
    let (go, gone) = watch::channel(0);
    let _server = serve(&host, 1, move |incoming: Incoming<Chat>| {
        let mut gone = gone.clone();
        async move {
            for round in 0..3 {
                for i in 0..5 {
                    incoming.replies.send(&delta(5 * round + i)).await?;
                }
                // Its reader has all of it before it goes on.
                gone.wait_for(|gone| *gone > round).await.map_err(|_| Fault::cancelled())?;
            }
            for i in 15..20 {
                incoming.replies.send(&delta(i)).await?;
            }
            Err(Fault::unavailable("the model fell over"))
        }
    })
    .await;
    let mut stream = within(other.open(Target::Any, &chat(1, true), &call())).await.unwrap();
    for i in 0..20 {
        assert_eq!(within(stream.next()).await.unwrap().unwrap(), delta(i));
        go.send_replace((i + 1) / 5);
    }
    let error = within(stream.next()).await.unwrap().unwrap_err();
    assert_eq!(code::<()>(Err(error)), FaultCode::Unavailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_cancelled_while_its_reader_stalls_has_sent_no_more_than_the_credit() {
    let Some(nats) = Nats::start().await else { return };
    let (host, other) = (nats.host("studio").await, nats.host("other").await);
    let (sent, mut left) = watch::channel(0);
    let server = serve(&host, 1, move |incoming: Incoming<Chat>| {
        let sent = sent.clone();
        async move {
            loop {
                incoming.replies.send(&delta(0)).await?;
                sent.send_modify(|sent| *sent += 1);
            }
        }
    })
    .await;
    let stream = within(other.open(Target::Any, &chat(1, true), &call())).await.unwrap();
    within(left.wait_for(|left| *left == CREDIT)).await.unwrap();
    drop(stream);
    within(async {
        while server.load().in_flight() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(*left.borrow(), CREDIT);
}

/// Answers `llm.chat` by these bodies, as another worker than ours would.
async fn answer_by_hand(nats: &Nats, raw: &Client, bodies: &'static [&'static str]) {
    let mut requests = nats.hear(raw, "llm.chat").await;
    let raw = raw.clone();
    tokio::spawn(async move {
        let request = requests.next().await.unwrap();
        let pack = request.headers.unwrap().get("Pack").unwrap().to_string();
        assert_eq!(pack, MAX_CHUNKS.to_string());
        for body in bodies {
            raw.publish(request.reply.clone().unwrap(), (*body).into()).await.unwrap();
        }
        let mut end = HeaderMap::new();
        end.insert("Status", "200");
        end.insert("Chunks", "3");
        raw.publish_with_headers(request.reply.unwrap(), end, "".into()).await.unwrap();
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_that_is_lost_or_holds_nothing_is_an_error() {
    let Some(nats) = Nats::start().await else { return };
    let (host, raw) = (nats.host("studio").await, nats.raw().await);
    let json = sidetone::bus::Call { format: sidetone::bus::codec::Format::Json, ..call() };
    for (bodies, said, why) in [
        (&["[{\"text\":\"0\"},{\"text\":\"1\"}]\n0", "{\"text\":\"2\"}\n2"][..], 3, ""),
        (&["{\"text\":\"0\"}\n0", "[{\"text\":\"1\"},{\"text\":\"2\"}]\n1"], 3, ""),
        (&["[{\"text\":\"0\"},{\"text\":\"1\"}]\n0", "[{\"text\":\"3\"}]\n3"], 2, "chunk 2 is missing (got 3)"),
        (&["{\"text\":\"0\"}\n0", "[{\"text\":\"2\"}]\n2"], 1, "chunk 1 is missing (got 2)"),
        (&["[{\"text\":\"0\"},{\"text\":\"1\"}]\n0"], 2, "2 of 3 chunks arrived"),
        (&["{\"text\":\"0\"}\n0", "[]\n1"], 1, "a message without a chunk arrived"),
        (&["{\"text\":\"0\"}\n0", "[{\"text\":\"1\"},{\"text\":2}]\n1"], 1, "invalid type"),
    ] {
        answer_by_hand(&nats, &raw, bodies).await;
        let mut stream = within(host.open(Target::Any, &chat(1, true), &json)).await.unwrap();
        for i in 0..said {
            assert_eq!(within(stream.next()).await.unwrap().unwrap(), delta(i));
        }
        match within(stream.next()).await {
            None => assert_eq!(why, ""),
            Some(Ok(chunk)) => panic!("{chunk:?} came too much"),
            Some(Err(error)) => {
                assert!(!why.is_empty() && error.to_string().contains(why), "{error}");
                assert!(why == "invalid type" || matches!(error, BusError::Cut { .. }), "{error}");
            }
        }
    }
}
