use serde::Deserialize;
use serde_json::json;

use super::*;

/// One row's example: what the API server refuses, and in which direction.
#[derive(Deserialize)]
struct Example {
    kind: String,
    field: String,
    blocked: String,
    before: Value,
    after: Value,
}

fn examples() -> Vec<Example> {
    serde_json::from_str(include_str!("../../tests/data/reversal.json")).unwrap()
}

fn descriptor(recreate: &[&str], ignore: Value) -> AppDescriptor {
    serde_json::from_value(json!({
        "app": "shop", "version": "1", "timeout_s": 60, "soak_s": 1, "objects": 1,
        "recreate": recreate, "ignore": ignore,
    }))
    .unwrap()
}

fn compare(recreate: &[&str], before: &Value, after: &Value) -> (Comparison, bool) {
    compare_stored(recreate, before, after, &[])
}

fn compare_stored(recreate: &[&str], before: &Value, after: &Value, stored: &[&str]) -> (Comparison, bool) {
    let id = ObjectId::of(after).unwrap();
    let mut comparison = Comparison::new(&descriptor(&[], json!([])), &descriptor(recreate, json!([])));
    let stored = stored.iter().map(|version| (*version).to_owned()).collect();
    let anew = comparison.add(&id, before, after, &stored);
    (comparison, anew)
}

#[test]
fn every_row_has_an_example_that_only_this_row_blocks() {
    for row in TABLE {
        let own = |example: &&Example| {
            example.kind == row.kind
                && (example.field == row.field
                    || example.field.starts_with(&format!("{}/", row.field))
                        && matches!(row.rule, Rule::FixedBut(_) | Rule::PodSpec))
        };
        let examples = examples();
        let mut own = examples.iter().filter(own).peekable();
        assert!(own.peek().is_some(), "{} {} has no example", row.kind, row.field);
    }
    for example in examples() {
        let (comparison, _) = compare(&[], &example.before, &example.after);
        let [reason] = comparison.reasons() else {
            panic!("{} {}: {:?}", example.kind, example.field, comparison.reasons())
        };
        let direction = match (reason.forward, reason.back) {
            (true, true) => "both",
            (true, false) => "forward",
            _ => "back",
        };
        let found = (reason.id.group_kind(), reason.field.as_str(), direction);
        assert_eq!(found, (example.kind.clone(), example.field.as_str(), example.blocked.as_str()));
        assert_eq!(comparison.verdict(), Reversibility::Irreversible);
    }
}

#[test]
fn naming_the_kind_under_recreate_makes_the_change_reversible_that_way() {
    for example in examples() {
        let (comparison, anew) = compare(&[&example.kind], &example.before, &example.after);
        assert_eq!(comparison.verdict(), Reversibility::ByRecreate, "{} {}", example.kind, example.field);
        assert_eq!(anew, example.blocked != "back", "{} {}", example.kind, example.field);
    }
}

#[test]
fn a_rollback_may_recreate_by_the_word_of_the_version_that_it_leaves() {
    let example = examples().into_iter().find(|example| example.kind == "batch/Job").unwrap();
    let (left, back_to) = (descriptor(&["batch/Job"], json!([])), descriptor(&[], json!([])));
    let mut comparison = Comparison::new(&left, &back_to);
    let id = ObjectId::of(&example.after).unwrap();
    assert!(comparison.add(&id, &example.after, &example.before, &BTreeSet::new()));
}

#[test]
fn what_holds_others_things_is_never_created_anew() {
    for (kind, fits) in [
        ("batch/Job", true),
        ("/Pod", true),
        ("Pod", false),
        ("/Namespace", false),
        ("apiextensions.k8s.io/CustomResourceDefinition", false),
    ] {
        assert_eq!(descriptor(&[kind], json!([])).check().is_ok(), fits, "{kind}");
    }
}

