//! The listeners that `/assistant/…` means.

use tokio::sync::watch;

use crate::action::ListenerName;
use crate::bus::message::node::NodeInfo;
use crate::bus::message::voice::Control;
use crate::bus::subject::Capability;
use crate::config::Config;

/// A listener by its host and name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedListener {
    /// Its host.
    pub node: String,
    /// Its name there.
    pub listener: String,
    /// Its name in addresses: `main`, or `stage/main` for one of another host.
    pub shown: String,
}

/// Which there are; they may come and go.
#[derive(Debug)]
pub struct Listeners {
    known: watch::Sender<Vec<NamedListener>>,
    /// Whether those that are there are meant, whichever they are.
    pub follows: bool,
}

impl Listeners {
    /// From the settings of the host `here`.
    #[must_use]
    pub fn new(here: &str, config: &Config) -> Self {
        let has_voice = config.node.roles.iter().any(|role| role == Capability::Voice.token());
        let own = config.voice.listeners.iter().filter(|_| has_voice).map(|listener| listener.name.clone());
        let named = &config.osc.listeners;
        let names: Vec<String> = if named.is_empty() { own.collect() } else { named.clone() };
        let known: Vec<NamedListener> = names.iter().map(|name| NamedListener::new(here, name)).collect();
        Self { follows: known.is_empty(), known: watch::Sender::new(known) }
    }

    /// Takes those that are there, if whichever are there are meant.
    pub fn follow(&self, here: &str, nodes: &[NodeInfo]) {
        if !self.follows {
            return;
        }
        let offers = nodes.iter().flat_map(|node| node.offers.iter().map(move |offer| (node, offer)));
        let voices = offers.filter(|(_, offer)| offer.role == Capability::Voice.token());
        let found = voices.flat_map(|(node, offer)| {
            offer.models.iter().map(|listener| NamedListener::new(here, &format!("{}/{listener}", node.node)))
        });
        let found: Vec<NamedListener> = found.collect();
        self.known.send_if_modified(|known| {
            let changes = *known != found;
            *known = found;
            changes
        });
    }

    /// All of them, the first that is meant by default first.
    #[must_use]
    pub fn all(&self) -> Vec<NamedListener> {
        self.known.borrow().clone()
    }

    /// Each change of who is there.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<Vec<NamedListener>> {
        self.known.subscribe()
    }

    /// Their names in addresses.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.all().into_iter().map(|known| known.shown).collect()
    }

    /// The name of a listener in addresses, and whether it is the first.
    #[must_use]
    pub fn shown(&self, node: &str, listener: &str) -> Option<(String, bool)> {
        let all = self.all();
        let at = all.iter().position(|known| known.node == node && known.listener == listener)?;
        Some((all.get(at)?.shown.clone(), at == 0))
    }

    /// Those that are meant by a name in an address: without one the first, or all for what silences.
    ///
    /// # Errors
    /// There is none of that name; which there are.
    pub fn meant(&self, name: &str, control: &Control) -> Result<Vec<ListenerName>, String> {
        let all = self.all();
        let found: Vec<ListenerName> = all
            .iter()
            .filter(|known| name.is_empty() || known.shown == name)
            .take(if name.is_empty() && control.is_for_all() { usize::MAX } else { 1 })
            .map(|known| ListenerName(format!("{}/{}", known.node, known.listener)))
            .collect();
        if !found.is_empty() {
            return Ok(found);
        }
        let names = all.into_iter().map(|known| known.shown).collect::<Vec<_>>().join(", ");
        Err(match (name.is_empty(), names.is_empty()) {
            (_, true) => {
                "there is no listener: start a host with the role voice, or name one in osc.listeners".to_owned()
            }
            _ => format!("there is no listener {name:?}; there are {names}"),
        })
    }
}

impl NamedListener {
    fn new(here: &str, name: &str) -> Self {
        let (node, listener) = name.split_once('/').unwrap_or((here, name));
        let shown = if node == here { listener.to_owned() } else { format!("{node}/{listener}") };
        Self { node: node.to_owned(), listener: listener.to_owned(), shown }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_listeners_are_meant_then_those_that_are_named_then_any() {
        let mut config = Config::default();
        let own = Listeners::new("stage", &config);
        assert_eq!((own.names(), own.follows), (vec!["main".to_owned()], false));
        config.osc.listeners = vec!["stage/main".to_owned(), "studio/booth".to_owned()];
        let named = Listeners::new("stage", &config);
        assert_eq!(named.names(), ["main", "studio/booth"]);
        let tap = Control::PushToTalk { held: None };
        assert_eq!(named.meant("", &tap).unwrap(), [ListenerName("stage/main".to_owned())]);
        assert_eq!(named.meant("studio/booth", &tap).unwrap(), [ListenerName("studio/booth".to_owned())]);
        assert_eq!(named.meant("", &Control::Mute { on: None }).unwrap().len(), 2);
        assert_eq!(
            named.meant("desk", &tap).unwrap_err(),
            "there is no listener \"desk\"; there are main, studio/booth"
        );
        config.osc.listeners.clear();
        config.node.roles = vec!["osc".to_owned()];
        let any = Listeners::new("stage", &config);
        assert!(any.follows && any.meant("", &tap).unwrap_err().contains("osc.listeners"));
    }
}
