//! Which channel goes to which when two clients are connected.

use std::fmt;
use std::str::FromStr;

/// The highest channel that can be named.
const CHANNEL_MAX: usize = 4_096;

/// How the channels of two clients are paired.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Channels {
    /// As many: one to one. One to many: to each. Many to one: summed. Else in turn: the side with fewer channels begins
    /// again until the other is used up, so that left stays left.
    #[default]
    Auto,
    /// One to one; what is left over stays open.
    Pairs,
    /// Each to each.
    All,
    /// These pairs, counted from 1; those that are not there are left out.
    These(Vec<(usize, usize)>),
}

/// A text that is no [`Channels`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "channels '{0}' can't be read; write \"auto\", \"pairs\", \"all\", or pairs counted from 1, such as \"1-2 2-1\""
)]
pub struct ChannelsError(pub String);

impl Channels {
    /// The pairs, counted from 0, for `sources` and `sinks` channels. No pair comes twice.
    #[must_use]
    pub fn pairs(&self, sources: usize, sinks: usize) -> Vec<(usize, usize)> {
        if sources == 0 || sinks == 0 {
            return Vec::new();
        }
        match self {
            Self::Auto => (0..sources.max(sinks)).map(|at| (at % sources, at % sinks)).collect(),
            Self::Pairs => (0..sources.min(sinks)).map(|at| (at, at)).collect(),
            Self::All => (0..sources).flat_map(|source| (0..sinks).map(move |sink| (source, sink))).collect(),
            Self::These(pairs) => {
                let there = |&(source, sink): &(usize, usize)| source <= sources && sink <= sinks;
                pairs.iter().copied().filter(there).map(|(source, sink)| (source - 1, sink - 1)).collect()
            }
        }
    }
}

impl FromStr for Channels {
    type Err = ChannelsError;

    fn from_str(text: &str) -> Result<Self, ChannelsError> {
        let refused = || ChannelsError(text.to_owned());
        match text.trim() {
            "auto" => return Ok(Self::Auto),
            "pairs" => return Ok(Self::Pairs),
            "all" => return Ok(Self::All),
            _ => {}
        }
        let channel = |text: &str| text.parse().ok().filter(|channel| (1..=CHANNEL_MAX).contains(channel));
        let mut pairs = Vec::new();
        for pair in text.split([' ', ',']).filter(|pair| !pair.is_empty()) {
            let (source, sink) = pair.split_once('-').ok_or_else(refused)?;
            let pair = (channel(source).ok_or_else(refused)?, channel(sink).ok_or_else(refused)?);
            if !pairs.contains(&pair) {
                pairs.push(pair);
            }
        }
        if pairs.is_empty() { Err(refused()) } else { Ok(Self::These(pairs)) }
    }
}

impl fmt::Display for Channels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Pairs => f.write_str("pairs"),
            Self::All => f.write_str("all"),
            Self::These(pairs) => {
                let pair = |(source, sink): &(usize, usize)| format!("{source}-{sink}");
                f.write_str(&pairs.iter().map(pair).collect::<Vec<_>>().join(" "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn unequal_counts_are_paired_by_the_stated_rule() {
        for (channels, sources, sinks, pairs) in [
            ("auto", 2, 2, vec![(0, 0), (1, 1)]),
            ("auto", 1, 2, vec![(0, 0), (0, 1)]),
            ("auto", 2, 1, vec![(0, 0), (1, 0)]),
            ("auto", 2, 4, vec![(0, 0), (1, 1), (0, 2), (1, 3)]),
            ("auto", 4, 2, vec![(0, 0), (1, 1), (2, 0), (3, 1)]),
            ("auto", 0, 2, vec![]),
            ("pairs", 1, 2, vec![(0, 0)]),
            ("pairs", 3, 2, vec![(0, 0), (1, 1)]),
            ("all", 2, 2, vec![(0, 0), (0, 1), (1, 0), (1, 1)]),
            ("1-2, 2-1", 2, 2, vec![(0, 1), (1, 0)]),
            ("1-2 5-1", 2, 2, vec![(0, 1)]),
        ] {
            let read: Channels = channels.parse().unwrap();
            assert_eq!(read.pairs(sources, sinks), pairs, "{channels} {sources} {sinks}");
        }
    }

    #[test]
    fn a_text_without_sense_says_what_would_do() {
        for text in ["", "stereo", "1", "0-1", "1-0", "1-2-3", "a-b", "-1", "1-99999", ",", "1-2;2-1"] {
            let error = text.parse::<Channels>().unwrap_err();
            assert!(error.to_string().contains("1-2 2-1"), "{error}");
        }
        for text in ["auto", "pairs", "all", "1-2 2-1"] {
            assert_eq!(text.parse::<Channels>().unwrap().to_string(), text);
        }
    }

    proptest! {
        #[test]
        fn auto_leaves_no_channel_out_and_names_none_twice(sources in 1usize..40, sinks in 1usize..40) {
            let pairs = Channels::Auto.pairs(sources, sinks);
            let once: BTreeSet<_> = pairs.iter().collect();
            prop_assert_eq!(once.len(), pairs.len());
            prop_assert_eq!(pairs.iter().map(|pair| pair.0).collect::<BTreeSet<_>>(), (0..sources).collect());
            prop_assert_eq!(pairs.iter().map(|pair| pair.1).collect::<BTreeSet<_>>(), (0..sinks).collect());
        }
    }
}
