//! Reads YAML into located nodes: JSON as kubectl would make it, with the line of every key and value.
//!
//! A key twice, two merge keys in one mapping and ambiguous booleans are faults here although kubectl takes
//! them, because two readers would see two manifests. The parser's events are composed by hand: composing
//! loses no line, and only it can tell a duplicate from an override.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use granit_parser::{Event, Parser, ScalarStyle, Span, Tag};
use serde_json::{Map, Value};

use super::scalar::{NotInJson, read_plain};

/// Nodes of one file after aliases are expanded: a "billion laughs" file stops here.
const NODES_MAX: usize = 1_000_000;

/// A fault of a YAML file, with the line where it stands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct YamlError {
    /// The line, counted from 1.
    pub(crate) line: usize,
    /// What is wrong, and what to write instead.
    pub(crate) message: String,
    /// Whether the fault is one scalar that readers disagree about.
    pub(crate) ambiguous: bool,
}

/// A scalar that other readers take for something else, but which is plain enough to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct YamlWarning {
    /// The line, counted from 1.
    pub(crate) line: usize,
    /// What is ambiguous, and what to write instead.
    pub(crate) message: String,
}

/// A value and the line on which it begins.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    /// The line, counted from 1.
    pub(crate) line: usize,
    /// The value.
    pub(crate) kind: NodeKind,
}

/// What a node holds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum NodeKind {
    /// Null, a boolean, a number or text.
    Scalar(Value),
    /// A list.
    Sequence(Vec<Node>),
    /// Keys in the order of the file, each with its own line.
    Mapping(Vec<(String, usize, Node)>),
}

impl Node {
    /// The same value as JSON.
    #[must_use]
    pub(crate) fn to_value(&self) -> Value {
        match &self.kind {
            NodeKind::Scalar(value) => value.clone(),
            NodeKind::Sequence(nodes) => Value::Array(nodes.iter().map(Self::to_value).collect()),
            NodeKind::Mapping(entries) => Value::Object(
                entries.iter().map(|(key, _, node)| (key.clone(), node.to_value())).collect::<Map<_, _>>(),
            ),
        }
    }

    /// The value under `key`, where this is a mapping that has it.
    #[must_use]
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        let NodeKind::Mapping(entries) = &self.kind else { return None };
        entries.iter().find(|(name, _, _)| name == key).map(|(_, _, node)| node)
    }

    /// The line of what a JSON pointer names, or of the nearest part of it that exists.
    #[must_use]
    pub(crate) fn line_at(&self, pointer: &str) -> usize {
        let (mut node, mut line) = (self, self.line);
        for segment in pointer.split('/').skip(1) {
            let segment = segment.replace("~1", "/").replace("~0", "~");
            let next = match &node.kind {
                NodeKind::Mapping(entries) => {
                    entries.iter().find(|(name, _, _)| *name == segment).map(|(_, line, node)| (*line, node))
                }
                NodeKind::Sequence(nodes) => {
                    segment.parse().ok().and_then(|at: usize| nodes.get(at)).map(|node| (node.line, node))
                }
                NodeKind::Scalar(_) => None,
            };
            let Some((found_line, found)) = next else { break };
            (node, line) = (found, found_line);
        }
        line
    }

    fn count(&self) -> usize {
        match &self.kind {
            NodeKind::Scalar(_) => 1,
            NodeKind::Sequence(nodes) => 1 + nodes.iter().map(Self::count).sum::<usize>(),
            NodeKind::Mapping(entries) => 1 + entries.iter().map(|(_, _, node)| node.count()).sum::<usize>(),
        }
    }
}

/// The documents of one file, empty ones left out, and what is ambiguous in them.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct YamlFile {
    /// The documents in order.
    pub(crate) documents: Vec<Node>,
    /// Scalars that other readers would take otherwise.
    pub(crate) warnings: Vec<YamlWarning>,
}

/// Reads every document of a YAML or JSON file, nested at most `depth_max` levels.
///
/// # Errors
/// [`YamlError`], the first fault found.
pub(crate) fn read_yaml(text: &str, depth_max: usize) -> Result<YamlFile, YamlError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut options =
        granit_parser::options! { block_nesting_limit: depth_max, flow_nesting_limit: depth_max };
    options.set_emit_comments(false);
    let mut composer = Composer { depth_max, ..Composer::default() };
    let mut documents = Vec::new();
    let mut events = Parser::new_from_str_with_options(text, options);
    while let Some((event, span)) = next_event(&mut events)? {
        match event {
            Event::DocumentStart(..) => composer.anchors.clear(),
            Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
            event => {
                let node = composer.node(&mut events, event, &span, 0)?;
                if node.kind != NodeKind::Scalar(Value::Null) {
                    documents.push(node);
                }
            }
        }
    }
    Ok(YamlFile { documents, warnings: composer.warnings })
}

