//! Phonemes by [espeak-ng](https://github.com/espeak-ng/espeak-ng), which runs as its own process: it is under the GPL.
//!
//! Starting it takes 30 ms, a clause 1.5 ms. So one process is kept and fed line by line. What belongs to a line is told
//! by a marker: a line of its own behind it, whose phonemes are learnt at the start. An answer that does not come, or a
//! process that died, costs one fresh process for that clause and another for the next.
//!
//! A machine that starts much at once may keep a process waiting for many times that. The first answer therefore has the
//! time that a start has, and a process that stays silent for long is replaced meanwhile.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, memfd_create};
use unicode_normalization::UnicodeNormalization;

use super::EngineError;

/// How long one answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the first answer may take, one process after the other: a minute in all.
const START_TIMEOUTS: &[Duration] = &[Duration::from_secs(5), Duration::from_secs(15), Duration::from_secs(40)];
/// Lines read ahead; the process waits when there are more.
const LINES: usize = 64;
/// A line that no text has in it.
const MARKER: &str = "qzxqzx";
/// How much of its complaints is repeated, in bytes.
const COMPLAINT_MAX: u64 = 300;

/// A phonemizer for one of espeak-ng's voices.
pub(super) struct Espeak {
    program: PathBuf,
    voice: String,
    warm: Mutex<Option<Process>>,
}

/// Why a process gave no phonemes.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("there is no {}", .0.display())]
    NotInstalled(PathBuf),
    #[error("it does not start: {0}")]
    Start(std::io::Error),
    #[error("no answer in {} ms", .0.as_millis())]
    Silent(Duration),
    #[error("it ended with {status} and {}", complaint(.said))]
    Ended { status: ExitStatus, said: String },
    #[error("its end can't be awaited: {0}")]
    Wait(std::io::Error),
}

/// What a process said before it ended.
fn complaint(said: &str) -> String {
    if said.is_empty() { "said nothing".to_owned() } else { format!("said {said:?}") }
}

impl Espeak {
    /// Starts espeak-ng for `voice`, such as `en-us`. Takes a minute at most.
    ///
    /// # Errors
    /// [`EngineError::Missing`] when it is not installed or does not know the voice, [`EngineError::Unavailable`] when it
    /// does not answer.
    pub(super) fn new(program: impl Into<PathBuf>, voice: &str) -> Result<Self, EngineError> {
        Self::start(program.into(), voice, START_TIMEOUTS)
    }

    /// As [`new`](Self::new), with a time for each process that is tried.
    fn start(program: PathBuf, voice: &str, timeouts: &[Duration]) -> Result<Self, EngineError> {
        let espeak = Self { program, voice: voice.to_owned(), warm: Mutex::new(None) };
        let marker = espeak.marker(timeouts)?;
        let longest = timeouts.iter().max().copied().unwrap_or(ANSWER_TIMEOUT);
        *espeak.warm.lock().unwrap_or_else(PoisonError::into_inner) = espeak.warm_up(&marker, longest);
        Ok(espeak)
    }

    /// The phonemes of the marker, by the first process that gives them within its time.
    fn marker(&self, timeouts: &[Duration]) -> Result<Vec<String>, EngineError> {
        let mut waited = Duration::ZERO;
        for timeout in timeouts {
            match self.fresh(MARKER, *timeout) {
                Ok(marker) => return Ok(marker),
                Err(Failure::Silent(_)) => {
                    waited += *timeout;
                    tracing::warn!(voice = self.voice, ?timeout, "espeak-ng gives no answer yet; asking a fresh one");
                }
                Err(failure) => return Err(self.at_start(&failure)),
            }
        }
        Err(EngineError::Unavailable(format!(
            "{} in {} s, of {} processes one after the other: the machine may be too busy; see whether `{}` answers at once, \
             and start the host again",
            self.no_phonemes("no answer"),
            waited.as_secs_f32().ceil(),
            timeouts.len(),
            self.by_hand(),
        )))
    }

    /// What is to be done about an espeak-ng that is of no use from the start.
    fn at_start(&self, failure: &Failure) -> EngineError {
        let hint = match failure {
            Failure::Ended { status, .. } if status.success() => format!(
                "`{}` must print phonemes: install espeak-ng 1.50 or newer, such as by `apt install espeak-ng`",
                self.by_hand()
            ),
            Failure::Ended { .. } => {
                "`espeak-ng --voices` lists those it has; a newer espeak-ng has more, or choose another voice by tts.voices"
                    .to_owned()
            }
            _ => return self.error(failure),
        };
        EngineError::Missing(format!("{}; {hint}", self.no_phonemes(failure)))
    }

    fn error(&self, failure: &Failure) -> EngineError {
        match failure {
            Failure::NotInstalled(_) => {
                EngineError::Missing(format!("{failure}; install it, such as by `apt install espeak-ng`"))
            }
            Failure::Silent(_) => EngineError::Unavailable(self.no_phonemes(failure)),
            Failure::Start(_) | Failure::Ended { .. } | Failure::Wait(_) => {
                EngineError::Failed(self.no_phonemes(failure))
            }
        }
    }

