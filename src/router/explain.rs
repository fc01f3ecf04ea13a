//! Why each engine is taken or not, and why none is. It looks at one after the other, where `decide` sifts them all at
//! once; the property tests hold the two together.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use rand::Rng;

use super::decide::{Reason, Router};
use super::health::{COOL_DOWN_MIN, Known, Standing};
use super::host::{Host, Model, Offer, OfferId};
use super::index::Listing;
use super::need::{Latency, Need, Privacy, language_serves};
use super::policy::{Place, means};

/// What a model of no particular kind is for.
const USUAL: &str = "usual";
/// How many engines an error names.
const NAMED_MAX: usize = 5;

/// What a decision does with an engine of the capability.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// Its host, and its name there.
    pub id: OfferId,
    /// What, and why.
    pub verdict: Verdict,
}

/// What a decision does with an engine, and why. Of several reasons against it the first of these counts.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// It is asked as the `rank`th, from 1.
    Taken {
        /// Its place in the list.
        rank: usize,
        /// Why there.
        reason: Reason,
    },
    /// It would do, but others were drawn or come first.
    Spare(Reason),
    /// It does not have what is wanted.
    Lacks(Lack),
    /// What is asked may not travel there, and this is where it is.
    Private(Place),
    /// The policy denies it, or its host.
    Denied,
    /// The policy leaves its place out.
    LeftOut(Place),
    /// Its host is about to stop.
    Draining,
    /// It failed.
    Resting {
        /// How often in a row.
        failures: u32,
        /// For how long it is left alone yet; `None` while another request finds out how it is.
        left: Option<Duration>,
    },
    /// All its slots are taken, and the work may wait.
    Full,
}

/// What an engine does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lack {
    /// Of what kind: `engine`, `voice`, `kind`, `model`, `language` or `tag`.
    pub what: &'static str,
    /// What is wanted.
    pub wanted: String,
    /// What it has of the kind.
    pub has: Vec<String>,
}

/// Why nobody can be asked, and what would do.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Nobody {
    /// No host has it.
    #[error("nobody offers {need}; offered: {offered}")]
    NotOffered {
        /// What is wanted.
        need: String,
        /// What there is instead.
        offered: String,
    },
    /// What is asked may not travel to those that have it.
    #[error(
        "{need} is offered only {found} ({hosts}), and privacy is {privacy}: allow more, or have it offered {nearer}"
    )]
    Private {
        /// What is wanted.
        need: String,
        /// `in the cloud`, `on other hosts`.
        found: String,
        /// Who has it.
        hosts: String,
        /// How far it may travel.
        privacy: Privacy,
        /// Where it would have to be.
        nearer: String,
    },
    /// The policy denies those that have it.
    #[error("{need} is offered by {hosts}, which the policy denies: see `deny` in [route.{capability}]")]
    Denied {
        /// What is wanted.
        need: String,
        /// Its capability.
        capability: String,
        /// Who has it.
        hosts: String,
    },
    /// The policy leaves out the places of those that have it.
    #[error(
        "{need} is offered by {hosts}, and the policy asks only {prefer}: name more places in `prefer` in \
         [route.{capability}]"
    )]
    LeftOut {
        /// What is wanted.
        need: String,
        /// Its capability.
        capability: String,
        /// Who has it.
        hosts: String,
        /// The places that are asked.
        prefer: String,
    },
    /// Those that have it are about to stop.
    #[error("{need} is offered by {hosts}, about to stop: start it on another host, or wait for this one to be back")]
    Draining {
        /// What is wanted.
        need: String,
        /// Who has it.
        hosts: String,
    },
    /// Those that have it failed, and are left alone for a while.
    #[error("{need} is offered by {hosts}, which failed just now: the next try may go in {} ms", retry_in.as_millis())]
    Resting {
        /// What is wanted.
        need: String,
        /// Who has it.
        hosts: String,
        /// When one of them may be tried again.
        retry_in: Duration,
    },
    /// No slot is idle, and the work may wait.
    #[error("{need} is offered by {hosts}, where no slot is idle: batch work waits for one")]
    Full {
        /// What is wanted.
        need: String,
        /// Who has it.
        hosts: String,
    },
}

