//! OSC: what is to be sent, and what has come.

use std::borrow::Cow;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap as _, SerializeSeq as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Ask, Blob, Message, Replies};
use crate::wire::subject::{Capability, Verb};

/// Arrays within arrays that are read. OSC has hardly ever more than one.
const DEPTH_MAX: usize = 8;

/// A message that is to be sent by OSC. Works as a plain publish as well as a request.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Out {
    /// Where to: a name in `osc.targets` of the host that sends it.
    pub target: String,
    /// The address, such as `/mixer/1/level`.
    pub address: String,
    /// The arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<Arg>,
    /// When, in RFC 3339; the host waits so long. Absent or past: at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
}

impl Message for Out {
    const SCHEMA: &'static str = "osc.out/1";

    fn example() -> Self {
        Self {
            target: "lights".to_owned(),
            address: "/scene".to_owned(),
            args: vec![Arg::Int(3), Arg::Float(0.5), Arg::Text("red".to_owned()), Arg::Bool(true)],
            at: None,
        }
    }
}

impl Ask for Out {
    const VERB: Verb = Verb::new(Capability::Osc, "out");
    const ABOUT: &'static str = "an OSC message to a named target";
    const REPLIES: Replies = Replies::One;
    type Reply = Sent;

    fn model(&self) -> Option<&str> {
        Some(&self.target)
    }
}

/// A message has been sent, or will be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Sent {
    /// The host that has sent it.
    pub node: String,
    /// Where to: address and port.
    #[serde(default)]
    pub to: String,
    /// How long it waits for its time, in ms; 0: it is out.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub in_ms: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Message for Sent {
    const SCHEMA: &'static str = "osc.sent/1";

    fn example() -> Self {
        Self { node: "stage".to_owned(), to: "192.168.1.20:8000".to_owned(), in_ms: 0 }
    }
}

/// A message that has come by OSC and that no handler took.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct In {
    /// The host that it came to.
    pub node: String,
    /// Who sent it: address and port.
    pub from: String,
    /// The address.
    pub address: String,
    /// The arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<Arg>,
    /// When it came, in RFC 3339.
    pub at: String,
}

impl Message for In {
    const SCHEMA: &'static str = "osc.in/1";

    fn example() -> Self {
        Self {
            node: "studio".to_owned(),
            from: "192.168.1.30:54321".to_owned(),
            address: "/desk/fader/3".to_owned(),
            args: vec![Arg::Float(0.75)],
            at: "2026-11-24T10:27:03.120Z".to_owned(),
        }
    }
}

/// An argument.
///
/// In JSON it is what one would write: `3`, `0.5`, `"red"`, `true`, `null`, `[1, 2]`. What JSON has no word for is an
/// object with one field: `{"int64": 3}`, `{"double": 0.5}`, `{"float": 3}`, `{"char": "a"}`, `{"color": "#ff8000ff"}`,
/// `{"midi": [0, 144, 60, 100]}` (port, status, data), `{"time": [3873181623, 0]}` (seconds since 1900 and fractions; `[0, 1]`
/// is at once), `{"blob": "AAEC"}` (base64), `{"infinitum": true}`.
#[derive(Debug, Clone, PartialEq)]
pub enum Arg {
    /// 32 bits (`i`).
    Int(i32),
    /// 32 bits (`f`).
    Float(f32),
    /// A text (`s`, also `S`).
    Text(String),
    /// True or false (`T`, `F`).
    Bool(bool),
    /// Nothing (`N`).
    Nil,
    /// Infinitum, a bang (`I`).
    Infinitum,
    /// 64 bits (`h`).
    Int64(i64),
    /// 64 bits (`d`).
    Double(f64),
    /// A character (`c`).
    Char(char),
    /// Red, green, blue, alpha (`r`).
    Color([u8; 4]),
    /// Port, status, and two bytes of data (`m`).
    Midi([u8; 4]),
    /// A time tag (`t`): seconds since 1900, and 2⁻³² of them.
    Time(u32, u32),
    /// Bytes (`b`).
    Blob(Blob),
    /// Several in one (`[ ]`).
    Array(Vec<Self>),
}

