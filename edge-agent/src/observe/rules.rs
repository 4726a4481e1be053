//! Health rules of the app descriptor: what a live object must say besides what its kind says.

use airlift_bundles::document::release::Scalar;
use airlift_bundles::layout::app::{HealthOp, HealthRule};
use serde_json::Value;

use super::judge::{Judgement, text};

/// Judges a live object by rules that speak of it: the first one that does not hold says what it waits for.
#[must_use]
pub fn judge_rules(object: &Value, rules: &[HealthRule]) -> Judgement {
    let broken = rules.iter().find(|rule| !holds(object, rule));
    broken.map_or_else(Judgement::current, |rule| Judgement::progressing(words(object, rule)))
}

fn holds(object: &Value, rule: &HealthRule) -> bool {
    let pointer = rule.pointer.as_deref();
    let live = pointer.and_then(|pointer| object.pointer(pointer)).filter(|live| !live.is_null());
    match (rule.op, &rule.value) {
        (HealthOp::Exists, _) => live.is_some(),
        (HealthOp::Condition, Some(Scalar::String(name))) => {
            let all = object.pointer(pointer.unwrap_or("/status/conditions")).and_then(Value::as_array);
            let mut named = all.into_iter().flatten().filter(|condition| text(condition, "/type") == name);
            named.any(|condition| text(condition, "/status") == "True")
        }
        (HealthOp::Ge, Some(Scalar::Integer(least))) => {
            live.and_then(Value::as_i64).is_some_and(|number| number >= *least)
        }
        (HealthOp::Eq, Some(value)) => live == Some(&Value::from(value.clone())),
        (HealthOp::Ne, Some(value)) => live.is_some_and(|live| *live != Value::from(value.clone())),
        // Any other shape is refused when the descriptor is read.
        _ => false,
    }
}

fn words(object: &Value, rule: &HealthRule) -> String {
    let pointer = rule.pointer.as_deref().unwrap_or("/status/conditions");
    let value = rule.value.as_ref().map(ToString::to_string).unwrap_or_default();
    match rule.op {
        HealthOp::Condition => format!("condition {value} is not True"),
        HealthOp::Exists => format!("{pointer} is not there"),
        op => {
            let wanted = match op {
                HealthOp::Ge => "at least",
                HealthOp::Ne => "other than",
                _ => "",
            };
            let live = object.pointer(pointer).map_or("nothing".to_owned(), ToString::to_string);
            let wanted = format!("{wanted} {value}");
            format!("{pointer} is {live} instead of {}", wanted.trim_start())
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::core::object::Verdict;

    fn rule(pointer: Option<&str>, op: &str, value: Option<Value>) -> HealthRule {
        let mut rule = json!({"apiVersion": "x.io/v1", "kind": "Thing", "name": "a", "op": op});
        if let Some(pointer) = pointer {
            rule["pointer"] = json!(pointer);
        }
        if let Some(value) = value {
            rule["value"] = value;
        }
        serde_json::from_value(rule).expect("a rule")
    }

    fn judged(rule: HealthRule) -> Judgement {
        let object = json!({"status": {"phase": "Running", "members": 3, "ready": true,
            "conditions": [{"type": "Synced", "status": "True"}, {"type": "Safe", "status": "False"}]}});
        judge_rules(&object, &[rule])
    }

    #[test]
    fn each_operation_holds_and_breaks() {
        let cases = [
            (Some("/status/phase"), "eq", Some(json!("Running")), Some(json!("Done"))),
            (Some("/status/ready"), "eq", Some(json!(true)), Some(json!(false))),
            (Some("/status/phase"), "ne", Some(json!("Failed")), Some(json!("Running"))),
            (Some("/status/members"), "ge", Some(json!(3)), Some(json!(4))),
            (None, "condition", Some(json!("Synced")), Some(json!("Safe"))),
        ];
        for (pointer, op, good, bad) in cases {
            assert_eq!(judged(rule(pointer, op, good)), Judgement::current(), "{op}");
            assert_eq!(judged(rule(pointer, op, bad)).verdict, Verdict::Progressing, "{op}");
        }
        assert_eq!(judged(rule(Some("/status/phase"), "exists", None)), Judgement::current());
        assert_eq!(judged(rule(Some("/status/nothing"), "exists", None)).verdict, Verdict::Progressing);
    }

    #[test]
    fn a_value_that_is_not_there_is_not_other_than_the_named_one() {
        let judgement = judged(rule(Some("/status/nothing"), "ne", Some(json!("Failed"))));
        assert_eq!(judgement.reason, "/status/nothing is nothing instead of other than Failed");
    }
}
