//! Reads a timeline: a heading, settings, and lines of time with what happens and what is expected of it.
//!
//! An event is written in one of [`EVENTS`], what is expected in one of [`EXPECTED`], where `TEXT` stands for a text in
//! quotes, `N` for a number, and `[…]` for what may be left out.

use sidetone::turn::{AfterPhrase, Found, OpensOn, Pedal, Settings, UtteranceEnd, Work};

/// How an event is written.
pub const EVENTS: &[&str] = &[
    "audio up",
    "audio lost TEXT",
    "speech starts",
    "speech ends TEXT [by silence|length|part|pedal] [speech N]",
    "speech ends silent [by silence|length|part|pedal]",
    "early look",
    "found TEXT [then TEXT] [cut]",
    "found TEXT and more",
    "found nothing",
    "transcript TEXT [then TEXT] [of turn N]",
    "transcript fails TEXT [of turn N]",
    "text TEXT [of turn N]",
    "first sound [of turn N]",
    "spoken [of turn N]",
    "agent fails TEXT [of turn N]",
    "tts fails TEXT [of turn N]",
    "pedal tap",
    "pedal down",
    "pedal up",
    "mute",
    "unmute",
    "toggle mute",
    "mode wake|open|push_to_talk",
    "say TEXT",
    "ask TEXT",
    "stop [by TEXT]",
    "host stops",
    "due",
];

/// How what is expected is written.
pub const EXPECTED: &[&str] = &[
    "nothing",
    "open turn N in session N",
    "state STATE: WHY",
    "listen",
    "listen until released",
    "end listening",
    "drop speech",
    "trim speech",
    "mute",
    "unmute",
    "look at TEXT",
    "look at the beginning",
    "transcribe TEXT",
    "transcribe no more",
    "transcribe part TEXT",
    "transcribe part without words",
    "answer TEXT (N ms)",
    "answer TEXT (written)",
    "speak TEXT",
    "silence",
    "close turn N: OUTCOME",
    "signal failure",
    "leave",
    "refused: WHY",
    "due at TIME",
    "not due",
];

/// The settings that a file may give, as in the table `voice` of a settings file where that has them.
const SETTINGS: &[&str] = &[
    "mode",
    "finds_wake_phrases",
    "look_is_transcript",
    "language",
    "unfinished_silence_ms",
    "listen_limit_ms",
    "session_idle_ms",
    "playback_latency_ms",
];

/// What is wrong with a file, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    pub line: usize,
    pub what: String,
}

/// A file.
#[derive(Debug)]
pub struct Timeline {
    pub settings: Settings,
    pub playback_latency_ms: u64,
    pub moments: Vec<Moment>,
}

/// Something that happens, and what is expected of it.
#[derive(Debug)]
pub struct Moment {
    pub line: usize,
    pub at_ms: u64,
    pub event: Event,
    /// With its line.
    pub expected: Vec<(usize, String)>,
}

/// What happens. Turns are the last that was opened where none is named.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    AudioUp,
    AudioLost(String),
    SpeechStarts,
    /// `words` is `None` where nothing was said.
    SpeechEnds {
        words: Option<String>,
        end: UtteranceEnd,
        speech_ms: Option<u64>,
    },
    EarlyLook,
    Found {
        found: Option<Found>,
        cut: bool,
    },
    Transcript {
        words: String,
        after_phrase: Option<String>,
        turn: Option<u64>,
    },
    Fails {
        work: Work,
        why: String,
        turn: Option<u64>,
    },
    Text {
        words: String,
        turn: Option<u64>,
    },
    FirstSound {
        turn: Option<u64>,
    },
    Spoken {
        turn: Option<u64>,
    },
    Pedal(Pedal),
    Mute(Option<bool>),
    Mode(OpensOn),
    Say(String),
    Ask(String),
    Stop(String),
    HostStops,
    Due,
}

/// A word or a text in quotes.
#[derive(Debug, Clone, PartialEq)]
enum Token {
    Word(String),
    Text(String),
}

