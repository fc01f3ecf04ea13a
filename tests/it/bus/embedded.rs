//! The server that a host starts for itself.

use std::time::Duration;

use sidetone::bus::message::session::What;
use sidetone::bus::session::{SessionLog, history};
use sidetone::bus::subject::Target;
use sidetone::bus::{Bus, BusError, embedded};
use sidetone::home::Home;
use sidetone::process::ChildState;

use super::{LONG, call, chat, serve_llm};
use crate::support::nats::{eventually, free_port, program, within};

/// A home of its own that has the real program.
fn home() -> Option<(tempfile::TempDir, Home)> {
    let program = program("nats-server")?;
    let folder = tempfile::TempDir::new().unwrap();
    std::fs::create_dir(folder.path().join("bin")).unwrap();
    std::os::unix::fs::symlink(program, folder.path().join("bin/nats-server")).unwrap();
    let home = Home::find(Some(folder.path()));
    Some((folder, home))
}

#[tokio::test(flavor = "multi_thread")]
async fn it_comes_back_on_its_port_with_its_store() {
    let Some((_folder, home)) = home() else { return };
    let port = free_port();
    let server = within(embedded::start(&home, port)).await.unwrap();
    let bus = within(Bus::connect(&embedded::url(port), "studio")).await.unwrap();
    assert!(bus.server().contains(&format!("127.0.0.1:{port}")), "{}", bus.server());
    assert!(!bus.needs_clip(7 << 20), "a WAV of some length goes into one message");
    let _llm = serve_llm(&bus).await;
    let log = within(SessionLog::start(&bus)).await.unwrap();
    let say = |text: &str| What::Reply { text: text.to_owned(), model: None };
    within(log.append("s", None, say("before"))).await;
    assert!(within(log.flush(LONG)).await);

    let ChildState::Ready { pid } = *server.state().borrow() else { panic!("not ready") };
    let lost = bus.lost();
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    within(lost).await;
    within(log.append("s", None, say("meanwhile"))).await;
    within(server.ready(LONG)).await.unwrap();
    assert!(within(log.flush(LONG)).await);
    assert_eq!(within(history(&bus, "s", 9)).await.unwrap().len(), 2);
    eventually(|| async { bus.ask(Target::Any, &chat(1, false), &call()).await.ok() }).await;

    drop((bus, log));
    within(server.stop(Duration::from_secs(10))).await;
    // Stopped, its port and its store are free again.
    let server = within(embedded::start(&home, port)).await.unwrap();
    let bus = within(Bus::connect(&embedded::url(port), "studio")).await.unwrap();
    assert_eq!(within(history(&bus, "s", 9)).await.unwrap().len(), 2);
    within(server.stop(Duration::from_secs(10))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_or_a_store_that_is_taken_is_named() {
    let Some((_folder, home)) = home() else { return };
    let port = free_port();
    let server = within(embedded::start(&home, port)).await.unwrap();
    let error = within(embedded::start(&home, port)).await.unwrap_err();
    assert!(matches!(&error, BusError::Connect { .. }));
    assert!(error.to_string().contains(&format!("port {port} is taken")), "{error}");
    let error = within(embedded::start(&home, free_port())).await.unwrap_err();
    assert!(error.to_string().contains("is in use by another host on this machine"), "{error}");
    within(server.stop(Duration::from_secs(10))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_program_is_named() {
    let folder = tempfile::TempDir::new().unwrap();
    std::fs::create_dir(folder.path().join("bin")).unwrap();
    std::fs::write(folder.path().join("bin/nats-server"), "not a program").unwrap();
    let home = Home::find(Some(folder.path()));
    let error = within(embedded::start(&home, free_port())).await.unwrap_err();
    assert!(error.to_string().contains("nats-server"), "{error}");
}