impl Arg {
    /// As a text, for people and slots: a number, a text, `true`, …
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Int(number) => number.to_string(),
            Self::Float(number) => number.to_string(),
            Self::Int64(number) => number.to_string(),
            Self::Double(number) => number.to_string(),
            Self::Text(text) => text.clone(),
            Self::Bool(is) => is.to_string(),
            Self::Nil => String::new(),
            Self::Infinitum => "infinitum".to_owned(),
            Self::Char(char) => char.to_string(),
            Self::Color(color) => hex(*color),
            Self::Midi(bytes) => bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" "),
            Self::Time(seconds, fractions) => format!("{seconds}.{fractions}"),
            Self::Blob(blob) => BASE64_STANDARD.encode(&blob.0),
            Self::Array(args) => args.iter().map(Self::text).collect::<Vec<_>>().join(" "),
        }
    }

    fn typed<S: Serializer, T: Serialize + ?Sized>(out: S, name: &'static str, value: &T) -> Result<S::Ok, S::Error> {
        let mut map = out.serialize_map(Some(1))?;
        map.serialize_entry(name, value)?;
        map.end()
    }
}

fn hex(color: [u8; 4]) -> String {
    let digits: String = color.iter().map(|part| format!("{part:02x}")).collect();
    format!("#{digits}")
}

fn from_hex(text: &str) -> Option<[u8; 4]> {
    let digits = text.strip_prefix('#').filter(|digits| digits.is_ascii())?;
    let part = |at: usize| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
    match digits.len() {
        6 => Some([part(0)?, part(2)?, part(4)?, 255]),
        8 => Some([part(0)?, part(2)?, part(4)?, part(6)?]),
        _ => None,
    }
}

