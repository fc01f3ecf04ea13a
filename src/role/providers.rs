//! The engines of a role: each runs by itself, so that the others serve when one can't.

use std::time::{Duration, Instant};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::{RoleContext, RoleError};
use crate::bus::message::fault::{Fault, FaultCode};
use crate::bus::message::node::{Offer, Privacy};
use crate::bus::service::{EngineSpec, Engines, Load, Server, ServiceSpec};
use crate::bus::subject::Capability;
use crate::config::Classes;
use crate::engine::Reach;
use crate::fabric::wire_privacy;
use crate::router;

/// The pauses before an engine that failed is tried again.
const RETRY_MIN: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// One that has served this long before it fails starts over with the shortest pause.
const STEADY: Duration = Duration::from_secs(60);

/// One of the engines of a role, while it runs.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// Where it stands in the settings.
    rank: usize,
    engines: Engines,
    /// Fires when it serves.
    is_up: CancellationToken,
}

impl Place {
    /// Opens its service.
    ///
    /// # Errors
    /// As [`crate::bus::Bus::engine`].
    pub(super) async fn open(
        &self,
        context: &RoleContext,
        spec: ServiceSpec,
        offer: &Offer,
    ) -> Result<Server, RoleError> {
        let engine = EngineSpec { offer: offer.clone(), rank: self.rank, engines: self.engines.clone() };
        Ok(context.bus.engine(spec, engine).await?)
    }

    /// Says that it serves, and what.
    pub(super) fn up(&self, context: &RoleContext, offer: Offer, load: Load) {
        tracing::info!(models = offer.models.join(","), engine = offer.engine, "up");
        context.offers.set(offer, Some(load), self.rank);
        self.is_up.cancel();
    }
}

/// How far what an engine is given travels: as the settings say, else as it says itself.
pub(super) fn privacy(set: Option<router::Privacy>, reach: Reach) -> Privacy {
    set.map_or(
        match reach {
            Reach::Host => Privacy::Host,
            Reach::Lan => Privacy::Lan,
            Reach::Outside => Privacy::Any,
        },
        wire_privacy,
    )
}

/// The model that a request means by a name: the first of a class that an engine has, or the name itself.
pub(super) fn of_class<'a>(classes: &'a Classes, name: &'a str, has: impl Fn(&str) -> bool) -> &'a str {
    let Some(models) = classes.get(name) else { return name };
    models.iter().find(|model| has(model)).or(models.first()).map_or(name, String::as_str)
}

/// Runs the engines `names` of the role that serves `capability`, each by `provide`, until the role is to stop. It is up
/// when each of them has come up or failed. One that fails is tried again while the others serve.
///
/// # Errors
/// The only one failed, or all did at the start, or the server does not let the role be heard.
pub(super) async fn run<F, R>(
    context: &RoleContext,
    capability: Capability,
    names: &[&str],
    provide: F,
) -> Result<(), RoleError>
where
    F: Fn(usize, Place) -> R + Sync,
    R: Future<Output = Result<(), RoleError>> + Send,
{
    let engines = Engines::default();
    let place = |rank, is_up| Place { rank, engines: engines.clone(), is_up };
    if names.len() == 1 {
        return provide(0, place(0, context.is_up.clone())).await;
    }
    let (said, mut outcomes) = mpsc::channel(names.len().max(1));
    let one = |(rank, name): (usize, &&str)| {
        let engine = Engine { context, capability, name: (*name).to_owned(), said: said.clone() };
        let (provide, place) = (&provide, &place);
        let span = tracing::info_span!("engine", name = engine.name);
        engine.supervise(move |is_up| provide(rank, place(rank, is_up))).instrument(span)
    };
    let mut all: FuturesUnordered<_> = names.iter().enumerate().map(one).collect();
    let (mut waiting, mut failed) = (names.len(), Vec::new());
    loop {
        tokio::select! {
            ended = all.next() => match ended {
                Some(ended) => ended?,
                None => return Ok(()),
            },
            Some(outcome) = outcomes.recv(), if waiting > 0 => {
                waiting -= 1;
                failed.extend(outcome.err());
                if waiting > 0 {
                    continue;
                }
                // One of them may have been tried again meanwhile.
                if failed.len() == names.len() && engines.is_empty() {
                    return failed.into_iter().next().map_or(Ok(()), |(_, error)| Err(error));
                }
                for (name, error) in &failed {
                    tell(context, capability, name, error).await;
                }
                context.ready();
            }
        }
    }
}

/// Reports that an engine is down, and that it is tried again.
async fn tell(context: &RoleContext, capability: Capability, name: &str, error: &RoleError) {
    let text = format!("the {capability} engine {name} is down and tried again; the others go on: {error}");
    context.bus.report(&Fault::new(FaultCode::Unavailable, text)).await;
}

/// An engine that is started again when it fails.
struct Engine<'a> {
    context: &'a RoleContext,
    capability: Capability,
    name: String,
    /// Where it says once that it is up, or why not.
    said: mpsc::Sender<Result<(), (String, RoleError)>>,
}

impl Engine<'_> {
    async fn supervise<R>(self, start: impl Fn(CancellationToken) -> R) -> Result<(), RoleError>
    where
        R: Future<Output = Result<(), RoleError>>,
    {
        let Self { context, capability, name, said } = self;
        let backoff =
            ExponentialBuilder::default().with_min_delay(RETRY_MIN).with_max_delay(RETRY_MAX).without_max_times();
        let (mut pauses, mut has_said) = (backoff.build(), false);
        loop {
            let (begun, is_up) = (Instant::now(), CancellationToken::new());
            let mut work = Box::pin(start(is_up.clone()));
            let result = tokio::select! {
                result = &mut work => result,
                () = context.stop.cancelled(), if !is_up.is_cancelled() => return Ok(()),
                () = is_up.cancelled() => {
                    if !has_said {
                        has_said = true;
                        let _ = said.send(Ok(())).await;
                    }
                    work.await
                }
            };
            context.offers.remove_engine(capability.token(), &name);
            if context.stop.is_cancelled() {
                return Ok(());
            }
            let error =
                result.err().unwrap_or_else(|| RoleError::Setting("it ended though it was not stopped".to_owned()));
            match error {
                RoleError::Bus(error) if !error.can_retry() => return Err(error.into()),
                error if has_said => tell(context, capability, &name, &error).await,
                error => {
                    has_said = true;
                    let _ = said.send(Err((name.clone(), error))).await;
                }
            }
            if begun.elapsed() > STEADY {
                pauses = backoff.build();
            }
            tokio::select! {
                () = tokio::time::sleep(pauses.next().unwrap_or(RETRY_MAX)) => {}
                () = context.stop.cancelled() => return Ok(()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_settings_go_before_what_an_engine_says_of_itself() {
        assert_eq!(privacy(None, Reach::Lan), Privacy::Lan);
        assert_eq!(privacy(Some(router::Privacy::Any), Reach::Host), Privacy::Any);
    }

    #[test]
    fn a_class_stands_for_its_first_model() {
        let classes = BTreeMap::from([("planner".to_owned(), vec!["big".to_owned(), "bigger".to_owned()])]);
        let of = |name: &'static str, has: &'static str| of_class(&classes, name, |model| model == has);
        assert_eq!((of("planner", "bigger"), of("planner", ""), of("small", "")), ("bigger", "big", "small"));
    }
}
