//! Time tags: 64 bits of seconds since 1900, the lower half fractions. They wrap around in 2036.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rosc::OscTime;

/// The time tag that means at once.
pub const IMMEDIATELY: OscTime = OscTime { seconds: 0, fractional: 1 };

/// Seconds from 1900 to 1970.
const TO_UNIX: u64 = 2_208_988_800;

/// When something is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// At once: it says so.
    Now,
    /// At once: it should have been so long ago.
    Late(Duration),
    /// After so long.
    In(Duration),
    /// In so long, which is further away than is waited for.
    TooFar(Duration),
}

/// When a message with the tag `at` is due, if it is `now`; one that lies further away than `ahead` is not waited for.
#[must_use]
pub fn due(at: OscTime, now: SystemTime, ahead: Duration) -> Due {
    // Some programs mean the same by 0.
    if at == IMMEDIATELY || (at.seconds, at.fractional) == (0, 0) {
        return Due::Now;
    }
    // Modulo 2⁶⁴, so that it holds across 2036.
    let apart = number(at).wrapping_sub(number(tag(now))).cast_signed();
    let length = from_fractions(apart.unsigned_abs());
    match apart {
        ..=0 => Due::Late(length),
        _ if length > ahead => Due::TooFar(length),
        _ => Due::In(length),
    }
}

/// A moment as a time tag.
#[must_use]
pub fn tag(moment: SystemTime) -> OscTime {
    let since = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
    let fractional = (u64::from(since.subsec_nanos()) << 32) / 1_000_000_000;
    // The seconds wrap, as those of NTP do.
    let seconds = since.as_secs().wrapping_add(TO_UNIX) & u64::from(u32::MAX);
    OscTime { seconds: low(seconds), fractional: low(fractional) }
}

fn low(number: u64) -> u32 {
    u32::try_from(number & u64::from(u32::MAX)).unwrap_or(u32::MAX)
}

fn number(at: OscTime) -> u64 {
    (u64::from(at.seconds) << 32) | u64::from(at.fractional)
}

fn from_fractions(fractions: u64) -> Duration {
    let nanos = (u64::from(low(fractions)) * 1_000_000_000) >> 32;
    Duration::new(fractions >> 32, low(nanos))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const AHEAD: Duration = Duration::from_secs(60);

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn immediate_late_later_and_too_far() {
        let now = at(1_790_000_000);
        assert_eq!(due(IMMEDIATELY, now, AHEAD), Due::Now);
        assert_eq!(due(OscTime { seconds: 0, fractional: 0 }, now, AHEAD), Due::Now);
        assert_eq!(due(tag(now), now, AHEAD), Due::Late(Duration::ZERO));
        assert_eq!(due(tag(at(1_789_999_997)), now, AHEAD), Due::Late(Duration::from_secs(3)));
        assert_eq!(due(tag(at(1_790_000_060)), now, AHEAD), Due::In(AHEAD));
        assert_eq!(due(tag(at(1_790_000_061)), now, AHEAD), Due::TooFar(Duration::from_secs(61)));
        // rosc's own conversion panics on what lies before 1970.
        assert!(matches!(due(OscTime { seconds: 1_000, fractional: 0 }, now, AHEAD), Due::Late(_) | Due::TooFar(_)));
    }

    #[test]
    fn the_year_2036_is_like_any_other() {
        let wrap = (1 << 32) - TO_UNIX;
        assert_eq!(due(tag(at(wrap + 1)), at(wrap - 1), AHEAD), Due::In(Duration::from_secs(2)));
        assert_eq!(due(tag(at(wrap - 1)), at(wrap + 1), AHEAD), Due::Late(Duration::from_secs(2)));
    }

    proptest! {
        #[test]
        fn a_tag_is_found_again(now in 1_000_000_000_u64..9_000_000_000, nanos in 0_u32..1_000_000_000, ahead in 1_u64..59_000) {
            let now = at(now) + Duration::from_nanos(nanos.into());
            let wait = Duration::from_millis(ahead);
            let Due::In(found) = due(tag(now + wait), now, AHEAD) else { panic!("{ahead} ms is not ahead") };
            prop_assert!(found.abs_diff(wait) < Duration::from_nanos(5), "{found:?} for {wait:?}");
        }

        #[test]
        fn any_tag_is_due_sometime(seconds: u32, fractional: u32, now in 0_u64..9_000_000_000) {
            let _ = due(OscTime { seconds, fractional }, at(now), AHEAD);
        }
    }
}
