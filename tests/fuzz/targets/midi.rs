//! MIDI from any cable: whatever comes, messages are whole, and the same however the bytes arrive.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sidetone::midi::{Chord, Parser, parse};

fuzz_target!(|data: &[u8]| {
    let read = |piece: usize| {
        let (mut parser, mut messages) = (Parser::default(), Vec::new());
        data.chunks(piece).for_each(|piece| parser.feed(piece, |message| messages.push(message)));
        messages
    };
    let messages = read(data.len().max(1));
    assert_eq!(messages, read(1));
    for message in messages {
        let bytes = message.bytes();
        assert_eq!(parse::all(bytes.as_slice()).as_deref(), Ok(&[message][..]));
    }
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(chord) = Chord::parse(text)
    {
        let _ = chord.notes(4, 0);
    }
});
