//! From a model's written text to what a voice says: [`sentence`] cuts it up as it streams, [`speech`] leaves out
//! what is written but not said; [`template`] fills slots in. Pure: values in, values out.

mod abbreviation;
mod fence;
pub mod sentence;
pub mod speech;
pub mod template;
pub mod wake;

pub use sentence::{SentenceSplitter, SplitSettings};
pub use speech::{SpeechFilter, speakable};
