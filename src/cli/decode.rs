//! `sidetone decode`: a message's body as readable text, for `nats sub --translate 'sidetone decode'`.
//!
//! The `nats` CLI gives the body on standard input and no headers, so what it is must be seen from the body itself.

use std::fmt::{self, Write as _};
use std::io::Read as _;

use anyhow::Context as _;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use clap::Args;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap as _, Serializer};
use serde::{Deserialize, Serialize};

use super::print;
use crate::audio::ClipReader;

/// Base64 of at least this length is shown by its size; shorter values may be anything.
const BASE64_MIN_CHARS: usize = 64;
/// How deep values may be nested.
const DEPTH_MAX: usize = 128;
/// How much of a body that is nothing known is shown.
const HEX_BYTES: usize = 64;

/// Make a message's body readable: JSON, MessagePack, WAV or whatever it is, on standard input.
///
/// Made for: nats sub 'session.>' --translate 'sidetone decode'
#[derive(Debug, Args)]
pub struct DecodeArgs {}

/// Reads standard input to its end and prints what it is.
///
/// # Errors
/// Standard input can't be read or standard output can't be written to; never because of what was read.
pub fn run(_: &DecodeArgs) -> anyhow::Result<()> {
    let mut body = Vec::new();
    std::io::stdin().lock().read_to_end(&mut body).context("can't read standard input")?;
    print::lines(&[readable(&body)])
}

/// What `body` is, as text of one or more lines. No control characters reach the terminal but line breaks and tabs.
#[must_use]
pub fn readable(body: &[u8]) -> String {
    if body.is_empty() {
        return "(empty)".to_owned();
    }
    if let Some(line) = wav(body) {
        return line;
    }
    if let Some(text) = json(body) {
        return text;
    }
    if let Some(text) = std::str::from_utf8(body).ok().filter(|text| text.chars().all(is_shown)) {
        return text.trim_end_matches(['\r', '\n']).to_owned();
    }
    messagepack(body).unwrap_or_else(|| hex(body))
}

fn json(body: &[u8]) -> Option<String> {
    let mut values = serde_json::Deserializer::from_slice(body).into_iter::<Node>();
    let (value, number) = (values.next()?.ok()?, values.next().transpose().ok()?);
    values.next().is_none().then(|| chunk(&value, number.as_ref()))?
}

/// A message, or chunks of a stream with the number of the first behind them.
fn chunk(value: &Node, number: Option<&Node>) -> Option<String> {
    match (value, number) {
        (_, None) => Some(value.pretty()),
        (Node::Map(_), Some(Node::Unsigned(number))) => Some(format!("{}\n(chunk {number})", value.pretty())),
        (Node::List(chunks), Some(Node::Unsigned(first))) => {
            let last = first.saturating_add(chunks.len().saturating_sub(1) as u64);
            Some(format!("{}\n(chunks {first} to {last})", value.pretty()))
        }
        _ => None,
    }
}

fn is_shown(char: char) -> bool {
    matches!(char, '\n' | '\r' | '\t') || !char.is_control()
}

fn wav(body: &[u8]) -> Option<String> {
    let is_wav = matches!(body.get(..4)?, b"RIFF" | b"RF64" | b"BW64") && body.get(8..12)? == b"WAVE";
    if !is_wav {
        return None;
    }
    let size = bytes(body.len());
    Some(match ClipReader::from_bytes(body.to_vec()) {
        Ok(clip) => {
            let length = clip
                .duration_ms()
                .map_or_else(|| "unknown length".to_owned(), |ms| format!("{}.{:03} s", ms / 1_000, ms % 1_000));
            let cut = if clip.truncated() { ", cut short" } else { "" };
            format!("<WAV, {} Hz, {} channel(s), {length}, {size}{cut}>", clip.rate_hz(), clip.channels())
        }
        Err(error) => format!("<WAV, {size}, which can't be read: {error}>"),
    })
}

/// Only a whole map, list or text counts: nearly any bytes start with a valid number.
fn messagepack(body: &[u8]) -> Option<String> {
    let mut decoder = rmp_serde::Deserializer::new(body);
    decoder.set_max_depth(DEPTH_MAX);
    let value = Node::deserialize(&mut decoder).ok()?;
    let number = if decoder.get_ref().is_empty() { None } else { Some(Node::deserialize(&mut decoder).ok()?) };
    let is_whole = decoder.get_ref().is_empty() && matches!(value, Node::Map(_) | Node::List(_) | Node::Text(_));
    is_whole.then(|| chunk(&value, number.as_ref()))?
}

