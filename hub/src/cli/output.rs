//! What a command lists: as a table, wide, names only, or versioned JSON.

use std::io::{self, Write};

pub(crate) use airlift_bundles::telling::words::printable;
use clap::ValueEnum;
use serde::Serialize;
use serde_json::{Value, json};

/// Version of every JSON that the command line prints; a field keeps its meaning within it.
pub(crate) const API_VERSION: &str = "airlift.dev/cli/v1";

/// How a list is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Columns for a person.
    Table,
    /// More columns.
    Wide,
    /// One name a line, for scripts.
    Name,
    /// One JSON object with `apiVersion` and `kind`.
    Json,
}

/// The flag that chooses it.
#[derive(Debug, clap::Args)]
pub(crate) struct OutputArgs {
    /// How to write the answer
    #[arg(short = 'o', long = "output", value_enum, default_value = "table")]
    pub(crate) format: Format,
}

/// Rows of one kind.
pub(crate) struct Table {
    kind: &'static str,
    columns: Vec<&'static str>,
    wide_columns: Vec<&'static str>,
    rows: Vec<Row>,
}

struct Row {
    name: String,
    cells: Vec<String>,
    json: Value,
}

impl Table {
    /// An empty list; `wide_columns` are shown with `-o wide` only.
    pub(crate) fn new(kind: &'static str, columns: &[&'static str], wide_columns: &[&'static str]) -> Self {
        Self { kind, columns: columns.to_vec(), wide_columns: wide_columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row: `cells` for all columns, the wide ones last.
    pub(crate) fn row(&mut self, item: &impl Serialize, name: impl ToString, cells: Vec<String>) {
        debug_assert_eq!(cells.len(), self.columns.len() + self.wide_columns.len(), "{}", self.kind);
        let json = serde_json::to_value(item).expect("listed items serialise without failure");
        self.rows.push(Row { name: name.to_string(), cells, json });
    }

    /// Writes the list to standard output.
    pub(crate) fn print(&self, format: Format) -> io::Result<()> {
        self.write(format, &mut io::stdout().lock())
    }

    fn write(&self, format: Format, out: &mut impl Write) -> io::Result<()> {
        match format {
            Format::Name => self.rows.iter().try_for_each(|row| writeln!(out, "{}", printable(&row.name))),
            Format::Json => {
                let items: Vec<&Value> = self.rows.iter().map(|row| &row.json).collect();
                write_json(&json!({ "apiVersion": API_VERSION, "kind": self.kind, "items": items }), out)
            }
            Format::Table => self.write_columns(self.columns.len(), out),
            Format::Wide => self.write_columns(self.columns.len() + self.wide_columns.len(), out),
        }
    }

    fn write_columns(&self, shown: usize, out: &mut impl Write) -> io::Result<()> {
        if self.rows.is_empty() {
            return writeln!(out, "none");
        }
        let heads = self.columns.iter().chain(&self.wide_columns).map(|&head| head.to_owned());
        let mut lines: Vec<Vec<String>> = vec![heads.take(shown).collect()];
        lines.extend(
            self.rows.iter().map(|row| row.cells.iter().take(shown).map(|cell| printable(cell)).collect()),
        );
        let width_of =
            |at: usize| lines.iter().map(|line| line[at].chars().count()).max().unwrap_or_default();
        let widths: Vec<usize> = (0..shown).map(width_of).collect();
        for line in &lines {
            let mut text = String::new();
            for (cell, width) in line.iter().zip(&widths) {
                text.push_str(&format!("{cell:<width$}   "));
            }
            writeln!(out, "{}", text.trim_end())?;
        }
        Ok(())
    }
}

/// Writes one thing as versioned JSON: its fields beside `apiVersion` and `kind`.
pub(crate) fn print_json(kind: &str, item: &impl Serialize) -> io::Result<()> {
    let mut value = json!({ "apiVersion": API_VERSION, "kind": kind });
    let item = serde_json::to_value(item).expect("shown items serialise without failure");
    match (&mut value, item) {
        (Value::Object(fields), Value::Object(more)) => fields.extend(more),
        (Value::Object(fields), other) => drop(fields.insert("value".into(), other)),
        _ => {}
    }
    write_json(&value, &mut io::stdout().lock())
}

fn write_json(value: &Value, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{value:#}")
}

/// Writes one line to standard output.
pub(crate) fn line(text: impl AsRef<str>) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{}", text.as_ref())
}

/// Bytes for a person: `1.5 MiB`.
pub(crate) fn human_bytes(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(format: Format) -> String {
        let mut table = Table::new("ThingList", &["NAME", "SIZE"], &["OWNER"]);
        table.row(&json!({ "name": "a" }), "a", vec!["a".into(), "10".into(), "x".into()]);
        table.row(&json!({ "name": "long" }), "long", vec!["long\u{1b}[2J".into(), "2".into(), "y".into()]);
        let mut bytes = Vec::new();
        table.write(format, &mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn columns_line_up_and_cannot_steer_the_terminal() {
        assert_eq!(written(Format::Table), "NAME       SIZE\na          10\nlong\u{fffd}[2J   2\n");
        assert!(written(Format::Wide).starts_with("NAME       SIZE   OWNER\n"));
        assert_eq!(written(Format::Name), "a\nlong\n");
    }

    #[test]
    fn json_names_its_version_and_kind() {
        let value: Value = serde_json::from_str(&written(Format::Json)).unwrap();
        assert_eq!(
            (value["apiVersion"].as_str(), value["kind"].as_str()),
            (Some(API_VERSION), Some("ThingList"))
        );
        assert_eq!(value["items"][1]["name"], "long");
    }
}
