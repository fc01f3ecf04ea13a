//! One listener: translates what happens into inputs of the talk, and does what the talk says. What is decided is in
//! [`crate::turn`]; here are channels, timers and handles.

mod translate;

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio_util::task::AbortOnDropHandle;
use ulid::Ulid;

use super::answer::{Failure, Progress, Reporter, Task, Transcription, answer, transcribe_all, transcribe_part};
use super::earcon;
use super::meter::Meter;
use super::open::OpenTurn;
use super::pipeline::{Command, Heard, Pipeline, PipelineSettings, Utterance};
use super::speech_output::{self, RatedPlayback, SharedPlayback, SpeechJob};
use super::wake::{Look, WakeEar};
use crate::audio::PlaybackControl;
use crate::bus::message::agent;
use crate::bus::message::fault::Fault;
use crate::bus::message::session::What;
use crate::bus::message::voice::{Control, State};
use crate::bus::session::now;
use crate::bus::subject;
use crate::config::{ListenerConfig, VoiceConfig};
use crate::engine::EngineError;
use crate::engine::wake::WakeEngine;
use crate::rig::stop::StopHeard;
use crate::role::{RoleContext, RoleError, millis};
use crate::telemetry::metrics as measured;
use crate::text::wake::WakePhrases;
use crate::turn::{Effect, Now, Outcome, Phase, Refusal, StageTimes, Talk};
use translate::Clock;

/// Progress that waits for the listener. When it is full the worker waits.
const PROGRESS: usize = 256;

type Input = crate::turn::Input<Utterance, Failure>;

/// A command to a listener, and where its answer goes.
pub type Order = (Control, oneshot::Sender<Result<State, Fault>>);

/// What a listener is made of.
pub struct Parts {
    pub context: RoleContext,
    pub config: ListenerConfig,
    pub phrases: WakePhrases,
    pub wake: Option<Arc<dyn WakeEngine>>,
    pub pipeline: PipelineSettings,
    pub orders: mpsc::Receiver<Order>,
}

/// A microphone, a loudspeaker, and the talk between them.
pub struct Listener {
    context: RoleContext,
    config: ListenerConfig,
    talk: Talk<Utterance, Failure>,
    clock: Clock,
    pipeline: Pipeline,
    meter: Meter,
    wake: Option<WakeEar>,
    looks: mpsc::Receiver<Look>,
    orders: mpsc::Receiver<Order>,
    stops: StopHeard,
    progress_in: mpsc::Sender<(u64, Progress)>,
    progress: mpsc::Receiver<(u64, Progress)>,
    playback: SharedPlayback,
    /// There while JACK is.
    control: Option<PlaybackControl>,
    rate_hz: Arc<AtomicU32>,
    open: Option<OpenTurn>,
    /// The signal of a failure, while it sounds.
    signal: Option<AbortOnDropHandle<()>>,
    /// The number of the last session in the talk, and its id.
    session: (u64, String),
    /// Whether the talk has let it go.
    left: bool,
}

impl Listener {
    /// Starts its thread. JACK need not be there.
    ///
    /// # Errors
    /// What is wrong with the settings, or the bus.
    pub async fn start(parts: Parts) -> Result<Self, RoleError> {
        let Parts { context, config, phrases, wake, pipeline, orders } = parts;
        let pipeline = Pipeline::start(pipeline).map_err(RoleError::Setting)?;
        let (looks_out, looks) = mpsc::channel(4);
        let wake = wake.map(|engine| WakeEar::new(phrases, engine, looks_out));
        let stops = context.rig.stops().subscribe();
        let (progress_in, progress) = mpsc::channel(PROGRESS);
        Ok(Self {
            meter: Meter::new(&context.bus, &config.name, pipeline.peak.clone()),
            talk: Talk::new(translate::settings(&context.config, &config, wake.is_some())),
            clock: Clock::start(),
            context,
            config,
            pipeline,
            wake,
            looks,
            orders,
            stops,
            progress_in,
            progress,
            playback: SharedPlayback::default(),
            control: None,
            rate_hz: Arc::default(),
            open: None,
            signal: None,
            session: (0, String::new()),
            left: false,
        })
    }

    fn voice(&self) -> &VoiceConfig {
        &self.context.config.voice
    }

