//! A scenario as text again: TOML that reads as the same scenario, without what stands for itself.

use serde_json::{Map, Value};

use super::Scenario;

/// Fields that come first in their table; others follow by name.
const FIRST: [&str; 12] =
    ["name", "about", "duration", "quiet", "kind", "at", "act", "app", "version", "seq", "sites", "count"];

/// Tables in the order of a story; others follow.
const TABLES: [&str; 6] = ["group", "release", "action", "carrier", "fault", "expect"];

/// What a field is where it is not written.
const DEFAULTS: [(&str, &str); 12] = [
    ("clock", r#""right""#),
    ("contact", r#""mqtt""#),
    ("first", r#""0s""#),
    ("from", r#""0s""#),
    ("known", "false"),
    ("lasts", r#"["0s","0s"]"#),
    ("link", r#"{"kbit_per_s":10000,"latency":["20ms","200ms"],"lost_per_mille":0,"repeated_per_mille":0}"#),
    ("quiet", r#""0s""#),
    ("sites", r#""*""#),
    ("soak", r#""2m""#),
    ("timeout", r#""10m""#),
    ("works", "true"),
];

impl Scenario {
    /// The scenario as TOML, which [`Self::parse`] reads as the same.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let value = serde_json::to_value(self).expect("a scenario is made of text, numbers and lists");
        let Value::Object(fields) = value else { unreachable!("a scenario has fields") };
        let mut text = String::new();
        let is_tables =
            |value: &Value| value.as_array().is_some_and(|items| items.iter().all(Value::is_object));
        write_fields(&mut text, &fields, |value| !is_tables(value));
        let mut tables: Vec<(&String, &Value)> =
            fields.iter().filter(|(_, value)| is_tables(value)).collect();
        tables.sort_by_key(|(name, _)| TABLES.iter().position(|table| table == name).unwrap_or(TABLES.len()));
        for (name, tables) in tables {
            for table in tables.as_array().into_iter().flatten() {
                text.push_str(&format!("\n[[{name}]]\n"));
                write_fields(&mut text, table.as_object().unwrap_or(&Map::new()), |_| true);
            }
        }
        text
    }
}

fn write_fields(text: &mut String, fields: &Map<String, Value>, is_wanted: impl Fn(&Value) -> bool) {
    let mut fields: Vec<(&String, &Value)> = fields.iter().collect();
    fields.sort_by_key(|(key, _)| FIRST.iter().position(|first| first == key).unwrap_or(FIRST.len()));
    for (key, value) in fields.into_iter().filter(|(key, value)| is_wanted(value) && !is_default(key, value))
    {
        text.push_str(&format!("{key} = {}\n", inline(value)));
    }
}

fn is_default(key: &str, value: &Value) -> bool {
    let empty = match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    };
    let written = value.to_string();
    let rate = key.ends_with("_per_mille") && written == "0";
    empty || rate || DEFAULTS.contains(&(key, written.as_str()))
}

/// A value on one line. JSON's escapes are TOML's too, but for one control character that JSON leaves as it is.
fn inline(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(inline).collect::<Vec<_>>().join(", ")),
        Value::Object(fields) => {
            let field = |(key, value): (&String, &Value)| format!("{} = {}", quoted(key), inline(value));
            format!("{{ {} }}", fields.iter().map(field).collect::<Vec<_>>().join(", "))
        }
        Value::String(text) => quoted(text),
        other => other.to_string(),
    }
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_scenario_is_the_same_after_writing_and_reading() {
        for scenario in Scenario::built_in() {
            let text = scenario.to_toml();
            assert_eq!(Scenario::parse(&text).unwrap(), scenario, "{text}");
        }
    }

    #[test]
    fn names_labels_and_odd_words_survive() {
        let text = "name = \"x\"\nabout = \"a \\\"b\\\" \\\\ \\u007f ü\\n\"\nduration = \"1h\"\n\
                    [[group]]\nname = \"a\"\ncount = 2\nnames = [\"p\", \"q\"]\ncontact = \"media\"\n\
                    labels = { \"example.org/zone\" = \"x y\" }\nlink = { kbit_per_s = 5 }\n";
        let scenario = Scenario::parse(text).unwrap();
        let written = scenario.to_toml();
        assert_eq!(Scenario::parse(&written).unwrap(), scenario, "{written}");
    }

    #[test]
    fn what_stands_for_itself_is_not_written() {
        let text = Scenario::find("bad-release").unwrap().to_toml();
        assert!(
            !text.contains("contact") && !text.contains("sites =") && !text.contains("works = true"),
            "{text}"
        );
        assert!(text.contains("works = false"), "{text}");
    }
}
