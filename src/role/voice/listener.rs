//! One listener: tells the turn what happens, and does what it says. What it hears is in [`heard`].

mod heard;

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use ulid::Ulid;

use super::Told;
use super::answer::{Failure, Progress, Task, Teller, Transcription, answer, transcribe_all};
use super::earcon;
use super::meter::Meter;
use super::mouth::{self, SharedOutput};
use super::open::OpenTurn;
use super::pipeline::{Command, Pipeline, PipelineSettings, Speech, Utterance};
use super::turn::{Action, Input, Outcome, Turn};
use super::wake::{Look, WakeEar};
use crate::audio::PlaybackControl;
use crate::bus::message::agent;
use crate::bus::message::fault::Fault;
use crate::bus::message::session::{Times, What};
use crate::bus::message::voice::{Control, Mode, State, TurnState};
use crate::bus::session::now;
use crate::bus::subject;
use crate::config::{ListenMode, ListenerConfig, VoiceConfig};
use crate::engine::EngineError;
use crate::engine::wake::WakeEngine;
use crate::rig::stop::StopHeard;
use crate::role::{RoleContext, RoleError, millis};
use crate::telemetry::metrics as measured;
use crate::telemetry::trace::Trace;
use crate::text::wake::WakePhrases;

/// Progress that waits for the listener. When it is full the worker waits.
const PROGRESS: usize = 256;
/// How long a listener may be without an end to its utterance, beyond what the settings allow.
const LISTEN_GRACE: Duration = Duration::from_secs(5);

/// What a listener is made of.
pub struct Parts {
    pub context: RoleContext,
    pub config: ListenerConfig,
    pub phrases: WakePhrases,
    pub wake: Option<Arc<dyn WakeEngine>>,
    pub pipeline: PipelineSettings,
    pub told: mpsc::Receiver<Told>,
}

/// A microphone, a loudspeaker, and the turn between them.
pub struct Listener {
    context: RoleContext,
    config: ListenerConfig,
    turn: Turn,
    pipeline: Pipeline,
    meter: Meter,
    wake: Option<WakeEar>,
    looks: mpsc::Receiver<Look>,
    told: mpsc::Receiver<Told>,
    stops: StopHeard,
    teller: Teller,
    progress: mpsc::Receiver<(Ulid, Progress)>,
    output: SharedOutput,
    control: Option<PlaybackControl>,
    rate_hz: Arc<AtomicU32>,
    /// The utterance that ended while another was being looked at.
    waiting: Option<Utterance>,
    /// The utterance that ended while what came before it was being transcribed.
    went_on: Option<Utterance>,
    /// Whether somebody is speaking.
    speaking: bool,
    /// Whether a held pedal keeps the turn listening.
    held: bool,
    /// Until when the speaker of an unfinished request may go on.
    answer_at: Option<Instant>,
    /// The speech that opened the turn, if nothing but the wake phrase had been heard of it.
    phrase: Option<Speech>,
    open: Option<OpenTurn>,
    /// What was spoken last, in lower case, and until when.
    own: Option<(String, Instant)>,
    signal: Option<AbortOnDropHandle<()>>,
    session: Option<(String, Instant)>,
    /// What brought the next state about.
    why: String,
    /// What `say` is to speak, and `ask` to answer.
    to_say: String,
    listen_until: Option<Instant>,
    /// The request that came in one breath with the wake phrase: the utterance, its words, how long it took to hear them.
    heard: Option<(Utterance, String, Duration)>,
}

