//! A telling as lines of a terminal.

use super::words::{COLUMNS, wrap};
use super::{Mood, Telling};

/// Columns of a label, with its indent and the gap behind it.
const LABEL: usize = 12;

impl Mood {
    /// Puts text into this mood's colour.
    #[must_use]
    pub fn paint(self, text: &str) -> String {
        let colour = match self {
            Self::Well => "32",
            Self::Busy => "36",
            Self::Warning => "33",
            Self::Trouble => "1;31",
            Self::Old => "2",
        };
        format!("\u{1b}[{colour}m{text}\u{1b}[0m")
    }
}

impl Telling {
    /// Lines of at most 80 columns, each with its line break; the state is coloured where that is wanted.
    #[must_use]
    pub fn page(&self, coloured: bool) -> String {
        let mut text = String::new();
        let head = format!("{}: {} {}", self.app, self.state, self.since);
        for (at, line) in wrap(&head, COLUMNS).into_iter().enumerate() {
            let line = match line.split_once(": ") {
                Some((app, rest)) if at == 0 && coloured && rest.starts_with(&self.state) => {
                    format!("{app}: {}{}", self.mood.paint(&self.state), &rest[self.state.len()..])
                }
                _ => line,
            };
            text.push_str(&line);
            text.push('\n');
        }
        let mut before = "";
        for (label, sentence) in &self.lines {
            let shown = if *label == before { "" } else { label };
            text.push_str(&labelled(shown, sentence));
            before = label;
        }
        text
    }
}

/// A label and its sentence, wrapped with a hanging indent.
#[must_use]
pub fn labelled(label: &str, sentence: &str) -> String {
    let mut text = String::new();
    for (at, line) in wrap(sentence, COLUMNS - LABEL).into_iter().enumerate() {
        let label = if at == 0 { label } else { "" };
        text.push_str(format!("  {label:<10}{line}").trim_end());
        text.push('\n');
    }
    text
}