    fn no_phonemes(&self, why: impl std::fmt::Display) -> String {
        format!("espeak-ng gives no phonemes for the voice {:?}: {why}", self.voice)
    }

    /// A command that shows a person the same.
    fn by_hand(&self) -> String {
        format!("echo hello | {} -q --ipa -v {}", self.program.display(), self.voice)
    }

    /// The phonemes of one clause (IPA, decomposed as the voices want it), without punctuation.
    ///
    /// # Errors
    /// [`EngineError::Missing`] when espeak-ng is gone, [`EngineError::Unavailable`] when it gives no answer in time,
    /// [`EngineError::Failed`] when it ends without one.
    pub(super) fn phonemes(&self, clause: &str) -> Result<String, EngineError> {
        let line = clean(clause);
        let mut warm = self.warm.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(process) = warm.as_mut() {
            match process.ask(&line, ANSWER_TIMEOUT) {
                Some(lines) => return Ok(tidy(&lines)),
                None => tracing::warn!(voice = self.voice, "espeak-ng gave no answer; starting it anew"),
            }
        }
        *warm = None;
        let fresh = |line: &str| self.fresh(line, ANSWER_TIMEOUT).map_err(|failure| self.error(&failure));
        let lines = fresh(&line)?;
        let marker = fresh(MARKER)?;
        *warm = self.warm_up(&marker, ANSWER_TIMEOUT);
        Ok(tidy(&lines))
    }

    /// A process that is kept; `None` when it does not answer line by line, which costs time but nothing else.
    fn warm_up(&self, marker: &[String], timeout: Duration) -> Option<Process> {
        let mut process = Process::start(&self.program, &self.voice, Stdio::null()).ok()?;
        process.marker = marker.to_vec();
        process.ask("", timeout).map(|_| process)
    }

    /// The answer of a process for this line alone, within `timeout`.
    fn fresh(&self, line: &str, timeout: Duration) -> Result<Vec<String>, Failure> {
        let mut complaints =
            File::from(memfd_create("espeak-ng", MemfdFlags::CLOEXEC).map_err(|error| Failure::Start(error.into()))?);
        let stderr = Stdio::from(complaints.try_clone().map_err(Failure::Start)?);
        let started = Process::start(&self.program, &self.voice, stderr).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Failure::NotInstalled(self.program.clone()),
            _ => Failure::Start(error),
        });
        let mut process = started?;
        // A process that ended already (an unknown voice) says why below.
        let _ = writeln!(process.stdin, "{line}");
        let Process { stdin, lines, mut child, .. } = process;
        drop(stdin);
        let deadline = Instant::now() + timeout;
        let mut answer = vec![];
        loop {
            match lines.0.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => answer.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => return Err(Failure::Silent(timeout)),
            }
        }
        let status = child.0.wait().map_err(Failure::Wait)?;
        if status.success() && !(answer.is_empty() && line == MARKER) {
            return Ok(answer);
        }
        let mut said = Vec::new();
        // What can't be read was not said.
        let _ = complaints.rewind().and_then(|()| complaints.take(COMPLAINT_MAX).read_to_end(&mut said));
        Err(Failure::Ended { status, said: String::from_utf8_lossy(&said).trim().to_owned() })
    }
}

/// A running espeak-ng. It ends when its standard input closes, and thus with this process too.
struct Process {
    stdin: ChildStdin,
    lines: Lines,
    marker: Vec<String>,
    child: Reaped,
}

struct Lines(Receiver<String>);

/// A child that is killed and waited for when dropped.
struct Reaped(Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        // Both fail only when it has ended and been waited for already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    fn start(program: &PathBuf, voice: &str, stderr: Stdio) -> std::io::Result<Self> {
        let mut child = Command::new(program)
            .args(["-q", "--ipa", "-b", "1", "-v", voice])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(stderr)
            // Ctrl-C is for us: what is being said while we stop still needs phonemes.
            .process_group(0)
            .spawn()?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let child = Reaped(child);
        let (Some(stdin), Some(stdout)) = (stdin, stdout) else {
            return Err(std::io::Error::other("it has no standard input or output"));
        };
        let (sender, lines) = sync_channel(LINES);
        std::thread::Builder::new().name("espeak-ng".into()).spawn(move || {
            for line in BufReader::new(stdout).lines() {
                let Ok(line) = line else { break };
                if sender.send(line.trim().to_owned()).is_err() {
                    break;
                }
            }
        })?;
        Ok(Self { stdin, lines: Lines(lines), marker: vec![], child })
    }

    /// The answer to one line within `timeout`; `None` when the process does not answer as it should.
    fn ask(&mut self, line: &str, timeout: Duration) -> Option<Vec<String>> {
        self.stdin.write_all(format!("{line}\n{MARKER}\n").as_bytes()).ok()?;
        self.stdin.flush().ok()?;
        let deadline = Instant::now() + timeout;
        let mut answer = vec![];
        while !answer.ends_with(&self.marker) {
            answer.push(self.lines.0.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok()?);
        }
        answer.truncate(answer.len() - self.marker.len());
        Some(answer)
    }
}

