//! Packets on a stream, such as TCP.
//!
//! OSC 1.1 frames them by SLIP (RFC 1055), OSC 1.0 writes the size in front of each. Which one a sender uses shows in its
//! first byte: a size below 16 MiB begins with 0, and neither SLIP nor OSC does. (slip-codec was looked at: its decoder for
//! streams grows without a bound when no frame ends, and puts what follows an error behind what came before it.)

use bytes::{Buf as _, BytesMut};
use tokio_util::codec::Decoder;

const END: u8 = 0xC0;
const ESCAPE: u8 = 0xDB;
const ESCAPED_END: u8 = 0xDC;
const ESCAPED_ESCAPE: u8 = 0xDD;

/// How packets are separated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// OSC 1.1.
    Slip,
    /// OSC 1.0.
    Size,
}

impl Framing {
    /// Frames a packet.
    #[must_use]
    pub fn frame(self, packet: &[u8]) -> Vec<u8> {
        match self {
            Self::Slip => {
                let mut frame = Vec::with_capacity(packet.len() + 8);
                frame.push(END);
                for byte in packet {
                    match *byte {
                        END => frame.extend([ESCAPE, ESCAPED_END]),
                        ESCAPE => frame.extend([ESCAPE, ESCAPED_ESCAPE]),
                        byte => frame.push(byte),
                    }
                }
                frame.push(END);
                frame
            }
            Self::Size => {
                let size = u32::try_from(packet.len()).unwrap_or(u32::MAX);
                [&size.to_be_bytes(), packet].concat()
            }
        }
    }
}

/// A packet of a stream, or what there was in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Framed {
    /// A packet.
    Packet(Vec<u8>),
    /// One that is bigger than is taken; it was passed over.
    TooBig,
    /// One with an escape that SLIP does not know; it was passed over.
    Garbled,
}

/// Takes a stream apart into packets. It never holds more than one of them, of the size that is taken.
#[derive(Debug)]
pub struct Deframer {
    max: usize,
    framing: Option<Framing>,
    packet: Vec<u8>,
    is_escaped: bool,
    /// Why the rest of this packet is passed over.
    skips: Option<Framed>,
    /// Bytes of a packet that is too big which are still to come.
    left: usize,
}

impl Deframer {
    /// For packets of up to `max` bytes.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self { max, framing: None, packet: Vec::new(), is_escaped: false, skips: None, left: 0 }
    }

    /// What the other end uses, as soon as that is known.
    #[must_use]
    pub fn framing(&self) -> Option<Framing> {
        self.framing
    }

    fn slip(&mut self, bytes: &mut BytesMut) -> Option<Framed> {
        while let Some(&byte) = bytes.first() {
            bytes.advance(1);
            if byte == END {
                self.is_escaped = false;
                let packet = std::mem::take(&mut self.packet);
                match self.skips.take() {
                    Some(why) => return Some(why),
                    None if !packet.is_empty() => return Some(Framed::Packet(packet)),
                    None => continue,
                }
            }
            if self.skips.is_some() {
                continue;
            }
            let plain = match (std::mem::take(&mut self.is_escaped), byte) {
                (false, ESCAPE) => {
                    self.is_escaped = true;
                    continue;
                }
                (false, byte) => Ok(byte),
                (true, ESCAPED_END) => Ok(END),
                (true, ESCAPED_ESCAPE) => Ok(ESCAPE),
                (true, _) => Err(Framed::Garbled),
            };
            match plain {
                Ok(_) if self.packet.len() == self.max => self.skip(Framed::TooBig),
                Ok(byte) => self.packet.push(byte),
                Err(why) => self.skip(why),
            }
        }
        None
    }

    fn skip(&mut self, why: Framed) {
        self.packet = Vec::new();
        self.skips = Some(why);
    }

    fn sized(&mut self, bytes: &mut BytesMut) -> Option<Framed> {
        if self.left > 0 {
            let here = self.left.min(bytes.len());
            bytes.advance(here);
            self.left -= here;
            return if self.left == 0 { self.skips.take() } else { None };
        }
        let size = u32::from_be_bytes(*bytes.first_chunk()?) as usize;
        if size > self.max {
            bytes.advance(4);
            (self.left, self.skips) = (size, Some(Framed::TooBig));
            return self.sized(bytes);
        }
        if bytes.len() < 4 + size {
            bytes.reserve(4 + size - bytes.len());
            return None;
        }
        bytes.advance(4);
        Some(Framed::Packet(bytes.split_to(size).to_vec()))
    }
}