impl Nobody {
    /// Whether it may pass by itself, so that the same need may be served a little later.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Draining { .. } | Self::Resting { .. } | Self::Full { .. })
    }
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let has = if self.has.is_empty() { "none".to_owned() } else { self.has.join(", ") };
        write!(f, "no {} {}; it has {has}", self.what, self.wanted)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Taken { rank, reason } => write!(f, "choice {rank}: {reason}"),
            Self::Spare(reason) => write!(f, "not drawn: {reason}"),
            Self::Lacks(lack) => lack.fmt(f),
            Self::Private(place) => write!(f, "{place}, and privacy forbids that"),
            Self::Denied => f.write_str("denied by the policy"),
            Self::LeftOut(place) => write!(f, "{place}, which the policy leaves out"),
            Self::Draining => f.write_str("about to stop"),
            Self::Resting { failures, left: Some(left) } => {
                write!(f, "{}, left alone for {} ms yet", failed(*failures), left.as_millis())
            }
            Self::Resting { failures, left: None } => {
                write!(f, "{}, another request is trying it", failed(*failures))
            }
            Self::Full => f.write_str("no slot is idle"),
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.id, self.verdict)
    }
}

fn failed(failures: u32) -> String {
    if failures == 1 { "failed once".to_owned() } else { format!("failed {failures} times in a row") }
}

impl Router<'_> {
    /// What [`Router::decide`] does with each engine of the capability, with the same `rng`: first those it takes, in their
    /// order, then the others by host and name.
    pub fn explain<R: Rng + ?Sized>(&self, need: &Need, now: Duration, rng: &mut R) -> Vec<Line> {
        let targets = self.decide(need, now, rng).unwrap_or_default();
        let rank = |id: &OfferId| targets.iter().position(|target| target.id == *id);
        let mut lines: Vec<Line> = (self.verdicts(need, now).into_iter())
            .map(|(id, verdict)| match rank(&id) {
                Some(at) => Line { id, verdict: Verdict::Taken { rank: at + 1, reason: targets[at].reason.clone() } },
                None => Line { id, verdict },
            })
            .collect();
        lines.sort_by_cached_key(|line| (rank(&line.id).unwrap_or(usize::MAX), line.id.clone()));
        lines
    }

    /// How it would be with an engine that fits.
    pub(super) fn reason(&self, need: &Need, at: usize, listing: &Listing, now: Duration) -> Reason {
        let (host, offer) = (&listing.host.name, listing.offer());
        let Known { standing, load, full, .. } = self.health.known(listing, &need.capability, at, offer.load, now);
        let mut fitting = offer.models.iter().filter(|model| fits(need, offer, model)).peekable();
        let first = fitting.peek().copied();
        let model = fitting.find(|model| model.warm).or(first);
        Reason {
            place: self.place(host, offer),
            pinned: means(self.ruled(need).pin(), host, offer),
            model: model.map(|model| model.name.clone()).unwrap_or_default(),
            warm: model.is_none_or(|model| model.warm),
            load,
            full,
            failures: if let Standing::Due { failures } = standing { failures } else { 0 },
            rival: None,
        }
    }

    fn place(&self, host: &str, offer: &Offer) -> Place {
        match offer.privacy {
            Privacy::Any => Place::Cloud,
            Privacy::Host | Privacy::Lan if host == self.here => Place::Local,
            Privacy::Host | Privacy::Lan => Place::Lan,
        }
    }

    /// Each engine of the capability, as if it were alone.
    fn verdicts(&self, need: &Need, now: Duration) -> Vec<(OfferId, Verdict)> {
        let ruled = self.ruled(need);
        let listings = self.view.index_of(&need.capability).into_iter().flat_map(|index| index.listings());
        let verdicts = listings.map(|(at, listing)| {
            let (host, offer) = (&listing.host, listing.offer());
            let place = self.place(&host.name, offer);
            let known = self.health.known(listing, &need.capability, at, offer.load, now);
            let private = match need.privacy {
                Privacy::Host => host.name != self.here || offer.privacy != Privacy::Host,
                Privacy::Lan => place == Place::Cloud,
                Privacy::Any => false,
            };
            let pinned = means(ruled.pin(), &host.name, offer);
            let verdict = if let Some(lack) = lack(need, host, offer) {
                Verdict::Lacks(lack)
            } else if private {
                Verdict::Private(place)
            } else if ruled.deny().any(|denied| means(denied, &host.name, offer)) {
                Verdict::Denied
            } else if !pinned && !ruled.prefer().iter().any(|preferred| preferred == place) {
                Verdict::LeftOut(place)
            } else if host.draining {
                Verdict::Draining
            } else if let Standing::CoolingDown { left, failures } = known.standing {
                Verdict::Resting { failures, left: Some(left) }
            } else if let Standing::Probing { failures } = known.standing {
                Verdict::Resting { failures, left: None }
            } else if known.full && need.latency == Latency::Batch {
                Verdict::Full
            } else {
                Verdict::Spare(self.reason(need, at, listing, now))
            };
            (listing.id(), verdict)
        });
        verdicts.collect()
    }
}