impl Listener {
    /// Starts its thread. JACK need not be there.
    ///
    /// # Errors
    /// What is wrong with the settings, or the bus.
    pub async fn start(parts: Parts) -> Result<Self, RoleError> {
        let Parts { context, config, phrases, wake, pipeline, told } = parts;
        let pipeline = Pipeline::start(pipeline).map_err(RoleError::Setting)?;
        let (looks_out, looks) = mpsc::channel(4);
        let wake = wake.map(|engine| WakeEar::new(phrases, engine, looks_out));
        let stops = context.rig.stops().subscribe();
        let (teller, progress) = mpsc::channel(PROGRESS);
        let mode = match config.mode {
            ListenMode::Wake => Mode::Wake,
            ListenMode::Open => Mode::Open,
            ListenMode::PushToTalk => Mode::PushToTalk,
        };
        Ok(Self {
            meter: Meter::new(&context.bus, &config.name, pipeline.peak.clone()),
            context,
            config,
            turn: Turn::new(mode),
            pipeline,
            wake,
            looks,
            told,
            stops,
            teller,
            progress,
            output: SharedOutput::default(),
            control: None,
            rate_hz: Arc::default(),
            waiting: None,
            went_on: None,
            speaking: false,
            held: false,
            answer_at: None,
            phrase: None,
            open: None,
            own: None,
            signal: None,
            session: None,
            why: "started".to_owned(),
            to_say: String::new(),
            listen_until: None,
            heard: None,
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
        self.show(TurnState::Idle).await;
        let stop = self.context.stop.clone();
        loop {
            // A host that stops lets the answer be spoken; the role cuts it off at its deadline.
            if stop.is_cancelled() && matches!(self.turn.state(), TurnState::Idle | TurnState::Listening) {
                self.step(Input::Stop, "the host stops").await;
                return Ok(());
            }
            let (listen_until, answer_at) = (self.listen_until, self.answer_at);
            tokio::select! {
                biased;
                () = stop.cancelled(), if !stop.is_cancelled() => {}
                () = self.stops.next() => self.step(Input::Stop, subject::STOP).await,
                Some((control, answer)) = self.told.recv() => {
                    let result = self.obey(control).await;
                    // A caller that no longer waits needs no answer.
                    let _ = answer.send(result);
                }
                Some((turn, progress)) = self.progress.recv() => self.take_progress(turn, progress).await,
                Some(look) = self.looks.recv() => self.take_look(look).await,
                heard = self.pipeline.hear() => match heard {
                    Some(heard) => self.take_heard(heard).await,
                    None => return Err(EngineError::Failed("the listener's thread has ended".to_owned()).into()),
                },
                () = at(answer_at), if answer_at.is_some() => self.step(Input::Waited, "the speaker has finished").await,
                () = at(listen_until), if listen_until.is_some() => {
                    self.fail("audio", Fault::failed("no end of the utterance came: JACK gives no audio")).await;
                }
            }
        }
    }

    async fn obey(&mut self, control: Control) -> Result<State, Fault> {
        let has_audio = self.control.is_some();
        let no_audio = || {
            Fault::unavailable(
                "JACK is not there, so nothing can be heard or spoken; `sidetone doctor` says what to do",
            )
        };
        match control {
            Control::PushToTalk { held } => {
                if !has_audio {
                    return Err(no_audio());
                }
                if self.turn.muted() {
                    return Err(Fault::invalid("the listener is muted: send {\"do\":\"mute\",\"on\":false} first"));
                }
                self.step(Input::PushToTalk(held), "push to talk").await;
                self.held = held == Some(true) && self.turn.is_listening();
            }
            Control::Mute { on } => {
                let on = on.unwrap_or(!self.turn.muted());
                self.pipeline.tell(Command::Mute(on));
                self.step(Input::Mute(on), if on { "muted" } else { "unmuted" }).await;
                self.show(self.turn.state()).await;
            }
            Control::Say { text } => {
                if text.trim().is_empty() {
                    return Err(Fault::invalid("text is empty: say what is to be spoken"));
                }
                if !has_audio {
                    return Err(no_audio());
                }
                self.to_say = text;
                self.step(Input::Say, "say").await;
            }
            Control::Ask { text } => {
                if text.trim().is_empty() {
                    return Err(Fault::invalid("text is empty: say what is to be answered"));
                }
                if !has_audio {
                    return Err(no_audio());
                }
                self.to_say = text;
                self.step(Input::Asked, "ask").await;
            }
            Control::Stop => self.step(Input::Stop, "stop").await,
            Control::Meter { ms } => self.meter.ask(ms),
            Control::Mode { mode } => {
                if mode != Mode::PushToTalk && self.wake.is_none() {
                    return Err(Fault::invalid(
                        "no wake model is loaded: set the listener's mode to wake or open in the settings and start the host again",
                    ));
                }
                self.step(Input::Mode(mode), "mode").await;
                self.show(self.turn.state()).await;
            }
        }
        Ok(self.state())
    }

    async fn take_progress(&mut self, turn: Ulid, progress: Progress) {
        let Some(open) = self.open.as_mut().filter(|open| open.id == turn) else { return };
        match progress {
            Progress::Transcribed(Ok(text), took) => {
                open.times.stt_ms = millis(took);
                open.transcribed = Some(Instant::now());
                open.note_words(text.trim(), self.wake.as_ref().and_then(|wake| wake.after_phrase(&text)));
                let text = open.text.clone();
                let words = text.chars().any(char::is_alphanumeric);
                let finished = !words || self.is_finished(&text);
                let why = match (words, finished) {
                    (false, _) => "no words",
                    (true, true) => "transcript",
                    (true, false) => "an unfinished transcript",
                };
                self.step(Input::Transcribed { words, finished }, why).await;
                self.go_on().await;
            }
            Progress::Transcribed(Err(fault), _) => self.fail("stt", fault).await,
            Progress::Text(text) => open.reply.push_str(&text),
            Progress::Sounding => self.step(Input::FirstSound, "first sound").await,
            Progress::Finished(Ok(spoken)) => {
                open.note_times(&spoken);
                self.step(Input::Finished, "answered").await;
            }
            Progress::Finished(Err(failure)) => self.fail_as(failure).await,
        }
    }

    async fn fail_as(&mut self, failure: Failure) {
        let why = format!("{} failed", failure.stage);
        if let Some(open) = &mut self.open {
            open.failure = Some(failure);
        }
        self.step(Input::Failed, &why).await;
    }

    async fn fail(&mut self, stage: &'static str, fault: Fault) {
        self.fail_as(Failure::new(stage, fault)).await;
    }

    /// Lets the turn take `input` in, and does what it says.
    async fn step(&mut self, input: Input, why: &str) {
        why.clone_into(&mut self.why);
        for action in self.turn.step(input) {
            match action {
                Action::Open => self.open(input),
                Action::Listen { held } => self.pipeline.tell(Command::Listen { held }),
                Action::EndListening => self.pipeline.tell(Command::End),
                Action::DropSpeech => {
                    self.speaking = false;
                    self.pipeline.tell(Command::Drop);
                }
                Action::TrimSpeech => {
                    self.speaking = false;
                    self.pipeline.tell(Command::Trim);
                }
                Action::Transcribe => self.transcribe(),
                Action::Wait => self.wait(),
                Action::Resume => self.resume(),
                Action::Answer => self.answer(),
                Action::Speak => self.speak().await,
                Action::Silence => self.silence().await,
                Action::Close(outcome) => self.close(outcome).await,
                Action::Show(state) => self.show(state).await,
            }
        }
        self.answer_at = self.answer_at.filter(|_| self.turn.is_waiting());
        self.listen_until = self.turn.is_listening().then(|| self.listen_until.unwrap_or_else(|| self.no_end_by()));
    }

    /// By when an utterance that begins now, or goes on as its next part, must have ended.
    fn no_end_by(&self) -> Instant {
        let voice = self.voice();
        let longest = Duration::from_millis(u64::from(voice.max_utterance_ms) + u64::from(voice.listen_timeout_ms));
        Instant::now() + longest + LISTEN_GRACE
    }

    fn open(&mut self, input: Input) {
        let idle = Duration::from_millis(self.voice().session_idle_ms);
        let session = match self.session.take() {
            Some((session, last)) if last.elapsed() < idle => session,
            _ => format!("{}-{}", self.config.name, Ulid::generate()),
        };
        self.session = Some((session.clone(), Instant::now()));
        (self.phrase, self.went_on) = (None, None);
        let id = Ulid::generate();
        let mut open = OpenTurn {
            id,
            trace: Trace::begin(id, &session),
            session,
            earlier: String::new(),
            earlier_ms: 0,
            utterance: None,
            parts: Vec::new(),
            transcribed: None,
            text: String::new(),
            reply: String::new(),
            times: Times::default(),
            failure: None,
            work: None,
        };
        if let Some((utterance, text, took)) = self.heard.take() {
            open.times = Times { endpoint_ms: utterance.endpoint_ms, stt_ms: millis(took), ..Times::default() };
            open.transcribed = Some(Instant::now());
            open.utterance = Some(utterance);
            open.text = text;
        }
        if input == Input::Asked {
            open.text = std::mem::take(&mut self.to_say);
        }
        self.open = Some(open);
    }

    fn transcribe(&mut self) {
        self.went_on = None;
        let (how, teller) = (self.transcription(), self.teller.clone());
        let Some((open, how)) = self.open.as_mut().zip(how) else { return };
        let parts = std::mem::take(&mut open.parts);
        // After parts, there may be nothing but silence.
        let spoken = |utterance: &&Utterance| utterance.speech.speech_ms > 0 || parts.is_empty();
        let last = open.utterance.as_ref().filter(spoken).map(|utterance| utterance.samples.clone());
        open.work = Some(spawn(open.trace.run(transcribe_all(how, parts, last.unwrap_or_default(), teller))));
    }

    fn transcription(&self) -> Option<Transcription> {
        Some(Transcription {
            fabric: self.context.fabric.clone(),
            turn: self.open.as_ref()?.id,
            language: self.config.language.clone(),
            prompt: self.config.prompt.clone(),
            timeout: Duration::from_millis(self.voice().stt_timeout_ms),
        })
    }

    fn answer(&mut self) {
        let Some(open) = &self.open else { return };
        let audio_ms = open.audio_ms();
        let heard =
            agent::Heard { node: self.context.bus.node().to_owned(), listener: self.config.name.clone(), audio_ms };
        self.begin(Task::Run { text: open.text.clone(), session: open.session.clone(), heard });
    }

    async fn speak(&mut self) {
        let text = std::mem::take(&mut self.to_say);
        if let Some(open) = &mut self.open {
            open.reply.clone_from(&text);
            let what = What::Reply { text: text.clone(), model: None };
            self.context.sessions.append(&open.session, Some(open.id), what).await;
        }
        self.begin(Task::Say(text));
    }

    fn begin(&mut self, task: Task) {
        let until = Instant::now() + Duration::from_millis(self.voice().turn_timeout_ms);
        let (output, fabric, teller) = (Arc::clone(&self.output), self.context.fabric.clone(), self.teller.clone());
        let latency = self.pipeline.playback_latency();
        let voice = (!self.config.voice.is_empty()).then(|| self.config.voice.clone());
        let Some(open) = &mut self.open else { return };
        let voice = mouth::Voice { fabric, turn: open.id, voice, until, output, latency };
        open.work = Some(spawn(open.trace.run(answer(task, voice, teller))));
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

    async fn close(&mut self, outcome: Outcome) {
        self.held = false;
        let Some(open) = self.open.take() else { return };
        let OpenTurn { id, session, times, failure, reply, .. } = open;
        if let Some((_, last)) = &mut self.session {
            *last = Instant::now();
        }
        if !reply.is_empty() {
            self.own = Some((reply.to_lowercase(), Instant::now() + self.pipeline.playback_latency()));
        }
        measured::turn(outcome.name(), &times.stages());
        tracing::info!(listener = self.config.name, turn = %id, session, ?outcome, total_ms = times.total_ms, "the turn is over");
        if let Some(Failure { stage, fault, told }) = failure {
            if !told {
                let what = What::Error { code: fault.code, message: fault.message.clone(), stage: stage.to_owned() };
                self.context.sessions.append(&session, Some(id), what).await;
            }
            self.context.bus.report(&fault).await;
            if self.control.is_some() {
                self.signal = Some(spawn(mouth::sound(Arc::clone(&self.output), earcon::failure)));
            }
        } else if outcome == Outcome::Answered && times.total_ms > 0 {
            self.context.sessions.append(&session, Some(id), What::Times(times)).await;
        }
    }

    fn state(&self) -> State {
        State {
            node: self.context.bus.node().to_owned(),
            listener: self.config.name.clone(),
            state: self.turn.state(),
            why: self.why.clone(),
            at: now(),
            session: self.open.as_ref().map(|open| open.session.clone()),
            turn: self.open.as_ref().map(|open| open.id.to_string()),
            mode: self.turn.mode(),
            muted: self.turn.muted(),
            audio: self.control.is_some(),
        }
    }

    /// Publishes the state, and takes it down if a turn is open.
    async fn show(&mut self, state: TurnState) {
        let told = State { state, ..self.state() };
        tracing::debug!(listener = self.config.name, state = state.name(), why = self.why, "state");
        if let Some(open) = &self.open {
            let what = What::State { listener: self.config.name.clone(), state, why: self.why.clone() };
            self.context.sessions.append(&open.session, Some(open.id), what).await;
        }
        let subject = subject::voice_state(self.context.bus.node(), &self.config.name);
        if let Err(error) = self.context.bus.publish(subject, &told).await {
            tracing::debug!(%error, "the state was not published");
        }
    }
}

async fn at(time: Option<Instant>) {
    tokio::time::sleep_until(time.unwrap_or_else(Instant::now).into()).await;
}

fn spawn<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> AbortOnDropHandle<T> {
    AbortOnDropHandle::new(tokio::spawn(work))
}
