//! Which listener is meant.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::wire::message::fault::Fault;
use crate::wire::message::voice::Control;

/// A listener as configuration names it: `main` on this host, `studio/main` on another, or empty for this host's first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct ListenerName(pub String);

impl ListenerName {
    /// Whether none is named.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.0.is_empty()
    }

    /// The hosts and listeners that are meant on host `here` with its own `listeners`: if none is named the first, or all
    /// for what silences.
    ///
    /// # Errors
    /// There is none of that name, or none at all.
    pub fn resolve(&self, here: &str, listeners: &[String], control: &Control) -> Result<Vec<(String, String)>, Fault> {
        if let Some((node, listener)) = self.0.split_once('/') {
            return Ok(vec![(node.to_owned(), listener.to_owned())]);
        }
        let own = |name: &String| (here.to_owned(), name.clone());
        let found: Vec<_> = if self.is_any() {
            listeners.iter().take(if control.is_for_all() { usize::MAX } else { 1 }).map(own).collect()
        } else {
            listeners.iter().filter(|name| **name == self.0).map(own).collect()
        };
        if !found.is_empty() {
            return Ok(found);
        }
        Err(Fault::not_found(if listeners.is_empty() {
            format!("this host has no listener {:?}: name one of another host as HOST/LISTENER", self.0)
        } else {
            format!("this host has no listener {:?}; it has {}", self.0, listeners.join(", "))
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_found_by_its_name() {
        let own = ["main".to_owned(), "booth".to_owned()];
        let find = |name: &str, control: &Control| ListenerName(name.to_owned()).resolve("stage", &own, control);
        let (tap, stop) = (Control::PushToTalk { held: None }, Control::Stop);
        let on = |node: &str, listener: &str| (node.to_owned(), listener.to_owned());
        assert_eq!(find("", &tap).unwrap(), [on("stage", "main")]);
        assert_eq!(find("", &stop).unwrap(), [on("stage", "main"), on("stage", "booth")]);
        assert_eq!(find("booth", &tap).unwrap(), [on("stage", "booth")]);
        assert_eq!(find("studio/main", &tap).unwrap(), [on("studio", "main")]);
        assert!(find("desk", &tap).unwrap_err().message.contains("it has main, booth"));
        let none = ListenerName::default().resolve("wall", &[], &tap).unwrap_err();
        assert!(none.message.contains("HOST/LISTENER"), "{}", none.message);
    }
}