/// Whether a model is the one wanted, or of the class wanted, and takes the language.
fn fits(need: &Need, offer: &Offer, model: &Model) -> bool {
    is_wanted(need, model) && (need.language.is_empty() || takes(languages(offer, model), &need.language))
}

fn is_wanted(need: &Need, model: &Model) -> bool {
    let is_named = need.model.is_empty() || model.name == need.model || model.classes.contains(&need.model);
    is_named && model.kind == need.kind
}

fn languages<'a>(offer: &'a Offer, model: &'a Model) -> &'a [String] {
    if model.languages.is_empty() { &offer.languages } else { &model.languages }
}

fn takes(languages: &[String], wanted: &str) -> bool {
    languages.is_empty() || languages.iter().any(|language| language_serves(language, wanted))
}

/// The first thing that is wanted and that an engine does not have.
fn lack(need: &Need, host: &Host, offer: &Offer) -> Option<Lack> {
    if !need.engine.is_empty() && !offer.is_called(&need.engine) {
        let has = if offer.name.is_empty() { &offer.engine } else { &offer.name };
        return Some(Lack { what: "engine", wanted: need.engine.clone(), has: vec![has.clone()] });
    }
    // An engine without models does what the capability is asked for as a rule.
    let has_kind = offer.models.iter().any(|model| model.kind == need.kind);
    if !(has_kind || offer.models.is_empty() && need.kind.is_empty()) {
        let named = |kind: &str| if kind.is_empty() { USUAL } else { kind }.to_owned();
        let kinds: BTreeSet<&str> = offer.models.iter().map(|model| model.kind.as_str()).collect();
        return Some(Lack { what: "kind", wanted: named(&need.kind), has: kinds.into_iter().map(named).collect() });
    }
    if !need.voice.is_empty() && !offer.voices.contains(&need.voice) {
        return Some(Lack { what: "voice", wanted: need.voice.clone(), has: offer.voices.clone() });
    }
    if !need.model.is_empty() && !offer.models.iter().any(|model| is_wanted(need, model)) {
        let models = offer.models.iter().filter(|model| model.kind == need.kind);
        let names = models.flat_map(|model| [&model.name].into_iter().chain(&model.classes));
        return Some(Lack { what: "model", wanted: need.model.clone(), has: names.cloned().collect() });
    }
    if !need.language.is_empty() {
        let takes_it = if offer.models.is_empty() {
            takes(&offer.languages, &need.language)
        } else {
            offer.models.iter().any(|model| fits(need, offer, model))
        };
        if !takes_it {
            let wanted = offer.models.iter().filter(|model| is_wanted(need, model));
            let of_models = wanted.flat_map(|model| languages(offer, model)).cloned();
            let has = of_models.chain(offer.languages.iter().cloned()).collect::<BTreeSet<_>>().into_iter().collect();
            return Some(Lack { what: "language", wanted: need.language.clone(), has });
        }
    }
    let tag = need.tags.iter().find(|tag| !host.tags.contains(tag))?;
    Some(Lack { what: "tag", wanted: tag.clone(), has: host.tags.clone() })
}