    /// Runs until the host stops.
    ///
    /// # Errors
    /// The thread is gone.
    pub async fn run(mut self) -> Result<(), RoleError> {
        self.show(self.talk.phase(), self.talk.why().to_owned()).await;
        let stop = self.context.stop.clone();
        let mut stopping = false;
        while !self.left {
            let deadline = self.talk.deadline_ms().map(|ms| self.clock.at(ms));
            tokio::select! {
                biased;
                () = stop.cancelled(), if !stopping => {
                    stopping = true;
                    self.take(Input::HostStops).await;
                }
                () = self.stops.next() => self.take(Input::Stop { why: Cow::Borrowed(subject::STOP) }).await,
                Some((control, answer)) = self.orders.recv() => {
                    let result = self.obey(control).await;
                    // A caller that no longer waits needs no answer.
                    let _ = answer.send(result);
                }
                Some((turn, progress)) = self.progress.recv() => self.take_progress(turn, progress).await,
                Some(look) = self.looks.recv() => {
                    if self.wake.as_mut().is_some_and(|wake| wake.done(&look)) {
                        self.take(Input::Looked(self.clock.look(look))).await;
                    }
                }
                heard = self.pipeline.hear() => match heard {
                    Some(heard) => self.take_heard(heard).await,
                    None => return Err(EngineError::Failed("the listener's thread has ended".to_owned()).into()),
                },
                () = tokio::time::sleep_until(deadline.unwrap_or_else(Instant::now).into()), if deadline.is_some() => {
                    self.take(Input::Due).await;
                }
            }
        }
        Ok(())
    }

    async fn obey(&mut self, control: Control) -> Result<State, Fault> {
        if let Control::Meter { ms } = control {
            self.meter.ask(ms);
        } else if let Some(order) = translate::order(control) {
            self.step(order).await.map_err(translate::refused)?;
        }
        Ok(self.state(self.talk.phase(), self.talk.why().to_owned()))
    }

    async fn take_progress(&mut self, turn: u64, progress: Progress) {
        let wake = self.wake.as_ref();
        let after_phrase = |text: &str| wake.and_then(|wake| wake.after_phrase(text));
        let input = self.clock.progress(turn, progress, after_phrase);
        self.take(input).await;
    }

    async fn take_heard(&mut self, heard: Heard) {
        match heard {
            Heard::Up { playback, rate_hz } => {
                self.control = Some(playback.control());
                let shared = Arc::new(AtomicU32::new(rate_hz));
                self.rate_hz = Arc::clone(&shared);
                *self.playback.lock().await = Some(RatedPlayback { playback, rate_hz: shared });
                tracing::info!(listener = self.config.name, rate_hz, "JACK is there");
                self.take(Input::AudioUp).await;
            }
            Heard::Rate(rate_hz) => self.rate_hz.store(rate_hz, Ordering::Relaxed),
            Heard::Down(reason) => {
                tracing::warn!(listener = self.config.name, reason, "no JACK");
                self.control = None;
                self.take(Input::AudioLost { reason }).await;
                // The talk has broken off all work, so the lock is free.
                *self.playback.lock().await = None;
            }
            Heard::Started => self.take(Input::SpeechStarted).await,
            Heard::Partial(partial) => {
                let wanted = self.talk.wants_early_look();
                if let Some(wake) = self.wake.as_mut().filter(|_| wanted) {
                    wake.partial(partial);
                }
            }
            Heard::Ended(utterance) => self.take(Input::SpeechEnded(self.clock.utterance(utterance))).await,
        }
    }

    /// Lets the talk take in what can't be refused, and does what it says.
    async fn take(&mut self, input: Input) {
        if let Err(refusal) = self.step(input).await {
            tracing::debug!(listener = self.config.name, %refusal, "refused");
        }
    }

    /// Lets the talk take `input` in, and does what it says.
    async fn step(&mut self, input: Input) -> Result<(), Refusal> {
        let now =
            Now { ms: self.clock.ms(Instant::now()), playback_latency_ms: millis(self.pipeline.playback_latency()) };
        for effect in self.talk.step(now, input)? {
            self.apply(effect).await;
        }
        Ok(())
    }

    async fn apply(&mut self, effect: Effect<Utterance, Failure>) {
        match effect {
            Effect::Open { turn, session } => self.open(turn, session),
            Effect::Show { phase, why } => self.show(phase, why.into_owned()).await,
            Effect::Listen { held } => self.pipeline.tell(Command::Listen { held }),
            Effect::EndListening => self.pipeline.tell(Command::End),
            Effect::DropSpeech => self.pipeline.tell(Command::Drop),
            Effect::TrimSpeech => self.pipeline.tell(Command::Trim),
            Effect::Mute(on) => self.pipeline.tell(Command::Mute(on)),
            Effect::Look(utterance) => {
                if let Some(wake) = &mut self.wake {
                    wake.look_at(utterance);
                }
            }
            Effect::TranscribePart { clip, .. } => {
                let how = self.transcription();
                if let (Some(open), Some((how, reporter)), Some(clip)) = (&mut self.open, how, clip) {
                    let part = open.spawn(transcribe_part(how, clip.samples, reporter));
                    open.parts.push(part);
                }
            }
            Effect::Transcribe { clip, .. } => {
                let how = self.transcription();
                if let Some((open, (how, reporter))) = self.open.as_mut().zip(how) {
                    let parts = std::mem::take(&mut open.parts);
                    let last = clip.map_or_else(Vec::new, |clip| clip.samples);
                    open.start(transcribe_all(how, parts, last, reporter));
                }
            }
            Effect::Answer { text, audio_ms, .. } => {
                let (node, listener) = (self.context.bus.node().to_owned(), self.config.name.clone());
                let heard = agent::Heard { node, listener, audio_ms };
                self.begin(|session| Task::Run { text, session, heard });
            }
            Effect::Speak { text, .. } => {
                self.keep(What::Reply { text: text.clone(), model: None }).await;
                self.begin(|_| Task::Say(text));
            }
            Effect::Silence => self.silence().await,
            Effect::Close { outcome, times, .. } => self.close(outcome, times).await,
            Effect::SignalFailure => {
                let signal = speech_output::sound(Arc::clone(&self.playback), earcon::failure);
                self.signal = Some(AbortOnDropHandle::new(tokio::spawn(signal)));
            }
            Effect::Leave => self.left = true,
        }
    }

