//! From files and `--set` to a checked [`Config`].

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::error::ConfigError;
use super::{Config, ListenMode, engines};

impl Config {
    /// Reads `files` in their order, then applies `sets` (`key.path=value`, the value in TOML or a bare text).
    ///
    /// # Errors
    /// [`ConfigError`] for the first mistake; it names the file or the `--set`, the line, and what would do.
    pub fn load(files: &[PathBuf], sets: &[String]) -> Result<Self, ConfigError> {
        let mut merged = Table::new();
        for path in files {
            let text = std::fs::read_to_string(path).map_err(|why| ConfigError::Read { path: path.clone(), why })?;
            let mut table = parse(&path.display().to_string(), &text)?;
            from_folder(&mut table, path.parent().unwrap_or(Path::new("")));
            merge(&mut merged, table);
        }
        for set in sets {
            let text = setting(set)?;
            merge(&mut merged, parse(&format!("--set {set}"), &text)?);
        }
        let hints = engines::take_old(&mut merged)?;
        let config: Self = merged.try_into().map_err(|e| wrong("the configuration", &e))?;
        config.check()?;
        Ok(Self { hints, ..config })
    }

    /// Checks what the types alone don't.
    fn check(&self) -> Result<(), ConfigError> {
        let value = |key: &str, given: &dyn std::fmt::Debug, why: &str| {
            Err(ConfigError::Value { key: key.to_owned(), given: format!("{given:?}"), why: why.to_owned() })
        };
        for (key, slots) in [
            ("stt.slots", self.stt.slots),
            ("tts.slots", self.tts.slots),
            ("llm.slots", self.llm.slots),
            ("agent.slots", self.agent.slots),
        ] {
            if slots == 0 {
                return value(
                    key,
                    &slots,
                    "a role needs at least 1 slot; leave the role out of node.roles to switch it off",
                );
            }
        }
        if !matches!(self.bus.replicas, 1 | 3 | 5) {
            return value(
                "bus.replicas",
                &self.bus.replicas,
                "1 for a single server; 3 or 5 for a cluster of as many servers or more",
            );
        }
        let listen = &self.http.listen;
        let port = listen.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
        if !listen.is_empty() && !matches!(port, Some(Ok(_))) {
            return value(
                "http.listen",
                listen,
                "give an address and a port, such as \"127.0.0.1:9464\", or \"\" for no server",
            );
        }
        let mut names: Vec<&str> = Vec::new();
        for listener in &self.voice.listeners {
            let key = format!("voice.listeners.{}", listener.name);
            if listener.name.is_empty() || listener.name.len() > 40 || listener.name.contains([':', '.', ' ', '*', '>'])
            {
                return value(
                    "voice.listeners.name",
                    &listener.name,
                    "it names a JACK client and a subject: 1 to 40 bytes without spaces, ':', '.', '*', '>'",
                );
            }
            if names.contains(&listener.name.as_str()) {
                return value("voice.listeners.name", &listener.name, "two listeners can't share a name");
            }
            names.push(&listener.name);
            if listener.mode == ListenMode::Wake && listener.wake.is_empty() {
                return value(
                    &format!("{key}.wake"),
                    &listener.wake,
                    "mode wake needs a phrase, such as wake = { Computer = [] }",
                );
            }
        }
        // One utterance goes over the bus as 16-bit PCM at 16 kHz in one message of at most 1 MiB.
        if self.voice.max_utterance_ms > 32_000 {
            return value(
                "voice.max_utterance_ms",
                &self.voice.max_utterance_ms,
                "at most 32000: a longer one does not fit into a message",
            );
        }
        engines::check("stt", self.stt.providers.iter().map(|provider| (provider.name(), provider.slots)))?;
        engines::check("tts", self.tts.providers.iter().map(|provider| (provider.name(), provider.slots)))?;
        engines::check("llm", self.llm.providers.iter().map(|provider| (provider.name(), provider.slots)))?;
        if let Some(mute) = self.tts.providers.iter().find(|provider| provider.voices.is_empty()) {
            return value(
                &format!("tts.providers.{}.voices", mute.name()),
                &mute.voices,
                "name at least one voice; `sidetone models list` shows them",
            );
        }
        self.audio.check()
    }
}

/// Parses one source, and checks its keys while its lines are still known.
fn parse(place: &str, text: &str) -> Result<Table, ConfigError> {
    toml::from_str::<Config>(text).map_err(|e| wrong(place, &e))?;
    toml::from_str(text).map_err(|e| wrong(place, &e))
}

/// Files of the way onto the bus are found from the folder of the configuration, so that the folder can be moved.
fn from_folder(table: &mut Table, folder: &Path) {
    let Some(Value::Table(bus)) = table.get_mut("bus") else { return };
    for key in ["nkey_file", "creds", "tls_ca", "tls_cert", "tls_key"] {
        if let Some(Value::String(file)) = bus.get_mut(key)
            && !file.is_empty()
        {
            *file = folder.join(&*file).display().to_string();
        }
    }
}