fn hex(body: &[u8]) -> String {
    let mut text = format!("<{} of nothing known:", bytes(body.len()));
    for (at, byte) in body.iter().take(HEX_BYTES).enumerate() {
        let gap = if at % 16 == 0 { "\n  " } else { " " };
        let _ = write!(text, "{gap}{byte:02x}");
    }
    text + if body.len() > HEX_BYTES { " …>" } else { ">" }
}

/// A size with thousands set apart.
fn bytes(count: usize) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    format!("{text} byte{}", if count == 1 { "" } else { "s" })
}

/// A value of JSON or MessagePack, with its fields in the order of the wire.
#[derive(Debug, Clone, PartialEq)]
enum Node {
    Null,
    Bool(bool),
    Signed(i64),
    Unsigned(u64),
    Float(f64),
    Text(String),
    List(Vec<Self>),
    Map(Vec<(String, Self)>),
}

impl Node {
    fn pretty(&self) -> String {
        // Nothing in a Node can fail to be written.
        serde_json::to_string_pretty(self).unwrap_or_else(|error| format!("<{error}>"))
    }

    fn text(text: &str) -> Self {
        let is_blob = text.len() >= BASE64_MIN_CHARS && BASE64_STANDARD.decode(text).is_ok();
        if is_blob {
            let padding = text.bytes().rev().take_while(|byte| *byte == b'=').count();
            return Self::Text(format!("<{} in base64>", bytes(text.len() / 4 * 3 - padding)));
        }
        // JSON escapes the lower control characters itself; a terminal obeys some of the upper ones as well.
        let is_upper_control = |char: char| char.is_control() && char >= '\u{7f}';
        Self::Text(text.replace(is_upper_control, "\u{fffd}"))
    }

    fn binary(data: &[u8]) -> Self {
        Self::Text(format!("<{}>", bytes(data.len())))
    }

