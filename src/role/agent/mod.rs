//! Role `agent`: takes a person's words, runs the command they match, or asks the chat model.

pub mod command_files;
mod memory;
mod window;

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use ulid::Ulid;

use super::{Role, RoleContext, RoleError, millis};
use crate::action::Effect;
use crate::bus::Call;
use crate::bus::message::agent::{CommandList, CommandLook, Commands, Run, RunDone, RunEvent};
use crate::bus::message::fault::{Fault, FaultCode};
use crate::bus::message::llm::{Chat, ChatMessage, Done, Role as Speaker};
use crate::bus::message::session::What;
use crate::bus::service::{Incoming, ServiceSpec};
use crate::bus::subject::Capability;
use crate::command::{self, CommandEffect, CommandMatch, CommandSet, Facts};
use crate::fabric;
use crate::router::Need;
use crate::telemetry::metrics as measured;
use crate::telemetry::trace::Trace;
use memory::Memory;

/// The longest text of a turn, in characters.
const MAX_TEXT_CHARS: usize = 20_000;

/// How long the end of an answer waits until the session has it.
const KEPT_TIMEOUT: Duration = Duration::from_millis(250);
/// The agent keeps a tenth of its time for itself, within these bounds: so it can tell of a model that is late before its own
/// time is over.
const OWN_TIME_MIN: Duration = Duration::from_millis(50);
const OWN_TIME_MAX: Duration = Duration::from_millis(500);

/// Runs turns.
pub struct Agent;

#[async_trait]
impl Role for Agent {
    async fn run(self: Box<Self>, context: RoleContext) -> Result<(), RoleError> {
        let config = &context.config.agent;
        let commands = command_files::load(&config.commands).map_err(|e| RoleError::Setting(e.to_string()))?;
        let count = commands.commands().len();
        let spec = ServiceSpec {
            capability: Capability::Agent,
            about: "runs a person's turn: commands, then the model",
            engine: format!("{count} commands"),
            models: Vec::new(),
            slots: config.slots,
        };
        let offer = spec.offer();
        let server = context.bus.service(spec).await?;
        let worker = Arc::new(Worker { memory: Memory::new(&context), commands, context: context.clone() });
        let looker = Arc::clone(&worker);
        server
            .serve(move |incoming: Incoming<Run>| {
                let worker = Arc::clone(&worker);
                async move { worker.run(incoming).await }
            })
            .await?;
        server
            .serve(move |incoming: Incoming<Commands>| {
                let list = look(&looker.commands, incoming.request.text.as_deref());
                async move { Ok(list) }
            })
            .await?;
        server.ready().await?;
        context.up(offer, Some(server.load()));
        context.serve_until_stopped(server).await
    }
}

struct Worker {
    context: RoleContext,
    commands: CommandSet,
    memory: Memory,
}

/// A turn under way.
struct Turn {
    session: String,
    id: Ulid,
    begun: Instant,
    first_text_ms: Option<u64>,
    /// The answer, with what another host has given of it.
    text: String,
}

impl Turn {
    fn new(run: &Run, of_caller: Option<Ulid>) -> Result<Self, Fault> {
        let given = match &run.turn {
            None => None,
            Some(id) => Some(
                Ulid::from_string(id)
                    .map_err(|e| Fault::invalid(format!("turn {id:?} is no ULID ({e}): leave it out for a new one")))?,
            ),
        };
        let session = run.session.clone().unwrap_or_else(|| Ulid::generate().to_string());
        if session.is_empty() || session.len() > 128 {
            return Err(Fault::invalid("session must have 1 to 128 bytes: leave it out for a new one"));
        }
        let id = given.or(of_caller).unwrap_or_else(Trace::turn);
        Ok(Self { session, id, begun: Instant::now(), first_text_ms: None, text: run.said.clone() })
    }

    fn add(&mut self, text: &str) {
        self.first_text_ms.get_or_insert_with(|| millis(self.begun.elapsed()));
        self.text.push_str(text);
    }

    /// The end of the turn; `answered` is what the model says of its answer, if one gave it.
    fn done(self, command: Option<String>, answered: Option<Done>) -> RunEvent {
        let tokens = answered.as_ref().map(|done| (done.prompt_tokens, done.cached_tokens));
        let (prompt_tokens, cached_tokens) = tokens.unwrap_or_default();
        RunEvent::Done(RunDone {
            session: self.session,
            turn: self.id.to_string(),
            text: self.text,
            command,
            model: answered.map(|done| done.model),
            prompt_tokens,
            cached_tokens,
            first_text_ms: self.first_text_ms.unwrap_or_default(),
            total_ms: millis(self.begun.elapsed()),
        })
    }
}