/// Reads a YAML or JSON file of one document as JSON, nested at most `depth_max` levels: a configuration file, whose lines
/// nobody needs.
///
/// # Errors
/// What is wrong, and where.
pub fn read_yaml_value(text: &str, depth_max: usize) -> Result<Value, String> {
    let file = read_yaml(text, depth_max).map_err(|error| format!("line {}: {error}", error.line))?;
    match file.documents.as_slice() {
        [one] => Ok(one.to_value()),
        documents => Err(format!("it has {} documents, not one", documents.len())),
    }
}

type Events<'a> = Parser<'a, granit_parser::StrInput<'a>>;

fn next_event<'a>(events: &mut Events<'a>) -> Result<Option<(Event<'a>, Span)>, YamlError> {
    events.next().transpose().map_err(|error| fault(error.marker().line(), error.to_string()))
}

fn fault(line: usize, message: impl Into<String>) -> YamlError {
    YamlError { line, message: message.into(), ambiguous: false }
}

#[derive(Default)]
struct Composer {
    anchors: BTreeMap<usize, Node>,
    warnings: Vec<YamlWarning>,
    nodes: usize,
    depth_max: usize,
}

impl Composer {
    fn node<'a>(
        &mut self,
        events: &mut Events<'a>,
        event: Event<'a>,
        span: &Span,
        depth: usize,
    ) -> Result<Node, YamlError> {
        let line = span.start.line();
        self.grow(1, line)?;
        if depth > self.depth_max {
            return Err(fault(line, format!("nested deeper than {} levels", self.depth_max)));
        }
        let (anchor, node) = match event {
            Event::Alias(id) => {
                let node = self.anchors.get(&id).cloned();
                let node = node.ok_or_else(|| fault(line, "alias inside the value that it names"))?;
                self.grow(node.count(), line)?;
                return Ok(node);
            }
            Event::Scalar(text, style, anchor, tag) => {
                let value = self.scalar(&text, style, tag.as_deref(), line)?;
                (anchor, Node { line, kind: NodeKind::Scalar(value) })
            }
            Event::SequenceStart(_, anchor, tag) => {
                check_collection_tag(tag.as_deref(), "seq", line)?;
                let mut nodes = Vec::new();
                loop {
                    match next_event(events)? {
                        Some((Event::SequenceEnd, _)) => break,
                        Some((event, span)) => nodes.push(self.node(events, event, &span, depth + 1)?),
                        None => return Err(fault(line, "list without an end")),
                    }
                }
                (anchor, Node { line, kind: NodeKind::Sequence(nodes) })
            }
            Event::MappingStart(_, anchor, tag) => {
                check_collection_tag(tag.as_deref(), "map", line)?;
                (anchor, Node { line, kind: self.mapping(events, line, depth)? })
            }
            _ => return Err(fault(line, "a value should stand here")),
        };
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn mapping(&mut self, events: &mut Events<'_>, line: usize, depth: usize) -> Result<NodeKind, YamlError> {
        let mut entries = Vec::new();
        let mut names = BTreeSet::new();
        let mut merged: Option<Node> = None;
        loop {
            let (event, span) = next_event(events)?.ok_or_else(|| fault(line, "mapping without an end"))?;
            if event == Event::MappingEnd {
                break;
            }
            let key_line = span.start.line();
            let merge = matches!(&event, Event::Scalar(text, ScalarStyle::Plain, _, None) if text == "<<");
            let key = if merge { String::new() } else { self.key(events, event, &span, depth)? };
            let (event, span) = next_event(events)?.ok_or_else(|| fault(line, "key without a value"))?;
            let node = self.node(events, event, &span, depth + 1)?;
            if merge {
                if merged.replace(node).is_some() {
                    return Err(fault(key_line, "key \"<<\" stands twice in one mapping"));
                }
            } else if names.insert(key.clone()) {
                entries.push((key, key_line, node));
            } else {
                return Err(fault(key_line, format!("key {key:?} stands twice in one mapping")));
            }
        }
        if let Some(merged) = merged {
            merge_into(&mut entries, &mut names, merged)?;
        }
        Ok(NodeKind::Mapping(entries))
    }

    /// Reads a key; kubectl turns booleans and numbers into text, which must not differ from what stands there.
    fn key<'a>(
        &mut self,
        events: &mut Events<'a>,
        event: Event<'a>,
        span: &Span,
        depth: usize,
    ) -> Result<String, YamlError> {
        let line = span.start.line();
        let source = match &event {
            Event::Scalar(text, ScalarStyle::Plain, _, None) => Some(text.to_string()),
            _ => None,
        };
        let known = self.warnings.len();
        let node = match self.node(events, event, span, depth + 1) {
            Err(mut error) if error.ambiguous => {
                error.message = format!("key: {}", error.message);
                return Err(error);
            }
            node => node?,
        };
        self.warnings.truncate(known);
        let key = match node.kind {
            NodeKind::Scalar(Value::String(text)) => text,
            NodeKind::Scalar(Value::Null) => return Err(fault(line, "a null key; quote it")),
            NodeKind::Scalar(value) => value.to_string(),
            _ => return Err(fault(line, "a key must be a scalar")),
        };
        match source {
            Some(source) if source != key => Err(YamlError {
                line,
                message: format!("key {source} is read as {key:?}; quote it"),
                ambiguous: true,
            }),
            _ => Ok(key),
        }
    }

    fn scalar(
        &mut self,
        text: &str,
        style: ScalarStyle,
        tag: Option<&Tag>,
        line: usize,
    ) -> Result<Value, YamlError> {
        let suffix = match tag {
            None if style != ScalarStyle::Plain => return Ok(Value::String(text.to_owned())),
            None => None,
            Some(tag) if tag.handle() == "tag:yaml.org,2002:" => Some(tag.suffix()),
            Some(tag) if tag.handle().is_empty() && tag.suffix() == "!" => Some("str"),
            Some(tag) => return Err(fault(line, format!("tag !{} has no meaning here", tag.suffix()))),
        };
        match suffix {
            Some("str") => return Ok(Value::String(text.to_owned())),
            Some("binary") => return read_binary(text, line).map(Value::String),
            _ => {}
        }
        let reading = read_plain(text)
            .map_err(|NotInJson| fault(line, format!("{text} has no notation in JSON; quote it")))?;
        let fits = match suffix {
            None => true,
            Some("int") => reading.value.is_i64() || reading.value.is_u64(),
            Some("float") => reading.value.is_number(),
            Some("bool") => reading.value.is_boolean(),
            Some("null") => reading.value.is_null(),
            Some(_) => false,
        };
        if !fits {
            return Err(fault(line, format!("{text} is not what its tag says")));
        }
        if let Some(doubt) = reading.doubt {
            let message = format!("{text} is {}", doubt.explain());
            if doubt.is_error() {
                return Err(YamlError { line, message, ambiguous: true });
            }
            self.warnings.push(YamlWarning { line, message });
        }
        Ok(reading.value)
    }

    fn grow(&mut self, nodes: usize, line: usize) -> Result<(), YamlError> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > NODES_MAX {
            return Err(fault(line, format!("more than {NODES_MAX} values in one file")));
        }
        Ok(())
    }
}

