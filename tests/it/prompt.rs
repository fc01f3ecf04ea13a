//! What a real model reads anew at each turn of a talk, by its own server's counts.

use sidetone::bus::message::agent::{Run, RunDone, RunEvent};
use sidetone::bus::subject::Target;
use sidetone::bus::{Bus, Call};
use sidetone::home::Home;

use crate::support::host::{HostSpec, PATIENCE};
use crate::support::nats::eventually;
use crate::support::{model, need};

/// A talk of twelve turns. The fifth is a command that asks the model in words of its own.
const TALK: [&str; 12] = [
    "Where is the city of Paris?",
    "What is it known for?",
    "How many people live there?",
    "Which river flows through it?",
    "Ask the model what one would eat there.",
    "When should I go?",
    "How do I get there from London?",
    "What does the train cost?",
    "Is it safe at night?",
    "Which museum should I see first?",
    "How warm is it in June?",
    "Thank you, what should I pack?",
];
/// The most tokens of an answer.
const ANSWER: u32 = 24;
/// The most tokens of a question with the mark-up around it.
const QUESTION: u32 = 24;
/// What the model's host logs when it has read ahead.
const READ_AHEAD: &str = "the next prompt of a conversation is read";

async fn ask(bus: &Bus, node: &str, text: &str) -> RunDone {
    let run = Run {
        text: text.to_owned(),
        session: Some("talk".to_owned()),
        turn: None,
        stream: false,
        heard: None,
        said: String::new(),
    };
    match bus.ask(Target::Node(node), &run, &Call::within(PATIENCE)).await.unwrap() {
        RunEvent::Done(done) => done,
        event => panic!("{event:?}"),
    }
}

/// The tokens of the prompt that the model had not read for an earlier one.
fn read_anew(done: &RunDone) -> u32 {
    done.prompt_tokens.unwrap() - done.cached_tokens.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_talk_is_not_read_again_at_each_turn() {
    if model("smollm2-135m-instruct", "model.gguf").is_none()
        || !need(Home::find(None).python().is_file(), "the Python environment with xllamacpp")
    {
        return;
    }
    let settings = ["agent.temperature=0", "agent.history_turns=6", &format!("agent.max_tokens={ANSWER}")];
    let solo = HostSpec::new("solo", "agent,llm").set(&["llm.engine=llamacpp"]).set(&settings).start().await;
    let (mut turns, mut cuts) = (Vec::new(), 0);
    for text in TALK {
        turns.push(ask(solo.bus(), "solo", text).await);
        // Seven turns are one too many: after the seventh a block of three goes, and again after the tenth.
        if matches!(turns.len(), 7 | 10) {
            cuts += 1;
            eventually(|| async { (solo.log().matches(READ_AHEAD).count() == cuts).then_some(()) }).await;
        }
    }
    let prompts: Vec<u32> = turns.iter().map(|done| done.prompt_tokens.unwrap()).collect();
    let shorter: Vec<usize> = (1..TALK.len()).filter(|&turn| prompts[turn] < prompts[turn - 1]).collect();
    assert_eq!(shorter, [7, 10], "the beginning moves at the eighth turn and the eleventh: {prompts:?}");
    // All of an answer may have to be read again, where its tokens are not the ones that its text is split into.
    let anew: Vec<u32> = turns.iter().map(read_anew).collect();
    assert!(anew[1..].iter().all(|tokens| *tokens <= QUESTION + ANSWER), "{anew:?} of {prompts:?}");
    assert!(prompts[7..].iter().all(|tokens| *tokens > 3 * (QUESTION + ANSWER)), "{prompts:?}");

    // A host that has never heard of the session asks with the same bytes.
    let other = HostSpec::new("other", "agent").on(&solo.spec.url()).set(&settings).start().await;
    let done = ask(other.bus(), "other", "Then good night.").await;
    assert!(done.prompt_tokens.unwrap() > prompts[11], "{done:?} after {prompts:?}");
    assert!(read_anew(&done) <= QUESTION + ANSWER, "{done:?} after {prompts:?}");
}
