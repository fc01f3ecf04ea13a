//! The engines with real models and real servers, and chat providers that misbehave.

// clippy.toml allows these in test functions; what they share is test code as well.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

#[cfg(feature = "whisper")]
mod hear;
mod llamacpp;
mod ollama;
mod providers;
pub mod rogue;
#[cfg(all(feature = "sherpa", feature = "whisper"))]
mod speak;

use std::time::Duration;

use futures::StreamExt;
use sidetone::engine::{
    ChatDelta, ChatEnd, ChatMessage, ChatModel, ChatRequest, ChatRole, ChatSpec, ChatTimeouts, EngineError,
    LlamaCppSpec,
};
use sidetone::home::Home;

use crate::support::{model, need};

#[cfg(feature = "whisper")]
fn whisper(slots: usize) -> Option<sidetone::engine::Whisper> {
    let path = model("whisper-tiny.en", "model.bin")?;
    let spec = sidetone::engine::RecognizerSpec {
        model: "whisper-tiny.en".into(),
        path,
        language: Some("en-GB".into()),
        threads: 1,
        slots,
    };
    Some(sidetone::engine::Whisper::load(&spec).expect("the model must load"))
}

/// A chat provider at `url`, with short deadlines where a test waits for one.
fn spec(engine: &str, url: &str) -> ChatSpec {
    let llamacpp = LlamaCppSpec {
        model: "smollm2-135m-instruct".into(),
        path: Home::find(None).models().join("smollm2-135m-instruct"),
        threads: 1,
        context_tokens: 1024,
        load_timeout: Duration::from_secs(60),
    };
    let timeouts = ChatTimeouts {
        connect: Duration::from_secs(5),
        first_token: Duration::from_secs(60),
        token: Duration::from_secs(30),
    };
    ChatSpec { engine: engine.into(), url: Some(url.into()), model: None, key: None, timeouts, llamacpp }
}

fn ask(text: &str) -> ChatRequest {
    let messages = vec![ChatMessage { role: ChatRole::User, content: text.into() }];
    ChatRequest { messages, temperature: Some(0.0), max_tokens: Some(40), ..ChatRequest::default() }
}

/// The whole answer, how it ended, and in how many pieces it came.
async fn answer(model: &dyn ChatModel, request: ChatRequest) -> Result<(String, ChatEnd, usize), EngineError> {
    let mut stream = model.chat(request).await?;
    let (mut text, mut end, mut pieces) = (String::new(), None, 0);
    while let Some(item) = stream.next().await {
        match item? {
            ChatDelta::Text(more) => {
                assert!(end.is_none(), "text after the end");
                text.push_str(&more);
                pieces += 1;
            }
            ChatDelta::Done(how) => end = Some(how),
        }
    }
    Ok((text, end.expect("a stream without error has an end"), pieces))
}

/// A question, a schema, an unknown model and a limit: what every provider must do alike.
async fn chats(model: &dyn ChatModel) {
    model.warm().await.expect("it must load its model");
    assert!(model.models().await.unwrap().contains(&model.default_model().to_owned()));

    let (text, end, pieces) = answer(model, ask("Say hello.")).await.unwrap();
    assert!(!text.trim().is_empty());
    assert!(pieces > 1, "the answer must come in pieces");
    assert!(end.completion_tokens.is_some_and(|tokens| tokens > 0), "{end:?}");
    assert_eq!(end.model, model.default_model());

    let (_, end, _) = answer(model, ChatRequest { max_tokens: Some(3), ..ask("Count to one hundred.") }).await.unwrap();
    assert_eq!(end.finish, "length");

    let schema = serde_json::json!({
        "type": "object",
        "properties": { "colour": { "enum": ["red", "blue"] } },
        "required": ["colour"],
    });
    let (text, ..) =
        answer(model, ChatRequest { format: Some(schema), ..ask("What colour is the sky?") }).await.unwrap();
    let value: serde_json::Value = serde_json::from_str(&text).expect("JSON was asked for");
    assert!(matches!(value["colour"].as_str(), Some("red" | "blue")), "{text}");

    let read = model.read_ahead(ask("Say hello, and then")).await.unwrap().expect("it is no cloud");
    assert!(read.prompt_tokens.is_some_and(|tokens| tokens > 0), "{read:?}");

    let unknown = ChatRequest { model: Some("no-such-model".into()), ..ask("Hello") };
    let error = answer(model, unknown).await.unwrap_err();
    assert!(matches!(error, EngineError::Missing(_)), "{error}");
    assert!(error.to_string().contains(model.default_model()), "{error}");
}
