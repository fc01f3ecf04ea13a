//! Deeds that go by the bus. What is told to one listener goes in order, and so does what other hosts send: a release must
//! follow its press, and be done even if all else is busy. Commands and tools take their time, many at once.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc};
use tokio_util::task::AbortOnDropHandle;

use super::core::Todo;
use super::engine::{Due, Engine, TODOS};
use crate::action::Deed;
use crate::bus::message::fault::FaultCode;
use crate::role::RoleContext;

/// Commands and tools of the table that run at once.
const DEEDS: usize = 16;
/// Listeners that are told things at once.
const LANES: usize = 64;

/// What goes in order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Lane {
    /// What a listener is told.
    Listener(String),
    /// MIDI and OSC of other hosts.
    Wire,
}

/// Where a deed goes in order; `None`: by itself. What waits for a beat has its time, and must not hold up what has not.
fn lane(todo: &Todo) -> Option<Lane> {
    match &todo.deed {
        // Whoever plays it waits for the beat.
        Deed::Midi(_) => Some(Lane::Wire),
        _ if todo.on.is_some() => None,
        Deed::Osc(_) => Some(Lane::Wire),
        Deed::Listener { listener, .. } => Some(Lane::Listener(listener.0.clone())),
        Deed::Command { .. } | Deed::Tool { .. } | Deed::Stop => None,
    }
}

/// Does what the table says, but for what was done at once.
pub async fn act(context: RoleContext, engine: Engine, mut todos: mpsc::Receiver<Due>) {
    let slots = Arc::new(Semaphore::new(DEEDS));
    let mut lanes: HashMap<Lane, (mpsc::Sender<Due>, AbortOnDropHandle<()>)> = HashMap::new();
    while let Some(due) = todos.recv().await {
        let by = due.0.by.clone();
        if let Some(lane) = lane(&due.0) {
            if lanes.len() >= LANES && !lanes.contains_key(&lane) {
                // One that has nothing to do goes for it.
                let idle = lanes.iter().find(|(_, (to, _))| to.capacity() == to.max_capacity());
                let idle = idle.map(|(lane, _)| lane.clone());
                if let Some((to, task)) = idle.and_then(|idle| lanes.remove(&idle)) {
                    // It ends by itself when it has done its last.
                    drop(to);
                    drop(task.detach());
                } else {
                    engine.report(format!("{by}: {LANES} listeners are being told things; this one is not"));
                    continue;
                }
            }
            let (to, _) = lanes.entry(lane).or_insert_with(|| {
                let (to, from) = mpsc::channel(TODOS);
                (to, AbortOnDropHandle::new(tokio::spawn(in_order(context.clone(), engine.clone(), from))))
            });
            if to.try_send(due).is_err() {
                engine.report(format!("{by}: {TODOS} deeds wait already; this one is not done"));
            }
            continue;
        }
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            engine.report(format!("{by}: {DEEDS} commands run already; this one is not done"));
            continue;
        };
        let (context, engine) = (context.clone(), engine.clone());
        tokio::spawn(async move {
            let _slot = slot;
            carry_out(&context, &engine, due).await;
        });
    }
}

async fn in_order(context: RoleContext, engine: Engine, mut dues: mpsc::Receiver<Due>) {
    while let Some(due) = dues.recv().await {
        carry_out(&context, &engine, due).await;
    }
}

/// Does one, unless a stop came since it was set off, or comes meanwhile.
async fn carry_out(context: &RoleContext, engine: &Engine, (Todo { deed, on, by }, stops): Due) {
    let mut stop = context.rig.stops().subscribe();
    if context.rig.stops().count() != stops {
        return;
    }
    let done = tokio::select! {
        biased;
        () = stop.next() => return,
        done = context.rig.act_on(deed, on, &by) => done,
    };
    match done {
        Ok(_) => {}
        Err(fault) if fault.code == FaultCode::Cancelled => {}
        Err(fault) => engine.report(format!("{by}: {}", fault.message)),
    }
}
