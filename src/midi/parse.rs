//! A stream of bytes → messages: running status, system exclusive in pieces, real-time bytes anywhere.

use super::message::Message;

/// The longest system exclusive that is read, in bytes. A longer one is skipped and counted.
pub const SYSEX_MAX: usize = 64 * 1024;

/// Reads one source. Each source needs a parser of its own: running status is a property of the cable.
#[derive(Debug, Clone, Default)]
pub struct Parser {
    /// The status that data bytes belong to; 0: none.
    status: u8,
    data: [u8; 2],
    have: usize,
    sysex: Option<Vec<u8>>,
    /// The system exclusive that runs is over [`SYSEX_MAX`]: all of it is skipped.
    over: bool,
    skipped: u64,
}

impl Parser {
    /// How many bytes made no message so far.
    #[must_use]
    pub const fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Takes the next bytes and hands every message that they end to `take`.
    pub fn feed(&mut self, bytes: &[u8], mut take: impl FnMut(Message)) {
        for &byte in bytes {
            if let Some(message) = self.byte(byte) {
                take(message);
            }
        }
    }

    /// Forgets a message that was begun: the source has gone.
    pub fn reset(&mut self) {
        self.drop_unfinished();
        self.status = 0;
    }

    fn byte(&mut self, byte: u8) -> Option<Message> {
        match byte {
            // Real time: says nothing about the message that it interrupts.
            0xf8..=0xff => {
                let message = Message::short(byte, 0, 0);
                self.skipped += u64::from(message.is_none());
                message
            }
            0xf0 => {
                self.drop_unfinished();
                self.status = 0;
                self.sysex = Some(Vec::new());
                None
            }
            0xf7 => {
                self.status = 0;
                let Some(body) = self.sysex.take() else {
                    self.skipped += 1;
                    return None;
                };
                if std::mem::take(&mut self.over) {
                    self.skipped += 2;
                    return None;
                }
                Some(Message::SysEx(body))
            }
            0x80..=0xf6 => {
                self.drop_unfinished();
                match Message::data_bytes(byte) {
                    Some(0) => {
                        self.status = 0;
                        Message::short(byte, 0, 0)
                    }
                    Some(_) => {
                        self.status = byte;
                        None
                    }
                    None => {
                        self.status = 0;
                        self.skipped += 1;
                        None
                    }
                }
            }
            _ => self.data(byte),
        }
    }

    fn data(&mut self, byte: u8) -> Option<Message> {
        if let Some(body) = &mut self.sysex {
            if self.over {
                self.skipped += 1;
            } else if body.len() < SYSEX_MAX {
                body.push(byte);
            } else {
                self.skipped += body.len() as u64 + 1;
                self.over = true;
                *body = Vec::new();
            }
            return None;
        }
        let Some(need) = Message::data_bytes(self.status).filter(|need| *need > 0) else {
            self.skipped += 1;
            return None;
        };
        *self.data.get_mut(self.have)? = byte;
        self.have += 1;
        if self.have < need {
            return None;
        }
        self.have = 0;
        let status = self.status;
        if status >= 0xf0 {
            // No running status for system messages.
            self.status = 0;
        }
        let [a, b] = self.data;
        Message::short(status, a, if need == 2 { b } else { 0 })
    }

    /// A status byte has come before a message was whole.
    fn drop_unfinished(&mut self) {
        if let Some(body) = self.sysex.take() {
            self.skipped += body.len() as u64 + 1;
            self.over = false;
        }
        if self.have > 0 {
            self.skipped += self.have as u64;
            self.have = 0;
        }
    }
}

/// All messages of `bytes`, which must be whole ones.
///
/// # Errors
/// How many bytes are no message or are left over.
pub fn all(bytes: &[u8]) -> Result<Vec<Message>, u64> {
    let mut parser = Parser::default();
    let mut out = Vec::new();
    parser.feed(bytes, |message| out.push(message));
    let lone_status = bytes.last().is_some_and(|last| matches!(*last, 0x80..=0xf6));
    parser.reset();
    match parser.skipped() + u64::from(lone_status && parser.skipped() == 0 && !ends_whole(&out, bytes)) {
        0 => Ok(out),
        skipped => Err(skipped),
    }
}

