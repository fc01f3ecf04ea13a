//! What sounds, in files: when the host is killed, the next run ends the notes. A file a port, a byte a key; written before
//! a note is sent. A written byte is with the system at once, and so survives the death of the process.

use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::bus::subject::token;

/// 16 channels with 128 keys.
const KEYS: usize = 16 * 128;

/// The files.
#[derive(Debug, Default)]
pub struct NoteJournal {
    files: Vec<Option<File>>,
}

impl NoteJournal {
    /// Opens the files of `ports` in `folder`, and gives the notes that sounded when the last run ended. A file that can't be
    /// opened is reported, and its port has no journal.
    pub fn open(folder: &Path, ports: &[String]) -> (Self, Vec<Vec<(u8, u8)>>) {
        let mut journal = Self::default();
        let mut owed = Vec::new();
        for port in ports {
            match read(folder, port) {
                Ok((file, notes)) => {
                    journal.files.push(Some(file));
                    owed.push(notes);
                }
                Err(error) => {
                    let path = folder.display();
                    tracing::warn!(%path, port, %error, "what sounds is not kept: notes go on if this host is killed");
                    journal.files.push(None);
                    owed.push(Vec::new());
                }
            }
        }
        (journal, owed)
    }

    /// A note began or ended.
    pub fn note(&self, port: usize, channel: u8, note: u8, on: bool) {
        let Some(file) = self.files.get(port).and_then(Option::as_ref) else { return };
        let at = u64::from(channel.wrapping_sub(1) & 0x0f) * 128 + u64::from(note & 0x7f);
        if let Err(error) = file.write_at(&[u8::from(on)], at) {
            tracing::debug!(%error, "what sounds is not kept");
        }
    }
}

fn read(folder: &Path, port: &str) -> std::io::Result<(File, Vec<(u8, u8)>)> {
    std::fs::create_dir_all(folder)?;
    let path = folder.join(format!("{}.notes", token(port)));
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    let mut bytes = Vec::new();
    (&mut file).take(KEYS as u64).read_to_end(&mut bytes)?;
    file.set_len(KEYS as u64)?;
    let key = |at: usize| Some((u8::try_from(at / 128).ok()? + 1, u8::try_from(at % 128).ok()?));
    let notes = bytes.iter().enumerate().filter(|(_, byte)| **byte != 0).filter_map(|(at, _)| key(at)).collect();
    Ok((file, notes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_run_knows_what_sounded() {
        let folder = tempfile::tempdir().unwrap();
        let ports = ["midi_out".to_owned(), "pad".to_owned()];
        let (journal, owed) = NoteJournal::open(folder.path(), &ports);
        assert_eq!(owed, [vec![], vec![]]);
        journal.note(1, 16, 127, true);
        journal.note(1, 1, 60, true);
        journal.note(1, 2, 60, true);
        journal.note(1, 2, 60, false);
        journal.note(7, 1, 1, true);
        let (_, owed) = NoteJournal::open(folder.path(), &ports);
        assert_eq!(owed, [vec![], vec![(1, 60), (16, 127)]]);
        std::fs::write(folder.path().join("pad.notes"), "rubbish".repeat(10_000)).unwrap();
        let (_, owed) = NoteJournal::open(folder.path(), &ports);
        assert_eq!(owed[1].len(), KEYS, "all of it is ended");
    }
}
