//! What a command shows: columns for a person, or one versioned JSON object. The only place that prints.
#![expect(clippy::print_stderr, reason = "words for the person at the terminal")]

use std::io::{self, IsTerminal as _, Write};

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

/// Ends the line that [`show_progress`] wrote in place.
pub(crate) fn end_progress() {
    if is_watched() {
        eprint!("\r\x1b[K");
    }
}

/// One thing as versioned JSON: its fields beside `apiVersion` and `kind`.
pub(crate) fn json_of(kind: &str, item: &impl Serialize) -> String {
    let mut value = json!({ "apiVersion": API_VERSION, "kind": kind });
    if let (Value::Object(fields), Ok(Value::Object(more))) = (&mut value, serde_json::to_value(item)) {
        fields.extend(more);
    }
    format!("{value:#}\n")
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

/// Replaces control characters.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect()
}

/// Bytes for a person: `1.5 MiB`.
#[expect(clippy::cast_precision_loss, reason = "one digit after the point is shown")]
pub(crate) fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut amount = bytes as f64 / 1024.0;
    let mut unit = 0;
    while amount >= 1024.0 && unit + 1 < UNITS.len() {
        amount /= 1024.0;
        unit += 1;
    }
    format!("{amount:.1} {}", UNITS[unit])
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

    #[test]
    fn bytes_have_one_digit_and_a_unit() {
        let shown: Vec<String> = [1023, 1024, 1_610_612_736, u64::MAX].into_iter().map(human_bytes).collect();
        assert_eq!(shown, ["1023 B", "1.0 KiB", "1.5 GiB", "16777216.0 TiB"]);
    }
}