fn wrong(place: &str, error: &toml::de::Error) -> ConfigError {
    ConfigError::Wrong { place: place.to_owned(), why: error.to_string().trim_end().to_owned() }
}

/// `a.b=value` as a line of TOML.
fn setting(set: &str) -> Result<String, ConfigError> {
    let Some((key, value)) = set.split_once('=') else {
        let why = "a setting is key=value, such as node.name=studio".to_owned();
        return Err(ConfigError::Wrong { place: format!("--set {set}"), why });
    };
    let line = format!("{key} = {value}");
    // A bare word need not be quoted.
    let is_toml = toml::from_str::<Table>(&line).is_ok();
    Ok(if is_toml { line } else { format!("{key} = {}", Value::String(value.to_owned())) })
}

fn merge(into: &mut Table, from: Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Table(into)), Value::Table(from)) => merge(into, from),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

/// The configuration files to read: those given, else `<home>/config.toml` if there is one.
#[must_use]
pub fn files(given: &[PathBuf], home: &Path) -> Vec<PathBuf> {
    let own = home.join("config.toml");
    if given.is_empty() && own.is_file() { vec![own] } else { given.to_vec() }
}

#[cfg(test)]
mod tests {
    use super::super::DEFAULT_TOML;
    use super::*;

    fn written(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn the_file_for_people_says_what_the_defaults_are() {
        assert_eq!(toml::from_str::<Config>(DEFAULT_TOML).unwrap(), Config::default());
        let file: Table = toml::from_str(DEFAULT_TOML).unwrap();
        let all = Table::try_from(Config::default()).unwrap();
        let keys = |table: &Table| -> Vec<String> {
            table
                .iter()
                .flat_map(|(k, v)| {
                    v.as_table().into_iter().flat_map(move |t| t.keys().map(move |x| format!("{k}.{x}")))
                })
                .collect()
        };
        let (mut file, mut all) = (keys(&file), keys(&all));
        file.sort();
        all.sort();
        assert_eq!(file, all, "every setting is in config/default.toml");
    }

    #[test]
    fn the_examples_can_be_read() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        for example in
            ["config/voice-host.toml", "config/engine-host.toml", "deploy/demo/demo.toml", "deploy/demo/fabric.toml"]
        {
            Config::load(&[root.join(example)], &[]).unwrap();
        }
    }

    #[test]
    fn later_sources_win_key_by_key() {
        let one = written("[stt]\nslots = 3\nmodel = \"a\"\n");
        let two = written("[stt]\nmodel = \"b\"\n");
        let files = [one.path().to_owned(), two.path().to_owned()];
        let sets = ["llm.engine=ollama".to_owned(), "stt.threads=1".to_owned(), "node.roles=[\"stt\"]".to_owned()];
        let config = Config::load(&files, &sets).unwrap();
        assert_eq!((config.stt.slots, config.stt.providers[0].model.as_str(), config.stt.threads), (3, "b", 1));
        assert_eq!((config.llm.providers[0].engine.as_str(), config.node.roles), ("ollama", vec!["stt".to_owned()]));
    }

    #[test]
    fn files_are_found_from_the_folder_of_the_configuration() {
        let file = written("[bus]\nnkey_file = \"host.nk\"\ntls_ca = \"/etc/ca.pem\"\n");
        let bus = Config::load(&[file.path().to_owned()], &["bus.tls_key=key.pem".to_owned()]).unwrap().bus;
        assert_eq!(Path::new(&bus.nkey_file), file.path().parent().unwrap().join("host.nk"));
        assert_eq!((bus.tls_ca.as_str(), bus.tls_key.as_str(), bus.creds.as_str()), ("/etc/ca.pem", "key.pem", ""));
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        let file = written("[stt]\n\nslot = 3\n");
        let error = Config::load(&[file.path().to_owned()], &[]).unwrap_err().to_string();
        assert!(
            error.contains("line 3") && error.contains("unknown field `slot`") && error.contains("`slots`"),
            "{error}"
        );
        let file = written("[voice]\nvad_on = \"high\"\n");
        let error = Config::load(&[file.path().to_owned()], &[]).unwrap_err().to_string();
        assert!(error.contains("vad_on") && error.contains("invalid type"), "{error}");
        for (set, word) in [
            ("stt.slots=0", "at least 1"),
            ("stt.slots", "key=value"),
            ("stt.slotz=1", "unknown field"),
            ("voice.listeners=[{mode=\"always\"}]", "expected one of `wake`, `open`, `push_to_talk`"),
            ("voice.max_utterance_ms=90000", "at most 32000"),
            ("tts.voices=[]", "at least one voice"),
        ] {
            let error = Config::load(&[], &[set.to_owned()]).unwrap_err().to_string();
            assert!(error.contains(word), "{set}: {error}");
        }
    }
}
