//! Every row of the health table in the agent's `DESIGN.md`, read from a real API server by the product's own path.

use std::collections::BTreeSet;
use std::time::Duration;

use airlift_agent::apply::KubeCluster;
use airlift_agent::core::object::{Health, ObjectRef, Uid, Verdict};
use airlift_agent::ports::cluster::{ApplyRequest, Cluster as _, Propagation};
use airlift_sim::cluster::contract;
use airlift_tests::api_server::api_server;
use airlift_tests::cluster::Cluster;
use airlift_tests::say;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::health_rows::{AWAY, Case, HERE, Presence, UID_OF_FIRST, cases, definition_of};
use super::objects::reference;
use crate::inside::inside;

const DESIGN: &str = include_str!("../../../edge-agent/DESIGN.md");
/// What the API server's own controllers may take; all else is there at once.
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn every_cell_of_the_health_table_has_a_case() {
    let cells = cells(DESIGN);
    assert!(cells.len() > 40, "the table was not found: {cells:?}");
    let cases: BTreeSet<(String, Verdict)> =
        cases().iter().map(|case| (case.row.to_owned(), case.verdict)).collect();
    let untested: Vec<_> = cells.difference(&cases).collect();
    assert!(untested.is_empty(), "cells without a case: {untested:?}");
    let invented: Vec<_> = cases.difference(&cells).collect();
    assert!(invented.is_empty(), "cases without a cell: {invented:?}");
}

#[test]
fn every_row_of_the_health_table_holds_on_a_real_api_server() {
    let cluster = api_server();
    let kubeconfig = cluster.kubeconfig().to_owned();
    let (mut with_nodes, mut without) = (Vec::new(), Vec::new());
    for (number, case) in cases().into_iter().enumerate() {
        let cases = if case.without_nodes { &mut without } else { &mut with_nodes };
        cases.push((format!("row-{number}"), case));
    }
    set_nodes(cluster, true);
    let (path, cases) = (kubeconfig.clone(), with_nodes);
    inside(cluster, move || judge_all(KubeCluster::new(&path), cases));
    // A new connection has not looked at the nodes yet.
    set_nodes(cluster, false);
    inside(cluster, move || judge_all(KubeCluster::new(&kubeconfig), without));
}

/// The table's filled cells, as row and verdict.
fn cells(design: &str) -> BTreeSet<(String, Verdict)> {
    let table = design.split("## Health table").nth(1).unwrap_or_default();
    let rows = table.lines().skip_while(|line| !line.starts_with("|---")).skip(1);
    let mut above = [""; 5];
    let mut cells = BTreeSet::new();
    for row in rows.take_while(|line| line.starts_with('|')) {
        let row: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let filled = |column: usize| match row[column] {
            "as above" => above[column],
            own => own,
        };
        let row: Vec<&str> = (0..5).map(filled).collect();
        let mut put = |verdict| cells.insert((row[0].to_owned(), verdict));
        let columns = [Verdict::Current, Verdict::Progressing, Verdict::Stuck];
        for (column, verdict) in columns.into_iter().enumerate() {
            if !row[column + 1].is_empty() {
                put(verdict);
            }
        }
        let last =
            [("failed", Verdict::Failed), ("unknown", Verdict::Unknown), ("missing", Verdict::Missing)];
        let told: Vec<_> = last.into_iter().filter(|(word, _)| row[4].contains(word)).collect();
        assert_eq!(told.is_empty(), row[4].is_empty(), "{row:?}");
        for (_, verdict) in told {
            put(verdict);
        }
        for (above, cell) in above.iter_mut().zip(row) {
            if !cell.is_empty() {
                *above = cell;
            }
        }
    }
    cells
}

