use serde_json::json;

use super::*;

fn one(text: &str) -> Result<Value, YamlError> {
    let file = read_yaml(text, 128)?;
    assert_eq!(file.documents.len(), 1, "{text:?}");
    Ok(file.documents[0].to_value())
}

#[test]
fn documents_mean_what_they_mean_to_kubectl() {
    for (text, value) in [
        ("a: &x {b: 1}\nc:\n  <<: *x\n  d: 2\n", json!({"a": {"b": 1}, "c": {"b": 1, "d": 2}})),
        ("c:\n  b: 9\n  <<: [{b: 1, e: 2}, {e: 3}]\n", json!({"c": {"b": 9, "e": 2}})),
        ("\u{feff}a: 1\r\nb: two\r\n", json!({"a": 1, "b": "two"})),
        ("a: |\n  text", json!({"a": "text\n"})),
        ("a: !!binary aGk=\n", json!({"a": "hi"})),
        ("a: !!str 12\n", json!({"a": "12"})),
        ("a: '0644'\nb: \"yes\"\n", json!({"a": "0644", "b": "yes"})),
        ("1: a\n", json!({"1": "a"})),
        ("a: ~\nb:\n", json!({"a": null, "b": null})),
        ("{\"a\": [1.50, \"\\u00e9\"]}", json!({"a": [1.5, "é"]})),
        ("a: 1 \nb:\t2\n", json!({"a": 1, "b": 2})),
    ] {
        assert_eq!(one(text), Ok(value), "{text:?}");
    }
}

#[test]
fn several_documents_are_read_and_empty_ones_left_out() {
    let file = read_yaml("---\n# nothing\n---\na: 1\n---\n---\nb: 2\n", 128).unwrap();
    let values: Vec<_> = file.documents.iter().map(|node| (node.line, node.to_value())).collect();
    assert_eq!(values, [(4, json!({"a": 1})), (7, json!({"b": 2}))]);
}

#[test]
fn faults_name_their_line() {
    for (text, line, part, ambiguous) in [
        ("a: 1\nb: 2\na: 3\n", 3, "\"a\" stands twice", false),
        ("a: {b: 1,\n  b: 2}\n", 2, "\"b\" stands twice", false),
        ("a:\n  <<: {}\n  <<: {}\n", 3, "\"<<\" stands twice", false),
        ("a: 1\nb: yes\n", 2, "boolean to kubectl", true),
        ("a: 1\non: push\n", 2, "key: on is a boolean", true),
        ("a: 08\n", 1, "leading zero", true),
        ("a: 1_000\n", 1, "number to kubectl", true),
        ("0x10: a\n", 1, "is read as \"16\"", true),
        ("~: a\n", 1, "null key", false),
        ("a: .inf\n", 1, "no notation in JSON", false),
        ("a: 1\nb: !thing x\n", 2, "no meaning", false),
        ("a: !!int x\n", 1, "not what its tag says", false),
        ("a: 1\n b: 2\n", 2, "", false),
        ("a: *nobody\n", 1, "", false),
        ("? [1]\n: 2\n", 1, "scalar", false),
    ] {
        let error = one(text).expect_err(text);
        assert_eq!((error.line, error.ambiguous), (line, ambiguous), "{text:?}: {error}");
        assert!(error.message.contains(part), "{text:?}: {error}");
    }
}

#[test]
fn doubtful_scalars_are_warned_of_with_their_line() {
    let file = read_yaml("mode: 0644\nwhen: 2001-01-01\nid: 1234e5\nok: 7\n", 128).unwrap();
    let lines: Vec<_> = file.warnings.iter().map(|warning| warning.line).collect();
    assert_eq!(lines, [1, 2, 3]);
    assert!(file.warnings[0].message.contains("octal"));
}

#[test]
fn a_pointer_finds_the_line_of_the_nearest_part_that_exists() {
    let file = read_yaml("a:\n  b:\n    - c: 1\n    - c/d: 2\n", 128).unwrap();
    let node = &file.documents[0];
    for (pointer, line) in [("/a/b/0/c", 3), ("/a/b/1/c~1d", 4), ("/a/x", 1), ("/a/b/7", 2), ("", 1)] {
        assert_eq!(node.line_at(pointer), line, "{pointer}");
    }
}

#[test]
fn aliases_that_multiply_are_stopped() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..9 {
        let below = format!("*a{}", level - 1);
        text += &format!("a{level}: &a{level} [{}]\n", vec![below; 10].join(", "));
    }
    let error = read_yaml(&text, 128).unwrap_err();
    assert!(error.message.contains("values in one file"), "{error}");
}

#[test]
fn depth_is_bounded() {
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    assert!(read_yaml(&nested(100), 128).is_ok());
    assert!(read_yaml(&nested(200), 128).is_err());
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "[a-c0-9:{}\\[\\],&*!<|>'\"#? \n~-]{0,60}") {
        let _ = read_yaml(&text, 16);
    }
}
