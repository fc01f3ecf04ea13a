//! One request, one reply.

use async_nats::{HeaderMap, RequestErrorKind};
use bytes::Bytes;

use super::call::{Call, GRACE};
use super::cancel::CancelOnDrop;
use crate::bus::connect::{Bus, BusError, headers};
use crate::wire::codec::{self, Format, header};
use crate::wire::message::fault::Fault;
use crate::wire::message::{Ask, Message, Replies, voice};
use crate::wire::subject::{self, Target};

impl Bus {
    /// Asks for one reply. A verb that answers by a stream must be asked for its summary alone.
    ///
    /// # Errors
    /// The host that is asked says why not ([`BusError::Fault`]), or no answer came in time, or the connection dropped meanwhile.
    pub async fn ask<A: Ask>(&self, target: Target<'_>, request: &A, call: &Call) -> Result<A::Reply, BusError> {
        self.ask_at(A::VERB.subject(target), request, call).await
    }

    /// Controls a listener.
    ///
    /// # Errors
    /// As [`Bus::ask`].
    pub async fn control(
        &self,
        node: &str,
        listener: &str,
        control: &voice::Control,
        call: &Call,
    ) -> Result<voice::State, BusError> {
        self.ask_at(subject::voice_control(node, listener), control, call).await
    }

    /// Asks a tool, which takes and gives JSON, and gives its answer as it is.
    ///
    /// # Errors
    /// As [`Bus::ask`].
    pub async fn ask_tool(&self, name: &str, input: &serde_json::Value, call: &Call) -> Result<String, BusError> {
        let subject = subject::tool(name);
        let body = Bytes::from(input.to_string());
        let call = Call { format: Format::Json, ..call.clone() };
        let reply = self.request(&subject, body, call.plain_headers(), &call).await?;
        match headers::fault(reply.headers.as_ref()) {
            Some(fault) => Err(fault.into()),
            None => Ok(String::from_utf8_lossy(&reply.payload).into_owned()),
        }
    }

    async fn ask_at<A: Ask>(&self, subject: String, request: &A, call: &Call) -> Result<A::Reply, BusError> {
        if A::REPLIES != Replies::One && request.wants_stream() {
            let text = format!("{} answers by a stream: open it, or ask with \"stream\": false", A::VERB);
            return Err(Fault::invalid(text).into());
        }
        let body = codec::encode(request, call.format)?;
        let id = self.inner.control.client.new_inbox();
        let id = id.rsplit('.').next().unwrap_or_default();
        let mut guard = CancelOnDrop::new(self, A::VERB.capability, id, call);
        let reply = self.request(&subject, body, call.headers::<A>(id), call).await;
        // A request that was on its way as the connection dropped may still arrive, and one that takes too long is worked on:
        // the guard cancels these.
        if !matches!(reply, Err(BusError::Deadline { .. } | BusError::Disconnected { .. })) {
            guard.disarm();
        }
        read(&reply?)
    }

    async fn request(
        &self,
        subject: &str,
        body: Bytes,
        headers: HeaderMap,
        call: &Call,
    ) -> Result<async_nats::Message, BusError> {
        let connection = &self.inner.control;
        let mut watch = connection.watch(subject)?;
        connection.check_size(subject, body.len())?;
        let request = async_nats::Request::new().payload(body).headers(headers).timeout(Some(call.time() + GRACE));
        let reply = tokio::select! {
            biased;
            reply = connection.client.send_request(subject.to_owned(), request) => reply,
            error = watch.broken(subject) => return Err(error),
        };
        reply.map_err(|e| match e.kind() {
            RequestErrorKind::NoResponders => BusError::Nobody { subject: subject.to_owned() },
            // The reply is lost with the connection, though that may stand again.
            RequestErrorKind::TimedOut if watch.is_broken() => BusError::Disconnected { what: subject.to_owned() },
            RequestErrorKind::TimedOut => {
                BusError::Deadline { subject: subject.to_owned(), ms: call.time().as_millis() }
            }
            _ => BusError::client(subject, e),
        })
    }
}

/// Reads a reply, or the error that it is.
fn read<M: Message>(reply: &async_nats::Message) -> Result<M, BusError> {
    if let Some(fault) = headers::fault(reply.headers.as_ref()) {
        return Err(fault.into());
    }
    decode(reply)
}

/// Reads the body of a reply that is no error.
pub(super) fn decode<M: Message>(reply: &async_nats::Message) -> Result<M, BusError> {
    let kind = headers::text(reply.headers.as_ref(), header::CONTENT_TYPE);
    codec::decode(kind, &reply.payload).map_err(|e| unreadable(&reply.subject, &e))
}

pub(super) fn unreadable(subject: &str, why: &Fault) -> BusError {
    Fault::failed(format!("the answer on {subject} can't be read: {why}")).into()
}
