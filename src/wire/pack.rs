//! Several chunks of a stream in one message.
//!
//! A message costs a connection, the server and the reader some microseconds, however small it is: more than to write and
//! read a chunk of 20 ms. Chunks that are ready at once therefore travel together where the caller reads such messages, as its
//! header [`PACK`](super::codec::header::PACK) says: an array of them and, behind it, the number of the first. A chunk alone is
//! written as ever.

use std::collections::VecDeque;

use bytes::Bytes;

use super::codec::{self, Format};
use super::message::Message;
use super::message::fault::Fault;

/// The most chunks that our callers take in one message.
pub const MAX_CHUNKS: u64 = 16;
/// About the most bytes in one message of several chunks: what a connection reads and writes at once.
const MAX_BYTES: usize = 64 << 10;
/// The marker of an array in MessagePack whose length follows as two bytes.
const ARRAY_16: u8 = 0xdc;

/// Chunks that wait to leave together.
#[derive(Debug)]
pub(crate) struct Pack {
    format: Format,
    /// How many chunks the reader takes in one message.
    most: u64,
    /// Room for what begins an array, the chunks, and once it is sealed the number of the first.
    body: Vec<u8>,
    first: u64,
    count: u64,
    /// The message, from when it is ready to leave until it has left.
    sealed: Option<Bytes>,
    /// Bytes of the last message: the next will need about as many.
    usual: usize,
    /// Bytes of the largest chunk so far: the next will need about as many.
    largest: usize,
}

/// A message of chunks, ready to leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Packed {
    pub(crate) body: Bytes,
    /// The number of the last chunk in it.
    pub(crate) last: u64,
}

impl Pack {
    /// An empty one, for a reader who takes `most` chunks in a message.
    pub(crate) fn new(format: Format, most: u64) -> Self {
        let most = most.min(u64::from(u16::MAX));
        Self { format, most, body: Vec::new(), first: 0, count: 0, sealed: None, usual: 0, largest: 0 }
    }

    /// Whether the reader takes several chunks in a message.
    pub(crate) const fn is_taken(&self) -> bool {
        self.most > 1
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether a further chunk, of the size of the largest so far, has room.
    pub(crate) fn has_room(&self) -> bool {
        let is_over = self.count > 0 && self.body.len() + self.largest + codec::NUMBER_BYTES > MAX_BYTES;
        self.sealed.is_none() && self.count < self.most && !is_over
    }

    /// Adds the chunk number `seq`; `false` if it does not fit into a message of `max_bytes` with those before it.
    ///
    /// # Errors
    /// The chunk can't be written.
    pub(crate) fn push<M: Message>(&mut self, chunk: &M, seq: u64, max_bytes: usize) -> Result<bool, Fault> {
        if self.is_empty() {
            self.first = seq;
            self.body = Vec::with_capacity(self.usual);
            self.body.extend_from_slice(self.begin());
        }
        let before = self.body.len();
        if self.format == Format::Json && self.count > 0 {
            self.body.push(b',');
        }
        let written = codec::write(&mut self.body, chunk, self.format);
        self.largest = self.largest.max(self.body.len() - before);
        let fits = self.body.len() + codec::NUMBER_BYTES <= max_bytes.min(MAX_BYTES);
        if written.is_err() || !fits {
            self.body.truncate(before);
        } else {
            self.count += 1;
        }
        written.map(|()| fits)
    }

    /// The message that all of it makes; it is kept until it [has left](Self::has_left), so that a caller who gives up in
    /// between loses nothing.
    ///
    /// # Errors
    /// As [`Pack::push`].
    pub(crate) fn seal(&mut self) -> Result<Option<Packed>, Fault> {
        if self.is_empty() {
            return Ok(None);
        }
        let body = match self.sealed.take() {
            Some(body) => body,
            None => self.message()?,
        };
        self.sealed = Some(body.clone());
        Ok(Some(Packed { body, last: self.first + self.count - 1 }))
    }

    /// The message has left.
    pub(crate) fn has_left(&mut self) {
        (self.sealed, self.count) = (None, 0);
    }

    /// What the body of several chunks begins with, their count apart.
    const fn begin(&self) -> &'static [u8] {
        match self.format {
            Format::Json => b"[",
            Format::MsgPack => &[ARRAY_16, 0, 0],
        }
    }

    fn message(&mut self) -> Result<Bytes, Fault> {
        let (mut body, begin) = (std::mem::take(&mut self.body), self.begin().len());
        self.usual = body.len() + codec::NUMBER_BYTES;
        let is_several = self.count > 1;
        match self.format {
            Format::Json if is_several => body.push(b']'),
            Format::Json => {}
            // It is `most` at most, which fits.
            Format::MsgPack => body[1..begin].copy_from_slice(&self.count.to_be_bytes()[6..]),
        }
        codec::write_number(&mut body, self.first, self.format)?;
        let body = Bytes::from(body);
        Ok(if is_several { body } else { body.slice(begin..) })
    }
}

/// Reads the chunks of a message, of which there can be several, behind those that are `read`; gives the number of the first.
///
/// # Errors
/// [`FaultCode::Invalid`](super::message::fault::FaultCode::Invalid) for a body that is neither a chunk nor an array of them,
/// with a number behind it.
pub(crate) fn read<M: Message>(format: Format, body: &Bytes, read: &mut VecDeque<M>) -> Result<u64, Fault> {
    if is_several(format, body) {
        let (chunks, first) = codec::decode_numbered::<M, Vec<M>>(format, body)?;
        read.extend(chunks);
        return Ok(first);
    }
    let (chunk, seq) = codec::decode_chunk(format, body)?;
    read.push_back(chunk);
    Ok(seq)
}

