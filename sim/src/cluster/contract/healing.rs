//! The pods of a workload: whose they are, of which revision, and that one can be deleted alone.

use airlift_agent::core::api::PodFound;
use airlift_agent::core::object::{ObjectRef, Uid, Verdict};
use serde_json::json;

use super::{Bench, deployment, object};

pub(super) async fn pods(bench: &Bench<'_>) {
    if !bench.has_pods {
        return;
    }
    let namespace = bench.namespace("heal").await;
    let set = object("apps/v1", "StatefulSet", Some(&namespace), "db");
    let body = |image: &str| {
        let mut body = deployment(1);
        body["spec"]["serviceName"] = json!("db");
        body["spec"]["template"]["spec"]["containers"][0]["image"] = json!(image);
        body
    };
    bench.ours(&set, body("airlift.test/nowhere:1")).await;
    bench.until_health(&set, Verdict::Stuck).await;
    let first = only_pod(bench, &set).await.expect("it has its one pod");
    assert_eq!((first.name.as_str(), first.ready), ("db-0", false));
    assert!(!first.outdated && !first.terminating, "{first:?}");

    // Its controller does not replace what never became ready, whatever is applied.
    bench.ours(&set, body("airlift.test/nowhere:2")).await;
    let outdated = async || only_pod(bench, &set).await.is_some_and(|pod| pod.outdated);
    bench.until("the pod to be outdated", outdated).await;
    for _ in 0..10 {
        (bench.pause)().await;
    }
    let pod = object("v1", "Pod", Some(&namespace), "db-0");
    let stranger = Uid("00000000-dead-4000-8000-000000000000".into());
    bench.cluster.delete_pod(&pod, &stranger, false).await.expect("that one is not there");
    let left = only_pod(bench, &set).await.expect("it is left alone");
    assert!(left.uid == first.uid && left.outdated && !left.terminating, "{left:?}");
    bench.cluster.delete_pod(&pod, &first.uid, false).await.expect("this one is");
    bench
        .until("its successor of the new revision", async || {
            only_pod(bench, &set).await.is_some_and(|pod| pod.uid != first.uid && !pod.outdated)
        })
        .await;
}

async fn only_pod(bench: &Bench<'_>, set: &ObjectRef) -> Option<PodFound> {
    let mut pods = bench.cluster.pods(set).await.unwrap_or_else(|error| panic!("pods of {set}: {error}"));
    assert!(pods.len() <= 1, "{pods:?}");
    pods.pop()
}