fn ends_whole(messages: &[Message], bytes: &[u8]) -> bool {
    messages.last().is_some_and(|last| bytes.ends_with(last.bytes().as_slice()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::message::strategy::{message, realtime};
    use super::*;

    fn parse(bytes: &[u8]) -> (Vec<Message>, u64) {
        let mut parser = Parser::default();
        let mut out = Vec::new();
        parser.feed(bytes, |message| out.push(message));
        (out, parser.skipped())
    }

    #[test]
    fn running_status_holds_until_a_system_message() {
        let on = |note| Message::NoteOn { channel: 1, note, velocity: 64 };
        let off = |note| Message::NoteOff { channel: 1, note, velocity: 64 };
        assert_eq!(parse(&[0x90, 60, 64, 62, 64, 0xf8, 60, 0]), (vec![on(60), on(62), Message::Clock, off(60)], 0));
        assert_eq!(parse(&[0x90, 60, 64, 0xf6, 62, 64]), (vec![on(60), Message::TuneRequest], 2));
        assert_eq!(parse(&[0xf2, 1, 2, 3, 4]), (vec![Message::SongPosition(257)], 2), "none for system messages");
    }

    #[test]
    fn sysex_in_pieces_with_a_clock_in_between() {
        let mut parser = Parser::default();
        let mut out = Vec::new();
        for piece in [&[0xf0, 0x7e, 0x7f][..], &[0xf8, 6], &[1, 0xf7, 5]] {
            parser.feed(piece, |message| out.push(message));
        }
        assert_eq!(out, [Message::Clock, Message::SysEx(vec![0x7e, 0x7f, 6, 1])]);
        assert_eq!(parser.skipped(), 1, "data after the end belongs to nothing");
    }

    #[test]
    fn an_unfinished_message_is_skipped_and_counted() {
        assert_eq!(parse(&[0xf0, 1, 2, 0x90, 60, 0xb0, 7, 100]).1, 4);
        assert_eq!(parse(&[0xf7, 0xf4, 0xf5, 0xf9, 0xfd, 1]), (vec![], 6));
        assert_eq!(all(&[0x90, 60, 64]), Ok(vec![Message::NoteOn { channel: 1, note: 60, velocity: 64 }]));
        assert_eq!(all(&[0x90, 60]), Err(1));
        assert_eq!(all(&[0x90]), Err(1));
        assert_eq!(all(&[0xf0, 1]), Err(2));
        assert_eq!(all(&[0xf6]), Ok(vec![Message::TuneRequest]));
    }

    #[test]
    fn sysex_is_bounded() {
        let mut parser = Parser::default();
        let mut out = Vec::new();
        parser.feed(&[0xf0], |message| out.push(message));
        for _ in 0..(SYSEX_MAX * 3 / 100) {
            parser.feed(&[1; 100], |message| out.push(message));
        }
        assert!(parser.sysex.as_ref().unwrap().capacity() <= SYSEX_MAX * 2);
        parser.feed(&[0xf7, 0xfa], |message| out.push(message));
        assert_eq!(out, [Message::Start]);
        assert_eq!(parser.skipped(), (SYSEX_MAX * 3 / 100 * 100) as u64 + 2);
        parser.feed(&[0xf0, 1, 0xf7], |message| out.push(message));
        assert_eq!(out.last(), Some(&Message::SysEx(vec![1])));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(messages in prop::collection::vec(message(), 0..40)) {
            let bytes: Vec<u8> = messages.iter().flat_map(|message| message.bytes().as_slice().to_vec()).collect();
            prop_assert_eq!(parse(&bytes), (messages, 0));
        }

        /// Real-time bytes may stand anywhere and change nothing else, however the stream is cut.
        #[test]
        fn real_time_bytes_disturb_nothing(
            messages in prop::collection::vec(message(), 0..12),
            inserts in prop::collection::vec((any::<prop::sample::Index>(), realtime()), 0..20),
            cuts in prop::collection::vec(1..7usize, 1..200),
        ) {
            let messages: Vec<_> = messages.into_iter().filter(|m| m.bytes().as_slice()[0] < 0xf8).collect();
            let mut bytes: Vec<u8> = messages.iter().flat_map(|message| message.bytes().as_slice().to_vec()).collect();
            for (at, message) in &inserts {
                let at = at.index(bytes.len() + 1);
                bytes.insert(at, message.bytes().as_slice()[0]);
            }
            let mut parser = Parser::default();
            let mut out = Vec::new();
            let mut rest = bytes.as_slice();
            let mut cuts = cuts.iter().cycle();
            while !rest.is_empty() {
                let (piece, tail) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                parser.feed(piece, |message| out.push(message));
                rest = tail;
            }
            let real_time = out.iter().filter(|m| m.bytes().as_slice()[0] >= 0xf8).count();
            out.retain(|message| message.bytes().as_slice()[0] < 0xf8);
            prop_assert_eq!(out, messages);
            prop_assert_eq!((real_time, parser.skipped()), (inserts.len(), 0));
        }

        /// Every byte is part of a message, of one that is not whole yet, or counted as skipped.
        #[test]
        fn garbage_is_counted_to_the_byte(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let mut parser = Parser::default();
            let mut used = 0usize;
            let mut running = 0u64;
            for byte in &bytes {
                parser.feed(&[*byte], |message| used += message.bytes().as_slice().len());
                running += 1;
                prop_assert!(parser.skipped() <= running);
            }
            // Running status saves bytes and a note-on of velocity 0 is an off, so `used` may be more than there was.
            prop_assert!(used as u64 + parser.skipped() <= 2 * running);
        }
    }
}