/// Whether a body begins with an array: no message is one.
fn is_several(format: Format, body: &[u8]) -> bool {
    match format {
        Format::Json => body.trim_ascii_start().starts_with(b"["),
        Format::MsgPack => matches!(body.first(), Some(&(0x90..=0x9f | ARRAY_16 | 0xdd))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::contract::table::VERBS;
    use super::super::message::{Blob, Pcm, stt, tts};
    use super::*;

    fn said(text: &str) -> stt::Transcript {
        stt::Transcript { text: text.to_owned(), ..stt::Transcript::example() }
    }

    fn both(format: Format, body: &Bytes) -> (Vec<stt::Transcript>, u64) {
        let mut chunks = VecDeque::new();
        let first = read(format, body, &mut chunks).unwrap();
        (chunks.into(), first)
    }

    #[test]
    fn a_chunk_alone_is_written_as_for_a_reader_of_single_ones() {
        for format in [Format::Json, Format::MsgPack] {
            let mut pack = Pack::new(format, 16);
            assert_eq!(pack.seal(), Ok(None));
            assert!(pack.push(&said("a"), 300, 1 << 20).unwrap());
            let alone = codec::encode_chunk(&said("a"), 300, format, 0).unwrap();
            assert_eq!(pack.seal(), Ok(Some(Packed { body: alone, last: 300 })));
            // Until it has left nothing is added.
            assert!(!pack.has_room() && pack.seal().unwrap().is_some());
            pack.has_left();
            assert!(pack.has_room() && pack.is_empty());
        }
    }

    #[test]
    fn several_are_an_array_with_the_number_of_the_first_behind_it() {
        let mut pack = Pack::new(Format::Json, 16);
        for (text, seq) in [("a", 7), ("b", 8)] {
            assert!(pack.push(&said(text), seq, 1 << 20).unwrap());
        }
        let packed = pack.seal().unwrap().unwrap();
        let text = |said: stt::Transcript| serde_json::to_string(&said).unwrap();
        assert_eq!(packed.body, format!("[{},{}]\n7", text(said("a")), text(said("b"))));
        assert_eq!(packed.last, 8);
        assert_eq!(both(Format::Json, &packed.body), (vec![said("a"), said("b")], 7));
    }

    #[test]
    fn no_message_is_an_array() {
        for row in VERBS {
            let json = (row.reply.example)().unwrap();
            let packed = (row.reply.convert)(&json, Format::Json, Format::MsgPack).unwrap();
            assert!(!is_several(Format::Json, &json) && !is_several(Format::MsgPack, &packed), "{}", row.reply.schema);
        }
    }

    #[test]
    fn what_does_not_fit_with_those_before_is_left_out_and_they_stay() {
        let loud = |bytes: usize| tts::Chunk {
            pcm: Pcm { data: Blob(vec![1; bytes].into()), ..Pcm::default() },
            ..tts::Chunk::default()
        };
        let mut pack = Pack::new(Format::MsgPack, 16);
        assert!(pack.push(&loud(600), 0, 1_000).unwrap());
        assert!(!pack.push(&loud(600), 1, 1_000).unwrap());
        let packed = pack.seal().unwrap().unwrap();
        assert_eq!(packed.body, codec::encode_chunk(&loud(600), 0, Format::MsgPack, 0).unwrap());
        pack.has_left();
        // Nor does one alone that is larger than any.
        assert!(!pack.push(&loud(MAX_BYTES), 1, 1 << 20).unwrap());
        assert!(pack.is_empty() && pack.seal() == Ok(None));
    }

    proptest! {
        #[test]
        fn what_is_packed_is_read(texts in proptest::collection::vec(".*", 1..40), first in 0..u64::MAX / 2, most in 2..20u64) {
            for format in [Format::Json, Format::MsgPack] {
                let (mut pack, mut seq, mut heard) = (Pack::new(format, most), first, Vec::new());
                let mut leave = |pack: &mut Pack, next: u64| {
                    let Some(packed) = pack.seal().unwrap() else { return };
                    let (chunks, number) = both(format, &packed.body);
                    assert_eq!(number + chunks.len() as u64 - 1, packed.last);
                    assert!(chunks.len() as u64 <= most && packed.last + 1 == next);
                    heard.extend(chunks);
                    pack.has_left();
                };
                for text in &texts {
                    if !pack.has_room() {
                        leave(&mut pack, seq);
                    }
                    prop_assert!(pack.push(&said(text), seq, 1 << 20).unwrap());
                    seq += 1;
                }
                leave(&mut pack, seq);
                prop_assert_eq!(&heard, &texts.iter().map(|text| said(text)).collect::<Vec<_>>());
            }
        }

        #[test]
        fn noise_is_refused_not_fatal(mut body: Vec<u8>, first in prop::sample::select(vec![b'[', ARRAY_16, 0x92, 0xdd])) {
            body.insert(0, first);
            let body = Bytes::from(body);
            for format in [Format::Json, Format::MsgPack] {
                let _ = read::<stt::Transcript>(format, &body, &mut VecDeque::new());
            }
        }
    }
}
