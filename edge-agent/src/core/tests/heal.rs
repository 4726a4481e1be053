//! Which pod goes next: one at a time, and only those that their controllers leave as they are.

use super::*;

fn pod(name: &str, node: &str, ready: bool, outdated: bool) -> PodFound {
    let (uid, node) = (Uid(format!("uid {name}")), Some(node.to_owned()));
    PodFound { name: name.to_owned(), uid, node, ready, outdated, terminating: false }
}

fn nodes(ready: &[&str], gone: &[&str]) -> Nodes {
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Nodes { ready: set(ready), gone: set(gone) }
}

/// The choice at a second look, when all that is not ready has been so for long.
fn chosen(kind: Kind, pods: &[PodFound], nodes: &Nodes) -> Option<(String, bool)> {
    let unready = pods.iter().map(|pod| (pod.uid.clone(), 0)).collect();
    let mut ward = Ward { unready, ..Ward::default() };
    ward.choose(kind, pods, nodes, UNREADY_MS).map(|cure| (cure.pod.name, cure.force))
}

fn replace(name: &str) -> Option<(String, bool)> {
    Some((name.to_owned(), false))
}

#[test]
fn the_highest_unready_pod_of_another_revision_goes_first() {
    let ill = |name| pod(name, "n1", false, true);
    let pods = [ill("db-2"), ill("db-10"), pod("db-11", "n1", false, false), pod("db-12", "n1", true, true)];
    assert_eq!(chosen(Kind::StatefulSet, &pods, &nodes(&["n1"], &[])), replace("db-10"));
}

#[test]
fn a_stateful_set_is_left_alone_while_one_of_its_pods_goes() {
    let going = PodFound { terminating: true, ..pod("db-1", "n1", false, true) };
    let pods = [pod("db-0", "n1", false, true), going];
    assert_eq!(chosen(Kind::StatefulSet, &pods, &nodes(&["n1"], &[])), None);
}

#[test]
fn pods_on_nodes_that_are_away_are_not_deleted_without_force_and_a_stateful_sets_never_with_it() {
    let going = PodFound { terminating: true, ..pod("db-1", "n2", false, true) };
    let pods = [pod("db-0", "n2", false, true), going];
    assert_eq!(chosen(Kind::StatefulSet, &pods, &nodes(&["n1"], &["n2"])), None);
}

#[test]
fn a_pod_that_is_not_ready_for_a_moment_is_left_alone() {
    let pods = [pod("db-0", "n1", false, true)];
    let (mut ward, nodes) = (Ward::default(), nodes(&["n1"], &[]));
    assert_eq!(ward.choose(Kind::StatefulSet, &pods, &nodes, 1_000), None);
    let other = [pod("db-0", "n1", true, true)];
    assert_eq!(ward.choose(Kind::StatefulSet, &other, &nodes, 4_000), None);
    assert_eq!(ward.choose(Kind::StatefulSet, &pods, &nodes, 7_000), None, "it was ready in between");
    assert!(ward.choose(Kind::StatefulSet, &pods, &nodes, 12_000).is_some());
}

#[test]
fn the_next_pod_waits_until_the_one_before_is_gone() {
    let mut pods = vec![pod("db-0", "n1", false, true), pod("db-1", "n1", false, true)];
    let nodes = nodes(&["n1"], &[]);
    let unready = pods.iter().map(|pod| (pod.uid.clone(), 0)).collect();
    let mut ward = Ward { unready, ..Ward::default() };
    assert_eq!(ward.choose(Kind::StatefulSet, &pods, &nodes, 9_000).unwrap().pod.name, "db-1");
    assert_eq!(ward.choose(Kind::StatefulSet, &pods, &nodes, 11_000), None);
    pods.pop();
    assert_eq!(ward.choose(Kind::StatefulSet, &pods, &nodes, 13_000).unwrap().pod.name, "db-0");
}

#[test]
fn a_daemon_set_that_its_controller_can_roll_is_left_to_it() {
    let pods = [pod("a", "n1", true, true), pod("b", "n2", true, true)];
    assert_eq!(chosen(Kind::DaemonSet, &pods, &nodes(&["n1", "n2"], &[])), None);
}

#[test]
fn with_a_dead_node_the_others_get_their_new_pods_one_after_another() {
    let dead = || PodFound { terminating: true, ..pod("c", "n3", false, true) };
    let ready = nodes(&["n1", "n2"], &[]);
    let pods = [pod("a", "n1", true, true), pod("b", "n2", true, true), dead()];
    assert_eq!(chosen(Kind::DaemonSet, &pods, &ready), replace("a"));
    let pods = [pod("a2", "n1", false, false), pod("b", "n2", true, true), dead()];
    assert_eq!(chosen(Kind::DaemonSet, &pods, &ready), None, "the new one is not ready yet");
    let pods = [pod("a2", "n1", true, false), pod("b", "n2", true, true), dead()];
    assert_eq!(chosen(Kind::DaemonSet, &pods, &ready), replace("b"));
    let pods = [pod("a2", "n1", true, false), pod("b2", "n2", true, false), dead()];
    assert_eq!(chosen(Kind::DaemonSet, &pods, &ready), None);
}

#[test]
fn a_daemon_sets_next_pod_waits_until_the_node_of_the_one_before_has_another() {
    let dead = || pod("c", "n3", false, true);
    let nodes = nodes(&["n1", "n2"], &[]);
    let mut ward = Ward::default();
    let pods = [pod("a", "n1", true, true), pod("b", "n2", true, true), dead()];
    assert_eq!(ward.choose(Kind::DaemonSet, &pods, &nodes, 0).unwrap().pod.name, "a");
    assert_eq!(ward.choose(Kind::DaemonSet, &pods[1..], &nodes, 2_000), None);
    let pods = [pod("a2", "n1", true, false), pod("b", "n2", true, true), dead()];
    assert_eq!(ward.choose(Kind::DaemonSet, &pods, &nodes, 4_000).unwrap().pod.name, "b");
}

#[test]
fn a_pod_stuck_on_a_node_that_is_gone_is_deleted_by_force() {
    let stuck = PodFound { terminating: true, ..pod("c", "n3", false, true) };
    let pods = [pod("a", "n1", true, false), stuck];
    assert_eq!(chosen(Kind::DaemonSet, &pods, &nodes(&["n1"], &[])), None, "not gone for long");
    assert_eq!(chosen(Kind::DaemonSet, &pods, &nodes(&["n1"], &["n3"])), Some(("c".to_owned(), true)));
}
