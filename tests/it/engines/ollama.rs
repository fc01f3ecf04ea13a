//! A real Ollama, if set-up has built one.

use std::time::Duration;

use sidetone::engine::{ChatModel, Ollama, Reach};
use sidetone::home::Home;
use sidetone::process::{ChildSpec, ReadyProbe, Supervised};

use super::{chats, model, need, spec};

#[tokio::test]
async fn a_real_ollama_chats() {
    let program = Home::find(None).bin().join("ollama");
    let Some(weights) = model("smollm2-135m-instruct", "model.gguf") else { return };
    if !need(program.is_file(), "the program ollama") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let port = crate::support::nats::free_port();
    let host = format!("127.0.0.1:{port}");
    let env = vec![
        ("OLLAMA_HOST".into(), host.clone().into()),
        ("OLLAMA_MODELS".into(), dir.path().join("models").into()),
        ("HOME".into(), dir.path().into()),
    ];
    let server = Supervised::start(ChildSpec {
        name: "ollama".into(),
        program: program.clone(),
        args: vec!["serve".into()],
        env: env.clone(),
        ready: ReadyProbe::tcp(host.parse().unwrap()),
        ready_timeout: Duration::from_secs(60),
        install_hint: "run `make setup`".into(),
    })
    .await
    .unwrap();

    // Two threads and any other load make ggml spin.
    let modelfile =
        format!("FROM {}\nPARAMETER num_thread 1\nPARAMETER num_ctx 1024\n", weights.join("model.gguf").display());
    std::fs::write(dir.path().join("Modelfile"), modelfile).unwrap();
    let created = tokio::process::Command::new(&program)
        .args(["create", "smol", "-f"])
        .arg(dir.path().join("Modelfile"))
        .envs(env)
        .output()
        .await
        .unwrap();
    assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stderr));

    let model = Ollama::connect(&spec("ollama", &format!("http://{host}"))).await.unwrap();
    assert_eq!((model.provider(), model.default_model(), model.reach()), ("ollama", "smol:latest", Reach::Host));
    chats(&model).await;
    server.stop(Duration::from_secs(20)).await;
}
