//! What a command does: a few kinds of its own, which answer the person who spoke, beside everything in the one language of
//! actions.
//!
//! ```toml
//! [command.action]                               [command.action]
//! do = "time"                                    do = { push_to_talk = { listener = "main" } }
//! answer = "It is {time}."                       answer = "I am listening."
//! ```
//!
//! `do = "osc"` and `do = "midi"` may have their message in `send`.

use jiff::ZonedDateTime;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::action::{Action, Effect, KINDS, kind_named};
use crate::text::template::{FillError, Slots, Template};

/// What a command does: the table `[command.action]`, whose key `do` says which.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "Map<String, Value>")]
pub enum CommandAction {
    /// Answers with something that is made here.
    Answer(Answer),
    /// Does something, and then answers if there is an answer.
    Do {
        /// The action.
        action: Action,
        /// Whether its message is written under `send`, and not under `do`.
        is_sent: bool,
        /// The answer when it is done.
        answer: Option<Template>,
    },
}

/// The kinds of actions that only commands have. A new one is a variant here, and what it comes to in
/// [`CommandAction::render`].
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum Answer {
    /// Says the time of day.
    Time {
        /// How `{time}` is written, as of [`jiff::fmt::strtime`]; the default is `%-I:%M %p` (10:27 AM), and `%H:%M`
        /// is the 24-hour clock.
        format: Option<String>,
        /// The same at minute 0, as voices read `10:00 AM` as "ten zero zero". The default is `%-I %p` (10 AM) when
        /// `format` is left out too, else it is `format`.
        full_hour: Option<String>,
        /// The answer; `{time}` is the time.
        answer: Template,
    },
    /// Says the date.
    Date {
        /// How `{date}` is written, as of [`jiff::fmt::strtime`]; the default is `%A, %B %-d` (Monday, November 24).
        format: Option<String>,
        /// The answer; `{date}` is the date.
        answer: Template,
    },
    /// Says a text.
    Say {
        /// The text.
        text: Template,
    },
    /// Asks the chat model.
    Ask {
        /// What it is asked.
        prompt: Template,
    },
}

/// The names of [`Answer`]'s kinds.
const ANSWERS: [&str; 4] = ["time", "date", "say", "ask"];

/// What an action may need to know of the world.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The time, in the time zone of the person who asks.
    pub now: ZonedDateTime,
}

/// A command's action with its slots filled in.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "one a turn")]
pub enum CommandEffect {
    /// Answer with this text.
    Say(String),
    /// Ask the chat model this.
    Ask(String),
    /// Do this, and then answer with the text, if there is one.
    Do(Effect, Option<String>),
}

/// Why an action can't be rendered. A loaded [`super::CommandSet`] has been checked against all of these.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RenderError {
    /// The template names a slot that the match did not fill.
    #[error(transparent)]
    Slot(#[from] FillError),
    /// The format is not one of strftime's.
    #[error("format `{format}` is no strftime format: {problem}; `%-I:%M %p` and `%H:%M` are examples")]
    Format {
        /// The format.
        format: String,
        /// The problem with it.
        problem: String,
    },
    /// The values of an action without slots can't be sent.
    #[error("{0}")]
    Value(String),
}

const TIME_FORMAT: &str = "%-I:%M %p";
const FULL_HOUR_FORMAT: &str = "%-I %p";
const DATE_FORMAT: &str = "%A, %B %-d";

impl TryFrom<Map<String, Value>> for CommandAction {
    type Error = String;

    fn try_from(mut table: Map<String, Value>) -> Result<Self, String> {
        let what = table.get("do").cloned().ok_or_else(|| format!("missing field `do`, one of {}", names()))?;
        if let Value::String(name) = &what {
            if ANSWERS.contains(&name.as_str()) {
                return serde_json::from_value(Value::Object(table)).map(Self::Answer).map_err(|e| e.to_string());
            }
            if kind_named(name).is_none() {
                return Err(format!("unknown variant `{name}`, expected one of {}", names()));
            }
        }
        table.remove("do");
        let answer = table.remove("answer").map(serde_json::from_value).transpose().map_err(|e| e.to_string())?;
        let (action, is_sent) = match (what, table.remove("send")) {
            (Value::String(name), Some(send)) => (Value::Object(Map::from_iter([(name, send)])), true),
            (Value::String(name), None) if matches!(name.as_str(), "osc" | "midi") => {
                return Err(format!("missing field `send`: the message to send by {name}"));
            }
            (what, None) => (what, false),
            (_, Some(_)) => return Err("`send` goes with do = \"osc\" or \"midi\" alone".to_owned()),
        };
        if let Some(key) = table.keys().next() {
            return Err(format!("unknown field `{key}`, expected `do`, `send` or `answer`"));
        }
        let action = Action::try_from(action)?;
        if matches!(action, Action::Command(_)) {
            return Err("a command can't run another text: it might run itself, for ever; give it the action of the other command, or add \
                        its pattern there"
                .to_owned());
        }
        Ok(Self::Do { action, is_sent, answer })
    }
}