impl Serialize for Arg {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Int(number) => out.serialize_i32(*number),
            Self::Float(number) if number.is_finite() => out.serialize_f32(*number),
            // JSON has no word for these.
            Self::Float(number) => Self::typed(out, "float", &number.to_string()),
            Self::Text(text) => out.serialize_str(text),
            Self::Bool(is) => out.serialize_bool(*is),
            Self::Nil => out.serialize_unit(),
            Self::Infinitum => Self::typed(out, "infinitum", &true),
            Self::Int64(number) => Self::typed(out, "int64", number),
            Self::Double(number) if number.is_finite() => Self::typed(out, "double", number),
            Self::Double(number) => Self::typed(out, "double", &number.to_string()),
            Self::Char(char) => Self::typed(out, "char", char),
            Self::Color(color) => Self::typed(out, "color", &hex(*color)),
            Self::Midi(bytes) => Self::typed(out, "midi", bytes),
            Self::Time(seconds, fractions) => Self::typed(out, "time", &(seconds, fractions)),
            Self::Blob(blob) => Self::typed(out, "blob", blob),
            Self::Array(args) => {
                let mut seq = out.serialize_seq(Some(args.len()))?;
                args.iter().try_for_each(|arg| seq.serialize_element(arg))?;
                seq.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Arg {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Depth(DEPTH_MAX).deserialize(from)
    }
}

/// Reads an argument with so many arrays within each other.
#[derive(Clone, Copy)]
struct Depth(usize);

impl<'de> DeserializeSeed<'de> for Depth {
    type Value = Arg;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Arg, D::Error> {
        from.deserialize_any(self)
    }
}

/// A number that may be written as a text, as those are for which JSON has no word.
#[derive(Deserialize)]
#[serde(untagged)]
enum Real {
    Number(f64),
    Text(String),
}

impl Real {
    fn get<E: de::Error>(self) -> Result<f64, E> {
        match self {
            Self::Number(number) => Ok(number),
            Self::Text(text) => text.parse().map_err(|_| E::custom(format!("{text:?} is no number"))),
        }
    }
}

const TYPES: &[&str] = &["int64", "double", "float", "char", "color", "midi", "time", "blob", "infinitum", "int"];

impl<'de> Visitor<'de> for Depth {
    type Value = Arg;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "an OSC argument: a number, a text, true, false, null, an array, or {{\"int64\": 3}} and the like")
    }

    fn visit_bool<E>(self, is: bool) -> Result<Arg, E> {
        Ok(Arg::Bool(is))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Arg, E> {
        Ok(i32::try_from(number).map_or(Arg::Int64(number), Arg::Int))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Arg, E> {
        let number = i64::try_from(number).map_err(|_| E::custom(format!("{number} does not fit into 64 bits")))?;
        self.visit_i64(number)
    }

    #[expect(clippy::cast_possible_truncation, reason = "a plain number is a float of 32 bits; others are typed")]
    fn visit_f64<E>(self, number: f64) -> Result<Arg, E> {
        let float = number as f32;
        Ok(if float.is_infinite() && number.is_finite() { Arg::Double(number) } else { Arg::Float(float) })
    }

    fn visit_str<E>(self, text: &str) -> Result<Arg, E> {
        Ok(Arg::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Arg, E> {
        Ok(Arg::Text(text))
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Arg, E> {
        Ok(Arg::Blob(Blob(bytes.to_vec().into())))
    }

    fn visit_unit<E>(self) -> Result<Arg, E> {
        Ok(Arg::Nil)
    }

    fn visit_none<E>(self) -> Result<Arg, E> {
        Ok(Arg::Nil)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Arg, A::Error> {
        let inner =
            self.0.checked_sub(1).map(Self).ok_or_else(|| de::Error::custom("arrays within each other: at most 8"))?;
        let mut args = Vec::new();
        while let Some(arg) = seq.next_element_seed(inner)? {
            args.push(arg);
        }
        Ok(Arg::Array(args))
    }

    #[expect(clippy::cast_possible_truncation, reason = "it is asked for")]
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Arg, A::Error> {
        let name: String = map.next_key()?.ok_or_else(|| de::Error::custom("{} is no OSC argument"))?;
        let arg = match name.as_str() {
            "int" => Arg::Int(map.next_value()?),
            "int64" => Arg::Int64(map.next_value()?),
            "double" => Arg::Double(map.next_value::<Real>()?.get()?),
            "float" => Arg::Float(map.next_value::<Real>()?.get::<A::Error>()? as f32),
            "char" => Arg::Char(map.next_value()?),
            "color" | "colour" => {
                let text: String = map.next_value()?;
                let wrong =
                    || de::Error::custom(format!("the color {text:?}: write it as \"#rrggbb\" or \"#rrggbbaa\""));
                Arg::Color(from_hex(&text).ok_or_else(wrong)?)
            }
            "midi" => Arg::Midi(map.next_value()?),
            "time" => {
                let (seconds, fractions) = map.next_value()?;
                Arg::Time(seconds, fractions)
            }
            "blob" => Arg::Blob(map.next_value()?),
            "infinitum" => {
                map.next_value::<de::IgnoredAny>()?;
                Arg::Infinitum
            }
            other => return Err(de::Error::unknown_field(other, TYPES)),
        };
        match map.next_key::<String>()? {
            None => Ok(arg),
            Some(more) => Err(de::Error::custom(format!("an argument has one type, and {name} and {more} are given"))),
        }
    }
}

impl JsonSchema for Arg {
    fn schema_name() -> Cow<'static, str> {
        "Arg".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let one = |name: &str, schema: serde_json::Value| {
            serde_json::json!({
                "type": "object", "properties": { name: schema }, "required": [name], "additionalProperties": false,
            })
        };
        let byte = serde_json::json!({ "type": "integer", "minimum": 0, "maximum": 255 });
        let number = serde_json::json!({ "type": ["number", "string"] });
        let types = [
            one("int64", serde_json::json!({ "type": "integer" })),
            one("double", number.clone()),
            one("float", number),
            one("char", serde_json::json!({ "type": "string", "minLength": 1, "maxLength": 1 })),
            one("color", serde_json::json!({ "type": "string", "pattern": "^#([0-9A-Fa-f]{2}){3,4}$" })),
            one("midi", serde_json::json!({ "type": "array", "items": byte, "minItems": 4, "maxItems": 4 })),
            one(
                "time",
                serde_json::json!({ "type": "array", "items": { "type": "integer" }, "minItems": 2, "maxItems": 2 }),
            ),
            one(
                "blob",
                serde_json::json!({ "description": "Bytes: base64 in JSON, bin in MessagePack.", "type": "string" }),
            ),
            one("infinitum", serde_json::json!({ "const": true })),
        ];
        let mut any = vec![
            serde_json::json!({ "type": ["number", "string", "boolean", "null"] }),
            serde_json::json!({ "type": "array", "items": {} }),
        ];
        any.extend(types);
        json_schema!({
            "description": "An OSC argument: what JSON has as it is (a number with a fraction is a float, one without an \
                int32 or int64), the rest as an object with the type's name.",
            "anyOf": any,
        })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn read(json: &str) -> Arg {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn it_is_written_as_people_would() {
        let out: Out =
            serde_json::from_str(r#"{"target":"lights","address":"/scene","args":[3,0.5,"red",true]}"#).unwrap();
        assert_eq!(out, Out::example());
        assert_eq!(read("1.0"), Arg::Float(1.0));
        assert_eq!(read("5000000000"), Arg::Int64(5_000_000_000));
        assert_eq!(read("1e300"), Arg::Double(1e300));
        assert_eq!(read("null"), Arg::Nil);
        assert_eq!(read(r#"{"int64":3}"#), Arg::Int64(3));
        assert_eq!(read(r#"{"float":3}"#), Arg::Float(3.0));
        assert_eq!(read(r#"{"double":"inf"}"#), Arg::Double(f64::INFINITY));
        assert_eq!(read(r##"{"color":"#ff8000"}"##), Arg::Color([255, 128, 0, 255]));
        assert_eq!(read(r#"{"midi":[0,144,60,100]}"#), Arg::Midi([0, 144, 60, 100]));
        assert_eq!(read(r#"{"time":[0,1]}"#), Arg::Time(0, 1));
        assert_eq!(read(r#"{"blob":"AAH/"}"#), Arg::Blob(Blob(Bytes::from_static(&[0, 1, 255]))));
        assert_eq!(
            read(r#"[1,[{"infinitum":true}]]"#),
            Arg::Array(vec![Arg::Int(1), Arg::Array(vec![Arg::Infinitum])])
        );
    }

    #[test]
    fn what_is_none_is_told() {
        let wrong = |json: &str| serde_json::from_str::<Arg>(json).unwrap_err().to_string();
        assert!(wrong(r#"{"int46":3}"#).contains("int46"));
        assert!(wrong(r#"{"int":5000000000}"#).contains("5000000000"));
        assert!(wrong(r#"{"int64":3,"double":4}"#).contains("int64 and double"));
        assert!(wrong("{}").contains("no OSC argument"));
        assert!(wrong(r#"{"color":"red"}"#).contains("#rrggbb"));
        assert!(wrong(r#"{"char":"ab"}"#).contains("character"));
        assert!(wrong(r#"{"int64":99999999999999999999}"#).contains("i64"));
        assert!(wrong(&format!("{}{}", "[".repeat(9), "]".repeat(9))).contains("at most 8"));
    }

    fn arg() -> impl Strategy<Value = Arg> {
        let leaf = prop_oneof![
            any::<i32>().prop_map(Arg::Int),
            any::<f32>().prop_map(Arg::Float),
            Just(Arg::Float(f32::NAN)),
            Just(Arg::Float(f32::NEG_INFINITY)),
            ".{0,8}".prop_map(Arg::Text),
            any::<bool>().prop_map(Arg::Bool),
            Just(Arg::Nil),
            Just(Arg::Infinitum),
            any::<i64>().prop_map(Arg::Int64),
            (-5_i64..5).prop_map(Arg::Int64),
            any::<f64>().prop_map(Arg::Double),
            Just(Arg::Double(f64::INFINITY)),
            any::<char>().prop_map(Arg::Char),
            any::<[u8; 4]>().prop_map(Arg::Color),
            any::<[u8; 4]>().prop_map(Arg::Midi),
            any::<(u32, u32)>().prop_map(|(seconds, fractions)| Arg::Time(seconds, fractions)),
            prop::collection::vec(any::<u8>(), 0..8).prop_map(|bytes| Arg::Blob(Blob(bytes.into()))),
        ];
        leaf.prop_recursive(4, 16, 4, |inner| prop::collection::vec(inner, 0..4).prop_map(Arg::Array))
    }

    proptest! {
        #[test]
        fn nothing_is_lost_on_the_way(args in prop::collection::vec(arg(), 0..6)) {
            let out = Out { args, ..Out::example() };
            let json: Out = serde_json::from_slice(&serde_json::to_vec(&out).unwrap()).unwrap();
            let packed: Out = rmp_serde::from_slice(&rmp_serde::to_vec_named(&out).unwrap()).unwrap();
            let value: Out = serde_json::from_value(serde_json::to_value(&out).unwrap()).unwrap();
            for back in [json, packed, value] {
                // Not-a-number is never equal to itself.
                prop_assert_eq!(format!("{back:?}"), format!("{out:?}"));
            }
        }
    }
}