    fn open(&mut self, turn: u64, session: u64) {
        if session != self.session.0 {
            self.session = (session, format!("{}-{}", self.config.name, Ulid::generate()));
        }
        self.open = Some(OpenTurn::begin(turn, self.session.1.clone()));
    }

    fn reporter(&self, turn: u64) -> Reporter {
        Reporter { turn, progress: self.progress_in.clone() }
    }

    fn transcription(&self) -> Option<(Transcription, Reporter)> {
        let open = self.open.as_ref()?;
        let how = Transcription {
            fabric: self.context.fabric.clone(),
            turn: open.id,
            language: self.config.language.clone(),
            prompt: self.config.prompt.clone(),
            timeout: Duration::from_millis(self.voice().stt_timeout_ms),
        };
        Some((how, self.reporter(open.number)))
    }

    /// Begins what answers the open turn, given its session.
    fn begin(&mut self, task: impl FnOnce(String) -> Task) {
        let until = Instant::now() + Duration::from_millis(self.voice().turn_timeout_ms);
        let (playback, fabric) = (Arc::clone(&self.playback), self.context.fabric.clone());
        let latency = self.pipeline.playback_latency();
        let voice = (!self.config.voice.is_empty()).then(|| self.config.voice.clone());
        let progress = self.progress_in.clone();
        let Some(open) = &mut self.open else { return };
        let reporter = Reporter { turn: open.number, progress };
        let job = SpeechJob { fabric, turn: open.id, voice, until, playback, latency };
        open.start(answer(task(open.session.clone()), job, reporter));
    }

    /// Breaks off all work of the turn, and what sounds.
    async fn silence(&mut self) {
        let flush = |control: &Option<PlaybackControl>| control.as_ref().map_or((), PlaybackControl::flush);
        flush(&self.control);
        let work = self.open.as_mut().and_then(|open| open.work.take());
        for work in work.into_iter().chain(self.signal.take()) {
            work.abort();
            // It ends where it waits next. Until then it may still queue sound, which the second flush discards.
            let _ = work.await;
        }
        flush(&self.control);
    }

    async fn close(&mut self, outcome: Outcome<Failure>, times: StageTimes) {
        let times = translate::times(times);
        let name = outcome.name();
        measured::turn(name, &times.stages());
        if let Some(OpenTurn { id, session, .. }) = &self.open {
            let listener = &self.config.name;
            tracing::info!(listener, turn = %id, session, outcome = name, total_ms = times.total_ms, "the turn is over");
        }
        match outcome {
            Outcome::Failed(failure) => {
                let Failure { work, fault, kept } = translate::failure(failure);
                if !kept {
                    let (code, message, stage) = (fault.code, fault.message.clone(), work.name().to_owned());
                    self.keep(What::Error { code, message, stage }).await;
                }
                self.context.bus.report(&fault).await;
            }
            Outcome::Answered if times.total_ms > 0 => self.keep(What::Times(times)).await,
            Outcome::Answered | Outcome::Nothing | Outcome::Stopped | Outcome::Interrupted => {}
        }
        self.open = None;
    }

    /// Keeps an event with the open turn.
    async fn keep(&self, what: What) {
        if let Some(open) = &self.open {
            self.context.sessions.append(&open.session, Some(open.id), what).await;
        }
    }

    fn state(&self, phase: Phase, why: String) -> State {
        State {
            node: self.context.bus.node().to_owned(),
            listener: self.config.name.clone(),
            state: translate::turn_state(phase),
            why,
            at: now(),
            session: self.open.as_ref().map(|open| open.session.clone()),
            turn: self.open.as_ref().map(|open| open.id.to_string()),
            mode: translate::mode(self.talk.opens_on()),
            muted: self.talk.is_muted(),
            audio: self.talk.has_audio(),
        }
    }

    /// Publishes the state, and keeps it if a turn is open.
    async fn show(&self, phase: Phase, why: String) {
        tracing::debug!(listener = self.config.name, state = phase.name(), why, "state");
        let state = self.state(phase, why);
        self.keep(What::State { listener: state.listener.clone(), state: state.state, why: state.why.clone() }).await;
        let subject = subject::voice_state(self.context.bus.node(), &self.config.name);
        if let Err(error) = self.context.bus.publish(subject, &state).await {
            tracing::debug!(%error, "the state was not published");
        }
    }
}
