//! OSC from anybody: a packet is refused or read as it was written; a stream is cut the same way however it arrives.

#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use sidetone::osc::frame::Deframer;
use sidetone::osc::packet::{Limits, decode, encode};
use sidetone::osc::pattern::Pattern;
use tokio_util::codec::Decoder as _;

fuzz_target!(|data: &[u8]| {
    if let Ok(messages) = decode(data, &Limits::default()) {
        for timed in messages {
            let Ok(pattern) = Pattern::new(&timed.message.addr) else { continue };
            if !pattern.is_wild() {
                assert!(pattern.matches(&timed.message.addr), "{:?}", timed.message);
            }
            // What was read can be written, but for addresses that are patterns, and reads as it was.
            let Ok(written) = encode(&timed.message) else { continue };
            let again = decode(&written, &Limits::default()).expect("what we write we read");
            assert_eq!(format!("{:?}", again[0].message), format!("{:?}", timed.message));
        }
    }
    let cut = |piece: usize| {
        let (mut deframer, mut bytes, mut packets) = (Deframer::new(1_024), BytesMut::new(), Vec::new());
        for piece in data.chunks(piece) {
            bytes.extend_from_slice(piece);
            while let Ok(Some(packet)) = deframer.decode(&mut bytes) {
                packets.push(packet);
            }
        }
        packets
    };
    assert_eq!(cut(data.len().max(1)), cut(3));
});
