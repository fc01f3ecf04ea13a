//! The addresses that every host has: `/assistant/…`, and `/assistant/<listener>/…`. Pure.

use super::wire::{is_off, number, to_wire};
use crate::bus::message::osc::Arg;
use crate::bus::message::voice::{Control, Mode};
use crate::osc::OscType;

/// Where they begin.
pub const ROOT: &str = "/assistant/";

/// An address that something is done at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verb {
    /// Its last part.
    pub name: &'static str,
    /// The type tags of its arguments.
    pub types: &'static str,
    /// One line for people.
    pub about: &'static str,
}

/// All that is done.
pub const VERBS: &[Verb] = &[
    Verb { name: "command", types: "s", about: "runs a text as if it were typed; the answer comes as …/reply" },
    Verb { name: "ask", types: "s", about: "answers a text as if it had been spoken" },
    Verb { name: "say", types: "s", about: "speaks a text" },
    Verb { name: "listen", types: "I", about: "listens now, without a wake phrase" },
    Verb { name: "ptt", types: "i", about: "push to talk: 1 is held, 0 let go; without an argument silence ends it" },
    Verb {
        name: "mute",
        types: "i",
        about: "1 hears nothing, 0 hears again; without an argument the other of what it is",
    },
    Verb { name: "mode", types: "s", about: "what opens a turn: wake, open or push_to_talk" },
    Verb {
        name: "stop",
        types: "I",
        about: "stops everything that sounds or acts, on every host; a listener's own: its speech alone",
    },
    Verb { name: "ping", types: "I", about: "is answered by …/pong with the same arguments" },
    Verb {
        name: "subscribe",
        types: "i",
        about: "has feedback sent to the sender, to the port given or the one it sends from",
    },
    Verb { name: "unsubscribe", types: "i", about: "ends that" },
    Verb { name: "sync", types: "I", about: "has all of the feedback sent once more" },
];

/// An address that feedback has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeedbackAddress {
    /// Its last part.
    pub name: &'static str,
    /// The type tag of its argument.
    pub types: &'static str,
    /// One line for people.
    pub about: &'static str,
}

/// All feedback.
pub const FEEDBACK: &[FeedbackAddress] = &[
    FeedbackAddress {
        name: "state",
        types: "s",
        about: "where the turn is: idle, wake_detected, listening, processing or speaking",
    },
    FeedbackAddress { name: "transcript", types: "s", about: "what was heard" },
    FeedbackAddress { name: "reply", types: "s", about: "what was answered" },
    FeedbackAddress { name: "level", types: "f", about: "how loud the microphone is, 0 to 1" },
    FeedbackAddress { name: "mode", types: "s", about: "what opens a turn: wake, open or push_to_talk" },
    FeedbackAddress { name: "muted", types: "i", about: "1 while nothing is heard" },
    FeedbackAddress { name: "mute", types: "i", about: "the same, for buttons" },
    FeedbackAddress { name: "error", types: "s", about: "what went wrong" },
];

/// An address taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meant<'a> {
    /// The listener; empty: the default.
    pub listener: &'a str,
    /// The verb.
    pub verb: Verb,
}

/// The listener and verb of `address`; `None` if nothing is done there.
#[must_use]
pub fn meant(address: &str) -> Option<Meant<'_>> {
    let rest = address.strip_prefix(ROOT)?;
    let (listener, name) = rest.rsplit_once('/').unwrap_or(("", rest));
    let verb = VERBS.iter().find(|verb| verb.name == name)?;
    Some(Meant { listener, verb: *verb })
}

/// A request to one of the addresses.
#[derive(Debug, Clone, PartialEq)]
pub enum Wish {
    /// Run a text.
    Command(String),
    /// Tell a listener.
    Control(Control),
    /// Stop everything, or a listener.
    Stop,
    /// Answer.
    Ping,
    /// Send feedback from now on, to this port or the sender's.
    Subscribe(Option<u16>),
    /// Send none any more.
    Unsubscribe(Option<u16>),
    /// Send all feedback once more.
    Sync,
    /// Nothing: a button was let go.
    Nothing,
}

impl Verb {
    /// The request with these arguments.
    ///
    /// # Errors
    /// The problem with them, and what would do.
    pub fn wish(&self, args: &[OscType]) -> Result<Wish, String> {
        let is_release = args.first().is_some_and(is_off);
        Ok(match self.name {
            "command" => Wish::Command(self.text(args)?),
            "ask" => Wish::Control(Control::Ask { text: self.text(args)? }),
            "say" => Wish::Control(Control::Say { text: self.text(args)? }),
            "ptt" => Wish::Control(Control::PushToTalk { held: self.switch(args)? }),
            "mute" => Wish::Control(Control::Mute { on: self.switch(args)? }),
            "mode" => Wish::Control(Control::Mode { mode: self.mode(args)? }),
            "subscribe" => Wish::Subscribe(self.port(args)?),
            "unsubscribe" => Wish::Unsubscribe(self.port(args)?),
            "ping" => Wish::Ping,
            _ if is_release => Wish::Nothing,
            "listen" => Wish::Control(Control::PushToTalk { held: None }),
            "stop" => Wish::Stop,
            _ => Wish::Sync,
        })
    }

