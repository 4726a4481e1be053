use super::*;
use airlift_bundles::document::root::{AppFloor, RevokedRelease};

fn root() -> Root {
    let json = r#"{"fleet_id":"fleet","version":1,"keys":{},"issued_at":"2026-01-01T00:00:00Z",
        "roles":{"root":{"keyids":[],"threshold":1},"releases":[],
                 "director":{"keyids":[],"threshold":1,"epoch":0}}}"#;
    serde_json::from_str(json).unwrap()
}

fn order(app: &str, seq: u64) -> AssignOrder {
    let release = format!(
        r#"{{"fleet_id":"fleet","app":"{app}","epoch":0,"seq":{seq},"version":"{seq}.0","sizes":
        {{"packed":1,"unpacked":1,"files":1}},"overlays":["east","west"],"issued_at":"2026-01-01T00:00:00Z",
        "parameters":{{"replicas":{{"type":"integer","min":1,"max":5,"targets":[{{"apiVersion":"apps/v1",
        "kind":"Deployment","namespace":"web","name":"web","pointer":"/spec/replicas"}}]}}}}}}"#
    );
    AssignOrder {
        sha256: Sha256Digest::of(release.as_bytes()),
        release: serde_json::from_str(&release).unwrap(),
        parameters: BTreeMap::new(),
        overlays: vec![],
        retry: false,
    }
}

fn code(order: &AssignOrder, root: &Root) -> Option<Code> {
    order.check(root).err().map(|refused| refused.code)
}

#[test]
fn an_order_that_every_site_would_refuse_is_refused_here() {
    let good = order("web", 3);
    assert_eq!(code(&good, &root()), None);
    let app = good.release.app.clone();

    let mut raised = root();
    raised.apps.insert(app.clone(), AppFloor { epoch: 0, min_seq: 4 });
    assert_eq!(code(&good, &raised), Some(Code::ReleaseBelowFloor));
    raised.apps.insert(app, AppFloor { epoch: 1, min_seq: 0 });
    assert_eq!(code(&good, &raised), Some(Code::ReleaseEpochOther));

    let mut revoked = root();
    let action = RevokeAction::Block;
    revoked.revoked.releases.push(RevokedRelease { sha256: good.sha256, action });
    assert_eq!(code(&good, &revoked), Some(Code::ReleaseRevoked));
}

#[test]
fn parameters_and_overlays_stay_within_what_the_release_declares() {
    let name = |text: &str| Name::new(text).unwrap();
    let set = |key: &str, value: i64| AssignOrder {
        parameters: BTreeMap::from([(name(key), Scalar::Integer(value))]),
        ..order("web", 1)
    };
    assert_eq!(code(&set("replicas", 5), &root()), None);
    assert_eq!(code(&set("replicas", 6), &root()), Some(Code::ParameterOutside));
    assert_eq!(code(&set("image", 1), &root()), Some(Code::ParameterUndeclared));

    let lay = |overlays: &[&str]| AssignOrder {
        overlays: overlays.iter().map(|overlay| name(overlay)).collect(),
        ..order("web", 1)
    };
    assert_eq!(code(&lay(&["west", "east"]), &root()), None);
    assert_eq!(code(&lay(&["north"]), &root()), Some(Code::OverlayUnknown));
    assert_eq!(code(&lay(&["east", "east"]), &root()), Some(Code::OverlayUnknown));
}

#[test]
fn the_same_order_again_changes_nothing_unless_it_asks_to_retry() {
    let first = order("web", 1).apply(None).unwrap();
    assert_eq!(order("web", 1).apply(Some(&first)), None);
    let again = AssignOrder { retry: true, ..order("web", 1) }.apply(Some(&first)).unwrap();
    assert_eq!((again.retry, again.generation()), (1, first.generation()));
    let next = order("web", 2).apply(Some(&again)).unwrap();
    assert_eq!((next.seq, next.retry), (2, 1), "the retry number never falls");
}

#[test]
fn a_required_app_must_be_assigned_and_new_enough() {
    let (web, db) = (order("web", 1).apply(None).unwrap(), order("db", 2).apply(None).unwrap());
    let needs =
        |min_seq| BTreeMap::from([(web.app.clone(), vec![Requirement { app: db.app.clone(), min_seq }])]);
    let alone = BTreeMap::from([(web.app.clone(), web.clone())]);
    assert_eq!(check_requires(&alone, &needs(1)).unwrap_err().code, Code::RequiresMissing);
    let both = BTreeMap::from([(web.app.clone(), web.clone()), (db.app.clone(), db.clone())]);
    assert_eq!(check_requires(&both, &needs(2)), Ok(()));
    assert_eq!(check_requires(&both, &needs(3)).unwrap_err().code, Code::RequiresMissing);
    let without = BTreeMap::from([(db.app.clone(), db.clone())]);
    assert_eq!(check_requires(&without, &needs(9)), Ok(()), "an app that left requires nothing");
}
