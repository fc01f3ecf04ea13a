//! What a command does, as data: an action's arguments are templates, filled in from the slots of the match.

use std::collections::BTreeMap;

use jiff::ZonedDateTime;
use serde::{Deserialize, Serialize};

use crate::action::Deed;
use crate::bus::message::{midi, osc};
use crate::text::template::{FillError, Template, ValueTemplate};

/// What a command does: the table `[command.action]`, whose key `do` says which.
///
/// An action is a variant here, a line in [`Action::check`]'s and [`Action::render`]'s `match`, and a [`Rendered`] that the role carries out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    /// Says the time of day.
    Time {
        /// How `{time}` is written, as of [`jiff::fmt::strtime`]; the default is `%-I:%M %p` (10:27 AM), and `%H:%M`
        /// is the 24-hour clock.
        format: Option<String>,
        /// The same at minute 0, as voices read `10:00 AM` as "ten zero zero". The default is `%-I %p` (10 AM) when
        /// `format` is left out too, else it is `format`.
        full_hour: Option<String>,
        /// What is said; `{time}` is the time.
        answer: Template,
    },
    /// Says the date.
    Date {
        /// How `{date}` is written, as of [`jiff::fmt::strtime`]; the default is `%A, %B %-d` (Monday, November 24).
        format: Option<String>,
        /// What is said; `{date}` is the date.
        answer: Template,
    },
    /// Says a text.
    Say {
        /// What is said.
        text: Template,
    },
    /// Asks the chat model.
    Ask {
        /// What it is asked.
        prompt: Template,
    },
    /// Stops everything that sounds or acts.
    Stop {},
    /// Sends OSC.
    Osc {
        /// What is sent: [`crate::bus::message::osc::Out`] with slots.
        send: ValueTemplate,
        /// What is said when it has left.
        answer: Option<Template>,
    },
    /// Sends MIDI.
    Midi {
        /// What is sent: [`crate::bus::message::midi::Out`] with slots.
        send: ValueTemplate,
        /// What is said when it has left.
        answer: Option<Template>,
    },
}

/// What an action may need to know of the world.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The time, in the time zone of the person who asks.
    pub now: ZonedDateTime,
}

/// An action with its arguments filled in: what the role is to do.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "one a turn")]
pub enum Rendered {
    /// Answer with this text.
    Say(String),
    /// Ask the chat model this.
    Ask(String),
    /// Stop everything that sounds or acts.
    Stop,
    /// Do this, and then answer with the text, if there is one.
    Do(Deed, Option<String>),
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
        /// What is wrong with it.
        problem: String,
    },
}

const TIME_FORMAT: &str = "%-I:%M %p";
const FULL_HOUR_FORMAT: &str = "%-I %p";
const DATE_FORMAT: &str = "%A, %B %-d";