    fn wrong<T>(&self, wanted: &str, args: &[OscType]) -> Result<T, String> {
        let given = args.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let given = if given.is_empty() { "none".to_owned() } else { given };
        Err(format!("{} takes {wanted}, and was given {given}", self.name))
    }

    /// Several are one: some programs send each word by itself.
    fn text(&self, args: &[OscType]) -> Result<String, String> {
        let words: Vec<String> = args.iter().cloned().map(|arg| to_wire(arg).text()).collect();
        let text = words.join(" ").trim().to_owned();
        if text.is_empty() { self.wrong("a text", args) } else { Ok(text) }
    }

    fn switch(&self, args: &[OscType]) -> Result<Option<bool>, String> {
        match args {
            [] | [OscType::Nil | OscType::Inf] => Ok(None),
            [arg] if number(arg).is_some() => Ok(Some(!is_off(arg))),
            _ => self.wrong("1 or 0", args),
        }
    }

    fn mode(&self, args: &[OscType]) -> Result<Mode, String> {
        match args {
            [OscType::String(text)] => match text.as_str() {
                "wake" => Ok(Mode::Wake),
                "open" => Ok(Mode::Open),
                "push_to_talk" | "ptt" => Ok(Mode::PushToTalk),
                _ => self.wrong("wake, open or push_to_talk", args),
            },
            _ => self.wrong("wake, open or push_to_talk", args),
        }
    }

    fn port(&self, args: &[OscType]) -> Result<Option<u16>, String> {
        let port = |number: f64| (number.fract() == 0.0 && (1.0..=65_535.0).contains(&number)).then_some(number);
        match args {
            [] => Ok(None),
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is within the range")]
            [arg] => match number(arg).and_then(port) {
                Some(number) => Ok(Some(number as u16)),
                None => self.wrong("a port from 1 to 65535, or nothing", args),
            },
            _ => self.wrong("a port from 1 to 65535, or nothing", args),
        }
    }
}

/// A mode's name on the wire.
#[must_use]
pub const fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Wake => "wake",
        Mode::Open => "open",
        Mode::PushToTalk => "push_to_talk",
    }
}

/// All arguments in one text, for a slot.
#[must_use]
pub fn all_texts(args: &[Arg]) -> String {
    args.iter().map(Arg::text).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(address: &str, args: &[OscType]) -> Result<Wish, String> {
        meant(address).unwrap().verb.wish(args)
    }

    #[test]
    fn an_address_names_a_listener_or_none() {
        let of = |address| meant(address).map(|meant| (meant.listener, meant.verb.name));
        assert_eq!(of("/assistant/stop"), Some(("", "stop")));
        assert_eq!(of("/assistant/main/ptt"), Some(("main", "ptt")));
        assert_eq!(of("/assistant/stage/main/ptt"), Some(("stage/main", "ptt")));
        for other in ["/assistant/state", "/assistant", "/assistant/", "/stop", "/assistantstop", "/assistant/stop/"] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn arguments_are_taken_as_surfaces_send_them() {
        let text = |text: &str| OscType::String(text.to_owned());
        let ptt = |held| Ok(Wish::Control(Control::PushToTalk { held }));
        assert_eq!(wish("/assistant/ptt", &[OscType::Int(1)]), ptt(Some(true)));
        assert_eq!(wish("/assistant/ptt", &[OscType::Float(0.0)]), ptt(Some(false)));
        assert_eq!(wish("/assistant/ptt", &[OscType::Bool(true)]), ptt(Some(true)));
        assert_eq!(wish("/assistant/ptt", &[]), ptt(None));
        assert_eq!(wish("/assistant/listen", &[OscType::Float(1.0)]), ptt(None));
        assert_eq!(wish("/assistant/listen", &[OscType::Float(0.0)]), Ok(Wish::Nothing));
        assert_eq!(wish("/assistant/stop", &[]), Ok(Wish::Stop));
        assert_eq!(wish("/assistant/stop", &[OscType::Int(0)]), Ok(Wish::Nothing));
        let say = Wish::Control(Control::Say { text: "good evening 3".to_owned() });
        assert_eq!(wish("/assistant/say", &[text("good"), text("evening"), OscType::Int(3)]), Ok(say));
        assert_eq!(
            wish("/assistant/mode", &[text("ptt")]),
            Ok(Wish::Control(Control::Mode { mode: Mode::PushToTalk }))
        );
        assert_eq!(wish("/assistant/subscribe", &[OscType::Float(9002.0)]), Ok(Wish::Subscribe(Some(9002))));
    }

    #[test]
    fn what_will_not_do_is_refused() {
        let wrong = |address, args: &[OscType]| wish(address, args).unwrap_err();
        assert_eq!(wrong("/assistant/say", &[]), "say takes a text, and was given none");
        assert!(wrong("/assistant/ptt", &[OscType::String("on".to_owned())]).starts_with("ptt takes 1 or 0"));
        assert!(wrong("/assistant/mode", &[OscType::Int(3)]).contains("wake, open or push_to_talk"));
        assert!(wrong("/assistant/subscribe", &[OscType::Int(0)]).contains("1 to 65535"));
    }
}
