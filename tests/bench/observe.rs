//! Hears everything on the bus, and tells how long the engines worked for a turn or an answer by their own word.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures::StreamExt as _;
use sidetone::bus::codec::{self, Format, header};
use sidetone::bus::headers;
use sidetone::bus::message::{Ask, llm, stt, tts};
use sidetone::bus::subject::Target;
use sidetone::text::sentence::SentenceSplitter;
use tokio_util::task::AbortOnDropHandle;

/// A chunk of speech is larger than this, the summary at its end smaller.
const SUMMARY_BYTES: usize = 2_048;
/// Requests whose answers are awaited.
const OPEN: usize = 256;

/// What the engines did since [`Observer::take`] was last called.
#[derive(Debug, Clone, Default)]
pub struct Work {
    /// How long the recognizer worked, once a clip.
    pub stt_ms: Vec<f64>,
    /// How long the synthesizer took to the first audio, once a sentence.
    pub first_audio_ms: Vec<f64>,
    /// How long the chat model took to the end of its first sentence, once an answer.
    pub first_sentence_ms: Vec<f64>,
    /// How long the chat model worked, once an answer.
    pub llm_ms: Vec<f64>,
}

/// Listens as long as it lives.
pub struct Observer {
    work: Arc<Mutex<Work>>,
    _listener: AbortOnDropHandle<()>,
}

enum Asked {
    Transcript,
    Speech,
    Answer { at: Instant, splitter: Box<SentenceSplitter>, sentence: Option<Duration> },
}

impl Observer {
    /// Starts to listen on the server at `url`.
    pub async fn start(url: &str) -> anyhow::Result<Self> {
        let client = async_nats::connect(url).await.context("the observer can't connect")?;
        // One subscription for all, so that a request is heard before its answers.
        let mut messages = client.subscribe(">").await?;
        client.flush().await?;
        let work = Arc::<Mutex<Work>>::default();
        let notes = Arc::clone(&work);
        let listener = tokio::spawn(async move {
            let _client = client;
            let mut open = HashMap::<String, Asked>::new();
            while let Some(message) = messages.next().await {
                hear(&message, &mut open, &notes);
            }
        });
        Ok(Self { work, _listener: AbortOnDropHandle::new(listener) })
    }

    /// What was done since the last call.
    pub fn take(&self) -> Work {
        std::mem::take(&mut *self.work.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Whether a message on `subject` is a request `A`, in whichever of its subject forms.
fn asks<A: Ask>(subject: &str) -> bool {
    subject.starts_with(&A::VERB.subject(Target::Any))
}

fn hear(message: &async_nats::Message, open: &mut HashMap<String, Asked>, work: &Mutex<Work>) {
    let subject = message.subject.as_str();
    let asked = if asks::<stt::Request>(subject) {
        Some(Asked::Transcript)
    } else if asks::<tts::Stream>(subject) {
        Some(Asked::Speech)
    } else if asks::<llm::Chat>(subject) {
        Some(Asked::Answer { at: Instant::now(), splitter: Box::default(), sentence: None })
    } else {
        None
    };
    if let (Some(asked), Some(reply)) = (asked, &message.reply) {
        if open.len() >= OPEN {
            open.clear();
        }
        open.insert(reply.to_string(), asked);
        return;
    }
    let Some(asked) = open.get_mut(subject) else { return };
    // The chunks for a caller that gives credit have none, and hosts ask for this format.
    let kind = match &message.headers {
        Some(headers) => headers::text(Some(headers), header::CONTENT_TYPE),
        None => Format::MsgPack.content_type(),
    };
    let mut work = work.lock().unwrap_or_else(PoisonError::into_inner);
    match asked {
        Asked::Transcript => {
            if let Ok(transcript) = codec::decode::<stt::Transcript>(kind, &message.payload) {
                work.stt_ms.push(transcript.engine_ms as f64);
            }
        }
        Asked::Speech => {
            let small = message.payload.len() < SUMMARY_BYTES;
            let chunk = small.then(|| codec::decode::<tts::Chunk>(kind, &message.payload).ok()).flatten();
            if let Some(spoken) = chunk.and_then(|chunk| chunk.done) {
                work.first_audio_ms.push(spoken.first_audio_ms as f64);
            }
        }
        Asked::Answer { at, splitter, sentence } => {
            let Ok(answer) = codec::decode::<llm::Answer>(kind, &message.payload) else { return };
            match answer.done {
                None if !splitter.push(&answer.text).is_empty() => {
                    sentence.get_or_insert_with(|| at.elapsed());
                }
                None => {}
                Some(done) => {
                    let first = sentence.unwrap_or_else(|| at.elapsed());
                    work.first_sentence_ms.push(super::support::ms(first));
                    work.llm_ms.push(done.engine_ms as f64);
                }
            }
        }
    }
}
