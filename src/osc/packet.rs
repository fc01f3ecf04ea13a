//! Datagrams to messages and back.
//!
//! rosc reads and writes single messages. Bundles are taken apart here, without recursion, and what a message claims about
//! itself is checked before rosc believes it: it would read type tags without their comma, forget arrays that are not closed,
//! and take as many messages of a broken bundle as come before the break.

use rosc::{OscMessage, OscPacket, OscTime, OscType};

use super::time::IMMEDIATELY;

/// What a packet begins with if it is a bundle.
const BUNDLE: &[u8] = b"#bundle\0";

/// Limits of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a packet.
    pub bytes: usize,
    /// Bundles within bundles; 1: no bundle within another.
    pub bundle_depth: usize,
    /// Messages of a packet.
    pub messages: usize,
    /// Arguments of a message, with those in its arrays.
    pub args: usize,
    /// Arrays within arrays.
    pub array_depth: usize,
    /// Bytes of an address.
    pub address: usize,
}

impl Default for Limits {
    /// What fits into a datagram, and deeper nesting than anything sensible has.
    fn default() -> Self {
        Self { bytes: 65_507, bundle_depth: 8, messages: 1_024, args: 1_024, array_depth: 8, address: 255 }
    }
}

/// A message, and when it is to be done.
#[derive(Debug, Clone, PartialEq)]
pub struct Timed {
    /// The time tag of its bundle; [`IMMEDIATELY`] outside bundles.
    pub at: OscTime,
    /// The message.
    pub message: OscMessage,
}

/// Why a packet is not taken. Nothing of it is done then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// It has no bytes.
    #[error("the packet is empty")]
    Empty,
    /// It is bigger than is taken.
    #[error("the packet has {bytes} bytes, and {max} are taken")]
    TooBig {
        /// Its size.
        bytes: usize,
        /// What is taken.
        max: usize,
    },
    /// It ends in the middle of something.
    #[error("the packet ends within {0}")]
    Truncated(&'static str),
    /// It is neither a message nor a bundle.
    #[error("the packet is no OSC: it begins neither with / nor with #bundle")]
    NoOsc,
    /// There is more of something than is taken.
    #[error("more than {max} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// What is taken.
        max: usize,
    },
    /// The address is none.
    #[error("the address {0}")]
    Address(String),
    /// The type tags are no OSC, or say something else than what follows.
    #[error("the type tags of {address} {why}")]
    Types {
        /// The message's address.
        address: String,
        /// What is wrong.
        why: String,
    },
}

/// Takes a packet apart: all of its messages, in their order, or none.
///
/// # Errors
/// [`DecodeError`] says why it can't be read.
pub fn decode(packet: &[u8], limits: &Limits) -> Result<Vec<Timed>, DecodeError> {
    if packet.is_empty() {
        return Err(DecodeError::Empty);
    }
    if packet.len() > limits.bytes {
        return Err(DecodeError::TooBig { bytes: packet.len(), max: limits.bytes });
    }
    let mut messages = Vec::new();
    // What is left of each bundle that is open, with its time tag.
    let mut open: Vec<(&[u8], OscTime)> = Vec::new();
    let mut next = Some((packet, IMMEDIATELY));
    loop {
        if let Some((element, at)) = next.take() {
            if let Some(bundle) = element.strip_prefix(BUNDLE) {
                if open.len() == limits.bundle_depth {
                    return Err(DecodeError::TooMany { what: "bundles within each other", max: limits.bundle_depth });
                }
                let (seconds, rest) = number(bundle, "the time tag of a bundle")?;
                let (fractional, rest) = number(rest, "the time tag of a bundle")?;
                open.push((rest, OscTime { seconds, fractional }));
            } else if element.first() == Some(&b'/') {
                if messages.len() == limits.messages {
                    return Err(DecodeError::TooMany { what: "messages in a packet", max: limits.messages });
                }
                messages.push(Timed { at, message: message(element, limits)? });
            } else {
                return Err(DecodeError::NoOsc);
            }
        }
        let Some((rest, at)) = open.last_mut() else { return Ok(messages) };
        if rest.is_empty() {
            open.pop();
            continue;
        }
        let (size, tail) = number(rest, "the size of a bundle's element")?;
        let size = size as usize;
        let element = tail.get(..size).ok_or(DecodeError::Truncated("a bundle's element"))?;
        if size == 0 || !size.is_multiple_of(4) {
            return Err(DecodeError::Truncated("a bundle's element: its size is no multiple of 4"));
        }
        *rest = tail.get(size..).unwrap_or_default();
        next = Some((element, *at));
    }
}

fn number<'a>(bytes: &'a [u8], what: &'static str) -> Result<(u32, &'a [u8]), DecodeError> {
    let (number, rest) = bytes.split_first_chunk().ok_or(DecodeError::Truncated(what))?;
    Ok((u32::from_be_bytes(*number), rest))
}

/// A text with its end and padding, and what follows it.
fn text<'a>(bytes: &'a [u8], what: &'static str) -> Result<(&'a [u8], &'a [u8]), DecodeError> {
    let end = bytes.iter().position(|byte| *byte == 0).ok_or(DecodeError::Truncated(what))?;
    let whole = (end + 1).next_multiple_of(4);
    let rest = bytes.get(whole..).ok_or(DecodeError::Truncated(what))?;
    Ok((bytes.get(..end).unwrap_or_default(), rest))
}