/// Reads a file.
pub fn timeline(text: &str) -> Result<Timeline, Wrong> {
    let mut lines = text.lines().enumerate().map(|(n, line)| (n + 1, line.trim_end())).peekable();
    let wrong = |line: usize, what: String| Wrong { line, what };
    if !lines.next().is_some_and(|(_, line)| line.len() > 2 && line.starts_with("# ")) {
        let what = "the first line is no heading: write `# ` and what the timeline shows".to_owned();
        return Err(wrong(1, what));
    }
    // What it shows in more words goes on to an empty line.
    while lines.next_if(|(_, line)| !line.is_empty()).is_some() {}
    let mut timeline = Timeline { settings: defaults(), playback_latency_ms: 20, moments: Vec::new() };
    for (number, line) in lines {
        let here = |what| wrong(number, what);
        let trimmed = line.trim_start();
        if trimmed.is_empty() || trimmed.starts_with("# ") {
            continue;
        }
        if trimmed.len() < line.len() {
            let expected = expectation(trimmed).map_err(here)?;
            let Some(moment) = timeline.moments.last_mut() else {
                let what =
                    format!("`{trimmed}` is expected of nothing: write a line with a time and an event above it");
                return Err(here(what));
            };
            moment.expected.push((number, expected));
        } else if line.starts_with(|c: char| c.is_ascii_digit()) {
            let (time, event) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            let at_ms = time_ms(time).map_err(here)?;
            let last_ms = timeline.moments.last().map_or(0, |moment| moment.at_ms);
            if at_ms < last_ms {
                let last = written(last_ms);
                return Err(here(format!("{time} is before {last}, the line above: lines stand in the order of time")));
            }
            let event = event_of(event.trim()).map_err(here)?;
            timeline.moments.push(Moment { line: number, at_ms, event, expected: Vec::new() });
        } else if timeline.moments.is_empty() {
            set(&mut timeline, line).map_err(here)?;
        } else {
            let what = format!(
                "`{line}` is neither an event nor expected: an event begins with a time such as 1.500, what is expected is indented"
            );
            return Err(here(what));
        }
    }
    if timeline.moments.is_empty() {
        return Err(wrong(text.lines().count(), "nothing happens: write a line such as `0.000 audio up`".to_owned()));
    }
    Ok(timeline)
}

/// What a file need not say.
fn defaults() -> Settings {
    Settings {
        opens_on: OpensOn::WakePhrase,
        finds_wake_phrases: true,
        look_is_transcript: true,
        language: "en".to_owned(),
        unfinished_silence_ms: 1_500,
        pre_roll_ms: 300,
        listen_limit_ms: 40_000,
        session_idle_ms: 600_000,
    }
}

fn set(timeline: &mut Timeline, line: &str) -> Result<(), String> {
    let Some((name, value)) = line.split_once('=').map(|(name, value)| (name.trim(), value.trim())) else {
        return Err(format!(
            "`{line}` is no setting: write `NAME = VALUE`, or begin a line of text with `# `; what happens begins with a time"
        ));
    };
    let settings = &mut timeline.settings;
    let ms =
        || value.parse::<u64>().map_err(|_| format!("{name} is {value:?}: write a whole number of ms, such as 1500"));
    let yes = || match value {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err(format!("{name} is {value:?}: write yes or no")),
    };
    match name {
        "mode" => settings.opens_on = mode(value)?,
        "finds_wake_phrases" => settings.finds_wake_phrases = yes()?,
        "look_is_transcript" => settings.look_is_transcript = yes()?,
        "language" => settings.language = value.to_owned(),
        "unfinished_silence_ms" => settings.unfinished_silence_ms = ms()?,
        "listen_limit_ms" => settings.listen_limit_ms = ms()?,
        "session_idle_ms" => settings.session_idle_ms = ms()?,
        "playback_latency_ms" => timeline.playback_latency_ms = ms()?,
        _ => return Err(format!("there is no setting {name:?}: they are {}", SETTINGS.join(", "))),
    }
    Ok(())
}

fn mode(name: &str) -> Result<OpensOn, String> {
    match name {
        "wake" => Ok(OpensOn::WakePhrase),
        "open" => Ok(OpensOn::Speech),
        "push_to_talk" => Ok(OpensOn::Pedal),
        _ => Err(format!("there is no mode {name:?}: write wake, open or push_to_talk")),
    }
}