/// Why nobody can be asked: those engines tell it that came nearest to being asked.
pub(super) fn nobody(router: &Router<'_>, need: &Need, now: Duration) -> Nobody {
    let verdicts = router.verdicts(need, now);
    let nearest = verdicts.iter().map(|(_, verdict)| nearness(verdict)).max().unwrap_or(0);
    let near: Vec<&(OfferId, Verdict)> = verdicts.iter().filter(|(_, verdict)| nearness(verdict) == nearest).collect();
    let hosts = names(near.iter().map(|(id, _)| id.to_string()));
    let capability = need.capability.clone();
    let (text, ruled) = (need.to_string(), router.ruled(need));
    match near.first().map(|(_, verdict)| verdict) {
        None => {
            let offered = names(router.view.capabilities().map(str::to_owned));
            let offered = if offered.is_empty() { "nothing, no other host is known".to_owned() } else { offered };
            Nobody::NotOffered { need: text, offered }
        }
        Some(Verdict::Lacks(_)) => Nobody::NotOffered { need: text, offered: instead(&verdicts) },
        Some(Verdict::Private(_)) => {
            let cloud = near.iter().any(|(_, verdict)| *verdict == Verdict::Private(Place::Cloud));
            let hosts_too = near.iter().any(|(_, verdict)| *verdict != Verdict::Private(Place::Cloud));
            let found = match (cloud, hosts_too) {
                (true, true) => "in the cloud and by way of other hosts",
                (true, false) => "in the cloud",
                _ => "by way of other hosts",
            };
            let nearer = if need.privacy == Privacy::Host { "on this host" } else { "by a host of the LAN" };
            let (found, nearer) = (found.to_owned(), nearer.to_owned());
            Nobody::Private { need: text, found, hosts, privacy: need.privacy, nearer }
        }
        Some(Verdict::Denied) => Nobody::Denied { need: text, capability, hosts },
        Some(Verdict::LeftOut(_)) => {
            Nobody::LeftOut { need: text, capability, hosts, prefer: ruled.prefer().to_string() }
        }
        Some(Verdict::Draining) => Nobody::Draining { need: text, hosts },
        Some(Verdict::Resting { .. }) => {
            let left = near.iter().filter_map(|(_, verdict)| match verdict {
                Verdict::Resting { left, .. } => Some(left.unwrap_or(COOL_DOWN_MIN)),
                _ => None,
            });
            Nobody::Resting { need: text, hosts, retry_in: left.min().unwrap_or(COOL_DOWN_MIN) }
        }
        Some(Verdict::Full | Verdict::Spare(_) | Verdict::Taken { .. }) => Nobody::Full { need: text, hosts },
    }
}

/// How near an engine came to being asked.
fn nearness(verdict: &Verdict) -> u8 {
    match verdict {
        Verdict::Lacks(_) => 0,
        Verdict::Private(_) => 1,
        Verdict::Denied => 2,
        Verdict::LeftOut(_) => 3,
        Verdict::Draining => 4,
        Verdict::Resting { .. } => 5,
        Verdict::Full => 6,
        Verdict::Spare(_) | Verdict::Taken { .. } => 7,
    }
}

/// What engines have of the kinds that they lack something of.
fn instead(verdicts: &[(OfferId, Verdict)]) -> String {
    let mut by_kind: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (_, verdict) in verdicts {
        if let Verdict::Lacks(lack) = verdict {
            by_kind.entry(lack.what).or_default().extend(lack.has.iter().map(String::as_str));
        }
    }
    let alone = by_kind.len() == 1;
    let kinds = by_kind.into_iter().map(|(kind, has)| {
        let has = if has.is_empty() { "none".to_owned() } else { has.into_iter().collect::<Vec<_>>().join(", ") };
        if alone { has } else { format!("{kind}s {has}") }
    });
    kinds.collect::<Vec<_>>().join("; ")
}

fn names(of: impl Iterator<Item = String>) -> String {
    let all: BTreeSet<String> = of.collect();
    let more = all.len().saturating_sub(NAMED_MAX);
    let named = all.into_iter().take(NAMED_MAX).collect::<Vec<_>>().join(", ");
    if more == 0 { named } else { format!("{named} and {more} more") }
}