/// All names that `do` may have.
fn names() -> String {
    let others = KINDS.iter().map(|row| row.name).filter(|name| !ANSWERS.contains(name) && *name != "command");
    ANSWERS.into_iter().chain(others).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

impl CommandAction {
    /// The name of the action, as the key `do` has it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Answer(Answer::Time { .. }) => "time",
            Self::Answer(Answer::Date { .. }) => "date",
            Self::Answer(Answer::Say { .. }) => "say",
            Self::Answer(Answer::Ask { .. }) => "ask",
            Self::Do { action, .. } => action.row().name,
        }
    }

    /// The names that the action itself fills in.
    pub(super) const fn own(&self) -> &'static [&'static str] {
        match self {
            Self::Answer(Answer::Time { .. }) => &["time"],
            Self::Answer(Answer::Date { .. }) => &["date"],
            _ => &[],
        }
    }

    /// Each argument with slots: its key, and their names.
    pub(super) fn slots(&self) -> Vec<(&'static str, Vec<&str>)> {
        match self {
            Self::Answer(Answer::Time { answer, .. } | Answer::Date { answer, .. }) => {
                vec![("answer", answer.names().collect())]
            }
            Self::Answer(Answer::Say { text }) => vec![("text", text.names().collect())],
            Self::Answer(Answer::Ask { prompt }) => vec![("prompt", prompt.names().collect())],
            Self::Do { action, is_sent, answer } => {
                let key = if *is_sent { "send" } else { "do" };
                let answer = answer.iter().map(|answer| ("answer", answer.names().collect()));
                std::iter::once((key, action.slots())).chain(answer).collect()
            }
        }
    }

    /// Whether every strftime format in it can be used, and what has no slots can be sent.
    ///
    /// # Errors
    /// [`RenderError::Format`] and [`RenderError::Value`].
    pub(super) fn check(&self) -> Result<(), RenderError> {
        let any = ZonedDateTime::default();
        let formats = match self {
            Self::Answer(Answer::Time { format, full_hour, .. }) => [format.as_deref(), full_hour.as_deref()],
            Self::Answer(Answer::Date { format, .. }) => [format.as_deref(), None],
            Self::Answer(Answer::Say { .. } | Answer::Ask { .. }) => [None, None],
            Self::Do { action, .. } => return action.check_values().map_err(RenderError::Value),
        };
        formats.into_iter().flatten().try_for_each(|format| strftime(format, &any).map(drop))
    }

    /// Fills in the arguments from the slots of a match and from the facts.
    ///
    /// # Errors
    /// [`RenderError`], which an action of a loaded [`super::CommandSet`] with the slots of its own match never gives.
    pub fn render(&self, slots: &Slots, facts: &Facts) -> Result<CommandEffect, RenderError> {
        let with = |name: &str, value: String| {
            let mut values = slots.clone();
            values.insert(name.to_owned(), value);
            values
        };
        Ok(match self {
            Self::Answer(Answer::Time { format, full_hour, answer }) => {
                let usual = format.as_deref().unwrap_or(TIME_FORMAT);
                let even = full_hour.as_deref().or(format.as_deref()).unwrap_or(FULL_HOUR_FORMAT);
                let time = strftime(if facts.now.minute() == 0 { even } else { usual }, &facts.now)?;
                CommandEffect::Say(answer.render(&with("time", time))?)
            }
            Self::Answer(Answer::Date { format, answer }) => {
                let date = strftime(format.as_deref().unwrap_or(DATE_FORMAT), &facts.now)?;
                CommandEffect::Say(answer.render(&with("date", date))?)
            }
            Self::Answer(Answer::Say { text }) => CommandEffect::Say(text.render(slots)?),
            Self::Answer(Answer::Ask { prompt }) => CommandEffect::Ask(prompt.render(slots)?),
            Self::Do { action, answer, .. } => {
                let answer = answer.as_ref().map(|answer| answer.render(slots)).transpose()?;
                CommandEffect::Do(action.fill(slots)?, answer)
            }
        })
    }
}