impl Decoder for Deframer {
    type Item = Framed;
    type Error = std::io::Error;

    fn decode(&mut self, bytes: &mut BytesMut) -> Result<Option<Framed>, std::io::Error> {
        let Some(first) = bytes.first() else { return Ok(None) };
        let framing = *self.framing.get_or_insert(if *first == 0 { Framing::Size } else { Framing::Slip });
        Ok(match framing {
            Framing::Slip => self.slip(bytes),
            Framing::Size => self.sized(bytes),
        })
    }

    /// What a stream breaks off within is no packet.
    fn decode_eof(&mut self, bytes: &mut BytesMut) -> Result<Option<Framed>, std::io::Error> {
        let found = self.decode(bytes)?;
        if found.is_none() {
            bytes.clear();
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Everything in `stream`, which comes in pieces of the given sizes.
    fn take(deframer: &mut Deframer, stream: &[u8], pieces: &[usize]) -> Vec<Framed> {
        let (mut found, mut bytes, mut rest, mut at) = (Vec::new(), BytesMut::new(), stream, 0);
        while !rest.is_empty() {
            let size = pieces.get(at % pieces.len().max(1)).copied().unwrap_or(rest.len()).clamp(1, rest.len());
            let (piece, tail) = rest.split_at(size);
            (rest, at) = (tail, at + 1);
            bytes.extend_from_slice(piece);
            while let Some(framed) = deframer.decode(&mut bytes).unwrap() {
                found.push(framed);
            }
        }
        found
    }

    #[test]
    fn frames_are_those_of_the_rfc() {
        assert_eq!(Framing::Slip.frame(&[1, END, ESCAPE, 2]), [0xC0, 1, 0xDB, 0xDC, 0xDB, 0xDD, 2, 0xC0]);
        assert_eq!(Framing::Size.frame(b"/a\0\0"), *b"\0\0\0\x04/a\0\0");
    }

    #[test]
    fn what_is_wrong_is_passed_over_up_to_the_next_frame() {
        let mut slip = Deframer::new(4);
        let stream = b"\xC0/a\0\0\xC0\xC0\xDBx/b\0\0\xC0/much too long\xC0/c\0\0\xC0/d";
        let packet = |text: &[u8]| Framed::Packet(text.to_vec());
        assert_eq!(
            take(&mut slip, stream, &[]),
            [packet(b"/a\0\0"), Framed::Garbled, Framed::TooBig, packet(b"/c\0\0")]
        );
        assert_eq!(take(&mut slip, b"\0\0\xC0", &[]), [packet(b"/d\0\0")]);
        let mut sized = Deframer::new(4);
        let stream = b"\0\0\0\x04/a\0\0\0\0\0\x06/bcdef\0\0\0\x04/c\0\0\0\0";
        assert_eq!(take(&mut sized, stream, &[3]), [packet(b"/a\0\0"), Framed::TooBig, packet(b"/c\0\0")]);
    }

    #[test]
    fn a_frame_that_does_not_end_needs_no_memory() {
        let mut slip = Deframer::new(64);
        for _ in 0..1_000 {
            assert_eq!(take(&mut slip, &[b'x'; 1_000], &[]), []);
            assert!(slip.packet.capacity() <= 128);
        }
    }

    proptest! {
        #[test]
        fn packets_come_out_as_they_went_in(
            packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 1..8),
            pieces in prop::collection::vec(1_usize..30, 1..5), is_slip: bool,
        ) {
            let framing = if is_slip { Framing::Slip } else { Framing::Size };
            let stream: Vec<u8> = packets.iter().flat_map(|packet| framing.frame(packet)).collect();
            let mut deframer = Deframer::new(40);
            let found = take(&mut deframer, &stream, &pieces);
            prop_assert_eq!(found, packets.into_iter().map(Framed::Packet).collect::<Vec<_>>());
            prop_assert_eq!(deframer.framing(), Some(framing));
        }

        #[test]
        fn any_stream_is_taken_within_bounds(stream in prop::collection::vec(any::<u8>(), 0..400), pieces in prop::collection::vec(1_usize..30, 1..5)) {
            let mut deframer = Deframer::new(16);
            for framed in take(&mut deframer, &stream, &pieces) {
                prop_assert!(!matches!(framed, Framed::Packet(packet) if packet.len() > 16));
            }
        }
    }
}
