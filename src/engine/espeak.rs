//! Phonemes by [espeak-ng](https://github.com/espeak-ng/espeak-ng), which runs as its own process: it is under the GPL.
//!
//! Starting it takes 30 ms, a clause 1.5 ms. So one process is kept and fed line by line. What belongs to a line is told
//! by a marker: a line of its own behind it, whose phonemes are learnt at the start. An answer that does not come, or a
//! process that died, costs one fresh process for that clause and another for the next.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use unicode_normalization::UnicodeNormalization;

use super::EngineError;

/// How long one answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// Lines read ahead; the process waits when there are more.
const LINES: usize = 64;
/// A line that no text has in it.
const MARKER: &str = "qzxqzx";

/// A phonemizer for one of espeak-ng's voices.
pub(super) struct Espeak {
    program: PathBuf,
    voice: String,
    warm: Mutex<Option<Process>>,
}

impl Espeak {
    /// Starts espeak-ng for `voice`, such as `en-us`.
    ///
    /// # Errors
    /// [`EngineError::Missing`] when it is not installed or does not know the voice.
    pub(super) fn new(program: impl Into<PathBuf>, voice: &str) -> Result<Self, EngineError> {
        let espeak = Self { program: program.into(), voice: voice.to_owned(), warm: Mutex::new(None) };
        let known = espeak.fresh(MARKER).map_err(|error| match error {
            EngineError::Failed(why) => EngineError::Missing(format!("{why}; install another version of espeak-ng")),
            error => error,
        })?;
        *espeak.warm.lock().unwrap_or_else(PoisonError::into_inner) = espeak.warm_up(&known);
        Ok(espeak)
    }

    /// The phonemes of one clause (IPA, decomposed as the voices want it), without punctuation.
    ///
    /// # Errors
    /// [`EngineError::Missing`] when espeak-ng is gone, [`EngineError::Failed`] when it gives no answer.
    pub(super) fn phonemes(&self, clause: &str) -> Result<String, EngineError> {
        let line = clean(clause);
        let mut warm = self.warm.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(process) = warm.as_mut() {
            match process.ask(&line) {
                Some(lines) => return Ok(tidy(&lines)),
                None => tracing::warn!(voice = self.voice, "espeak-ng gave no answer; starting it anew"),
            }
        }
        *warm = None;
        let lines = self.fresh(&line)?;
        let marker = self.fresh(MARKER)?;
        *warm = self.warm_up(&marker);
        Ok(tidy(&lines))
    }

    /// A process that is kept; `None` when it does not answer line by line, which costs time but nothing else.
    fn warm_up(&self, marker: &[String]) -> Option<Process> {
        let mut process = Process::start(&self.program, &self.voice).ok()?;
        process.marker = marker.to_vec();
        process.ask("").map(|_| process)
    }

    /// The answer of a process for this line alone.
    fn fresh(&self, line: &str) -> Result<Vec<String>, EngineError> {
        let failed = |why: &str| {
            EngineError::Failed(format!("espeak-ng gives no phonemes for the voice {:?}: {why}", self.voice))
        };
        let mut process = Process::start(&self.program, &self.voice).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => EngineError::Missing(format!(
                "there is no {}; install it, such as by `apt install espeak-ng`",
                self.program.display()
            )),
            _ => failed(&error.to_string()),
        })?;
        // A process that ended already (an unknown voice) says why below.
        let _ = writeln!(process.stdin, "{line}");
        let Process { stdin, lines, mut child, .. } = process;
        drop(stdin);
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        let mut answer = vec![];
        loop {
            match lines.0.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => answer.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => return Err(failed("it does not answer")),
            }
        }
        match child.0.wait() {
            Ok(status) if status.success() && !(answer.is_empty() && line == MARKER) => Ok(answer),
            Ok(status) => Err(failed(&format!("it ended with {status}"))),
            Err(error) => Err(failed(&error.to_string())),
        }
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
    fn start(program: &PathBuf, voice: &str) -> std::io::Result<Self> {
        let mut child = Command::new(program)
            .args(["-q", "--ipa", "-b", "1", "-v", voice])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
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

    /// The answer to one line; `None` when the process does not answer as it should.
    fn ask(&mut self, line: &str) -> Option<Vec<String>> {
        self.stdin.write_all(format!("{line}\n{MARKER}\n").as_bytes()).ok()?;
        self.stdin.flush().ok()?;
        let deadline = Instant::now() + ANSWER_TIMEOUT;
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

    /// A stand-in that dies at its second line, so that the way back is walked.
    #[test]
    fn a_process_that_dies_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("espeak-ng");
        let script =
            "#!/bin/sh\nn=0\nwhile read -r line; do n=$((n+1)); [ $n -gt 3 ] && exit 0; echo \"$line\"; done\n";
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let espeak = Espeak::new(&program, "x").unwrap();
        for word in ["one", "two", "three", "four"] {
            assert_eq!(espeak.phonemes(word).unwrap(), word);
        }
    }

    #[test]
    fn a_program_that_fails_is_no_phonemizer() {
        let error = Espeak::new("false", "x").err().unwrap();
        assert!(matches!(error, EngineError::Missing(_)));
        assert!(error.to_string().contains("ended with exit status: 1"), "{error}");
    }
}