impl Action {
    /// The name of the action, as the key `do` has it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Time { .. } => "time",
            Self::Date { .. } => "date",
            Self::Say { .. } => "say",
            Self::Ask { .. } => "ask",
            Self::Stop {} => "stop",
            Self::Osc { .. } => "osc",
            Self::Midi { .. } => "midi",
        }
    }

    /// The names that the action itself fills in.
    pub(super) const fn own(&self) -> &'static [&'static str] {
        match self {
            Self::Time { .. } => &["time"],
            Self::Date { .. } => &["date"],
            _ => &[],
        }
    }

    /// Each argument with slots: its key, and their names.
    pub(super) fn slots(&self) -> Vec<(&'static str, Vec<&str>)> {
        match self {
            Self::Time { answer, .. } | Self::Date { answer, .. } => vec![("answer", answer.names().collect())],
            Self::Say { text } => vec![("text", text.names().collect())],
            Self::Ask { prompt } => vec![("prompt", prompt.names().collect())],
            Self::Stop {} => Vec::new(),
            Self::Osc { send, answer } | Self::Midi { send, answer } => {
                let answer = answer.iter().map(|answer| ("answer", answer.names().collect()));
                std::iter::once(("send", send.names())).chain(answer).collect()
            }
        }
    }

    /// Whether every strftime format in it can be used, and every message can be one.
    ///
    /// # Errors
    /// [`RenderError::Format`] and [`RenderError::Slot`].
    pub(super) fn check(&self) -> Result<(), RenderError> {
        let any = ZonedDateTime::default();
        let formats = match self {
            Self::Time { format, full_hour, .. } => [format.as_deref(), full_hour.as_deref()],
            Self::Date { format, .. } => [format.as_deref(), None],
            Self::Osc { send, .. } => return Ok(send.check::<osc::Out>()?),
            Self::Midi { send, .. } => return Ok(send.check::<midi::Out>()?),
            Self::Say { .. } | Self::Ask { .. } | Self::Stop {} => [None, None],
        };
        formats.into_iter().flatten().try_for_each(|format| strftime(format, &any).map(drop))
    }

    /// Fills in the arguments from the slots of a match and from the facts.
    ///
    /// # Errors
    /// [`RenderError`], which an action of a loaded [`super::CommandSet`] with the slots of its own match never gives.
    pub fn render(&self, slots: &BTreeMap<String, String>, facts: &Facts) -> Result<Rendered, RenderError> {
        let with = |name: &str, value: String| {
            let mut values = slots.clone();
            values.insert(name.to_owned(), value);
            values
        };
        Ok(match self {
            Self::Time { format, full_hour, answer } => {
                let usual = format.as_deref().unwrap_or(TIME_FORMAT);
                let even = full_hour.as_deref().or(format.as_deref()).unwrap_or(FULL_HOUR_FORMAT);
                let time = strftime(if facts.now.minute() == 0 { even } else { usual }, &facts.now)?;
                Rendered::Say(answer.render(&with("time", time))?)
            }
            Self::Date { format, answer } => {
                let date = strftime(format.as_deref().unwrap_or(DATE_FORMAT), &facts.now)?;
                Rendered::Say(answer.render(&with("date", date))?)
            }
            Self::Say { text } => Rendered::Say(text.render(slots)?),
            Self::Ask { prompt } => Rendered::Ask(prompt.render(slots)?),
            Self::Stop {} => Rendered::Stop,
            Self::Osc { send, answer } => Rendered::Do(Deed::Osc(send.fill(slots)?), said(answer.as_ref(), slots)?),
            Self::Midi { send, answer } => Rendered::Do(Deed::Midi(send.fill(slots)?), said(answer.as_ref(), slots)?),
        })
    }
}

fn said(answer: Option<&Template>, slots: &BTreeMap<String, String>) -> Result<Option<String>, FillError> {
    answer.map(|answer| answer.render(slots)).transpose()
}

fn strftime(format: &str, at: &ZonedDateTime) -> Result<String, RenderError> {
    jiff::fmt::strtime::format(format, at)
        .map_err(|error| RenderError::Format { format: format.to_owned(), problem: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn action(toml: &str) -> Action {
        toml::from_str(toml).unwrap()
    }

    fn at(hour: i8, minute: i8) -> Facts {
        let now = jiff::civil::date(2025, 11, 24).at(hour, minute, 59, 0).in_tz("UTC").unwrap();
        Facts { now }
    }

    fn said(action: &Action, facts: &Facts) -> String {
        match action.render(&BTreeMap::new(), facts).unwrap() {
            Rendered::Say(text) => text,
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
    fn a_bad_format_is_found_before_it_is_used() {
        let bad = action("do = 'time'\nformat = '%H:%&'\nanswer = '{time}'");
        let text = bad.check().unwrap_err().to_string();
        assert!(text.contains("`%H:%&`"), "{text}");
        assert!(action("do = 'time'\nformat = '%-I:%M %p'\nanswer = '{time}'").check().is_ok());
    }

    #[test]
    fn unknown_keys_and_actions_are_refused() {
        for bad in ["do = 'stop'\nnow = true", "do = 'say'\ntext = 'x'\nvoice = 'y'", "do = 'dance'", "do = 'say'"] {
            assert!(toml::from_str::<Action>(bad).is_err(), "{bad}");
        }
    }
}
