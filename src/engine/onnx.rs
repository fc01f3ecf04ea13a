//! A look at an ONNX file before it is loaded. sherpa-onnx ends the whole process over a file that is damaged or lacks
//! what it reads from the metadata, so that must be found out first.
//!
//! An ONNX model is one protocol buffer message, `ModelProto` (onnx.proto3). Only its top level is read: every field must
//! be well formed and the last one must end with the file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, ErrorKind, Read, Seek};
use std::path::Path;

/// `ModelProto.graph`, the model itself.
const GRAPH: u64 = 7;
/// `ModelProto.metadata_props`, entries of a key (field 1) and a value (field 2).
const METADATA: u64 = 14;
/// Metadata entries longer than this are none that we read.
const ENTRY_BYTES: u64 = 1 << 16;

/// The metadata of the model at `path`.
///
/// # Errors
/// Why the file is no ONNX model, or not all of one.
pub(super) fn metadata(path: &Path) -> Result<BTreeMap<String, String>, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let length = file.metadata().map_err(|error| error.to_string())?.len();
    let mut reader = BufReader::new(file);
    let mut props = BTreeMap::new();
    let (mut at, mut graph) = (0, false);
    while at < length {
        let tag = varint(&mut reader)?;
        let (field, kind) = (tag >> 3, tag & 7);
        match kind {
            0 => drop(varint(&mut reader)?),
            2 => {
                let size = varint(&mut reader)?;
                let start = position(&mut reader)?;
                if start.checked_add(size).is_none_or(|end| end > length) {
                    return Err("it is cut off".into());
                }
                graph |= field == GRAPH;
                if field == METADATA && size <= ENTRY_BYTES {
                    let mut entry = vec![0; usize::try_from(size).unwrap_or(0)];
                    reader.read_exact(&mut entry).map_err(|error| error.to_string())?;
                    if let Some((key, value)) = key_value(&entry) {
                        props.insert(key, value);
                    }
                } else {
                    let skip = i64::try_from(size).map_err(|_| "it is damaged")?;
                    reader.seek_relative(skip).map_err(|error| error.to_string())?;
                }
            }
            _ => return Err("it is no ONNX model".into()),
        }
        at = position(&mut reader)?;
    }
    if graph { Ok(props) } else { Err("it is no ONNX model".into()) }
}

fn position(reader: &mut BufReader<File>) -> Result<u64, String> {
    reader.stream_position().map_err(|error| error.to_string())
}

/// A base 128 varint of at most ten bytes.
fn varint(reader: &mut impl Read) -> Result<u64, String> {
    let mut value = 0;
    for shift in (0..70).step_by(7) {
        let mut byte = [0];
        reader.read_exact(&mut byte).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => "it is cut off".to_owned(),
            _ => error.to_string(),
        })?;
        value |= u64::from(byte[0] & 0x7f).checked_shl(shift).unwrap_or(0);
        if byte[0] < 0x80 {
            return Ok(value);
        }
    }
    Err("it is damaged".into())
}

/// A `StringStringEntryProto`.
fn key_value(mut entry: &[u8]) -> Option<(String, String)> {
    let (mut key, mut value) = (None, None);
    while !entry.is_empty() {
        let tag = varint(&mut entry).ok()?;
        let size = usize::try_from(varint(&mut entry).ok()?).ok()?;
        let (text, rest) = entry.split_at_checked(size)?;
        let text = String::from_utf8_lossy(text).into_owned();
        match tag {
            0x0a => key = Some(text),
            0x12 => value = Some(text),
            _ => {}
        }
        entry = rest;
    }
    Some((key?, value.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8]) -> Result<BTreeMap<String, String>, String> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        metadata(file.path())
    }

    /// ir_version 8, a graph of 200 bytes, and the metadata `rate` = `22050`.
    fn model() -> Vec<u8> {
        let mut bytes = vec![0x08, 8, 0x3a, 200, 1];
        bytes.extend([0x55; 200]);
        bytes.extend(b"\x72\x0d\x0a\x04rate\x12\x0522050");
        bytes
    }

    #[test]
    fn a_whole_model_gives_its_metadata() {
        assert_eq!(read(&model()).unwrap(), [("rate".to_owned(), "22050".to_owned())].into());
    }

    #[test]
    fn anything_else_is_refused() {
        assert_eq!(read(b"").unwrap_err(), "it is no ONNX model");
        assert_eq!(read(b"<html></html>").unwrap_err(), "it is no ONNX model");
        assert_eq!(read(&[0xff; 20]).unwrap_err(), "it is damaged");
    }

    proptest! {
        #[test]
        fn a_model_cut_off_is_told(length in 2_usize..205) {
            let cut = &model()[..length];
            prop_assert!(read(cut).is_err());
        }

        #[test]
        fn random_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&bytes);
        }
    }
}