async fn judge_all(cluster: KubeCluster, cases: Vec<(String, Case)>) {
    prepare(&cluster).await;
    let mut statuses = Vec::new();
    for (name, case) in &cases {
        apply(&cluster, &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})).await;
        let given = usize::from(!matches!(case.presence, Presence::Early | Presence::Going));
        let mut first = None;
        for object in &case.objects[given..] {
            let text = object.to_string().replace(UID_OF_FIRST, first.as_deref().unwrap_or_default());
            let object: Value = serde_json::from_str(&text).unwrap();
            let mut object = placed(&cluster, &object, name).await;
            let status = object.as_object_mut().unwrap().remove("status");
            let uid = apply(&cluster, &object).await;
            first.get_or_insert(uid);
            if let Some(status) = status {
                let metadata = &object["metadata"];
                let metadata = json!({"name": metadata["name"], "namespace": metadata["namespace"]});
                statuses.push(json!({"apiVersion": object["apiVersion"], "kind": object["kind"],
                    "metadata": metadata, "status": status}));
            }
        }
    }
    put_statuses(api_server(), &statuses);
    let mut wrong = Vec::new();
    for (name, case) in &cases {
        let object = placed(&cluster, &case.objects[0], name).await;
        if case.presence == Presence::Fresh {
            apply(&cluster, &object).await;
        }
        let object = reference(&object);
        if case.presence == Presence::Going {
            let live = cluster.get(&object).await.unwrap();
            let uid = Uid(live["metadata"]["uid"].as_str().unwrap().to_owned());
            cluster.delete(&object, &uid, Propagation::Background).await.unwrap();
        }
        say(&format!("{name}: {} is {:?}: {}", case.row, case.verdict, case.words));
        if let Err(health) = judged(&cluster, &object, case).await {
            wrong.push(format!("{name}: {}: {:?} expected of {object}: {health:?}", case.row, case.verdict));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Makes what several cases need: a kind with a status, and two storage classes.
async fn prepare(cluster: &KubeCluster) {
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.rows.example"}, "spec": definition_of("things", "Thing")});
    apply(cluster, &definition).await;
    for (name, mode) in [("rows-at-once", "Immediate"), ("rows-at-use", "WaitForFirstConsumer")] {
        let class = json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
            "metadata": {"name": name}, "provisioner": "rows.example/none", "volumeBindingMode": mode});
        apply(cluster, &class).await;
    }
    let established = async {
        let definition = reference(&definition);
        let current = async || {
            cluster.health(&contract::generation(), &definition).await.unwrap().verdict == Verdict::Current
        };
        while !current().await {
            sleep(Duration::from_millis(300)).await;
        }
    };
    tokio::time::timeout(PATIENCE, established).await.expect("the definition is established");
}

/// Reads the health until it is as expected, or answers with what it was.
async fn judged(cluster: &KubeCluster, object: &ObjectRef, case: &Case) -> Result<(), Health> {
    let start = Instant::now();
    loop {
        let health = cluster.health(&contract::generation(), object).await.unwrap();
        let words = match case.words {
            "" => health.reason.is_empty(),
            words => health.reason.contains(words),
        };
        // What is not as desired says why, for people and for receipts.
        let told = match health.verdict {
            Verdict::Current => health.evidence.is_empty(),
            Verdict::Missing => true,
            _ => health.evidence.iter().any(|item| item.message.contains(case.words)),
        };
        if health.verdict == case.verdict && words && told {
            return Ok(());
        }
        if start.elapsed() > PATIENCE {
            return Err(health);
        }
        sleep(Duration::from_millis(200)).await;
    }
}

/// The object in the case's namespace, where its kind has one.
async fn placed(cluster: &KubeCluster, object: &Value, namespace: &str) -> Value {
    let mut object = object.clone();
    let gvk = reference(&object).gvk;
    if cluster.resolve(&gvk).await.unwrap().namespaced {
        object["metadata"]["namespace"] = json!(namespace);
    }
    object
}

/// Makes an object or changes it, and gives its UID.
async fn apply(cluster: &KubeCluster, body: &Value) -> String {
    let (object, body) = (reference(body), body.clone());
    let what = object.to_string();
    let field_manager = "rows".to_owned();
    let request = ApplyRequest { object, body, field_manager, force: true, dry_run: false, uid: None };
    cluster.apply(request).await.unwrap_or_else(|error| panic!("{what}: {error}")).uid.0
}

/// Makes or changes the two nodes: one is Ready where there are nodes at all, the other never is.
fn set_nodes(cluster: &Cluster, ready: bool) {
    let node = |name: &str, ready: bool| {
        let ready = if ready { "True" } else { "False" };
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name},
            "status": {"conditions": [{"type": "Ready", "status": ready}]}})
    };
    let nodes = [node(HERE, ready), node(AWAY, false)];
    let _ = cluster.kubectl(&["apply", "--server-side", "--validate=false", "-f", &write(cluster, &nodes)]);
    put_statuses(cluster, &nodes);
}

/// Writes statuses as controllers and kubelets do.
fn put_statuses(cluster: &Cluster, statuses: &[Value]) {
    let file = write(cluster, statuses);
    let _ = cluster.kubectl(&[
        "apply",
        "--server-side",
        "--subresource=status",
        "--validate=false",
        "--force-conflicts",
        "-f",
        &file,
    ]);
}

fn write(cluster: &Cluster, objects: &[Value]) -> String {
    let file = cluster.bed().dir().join("objects.json");
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    std::fs::write(&file, list.to_string()).unwrap();
    file.display().to_string()
}
