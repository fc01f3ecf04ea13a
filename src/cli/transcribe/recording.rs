//! Reads a recording on a thread of its own, piece by piece, as fast as they are taken.

use std::path::Path;

use anyhow::Context as _;
use tokio::sync::{mpsc, oneshot};

use crate::audio::{ClipError, ClipReader, Piece, Pieces, build_vad};
use crate::home::Home;

/// Pieces read ahead. When that many wait the reader waits.
const QUEUE: usize = 2;

/// A recording that is being read.
pub struct Recording {
    /// How long it is, in ms, if its header tells.
    pub expected_ms: Option<u64>,
    pieces: mpsc::Receiver<Piece>,
    end: oneshot::Receiver<Result<Ended, ClipError>>,
}

/// What is known of a recording when it has been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// How long it is, in ms.
    pub audio_ms: u64,
    /// Whether the file ends before its header says.
    pub truncated: bool,
}

impl Recording {
    /// Opens `path`, or standard input if it is `-`, which is read no faster than it is transcribed.
    ///
    /// # Errors
    /// [`ClipError`] when it is no audio that can be read.
    pub async fn open(path: &Path, vad: &str, home: &Home) -> anyhow::Result<Self> {
        let (path, vad, home) = (path.to_owned(), vad.to_owned(), home.clone());
        let (sender, pieces) = mpsc::channel(QUEUE);
        let (opened_in, opened) = oneshot::channel();
        let (end_in, end) = oneshot::channel();
        tokio::task::spawn_blocking(move || {
            let parts = open(&path, &vad, &home);
            match parts {
                Ok(parts) => {
                    if opened_in.send(Ok(parts.reader.duration_ms())).is_ok() {
                        // The transcription may have been given up.
                        let _ = end_in.send(parts.read(&sender));
                    }
                }
                Err(error) => drop(opened_in.send(Err(error))),
            }
        });
        let expected_ms = opened.await.context("the reader broke")??;
        Ok(Self { expected_ms, pieces, end })
    }

    /// The next piece; `None` at the end.
    pub async fn next(&mut self) -> Option<Piece> {
        self.pieces.recv().await
    }

    /// What is known at the end, after [`Recording::next`] gave `None`.
    ///
    /// # Errors
    /// [`ClipError`] when it could be read to no end.
    pub async fn ended(self) -> anyhow::Result<Ended> {
        Ok(self.end.await.context("the reader broke")??)
    }
}

struct Parts {
    reader: ClipReader,
    pieces: Pieces,
}

fn open(path: &Path, vad: &str, home: &Home) -> anyhow::Result<Parts> {
    let reader = if path.as_os_str() == "-" { ClipReader::live(std::io::stdin())? } else { ClipReader::open(path)? };
    let pieces = Pieces::new(reader.rate_hz(), build_vad(vad, &home.models())?)?;
    Ok(Parts { reader, pieces })
}

impl Parts {
    /// Reads to the end, or until the pieces are taken no more.
    fn read(mut self, pieces: &mpsc::Sender<Piece>) -> Result<Ended, ClipError> {
        let give = |settled: Vec<Piece>| settled.into_iter().all(|piece| pieces.blocking_send(piece).is_ok());
        let mut wanted = true;
        while let Some(block) = self.reader.next().filter(|_| wanted) {
            wanted = give(self.pieces.push(&block?));
        }
        let (last, audio_ms) = self.pieces.finish();
        if wanted {
            give(last);
        }
        Ok(Ended { audio_ms, truncated: self.reader.truncated() })
    }
}