/// Seconds with ms behind the point.
fn time_ms(text: &str) -> Result<u64, String> {
    let parsed = text
        .split_once('.')
        .filter(|(_, ms)| ms.len() == 3)
        .and_then(|(seconds, ms)| Some(seconds.parse::<u64>().ok()?.checked_mul(1_000)? + ms.parse::<u64>().ok()?));
    parsed.ok_or_else(|| format!("{text:?} is no time: write seconds and three digits of ms, such as 1.500"))
}

/// A time as it is written.
pub fn written(ms: u64) -> String {
    format!("{}.{:03}", ms / 1_000, ms % 1_000)
}

fn tokens(line: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = line.trim();
    while !rest.is_empty() {
        let (token, behind) = if let Some(quoted) = rest.strip_prefix('"') {
            let Some((text, behind)) = quoted.split_once('"') else {
                return Err(format!("the quotes of \"{quoted} are not closed: write \"{quoted}\""));
            };
            (Token::Text(text.to_owned()), behind)
        } else {
            let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
            (Token::Word(rest[..end].to_owned()), &rest[end..])
        };
        tokens.push(token);
        rest = behind.trim_start();
    }
    Ok(tokens)
}

/// Takes options off the end of an event, one word and what follows it.
struct Tokens<'a> {
    line: &'a str,
    left: Vec<Token>,
}

impl Tokens<'_> {
    /// What follows `name`, if that stands in the line.
    fn option(&mut self, name: &str) -> Result<Option<Token>, String> {
        let Some(at) = self.left.iter().position(|token| *token == Token::Word(name.to_owned())) else {
            return Ok(None);
        };
        if at + 1 >= self.left.len() {
            return Err(format!("nothing follows `{name}` in `{}`", self.line));
        }
        self.left.remove(at);
        Ok(Some(self.left.remove(at)))
    }

    fn text(&mut self, name: &str) -> Result<Option<String>, String> {
        match self.option(name)? {
            None => Ok(None),
            Some(Token::Text(text)) => Ok(Some(text)),
            Some(Token::Word(word)) => {
                Err(format!("`{name} {word}`: a text stands in quotes, as in `{name} \"{word}\"`"))
            }
        }
    }

    fn number(&mut self, name: &str) -> Result<Option<u64>, String> {
        match self.option(name)? {
            None => Ok(None),
            Some(Token::Word(word)) if word.parse::<u64>().is_ok() => Ok(word.parse().ok()),
            Some(other) => Err(format!("what follows `{name}` is no number: {other:?}; write one, such as `{name} 2`")),
        }
    }

    fn flag(&mut self, name: &str) -> bool {
        let at = self.left.iter().position(|token| *token == Token::Word(name.to_owned()));
        at.map(|at| self.left.remove(at)).is_some()
    }

    /// `of turn N`.
    fn turn(&mut self) -> Result<Option<u64>, String> {
        Ok(if self.flag("of") { self.number("turn")? } else { None })
    }
}

