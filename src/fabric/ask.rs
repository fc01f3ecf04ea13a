//! Asking the host that can, and saying which that would be.

use super::route::Choice;
use super::state::{FIRST_VIEW_TIMEOUT, Fabric};
use super::stream::FabricStream;
use crate::bus::message::Ask;
use crate::bus::{BusError, Call};
use crate::router::{Line, Need, Outcome};

impl Fabric {
    /// Which hosts would be asked, in their order, and why not the others.
    pub async fn explain(&self, need: &Need) -> Vec<Line> {
        self.until_known().await;
        let need = self.0.narrowed(need);
        let peers = self.0.peers();
        self.0.router(&peers, &need.capability).explain(&need, self.0.now(), &mut rand::rng())
    }

    /// Why no host can be asked.
    pub async fn nobody(&self, need: &Need) -> BusError {
        match self.route(need, &Call::within(FIRST_VIEW_TIMEOUT)).await {
            Ok(_) => BusError::Nobody { subject: need.to_string() },
            Err(error) => error,
        }
    }

    /// The host that would be asked first; its name is empty if it is anyone of the queue group.
    ///
    /// # Errors
    /// No host can, and why.
    pub async fn choose(&self, need: &Need) -> Result<Choice, BusError> {
        let mut attempt = self.route(need, &Call::within(FIRST_VIEW_TIMEOUT)).await?.next().await?;
        attempt.settle(Outcome::Abandoned);
        Ok(attempt.choice)
    }

    /// Has a request answered by a host that can, within the call's deadline.
    ///
    /// # Errors
    /// No host can, and why; or what the last of those that were asked said.
    pub async fn ask<A: Ask>(&self, need: &Need, request: &A, call: &Call) -> Result<A::Reply, BusError> {
        let mut route = self.route(need, call).await?;
        loop {
            let attempt = route.next().await?;
            let asking = self.0.bus.ask(attempt.target(need), request, &attempt.call);
            let result = self.watched(&attempt, asking).await;
            if let Some(result) = route.ended(attempt, result) {
                return result;
            }
        }
    }

    /// The same for a stream of replies. Another host is asked as long as none has answered anything; after that it is
    /// for the caller to go on where the answer broke off, see [`FabricStream::next`].
    ///
    /// # Errors
    /// As [`Fabric::ask`].
    pub async fn open<A: Ask>(&self, need: &Need, request: A, call: &Call) -> Result<FabricStream<A>, BusError> {
        let route = self.route(need, call).await?;
        Ok(FabricStream::new(self.clone(), need.clone(), request, route))
    }
}