impl Worker {
    /// Takes the answer down. Its end is told when it is kept: a host that is killed then has lost nothing. Gives whether
    /// it is.
    async fn log_reply(&self, turn: &Turn, model: Option<String>) -> bool {
        let what = What::Reply { text: turn.text.clone(), model };
        self.context.sessions.append_once_kept(&turn.session, turn.id, what, KEPT_TIMEOUT).await
    }

    async fn log(&self, turn: &Turn, what: What) {
        self.context.sessions.append_once(&turn.session, turn.id, what).await;
    }

    async fn run(&self, incoming: Incoming<Run>) -> Result<RunEvent, Fault> {
        let run = &incoming.request;
        let text = run.text.trim().to_owned();
        if text.is_empty() {
            return Err(Fault::invalid("text is empty: say or write something"));
        }
        if text.chars().count() > MAX_TEXT_CHARS {
            return Err(Fault::new(FaultCode::TooLarge, format!("text has more than {MAX_TEXT_CHARS} characters")));
        }
        let turn = Turn::new(run, incoming.turn)?;
        let (session, id) = (turn.session.clone(), turn.id);
        Trace::belongs_to(id, &session);
        let said = What::Utterance {
            text: text.clone(),
            listener: run.heard.as_ref().map(|heard| heard.listener.clone()),
            audio_ms: run.heard.as_ref().map(|heard| heard.audio_ms),
        };
        self.log(&turn, said).await;
        // Dropped before the end, by a cancel or a passed deadline, the session still says how the turn ended.
        let unfinished = Unfinished { context: &self.context, turn: Some((session, id)) };
        let result = self.answer(turn, &text, &incoming).await;
        unfinished.settle(&result).await;
        // The session has it as it was said.
        let result = result.map_err(of_others);
        if let Ok(RunEvent::Done(done)) = &result {
            measured::agent(done.first_text_ms, done.total_ms);
        }
        result
    }

    async fn answer(&self, turn: Turn, text: &str, incoming: &Incoming<Run>) -> Result<RunEvent, Fault> {
        let replies = &incoming.replies;
        replies.send(&RunEvent::Started { session: turn.session.clone(), turn: turn.id.to_string() }).await?;
        let Some(CommandMatch { command, slots, pattern, .. }) = self.commands.matches(text) else {
            return self.ask_model(turn, text, None, incoming).await;
        };
        let facts = Facts { now: jiff::ZonedDateTime::now() };
        let rendered = command.action.render(&slots, &facts);
        let prompt = if let Ok(CommandEffect::Ask(prompt)) = &rendered { Some(prompt.clone()) } else { None };
        self.log(&turn, What::Command { name: command.name.clone(), slots: slots.clone(), prompt }).await;
        replies.send(&RunEvent::Command { name: command.name.clone(), pattern, slots }).await?;
        let name = command.name.clone();
        match rendered.map_err(|e| Fault::failed(format!("the command {name}: {e}")))? {
            CommandEffect::Ask(prompt) => self.ask_model(turn, &prompt, Some(name), incoming).await,
            // It was given as a whole before the host broke off. A host that goes on with the turn after the answer does not do it
            // once more. A host that dies between the effect and the first word of its answer leaves that open, and it is done again.
            CommandEffect::Say(_) | CommandEffect::Do(..) if !turn.text.is_empty() => {
                self.log_reply(&turn, None).await;
                Ok(turn.done(Some(name), None))
            }
            CommandEffect::Do(Effect::Stop, answer) => {
                replies.send(&RunEvent::Stop).await?;
                self.context.rig.stops().fire(&format!("session {}", turn.session));
                self.say(turn, answer, name, incoming).await
            }
            CommandEffect::Say(answer) => self.say(turn, Some(answer), name, incoming).await,
            CommandEffect::Do(effect, answer) => {
                self.context.rig.perform(effect, &format!("session {}", turn.session)).await?;
                self.say(turn, answer, name, incoming).await
            }
        }
    }

    /// Ends the turn of a command with its answer, if there is one.
    async fn say(
        &self,
        mut turn: Turn,
        answer: Option<String>,
        command: String,
        incoming: &Incoming<Run>,
    ) -> Result<RunEvent, Fault> {
        if let Some(answer) = answer {
            turn.add(&answer);
            incoming.replies.send(&RunEvent::Text { text: answer }).await?;
            self.log_reply(&turn, None).await;
        }
        Ok(turn.done(Some(command), None))
    }

