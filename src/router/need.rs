//! What is asked for.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a role asks for. It never names a host.
///
/// An empty text and an empty list ask for nothing in particular.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Need {
    /// The capability, such as `stt`.
    pub capability: String,
    /// What a model is asked for, such as `embed`; empty: what the capability is asked for as a rule, such as to chat.
    pub kind: String,
    /// An engine, by its name on the host or by that of what does the work.
    pub engine: String,
    /// A model by its name, or a class of models, such as `planner` or `chat`.
    pub model: String,
    /// A language, such as `en` or `en-GB`. `en` is served by `en-GB` as well, `en-US` by `en`, `en-US` not by `en-GB`.
    pub language: String,
    /// A voice by its name.
    pub voice: String,
    /// What the host must have, all of it: `gpu`, `high_mem`, …
    pub tags: Vec<String>,
    /// Whether somebody waits for it.
    pub latency: Latency,
    /// How far it may travel.
    pub privacy: Privacy,
}

/// Whether somebody waits for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Latency {
    /// Somebody waits. When every slot is taken, the full hosts are asked as well: a slot may just have become free.
    #[default]
    Interactive,
    /// It may wait: it only takes slots that are idle.
    Batch,
}

/// How far words and sound may travel. The less may be, the smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Privacy {
    /// They stay on the host that asks.
    Host,
    /// They stay in the LAN: no provider outside sees them.
    Lan,
    /// Anywhere.
    #[default]
    Any,
}

impl fmt::Display for Privacy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Host => "host",
            Self::Lan => "lan",
            Self::Any => "any",
        })
    }
}

/// As it stands in an error: `tts voice amy, language en, on gpu`.
impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.capability)?;
        let tags = self.tags.join("+");
        let wanted = [
            ("kind", &self.kind),
            ("voice", &self.voice),
            ("model", &self.model),
            ("language", &self.language),
            ("engine", &self.engine),
            ("on", &tags),
        ];
        for (n, (what, value)) in wanted.into_iter().filter(|(_, value)| !value.is_empty()).enumerate() {
            write!(f, "{} {what} {value}", if n == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

/// A language as it is looked up: `en_US` and `EN-us` are `en-us`.
pub(super) fn normal_language(language: &str) -> String {
    language.replace('_', "-").to_ascii_lowercase()
}

/// Whether something in the language `offered` serves one who wants `wanted`: the two are one, a dialect serves the
/// language, the language serves a dialect.
pub(super) fn language_serves(offered: &str, wanted: &str) -> bool {
    let (short, long) = if offered.len() < wanted.len() { (offered, wanted) } else { (wanted, offered) };
    let (short, long) = (short.as_bytes(), long.as_bytes());
    let is_hyphen = |letter: &u8| b"-_".contains(letter);
    let same = |(a, b): (&u8, &u8)| a.eq_ignore_ascii_case(b) || (is_hyphen(a) && is_hyphen(b));
    short.iter().zip(long).all(same) && long.get(short.len()).is_none_or(is_hyphen)
}