fn read_binary(text: &str, line: usize) -> Result<String, YamlError> {
    let packed: String = text.split_ascii_whitespace().collect();
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(packed)
        .map_err(|error| fault(line, format!("!!binary is not base64: {error}")))?;
    String::from_utf8(bytes).map_err(|_| fault(line, "!!binary is not UTF-8, which JSON cannot hold"))
}

fn check_collection_tag(tag: Option<&Tag>, expected: &str, line: usize) -> Result<(), YamlError> {
    match tag {
        Some(tag) if tag.handle() != "tag:yaml.org,2002:" || tag.suffix() != expected => {
            Err(fault(line, format!("tag !{} has no meaning here", tag.suffix())))
        }
        _ => Ok(()),
    }
}

/// Adds what `<<` brings: keys that are there stay, and of several mappings the first wins.
fn merge_into(
    entries: &mut Vec<(String, usize, Node)>,
    names: &mut BTreeSet<String>,
    merged: Node,
) -> Result<(), YamlError> {
    let line = merged.line;
    match merged.kind {
        NodeKind::Mapping(more) => {
            for (key, key_line, node) in more {
                if names.insert(key.clone()) {
                    entries.push((key, key_line, node));
                }
            }
            Ok(())
        }
        NodeKind::Sequence(nodes) => nodes.into_iter().try_for_each(|node| match node.kind {
            NodeKind::Mapping(_) => merge_into(entries, names, node),
            _ => Err(fault(line, "\"<<\" takes a mapping or a list of mappings")),
        }),
        NodeKind::Scalar(_) => Err(fault(line, "\"<<\" takes a mapping or a list of mappings")),
    }
}

#[cfg(test)]
mod tests;
