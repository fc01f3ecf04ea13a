//! Opening a session that is named on the command line.

use anyhow::bail;

use crate::bus::Bus;
use crate::bus::message::session::SessionEvent;
use crate::bus::session::{SessionReader, ids};
use crate::cli::print;

/// Ids that an error suggests.
const SUGGESTED: usize = 3;
/// How alike an id must be to be suggested: 1 is the same.
const ALIKE: f64 = 0.75;

/// Opens a session that must be there.
pub(super) async fn open(bus: &Bus, id: &str) -> anyhow::Result<(SessionReader, SessionEvent)> {
    let mut reader = SessionReader::open(bus, id).await?;
    match reader.next().await? {
        Some(first) => Ok((reader, first)),
        None if reader.unreadable > 0 => {
            bail!("session {id:?} was written by a later version: nothing of it can be read")
        }
        None => bail!("{}", unknown(id, ids(bus).await?.keys().map(String::as_str))),
    }
}

/// Says that there is no session `id`, and which are like it.
fn unknown<'a>(id: &str, there: impl Iterator<Item = &'a str>) -> String {
    let wanted = id.to_lowercase();
    let mut near: Vec<(f64, &str)> = there
        .map(|other| {
            let lower = other.to_lowercase();
            // A part of an id, such as the end that `watch` shows, means that one.
            let part = wanted.len() >= 3 && lower.contains(&wanted);
            (if part { 1.0 } else { strsim::jaro_winkler(&wanted, &lower) }, other)
        })
        .filter(|(alike, _)| *alike >= ALIKE)
        .collect();
    near.sort_by(|(a, one), (b, other)| b.total_cmp(a).then_with(|| other.cmp(one)));
    let near: Vec<_> = near.iter().take(SUGGESTED).map(|(_, id)| *id).collect();
    let hint = if near.is_empty() { String::new() } else { format!("did you mean {}? ", near.join(" or ")) };
    format!("there is no session {id:?}: {hint}`sidetone session list` shows them")
}

/// Says what was left out.
pub(super) async fn close(reader: SessionReader) {
    if reader.unreadable > 0 {
        print::note(&format!("{} events of a later version were left out", reader.unreadable));
    }
    reader.close().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_session_names_those_like_it() {
        let there = ["main-01KB3Z7D5YAZ9W1N4CV2T8Q6RE", "kitchen", "evening"];
        let unknown = |id| unknown(id, there.into_iter());
        assert!(
            unknown("kitchn").contains("there is no session \"kitchn\": did you mean kitchen?"),
            "{}",
            unknown("kitchn")
        );
        assert!(unknown("t8q6re").contains("did you mean main-01KB3Z7D5YAZ9W1N4CV2T8Q6RE?"));
        assert_eq!(unknown("zzz"), "there is no session \"zzz\": `sidetone session list` shows them");
    }
}