fn strftime(format: &str, at: &ZonedDateTime) -> Result<String, RenderError> {
    jiff::fmt::strtime::format(format, at)
        .map_err(|error| RenderError::Format { format: format.to_owned(), problem: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn action(toml: &str) -> CommandAction {
        toml::from_str(toml).unwrap()
    }

    fn at(hour: i8, minute: i8) -> Facts {
        let now = jiff::civil::date(2025, 11, 24).at(hour, minute, 59, 0).in_tz("UTC").unwrap();
        Facts { now }
    }

    fn said(action: &CommandAction, facts: &Facts) -> String {
        match action.render(&Slots::new(), facts).unwrap() {
            CommandEffect::Say(text) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_time_is_written_as_a_voice_says_it_well() {
        let time = action("do = 'time'\nanswer = 'It is {time}.'");
        assert_eq!(said(&time, &at(10, 27)), "It is 10:27 AM.");
        assert_eq!(said(&time, &at(0, 5)), "It is 12:05 AM.");
        assert_eq!(said(&time, &at(22, 0)), "It is 10 PM.");
        let day = action("do = 'time'\nformat = '%H:%M'\nanswer = '{time}'");
        assert_eq!(said(&day, &at(22, 0)), "22:00");
        let own = action("do = 'time'\nformat = '%H:%M'\nfull_hour = '%-H o’clock'\nanswer = '{time}'");
        assert_eq!(said(&own, &at(9, 0)), "9 o’clock");
        let date = action("do = 'date'\nanswer = 'Today is {date}.'");
        assert_eq!(said(&date, &at(9, 0)), "Today is Monday, November 24.");
    }

    #[test]
    fn what_can_not_be_is_found_before_it_is_used() {
        let problem = |toml: &str| action(toml).check().unwrap_err().to_string();
        assert!(problem("do = 'time'\nformat = '%H:%&'\nanswer = '{time}'").contains("`%H:%&`"));
        assert!(problem("do = 'midi'\nsend = { chord = 'Xyz' }").contains("`Xyz` is no chord"));
        assert!(action("do = 'time'\nformat = '%-I:%M %p'\nanswer = '{time}'").check().is_ok());
    }

    #[test]
    fn what_is_written_for_gear_is_written_for_commands() {
        let effect = |toml: &str| match action(toml).render(&Slots::new(), &at(9, 0)).unwrap() {
            CommandEffect::Do(effect, answer) => (effect, answer),
            other => panic!("{other:?}"),
        };
        assert_eq!(effect("do = 'stop'"), (Effect::Stop, None));
        let short = effect("do = 'osc'\nsend = { target = 'lights', address = '/x' }\nanswer = 'Done.'");
        let long = effect("do = { osc = { target = 'lights', address = '/x' } }\nanswer = 'Done.'");
        assert_eq!(short, long);
        assert_eq!(short.1.as_deref(), Some("Done."));
        let (say, _) = effect("do = { say = { text = 'hello', listener = 'stage/main' } }");
        assert_eq!(say.destination().unwrap().to_string(), "the listener stage/main");
        assert_eq!(action("do = 'mute'").name(), "mute");
    }

    #[test]
    fn unknown_keys_and_actions_are_refused() {
        for (bad, part) in [
            ("do = 'stop'\nnow = true", "unknown field `now`"),
            ("do = 'say'\ntext = 'x'\nvoice = 'y'", "voice"),
            ("do = 'dance'", "unknown variant `dance`, expected one of `time`, `date`, `say`, `ask`, `push_to_talk`"),
            ("do = 'say'", "missing field `text`"),
            ("answer = 'x'", "missing field `do`"),
            ("do = 'osc'", "missing field `send`"),
            ("do = 'osc'\nsend = { target = 'a', adress = '/x' }", "adress"),
            ("do = { osc = { target = 'a', address = '/x' } }\nsend = {}", "`send` goes with"),
            ("do = { command = { text = 'x' } }", "can't run another text"),
        ] {
            let error = toml::from_str::<CommandAction>(bad).unwrap_err().to_string();
            assert!(error.contains(part), "{bad}: {error}");
        }
    }
}