fn event_of(line: &str) -> Result<Event, String> {
    let first = line.split_whitespace().next().unwrap_or_default();
    if line.is_empty() {
        return Err("nothing happens at this time: write an event behind it, such as `speech starts`".to_owned());
    }
    let mut tokens = Tokens { line, left: tokens(line)? };
    let turn = tokens.turn()?;
    let (by, speech_ms) = match first {
        "speech" if line.starts_with("speech ends") => {
            let by = tokens.option("by")?;
            // The first word of the line is the same.
            let first = tokens.left.remove(0);
            let speech_ms = tokens.number("speech")?;
            tokens.left.insert(0, first);
            (by, speech_ms)
        }
        "stop" => (tokens.option("by")?, None),
        _ => (None, None),
    };
    let then = if matches!(first, "found" | "transcript") { tokens.text("then")? } else { None };
    let cut = first == "found" && tokens.flag("cut");
    let words: Vec<&str> =
        tokens.left.iter().map(|token| if let Token::Word(word) = token { word.as_str() } else { "TEXT" }).collect();
    let form = words.join(" ");
    let text =
        tokens.left.iter().find_map(|token| if let Token::Text(text) = token { Some(text.clone()) } else { None });
    let text = text.unwrap_or_default();
    let end = || match &by {
        None => Ok(UtteranceEnd::Silence),
        Some(Token::Word(word)) => match word.as_str() {
            "silence" => Ok(UtteranceEnd::Silence),
            "length" => Ok(UtteranceEnd::MaxLength),
            "part" => Ok(UtteranceEnd::Part),
            "pedal" => Ok(UtteranceEnd::Pedal),
            _ => Err(format!("speech is not ended by {word:?}: write silence, length, part or pedal")),
        },
        Some(Token::Text(text)) => {
            Err(format!("speech is not ended by \"{text}\": write silence, length, part or pedal"))
        }
    };
    Ok(match form.as_str() {
        "audio up" => Event::AudioUp,
        "audio lost TEXT" => Event::AudioLost(text),
        "speech starts" => Event::SpeechStarts,
        "speech ends TEXT" => Event::SpeechEnds { words: Some(text), end: end()?, speech_ms },
        "speech ends silent" => Event::SpeechEnds { words: None, end: end()?, speech_ms: Some(0) },
        "early look" => Event::EarlyLook,
        "found TEXT" => {
            let after = then.map_or(AfterPhrase::Nothing, AfterPhrase::Words);
            Event::Found { found: Some(Found { phrase: text, after }), cut }
        }
        "found TEXT and more" => Event::Found { found: Some(Found { phrase: text, after: AfterPhrase::Unheard }), cut },
        "found nothing" => Event::Found { found: None, cut },
        "transcript TEXT" => Event::Transcript { words: text, after_phrase: then, turn },
        "transcript fails TEXT" => Event::Fails { work: Work::Stt, why: text, turn },
        "agent fails TEXT" => Event::Fails { work: Work::Agent, why: text, turn },
        "tts fails TEXT" => Event::Fails { work: Work::Tts, why: text, turn },
        "text TEXT" => Event::Text { words: text, turn },
        "first sound" => Event::FirstSound { turn },
        "spoken" => Event::Spoken { turn },
        "pedal tap" => Event::Pedal(Pedal::Tap),
        "pedal down" => Event::Pedal(Pedal::Down),
        "pedal up" => Event::Pedal(Pedal::Up),
        "mute" => Event::Mute(Some(true)),
        "unmute" => Event::Mute(Some(false)),
        "toggle mute" => Event::Mute(None),
        "say TEXT" => Event::Say(text),
        "ask TEXT" => Event::Ask(text),
        "stop" => match by {
            None => Event::Stop("stop".to_owned()),
            Some(Token::Text(by) | Token::Word(by)) => Event::Stop(by),
        },
        "host stops" => Event::HostStops,
        "due" => Event::Due,
        _ if first == "mode" && words.len() == 2 => Event::Mode(mode(words[1])?),
        _ => return Err(format!("there is no event `{line}`: {}", nearest(&form, EVENTS))),
    })
}

/// What is expected, as it is written, if it can be at all.
fn expectation(line: &str) -> Result<String, String> {
    let is_one = EXPECTED.iter().any(|form| {
        // Up to the first part that varies.
        let fixed = form.find(|c: char| c.is_uppercase()).map_or(*form, |at| &form[..at]);
        if fixed.len() < form.len() { line.starts_with(fixed) } else { line == *form }
    });
    if is_one { Ok(line.to_owned()) } else { Err(format!("nothing does `{line}`: {}", nearest(line, EXPECTED))) }
}

/// Which of `forms` was meant, perhaps, and what they are.
fn nearest(given: &str, forms: &[&str]) -> String {
    let bare = |form: &str| form.split(" [").next().unwrap_or_default().to_owned();
    let near = forms.iter().max_by(|a, b| {
        let near = |form: &str| strsim::normalized_damerau_levenshtein(given, &bare(form));
        near(a).total_cmp(&near(b))
    });
    format!("write `{}`, or one of:\n  {}", near.unwrap_or(&""), forms.join("\n  "))
}
