//! Bytes in a message, and reading them without a copy.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::SeqAccessDeserializer;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A blob of at least so many bytes is shared with the body that it was read from. To copy a smaller one costs less than
/// to keep what the connection has read along with it, some 64 KiB.
const SHARED_FROM: usize = 1_024;

thread_local! {
    /// The body that is being read on this thread.
    static BODY: RefCell<Option<Bytes>> = const { RefCell::new(None) };
}

/// Bytes such as PCM: base64 in JSON, a plain bin in MessagePack.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Blob(pub Bytes);

/// Runs `read`, which reads `body`: large blobs of MessagePack are slices of it. A reader has nothing but a reference to
/// what it reads, so this is told beside it.
pub(in crate::wire) fn sharing<T>(body: &Bytes, read: impl FnOnce() -> T) -> T {
    struct Before(Option<Bytes>);
    impl Drop for Before {
        fn drop(&mut self) {
            BODY.set(self.0.take());
        }
    }
    let _before = Before(BODY.replace(Some(body.clone())));
    read()
}

/// The bytes of the body that `bytes` are, if they are of it.
fn shared(bytes: &[u8]) -> Option<Bytes> {
    BODY.with_borrow(|body| {
        let body = body.as_ref()?;
        let (whole, part) = (body.as_ptr_range(), bytes.as_ptr_range());
        (whole.start <= part.start && part.end <= whole.end).then(|| body.slice_ref(bytes))
    })
}

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(&BASE64_STANDARD.encode(&self.0))
        } else {
            serializer.serialize_bytes(&self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = Cow::<'de, str>::deserialize(deserializer)?;
            let bytes =
                BASE64_STANDARD.decode(text.as_bytes()).map_err(|e| D::Error::custom(format!("base64: {e}")))?;
            Ok(Self(bytes.into()))
        } else {
            deserializer.deserialize_byte_buf(Reader)
        }
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Blob;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes")
    }

    fn visit_borrowed_bytes<E>(self, bytes: &'de [u8]) -> Result<Blob, E> {
        let shared = if bytes.len() < SHARED_FROM { None } else { shared(bytes) };
        Ok(Blob(shared.unwrap_or_else(|| Bytes::copy_from_slice(bytes))))
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Blob, E> {
        Ok(Blob(Bytes::copy_from_slice(bytes)))
    }

    fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Blob, E> {
        Ok(Blob(bytes.into()))
    }

    // What packers write that know no bin.

    fn visit_str<E>(self, text: &str) -> Result<Blob, E> {
        Ok(Blob(Bytes::copy_from_slice(text.as_bytes())))
    }

    fn visit_seq<S: SeqAccess<'de>>(self, bytes: S) -> Result<Blob, S::Error> {
        let bytes = serde_bytes::ByteBuf::deserialize(SeqAccessDeserializer::new(bytes))?;
        Ok(Blob(bytes.into_vec().into()))
    }
}

impl JsonSchema for Blob {
    fn schema_name() -> Cow<'static, str> {
        "Blob".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Bytes: base64 in JSON, bin in MessagePack.",
            "type": "string",
            "contentEncoding": "base64",
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_blob_is_base64_in_json_and_bin_in_messagepack() {
        let blob = Blob(Bytes::from_static(&[0, 1, 255]));
        assert_eq!(serde_json::to_string(&blob).unwrap(), "\"AAH/\"");
        let packed = rmp_serde::to_vec_named(&blob).unwrap();
        assert_eq!(packed, [0xc4, 3, 0, 1, 255]);
        assert_eq!(rmp_serde::from_slice::<Blob>(&packed).unwrap(), blob);
        assert_eq!(serde_json::from_str::<Blob>("\"AAH/\"").unwrap(), blob);
        assert!(serde_json::from_str::<Blob>("\"A*\"").is_err());
    }

    #[test]
    fn arrays_and_text_of_other_packers_are_read() {
        let blob = Blob(Bytes::from_static(b"abc"));
        for packed in [rmp_serde::to_vec(&[97, 98, 99]).unwrap(), rmp_serde::to_vec("abc").unwrap()] {
            assert_eq!(rmp_serde::from_slice::<Blob>(&packed).unwrap(), blob);
        }
        assert!(rmp_serde::from_slice::<Blob>(&rmp_serde::to_vec(&[97, 300]).unwrap()).is_err());
        assert!(rmp_serde::from_slice::<Blob>(&rmp_serde::to_vec(&97).unwrap()).is_err());
    }

    proptest! {
        /// However long they are, and whatever else is read meanwhile.
        #[test]
        fn blobs_are_read_as_they_were_written(lengths in proptest::collection::vec(0..4 * SHARED_FROM, 0..6)) {
            let blobs: Vec<_> = lengths.iter().map(|n| Blob((0..*n).map(|i| (i % 251) as u8).collect())).collect();
            let body = Bytes::from(rmp_serde::to_vec_named(&blobs).unwrap());
            let other = rmp_serde::to_vec_named(&Blob(vec![7; SHARED_FROM].into())).unwrap();
            let read = sharing(&body, || {
                prop_assert_eq!(&rmp_serde::from_slice::<Blob>(&other).unwrap().0[..], &[7; SHARED_FROM]);
                Ok(rmp_serde::from_slice::<Vec<Blob>>(&body).unwrap())
            })?;
            prop_assert_eq!(&read, &blobs);
            for blob in read {
                prop_assert_eq!(body.as_ptr_range().contains(&blob.0.as_ptr()), blob.0.len() >= SHARED_FROM);
            }
            // Beyond that nothing is shared.
            for blob in rmp_serde::from_slice::<Vec<Blob>>(&body).unwrap() {
                prop_assert!(blob.0.is_empty() || !body.as_ptr_range().contains(&blob.0.as_ptr()));
            }
        }
    }
}
