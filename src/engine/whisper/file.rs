//! A look at a model's file before whisper.cpp loads it.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use crate::engine::EngineError;

/// The first four bytes of a whisper.cpp model.
const MODEL_MAGIC: u32 = 0x6767_6d6c;
/// The 32-bit words of a model's header that say how big it is, the magic included.
const HEADER_WORDS: usize = 11;

/// The model's file: `path` itself, or `model.bin` in it; checked to be one of whisper.cpp's.
pub(super) fn model_file(model: &str, path: &Path) -> Result<PathBuf, EngineError> {
    let file = if path.is_dir() { path.join("model.bin") } else { path.to_path_buf() };
    let wrong = |what: String| {
        let at = file.display();
        EngineError::Failed(format!("{at} {what}; fetch {model} again by `sidetone models fetch {model}`"))
    };
    match header(&file) {
        Ok((header, bytes)) if is_sound(&header, bytes) => Ok(file),
        Ok((header, _)) if header[0] == MODEL_MAGIC => Err(wrong("is damaged or cut off".into())),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(EngineError::Missing(format!(
            "the speech model {model} is not at {}; fetch it by `sidetone models fetch {model}`",
            file.display()
        ))),
        Ok(_) => Err(wrong("is no model of whisper.cpp".into())),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Err(wrong("is no model of whisper.cpp".into())),
        Err(error) => Err(wrong(format!("can't be read ({error})"))),
    }
}

/// The first words of a model's file, and its length in bytes.
fn header(file: &Path) -> std::io::Result<([u32; HEADER_WORDS], u64)> {
    let mut opened = File::open(file)?;
    let length = opened.metadata()?.len();
    let mut bytes = [0; HEADER_WORDS * 4];
    opened.read_exact(&mut bytes)?;
    let mut words = [0; HEADER_WORDS];
    for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(4)) {
        *word = bytes.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte));
    }
    Ok((words, length))
}

/// Whether a file can be what its header says. whisper.cpp believes the header and crashes when it lies. In it are, in
/// `whisper_hparams`' order: magic, n_vocab, audio ctx, state, head and layer, text ctx, state, head and layer, n_mels.
/// The token embedding alone is n_vocab × n_text_state weights of at least four bits.
fn is_sound(header: &[u32; HEADER_WORDS], bytes: u64) -> bool {
    let [magic, vocab, .., text_state, _, _, _] = *header;
    magic == MODEL_MAGIC
        && header[1..].iter().all(|size| (1..1 << 17).contains(size))
        && u64::from(vocab) * u64::from(text_state) / 2 < bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{RecognizerSpec, Whisper};

    fn spec(path: &Path) -> RecognizerSpec {
        RecognizerSpec { model: "whisper-x".into(), path: path.into(), language: None, threads: 1, slots: 1 }
    }

    #[test]
    fn a_missing_or_wrong_model_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let error = Whisper::load(&spec(dir.path())).err().unwrap();
        assert!(matches!(error, EngineError::Missing(_)));
        assert!(error.to_string().ends_with("model.bin; fetch it by `sidetone models fetch whisper-x`"), "{error}");

        std::fs::write(dir.path().join("model.bin"), b"<html>not found</html>").unwrap();
        let error = Whisper::load(&spec(dir.path())).err().unwrap();
        assert!(matches!(error, EngineError::Failed(_)));
        assert!(error.to_string().contains("is no model of whisper.cpp"), "{error}");

        // The header of tiny.en, and nothing behind it.
        let sizes: [u32; HEADER_WORDS] = [MODEL_MAGIC, 51864, 1500, 384, 6, 4, 448, 384, 6, 4, 80];
        let bytes: Vec<u8> = sizes.iter().flat_map(|size| size.to_le_bytes()).collect();
        std::fs::write(dir.path().join("model.bin"), bytes).unwrap();
        let error = Whisper::load(&spec(dir.path())).err().unwrap();
        assert!(error.to_string().contains("is damaged or cut off"), "{error}");
        assert!(is_sound(&sizes, 30_000_000));
    }
}
