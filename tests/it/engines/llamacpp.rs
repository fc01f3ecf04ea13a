use std::time::Duration;

use futures::StreamExt;
use sidetone::engine::{ChatMessage, ChatModel, ChatRequest, ChatRole, EngineError, LlamaCpp, Reach, chat_model};
use sidetone::home::Home;
use sidetone::process::{ChildState, StopOutcome};

use super::{answer, ask, chats, model, need, spec};

async fn server() -> Option<LlamaCpp> {
    model("smollm2-135m-instruct", "model.gguf")?;
    let home = Home::find(None);
    if !need(home.python().is_file(), "the Python environment with xllamacpp") {
        return None;
    }
    let spec = spec("llamacpp", "");
    Some(LlamaCpp::start(&spec.llamacpp, spec.timeouts, &home).await.expect("the server must start"))
}

#[tokio::test]
async fn the_embedded_server_chats() {
    let Some(server) = server().await else { return };
    assert_eq!((server.provider(), server.reach()), ("llama.cpp", Reach::Host));
    chats(&server).await;
    assert_eq!(server.stop(Duration::from_secs(20)).await, StopOutcome::Terminated);
}

#[tokio::test]
async fn more_than_its_context_holds_is_told() {
    let Some(server) = server().await else { return };
    let error = answer(&server, ask(&"What do you think of that? ".repeat(400))).await.unwrap_err();
    assert!(matches!(error, EngineError::TooLarge(_)), "{error}");
    answer(&server, ask("Say hello.")).await.unwrap();
}

#[tokio::test]
async fn what_was_read_ahead_is_not_read_again() {
    let Some(server) = server().await else { return };
    let say = |role, text: &str| ChatMessage { role, content: text.repeat(20) };
    let mut talk = vec![say(ChatRole::User, "What is that? "), say(ChatRole::Assistant, "It is a green lamp. ")];
    let read = ChatRequest { messages: talk.clone(), ..ask("") };
    let ahead = server.read_ahead(read).await.unwrap().expect("it says what it has read");
    let tokens = ahead.prompt_tokens.unwrap();
    assert!(tokens > 200 && ahead.cached_tokens.unwrap() < 20, "{ahead:?}");
    talk.extend(ask("And that?").messages);
    let (_, end, _) = answer(&server, ChatRequest { messages: talk, ..ask("") }).await.unwrap();
    assert!(end.cached_tokens.unwrap() + 4 > tokens, "{end:?} after {ahead:?}");
    assert!(end.prompt_tokens.unwrap() > tokens, "{end:?} after {ahead:?}");
}

#[tokio::test]
async fn a_dropped_answer_frees_the_server() {
    let Some(server) = server().await else { return };
    let long = ChatRequest { max_tokens: Some(900), ..ask("Tell a very long story.") };
    let mut stream = server.chat(long).await.unwrap();
    stream.next().await.unwrap().unwrap();
    drop(stream);
    // The server does one thing at a time, so this waits for the end of the story unless that was stopped.
    let (_, end, _) = answer(&server, ask("Say hello.")).await.unwrap();
    assert!(end.completion_tokens.is_some());
}

#[tokio::test]
async fn a_server_that_dies_comes_back() {
    let Some(server) = server().await else { return };
    let mut state = server.server().state();
    let ChildState::Ready { pid } = *state.borrow() else { panic!("it was ready") };
    let mut stream = server.chat(ask("Tell a very long story.")).await.unwrap();
    stream.next().await.unwrap().unwrap();
    let process = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::KILL).unwrap();
    // The rest of the answer may have been sent before; otherwise it is an error, never a short answer.
    let rest: Vec<_> = stream.collect().await;
    match rest.last() {
        Some(Err(error)) => assert!(matches!(error, EngineError::Unavailable(_) | EngineError::Failed(_)), "{error}"),
        Some(Ok(sidetone::engine::ChatDelta::Done(_))) => {}
        other => panic!("{other:?}"),
    }
    state.wait_for(|state| matches!(state, ChildState::Ready { pid: new } if *new != pid)).await.unwrap();
    answer(&server, ask("Say hello.")).await.unwrap();
}

#[tokio::test]
async fn what_is_missing_or_broken_is_said() {
    let mut wanted = spec("llamacpp", "");
    let dir = tempfile::tempdir().unwrap();
    wanted.llamacpp.path = dir.path().into();
    let error = chat_model(&wanted, &Home::find(None)).await.err().unwrap();
    assert!(matches!(error, EngineError::Missing(_)));
    assert!(error.to_string().ends_with("`sidetone models fetch smollm2-135m-instruct`"), "{error}");

    let file = dir.path().join("model.gguf");
    std::fs::write(&file, "<html>").unwrap();
    let error = chat_model(&wanted, &Home::find(Some(dir.path()))).await.err().unwrap();
    assert!(matches!(error, EngineError::Missing(_)));
    assert!(error.to_string().contains("run `make setup`"), "{error}");

    if need(Home::find(None).python().is_file(), "the Python environment with xllamacpp") {
        let error = chat_model(&wanted, &Home::find(None)).await.err().unwrap();
        assert!(matches!(error, EngineError::Failed(_)), "{error}");
        assert!(error.to_string().contains("llama.cpp ended before it was ready"), "{error}");
    }
}

#[tokio::test]
async fn auto_takes_it_when_no_ollama_is_there() {
    if model("smollm2-135m-instruct", "model.gguf").is_none()
        || !need(Home::find(None).python().is_file(), "the Python environment with xllamacpp")
    {
        return;
    }
    // Port 9 (discard) is refused at once.
    let chosen = chat_model(&spec("auto", "http://127.0.0.1:9"), &Home::find(None)).await.unwrap();
    assert_eq!(chosen.provider(), "llama.cpp");
    let error = chat_model(&spec("auto", "ollama-host"), &Home::find(None)).await.err().unwrap();
    assert!(matches!(error, EngineError::Invalid(_)), "{error}");
}
