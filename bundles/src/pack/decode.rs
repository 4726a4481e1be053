//! Reads a located YAML node as a type, so that an unknown field is refused with its line.

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::yaml::{Node, NodeKind};

/// A node does not have the shape of its type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DecodeError {
    pub(crate) line: Option<usize>,
    pub(crate) message: String,
}

impl DecodeError {
    fn at(mut self, line: usize) -> Self {
        self.line.get_or_insert(line);
        self
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for DecodeError {}

impl de::Error for DecodeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { line: None, message: message.to_string() }
    }
}

/// Reads `node` as `T`; the error names the nearest line.
pub(crate) fn decode<'de, T: de::Deserialize<'de>>(node: &'de Node) -> Result<T, DecodeError> {
    T::deserialize(node).map_err(|error| error.at(node.line))
}

impl<'de> Deserializer<'de> for &'de Node {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let outcome = match &self.kind {
            NodeKind::Scalar(Value::Null) => visitor.visit_unit(),
            NodeKind::Scalar(Value::Bool(value)) => visitor.visit_bool(*value),
            NodeKind::Scalar(Value::String(text)) => visitor.visit_borrowed_str(text),
            NodeKind::Scalar(value) => {
                // serde_json knows how to show its numbers to any visitor.
                value.deserialize_any(visitor).map_err(de::Error::custom)
            }
            NodeKind::Sequence(nodes) => visitor.visit_seq(Entries { nodes: nodes.iter() }),
            NodeKind::Mapping(entries) => visitor.visit_map(Fields { entries: entries.iter(), value: None }),
        };
        outcome.map_err(|error: DecodeError| error.at(self.line))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match &self.kind {
            NodeKind::Scalar(Value::Null) => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        match &self.kind {
            NodeKind::Scalar(Value::String(text)) => {
                let text: de::value::BorrowedStrDeserializer<'de, DecodeError> =
                    de::value::BorrowedStrDeserializer::new(text);
                visitor.visit_enum(text).map_err(|error| error.at(self.line))
            }
            _ => {
                Err(DecodeError { line: Some(self.line), message: "expected one of the known words".into() })
            }
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}

struct Entries<'de> {
    nodes: std::slice::Iter<'de, Node>,
}

impl<'de> SeqAccess<'de> for Entries<'de> {
    type Error = DecodeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, DecodeError> {
        let next = self.nodes.next();
        next.map(|node| seed.deserialize(node).map_err(|error| error.at(node.line))).transpose()
    }
}

struct Fields<'de> {
    entries: std::slice::Iter<'de, (String, usize, Node)>,
    value: Option<&'de Node>,
}

impl<'de> MapAccess<'de> for Fields<'de> {
    type Error = DecodeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, DecodeError> {
        let Some((key, line, node)) = self.entries.next() else { return Ok(None) };
        self.value = Some(node);
        let key: de::value::StrDeserializer<'de, DecodeError> = key.as_str().into_deserializer();
        seed.deserialize(key).map(Some).map_err(|error| error.at(*line))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, DecodeError> {
        let node = self.value.take().expect("serde asks for a value only after its key");
        seed.deserialize(node).map_err(|error| error.at(node.line))
    }
}
