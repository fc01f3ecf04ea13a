//! Numbers, keys and bytes as people write them.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The most notes of one message, and the most bytes.
const KEYS_MAX: usize = 128;
const DATA_MAX: usize = 64 * 1024;

/// A number; in a text as well (`"64"`), since that is what slots are.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Number(f64);

impl Number {
    /// This number.
    #[must_use]
    pub const fn new(value: f64) -> Self {
        Self(value)
    }

    /// Its value, which is finite.
    #[must_use]
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl<T: Into<f64>> From<T> for Number {
    fn from(value: T) -> Self {
        Self(value.into())
    }
}

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.fract() == 0.0 && self.0.abs() < 1e15 {
            serializer.serialize_i64(self.0 as i64)
        } else {
            serializer.serialize_f64(self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form<'a> {
            Number(f64),
            Flag(bool),
            #[serde(borrow)]
            Text(Cow<'a, str>),
        }
        let value = match Form::deserialize(deserializer) {
            Ok(Form::Number(value)) => Some(value),
            Ok(Form::Flag(value)) => Some(f64::from(u8::from(value))),
            Ok(Form::Text(text)) => match text.trim().parse() {
                Ok(value) => Some(value),
                Err(_) => return Err(D::Error::custom(format!("`{text}` is no number"))),
            },
            Err(_) => None,
        };
        value.filter(|value: &f64| value.is_finite()).map(Self).ok_or_else(|| D::Error::custom("no number"))
    }
}

impl JsonSchema for Number {
    fn schema_name() -> Cow<'static, str> {
        "Number".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "description": "A number, or a text that is one.", "type": ["number", "string"] })
    }
}

/// A text; a number will do, since that is what a slot with figures in it becomes.
#[derive(Deserialize)]
#[serde(untagged)]
enum TextForm {
    Text(String),
    Whole(i64),
    Number(f64),
}

/// Reads a text or a number as a text.
pub(super) fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    match TextForm::deserialize(deserializer) {
        Ok(TextForm::Text(text)) => Ok(text),
        Ok(TextForm::Whole(number)) => Ok(number.to_string()),
        Ok(TextForm::Number(number)) => Ok(number.to_string()),
        Err(_) => Err(D::Error::custom("no text")),
    }
}

/// The same where there may be none.
pub(super) fn some_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    match Option::<TextForm>::deserialize(deserializer) {
        Ok(Some(TextForm::Text(text))) => Ok(Some(text)),
        Ok(Some(TextForm::Whole(number))) => Ok(Some(number.to_string())),
        Ok(Some(TextForm::Number(number))) => Ok(Some(number.to_string())),
        Ok(None) => Ok(None),
        Err(_) => Err(D::Error::custom("no text")),
    }
}

/// Keys: `60`, `"C4"`, `["C4", 64]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keys(pub Vec<String>);

impl Keys {
    /// One.
    #[must_use]
    pub fn one(name: impl Into<String>) -> Self {
        Self(vec![name.into()])
    }
}

impl Serialize for Keys {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [one] => serializer.serialize_str(one),
            many => many.serialize(serializer),
        }
    }
}

/// One key of a list: a list in a list would be no key, and could nest without end.
struct One(String);

struct TakeOne;

impl Visitor<'_> for TakeOne {
    type Value = One;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a note: 60 or \"C4\"")
    }

    fn visit_i64<E>(self, value: i64) -> Result<One, E> {
        Ok(One(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<One, E> {
        Ok(One(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<One, E> {
        Ok(One(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<One, E> {
        Ok(One(value.to_owned()))
    }
}

impl<'de> Deserialize<'de> for One {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TakeOne)
    }
}

struct TakeKeys;

impl<'de> Visitor<'de> for TakeKeys {
    type Value = Keys;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a note (60 or \"C4\") or a list of notes")
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Keys, E> {
        TakeOne.visit_i64(value).map(|one| Keys(vec![one.0]))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Keys, E> {
        TakeOne.visit_u64(value).map(|one| Keys(vec![one.0]))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Keys, E> {
        TakeOne.visit_f64(value).map(|one| Keys(vec![one.0]))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Keys, E> {
        TakeOne.visit_str(value).map(|one| Keys(vec![one.0]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Keys, A::Error> {
        let mut all = Vec::new();
        while let Some(One(name)) = items.next_element()? {
            if all.len() == KEYS_MAX {
                return Err(A::Error::custom(format!("over {KEYS_MAX} notes; there are no more")));
            }
            all.push(name);
        }
        Ok(Keys(all))
    }
}

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TakeKeys)
    }
}

impl JsonSchema for Keys {
    fn schema_name() -> Cow<'static, str> {
        "Keys".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A key as a number (60) or by name (\"C4\"), or a list of keys.",
            "type": ["integer", "string", "array"],
            "items": { "type": ["integer", "string"] },
        })
    }
}

/// Bytes: `"F0 7E F7"` in hexadecimal, or `[240, 126, 247]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Data(pub Vec<u8>);

impl Serialize for Data {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex(&self.0))
    }
}

/// Bytes in hexadecimal, with spaces.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(bytes.len() * 3);
    for byte in bytes {
        let _ = write!(out, "{}{byte:02X}", if out.is_empty() { "" } else { " " });
    }
    out
}

/// Bytes from hexadecimal; spaces, commas and `0x` make no difference.
fn unhex(text: &str) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    for word in text.split([' ', ',', '\t', '\n']).filter(|word| !word.is_empty()) {
        let digits = word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")).unwrap_or(word);
        let wrong =
            || format!("`{}` is no hexadecimal; write bytes as F0 7E 7F", word.chars().take(12).collect::<String>());
        if !digits.is_ascii() || digits.len() % 2 == 1 && digits.len() > 1 {
            return Err(wrong());
        }
        for at in (0..digits.len()).step_by(2) {
            let pair = digits.get(at..digits.len().min(at + 2)).ok_or_else(wrong)?;
            out.push(u8::from_str_radix(pair, 16).map_err(|_| wrong())?);
        }
        if out.len() > DATA_MAX {
            return Err(format!("over {DATA_MAX} bytes; send them in several"));
        }
    }
    Ok(out)
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Text(String),
            List(Vec<u8>),
        }
        match Form::deserialize(deserializer) {
            Ok(Form::Text(text)) => unhex(&text).map(Self).map_err(D::Error::custom),
            Ok(Form::List(bytes)) if bytes.len() <= DATA_MAX => Ok(Self(bytes)),
            Ok(Form::List(_)) => Err(D::Error::custom(format!("over {DATA_MAX} bytes; send them in several"))),
            Err(_) => Err(D::Error::custom("no bytes; write them as \"F0 7E 7F\" or [240, 126, 127]")),
        }
    }
}

impl JsonSchema for Data {
    fn schema_name() -> Cow<'static, str> {
        "MidiData".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Bytes in hexadecimal (\"F0 7E F7\"), or as a list of numbers.",
            "type": ["string", "array"],
            "items": { "type": "integer", "minimum": 0, "maximum": 255 },
        })
    }
}