    async fn ask_model(
        &self,
        mut turn: Turn,
        text: &str,
        command: Option<String>,
        incoming: &Incoming<Run>,
    ) -> Result<RunEvent, Fault> {
        let config = &self.context.config.agent;
        let prompt = self.memory.prompt(&turn.session, &turn.id.to_string(), text).await;
        let mut chat = Chat {
            messages: prompt.messages,
            model: (!config.model.is_empty()).then(|| config.model.clone()),
            stream: true,
            temperature: Some(config.temperature),
            max_tokens: Some(config.max_tokens),
            format: None,
            cut_next: prompt.cut_next,
        };
        let answered = match self.chat(&mut turn, &chat, incoming).await {
            // The session is estimated to fit, and the model holds less: the question alone may fit.
            Err(fault) if fault.code == FaultCode::TooLarge => {
                let alone = self.memory.question(text);
                if alone.len() == chat.messages.len() {
                    return Err(fault);
                }
                tracing::warn!(%fault, "the model is asked again without what was said before");
                self.memory.forget(&turn.session);
                (chat.messages, chat.cut_next) = (alone, 0);
                self.chat(&mut turn, &chat, incoming).await?
            }
            result => result?,
        };
        let kept = self.log_reply(&turn, answered.as_ref().map(|done| done.model.clone())).await;
        self.memory.remember(&turn.session, &turn.id.to_string(), text, &turn.text, kept);
        Ok(turn.done(command, answered))
    }

    /// Has the model answer, as far as `turn` has no answer yet; gives what the model says of its answer.
    async fn chat(&self, turn: &mut Turn, chat: &Chat, incoming: &Incoming<Run>) -> Result<Option<Done>, Fault> {
        let left = incoming.time_left();
        let call = Call::within(left.saturating_sub((left / 10).clamp(OWN_TIME_MIN, OWN_TIME_MAX))).of_turn(turn.id);
        let need = Need {
            model: chat.model.clone().unwrap_or_default(),
            privacy: fabric::privacy_of(incoming.privacy),
            ..fabric::need(Capability::Llm)
        };
        let mut stream =
            self.context.fabric.open(&need, going_on(chat, &turn.text), &call).await.map_err(|e| e.to_fault())?;
        let mut done = None;
        while let Some(answer) = stream.next().await {
            let answer = match answer {
                Ok(answer) => answer,
                // Whoever goes on is shown what there is of the answer.
                Err(error) if stream.go_on(&error, going_on(chat, &turn.text)) => continue,
                Err(error) => return Err(error.to_fault()),
            };
            if answer.done.is_some() {
                done = answer.done;
                continue;
            }
            turn.add(&answer.text);
            incoming.replies.send(&RunEvent::Text { text: answer.text }).await?;
        }
        Ok(done)
    }
}

/// The conversation with what there is of its answer, for the model to go on with.
fn going_on(chat: &Chat, answer: &str) -> Chat {
    let mut chat = chat.clone();
    if !answer.is_empty() {
        chat.messages.push(ChatMessage::new(Speaker::Assistant, answer.to_owned()));
    }
    chat
}

/// What those whom the agent asks can't do is no reason to leave this host alone: that a model is down, full or hangs
/// must not keep commands from it. Another agent may still be asked; not where time ran out, since what was asked may have
/// been done.
fn of_others(fault: Fault) -> Fault {
    match fault.code {
        FaultCode::Unavailable | FaultCode::Busy => Fault::failed(fault.message),
        _ => fault,
    }
}

/// A turn whose end the session must tell, however it comes.
struct Unfinished<'a> {
    context: &'a RoleContext,
    turn: Option<(String, Ulid)>,
}

impl Unfinished<'_> {
    async fn settle(mut self, result: &Result<RunEvent, Fault>) {
        let Some((session, turn)) = self.turn.take() else { return };
        if let Err(fault) = result {
            self.context.sessions.append(&session, Some(turn), error(fault)).await;
        }
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        let Some((session, turn)) = self.turn.take() else { return };
        let sessions = self.context.sessions.clone();
        tokio::spawn(async move { sessions.append(&session, Some(turn), error(&Fault::cancelled())).await });
    }
}

fn error(fault: &Fault) -> What {
    What::Error { code: fault.code, message: fault.message.clone(), stage: "agent".to_owned() }
}

/// What the commands make of a text, or what commands there are.
fn look(set: &CommandSet, text: Option<&str>) -> CommandList {
    let patterns = |name: &str| {
        let command = set.commands().iter().find(|command| command.name == name);
        command.map(|c| (c.description.clone(), [c.patterns.clone(), c.aliases.clone()].concat())).unwrap_or_default()
    };
    let Some(text) = text else {
        let command = |c: &command::Command| {
            let (description, patterns) = patterns(&c.name);
            CommandLook { name: c.name.clone(), description, patterns, why: String::new(), slots: Default::default() }
        };
        return CommandList { matched: None, commands: set.commands().iter().map(command).collect() };
    };
    let candidates = set.explain(text);
    let matched = candidates.iter().find(|candidate| candidate.chosen).map(|candidate| candidate.command.clone());
    let command = |candidate: command::Candidate| {
        let (description, patterns) = patterns(&candidate.command);
        CommandLook { name: candidate.command, description, patterns, why: candidate.reason, slots: candidate.slots }
    };
    CommandList { matched, commands: candidates.into_iter().map(command).collect() }
}
