//! `completions`: what shells complete by.

use std::path::Path;
use std::process::{Command, Output};

use clap::CommandFactory as _;
use sidetone::cli::Cli;

fn completions(shell: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sidetone")).args(["completions", shell]).output().unwrap()
}

#[test]
fn each_shell_gets_a_script_that_knows_every_subcommand() {
    for (shell, mark) in
        [("bash", "complete -F _sidetone"), ("zsh", "#compdef sidetone"), ("fish", "complete -c sidetone")]
    {
        let Output { status, stdout, stderr } = completions(shell);
        let script = String::from_utf8(stdout).unwrap();
        assert!(status.success() && stderr.is_empty(), "{shell}: {}", String::from_utf8_lossy(&stderr));
        assert!(script.contains(mark), "{shell}: {script}");
        for subcommand in Cli::command().get_subcommands() {
            assert!(script.contains(subcommand.get_name()), "{shell}: no {}", subcommand.get_name());
        }
    }
    assert_eq!(completions("cmd").status.code(), Some(2));
}

#[test]
fn bash_completes_a_subcommand_and_its_options() {
    if !Path::new("/bin/bash").exists() {
        return;
    }
    let script = String::from_utf8(completions("bash").stdout).unwrap();
    let completed = |words: &[&str]| {
        let (last, at) = (words[words.len() - 1], words.len() - 1);
        let ask = format!(
            "{script}\nCOMP_WORDS=({})\nCOMP_CWORD={at}\n_sidetone sidetone '{last}' '{}'\necho \"${{COMPREPLY[@]}}\"\n",
            words.join(" "),
            words[at - 1]
        );
        // Too long for an argument.
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), ask).unwrap();
        let Output { status, stdout, stderr } = Command::new("/bin/bash").arg(file.path()).output().unwrap();
        assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
        String::from_utf8(stdout).unwrap().trim().to_owned()
    };
    assert_eq!(completed(&["sidetone", "transc"]), "transcribe");
    assert_eq!(completed(&["sidetone", "transcribe", "--bat"]), "--batch");
}
