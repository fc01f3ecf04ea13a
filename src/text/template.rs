//! Texts and tables with slots: what configuration says is done, with what was heard filled in.
//!
//! ```text
//! "say {text}"                       a text; `{{` and `}}` are plain braces
//! "{value | scale 0 127 0 1}"        filters: linear, held within the second range
//! "{value | int}"                    rounded
//! { note = "{1}", velocity = 100 }   a table: a text that is one slot alone becomes a number if its value is one
//! ```

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What slots may hold: a number, a note, words of the transport and of the clock.
const TRIED: [&str; 4] = ["1", "C", "start", "beat"];

/// Slots by their names.
pub type Slots = BTreeMap<String, String>;

/// A text with `{name}` where a slot's value goes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Template {
    source: String,
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq)]
enum Piece {
    Text(String),
    Slot { name: String, filters: Vec<Filter> },
}

/// A change of a slot's value.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Filter {
    /// From one range to another, and held within it.
    Scale { from: [f64; 2], to: [f64; 2] },
    /// To the nearest whole number.
    Int,
}

/// Why a template can't be filled.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum FillError {
    /// It names a slot that was not filled.
    #[error("template `{template}` needs the slot `{slot}`, which is not filled; use a slot of the pattern")]
    NoSlot {
        /// The template.
        template: String,
        /// The slot.
        slot: String,
    },
    /// A filter is for numbers.
    #[error("template `{template}` needs a number in the slot `{slot}`, which is {value:?}")]
    NoNumber {
        /// The template.
        template: String,
        /// The slot.
        slot: String,
        /// Its value.
        value: String,
    },
    /// The result has another shape than is needed.
    #[error("{value} will not do: {problem}")]
    Shape {
        /// What came of it, as JSON.
        value: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl Template {
    /// The names of its slots, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Slot { name, .. } => Some(name.as_str()),
            Piece::Text(_) => None,
        })
    }

    /// The text with every slot replaced by its value.
    ///
    /// # Errors
    /// [`FillError`] for a slot that `slots` lacks, or whose value is no number where a filter needs one.
    pub fn render(&self, slots: &Slots) -> Result<String, FillError> {
        let mut out = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Slot { name, filters } => {
                    let missing = || FillError::NoSlot { template: self.source.clone(), slot: name.clone() };
                    let value = slots.get(name).ok_or_else(missing)?;
                    if filters.is_empty() {
                        out.push_str(value);
                        continue;
                    }
                    let no_number = || FillError::NoNumber {
                        template: self.source.clone(),
                        slot: name.clone(),
                        value: value.clone(),
                    };
                    let number: f64 =
                        value.trim().parse().ok().filter(|n: &f64| n.is_finite()).ok_or_else(no_number)?;
                    let number = filters.iter().fold(number, |number, filter| filter.apply(number));
                    out.push_str(&number.to_string());
                }
            }
        }
        Ok(out)
    }

    /// The same as a value: a number if it is one slot alone with a number in it. What was scaled stays a fraction, also
    /// where it comes to a whole number: who takes one may not take the other.
    fn value(&self, slots: &Slots) -> Result<Value, FillError> {
        let text = self.render(slots)?;
        let number = match self.pieces.as_slice() {
            [Piece::Slot { filters, .. }] => match filters.last() {
                Some(Filter::Scale { .. }) => fraction(&text),
                Some(Filter::Int) | None => number(&text),
            },
            _ => None,
        };
        Ok(number.unwrap_or(Value::String(text)))
    }
}

impl Filter {
    fn parse(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let numbers: Vec<f64> = words.iter().skip(1).filter_map(|word| word.parse().ok()).collect();
        match (words.as_slice(), numbers.as_slice()) {
            (["int"], _) => Ok(Self::Int),
            (["scale", ..], &[a, b, c, d]) if words.len() == 5 && a != b => {
                Ok(Self::Scale { from: [a, b], to: [c, d] })
            }
            _ => Err(format!("there is no filter `{text}`; there are `int` and `scale FROM TO FROM TO`")),
        }
    }

    fn apply(self, number: f64) -> f64 {
        match self {
            Self::Int => number.round(),
            Self::Scale { from: [a, b], to: [c, d] } => {
                let part = ((number - a) / (b - a)).clamp(0.0, 1.0);
                // Written so that both ends are met exactly.
                c * (1.0 - part) + d * part
            }
        }
    }
}

impl TryFrom<String> for Template {
    type Error = String;

