//! A listener without a host, which answers only if the test wants it to.

use async_nats::Message as Packet;
use futures::StreamExt as _;
use sidetone::bus::message::Message as _;
use sidetone::bus::message::voice::{Control, State};
use sidetone::bus::subject;

use super::nats::{Nats, within};

/// A listener of the host `booth` that hears what it is told, and answers when the test has it answer.
pub struct Booth {
    raw: async_nats::Client,
    told: async_nats::Subscriber,
    last: Option<Packet>,
}

impl Booth {
    /// One of that name.
    pub async fn new(nats: &Nats, name: &str) -> Self {
        let raw = nats.raw().await;
        let told = nats.hear(&raw, &subject::voice_control("booth", name)).await;
        Self { raw, told, last: None }
    }

    /// The next that it is told, but for how loud it is.
    pub async fn next(&mut self) -> Control {
        within(async {
            loop {
                let packet = self.told.next().await.unwrap();
                // As hosts tell each other.
                match rmp_serde::from_slice(&packet.payload).unwrap() {
                    Control::Meter { .. } => {}
                    control => {
                        self.last = Some(packet);
                        return control;
                    }
                }
            }
        })
        .await
    }

    /// The next, which it answers.
    pub async fn answer(&mut self) -> Control {
        let control = self.next().await;
        let reply = self.last.take().unwrap().reply.unwrap();
        self.raw.publish(reply, serde_json::to_vec(&State::example()).unwrap().into()).await.unwrap();
        control
    }
}
