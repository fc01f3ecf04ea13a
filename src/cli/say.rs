//! `sidetone say`: speaks a text, on a listener's loudspeaker or into a file.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;

use super::globals::Globals;
use super::{client, print};
use crate::bus::contract::rights::ANSWER_WITHIN;
use crate::bus::message::tts::{Request, Say};
use crate::bus::message::voice::Control;
use crate::bus::subject::Capability;
use crate::bus::{Bus, Call};
use crate::fabric::{self, Fabric};
use crate::router::Need;

const TIMEOUT: Duration = Duration::from_secs(60);
/// What each character of a text adds to that, where all of it is spoken before the answer: more than half of the time that
/// it sounds.
const CHARACTER_TIMEOUT: Duration = Duration::from_millis(40);
/// The largest WAV that is fetched when it does not fit into a message.
const MAX_WAV_BYTES: usize = 1 << 30;

/// Speak a text on a listener's loudspeaker, or into a WAV file
#[derive(Debug, clap::Args)]
pub struct SayArgs {
    /// What to say; several words need no quotes
    #[arg(required = true, value_name = "TEXT")]
    text: Vec<String>,
    /// The host to speak on [default: the name of this one]
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// The listener to speak on [default: the first of the settings]
    #[arg(long, value_name = "NAME")]
    listener: Option<String>,
    /// Write a WAV file instead; - for standard output
    #[arg(long, short, value_name = "FILE", conflicts_with_all = ["node", "listener"])]
    output: Option<PathBuf>,
    /// The voice, for a WAV file
    #[arg(long, value_name = "NAME", requires = "output")]
    voice: Option<String>,
    /// The pace, for a WAV file: 1.0 is the voice's own
    #[arg(long, value_name = "FACTOR", requires = "output")]
    speed: Option<f32>,
}

/// Runs it.
///
/// # Errors
/// No host answers, or it can't speak.
pub async fn run(args: SayArgs, globals: &Globals) -> anyhow::Result<()> {
    let (fabric, config) = client::fabric(globals).await?;
    let text = args.text.join(" ");
    if let Some(output) = args.output {
        return write(&fabric, Say { text, voice: args.voice, speed: args.speed }, &output).await;
    }
    let node = args.node.unwrap_or_else(|| config.node_name());
    let listener = client::listener(args.listener, &config, ", or write a file with --output")?;
    aloud(fabric.bus(), &node, &listener, text).await
}

/// Speaks a text on a listener.
pub(super) async fn aloud(bus: &Bus, node: &str, listener: &str, text: String) -> anyhow::Result<()> {
    let state = bus.control(node, listener, &Control::Say { text }, &Call::within(TIMEOUT)).await?;
    if !state.audio {
        anyhow::bail!("{node} has no JACK at the moment, so nothing sounds; `sidetone doctor` there says why");
    }
    Ok(())
}

/// How long it may take until all of a text is spoken; no longer than an answer may take.
fn patience(text: &str) -> Duration {
    let characters = u32::try_from(text.chars().count()).unwrap_or(u32::MAX);
    TIMEOUT.saturating_add(CHARACTER_TIMEOUT.saturating_mul(characters)).min(ANSWER_WITHIN)
}

async fn write(fabric: &Fabric, say: Say, output: &PathBuf) -> anyhow::Result<()> {
    let need = Need { voice: say.voice.clone().unwrap_or_default(), ..fabric::need(Capability::Tts) };
    let call = Call::within(patience(&say.text));
    let speech = fabric.ask(&need, &Request(say), &call).await?;
    let wav = match (speech.wav, speech.clip) {
        (Some(wav), _) => wav.0,
        (None, Some(clip)) => fabric.bus().get_clip(&clip, MAX_WAV_BYTES).await?,
        (None, None) => anyhow::bail!("the answer holds no WAV"),
    };
    if output.as_os_str() == "-" {
        return print::bytes(&wav);
    }
    tokio::fs::write(output, &wav).await.with_context(|| format!("can't write {}", output.display()))?;
    print::lines(&[format!("{} ({:.1} s)", output.display(), Duration::from_millis(speech.audio_ms).as_secs_f32())])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_has_more_time_but_no_more_than_an_answer_may_take() {
        assert_eq!(patience(""), TIMEOUT);
        // Twenty minutes of speech, the most that hosts take unless told otherwise.
        assert_eq!(patience(&"é".repeat(20_000)), Duration::from_secs(860));
        assert_eq!(patience(&"a".repeat(1_000_000)), ANSWER_WITHIN);
    }
}
