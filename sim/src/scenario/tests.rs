use std::collections::BTreeSet;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::*;

#[test]
fn every_built_in_scenario_is_good_and_has_its_own_name() {
    let scenarios = Scenario::built_in();
    let names: BTreeSet<&str> = scenarios.iter().map(|scenario| scenario.name.as_str()).collect();
    assert_eq!(names.len(), BUILT_IN.len());
    for scenario in &scenarios {
        assert!(!scenario.expect.is_empty(), "{} expects nothing", scenario.name);
        assert_eq!(Scenario::find(&scenario.name).unwrap(), *scenario);
    }
}

/// What serde takes for `T`, from what it says when it is given anything else.
fn fields_of<T: DeserializeOwned>() -> BTreeSet<String> {
    let Err(refused) = toml::from_str::<T>("no_such_field = 1") else { panic!("unknown fields are refused") };
    let text = refused.message().to_owned();
    let (_, listed) = text.split_once("expected").unwrap_or_else(|| panic!("{text}"));
    listed.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn the_schema_and_the_reader_know_the_same_fields() {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let properties = |pointer: &str| -> BTreeSet<String> {
        let found = schema.pointer(&format!("{pointer}/properties")).and_then(Value::as_object);
        found.unwrap_or_else(|| panic!("{pointer}")).keys().cloned().collect()
    };
    assert_eq!(fields_of::<Scenario>(), properties(""));
    assert_eq!(fields_of::<Group>(), properties("/$defs/group"));
    assert_eq!(fields_of::<LinkSpec>(), properties("/$defs/link"));
    assert_eq!(fields_of::<ReleaseSpec>(), properties("/$defs/release"));
    assert_eq!(fields_of::<Action>(), properties("/$defs/action"));
    assert_eq!(fields_of::<Fault>(), properties("/$defs/fault"));
    assert_eq!(fields_of::<Carrier>(), properties("/$defs/carrier"));
    assert_eq!(fields_of::<Expectation>(), properties("/$defs/expect"));
}

#[test]
fn the_schema_names_exactly_the_kinds_that_the_reader_takes() {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    for (pointer, template) in [
        ("/$defs/fault/properties/kind/enum", "kind = \"KIND\"\nper_day = 1.0"),
        ("/$defs/action/properties/act/enum", "act = \"KIND\"\nat = \"1s\""),
    ] {
        let kinds = schema.pointer(pointer).and_then(Value::as_array).unwrap();
        for kind in kinds {
            let text = template.replace("KIND", kind.as_str().unwrap());
            let read = toml::from_str::<Fault>(&text).is_ok() || toml::from_str::<Action>(&text).is_ok();
            assert!(read, "{text}");
        }
    }
    let refused = toml::from_str::<Fault>("kind = \"other\"\nper_day = 1.0").unwrap_err();
    let listed = refused.message().split('`').skip(3).step_by(2).count();
    let known = schema.pointer("/$defs/fault/properties/kind/enum").and_then(Value::as_array).unwrap();
    assert_eq!(listed, known.len(), "{}", refused.message());
}

#[test]
fn senseless_scenarios_are_refused() {
    let story = "name = \"x\"\nabout = \"y\"\nduration = \"1h\"\n";
    let group = "[[group]]\nname = \"a\"\ncount = 2\n";
    let release = "[[release]]\napp = \"till\"\nversion = \"1.0.0\"\nseq = 1\n";
    let good = format!("{story}{group}{release}");
    assert!(Scenario::parse(&good).is_ok());
    for (what, text) in [
        ("no site", story.to_owned()),
        ("all quiet", format!("name = \"x\"\nabout = \"y\"\nduration = \"1h\"\nquiet = \"1h\"\n{group}")),
        (
            "no such release",
            format!("{good}[[action]]\nat = \"1s\"\nact = \"assign\"\napp = \"till\"\nversion = \"2.0.0\"\n"),
        ),
        ("no app", format!("{good}[[action]]\nat = \"1s\"\nact = \"assign\"\n")),
        (
            "retired version",
            format!("{good}[[action]]\nat = \"1s\"\nact = \"retire\"\napp = \"till\"\nversion = \"1.0.0\"\n"),
        ),
        (
            "no selector",
            format!("{good}[[action]]\nat = \"1s\"\nact = \"retire\"\napp = \"till\"\nsites = \"a b\"\n"),
        ),
        ("no rate", format!("{good}[[fault]]\nkind = \"kill\"\nper_day = 0.0\n")),
        ("unknown field", format!("{good}[[fault]]\nkind = \"kill\"\nper_day = 1.0\nalways = true\n")),
        ("unknown expectation", format!("{good}[[expect]]\napp = \"till\"\nrunning = \"9.0.0\"\n")),
    ] {
        assert!(Scenario::parse(&text).is_err(), "{what}");
    }
}

#[test]
fn fewer_sites_keep_every_group() {
    let chaos = Scenario::find("chaos").unwrap();
    let groups = chaos.group.len();
    let small = chaos.with_sites(10);
    assert_eq!(small.group.len(), groups);
    assert!(small.group.iter().all(|group| group.count >= 1));
    assert_eq!(small.sites(), 5 + 2 + 1 + 1);
}
