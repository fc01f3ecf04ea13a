//! Bodies from anybody on the bus: each is refused, or read and written again in both formats.
//!
//! The first byte chooses the message, the second the format.

#![no_main]

use std::sync::LazyLock;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use sidetone::bus::codec::Format;
use sidetone::bus::contract::table::{MessageRow, messages};
use sidetone::bus::subject;

static MESSAGES: LazyLock<Vec<MessageRow>> = LazyLock::new(messages);

fuzz_target!(|data: &[u8]| {
    let [which, format, body @ ..] = data else { return };
    let row = &MESSAGES[usize::from(*which) % MESSAGES.len()];
    let format = if format % 2 == 0 { Format::Json } else { Format::MsgPack };
    let body = Bytes::copy_from_slice(body);
    if let Ok(packed) = (row.convert)(&body, format, Format::MsgPack) {
        let again = (row.convert)(&packed, Format::MsgPack, Format::MsgPack).expect("what we write we read");
        assert_eq!(again, packed, "{}", row.schema);
        let _ = (row.convert)(&packed, Format::MsgPack, Format::Json);
    }
    if let Ok(token) = std::str::from_utf8(data) {
        if let Some(name) = subject::name(token) {
            assert_eq!(subject::name(&subject::token(&name)), Some(name));
        }
    }
});
