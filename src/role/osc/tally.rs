//! What goes wrong more often than each time can be reported: it is counted, and reported once in a while.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::bus::Bus;
use crate::bus::message::fault::{Fault, FaultCode};

/// How often it is reported.
const EVERY: Duration = Duration::from_secs(5);

/// Errors that one host is answered in a second.
const ANSWERS: u32 = 20;
/// Hosts that are answered in a second.
const HOSTS: usize = 64;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Problem {
    /// From a host that may not send.
    Stranger,
    /// Not to be read.
    Unreadable,
    /// More came than could be worked on.
    Flood,
    /// More waits for its time than is kept.
    Waiting,
    /// A time tag too far ahead.
    TooFar,
    /// Not to be sent.
    Unsent,
    /// Not to be published.
    Unpublished,
}

impl Problem {
    const fn code(self) -> FaultCode {
        match self {
            Self::Stranger | Self::Unreadable | Self::TooFar => FaultCode::Invalid,
            Self::Flood | Self::Waiting => FaultCode::Busy,
            Self::Unsent | Self::Unpublished => FaultCode::Failed,
        }
    }

    const fn what(self) -> &'static str {
        match self {
            Self::Stranger => "OSC packets from hosts that osc.allow does not name were left out",
            Self::Unreadable => "OSC packets could not be read",
            Self::Flood => "OSC messages were dropped: more came than could be worked on",
            Self::Waiting => "OSC messages were dropped: too many wait for their time",
            Self::TooFar => "OSC messages were dropped: their time lies further ahead than osc.ahead_ms",
            Self::Unsent => "OSC messages could not be sent",
            Self::Unpublished => "OSC messages could not be published",
        }
    }
}

/// The count of each kind since it was last reported, with the first reason since.
#[derive(Debug, Default)]
pub struct Tally(Mutex<BTreeMap<Problem, Counted>>);

#[derive(Debug, Default)]
struct Counted {
    new: u64,
    all: u64,
    why: String,
    reported: Option<Instant>,
}

impl Tally {
    /// One more.
    pub fn count(&self, kind: Problem, why: impl FnOnce() -> String) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let counted = counts.entry(kind).or_default();
        (counted.new, counted.all) = (counted.new + 1, counted.all + 1);
        // The first reason stands for the others: in a flood, to write each down would cost more than the flood itself.
        if counted.new == 1 {
            counted.why = why();
        }
    }

    /// The faults that are to be reported now.
    pub(super) fn due(&self, now: Instant) -> Vec<Fault> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut faults = Vec::new();
        for (kind, counted) in &mut *counts {
            if counted.new == 0 || counted.reported.is_some_and(|last| now < last + EVERY) {
                continue;
            }
            let (new, all, why) = (counted.new, counted.all, &counted.why);
            let text = format!("{new} {} ({all} since the start); the first: {why}", kind.what());
            faults.push(Fault::new(kind.code(), text));
            (counted.new, counted.reported) = (0, Some(now));
        }
        faults
    }

    /// Reports, for ever.
    pub async fn report(&self, bus: &Bus) {
        let mut ticks = tokio::time::interval(Duration::from_millis(200));
        loop {
            ticks.tick().await;
            for fault in self.due(Instant::now()) {
                bus.report(&fault).await;
            }
        }
    }
}

/// Errors that are answered in this second: in a flood of nonsense the rest is only counted, and who sends it takes no answers
/// from others.
#[derive(Debug, Default)]
pub struct AnswerLimit {
    second: u64,
    hosts: BTreeMap<IpAddr, u32>,
}

impl AnswerLimit {
    /// Whether one more may go to a host; `now` counts from any moment.
    pub fn may(&mut self, host: IpAddr, now: Duration) -> bool {
        if self.second != now.as_secs() {
            self.second = now.as_secs();
            self.hosts.clear();
        }
        if self.hosts.len() == HOSTS && !self.hosts.contains_key(&host) {
            return false;
        }
        let answered = self.hosts.entry(host).or_default();
        *answered += 1;
        *answered <= ANSWERS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_floods_takes_no_answers_from_others() {
        let (mut answers, now) = (AnswerLimit::default(), Duration::from_millis(5_100));
        let host = |number: usize| IpAddr::from([10, 0, 1, u8::try_from(number).unwrap()]);
        let answered = (0..1_000).filter(|_| answers.may(host(1), now)).count();
        assert_eq!(answered, ANSWERS as usize);
        assert!(answers.may(host(2), now));
        assert!(answers.may(host(1), now + Duration::from_secs(1)));
        // Hosts are bounded as well.
        let answered = (0..200).filter(|number| answers.may(host(*number), now)).count();
        assert_eq!(answered, HOSTS);
    }

    #[test]
    fn it_is_reported_at_once_and_then_once_in_a_while() {
        let (tally, begin) = (Tally::default(), Instant::now());
        assert_eq!(tally.due(begin), []);
        tally.count(Problem::Unreadable, || "the packet is empty".to_owned());
        let reported = tally.due(begin);
        assert_eq!(
            reported[0].message,
            "1 OSC packets could not be read (1 since the start); the first: the packet is empty"
        );
        for _ in 0..3 {
            tally.count(Problem::Unreadable, || "another".to_owned());
        }
        assert_eq!(tally.due(begin + EVERY / 2), []);
        let reported = tally.due(begin + EVERY);
        assert!(reported[0].message.starts_with("3 OSC packets could not be read (4 since"), "{reported:?}");
        assert_eq!(tally.due(begin + 3 * EVERY), []);
    }
}
