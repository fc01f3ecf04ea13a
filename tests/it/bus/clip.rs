//! Audio that is over max_payload.

use sidetone::bus::message::fault::FaultCode;

use super::code;
use crate::support::nats::{Nats, within};

#[tokio::test(flavor = "multi_thread")]
async fn a_large_clip_is_kept_and_fetched() {
    let Some(nats) = Nats::start().await else { return };
    let (host, other) = (nats.host("studio").await, nats.host("other").await);
    let audio: Vec<u8> = (0..3_000_000u32).map(|i| (i.wrapping_mul(i) >> 7).to_le_bytes()[0]).collect();
    assert!(host.needs_clip(audio.len()) && !host.needs_clip(1_000));
    let name = within(host.put_clip(&audio)).await.unwrap();
    assert!(within(other.get_clip(&name, audio.len())).await.unwrap() == audio);
    let empty = within(host.put_clip(b"")).await.unwrap();
    assert!(within(other.get_clip(&empty, 0)).await.unwrap().is_empty());

    let large = within(other.get_clip(&name, 2_999_999)).await;
    assert_eq!(
        large.as_ref().unwrap_err().to_string(),
        format!("the clip {name:?} is 3000000 bytes, and 2999999 are taken")
    );
    assert_eq!(code(large), FaultCode::TooLarge);
    for missing in ["01KB3Z7D5YAZ9W1N4CV2T8Q6RE", "a.b *>", ""] {
        let result = within(other.get_clip(missing, 10)).await;
        assert!(result.is_err(), "{missing:?}");
        if !missing.is_empty() {
            assert_eq!(code(result), FaultCode::NotFound, "{missing:?}");
        }
    }
}
