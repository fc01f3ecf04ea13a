//! `[[osc.on]]`: which messages a handler takes, and the effect. Pure.

use super::addresses::{all_texts, meant};
use super::wire::{is_off, to_wire};
use crate::action::{Action, Effect, EffectKind};
use crate::bus::message::osc::Arg;
use crate::config::{OscOn, OscWhen};
use crate::midi::clock::Quantum;
use crate::osc::OscMessage;
use crate::osc::pattern::Pattern;
use crate::text::template::Slots;

/// All of them, in the order of the settings.
#[derive(Debug)]
pub struct Handlers(Vec<Handler>);

/// One of them.
#[derive(Debug)]
pub struct Handler {
    /// What it takes.
    pub address: Pattern,
    /// What it waits for.
    pub on: Option<Quantum>,
    args: Vec<String>,
    when: OscWhen,
    action: Action,
}

impl Handlers {
    /// From the settings.
    ///
    /// # Errors
    /// The setting that can't be.
    pub fn new(on: &[OscOn]) -> Result<Self, String> {
        on.iter().map(Handler::new).collect::<Result<_, _>>().map(Self)
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Handler> {
        self.0.iter()
    }
}

impl Handler {
    fn new(on: &OscOn) -> Result<Self, String> {
        let wrong = |why: String| format!("osc.on with the address {:?}: {why}", on.address);
        let address = Pattern::new(&on.address).map_err(|e| wrong(e.to_string()))?;
        if meant(&on.address).is_some() {
            return Err(wrong("this address has a meaning of its own; choose another".to_owned()));
        }
        let handler = Self { address, on: on.on, args: on.args.clone(), when: on.when, action: on.r#do.clone() };
        let wildcards = handler.address.count();
        let known = |slot: &str| {
            let number = slot.parse().is_ok_and(|number: usize| (1..=wildcards).contains(&number));
            number || matches!(slot, "address" | "args") || on.args.iter().any(|name| name == slot)
        };
        if let Some(slot) = on.r#do.slots().into_iter().find(|slot| !known(slot)) {
            let mut there: Vec<String> = on.args.clone();
            there.extend((1..=wildcards).map(|number| number.to_string()));
            there.extend(["address", "args"].map(str::to_owned));
            return Err(wrong(format!("it has no slot {slot:?}; it has {}", there.join(", "))));
        }
        on.r#do.check_values().map_err(wrong)?;
        Ok(handler)
    }

    /// Whether it reaches something outside, so that what it sets off may come back.
    #[must_use]
    pub fn may_return(&self) -> bool {
        self.action.row().effect == EffectKind::External
    }

    /// Type tags for a client that draws a control: a number for each argument that has a name, none is a button.
    #[must_use]
    pub fn types(&self) -> String {
        if self.args.is_empty() { "I".to_owned() } else { "f".repeat(self.args.len()) }
    }

    /// One line for people.
    #[must_use]
    pub fn about(&self) -> String {
        let about = self.action.about();
        if self.args.is_empty() { about } else { format!("{about}: {}", self.args.join(", ")) }
    }

