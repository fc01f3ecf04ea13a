//! Bodies, and the names of headers: JSON for people, MessagePack between hosts, named by `Content-Type` and `Accept`.

use bytes::Bytes;
use serde::Deserialize as _;
use serde::de::{DeserializeOwned, IgnoredAny};

use super::message::fault::{Fault, FaultCode};
use super::message::{Message, sharing};

/// The headers' names. Case matters on the wire.
pub mod header {
    /// How the body is written; absent means JSON, so that the stock CLI just works.
    pub const CONTENT_TYPE: &str = "Content-Type";
    /// How the reply should be written; absent means as the request was.
    pub const ACCEPT: &str = "Accept";
    /// The request's id, by which it is cancelled.
    pub const REQ_ID: &str = "Req-Id";
    /// The time that is left for the request, in ms.
    pub const DEADLINE_MS: &str = "Deadline-Ms";
    /// The message's name and version.
    pub const SCHEMA: &str = "Schema";
    /// The number of a chunk in its stream, from 0.
    pub const SEQ: &str = "Seq";
    /// The caller acknowledges chunks, and this many may be on the way.
    pub const CREDIT: &str = "Credit";
    /// The caller reads messages of several chunks, this many at most.
    pub const PACK: &str = "Pack";
    /// `200` on the empty message that ends a stream.
    pub const STATUS: &str = "Status";
    /// How many chunks the stream had, on its end.
    pub const CHUNKS: &str = "Chunks";
    /// W3C trace context; the trace id is the turn's id.
    pub const TRACEPARENT: &str = "traceparent";
    /// The session, beside [`TRACEPARENT`].
    pub const SESSION: &str = "Session";
    /// The host that answered.
    pub const NODE: &str = "Node";
    /// Which engine of the host is asked, by its name.
    pub const ENGINE: &str = "Engine";
    /// How far the request may travel: `host`, `lan` or `any`; absent means any.
    pub const PRIVACY: &str = "Privacy";
    /// Why that host.
    pub const ROUTE: &str = "Route";
    /// An error's text, as in the NATS service API.
    pub const ERROR: &str = "Nats-Service-Error";
    /// An error's number, as in the NATS service API.
    pub const ERROR_CODE: &str = "Nats-Service-Error-Code";
}

/// Bytes of the largest number of a chunk.
pub(super) const NUMBER_BYTES: usize = 21;

/// How a body is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Json,
    /// Between hosts. Always with field names: the positional form can't be read once a field is left out.
    MsgPack,
}

impl Format {
    /// The content type.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::MsgPack => "application/msgpack",
        }
    }

    /// The format of a content type (parameters such as `; charset=utf-8` are ignored); `None` if it is neither.
    #[must_use]
    pub fn of(content_type: &str) -> Option<Self> {
        match essence(content_type) {
            "" | "application/json" | "text/json" | "text/plain" | "*/*" => Some(Self::Json),
            "application/msgpack" | "application/x-msgpack" | "application/vnd.msgpack" => Some(Self::MsgPack),
            _ => None,
        }
    }
}

