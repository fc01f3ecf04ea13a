//! The bus on a real server.

mod ask;
mod claim;
mod clip;
mod embedded;
mod jobs;
mod listen;
mod malformed;
mod outage;
mod pack;
mod session;
mod stock_cli;
mod stream;

use std::time::Duration;

use sidetone::bus::message::fault::{Fault, FaultCode};
use sidetone::bus::message::llm::{self, Answer, Chat, ChatMessage, Done};
use sidetone::bus::message::{Ask, Message as _, stt, tts};
use sidetone::bus::service::{Incoming, Server, ServiceSpec};
use sidetone::bus::{Bus, BusError, Call};

/// More than any test takes: nothing here ends by it, unless a test says so.
const LONG: Duration = Duration::from_secs(300);

fn call() -> Call {
    Call::within(LONG)
}

/// Opens a service for the capability of `A`.
async fn open<A: Ask>(bus: &Bus, models: &[&str], slots: usize) -> Server {
    let spec = ServiceSpec {
        capability: A::VERB.capability,
        about: "a test",
        engine: "test".to_owned(),
        models: models.iter().map(|&model| model.to_owned()).collect(),
        slots,
    };
    bus.service(spec).await.unwrap()
}

/// Serves `A` with `handler`; the service lives as long as what is given back.
async fn serve<A, F, R>(bus: &Bus, slots: usize, handler: F) -> Server
where
    A: Ask,
    F: Fn(Incoming<A>) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Result<A::Reply, Fault>> + Send + 'static,
{
    let server = open::<A>(bus, &["small:1b"], slots).await;
    server.serve::<A, F, R>(handler).await.unwrap();
    server.ready().await.unwrap();
    server
}

/// Serves `stt.request` by saying which host it was and how large the file was.
async fn serve_stt(bus: &Bus, slots: usize) -> Server {
    let node = bus.node().to_owned();
    serve(bus, slots, move |incoming: Incoming<stt::Request>| {
        let node = node.clone();
        async move { Ok(transcript(&node, &incoming.request)) }
    })
    .await
}

fn transcript(node: &str, request: &stt::Request) -> stt::Transcript {
    let bytes = request.file.as_ref().map_or(0, |file| file.0.len());
    stt::Transcript { text: format!("{bytes} bytes"), model: node.to_owned(), ..stt::Transcript::example() }
}

/// Serves `llm.chat` by as many deltas as the message says, then the summary.
async fn serve_llm(bus: &Bus) -> Server {
    serve(bus, 8, |incoming: Incoming<Chat>| async move {
        let deltas: usize = incoming.request.messages[0].content.parse().map_err(|_| Fault::invalid("no number"))?;
        for i in 0..deltas {
            incoming.replies.send(&delta(i)).await?;
        }
        Ok(summary())
    })
    .await
}

/// Serves `tts.stream` by as many chunks as the text says.
async fn serve_tts(bus: &Bus) -> Server {
    serve(bus, 8, |incoming: Incoming<tts::Stream>| async move {
        let chunks: usize = incoming.request.0.text.parse().map_err(|_| Fault::invalid("no number"))?;
        for _ in 0..chunks {
            incoming.replies.send(&tts::Chunk::default()).await?;
        }
        Ok(tts::Chunk::example())
    })
    .await
}

fn chat(deltas: usize, stream: bool) -> Chat {
    let messages = vec![ChatMessage::new(llm::Role::User, deltas.to_string())];
    Chat { messages, stream, model: None, ..Chat::example() }
}

fn speak(chunks: usize) -> tts::Stream {
    tts::Stream(tts::Say { text: chunks.to_string(), ..tts::Say::default() })
}

fn delta(i: usize) -> Answer {
    Answer { text: i.to_string(), done: None }
}

fn summary() -> Answer {
    Answer { text: "all".to_owned(), done: Some(Done { model: "small:1b".to_owned(), ..done() }) }
}

fn done() -> Done {
    Answer::example().done.unwrap()
}

#[track_caller]
fn code<T: std::fmt::Debug>(result: Result<T, BusError>) -> FaultCode {
    match result {
        Err(BusError::Fault(fault)) => fault.code,
        other => panic!("not a fault: {other:?}"),
    }
}
