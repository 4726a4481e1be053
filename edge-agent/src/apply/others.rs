//! What in a listing is not an app's own: neither in its inventory, nor owned by what is, nor made by the cluster
//! itself.

use std::collections::BTreeSet;

use crate::core::object::Uid;

/// Names that are told; more are counted.
const NAMES_MAX: usize = 20;

/// One object, by what decides whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    /// `group/Kind`.
    pub kind: String,
    /// Its namespace.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// Its identity; empty for what is not stored.
    pub uid: Uid,
    /// What it goes with.
    pub owners: Vec<Owner>,
    /// It is going.
    pub terminating: bool,
}

/// What an object goes with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// `group/Kind`.
    pub kind: String,
    /// Its identity.
    pub uid: Uid,
}

/// The holdings that are others'. `claims` says that claims of StatefulSets of ours count as ours.
#[must_use]
pub fn of_others<'h>(holdings: &'h [Holding], ours: &BTreeSet<Uid>, claims: bool) -> Vec<&'h Holding> {
    let mut known: BTreeSet<&Uid> = ours.iter().collect();
    loop {
        let before = known.len();
        let owned = holdings.iter().filter(|held| held.owners.iter().any(|owner| known.contains(&owner.uid)));
        let owned: Vec<&Uid> = owned.map(|held| &held.uid).collect();
        known.extend(owned);
        if known.len() == before {
            break;
        }
    }
    let ours_of = |kind: &str| -> Vec<&str> {
        let mine = holdings.iter().filter(|held| held.kind == kind && known.contains(&held.uid));
        mine.map(|held| held.name.as_str()).collect()
    };
    let (services, sets) = (ours_of("/Service"), ours_of("apps/StatefulSet"));
    let kinds: BTreeSet<&str> = holdings.iter().map(|held| held.kind.as_str()).collect();
    let uids: BTreeSet<&Uid> = holdings.iter().map(|held| &held.uid).collect();
    // The garbage collector is on its way to what has lost every owner.
    let is_garbage = |held: &Holding| {
        let lost = |owner: &Owner| kinds.contains(owner.kind.as_str()) && !uids.contains(&owner.uid);
        !held.owners.is_empty() && held.owners.iter().all(lost)
    };
    let is_others = |held: &&Holding| {
        let clusters_own = match (held.kind.as_str(), held.name.as_str()) {
            ("/ServiceAccount", "default") | ("/ConfigMap", "kube-root-ca.crt") => true,
            ("/Event" | "events.k8s.io/Event", _) => true,
            ("/Endpoints", name) => services.contains(&name),
            ("/PersistentVolumeClaim", name) => claims && sets.iter().any(|set| is_claim_of(name, set)),
            _ => held.uid.0.is_empty(),
        };
        !clusters_own && !held.terminating && !known.contains(&held.uid) && !is_garbage(held)
    };
    holdings.iter().filter(is_others).collect()
}

/// Whether a claim has the name that a StatefulSet's controller gives: `<template>-<set>-<number>`.
fn is_claim_of(claim: &str, set: &str) -> bool {
    let Some((rest, number)) = claim.rsplit_once('-') else { return false };
    let template = rest.strip_suffix(set).and_then(|rest| rest.strip_suffix('-'));
    number.bytes().all(|byte| byte.is_ascii_digit()) && template.is_some_and(|template| !template.is_empty())
}

/// Names them for people, the first of them.
#[must_use]
pub fn name_others(others: &[&Holding]) -> Vec<String> {
    let name = |held: &&Holding| {
        let kind = held.kind.rsplit('/').next().unwrap_or_default();
        match &held.namespace {
            Some(namespace) => format!("{kind} {namespace}/{}", held.name),
            None => format!("{kind} {}", held.name),
        }
    };
    let mut names: Vec<String> = others.iter().take(NAMES_MAX).map(name).collect();
    if others.len() > NAMES_MAX {
        names.push(format!("and {} more", others.len() - NAMES_MAX));
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(kind: &str, name: &str, uid: &str, owner: Option<(&str, &str)>) -> Holding {
        let owner = owner.map(|(kind, uid)| Owner { kind: kind.into(), uid: Uid(uid.into()) });
        Holding {
            kind: kind.into(),
            namespace: Some("shop".into()),
            name: name.into(),
            uid: Uid(uid.into()),
            owners: owner.into_iter().collect(),
            terminating: false,
        }
    }

    fn names(holdings: &[Holding], claims: bool) -> Vec<String> {
        let ours = ["web", "db", "front"].map(|uid| Uid(uid.into()));
        name_others(&of_others(holdings, &BTreeSet::from(ours), claims))
    }

    #[test]
    fn the_inventory_and_what_it_owns_at_any_depth_is_ours() {
        let holdings = [
            held("/Pod", "web-1-x", "pod", Some(("apps/ReplicaSet", "set"))),
            held("apps/ReplicaSet", "web-1", "set", Some(("apps/Deployment", "web"))),
            held("apps/Deployment", "web", "web", None),
            held("/Pod", "stranger", "other", None),
        ];
        assert_eq!(names(&holdings, false), ["Pod shop/stranger"]);
    }

    #[test]
    fn what_the_cluster_makes_by_itself_is_nobodys() {
        let holdings = [
            held("/ServiceAccount", "default", "a", None),
            held("/ConfigMap", "kube-root-ca.crt", "b", None),
            held("events.k8s.io/Event", "e", "c", None),
            held("/Service", "front", "front", None),
            held("/Endpoints", "front", "d", None),
            held("metrics.k8s.io/PodMetrics", "p", "", None),
            held("/Endpoints", "other", "f", None),
        ];
        assert_eq!(names(&holdings, false), ["Endpoints shop/other"]);
    }

    #[test]
    fn what_lost_its_owner_or_is_going_already_does_not_count() {
        let mut going = held("/ConfigMap", "going", "a", None);
        going.terminating = true;
        let lost = held("/Pod", "lost", "b", Some(("apps/ReplicaSet", "gone")));
        let set = held("apps/ReplicaSet", "theirs", "c", None);
        let far = held("/Pod", "far", "d", Some(("example.com/Cluster", "unseen")));
        assert_eq!(names(&[going, lost, set, far], false), ["ReplicaSet shop/theirs", "Pod shop/far"]);
    }

    #[test]
    fn claims_of_our_sets_are_ours_only_by_permission() {
        let holdings = [
            held("apps/StatefulSet", "db", "db", None),
            held("/PersistentVolumeClaim", "data-db-0", "a", None),
            held("/PersistentVolumeClaim", "data-db", "b", None),
            held("/PersistentVolumeClaim", "db-0", "c", None),
        ];
        assert_eq!(names(&holdings, false).len(), 3);
        let two = ["PersistentVolumeClaim shop/data-db", "PersistentVolumeClaim shop/db-0"];
        assert_eq!(names(&holdings, true), two);
    }

    #[test]
    fn long_lists_are_cut_and_counted() {
        let many: Vec<Holding> =
            (0..30).map(|number| held("/ConfigMap", "m", &number.to_string(), None)).collect();
        let told = names(&many, false);
        assert_eq!((told.len(), told.last().map(String::as_str)), (21, Some("and 10 more")));
    }
}