fn essence(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

/// Writes a message.
///
/// # Errors
/// A [`Fault`] when the message can't be written, such as a map with keys that are no text.
pub fn encode<M: Message>(message: &M, format: Format) -> Result<Bytes, Fault> {
    let mut body = Vec::with_capacity(128);
    write(&mut body, message, format)?;
    Ok(body.into())
}

/// Writes a chunk of a stream, and behind it its number: two values of one format, in JSON on a line each. With room for
/// `bytes` from the start.
///
/// # Errors
/// As [`encode`].
pub fn encode_chunk<M: Message>(chunk: &M, seq: u64, format: Format, bytes: usize) -> Result<Bytes, Fault> {
    let mut body = Vec::with_capacity(bytes + NUMBER_BYTES);
    write(&mut body, chunk, format)?;
    write_number(&mut body, seq, format)?;
    Ok(body.into())
}

/// Writes the number of a chunk behind it.
pub(super) fn write_number(body: &mut Vec<u8>, seq: u64, format: Format) -> Result<(), Fault> {
    match format {
        Format::Json => {
            body.push(b'\n');
            serde_json::to_writer(body, &seq).map_err(|e| e.to_string())
        }
        Format::MsgPack => rmp_serde::encode::write(body, &seq).map_err(|e| e.to_string()),
    }
    .map_err(|why| Fault::failed(format!("can't write a chunk's number: {why}")))
}

/// Writes a message at the end of `body`.
pub(super) fn write<M: Message>(body: &mut Vec<u8>, message: &M, format: Format) -> Result<(), Fault> {
    match format {
        Format::Json => serde_json::to_writer(body, message).map_err(|e| e.to_string()),
        Format::MsgPack => rmp_serde::encode::write_named(body, message).map_err(|e| e.to_string()),
    }
    .map_err(|why| Fault::failed(format!("can't write {}: {why}", M::SCHEMA)))
}

/// Reads a message by its content type. An empty JSON body is read as `{}`.
///
/// # Errors
/// [`FaultCode::Unsupported`] for an unknown content type, [`FaultCode::Invalid`] for a body that is not what it says.
pub fn decode<M: Message>(content_type: &str, body: &Bytes) -> Result<M, Fault> {
    if let Some(message) = M::from_raw(essence(content_type), body) {
        return message;
    }
    let Some(format) = Format::of(content_type) else {
        return Err(Fault::new(
            FaultCode::Unsupported,
            format!(
                "Content-Type {content_type:?} is not read as {}: send application/json or application/msgpack",
                M::SCHEMA
            ),
        ));
    };
    let result = match format {
        Format::Json if body.is_empty() => serde_json::from_slice(b"{}").map_err(|e| e.to_string()),
        Format::Json => serde_json::from_slice(body).map_err(|e| e.to_string()),
        Format::MsgPack => sharing(body, || rmp_serde::from_slice(body)).map_err(|e| e.to_string()),
    };
    result.map_err(|why| invalid::<M>(format, &why))
}

/// Reads a chunk and its number, as [`encode_chunk`] writes them.
///
/// # Errors
/// [`FaultCode::Invalid`] for a body that is not these two, or has a third value.
pub fn decode_chunk<M: Message>(format: Format, body: &Bytes) -> Result<(M, u64), Fault> {
    decode_numbered::<M, M>(format, body)
}

/// Reads `T`, which is of `M`, and the number behind it.
pub(super) fn decode_numbered<M: Message, T: DeserializeOwned>(
    format: Format,
    body: &Bytes,
) -> Result<(T, u64), Fault> {
    let read = match format {
        Format::Json => {
            let mut values = serde_json::Deserializer::from_slice(body);
            let read = T::deserialize(&mut values).and_then(|chunk| Ok((chunk, u64::deserialize(&mut values)?)));
            read.and_then(|read| values.end().map(|()| read)).map_err(|e| e.to_string())
        }
        Format::MsgPack => sharing(body, || {
            let mut values = rmp_serde::Deserializer::from_read_ref(body);
            let read = T::deserialize(&mut values).and_then(|chunk| Ok((chunk, u64::deserialize(&mut values)?)));
            let more = IgnoredAny::deserialize(&mut values).is_ok();
            read.map_err(|e| e.to_string())
                .and_then(|read| if more { Err("more follows".to_owned()) } else { Ok(read) })
        }),
    };
    read.map_err(|why| invalid::<M>(format, &format!("{why} (a chunk and its number are wanted)")))
}

fn invalid<M: Message>(format: Format, why: &str) -> Fault {
    Fault::invalid(format!(
        "the body ({}) is no {}: {why}; see subjects/ for what it takes",
        format.content_type(),
        M::SCHEMA
    ))
}

/// A header's value on one line: a line break in it would end the header.
#[must_use]
pub fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::message::stt;

    #[test]
    fn content_types_are_told_apart() {
        assert_eq!(Format::of(""), Some(Format::Json));
        assert_eq!(Format::of("application/json; charset=utf-8"), Some(Format::Json));
        assert_eq!(Format::of("application/x-msgpack"), Some(Format::MsgPack));
        assert_eq!(Format::of("image/png"), None);
    }

    #[test]
    fn a_bad_body_is_named() {
        let fault = decode::<stt::Transcript>("", &Bytes::from_static(b"{\"text\": 5}")).unwrap_err();
        assert_eq!(fault.code, FaultCode::Invalid);
        assert!(fault.message.contains("expected a string at line 1 column 10"), "{fault}");
        let fault = decode::<stt::Transcript>("image/png", &Bytes::new()).unwrap_err();
        assert_eq!(fault.code, FaultCode::Unsupported);
    }

    #[test]
    fn a_bare_wav_is_a_clip() {
        let request: stt::Request = decode("audio/wav", &Bytes::from_static(b"RIFF")).unwrap();
        assert_eq!(&request.file.unwrap().0[..], b"RIFF");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(text in ".*", audio_ms: u64, note in proptest::option::of(".*")) {
            let message = stt::Transcript { text, audio_ms, note, ..stt::Transcript::example() };
            for format in [Format::Json, Format::MsgPack] {
                let body = encode(&message, format).unwrap();
                prop_assert_eq!(&decode::<stt::Transcript>(format.content_type(), &body).unwrap(), &message);
            }
        }

        #[test]
        fn a_chunk_is_read_with_its_number(text in ".*", seq: u64) {
            let chunk = stt::Transcript { text, ..stt::Transcript::example() };
            for format in [Format::Json, Format::MsgPack] {
                let body = encode_chunk(&chunk, seq, format, 0).unwrap();
                prop_assert_eq!(&decode_chunk(format, &body).unwrap(), &(chunk.clone(), seq));
                // Neither half of it is one, nor is more.
                prop_assert!(decode_chunk::<stt::Transcript>(format, &encode(&chunk, format).unwrap()).is_err());
                prop_assert!(decode_chunk::<stt::Transcript>(format, &[&body[..], b" 1"].concat().into()).is_err());
            }
        }

        #[test]
        fn noise_is_refused_not_fatal(body: Vec<u8>) {
            let body = Bytes::from(body);
            for format in [Format::Json, Format::MsgPack] {
                let _ = decode_chunk::<stt::Transcript>(format, &body);
            }
            for kind in ["", "application/msgpack", "audio/wav"] {
                let _ = decode::<stt::Request>(kind, &body);
            }
        }
    }
}