    /// The effect when `message` comes; `None` if it is not for this handler.
    ///
    /// # Errors
    /// A slot that the message leaves empty.
    pub fn take(&self, message: &OscMessage) -> Option<Result<Effect, String>> {
        let wildcards = self.address.wildcards(&message.addr)?;
        let is_release = message.args.first().is_some_and(is_off);
        let is_meant = match self.when {
            OscWhen::Any => true,
            OscWhen::Press => !is_release,
            OscWhen::Release => is_release,
            OscWhen::Auto => !is_release || self.action.follows_release(),
        };
        if !is_meant {
            return None;
        }
        let args: Vec<Arg> = message.args.iter().cloned().map(to_wire).collect();
        let mut slots =
            Slots::from([("address".to_owned(), message.addr.clone()), ("args".to_owned(), all_texts(&args))]);
        slots.extend(wildcards.iter().enumerate().map(|(at, part)| ((at + 1).to_string(), (*part).to_owned())));
        slots.extend(self.args.iter().zip(&args).map(|(name, arg)| (name.clone(), slot(arg))));
        Some(self.action.fill(&slots).map_err(|e| format!("{}: {e}", message.addr)))
    }
}

/// An argument as the value of a slot: true is 1.
fn slot(arg: &Arg) -> String {
    match arg {
        Arg::Bool(is) => u8::from(*is).to_string(),
        // So that a fraction stays one where it happens to be whole.
        Arg::Float(number) => format!("{number:?}"),
        Arg::Double(number) => format!("{number:?}"),
        arg => arg.text(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::message::osc;
    use crate::osc::OscType;

    fn handlers(toml: &str) -> Result<Handlers, String> {
        #[derive(serde::Deserialize)]
        struct File {
            on: Vec<OscOn>,
        }
        Handlers::new(&toml::from_str::<File>(toml).map_err(|e| e.to_string())?.on)
    }

    fn take(toml: &str, addr: &str, args: &[OscType]) -> Option<Result<Effect, String>> {
        let handlers = handlers(&format!("[[on]]\n{toml}")).unwrap();
        let message = OscMessage { addr: addr.to_owned(), args: args.to_vec() };
        handlers.iter().find_map(|handler| handler.take(&message))
    }

    #[test]
    fn arguments_and_wildcards_are_slots() {
        let toml = "address = '/cue/*/{go,stop}'\nargs = ['number', 'fade']\n\
            do = { osc = { target = 'lights', address = '/{2}/{1}', args = ['{number}', '{fade | scale 0 1 0 100}', 'x{args}'] } }";
        let effect = take(toml, "/cue/intro/go", &[OscType::Int(7), OscType::Float(0.5)]).unwrap().unwrap();
        let args = vec![Arg::Int(7), Arg::Float(50.0), Arg::Text("x7 0.5".to_owned())];
        let out = osc::Out { target: "lights".to_owned(), address: "/go/intro".to_owned(), args, at: None };
        assert_eq!(effect, Effect::Osc(out));
        assert_eq!(take(toml, "/cue/intro/fade", &[]), None);
        let error = take(toml, "/cue/intro/go", &[OscType::Int(7)]).unwrap().unwrap_err();
        assert!(error.contains("/cue/intro/go") && error.contains("`fade`"), "{error}");
    }

    #[test]
    fn buttons_that_are_let_go_do_nothing_unless_it_is_meant() {
        let (on, off) = ([OscType::Float(1.0)], [OscType::Float(0.0)]);
        let say = |when: &str| format!("address = '/b'\n{when}\ndo = {{ say = {{ text = 'hello' }} }}");
        let acts = |toml: &str, args: &[OscType]| take(toml, "/b", args).is_some();
        assert!(acts(&say(""), &on) && acts(&say(""), &[]) && !acts(&say(""), &off));
        assert!(!acts(&say("when = 'release'"), &on) && acts(&say("when = 'release'"), &off));
        assert!(acts(&say("when = 'any'"), &off));
        let osc = "address = '/b'\ndo = { osc = { target = 'a', address = '/x' } }";
        assert!(acts(osc, &off));
    }

    #[test]
    fn what_can_not_be_is_refused_at_the_start() {
        let wrong = |toml: &str| handlers(&format!("[[on]]\n{toml}")).unwrap_err();
        assert!(wrong("address = 'cue'\ndo = 'stop'").contains("does not begin with /"));
        assert!(wrong("address = '/assistant/stop'\ndo = 'stop'").contains("a meaning of its own"));
        let error = wrong("address = '/*'\nargs = ['x']\ndo = { say = { text = '{y}' } }");
        assert!(error.contains("no slot \"y\"; it has x, 1, address, args"), "{error}");
        assert!(wrong("address = '/a'\ndo = 'dance'").contains("dance"));
    }
}