    fn try_from(source: String) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut text = String::new();
        let mut chars = source.chars().enumerate().peekable();
        while let Some((at, c)) = chars.next() {
            let doubled = chars.next_if(|(_, next)| *next == c && "{}".contains(c)).is_some();
            match c {
                '{' if !doubled => {
                    let mut slot = String::new();
                    loop {
                        match chars.next() {
                            Some((_, '}')) => break,
                            Some((_, inner)) if inner != '{' => slot.push(inner),
                            _ => {
                                return Err(format!(
                                    "template `{source}`: the `{{` at character {} is never closed; write {{slot}}, or `{{{{` for a brace",
                                    at + 1
                                ));
                            }
                        }
                    }
                    let mut parts = slot.split('|').map(str::trim);
                    let name = parts.next().unwrap_or_default().to_owned();
                    let filters = parts
                        .map(Filter::parse)
                        .collect::<Result<_, _>>()
                        .map_err(|e| format!("template `{source}`: {e}"))?;
                    pieces.push(Piece::Text(std::mem::take(&mut text)));
                    pieces.push(Piece::Slot { name, filters });
                }
                '}' if !doubled => {
                    return Err(format!(
                        "template `{source}`: the `}}` at character {} closes nothing; write `}}}}` for a brace",
                        at + 1
                    ));
                }
                _ => text.push(c),
            }
        }
        pieces.push(Piece::Text(text));
        pieces.retain(|piece| !matches!(piece, Piece::Text(text) if text.is_empty()));
        Ok(Self { source, pieces })
    }
}

impl From<Template> for String {
    fn from(template: Template) -> Self {
        template.source
    }
}

/// A value, such as a table, whose texts may have slots.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "Value", into = "Value")]
#[schemars(with = "Value")]
pub struct ValueTemplate(Node);

#[derive(Debug, Clone, PartialEq)]
enum Node {
    Plain(Value),
    Text(Template),
    List(Vec<Node>),
    Table(Vec<(String, Node)>),
}

impl ValueTemplate {
    /// A table with nothing in it.
    #[must_use]
    pub const fn empty() -> Self {
        Self(Node::Table(Vec::new()))
    }

    /// The names of its slots.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        let mut names = Vec::new();
        self.0.names(&mut names);
        names
    }

    /// The value with every slot replaced, as the type that is needed.
    ///
    /// # Errors
    /// [`FillError`], also when what comes of it is no `T`.
    pub fn fill<T: DeserializeOwned>(&self, slots: &Slots) -> Result<T, FillError> {
        let value = self.0.fill(slots)?;
        let text = value.to_string();
        serde_json::from_value(value).map_err(|e| FillError::Shape { value: text, problem: e.to_string() })
    }

    /// Whether it could be a `T`: with one and the same value in all of its slots, a number, a note or a word.
    ///
    /// # Errors
    /// [`FillError::Shape`] of the number.
    pub fn check<T: DeserializeOwned>(&self) -> Result<(), FillError> {
        let with = |value: &str| {
            let slots = self.names().into_iter().map(|name| (name.to_owned(), value.to_owned())).collect();
            self.fill::<T>(&slots).map(drop)
        };
        let [number, words @ ..] = TRIED;
        with(number).or_else(|error| if words.iter().any(|word| with(word).is_ok()) { Ok(()) } else { Err(error) })
    }
}

impl Node {
    fn new(value: Value) -> Result<Self, String> {
        Ok(match value {
            Value::String(text) => {
                let template = Template::try_from(text)?;
                let plain = template.names().next().is_none();
                if plain {
                    Self::Plain(Value::String(template.render(&Slots::new()).map_err(|e| e.to_string())?))
                } else {
                    Self::Text(template)
                }
            }
            Value::Array(values) => Self::List(values.into_iter().map(Self::new).collect::<Result<_, _>>()?),
            Value::Object(values) => Self::Table(
                values.into_iter().map(|(key, value)| Ok((key, Self::new(value)?))).collect::<Result<_, String>>()?,
            ),
            plain => Self::Plain(plain),
        })
    }

    fn names<'a>(&'a self, names: &mut Vec<&'a str>) {
        match self {
            Self::Plain(_) => {}
            Self::Text(template) => names.extend(template.names()),
            Self::List(nodes) => nodes.iter().for_each(|node| node.names(names)),
            Self::Table(nodes) => nodes.iter().for_each(|(_, node)| node.names(names)),
        }
    }

    fn fill(&self, slots: &Slots) -> Result<Value, FillError> {
        Ok(match self {
            Self::Plain(value) => value.clone(),
            Self::Text(template) => template.value(slots)?,
            Self::List(nodes) => Value::Array(nodes.iter().map(|node| node.fill(slots)).collect::<Result<_, _>>()?),
            Self::Table(nodes) => {
                let mut table = serde_json::Map::new();
                for (key, node) in nodes {
                    table.insert(key.clone(), node.fill(slots)?);
                }
                Value::Object(table)
            }
        })
    }
}

