//! From a model's written text to what a voice says: [`sentence`] cuts it up as it streams, [`speech`] leaves out
//! what is written but not said. Pure: values in, values out.

pub mod sentence;
pub mod speech;

//pub use sentence::{SentenceSplitter, SplitSettings};
//pub use speech::{SpeechFilter, speakable};