#[test]
fn the_same_content_and_free_fields_block_nothing() {
    for example in examples() {
        let mut noted = example.before.clone();
        noted["metadata"]["annotations"] = json!({"note": "x"});
        let (comparison, _) = compare(&[], &example.before, &noted);
        assert_eq!(comparison.verdict(), Reversibility::Reversible, "{} {}", example.kind, example.field);
    }
    let deployment = |image: &str| {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {"spec": {"containers": [{"image": image}]}}}})
    };
    assert_eq!(compare(&[], &deployment("a:1"), &deployment("a:2")).0.verdict(), Reversibility::Reversible);
    let pod = |image: &str| {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"containers": [{"name": "a", "image": image}]}})
    };
    assert_eq!(compare(&[], &pod("a:1"), &pod("a:2")).0.verdict(), Reversibility::Reversible);
}

#[test]
fn a_value_that_is_written_out_equals_its_default() {
    let claims = |text: &str| {
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x", "namespace": "shop"},
            "type": serde_json::from_str::<Value>(text).unwrap()})
    };
    assert_eq!(compare(&[], &claims("null"), &claims("\"Opaque\"")).0.verdict(), Reversibility::Reversible);
}

#[test]
fn a_claim_may_grow_but_not_come_back() {
    let claim = |size: &str| {
        json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "x", "namespace": "shop"},
            "spec": {"resources": {"requests": {"storage": size}}}})
    };
    let (comparison, _) = compare(&[], &claim("1Gi"), &claim("2Gi"));
    let [reason] = comparison.reasons() else { panic!("{:?}", comparison.reasons()) };
    assert_eq!((reason.forward, reason.back), (false, true));
    assert_eq!(compare(&[], &claim("1Gi"), &claim("1024Mi")).0.verdict(), Reversibility::Reversible);
}

#[test]
fn a_service_may_become_a_name_and_stay_without_an_address() {
    let service = |spec: Value| json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x", "namespace": "shop"}, "spec": spec});
    let named = service(json!({"type": "ExternalName", "externalName": "a.example"}));
    let headless = service(json!({"clusterIP": "None"}));
    assert_eq!(compare(&[], &headless, &named).0.verdict(), Reversibility::Reversible);
    let (plain, empty) = (service(json!({})), service(json!({"clusterIP": ""})));
    assert_eq!(compare(&[], &plain, &empty).0.verdict(), Reversibility::Reversible);
}

#[test]
fn versions_that_only_the_cluster_knows_to_be_stored_block_too() {
    let definition = |versions: &[&str], storage: &str| {
        let versions: Vec<Value> = versions
            .iter()
            .map(|name| json!({"name": name, "served": true, "storage": *name == storage}))
            .collect();
        json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "x"}, "spec": {"versions": versions}})
    };
    let (both, new) = (definition(&["v1", "v2"], "v2"), definition(&["v2"], "v2"));
    assert_eq!(compare(&[], &both, &new).0.verdict(), Reversibility::Reversible);
    let (comparison, _) = compare_stored(&[], &both, &new, &["v1", "v2"]);
    assert_eq!(comparison.verdict(), Reversibility::Irreversible);
}

#[test]
fn fields_that_the_app_leaves_to_others_are_not_compared() {
    let example = examples().into_iter().find(|example| example.field == "/spec/clusterIP").unwrap();
    let ignore = json!([{"apiVersion": "v1", "kind": "Service", "namespace": "reversal", "name": "addressed",
        "pointers": ["/spec/clusterIP"]}]);
    let mut comparison = Comparison::new(&descriptor(&[], json!([])), &descriptor(&[], ignore));
    let id = ObjectId::of(&example.after).unwrap();
    comparison.add(&id, &example.before, &example.after, &BTreeSet::new());
    assert_eq!(comparison.verdict(), Reversibility::Reversible);
}

#[test]
fn reasons_are_bounded_and_counted() {
    let binding = |number: usize, role: &str| {
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": format!("b{number}"), "namespace": "shop"}, "roleRef": {"name": role}})
    };
    let mut comparison = Comparison::new(&descriptor(&[], json!([])), &descriptor(&[], json!([])));
    for number in 0..50 {
        let after = binding(number, "edit");
        comparison.add(&ObjectId::of(&after).unwrap(), &binding(number, "view"), &after, &BTreeSet::new());
    }
    assert_eq!((comparison.reasons().len(), comparison.further()), (20, 30));
}
