//! Deeds that go by the bus: those of [`rig::deeds`](crate::rig::deeds), with a queue between them and the thread that decides.

use tokio::sync::mpsc;

use super::core::Todo;
use super::engine::{Due, Engine};
use crate::bus::message::fault::FaultCode;
use crate::rig::Rig;
use crate::rig::deeds::{Deeds, End, Task};

/// Does what the table says, but for what was done at once.
pub async fn act(rig: Rig, engine: Engine, mut todos: mpsc::Receiver<Due>) {
    let deeds = Deeds::new(rig, move |told| {
        let why = match told.end {
            End::Done(_) => return,
            End::Failed(fault) if fault.code == FaultCode::Cancelled => return,
            End::Failed(fault) => fault.message,
            End::LeftOut(why) => why,
        };
        engine.report(format!("{}: {why}", told.by));
    });
    while let Some((Todo { deed, on, by }, stops)) = todos.recv().await {
        deeds.put(Task { deed, on, by, stops, from: () });
    }
}
