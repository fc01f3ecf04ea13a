use std::io::Write as _;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::*;

fn shell(script: &str, ready: ReadyProbe) -> ChildSpec {
    ChildSpec {
        name: "test".into(),
        program: "sh".into(),
        args: vec!["-c".into(), script.into()],
        env: vec![],
        ready,
        ready_timeout: Duration::from_secs(20),
        install_hint: "install sh".into(),
    }
}

fn at_once() -> ReadyProbe {
    ReadyProbe::new(|| async { true })
}

fn file_exists(path: std::path::PathBuf) -> ReadyProbe {
    ReadyProbe::new(move || std::future::ready(path.exists()))
}

fn is_alive(pid: u32) -> bool {
    // A zombie whose parent has not looked yet still has a folder, so ask for its state.
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !matches!(stat.rsplit(')').next().map(str::trim_start), Some(rest) if rest.starts_with('Z')))
}

async fn until_gone(pid: u32) {
    timeout(Duration::from_secs(20), async {
        while is_alive(pid) {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("the process must end");
}

fn pid_of(child: &Supervised) -> u32 {
    match *child.state().borrow() {
        ChildState::Ready { pid } => pid,
        ref other => panic!("not ready: {other:?}"),
    }
}

#[tokio::test]
async fn a_missing_program_says_what_to_install() {
    let spec = ChildSpec { program: "/nowhere/nats-server".into(), ..shell("", at_once()) };
    let error = Supervised::start(spec).await.expect_err("it is not there");
    assert_eq!(error.to_string(), "cannot start test: there is no program /nowhere/nats-server; install sh");
}

#[tokio::test]
async fn a_program_that_may_not_run_is_told_apart_from_a_missing_one() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"#!/bin/sh\n").unwrap();
    let spec = ChildSpec { program: file.path().into(), ..shell("", at_once()) };
    let error = Supervised::start(spec).await.expect_err("it is not executable");
    assert!(matches!(error, ProcessError::Spawn { .. }), "{error}");
    assert!(error.to_string().contains("ermission"), "{error}");
}

#[tokio::test]
async fn an_early_exit_gives_the_last_words() {
    let never = ReadyProbe::new(|| async { false });
    let script = "for i in 1 2 3 4 5 6 7 8 9; do echo line $i >&2; done; echo no such port >&2; exit 3";
    let error = Supervised::start(shell(script, never)).await.expect_err("it exits");
    let ProcessError::Exited { status, tail, .. } = &error else { panic!("{error}") };
    assert_eq!(status, "exit status: 3");
    assert_eq!(tail.len(), 8);
    assert_eq!(tail.last().map(String::as_str), Some("no such port"));
}

#[tokio::test]
async fn not_ready_in_time_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pid");
    let written = path.clone();
    // The deadline is short, so it must not begin before the process has written its number.
    let never = ReadyProbe::new(|| async { false });
    let script = format!("echo $$ > {0}.tmp; mv {0}.tmp {0}; echo waiting; exec sleep 600", path.display());
    let spec = ChildSpec { ready_timeout: Duration::from_millis(400), ..shell(&script, never) };
    let error = Supervised::start(spec).await.expect_err("it never is ready");
    assert!(matches!(error, ProcessError::NotReady { .. }), "{error}");
    if let Ok(pid) = std::fs::read_to_string(written) {
        until_gone(pid.trim().parse().unwrap()).await;
    }
}

#[tokio::test]
async fn it_restarts_after_a_crash_and_says_why() {
    let child = Supervised::start(shell("echo alive; sleep 600 & wait", at_once())).await.unwrap();
    let mut state = child.state();
    let first = pid_of(&child);
    kill(first);
    let why = match &*state.wait_for(|state| matches!(state, ChildState::Restarting { .. })).await.unwrap() {
        ChildState::Restarting { why } => why.clone(),
        other => panic!("{other:?}"),
    };
    assert!(why.contains("signal: 9"), "{why}");
    state.wait_for(|state| matches!(state, ChildState::Ready { .. })).await.unwrap();
    assert_ne!(pid_of(&child), first);
    child.ready(Duration::from_secs(1)).await.unwrap();
    assert_eq!(child.stop(Duration::from_secs(20)).await, StopOutcome::Terminated);
    assert_eq!(*state.wait_for(|state| *state == ChildState::Stopped).await.unwrap(), ChildState::Stopped);
}

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[tokio::test]
async fn a_start_that_fails_later_on_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let mark = dir.path().join("mark");
    // The first run is ready, the second exits at once, the third is ready.
    let script = format!(
        "n=$(cat {0} 2>/dev/null | wc -c); printf x >> {0}; [ $n = 1 ] && exit 7; touch {0}.$n; exec sleep 600",
        mark.display()
    );
    let probe_dir = dir.path().to_path_buf();
    let ready = ReadyProbe::new(move || {
        let runs = std::fs::read(probe_dir.join("mark")).map_or(0, |runs| runs.len());
        std::future::ready(runs > 0 && probe_dir.join(format!("mark.{}", runs - 1)).exists())
    });
    let child = Supervised::start(shell(&script, ready)).await.unwrap();
    let mut state = child.state();
    kill(pid_of(&child));
    state.wait_for(|state| matches!(state, ChildState::Restarting { why } if why.contains("status: 7"))).await.unwrap();
    state.wait_for(|state| matches!(state, ChildState::Ready { .. })).await.unwrap();
    assert_eq!(std::fs::read(&mark).unwrap(), b"xxx");
}

