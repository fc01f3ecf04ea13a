//! `sidetone deploy`: what it writes is what real servers take, and lets hosts do their work and no more.

#[cfg(all(feature = "fake", feature = "whisper", feature = "sherpa"))]
mod fabric;
mod files;
#[cfg(all(feature = "fake", feature = "whisper", feature = "sherpa"))]
mod rights;
mod site;
mod systemd;
