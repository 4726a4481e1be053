//! What a command shows: columns for a person, or one versioned JSON object. The only place that prints.
#![expect(clippy::print_stderr, reason = "words for the person at the terminal")]

use std::io::{self, IsTerminal as _, Write};

pub(crate) use airlift_bundles::telling::words::{human_bytes, printable};
use clap::ValueEnum;
use serde::Serialize;
use serde_json::{Value, json};

/// Version of every JSON that the commands print; a field keeps its meaning within it.
pub(crate) const API_VERSION: &str = "airlift.dev/cli/v1";

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Columns for a person
    Table,
    /// One JSON object with `apiVersion` and `kind`
    Json,
}

/// The flag that chooses it.
#[derive(Debug, clap::Args)]
pub(crate) struct OutputArgs {
    /// How to write the answer
    #[arg(short = 'o', long = "output", value_enum, default_value = "table")]
    pub(crate) format: Format,
}

/// When an answer is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Colour {
    /// On a terminal that has colours, unless NO_COLOR is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

impl Colour {
    /// Whether standard output gets colours.
    pub(crate) fn on_stdout(self) -> bool {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => {
                io::stdout().is_terminal()
                    && !set("NO_COLOR")
                    && std::env::var_os("TERM").is_some_and(|term| term != "dumb")
            }
        }
    }
}

/// Writes an answer to standard output; a reader that has left is no failure.
pub(crate) fn show(text: &str) {
    let _ = io::stdout().lock().write_all(text.as_bytes());
}

/// Says something to the person, on standard error.
pub(crate) fn say(text: &str) {
    eprintln!("{text}");
}

/// Whether a person watches standard error.
pub(crate) fn is_watched() -> bool {
    io::stderr().is_terminal()
}

/// Shows how far a long command is, in place on a terminal.
pub(crate) fn show_progress(text: &str) {
    if is_watched() {
        eprint!("\r\x1b[K{text}");
    } else {
        eprintln!("{text}");
    }
}

/// What clears a terminal for the next look; a blank line elsewhere.
pub(crate) fn from_the_top() -> &'static str {
    if io::stdout().is_terminal() { "\x1b[H\x1b[2J" } else { "\n" }
}

/// Ends the line that [`show_progress`] wrote in place.
pub(crate) fn end_progress() {
    if is_watched() {
        eprint!("\r\x1b[K");
    }
}

/// One thing as versioned JSON: its fields beside `apiVersion` and `kind`.
pub(crate) fn json_of(kind: &str, item: &impl Serialize) -> String {
    format!("{:#}\n", versioned(kind, item))
}

/// The same on one line, for answers that follow one another.
pub(crate) fn json_line_of(kind: &str, item: &impl Serialize) -> String {
    format!("{}\n", versioned(kind, item))
}

fn versioned(kind: &str, item: &impl Serialize) -> Value {
    let mut value = json!({ "apiVersion": API_VERSION, "kind": kind });
    if let (Value::Object(fields), Ok(Value::Object(more))) = (&mut value, serde_json::to_value(item)) {
        fields.extend(more);
    }
    value
}

/// Lines up cells under heads; text from outside cannot steer the terminal.
pub(crate) fn table_of(heads: &[&str], rows: &[Vec<String>]) -> String {
    let heads: Vec<String> = heads.iter().map(|&head| head.to_owned()).collect();
    let lines: Vec<Vec<String>> = std::iter::once(&heads)
        .chain(rows)
        .map(|line| line.iter().map(|cell| printable(cell)).collect())
        .collect();
    let width =
        |at: usize| lines.iter().filter_map(|line| line.get(at)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..heads.len()).map(|at| width(at).unwrap_or(0)).collect();
    let mut text = String::new();
    for line in lines {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        let joined = cells.collect::<Vec<_>>().join("   ");
        text.push_str(joined.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_cannot_steer_the_terminal() {
        let rows = [vec!["a".into(), "10".into()], vec!["long\u{1b}[2J".into(), "2".into()]];
        assert_eq!(
            table_of(&["NAME", "SIZE"], &rows),
            "NAME       SIZE\na          10\nlong\u{fffd}[2J   2\n"
        );
    }

    #[test]
    fn json_names_its_version_and_kind() {
        let value: Value = serde_json::from_str(&json_of("Thing", &json!({ "size": 3 }))).unwrap();
        assert_eq!(value, json!({ "apiVersion": API_VERSION, "kind": "Thing", "size": 3 }));
    }
}