    /// As the key of a map.
    fn key(self) -> String {
        match self {
            Self::Text(text) => text,
            other => serde_json::to_string(&other).unwrap_or_default(),
        }
    }
}

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Signed(value) => serializer.serialize_i64(*value),
            Self::Unsigned(value) => serializer.serialize_u64(*value),
            Self::Float(value) if value.is_finite() => serializer.serialize_f64(*value),
            Self::Float(value) => serializer.serialize_str(&value.to_string()),
            Self::Text(value) => serializer.serialize_str(value),
            Self::List(items) => serializer.collect_seq(items),
            Self::Map(fields) => {
                let mut map = serializer.serialize_map(Some(fields.len()))?;
                for (key, value) in fields {
                    map.serialize_entry(key, value)?;
                }
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Signed(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Unsigned(value))
    }

    fn visit_f32<E>(self, value: f32) -> Result<Node, E> {
        // By way of its text: 0.2 stays 0.2 and does not become 0.20000000298023224.
        Ok(Node::Float(value.to_string().parse().unwrap_or_else(|_| f64::from(value))))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::text(value))
    }

    fn visit_bytes<E>(self, value: &[u8]) -> Result<Node, E> {
        Ok(Node::binary(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut fields = Vec::new();
        while let Some((key, value)) = entries.next_entry::<Node, Node>()? {
            fields.push((key.key(), value));
        }
        Ok(Node::Map(fields))
    }

    /// MessagePack's extension types: a number and bytes.
    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        let (kind, data) = <(i8, serde_bytes::ByteBuf)>::deserialize(deserializer)?;
        Ok(Node::Text(format!("<extension {kind}, {}>", bytes(data.len()))))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::bus::codec::{Format, encode, encode_chunk};
    use crate::bus::contract::table;
    use crate::bus::message::{Blob, Message as _, Pcm, stt};

    #[test]
    fn every_message_is_readable_and_the_same_either_way() {
        for message in table::messages() {
            let json = (message.example)().unwrap();
            let packed = (message.convert)(&json, Format::Json, Format::MsgPack).unwrap();
            let text = readable(&json);
            assert_eq!(
                serde_json::from_str::<serde_json::Value>(&text).unwrap(),
                serde_json::from_slice::<serde_json::Value>(&json).unwrap(),
            );
            // Samples are base64 on one side and bytes on the other.
            if !text.contains("\"data\"") {
                assert_eq!(readable(&packed), text, "{}", message.schema);
            }
        }
    }

    #[test]
    fn samples_are_shown_by_their_size() {
        let mut request = stt::Request::example();
        request.pcm = Some(Pcm { data: Blob(vec![7; 1_234].into()), ..Pcm::default() });
        let packed = encode(&request, Format::MsgPack).unwrap();
        assert!(readable(&packed).contains("\"data\": \"<1,234 bytes>\""), "{}", readable(&packed));
        let json = encode(&request, Format::Json).unwrap();
        assert!(readable(&json).contains("\"data\": \"<1,234 bytes in base64>\""), "{}", readable(&json));
    }

    #[test]
    fn a_chunk_is_shown_with_its_number() {
        let transcript = stt::Transcript::example();
        for format in [Format::Json, Format::MsgPack] {
            let alone = readable(&encode(&transcript, format).unwrap());
            let body = encode_chunk(&transcript, 300, format, 0).unwrap();
            assert_eq!(readable(&body), format!("{alone}\n(chunk 300)"));
        }
        let text = readable(b"[{\"text\":\"a\"},{\"text\":\"b\"}]\n300");
        assert!(text.ends_with("]\n(chunks 300 to 301)"), "{text}");
    }

    #[test]
    fn a_wav_is_one_line() {
        let mut wav = std::io::Cursor::new(Vec::new());
        let spec = hound::WavSpec {
            channels: 2,
            sample_rate: 44_100,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let mut writer = hound::WavWriter::new(&mut wav, spec).unwrap();
        (0..88_200).for_each(|_| writer.write_sample(0i16).unwrap());
        writer.finalize().unwrap();
        let wav = wav.into_inner();
        assert_eq!(readable(&wav), "<WAV, 44100 Hz, 2 channel(s), 1.000 s, 176,444 bytes>");
        let cut = readable(&wav[..100_000]);
        assert!(cut.starts_with("<WAV, 44100 Hz") && cut.ends_with("100,000 bytes, cut short>"), "{cut}");
        let broken = readable(&wav[..20]);
        assert!(broken.starts_with("<WAV, 20 bytes, which can't be read: "), "{broken}");
    }

    #[test]
    fn the_rest_is_shown_as_what_it_is() {
        assert_eq!(readable(b""), "(empty)");
        assert_eq!(readable(b"hello\n"), "hello");
        assert_eq!(readable(b"42"), "42");
        assert_eq!(readable(b"{\"b\":1,\"a\":[true,null]}"), "{\n  \"b\": 1,\n  \"a\": [\n    true,\n    null\n  ]\n}");
        assert_eq!(readable(&[0x93, 1, 0xd4, 5, 0, 0xcb]), "<6 bytes of nothing known:\n  93 01 d4 05 00 cb>");
        assert_eq!(
            readable(&[0x82, 1, 0xc4, 2, 0, 1, 2, 0xd4, 5, 0]),
            "{\n  \"1\": \"<2 bytes>\",\n  \"2\": \"<extension 5, 1 byte>\"\n}"
        );
        assert!(readable(&[0xff; 100]).ends_with(" ff …>"));
        // What would clear the screen does not reach it.
        assert_eq!(readable(b"\x1b[2J"), "<4 bytes of nothing known:\n  1b 5b 32 4a>");
        assert_eq!(readable("{\"a\":\"\\u001b[2J\u{9b}2J\"}".as_bytes()), "{\n  \"a\": \"\\u001b[2J\u{fffd}2J\"\n}");
    }

    proptest! {
        #[test]
        fn anything_is_shown_and_nothing_controls_the_terminal(body: Vec<u8>) {
            let text = readable(&body);
            prop_assert!(!text.is_empty() || body.iter().all(|byte| matches!(byte, b'\r' | b'\n')));
            prop_assert!(text.chars().all(is_shown));
        }

        #[test]
        fn deep_nesting_ends_in_text(depth in 0usize..5_000) {
            for body in [vec![0x91; depth], "[".repeat(depth).into_bytes(), [vec![0x91; depth], vec![1]].concat()] {
                prop_assert!(!readable(&body).is_empty());
            }
        }
    }
}
