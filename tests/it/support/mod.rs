//! What the tests share.

#[cfg(all(feature = "fake", feature = "whisper", feature = "sherpa"))]
pub mod booth;
#[cfg(all(feature = "fake", feature = "whisper", feature = "sherpa"))]
pub mod host;
pub mod jack;
#[cfg(all(feature = "fake", feature = "whisper", feature = "sherpa"))]
pub mod midi;
pub mod nats;
pub mod network;
#[cfg(all(feature = "fake", feature = "whisper", feature = "sherpa"))]
pub mod osc;
#[cfg(all(feature = "fake", feature = "whisper", feature = "sherpa"))]
pub mod studio;

use std::io::Write as _;
use std::path::PathBuf;

use sidetone::home::Home;

/// The folder of the model `name`, if set-up has fetched it. Otherwise the test is skipped, or fails where all is required.
pub fn model(name: &str, file: &str) -> Option<PathBuf> {
    let path = Home::find(None).models().join(name);
    need(path.join(file).is_file(), &format!("the model {name} ({})", path.display())).then_some(path)
}

/// Whether `there`; says what is missing, and fails if `SIDETONE_REQUIRE_ALL` is set.
pub fn need(there: bool, what: &str) -> bool {
    if !there {
        assert!(std::env::var_os("SIDETONE_REQUIRE_ALL").is_none(), "missing: {what}; run `make setup`");
        // Past the harness, which keeps what a test that passes prints to itself.
        let _ = writeln!(std::io::stderr(), "skipped, missing: {what}; run `make setup`");
    }
    there
}