#[tokio::test]
async fn one_that_ignores_sigterm_is_killed_with_its_children() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pid");
    let script =
        format!("trap '' TERM; sleep 600 & echo $! > {0}.tmp; mv {0}.tmp {0}; while :; do wait; done", path.display());
    let child = Supervised::start(shell(&script, file_exists(path.clone()))).await.unwrap();
    let (parent, grandchild) = (pid_of(&child), std::fs::read_to_string(&path).unwrap().trim().parse().unwrap());
    assert_eq!(child.stop(Duration::from_millis(100)).await, StopOutcome::Killed);
    until_gone(parent).await;
    until_gone(grandchild).await;
}

#[tokio::test]
async fn dropping_it_ends_the_child() {
    let child = Supervised::start(shell("exec sleep 600", at_once())).await.unwrap();
    let pid = pid_of(&child);
    assert!(is_alive(pid));
    drop(child);
    until_gone(pid).await;
}

#[test]
fn a_runtime_that_goes_away_takes_the_child_with_it() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let child = runtime.block_on(Supervised::start(shell("exec sleep 600", at_once()))).unwrap();
    let pid = pid_of(&child);
    runtime.shutdown_timeout(Duration::from_secs(20));
    tokio::runtime::Runtime::new().unwrap().block_on(until_gone(pid));
    drop(child);
}

#[test]
fn a_child_outlives_the_thread_that_asked_for_it() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let handle = runtime.handle().clone();
    let child = std::thread::spawn(move || handle.block_on(Supervised::start(shell("exec sleep 600", at_once()))))
        .join()
        .unwrap()
        .unwrap();
    let pid = pid_of(&child);
    runtime.block_on(async {
        // Were it tied to that thread, SIGTERM would have come before this second child is up.
        Supervised::start(shell("exec sleep 600", at_once())).await.unwrap().stop(Duration::from_secs(20)).await;
        assert!(is_alive(pid));
        assert_eq!(*child.state().borrow(), ChildState::Ready { pid });
        child.stop(Duration::from_secs(20)).await;
    });
}

/// Runs itself again as the parent of a child that ignores its standard input, and kills that parent.
#[tokio::test]
async fn a_parent_that_is_killed_takes_the_child_with_it() {
    const AS_PARENT: &str = "SIDETONE_TEST_PID_FILE";
    if let Some(path) = std::env::var_os(AS_PARENT) {
        let child = Supervised::start(shell("exec sleep 600", at_once())).await.unwrap();
        std::fs::write(path, pid_of(&child).to_string()).unwrap();
        return std::future::pending().await;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pid");
    let mut parent = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "process::tests::a_parent_that_is_killed_takes_the_child_with_it"])
        .env(AS_PARENT, &path)
        .stdout(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let pid = timeout(Duration::from_secs(20), async {
        loop {
            match std::fs::read_to_string(&path).ok().and_then(|pid| pid.parse().ok()) {
                Some(pid) => return pid,
                None => sleep(Duration::from_millis(5)).await,
            }
        }
    });
    let pid = pid.await.expect("the parent must start its child");
    assert!(is_alive(pid));
    parent.kill().await.unwrap();
    until_gone(pid).await;
}

#[tokio::test]
async fn its_standard_input_stays_open() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("up");
    let script = format!("touch {}; read line; echo input ended", path.display());
    let child = Supervised::start(shell(&script, file_exists(path))).await.unwrap();
    assert!(matches!(*child.state().borrow(), ChildState::Ready { .. }));
    assert_eq!(child.stop(Duration::from_secs(20)).await, StopOutcome::Terminated);
}
