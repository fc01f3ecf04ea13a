//! Events: publishing them, and hearing them.

use std::time::Duration;

use async_nats::HeaderMap;
use futures::{FutureExt as _, StreamExt as _};

use super::bus::Bus;
use super::error::BusError;
use super::headers;
use crate::wire::codec::{self, Format, header};
use crate::wire::message::Message;
use crate::wire::message::fault::Fault;
use crate::wire::subject;

impl Bus {
    /// Publishes an event, as JSON.
    ///
    /// # Errors
    /// [`BusError::Disconnected`] at once while the server can't be reached; nothing is kept for later.
    pub async fn publish<M: Message>(&self, subject: String, message: &M) -> Result<(), BusError> {
        let mut headers = HeaderMap::new();
        headers::set(&mut headers, header::CONTENT_TYPE, Format::Json.content_type());
        headers::set(&mut headers, header::SCHEMA, M::SCHEMA);
        self.inner.control.publish(&subject.into(), None, Some(headers), codec::encode(message, Format::Json)?).await
    }

    /// The same, and waits until the server has it.
    ///
    /// # Errors
    /// As [`Bus::publish`], and [`BusError::Denied`] when the server does not let this user say it.
    pub async fn tell<M: Message>(&self, subject: String, message: &M) -> Result<(), BusError> {
        let connection = &self.inner.control;
        let mut watch = connection.watch(&subject)?;
        self.publish(subject.clone(), message).await?;
        connection.ready().await?;
        watch.broken(&subject).now_or_never().map_or(Ok(()), Err)
    }

    /// Publishes a fault that no caller hears of, for people that watch.
    pub async fn report(&self, fault: &Fault) {
        tracing::warn!(code = ?fault.code, "{}", fault.message);
        if let Err(error) = self.publish(subject::event(self.node(), "fault"), fault).await {
            tracing::debug!(%error, "the fault could not be published");
        }
    }

    /// Hears events. A message that can't be read comes as an error beside its subject.
    ///
    /// # Errors
    /// [`BusError::DeniedHearing`] if the server forbids it, [`BusError::Client`] if it is no subject.
    pub async fn subscribe<M: Message>(
        &self,
        subject: &str,
    ) -> Result<impl futures::Stream<Item = (String, Result<M, Fault>)> + Send + Unpin + use<M>, BusError> {
        let connection = &self.inner.control;
        let (before, subjects) = (connection.refusals(), [subject.to_owned()]);
        let messages = self.raw(subject).await?;
        connection.stand(&subjects, before).await?;
        let messages = messages.map(|message| {
            let kind = headers::text(message.headers.as_ref(), header::CONTENT_TYPE);
            let decoded = codec::decode(kind, &message.payload);
            (message.subject.into_string(), decoded)
        });
        // Also when the right is taken away later: an error, and the end.
        let (connection, what) = (connection.clone(), subject.to_owned());
        let refused = async move { (what, Err(connection.unheard(&subjects, before).await.to_fault())) }.boxed();
        Ok(futures::stream::unfold((messages, Some(refused)), |(mut messages, refused)| async move {
            let mut refused = refused?;
            tokio::select! {
                biased;
                message = messages.next() => Some((message?, (messages, Some(refused)))),
                error = &mut refused => Some((error, (messages, None))),
            }
        })
        .boxed())
    }

    /// Subscribes, and waits until the subscription stands, or was refused.
    pub(in crate::bus) async fn raw(&self, subject: &str) -> Result<async_nats::Subscriber, BusError> {
        let connection = &self.inner.control;
        connection.check(subject)?;
        let messages =
            connection.client.subscribe(subject.to_owned()).await.map_err(|e| BusError::client(subject, e))?;
        connection.ready().await?;
        Ok(messages)
    }

    /// Whether a service answers for `capability` by the NATS service API, registered as a host or not.
    pub async fn is_served(&self, capability: &str, patience: Duration) -> bool {
        let connection = &self.inner.control;
        let ping = async_nats::Request::new().timeout(Some(patience));
        connection.is_up() && connection.client.send_request(subject::ping(capability), ping).await.is_ok()
    }
}
