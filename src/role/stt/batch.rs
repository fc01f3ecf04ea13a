//! `stt.request` as work that may wait: a recording of any length is transcribed piece by piece, each on an idle slot.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};

use super::source::Source;
use super::worker::{self, MAX_CLIP_BYTES, Worker};
use crate::audio::{Piece, Pieces, TRUNCATED, build_vad};
use crate::bus::batch::BatchJob;
use crate::bus::message::fault::Fault;
use crate::bus::message::stt::{Request, Transcript};
use crate::home::Home;
use crate::role::model_cache::blocking;

/// Pieces cut ahead. When that many wait the reader waits.
const QUEUE: usize = 2;

impl Worker {
    pub(super) async fn batch(self, job: Arc<BatchJob<Request>>) -> Result<Transcript, Fault> {
        let request = job.request.clone();
        let options = self.options(request.model.as_deref(), request.language.as_deref(), request.prompt.clone())?;
        let source = match job.file(MAX_CLIP_BYTES).await? {
            Some(file) => Source::File(file),
            None => self.source(request).await?,
        };
        let (out, mut pieces) = mpsc::channel(QUEUE);
        let (end_in, end) = oneshot::channel();
        let (home, vad) = (self.home.clone(), self.vad.clone());
        tokio::task::spawn_blocking(move || {
            // The job may have been given up.
            let _ = end_in.send(cut(source, &vad, &home, &out));
        });
        let mut transcript = Transcript {
            language: options.language.clone(),
            model: self.recognizer.model().to_owned(),
            ..Transcript::default()
        };
        while let Some(piece) = pieces.recv().await {
            let piece = Arc::new(piece);
            let (heard, took) = job
                .step(|cancel| {
                    let (piece, options) = (Arc::clone(&piece), options.clone());
                    let recognizer = Arc::clone(&self.recognizer);
                    blocking::<_, Fault>(move || {
                        let begun = Instant::now();
                        let heard = recognizer.transcribe(&piece.samples, &options, &cancel)?;
                        Ok((heard, begun.elapsed()))
                    })
                })
                .await?;
            let model = self.recognizer.model();
            let (start_ms, end_ms) = (piece.start_ms(), piece.end_ms());
            transcript.add(start_ms, worker::transcript(heard, end_ms - start_ms, took, model));
        }
        let ended = end.await.unwrap_or_else(|_| Err(Fault::failed("the reader of the recording broke")));
        let (audio_ms, truncated) = ended?;
        transcript.audio_ms = audio_ms;
        transcript.note = truncated.then(|| TRUNCATED.to_owned());
        Ok(transcript)
    }
}

/// Gives the pieces of a recording; then how long it was, in ms, and whether its end is missing.
fn cut(source: Source, vad: &str, home: &Home, out: &mpsc::Sender<Piece>) -> Result<(u64, bool), Fault> {
    let vad = build_vad(vad, &home.models()).map_err(|e| Fault::failed(e.to_string()))?;
    let (rate_hz, mut blocks) = source.open()?;
    let mut pieces = Pieces::new(rate_hz, vad).map_err(|e| Fault::invalid(e.to_string()))?;
    let give = |settled: Vec<Piece>| settled.into_iter().all(|piece| out.blocking_send(piece).is_ok());
    while let Some(block) = blocks.next() {
        if !give(pieces.push(&block?)) {
            return Err(Fault::cancelled());
        }
    }
    let (last, audio_ms) = pieces.finish();
    if audio_ms == 0 {
        return Err(Fault::invalid("the recording has no sample; record it again"));
    }
    give(last);
    Ok((audio_ms, blocks.truncated()))
}
