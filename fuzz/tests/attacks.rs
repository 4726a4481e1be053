//! Holds `tests/ATTACKS.md` to the sources: every row names tests that exist and codes that one of them shows.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use airlift_bundles::code::Code;

/// The page that this module checks.
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/ATTACKS.md");
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
/// Codes of trust and content that refuse nothing: an assignment that waits is kept.
const NO_REFUSALS: [Code; 1] = [Code::AssignmentParked];

/// One row of a table.
struct Row {
    what: String,
    codes: String,
    tests: Vec<(String, String)>,
}

fn rows() -> Vec<Row> {
    let page = fs::read_to_string(PAGE).unwrap();
    let lines = page.lines().filter(|line| line.starts_with('|') && !line.starts_with("|---"));
    let cells = lines.map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect::<Vec<_>>());
    let table = cells.filter(|cells| !matches!(cells[0], "attack" | "fault"));
    table
        .map(|cells| {
            let [what, codes, tests] = cells[..] else { panic!("a row has three cells: {cells:?}") };
            let spans = tests.split('`').skip(1).step_by(2);
            let named = spans.map(|span| span.split_once("::").unwrap_or_else(|| panic!("{span}")));
            Row {
                what: what.to_owned(),
                codes: codes.to_owned(),
                tests: named.map(|(file, name)| (file.to_owned(), name.to_owned())).collect(),
            }
        })
        .collect()
}

/// The functions of a source file: name, text, and whether it is a test.
struct Source {
    functions: BTreeMap<String, String>,
    tests: BTreeSet<String>,
}

impl Source {
    fn read(file: &str) -> Self {
        let text =
            fs::read_to_string(Path::new(ROOT).join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        let lines: Vec<&str> = text.lines().collect();
        let (mut functions, mut tests) = (BTreeMap::new(), BTreeSet::new());
        for (at, line) in lines.iter().enumerate() {
            let Some((before, after)) = line.split_once("fn ") else { continue };
            let plain = before
                .split_whitespace()
                .all(|word| matches!(word, "async" | "const") || word.starts_with("pub"));
            let name: String = after.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if !plain || name.is_empty() {
                continue;
            }
            // rustfmt closes a function at the depth at which it begins.
            let indent: String = line.chars().take_while(|c| *c == ' ').collect();
            let end = format!("{indent}}}");
            let body = lines[at..].iter().take_while(|line| **line != end);
            functions.insert(name.clone(), body.copied().collect::<Vec<_>>().join("\n"));
            let attributes = lines[..at].iter().rev().map(|line| line.trim());
            let mut attributes =
                attributes.take_while(|line| line.starts_with("#[") || line.starts_with("//"));
            if attributes.any(|line| line == "#[test]" || line.starts_with("#[tokio::test")) {
                tests.insert(name);
            }
        }
        // Stories that a macro makes a test of, once for each containerd.
        if let Some((_, list)) = text.split_once("\non_each_containerd! {\n") {
            let (list, _) = list.split_once("\n}").unwrap();
            tests.extend(list.lines().map(|line| line.trim().trim_end_matches(',').to_owned()));
        }
        Self { functions, tests }
    }

    /// Whether a test, or a function of the same file that it leads to, names the code.
    fn shows(&self, test: &str, code: Code) -> bool {
        let (mut queue, mut seen) = (vec![test], BTreeSet::new());
        while let Some(name) = queue.pop() {
            let Some(body) = self.functions.get(name).filter(|_| seen.insert(name)) else { continue };
            if body.contains(code.id()) || has_word(body, &format!("Code::{code:?}")) {
                return true;
            }
            queue.extend(self.functions.keys().map(String::as_str).filter(|other| has_word(body, other)));
        }
        false
    }
}

fn has_word(text: &str, word: &str) -> bool {
    let part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    text.match_indices(word)
        .any(|(at, _)| !part(text[..at].chars().next_back()) && !part(text[at + word.len()..].chars().next()))
}

fn codes(row: &Row) -> Vec<Code> {
    if let Some(reason) = row.codes.strip_prefix("— ") {
        assert!(reason.split(' ').count() > 2, "{}: a row without a code says why: {reason:?}", row.what);
        return Vec::new();
    }
    let code = |id: &str| Code::find(id).unwrap_or_else(|| panic!("{}: no code {id:?}", row.what));
    row.codes.split(", ").map(code).collect()
}

#[test]
fn every_attack_has_a_test_that_exists_and_shows_its_code() {
    let rows = rows();
    let mut sources: BTreeMap<&str, Source> = BTreeMap::new();
    let mut faults = Vec::new();
    for row in &rows {
        if row.tests.is_empty() {
            faults.push(format!("{}: no test", row.what));
        }
        for (file, name) in &row.tests {
            let source = sources.entry(file).or_insert_with(|| Source::read(file));
            if !source.tests.contains(name) {
                faults.push(format!("{}: {file} has no test {name}", row.what));
            }
        }
        for code in codes(row) {
            assert!(code.explained().len() > 40, "{code} is explained");
            if !row.tests.iter().any(|(file, name)| sources[file.as_str()].shows(name, code)) {
                faults.push(format!("{}: none of its tests shows {code}", row.what));
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    let names: BTreeSet<&str> = rows.iter().map(|row| row.what.as_str()).collect();
    assert_eq!(names.len(), rows.len(), "no attack stands there twice");
}

#[test]
fn every_code_of_trust_and_content_has_a_row() {
    let shown: BTreeSet<Code> = rows().iter().flat_map(codes).collect();
    let wanted = Code::ALL.iter().filter(|code| code.id() < "AL07" && !NO_REFUSALS.contains(code));
    let missing: Vec<&str> = wanted.filter(|code| !shown.contains(code)).map(|code| code.id()).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
