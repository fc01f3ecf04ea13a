//! A stream of replies from a host that can.

use super::route::{Attempt, Choice, Route, can_go_on, outcome};
use super::state::Fabric;
use crate::bus::BusError;
use crate::bus::message::Ask;
use crate::bus::stream::Stream;
use crate::router::{Need, Outcome};

/// A stream of replies. Dropping it before its end cancels the request.
pub struct FabricStream<A: Ask> {
    fabric: Fabric,
    need: Need,
    request: A,
    route: Route,
    now: Option<(Attempt, Stream<A::Reply>)>,
    choice: Choice,
    over: bool,
}

impl<A: Ask> FabricStream<A> {
    pub(super) fn new(fabric: Fabric, need: Need, request: A, route: Route) -> Self {
        let choice = Choice::default();
        Self { fabric, need, request, route, now: None, choice, over: false }
    }

    /// The host that answers, and why; empty before the first reply.
    #[must_use]
    pub fn choice(&self) -> &Choice {
        &self.choice
    }

    /// The next reply; `None` after the last. While nothing has come yet, the next host is asked by itself. An answer that
    /// breaks off later is an error: the caller knows what it has of it, and calls [`FabricStream::go_on`] to have the
    /// rest made elsewhere.
    ///
    /// # Errors
    /// As [`Stream::next`], and when no host is left to ask.
    pub async fn next(&mut self) -> Option<Result<A::Reply, BusError>> {
        if self.over {
            return None;
        }
        loop {
            if self.now.is_none()
                && let Err(error) = self.begin().await
            {
                self.over = true;
                return Some(Err(error));
            }
            let (attempt, stream) = self.now.as_mut()?;
            match stream.next().await.transpose() {
                Ok(Some(reply)) => return Some(Ok(reply)),
                Ok(None) => {
                    attempt.settle(Outcome::Answered);
                    (self.now, self.over) = (None, true);
                    return None;
                }
                Err(error) if stream.received().count() > 0 => {
                    attempt.settle(outcome(&error));
                    (self.now, self.over) = (None, true);
                    return Some(Err(error));
                }
                Err(error) => {
                    let (attempt, _) = self.now.take()?;
                    if let Some(Err(error)) = self.route.ended::<()>(attempt, Err(error)) {
                        self.over = true;
                        return Some(Err(error));
                    }
                }
            }
        }
    }

    /// After an error: whether another host may go on, with a `request` for the rest.
    pub fn go_on(&mut self, error: &BusError, request: A) -> bool {
        let can = can_go_on(error) && self.route.failed_with(error.clone());
        if can {
            self.request = request;
            self.over = false;
        }
        can
    }

    async fn begin(&mut self) -> Result<(), BusError> {
        loop {
            let attempt = self.route.next().await?;
            let opened = self.fabric.bus().open(attempt.target(&self.need), &self.request, &attempt.call).await;
            match opened {
                Ok(mut stream) => {
                    self.fabric.watch_over(&attempt, &mut stream);
                    self.choice = attempt.choice.clone();
                    self.now = Some((attempt, stream));
                    return Ok(());
                }
                Err(error) => {
                    if let Some(Err(error)) = self.route.ended::<()>(attempt, Err(error)) {
                        return Err(error);
                    }
                }
            }
        }
    }
}
