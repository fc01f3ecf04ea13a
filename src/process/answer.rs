//! Programs that are asked something and end.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

/// How long a program may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(1_500);

/// What `program` prints on standard output; `None` when it is not there.
///
/// # Errors
/// It is there and fails: its own words.
pub async fn answer(program: &Path, args: &[&str]) -> Result<Option<String>, String> {
    let mut command = tokio::process::Command::new(program);
    command.args(args).stdin(Stdio::null()).kill_on_drop(true);
    let output = match tokio::time::timeout(ANSWER_TIMEOUT, command.output()).await {
        Err(_) => return Err(format!("no answer within {} ms", ANSWER_TIMEOUT.as_millis())),
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Ok(Err(error)) => return Err(error.to_string()),
        Ok(Ok(output)) => output,
    };
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{}: {}", output.status, words.lines().last().unwrap_or_default()));
    }
    Ok(Some(String::from_utf8_lossy(&output.stdout).trim().to_owned()))
}

/// The first thing in `text` that looks like a version, such as `2.12.1`, and its first two numbers.
pub fn version(text: &str) -> Option<(&str, (u32, u32))> {
    text.split(|c: char| !c.is_ascii_digit() && c != '.').find_map(|word| {
        let word = word.trim_matches('.');
        let mut numbers = word.split('.').map(str::parse);
        let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else { return None };
        Some((word, (major, minor)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_programs_print() {
        for (text, found) in [
            ("nats-server: v2.15.1", Some(("2.15.1", (2, 15)))),
            ("eSpeak NG text-to-speech: 1.51  Data at: /usr/lib", Some(("1.51", (1, 51)))),
            ("2.9.0-beta.1", Some(("2.9.0", (2, 9)))),
            ("version 7.", None),
            ("", None),
            ("...", None),
        ] {
            assert_eq!(version(text), found, "{text}");
        }
    }

    #[tokio::test]
    async fn a_program_answers_or_is_missing_or_fails() {
        assert_eq!(answer(Path::new("no-such-program-here"), &[]).await, Ok(None));
        assert_eq!(answer(Path::new("echo"), &["1.2"]).await, Ok(Some("1.2".to_owned())));
        assert!(answer(Path::new("false"), &[]).await.unwrap_err().contains("exit status: 1"));
    }
}
