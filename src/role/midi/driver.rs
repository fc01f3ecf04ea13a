//! The way to devices: what a driver does, and which devices a port is for. JACK's is `jack_driver.rs`, that of the ALSA sequencer
//! `alsa.rs`.

/// An open driver. Its times are in µs by a clock of its own.
pub trait Driver: Send {
    /// The time now.
    fn now_us(&self) -> u64;
    /// How long a period is.
    fn period_us(&self) -> u64;
    /// How far ahead what has a time must be sent.
    fn lead_us(&self) -> u64;
    /// Sends, at once or at a time; with `keep`, [`Driver::flush`] lets it be. `false`: there was no room.
    fn send(&mut self, port: usize, at_us: Option<u64>, keep: bool, bytes: &[u8]) -> bool;
    /// Takes back what has a time and is not sent yet.
    fn flush(&mut self);
    /// Hands over what came in: port, time, bytes.
    fn receive(&mut self, take: &mut dyn FnMut(usize, u64, &[u8]));
    /// Messages that were lost since there was no room.
    fn lost(&self) -> u64;
    /// Whether all that was to go at once has gone.
    fn is_idle(&self) -> bool;
}

/// Which devices are meant, by their names.
#[derive(Debug, Clone)]
pub struct Matcher {
    pattern: Option<glob::Pattern>,
    part: String,
}

impl Matcher {
    /// One for the text of the settings; `None` for an empty text and for `-`.
    ///
    /// # Errors
    /// It is no pattern.
    pub fn new(text: &str) -> Result<Option<Self>, String> {
        if text.is_empty() || text == "-" {
            return Ok(None);
        }
        let part = text.to_lowercase();
        let pattern = if part.contains(['*', '?', '[']) {
            Some(glob::Pattern::new(&part).map_err(|e| format!("`{text}` is no pattern: {e}; * stands for anything"))?)
        } else {
            None
        };
        Ok(Some(Self { pattern, part }))
    }

    /// Whether any of the names is meant.
    pub fn hits<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> bool {
        names.into_iter().any(|name| {
            let name = name.to_lowercase();
            self.pattern.as_ref().map_or_else(|| name.contains(&self.part), |pattern| pattern.matches(&name))
        })
    }
}

/// The devices of one port.
#[derive(Debug, Clone, Default)]
pub struct PortPlan {
    /// Its name.
    pub name: String,
    /// Which devices play to it.
    pub input: Option<Matcher>,
    /// Which devices it plays.
    pub output: Option<Matcher>,
}

impl PortPlan {
    /// Those of a host: `midi_out` first.
    ///
    /// # Errors
    /// A name or a pattern that can't be.
    pub fn all(ports: &std::collections::BTreeMap<String, crate::config::MidiPortConfig>) -> Result<Vec<Self>, String> {
        let mut all = vec![Self { name: "midi_out".to_owned(), ..Self::default() }];
        for (name, config) in ports {
            let fits = !name.is_empty()
                && name.len() <= 40
                && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
            if !fits || name == "midi_in" || name == "midi" {
                return Err(format!(
                    "midi.ports.{name}: a port's name is up to 40 of a-z, 0-9, _ and -, and not midi or midi_in"
                ));
            }
            let matcher = |own: &str| {
                let text = if own.is_empty() { &config.device } else { own };
                Matcher::new(text).map_err(|e| format!("midi.ports.{name}: {e}"))
            };
            let plan = Self { name: name.clone(), input: matcher(&config.input)?, output: matcher(&config.output)? };
            match all.iter_mut().find(|plan| plan.name == *name) {
                Some(first) => *first = plan,
                None => all.push(plan),
            }
        }
        Ok(all)
    }

    /// The names of its two ends.
    #[must_use]
    pub fn ends(&self) -> (String, String) {
        if self.name == "midi_out" {
            return ("midi_in".to_owned(), "midi_out".to_owned());
        }
        (format!("{}_in", self.name), format!("{}_out", self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_known_by_a_part_of_its_name_or_by_a_pattern() {
        let hits = |text: &str, name: &str| Matcher::new(text).unwrap().unwrap().hits([name]);
        assert!(hits("launchPAD", "a2j:Launchpad Mini [20] (capture): Launchpad Mini MIDI 1"));
        assert!(!hits("launch", "a2j:nanoKONTROL"));
        assert!(hits("a2j:*kontrol*", "a2j:nanoKONTROL2"));
        assert!(!hits("*kontrol", "a2j:nanoKONTROL2"));
        assert!(Matcher::new("").unwrap().is_none() && Matcher::new("-").unwrap().is_none());
        assert!(Matcher::new("[a").unwrap_err().contains("is no pattern"));
    }
}
