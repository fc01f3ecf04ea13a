//! Many replies to one request: sequence, end, credit and cancel, as both ends know them.
//!
//! ```text
//! caller                                    worker
//!   subscribes an inbox
//!   request (Credit: 64) ──────────────────▶ works
//!   ◀──────────── chunk 0, reply = <control inbox>.0
//!   ◀──────────── chunk 1
//!   publishes on <control inbox>.1 ────────▶ 0 and 1 are done with: may send more
//!   ◀──────────── empty, Status: 200, Chunks: 2
//! ```
//!
//! The credit is the backpressure: at most that many chunks are on the way. Such chunks have no headers, which would cost
//! more than all else: the number of a chunk is written behind it, and both as the request's `Accept` said. The first has a
//! reply subject, and then one now and then: what is published there, or with a later number at the end, acknowledges. A
//! caller that gives no credit (the stock CLI) gets chunks as they come, with the headers `Seq` and `Content-Type`. Chunks that
//! are ready at once come in one message to a caller that says so ([`pack`](super::pack)).
//!
//! When the caller is gone, the server answers 503 on the reply subject, and the worker stops; while it may not send, it asks
//! every second by a message with `Status: 100`, whose body means nothing. The server answers only the connection that sent the
//! chunk, so each connection has a control inbox of its own. A gap in the numbers or a missing end is an error, never a short
//! answer.

/// What the header `Status` says.
pub mod status {
    /// The stream has ended.
    pub const END: &str = "200";
    /// Is the reader still there? If it is not, the server says so.
    pub const PROBE: &str = "100";
}

/// Chunks that may be on the way to a caller that acknowledges.
pub const CREDIT: u64 = 64;
/// The caller acknowledges when it has done with so many chunks since the last time; under [`CREDIT`], so that the worker
/// need not pause, but not much, since an acknowledgement costs as much as a chunk.
pub const ACK_EVERY: u64 = CREDIT * 3 / 4;
