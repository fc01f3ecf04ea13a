//! The parts of this host that can be down while it runs. Each says so itself.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Kind and name of a part.
type Key = (&'static str, String);

static PARTS: Mutex<BTreeMap<Key, Result<(), String>>> = Mutex::new(BTreeMap::new());

fn parts() -> MutexGuard<'static, BTreeMap<Key, Result<(), String>>> {
    PARTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A part; it is forgotten when this is dropped.
#[derive(Debug)]
pub struct Part(Key);

impl Part {
    /// A part that is about to come up.
    #[must_use]
    pub fn new(kind: &'static str, name: &str) -> Self {
        let key = (kind, name.to_owned());
        parts().insert(key.clone(), Err("it is starting".to_owned()));
        Self(key)
    }

    /// It works.
    pub fn up(&self) {
        parts().insert(self.0.clone(), Ok(()));
    }

    /// It does not.
    pub fn down(&self, why: &str) {
        parts().insert(self.0.clone(), Err(why.to_owned()));
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        parts().remove(&self.0);
    }
}

/// The parts of a kind by name, and why they are down if they are.
#[must_use]
pub fn of_kind(kind: &str) -> Vec<(String, Result<(), String>)> {
    parts()
        .iter()
        .filter(|((other, _), _)| *other == kind)
        .map(|((_, name), state)| (name.clone(), state.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_says_how_it_is_until_it_goes() {
        let part = Part::new("lamp", "left");
        assert!(of_kind("lamp").iter().all(|(name, state)| name == "left" && state.is_err()));
        part.up();
        assert_eq!(of_kind("lamp"), [("left".to_owned(), Ok(()))]);
        part.down("no current");
        assert_eq!(of_kind("lamp"), [("left".to_owned(), Err("no current".to_owned()))]);
        drop(part);
        assert!(of_kind("lamp").is_empty());
    }
}