fn message(bytes: &[u8], limits: &Limits) -> Result<OscMessage, DecodeError> {
    let (address, rest) = text(bytes, "an address")?;
    let address = check_address(address, limits.address)?;
    if rest.is_empty() {
        // Senders from before OSC 1.0 leave the type tags out.
        return Ok(OscMessage { addr: address.to_owned(), args: Vec::new() });
    }
    let (tags, data) = text(rest, "the type tags")?;
    let wrong = |why: String| DecodeError::Types { address: address.to_owned(), why };
    let Some(types) = tags.strip_prefix(b",") else {
        return Err(wrong("do not begin with a comma".to_owned()));
    };
    check_types(types, limits, &wrong)?;
    // An alternate text is a text; rosc does not know it.
    let mut plain;
    let bytes = if types.contains(&b'S') {
        plain = bytes.to_vec();
        let begin = bytes.len() - rest.len();
        let tags = plain.get_mut(begin..begin + tags.len()).unwrap_or_default();
        tags.iter_mut().filter(|tag| **tag == b'S').for_each(|tag| *tag = b's');
        &plain
    } else {
        bytes
    };
    match rosc::decoder::decode_udp(bytes) {
        Ok(([], OscPacket::Message(message))) => Ok(message),
        Ok((rest, _)) => Err(wrong(format!("leave {} bytes over", rest.len()))),
        Err(_) if data.is_empty() => Err(wrong("promise arguments, and there are none".to_owned())),
        Err(error) => Err(wrong(format!("do not fit what follows: {error}"))),
    }
}

fn check_address(bytes: &[u8], max: usize) -> Result<&str, DecodeError> {
    if bytes.len() > max {
        return Err(DecodeError::TooMany { what: "characters in an address", max });
    }
    if let Some(byte) = bytes.iter().find(|byte| !matches!(byte, b' '..=b'~')) {
        let shown = bytes.escape_ascii();
        return Err(DecodeError::Address(format!("{shown} has the byte 0x{byte:02X}: only printable ASCII is taken")));
    }
    std::str::from_utf8(bytes).map_err(|_| DecodeError::Address("is no ASCII".to_owned()))
}

fn check_types(types: &[u8], limits: &Limits, wrong: &dyn Fn(String) -> DecodeError) -> Result<(), DecodeError> {
    if types.len() > limits.args {
        return Err(DecodeError::TooMany { what: "arguments of a message", max: limits.args });
    }
    let mut depth = 0_usize;
    for tag in types {
        match tag {
            b'[' => depth += 1,
            b']' => {
                depth = depth.checked_sub(1).ok_or_else(|| wrong("close an array that was not opened".to_owned()))?
            }
            b'i' | b'f' | b's' | b'b' | b'h' | b't' | b'd' | b'S' | b'c' | b'r' | b'm' | b'T' | b'F' | b'N' | b'I' => {}
            other => return Err(wrong(format!("have '{}', which is no type", other.escape_ascii()))),
        }
        if depth > limits.array_depth {
            return Err(DecodeError::TooMany { what: "arrays within each other", max: limits.array_depth });
        }
    }
    if depth > 0 { Err(wrong("do not close an array".to_owned())) } else { Ok(()) }
}

/// Why a message can't be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The address is none.
    #[error("{address:?} is no OSC address: {why}; one is like \"/mixer/1/level\"")]
    Address {
        /// What was given.
        address: String,
        /// What is wrong.
        why: &'static str,
    },
    /// A text can't be written.
    #[error("a text holds the character NUL, with which OSC ends a text: leave it out, or send a blob")]
    Nul,
    /// It is bigger than a datagram.
    #[error("the message has {bytes} bytes, and {max} fit into a datagram: send less, or use TCP")]
    TooBig {
        /// Its size.
        bytes: usize,
        /// What fits.
        max: usize,
    },
}

/// Whether `address` is an address, not a pattern.
///
/// # Errors
/// [`EncodeError::Address`].
pub fn check(address: &str) -> Result<(), EncodeError> {
    let wrong = |why| Err(EncodeError::Address { address: address.to_owned(), why });
    if !address.starts_with('/') {
        return wrong("it does not begin with /");
    }
    if !address.bytes().all(|byte| matches!(byte, b'!'..=b'~')) {
        return wrong("only printable ASCII without spaces is allowed");
    }
    if address.len() > Limits::default().address {
        return wrong("it has more than 255 characters");
    }
    Ok(())
}

/// A message as the bytes of a packet. Patterns are allowed as addresses: the receiver takes them apart.
///
/// # Errors
/// [`EncodeError`].
pub fn encode(message: &OscMessage) -> Result<Vec<u8>, EncodeError> {
    check(&message.addr)?;
    if has_nul(&message.args) {
        return Err(EncodeError::Nul);
    }
    let mut bytes = Vec::with_capacity(64);
    // Writing to memory does not fail.
    let _ = rosc::encoder::encode_into(&OscPacket::Message(message.clone()), &mut bytes);
    let max = Limits::default().bytes;
    if bytes.len() > max { Err(EncodeError::TooBig { bytes: bytes.len(), max }) } else { Ok(bytes) }
}

fn has_nul(args: &[OscType]) -> bool {
    args.iter().any(|arg| match arg {
        OscType::String(text) => text.contains('\0'),
        OscType::Array(array) => has_nul(&array.content),
        _ => false,
    })
}

#[cfg(test)]
#[path = "packet_tests.rs"]
mod tests;