/// The number that a text is.
fn number(text: &str) -> Option<Value> {
    let text = text.trim();
    text.parse::<i64>().ok().map(Value::from).or_else(|| fraction(text))
}

fn fraction(text: &str) -> Option<Value> {
    text.trim().parse::<f64>().ok().and_then(serde_json::Number::from_f64).map(Value::Number)
}

impl TryFrom<Value> for ValueTemplate {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        Node::new(value).map(Self)
    }
}

impl From<ValueTemplate> for Value {
    fn from(template: ValueTemplate) -> Self {
        fn value(node: Node) -> Value {
            match node {
                // Braces that were plain are doubled again.
                Node::Plain(Value::String(text)) => Value::String(text.replace('{', "{{").replace('}', "}}")),
                Node::Plain(value) => value,
                Node::Text(template) => Value::String(template.into()),
                Node::List(nodes) => Value::Array(nodes.into_iter().map(value).collect()),
                Node::Table(nodes) => Value::Object(nodes.into_iter().map(|(key, node)| (key, value(node))).collect()),
            }
        }
        value(template.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn slots(pairs: &[(&str, &str)]) -> Slots {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn render(source: &str, pairs: &[(&str, &str)]) -> Result<String, FillError> {
        Template::try_from(source.to_owned()).unwrap().render(&slots(pairs))
    }

    #[test]
    fn a_template_says_what_is_wrong_with_it() {
        for (bad, place) in [
            ("say {text", "character 5"),
            ("a } b", "character 3"),
            ("{a{b}", "character 1"),
            ("{a | shout}", "`shout`"),
            ("{a | scale 0 127 0}", "scale FROM TO FROM TO"),
            ("{a | scale 1 1 0 1}", "scale FROM TO FROM TO"),
        ] {
            let error = Template::try_from(bad.to_owned()).unwrap_err();
            assert!(error.contains(place), "{error}");
        }
        assert_eq!(render("{{{a}}}", &[("a", "{b}")]).unwrap(), "{{b}}", "a value is never a template");
        assert!(matches!(render("{c}", &[("a", "")]), Err(FillError::NoSlot { .. })));
        assert!(matches!(render("{a|int}", &[("a", "loud")]), Err(FillError::NoNumber { .. })));
    }

    #[test]
    fn numbers_are_scaled_and_held_within_their_range() {
        assert_eq!(render("{v | scale 0 127 0 1}", &[("v", "127")]).unwrap(), "1");
        assert_eq!(render("{v | scale 0 1 0 127 | int}", &[("v", "0.5")]).unwrap(), "64");
        assert_eq!(render("{v | scale 0 1 0 127 | int}", &[("v", "7")]).unwrap(), "127");
        assert_eq!(render("{v | scale 0 1 10 0}", &[("v", "0.25")]).unwrap(), "7.5");
    }

    #[test]
    fn a_table_takes_numbers_and_texts() {
        let table = json!({"note": "{1}", "at": "{when}", "args": ["{1 | scale 0 10 0 1}", "n{1}", 3, true, "{{}}"]});
        let table = ValueTemplate::try_from(table).unwrap();
        let ends = ValueTemplate::try_from(json!(["{1 | scale 0 10 0 1}", "{1 | scale 0 10 0 1 | int}"])).unwrap();
        let filled: Value = ends.fill(&slots(&[("1", "10")])).unwrap();
        assert_eq!(filled.to_string(), "[1.0,1]");
        let filled: Value = table.fill(&slots(&[("1", "5"), ("when", "bar")])).unwrap();
        assert_eq!(filled, json!({"note": 5, "at": "bar", "args": [0.5, "n5", 3, true, "{}"]}));
        assert_eq!(table.names(), ["1", "when", "1", "1"]);
        assert!(table.check::<BTreeMap<String, Value>>().is_ok());
        let error = table.check::<Vec<String>>().unwrap_err().to_string();
        assert!(error.contains("expected a sequence"), "{error}");
        let back: ValueTemplate = serde_json::from_str(&serde_json::to_string(&table).unwrap()).unwrap();
        assert_eq!(back, table);
    }

    proptest! {
        #[test]
        fn any_text_passes_through_a_template_when_its_braces_are_doubled(text in any::<String>()) {
            let escaped = text.replace('{', "{{").replace('}', "}}");
            prop_assert_eq!(render(&escaped, &[]).unwrap(), text);
        }

        #[test]
        fn a_value_arrives_as_it_was(value in any::<String>()) {
            prop_assert_eq!(render("<{text}>", &[("text", &value)]).unwrap(), format!("<{value}>"));
        }
    }
}
