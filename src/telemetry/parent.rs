//! The W3C header `traceparent`: read and written. Pure.

use std::fmt;

use ulid::Ulid;

/// Where a request comes from, as the W3C header `traceparent` says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parent {
    /// The trace, which is the turn.
    pub turn: Ulid,
    /// The span that asks.
    pub span: u64,
}

impl Parent {
    /// Reads a header; `None` for one that is none, or says nothing.
    #[must_use]
    pub fn parse(header: &str) -> Option<Self> {
        let mut parts = header.split('-');
        let version = parts.next()?;
        let (turn, span) = (parts.next()?, parts.next()?);
        let is_hex = |text: &str, len| text.len() == len && text.bytes().all(|b| b.is_ascii_hexdigit());
        if !(is_hex(version, 2) && is_hex(turn, 32) && is_hex(span, 16)) || version == "ff" {
            return None;
        }
        let (turn, span) = (u128::from_str_radix(turn, 16).ok()?, u64::from_str_radix(span, 16).ok()?);
        (turn != 0 && span != 0).then_some(Self { turn: Ulid(turn), span })
    }
}

impl fmt::Display for Parent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-01", self.turn.0, self.span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_is_read_as_it_was_written() {
        let parent = Parent { turn: Ulid::generate(), span: 7 };
        assert_eq!(Parent::parse(&parent.to_string()), Some(parent));
        // A later version has more parts.
        let later = format!("01{}-more", parent.to_string().split_at(2).1);
        assert_eq!(Parent::parse(&later), Some(parent));
        for odd in [
            "",
            "nonsense",
            "00-zz-zz-01",
            "00-00000000000000000000000000000000-0000000000000001-01",
            "00-00000000000000000000000000000001-0000000000000000-01",
            "ff-00000000000000000000000000000001-0000000000000001-01",
            "00-+0000000000000000000000000000001-0000000000000001-01",
        ] {
            assert_eq!(Parent::parse(odd), None, "{odd}");
        }
    }
}
