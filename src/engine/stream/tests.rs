use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use tokio::sync::mpsc;

use super::*;
use crate::audio::Vad;
use crate::engine::{Recognizer, TranscribedSegment};

/// Says how many ms there are; takes until it is cancelled for the first `slow` clips, of which it tells `begun`.
struct Counting {
    slow: AtomicUsize,
    begun: mpsc::UnboundedSender<()>,
}

impl Counting {
    fn new(slow: usize) -> Arc<Self> {
        Self::with_slow(slow).0
    }

    fn with_slow(slow: usize) -> (Arc<Self>, mpsc::UnboundedReceiver<()>) {
        let (begun, begins) = mpsc::unbounded_channel();
        (Arc::new(Self { slow: slow.into(), begun }), begins)
    }
}

impl ClipRecognizer for Counting {
    fn recognize(
        &self,
        samples: &[f32],
        _: &TranscribeOptions,
        cancel: &CancellationToken,
    ) -> Result<Transcription, EngineError> {
        if self.slow.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok() {
            // The test may look no more.
            let _ = self.begun.send(());
            while !cancel.is_cancelled() {
                std::thread::yield_now();
            }
            return Err(EngineError::Cancelled);
        }
        let end_ms = samples.len() as u64 / 16;
        let text = format!("{end_ms} ms");
        let segments = vec![TranscribedSegment { start_ms: 0, end_ms, text: text.clone() }];
        Ok(Transcription { text, language: None, segments })
    }
}

/// Speech while the samples are loud.
struct Loud;

impl Vad for Loud {
    fn name(&self) -> &'static str {
        "loud"
    }

    fn frame_len(&self) -> usize {
        256
    }

    fn speech(&mut self, frame: &[f32]) -> f32 {
        if frame.iter().any(|sample| sample.abs() > 0.1) { 1.0 } else { 0.0 }
    }

    fn reset(&mut self) {}
}

fn options(partials: bool) -> StreamOptions {
    StreamOptions { rate_hz: 16_000, partials, transcribe: TranscribeOptions::default(), vad: Box::new(Loud) }
}

fn seconds(speech: bool, seconds: usize) -> Vec<f32> {
    vec![if speech { 0.5 } else { 0.0 }; seconds * 16_000]
}

/// Pushes as the stream takes it, and gives all that is heard to the end.
async fn all(stream: &mut dyn RecognizerStream, mut left: &[f32]) -> Vec<Recognized> {
    let mut heard = Vec::new();
    loop {
        while stream.is_ready() && !left.is_empty() {
            let (block, rest) = left.split_at(left.len().min(1_600));
            stream.push(block);
            left = rest;
        }
        if left.is_empty() {
            stream.finish();
        }
        match stream.next().await {
            Some(recognized) => heard.push(recognized.unwrap()),
            None => return heard,
        }
    }
}

#[tokio::test]
async fn a_long_stream_is_settled_at_its_pauses_with_times_from_its_beginning() {
    let audio = [seconds(true, 20), seconds(false, 3), seconds(true, 20), seconds(false, 3)].concat();
    let mut stream = Windows::open(Counting::new(0), options(false)).unwrap();
    let heard = all(stream.as_mut(), &audio).await;
    let starts: Vec<u64> = heard
        .iter()
        .map(|heard| match heard {
            Recognized::Final(heard) => heard.segments[0].start_ms,
            Recognized::Partial { .. } => panic!("no partials were asked for"),
        })
        .collect();
    assert_eq!(starts.len(), 2, "{heard:?}");
    assert!(starts[0] < 500 && (22_000..23_000).contains(&starts[1]), "{starts:?}");
    assert_eq!(stream.totals().audio_ms, 46_000);
}

#[tokio::test]
async fn the_running_text_is_made_while_nothing_is_settled_and_broken_off_by_the_end() {
    let mut stream = Windows::open(Counting::new(0), options(true)).unwrap();
    stream.push(&seconds(true, 2));
    let partial = stream.next().await.unwrap().unwrap();
    assert_eq!(partial, Recognized::Partial { start_ms: 0, text: "2000 ms".to_owned() });

    let (slow, mut begins) = Counting::with_slow(1);
    let mut stream = Windows::open(slow, options(true)).unwrap();
    stream.push(&seconds(true, 2));
    tokio::select! {
        heard = stream.next() => panic!("the engine works until it is broken off, and has heard {heard:?}"),
        begun = begins.recv() => begun.unwrap(),
    }
    stream.finish();
    let Some(Ok(Recognized::Final(heard))) = stream.next().await else { panic!("no end") };
    assert_eq!(heard.text, "2000 ms");
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn a_stream_that_is_behind_takes_no_more() {
    let mut stream = Windows::open(Counting::new(usize::MAX), options(false)).unwrap();
    let piece = [seconds(true, 20), seconds(false, 3)].concat();
    let mut pushed = 0;
    while stream.is_ready() {
        stream.push(&piece);
        pushed += 1;
        assert!(pushed < 10);
    }
    assert!((2..=4).contains(&pushed), "{pushed}");
}

#[tokio::test]
async fn an_empty_stream_ends_without_a_word() {
    let mut stream = Windows::open(Counting::new(0), options(true)).unwrap();
    stream.finish();
    assert!(stream.next().await.is_none());
    assert_eq!(stream.totals(), StreamTotals::default());
}

/// A recognizer that streams by itself: a word for each second it is given, with a partial before it.
struct Streaming;

#[derive(Default)]
struct Words {
    samples: usize,
    said: usize,
    partial: bool,
    over: bool,
}

impl Recognizer for Streaming {
    fn model(&self) -> &str {
        "streaming"
    }

    fn languages(&self) -> Vec<String> {
        Vec::new()
    }

    fn open(&self, _: StreamOptions) -> Result<Box<dyn RecognizerStream>, EngineError> {
        Ok(Box::<Words>::default())
    }
}

#[async_trait]
impl RecognizerStream for Words {
    fn is_ready(&self) -> bool {
        self.samples / 16_000 <= self.said
    }

    fn push(&mut self, samples: &[f32]) {
        self.samples += samples.len();
    }

    fn finish(&mut self) {
        self.over = true;
    }

    async fn next(&mut self) -> Option<Result<Recognized, EngineError>> {
        if self.samples / 16_000 == self.said {
            return if self.over { None } else { std::future::pending().await };
        }
        let (start_ms, text) = (self.said as u64 * 1_000, format!("word{}", self.said));
        self.partial = !self.partial;
        if self.partial {
            return Some(Ok(Recognized::Partial { start_ms, text }));
        }
        self.said += 1;
        let segments = vec![TranscribedSegment { start_ms, end_ms: start_ms + 1_000, text: text.clone() }];
        Some(Ok(Recognized::Final(Transcription { text, language: Some("en".to_owned()), segments })))
    }

    fn totals(&self) -> StreamTotals {
        StreamTotals::default()
    }
}

#[test]
fn a_clip_is_recognized_by_an_engine_that_only_streams() {
    let none = CancellationToken::new();
    let options = TranscribeOptions::default();
    let heard = Streaming.transcribe(&seconds(true, 3), &options, &none).unwrap();
    assert_eq!(heard.text, "word0 word1 word2");
    assert_eq!(heard.segments.len(), 3);
    assert_eq!((heard.segments[2].start_ms, heard.language.as_deref()), (2_000, Some("en")));
    assert!(matches!(Streaming.transcribe(&[], &options, &none), Err(EngineError::Invalid(_))));
    none.cancel();
    assert!(matches!(Streaming.transcribe(&[0.0], &options, &none), Err(EngineError::Cancelled)));
}
