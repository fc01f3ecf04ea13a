//! Both chat clients against servers that misbehave.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt;
use sidetone::engine::{ChatModel, ChatSpec, EngineError, Ollama, OpenAi, Reach, chat_model};
use sidetone::home::Home;
use sidetone::secret::Secret;

use super::rogue::Reply::{Body, Close, Cut, Dribbled, Hang, Stalled};
use super::rogue::{Reply, Rogue};
use super::{answer, ask, spec};

const JSON: &str = "application/json";
const NDJSON: &str = "application/x-ndjson";
const SSE: &str = "text/event-stream";

const TAGS: (&str, Reply) = (
    "/api/tags",
    Body(
        "200 OK",
        JSON,
        r#"{"models":[{"name":"small:latest","modified_at":"x","size":1},{"name":"big:7b","modified_at":"x","size":1}]}"#,
    ),
);
const MODELS: (&str, Reply) = (
    "/v1/models",
    Body("200 OK", JSON, r#"{"object":"list","data":[{"id":"small","object":"model","created":1,"owned_by":"x"}]}"#),
);

async fn ollama(chat: Reply) -> (Rogue, Ollama) {
    let rogue = Rogue::start(vec![TAGS, ("/api/chat", chat)]).await;
    let wanted = ChatSpec { model: Some("small".into()), ..quick("ollama", &rogue.url) };
    let model = Ollama::connect(&wanted).await.expect("the list of models is fine");
    (rogue, model)
}

async fn openai(chat: Reply) -> (Rogue, OpenAi) {
    let rogue = Rogue::start(vec![MODELS, ("/v1/chat/completions", chat)]).await;
    let model =
        OpenAi::connect(&quick("openai", &format!("{}/v1/", rogue.url))).await.expect("the list of models is fine");
    (rogue, model)
}

/// Deadlines that a test can wait for. Nothing in these tests is so slow that a shorter one would be missed by a good
/// server: only those that hang run into them.
fn quick(engine: &str, url: &str) -> ChatSpec {
    let mut spec = spec(engine, url);
    spec.timeouts.first_token = Duration::from_millis(1500);
    spec.timeouts.token = Duration::from_millis(1500);
    spec
}

async fn fails(model: &dyn ChatModel) -> EngineError {
    answer(model, ask("Hello")).await.expect_err("such a server must not pass")
}

macro_rules! assert_error {
    ($error:expr, $kind:ident, $text:expr) => {
        let error = $error;
        assert!(matches!(error, EngineError::$kind(_)), "{error:?}");
        assert!(error.to_string().contains($text), "{error}");
    };
}

const HI: &str = "{\"model\":\"small\",\"created_at\":\"x\",\"message\":{\"role\":\"assistant\",\"content\":\"Grüß \"},\"done\":false}\n\
    {\"model\":\"small\",\"created_at\":\"x\",\"message\":{\"role\":\"assistant\",\"content\":\"dich 🎉\"},\"done\":true,\"done_reason\":\"stop\"}\n";
const HI_CUT: &str = "{\"model\":\"small\",\"created_at\":\"x\",\"message\":{\"role\":\"assistant\",\"content\":\"Hi\"},\"done\":false}\n";

#[tokio::test]
async fn ollama_letters_that_arrive_in_parts_are_whole() {
    let (_rogue, model) = ollama(Dribbled("200 OK", NDJSON, HI)).await;
    let (text, end, _) = answer(&model, ask("Hello")).await.unwrap();
    assert_eq!(text, "Grüß dich 🎉");
    assert_eq!(end.finish, "stop");
}

#[tokio::test]
async fn ollama_that_misbehaves_is_told() {
    assert_error!(fails(&ollama(Hang).await.1).await, Unavailable, "gave no answer in 1500 ms; start it");
    assert_error!(fails(&ollama(Close).await.1).await, Unavailable, "broke off");
    assert_error!(
        fails(&ollama(Stalled("200 OK", NDJSON, HI_CUT)).await.1).await,
        Unavailable,
        "sent nothing for 1500 ms"
    );
    assert_error!(fails(&ollama(Cut("200 OK", NDJSON, HI_CUT)).await.1).await, Unavailable, "broke off");
    assert_error!(
        fails(&ollama(Body("200 OK", NDJSON, HI_CUT)).await.1).await,
        Failed,
        "closed the connection in mid-answer"
    );
    assert_error!(
        fails(&ollama(Body("200 OK", "text/html", "<html>Sign in</html>")).await.1).await,
        Failed,
        "no JSON: <html>Sign in"
    );
    assert_error!(
        fails(&ollama(Body("200 OK", NDJSON, "{\"error\":\"out of memory\"}\n")).await.1).await,
        Failed,
        "failed: out of memory"
    );
    assert_error!(
        fails(&ollama(Body("500 Oops", JSON, "{\"error\":\"crash\"}")).await.1).await,
        Failed,
        "500 Internal Server Error: {\"error\":\"crash\"}"
    );
    assert_error!(fails(&ollama(Body("503 Busy", JSON, "{}")).await.1).await, Unavailable, "is busy");
    let empty = "{\"model\":\"small\",\"created_at\":\"x\",\"message\":{\"role\":\"assistant\",\"content\":\"\"},\"done\":true}\n";
    assert_error!(fails(&ollama(Body("200 OK", NDJSON, empty)).await.1).await, Failed, "empty answer");
    let gone =
        fails(&ollama(Body("404 Not Found", JSON, "{\"error\":\"model 'small:latest' not found\"}")).await.1).await;
    assert_error!(gone, Missing, "has no model \"small:latest\"; offered: small:latest, big:7b");
}

#[tokio::test]
async fn ollama_that_is_none_or_lacks_the_model_does_not_connect() {
    let home = Home::find(None);
    let rogue = Rogue::start(vec![TAGS]).await;
    let wanted = ChatSpec { model: Some("huge".into()), ..quick("ollama", &rogue.url) };
    assert_error!(
        chat_model(&wanted, &home).await.err().unwrap(),
        Missing,
        "has no model \"huge\"; offered: small:latest, big:7b"
    );

    let rogue = Rogue::start(vec![("/", Body("200 OK", "text/html", "<html>nginx</html>"))]).await;
    assert_error!(
        chat_model(&quick("ollama", &rogue.url), &home).await.err().unwrap(),
        Failed,
        "is no Ollama: <html>nginx"
    );

    let refused = chat_model(&quick("ollama", "http://127.0.0.1:9"), &home).await.err().unwrap();
    assert_error!(refused, Unavailable, "Ollama at http://127.0.0.1:9 does not accept a connection");

    let rogue = Rogue::start(vec![("/", Hang)]).await;
    assert_error!(
        chat_model(&quick("ollama", &rogue.url), &home).await.err().unwrap(),
        Unavailable,
        "gave no answer in 1500 ms"
    );
}

#[tokio::test]
async fn ollama_takes_a_model_of_its_cloud_only_by_name() {
    let home = Home::find(None);
    let tags = |body| ("/api/tags", Body("200 OK", JSON, body));
    let show = || ("/api/show", Body("200 OK", JSON, r#"{"capabilities":["completion"]}"#));
    let both = r#"{"models":[{"name":"glm:cloud","modified_at":"x","size":1},{"name":"small:latest","modified_at":"x","size":1}]}"#;
    let rogue = Rogue::start(vec![tags(both), show()]).await;
    let chosen = chat_model(&quick("ollama", &rogue.url), &home).await.unwrap();
    assert_eq!((chosen.default_model(), chosen.reach()), ("small:latest", Reach::Host));
    assert_eq!(chosen.models().await.unwrap(), ["small:latest"]);
    let named = ChatSpec { model: Some("glm:cloud".into()), ..quick("ollama", &rogue.url) };
    let named = chat_model(&named, &home).await.unwrap();
    assert_eq!((named.default_model(), named.reach()), ("glm:cloud", Reach::Outside));
    let only = r#"{"models":[{"name":"glm:cloud","modified_at":"x","size":1}]}"#;
    let rogue = Rogue::start(vec![tags(only), show()]).await;
    let error = chat_model(&quick("ollama", &rogue.url), &home).await.err().unwrap();
    assert_error!(error, Missing, "model = \"glm:cloud\"");
}

#[tokio::test]
async fn auto_takes_what_ollama_has() {
    let show = |can: &'static str| ("/api/show", Body("200 OK", JSON, can));
    let rogue = Rogue::start(vec![TAGS, show(r#"{"capabilities":["completion"]}"#)]).await;
    let wanted = ChatSpec { model: Some("huge".into()), ..quick("auto", &rogue.url) };
    let chosen = chat_model(&wanted, &Home::find(None)).await.unwrap();
    assert_eq!((chosen.provider(), chosen.default_model()), ("ollama", "small:latest"));

    // Only embedding models: then the embedded server it is, whose model is missing here.
    let rogue = Rogue::start(vec![TAGS, show(r#"{"capabilities":["embedding"]}"#)]).await;
    let mut wanted = quick("auto", &rogue.url);
    wanted.llamacpp.path = "nowhere".into();
    assert_error!(chat_model(&wanted, &Home::find(None)).await.err().unwrap(), Missing, "is not at nowhere");
}

const CHUNK: &str = "data: {\"id\":\"1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"small\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Grüß dich 🎉\"},\"finish_reason\":null}]}\n\n";
const WHOLE: &str = concat!(
    "data: {\"id\":\"1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"small\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Grüß dich 🎉\"},\"finish_reason\":null}]}\n\n",
    "data: {\"id\":\"1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"small\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
    "data: {\"id\":\"1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"small\",\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4,\"total_tokens\":7}}\n\n",
    "data: [DONE]\n\n",
);

#[tokio::test]
async fn openai_letters_that_arrive_in_parts_are_whole() {
    let (rogue, model) = openai(Dribbled("200 OK", SSE, WHOLE)).await;
    let (text, end, _) = answer(&model, ask("Hello")).await.unwrap();
    assert_eq!(text, "Grüß dich 🎉");
    assert_eq!((end.finish.as_str(), end.prompt_tokens, end.completion_tokens), ("stop", Some(3), Some(4)));
    assert_eq!(rogue.requests.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn openai_that_misbehaves_is_told_and_not_asked_again() {
    let (rogue, model) = openai(Body("500 Oops", JSON, "{\"error\":\"crash\"}")).await;
    assert_error!(fails(&model).await, Failed, "500 Internal Server Error: {\"error\":\"crash\"}");
    assert_eq!(rogue.requests.load(Ordering::SeqCst), 2, "one for the models, one for the chat");

    assert_error!(fails(&openai(Hang).await.1).await, Unavailable, "gave no answer in 1500 ms");
    assert_error!(fails(&openai(Close).await.1).await, Unavailable, "broke off");
    assert_error!(fails(&openai(Stalled("200 OK", SSE, CHUNK)).await.1).await, Unavailable, "sent nothing for 1500 ms");
    assert_error!(fails(&openai(Cut("200 OK", SSE, CHUNK)).await.1).await, Unavailable, "broke off");
    assert_error!(
        fails(&openai(Body("200 OK", SSE, CHUNK)).await.1).await,
        Failed,
        "closed the connection in mid-answer"
    );
    assert_error!(
        fails(&openai(Body("200 OK", "text/html", "<html>Sign in</html>")).await.1).await,
        Failed,
        "<html>Sign in"
    );
    assert_error!(
        fails(&openai(Body("200 OK", SSE, "data: {\"error\":{\"message\":\"no memory\"}}\n\n")).await.1).await,
        Failed,
        "no memory"
    );
    assert_error!(fails(&openai(Body("200 OK", SSE, "data: {{{\n\n")).await.1).await, Failed, "{{{");
    assert_error!(fails(&openai(Body("429 Slow down", JSON, "{}")).await.1).await, Unavailable, "is busy");
    assert_error!(fails(&openai(Body("401 No", JSON, "bad key")).await.1).await, Missing, "refuses the key (bad key)");
    assert_error!(fails(&openai(Body("404 Not Found", JSON, "lost")).await.1).await, Failed, "answered 404: lost");
}

#[tokio::test]
async fn openai_lacks_the_model_or_the_key() {
    let home = Home::find(None);
    let rogue = Rogue::start(vec![MODELS]).await;
    let url = format!("{}/v1", rogue.url);
    let wanted = ChatSpec { model: Some("huge".into()), ..quick("openai", &url) };
    assert_error!(chat_model(&wanted, &home).await.err().unwrap(), Missing, "has no model \"huge\"; offered: small");

    let wanted = ChatSpec { key: Some(Secret::new("sk-1\n2")), ..quick("openai", &url) };
    let error = chat_model(&wanted, &home).await.err().unwrap();
    assert!(!error.to_string().contains("sk-1"), "{error}");
    assert_error!(error, Invalid, "is no key");

    let (_rogue, model) = openai(Body("404 Not Found", JSON, "{}")).await;
    let unknown = sidetone::engine::ChatRequest { model: Some("huge".into()), ..ask("Hello") };
    assert_error!(answer(&model, unknown).await.unwrap_err(), Missing, "has no model \"huge\"; offered: small");
}

#[tokio::test]
async fn dropping_an_answer_closes_the_connection() {
    let (mut rogue, model) = openai(Stalled("200 OK", SSE, CHUNK)).await;
    let mut stream = model.chat(ask("Hello")).await.unwrap();
    assert!(stream.next().await.unwrap().is_ok());
    drop(stream);
    rogue.abandoned.wait_for(|count| *count == 1).await.unwrap();

    let (mut rogue, model) = ollama(Stalled("200 OK", NDJSON, HI_CUT)).await;
    let mut stream = model.chat(ask("Hello")).await.unwrap();
    assert!(stream.next().await.unwrap().is_ok());
    drop(stream);
    rogue.abandoned.wait_for(|count| *count == 1).await.unwrap();
}