/// The clause as one line of plain text. `[[` would begin phoneme mnemonics.
fn clean(clause: &str) -> String {
    clause.chars().map(|c| if c.is_control() || matches!(c, '[' | ']') { ' ' } else { c }).collect()
}

/// The answer on one line, decomposed (NFD), without the marks of a change of language such as `(en)`, and without the
/// joiners and ties between the letters of one phoneme.
fn tidy(lines: &[String]) -> String {
    let joined = lines.join(" ");
    let mut kept = String::with_capacity(joined.len());
    let mut in_mark = false;
    for c in joined.nfd() {
        match c {
            '(' => in_mark = true,
            ')' => in_mark = false,
            '\u{200d}' | '\u{361}' | '_' => {}
            c if !in_mark => kept.push(c),
            _ => {}
        }
    }
    kept.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_tidied() {
        let lines = [" mˈɪstɚ".to_owned(), "(de)ˈɪç(en) o\u{200d}ʊ".to_owned()];
        assert_eq!(tidy(&lines), "mˈɪstɚ ˈɪc\u{327} oʊ");
        assert_eq!(clean("a\n[[b]]"), "a   b  ");
    }

    #[test]
    fn a_missing_program_says_what_to_install() {
        let error = Espeak::new("/nowhere/espeak-ng", "en-us").err().unwrap();
        assert!(matches!(error, EngineError::Missing(_)));
        assert!(error.to_string().contains("apt install espeak-ng"), "{error}");
    }

    /// A script that stands in for espeak-ng, in a folder that goes with it.
    fn stand_in(script: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("espeak-ng");
        std::fs::write(&program, format!("#!/bin/sh\ncd '{}'\n{script}\n", folder.path().display())).unwrap();
        std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        (folder, program)
    }

    const REPEAT: &str = "while read -r line; do echo \"$line\"; done";

    /// A stand-in that dies at its second line, so that the way back is walked.
    #[test]
    fn a_process_that_dies_is_replaced() {
        let script = "n=0\nwhile read -r line; do n=$((n+1)); [ $n -gt 3 ] && exit 0; echo \"$line\"; done";
        let (_folder, program) = stand_in(script);
        let espeak = Espeak::new(&program, "x").unwrap();
        for word in ["one", "two", "three", "four"] {
            assert_eq!(espeak.phonemes(word).unwrap(), word);
        }
    }

    #[test]
    fn a_process_that_is_slow_at_the_start_is_waited_for() {
        // Longer than an answer may take later on.
        let (_folder, program) = stand_in(&format!("[ -e begun ] || {{ : >begun; sleep 2.5; }}\n{REPEAT}"));
        let espeak = Espeak::new(&program, "x").unwrap();
        assert_eq!(espeak.phonemes("one").unwrap(), "one");
    }

    #[test]
    fn a_process_that_stays_silent_is_replaced_by_one_that_answers() {
        let (folder, program) =
            stand_in(&format!("echo >>begun\n[ $(wc -l <begun) -gt 1 ] || exec sleep 1000\n{REPEAT}"));
        let timeouts = [Duration::from_millis(200), Duration::from_secs(60)];
        let espeak = Espeak::start(program, "x", &timeouts).unwrap();
        assert_eq!(espeak.phonemes("one").unwrap(), "one");
        // The silent one, the one that answered, and the one that is kept.
        assert_eq!(std::fs::read_to_string(folder.path().join("begun")).unwrap().lines().count(), 3);
    }

    #[test]
    fn silence_says_how_long_was_waited_and_what_to_look_at() {
        let (_folder, program) = stand_in("exec sleep 1000");
        let error = Espeak::start(program, "x", &[Duration::from_millis(20); 3]).err().unwrap();
        assert!(matches!(error, EngineError::Unavailable(_)));
        let text = error.to_string();
        assert!(text.contains("no answer in 1 s, of 3 processes") && !text.contains("install"), "{text}");
        assert!(text.contains("-q --ipa -v x` answers at once"), "{text}");
    }

    #[test]
    fn an_end_says_its_status_and_last_words() {
        for (script, seen) in [
            ("echo 'no such voice' >&2; exit 3", "it ended with exit status: 3 and said \"no such voice\""),
            ("exit 4", "it ended with exit status: 4 and said nothing"),
        ] {
            let (_folder, program) = stand_in(script);
            let error = Espeak::new(&program, "x").err().unwrap();
            assert!(matches!(error, EngineError::Missing(_)));
            assert!(error.to_string().contains(seen), "{error}");
            assert!(error.to_string().contains("espeak-ng --voices"), "{error}");
        }
        let (_folder, program) = stand_in("exit 0");
        let text = Espeak::new(&program, "x").err().unwrap().to_string();
        assert!(text.contains("exit status: 0") && text.contains("must print phonemes: install"), "{text}");
    }
}
