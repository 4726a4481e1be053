//! How objects end: finalizers, namespaces that are stuck in deletion, dependents, and names used again.

use serde_json::json;

use airlift_agent::core::api::ApiErrorClass;
use airlift_agent::ports::cluster::{ApplyRequest, Propagation};

use super::{Bench, OURS, object, request};

const FINALIZER: &str = "contract.example/wait";

pub(super) async fn finalizer(bench: &Bench<'_>) {
    let namespace = bench.namespace("held").await;
    let map = object("v1", "ConfigMap", Some(&namespace), "x");
    let held = json!({"metadata": {"finalizers": [FINALIZER]}});
    let made = bench.ours(&map, held.clone()).await;
    assert!(!bench.find(&map).await.expect("it was just made").terminating);
    // The second deletion meets an object that is going already.
    for _ in 0..2 {
        bench.delete(&map, &made.uid).await;
        let found = bench.find(&map).await.expect("its finalizer holds it");
        assert!(found.terminating && found.uid == made.uid, "{found:?}");
    }
    let changed = bench.ours(&map, json!({"metadata": held["metadata"], "data": {"a": "1"}})).await;
    assert_eq!(changed.uid, made.uid, "what is going may be changed");
    assert!(bench.find(&map).await.is_some_and(|found| found.terminating), "and is not brought back by it");
    bench.ours(&map, json!({})).await;
    bench.until("the object to go", async || bench.find(&map).await.is_none()).await;
    assert_ne!(bench.ours(&map, json!({})).await.uid, made.uid, "a name used again is another object");
}

pub(super) async fn stuck_namespace(bench: &Bench<'_>) {
    let namespace = bench.namespace("stuck").await;
    let place = object("v1", "Namespace", None, &namespace);
    let map = |name: &str| object("v1", "ConfigMap", Some(&namespace), name);
    let (held, plain, new) = (map("held"), map("plain"), map("new"));
    bench.ours(&held, json!({"metadata": {"finalizers": [FINALIZER]}})).await;
    bench.ours(&plain, json!({})).await;
    let uid = bench.find(&place).await.expect("it was just made").uid;
    bench.delete(&place, &uid).await;
    bench.until("what is in it to go", async || bench.find(&plain).await.is_none()).await;
    let found = bench.find(&place).await.expect("what is held in it holds it");
    assert!(found.terminating && found.uid == uid, "{found:?}");
    assert!(bench.find(&held).await.is_some_and(|found| found.terminating));
    for dry_run in [true, false] {
        let request = ApplyRequest { dry_run, ..request(&new, OURS, json!({})) };
        let refusal = bench.cluster.apply(request).await.expect_err("nothing new is let in");
        assert_eq!(refusal.class, ApiErrorClass::Retryable, "{refusal}");
    }
    assert_eq!(bench.ours(&place, json!({})).await.uid, uid, "an apply does not bring it back");
    bench.ours(&held, json!({})).await;
    bench.until("the namespace to go", async || bench.find(&place).await.is_none()).await;
    assert_ne!(bench.ours(&place, json!({})).await.uid, uid);
    bench.ours(&new, json!({})).await;
}

pub(super) async fn dependents(bench: &Bench<'_>) {
    let namespace = bench.namespace("family").await;
    let map = |name: &str| object("v1", "ConfigMap", Some(&namespace), name);
    for (how, goes) in [(Propagation::Background, true), (Propagation::Orphan, false)] {
        let (owner, dependent) = (map("owner"), map(if goes { "dependent" } else { "orphan" }));
        let uid = bench.ours(&owner, json!({})).await.uid;
        let reference = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid.0});
        bench.ours(&dependent, json!({"metadata": {"ownerReferences": [reference]}})).await;
        bench.cluster.delete(&owner, &uid, how).await.expect("the owner is ours");
        bench.until("the owner to go", async || bench.find(&owner).await.is_none()).await;
        if goes {
            bench.until("its dependent to go", async || bench.find(&dependent).await.is_none()).await;
        } else {
            assert!(bench.find(&dependent).await.is_some_and(|found| !found.terminating));
        }
    }
}
