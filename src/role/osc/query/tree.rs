//! The address space as OSCQuery shows it. Pure.

use serde_json::{Map, Value, json};

use crate::osc::OscType;

/// Whether a value may be read (1), written (2), both (3) or neither (0).
pub type Access = u8;

/// An address at which something is done or shown.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Leaf {
    /// The address.
    pub path: String,
    /// The type tags of its arguments.
    pub types: String,
    /// What may be done with it.
    pub access: Access,
    /// One line for people.
    pub about: String,
    /// Its value, if it has one.
    pub value: Option<Vec<OscType>>,
    /// What it can be.
    pub range: Option<Range>,
}

/// What a value can be.
#[derive(Debug, Clone, PartialEq)]
pub enum Range {
    /// From one number to another.
    Between(f64, f64),
    /// One of these.
    Of(Vec<&'static str>),
}

/// The attributes that an address can be asked for.
pub const ATTRIBUTES: &[&str] = &["FULL_PATH", "CONTENTS", "TYPE", "ACCESS", "VALUE", "RANGE", "DESCRIPTION"];

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoAnswer {
    /// There is no such address (404).
    NoPath,
    /// There is no such attribute at all (400).
    NoAttribute,
    /// The address has no such attribute (204).
    Empty,
}

/// What `path` is, with all below it; or one attribute of it.
///
/// # Errors
/// [`NoAnswer`].
pub fn look_up(leaves: &[Leaf], path: &str, attribute: Option<&str>) -> Result<Value, NoAnswer> {
    if attribute.is_some_and(|name| !ATTRIBUTES.contains(&name)) {
        return Err(NoAnswer::NoAttribute);
    }
    let path = path.trim_end_matches('/');
    let node = node(leaves, path).ok_or(NoAnswer::NoPath)?;
    let Some(name) = attribute else { return Ok(Value::Object(node)) };
    let value = node.get(name).ok_or(NoAnswer::Empty)?;
    Ok(json!({ name: value }))
}

/// The object of an address; the root has none of its own.
fn node(leaves: &[Leaf], path: &str) -> Option<Map<String, Value>> {
    let below = format!("{path}/");
    let leaf = leaves.iter().find(|leaf| leaf.path == path);
    let inside: Vec<&Leaf> = leaves.iter().filter(|leaf| leaf.path.starts_with(&below)).collect();
    if leaf.is_none() && inside.is_empty() {
        return None;
    }
    let mut object = Map::new();
    let full = if path.is_empty() { "/" } else { path };
    object.insert("FULL_PATH".to_owned(), full.into());
    match leaf {
        None => drop(object.insert("ACCESS".to_owned(), 0.into())),
        Some(leaf) => {
            object.insert("TYPE".to_owned(), leaf.types.clone().into());
            object.insert("ACCESS".to_owned(), leaf.access.into());
            object.insert("DESCRIPTION".to_owned(), leaf.about.clone().into());
            if let Some(value) = &leaf.value {
                object.insert("VALUE".to_owned(), value.iter().map(to_json).collect());
            }
            match &leaf.range {
                None => {}
                Some(Range::Between(min, max)) => {
                    object.insert("RANGE".to_owned(), json!([{ "MIN": min, "MAX": max }]));
                }
                Some(Range::Of(values)) => drop(object.insert("RANGE".to_owned(), json!([{ "VALS": values }]))),
            }
        }
    }
    if !inside.is_empty() {
        let mut contents = Map::new();
        for leaf in inside {
            let rest = leaf.path.get(below.len()..).unwrap_or_default();
            let name = rest.split('/').next().unwrap_or_default();
            if !contents.contains_key(name)
                && let Some(child) = node(leaves, &format!("{below}{name}"))
            {
                contents.insert(name.to_owned(), Value::Object(child));
            }
        }
        object.insert("CONTENTS".to_owned(), Value::Object(contents));
    }
    Some(object)
}

/// A value as JSON has it; what it has no word for is null.
fn to_json(value: &OscType) -> Value {
    match value {
        OscType::Int(number) => (*number).into(),
        OscType::Float(number) => (*number).into(),
        OscType::Long(number) => (*number).into(),
        OscType::Double(number) => (*number).into(),
        OscType::String(text) => text.clone().into(),
        OscType::Char(char) => char.to_string().into(),
        OscType::Bool(is) => (*is).into(),
        OscType::Color(color) => {
            format!("#{:02X}{:02X}{:02X}{:02X}", color.red, color.green, color.blue, color.alpha).into()
        }
        OscType::Array(array) => array.content.iter().map(to_json).collect(),
        OscType::Blob(_) | OscType::Time(_) | OscType::Midi(_) | OscType::Nil | OscType::Inf => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves() -> Vec<Leaf> {
        let leaf = |path: &str, types: &str, access| Leaf {
            path: path.to_owned(),
            types: types.to_owned(),
            access,
            about: "what it is".to_owned(),
            ..Leaf::default()
        };
        let level = Leaf {
            value: Some(vec![OscType::Float(0.5)]),
            range: Some(Range::Between(0.0, 1.0)),
            ..leaf("/a/level", "f", 1)
        };
        vec![level, leaf("/a/go", "I", 2), leaf("/a", "i", 3), leaf("/b/c/d", "s", 2)]
    }

    #[test]
    fn the_root_holds_everything() {
        let root = look_up(&leaves(), "/", None).unwrap();
        assert_eq!(root["FULL_PATH"], "/");
        assert_eq!(root["CONTENTS"]["a"]["CONTENTS"]["go"]["ACCESS"], 2);
        assert_eq!(root["CONTENTS"]["a"]["TYPE"], "i");
        assert_eq!(
            root["CONTENTS"]["b"],
            json!({
                "FULL_PATH": "/b", "ACCESS": 0,
                "CONTENTS": { "c": { "FULL_PATH": "/b/c", "ACCESS": 0, "CONTENTS": { "d": {
                    "FULL_PATH": "/b/c/d", "TYPE": "s", "ACCESS": 2, "DESCRIPTION": "what it is" } } } },
            })
        );
    }

    #[test]
    fn one_attribute_or_the_reason_why_not() {
        let look = |path: &str, name: &str| look_up(&leaves(), path, Some(name));
        assert_eq!(look("/a/level", "VALUE"), Ok(json!({ "VALUE": [0.5] })));
        assert_eq!(look("/a/level", "RANGE"), Ok(json!({ "RANGE": [{ "MIN": 0.0, "MAX": 1.0 }] })));
        assert_eq!(look("/a/go", "VALUE"), Err(NoAnswer::Empty));
        assert_eq!(look("/a/go", "COLOUR"), Err(NoAnswer::NoAttribute));
        assert_eq!(look("/x", "VALUE"), Err(NoAnswer::NoPath));
        assert_eq!(look_up(&leaves(), "/a/lev", None), Err(NoAnswer::NoPath));
        assert_eq!(look_up(&[], "/", None), Err(NoAnswer::NoPath));
    }
}
