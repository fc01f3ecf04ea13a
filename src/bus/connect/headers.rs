//! The headers of a NATS message: reading and setting them by the names of [`header`].

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::header::{HeaderName, IntoHeaderValue};

use crate::wire::codec::header;
use crate::wire::message::fault::{Fault, FaultCode};

/// The text of a header; empty if it is absent.
#[must_use]
pub fn text<'a>(headers: Option<&'a HeaderMap>, name: &'static str) -> &'a str {
    // From a constant the name is made without a copy.
    headers.and_then(|headers| headers.get(HeaderName::from_static(name))).map_or("", |value| value.as_str())
}

/// Sets a header.
pub fn set(headers: &mut HeaderMap, name: &'static str, value: impl IntoHeaderValue) {
    headers.insert(HeaderName::from_static(name), value);
}

/// The number in a header; `None` if it is absent or no number.
#[must_use]
pub fn number(headers: Option<&HeaderMap>, name: &'static str) -> Option<u64> {
    text(headers, name).trim().parse().ok()
}

/// The request's deadline, if it names one.
#[must_use]
pub fn deadline(headers: Option<&HeaderMap>) -> Option<Duration> {
    number(headers, header::DEADLINE_MS).map(Duration::from_millis)
}

/// The error in a reply's headers, if it is one.
#[must_use]
pub fn fault(headers: Option<&HeaderMap>) -> Option<Fault> {
    let code = number(headers, header::ERROR_CODE)?;
    let code = FaultCode::from_number(usize::try_from(code).unwrap_or_default());
    Some(Fault::new(code, text(headers, header::ERROR)))
}
