//! Healing: pods that their controllers leave as they are, although a newer revision waits.
//!
//! A StatefulSet goes no further while one of its pods is not ready, so a broken pod of a version that was left is
//! never replaced, whatever is applied. A DaemonSet counts the pod of a dead node against `maxUnavailable`, so its
//! rollout stands still on all other nodes. Both are helped on by deleting one pod at a time. A DaemonSet's pod that
//! is stuck on a node gone for long is deleted by force. Each deletion is evidence before it is asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use airlift_bundles::document::receipt::{Evidence, Outcome};
use airlift_bundles::ids::AppName;
use airlift_bundles::limits::Limits;

use super::api::{ApiCall, ApiError, ApiErrorClass, ApiReply, PodFound};
use super::live::{Deed, Live};
use super::object::{Gvk, ObjectRef, Uid, Verdict};
use super::outbox::Told;
use super::state::Step as AppStep;
use super::{Core, Effect, Turn};

/// Pods of a workload that may need help are listed again after this.
const LOOK_MS: u64 = 2_000;
/// And at rest, where only a dead node gives reason to.
const LOOK_AT_REST_MS: u64 = 60_000;
/// A StatefulSet's pod is replaced when it was not ready for so long: one that only starts again is left alone.
const UNREADY_MS: u64 = 5_000;
/// The next pod of a workload goes when the one before was replaced, or after this.
const REPLACED_MS: u64 = 60_000;
/// A node that was not Ready for so long is gone as far as its DaemonSet pods are concerned.
const NODE_GONE_MS: u64 = 300_000;
/// The evidence of a deletion.
pub(super) const POD_DELETED: &str = "PodDeleted";

/// What is known of a workload's pods.
#[derive(Debug, Default)]
pub(super) struct Ward {
    /// The pods were asked for then.
    looked_at: u64,
    /// Since when each pod was not ready.
    unready: BTreeMap<Uid, u64>,
    /// The pod that was deleted last, and when.
    treated: Option<(PodFound, u64)>,
    /// At rest: deletions that were told.
    told: BTreeSet<Uid>,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
struct Cure {
    pod: PodFound,
    force: bool,
    why: &'static str,
}

/// The kinds that need help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    StatefulSet,
    DaemonSet,
}

impl Kind {
    fn of(gvk: &Gvk) -> Option<Self> {
        match (gvk.group.as_str(), gvk.kind.as_str()) {
            ("apps", "StatefulSet") => Some(Self::StatefulSet),
            ("apps", "DaemonSet") => Some(Self::DaemonSet),
            _ => None,
        }
    }
}

/// How nodes are, for one look at a workload's pods.
struct Nodes {
    ready: BTreeSet<String>,
    gone: BTreeSet<String>,
}

impl Nodes {
    fn is_here(&self, pod: &PodFound) -> bool {
        pod.node.as_ref().is_none_or(|node| self.ready.contains(node))
    }
}

impl Ward {
    /// Takes a look into account and says which pod is to be deleted now: one at most.
    fn choose(&mut self, kind: Kind, pods: &[PodFound], nodes: &Nodes, now_ms: u64) -> Option<Cure> {
        let unready = pods.iter().filter(|pod| !pod.ready);
        self.unready = unready
            .map(|pod| (pod.uid.clone(), self.unready.get(&pod.uid).copied().unwrap_or(now_ms)))
            .collect();
        if self
            .treated
            .as_ref()
            .is_some_and(|(pod, at)| at + REPLACED_MS > now_ms && !replaced(kind, pod, pods))
        {
            return None;
        }
        self.treated = None;
        let cure = match kind {
            Kind::StatefulSet => self.choose_of_stateful_set(pods, nodes, now_ms),
            Kind::DaemonSet => choose_of_daemon_set(pods, nodes),
        }?;
        self.treated = Some((cure.pod.clone(), now_ms));
        Some(cure)
    }

    /// The highest of the pods that are not ready and not of the wanted revision; none while another is going.
    fn choose_of_stateful_set(&self, pods: &[PodFound], nodes: &Nodes, now_ms: u64) -> Option<Cure> {
        let here = || pods.iter().filter(|pod| nodes.is_here(pod));
        if here().any(|pod| pod.terminating) {
            return None;
        }
        let long = |pod: &&PodFound| self.unready.get(&pod.uid).is_some_and(|at| at + UNREADY_MS <= now_ms);
        let ill = here().filter(|pod| pod.outdated && !pod.ready).filter(long);
        let why = "not ready and of a revision that was left; its StatefulSet does not replace it";
        let highest = ill.max_by_key(|pod| crate::observe::roster::ordinal(&pod.name))?;
        Some(Cure { pod: highest.clone(), force: false, why })
    }
}

/// Whether the place of a deleted pod is taken by another, or, for a StatefulSet, at least free.
fn replaced(kind: Kind, gone: &PodFound, pods: &[PodFound]) -> bool {
    let there = pods.iter().any(|pod| pod.uid == gone.uid);
    !there && (kind == Kind::StatefulSet || pods.iter().any(|pod| pod.node == gone.node))
}

fn choose_of_daemon_set(pods: &[PodFound], nodes: &Nodes) -> Option<Cure> {
    let is_gone = |pod: &&PodFound| pod.node.as_ref().is_some_and(|node| nodes.gone.contains(node));
    if let Some(stuck) = pods.iter().filter(|pod| pod.terminating).find(is_gone) {
        let why = "stuck in deletion on a node that has been gone for five minutes";
        return Some(Cure { pod: stuck.clone(), force: true, why });
    }
    let (here, away): (Vec<&PodFound>, Vec<&PodFound>) = pods.iter().partition(|pod| nodes.is_here(pod));
    let busy = here.iter().any(|pod| pod.terminating || !pod.ready && !pod.outdated);
    if away.is_empty() || busy {
        return None;
    }
    let next = here.into_iter().filter(|pod| pod.outdated).min_by_key(|pod| (pod.ready, &pod.name))?;
    let why = "of a revision that was left; its DaemonSet waits for a node that is not Ready";
    Some(Cure { pod: next.clone(), force: false, why })
}

impl Live {
    /// Nodes as healing sees them. The pods of a node that nobody lists any more are collected by the cluster.
    fn nodes_for_healing(&self, now_ms: u64) -> Nodes {
        let ready = self.nodes.iter().filter(|node| node.ready).map(|node| node.name.clone()).collect();
        let gone = self.away.iter().filter(|(_, since_ms)| **since_ms + NODE_GONE_MS <= now_ms);
        Nodes { ready, gone: gone.map(|(node, _)| node.clone()).collect() }
    }

    /// Remembers since when nodes are away.
    pub(super) fn count_absences(&mut self, now_ms: u64) {
        let before = std::mem::take(&mut self.away);
        let away = self.nodes.iter().filter(|node| !node.ready).map(|node| node.name.clone());
        self.away = away.map(|node| (node.clone(), before.get(&node).copied().unwrap_or(now_ms))).collect();
    }
}

impl Core {
    /// Looks at the pods of workloads that may need help.
    pub(super) fn heal(&mut self, t: &mut Turn, app: &AppName) {
        if !self.live.api_up {
            return;
        }
        let due: Vec<ObjectRef> =
            self.patients(app).filter(|(_, at)| *at <= t.now.mono_ms).map(|(o, _)| o).collect();
        for object in due {
            self.live.app(app).wards.entry(object.clone()).or_default().looked_at = t.now.mono_ms;
            let op = self.live.begin_op(t.now, app, Deed::Pods(object.clone()));
            t.effect(Effect::Api { op, call: ApiCall::Pods { object } });
        }
    }

    /// Workloads that may need help, and when their pods are to be looked at.
    fn patients(&self, app: &AppName) -> impl Iterator<Item = (ObjectRef, u64)> {
        let settles = self.rows.apps.get(app).is_some_and(|row| row.step == AppStep::Settle);
        let pause_ms = if settles { LOOK_MS } else { LOOK_AT_REST_MS };
        let live = self.live.apps.get(app);
        let rows = self.rows.objects.get(app).into_iter().flat_map(BTreeMap::values);
        let ours = rows.filter(|row| row.wanted.is_some() && row.applied.is_some());
        ours.filter_map(move |row| {
            let kind = Kind::of(&row.object.gvk)?;
            let reading = live.and_then(|live| live.health.get(&row.object));
            let asked =
                |deed: &Deed| matches!(deed, Deed::Pods(of) | Deed::DeletePod(of) if *of == row.object);
            if self.live.doing(app, asked) {
                return None;
            }
            let unwell = reading.is_some_and(|reading| reading.health.verdict != Verdict::Current);
            let dead = kind == Kind::DaemonSet && !self.live.away.is_empty();
            if !(settles && unwell || dead) {
                return None;
            }
            let looked_at = live.and_then(|live| live.wards.get(&row.object)).map(|ward| ward.looked_at);
            Some((row.object.clone(), looked_at.map_or(0, |at| at + pause_ms)))
        })
    }

    pub(super) fn heal_deadline(&self, app: &AppName) -> Option<u64> {
        let row = self.rows.apps.get(app)?;
        let heals = self.live.api_up && (row.step == AppStep::Settle || row.is_watched());
        if !heals { None } else { self.patients(app).map(|(_, at)| at).min() }
    }

    /// Takes the answer to a look at pods.
    pub(super) fn on_pods(&mut self, t: &mut Turn, app: &AppName, object: ObjectRef, pods: &[PodFound]) {
        let Some(kind) = Kind::of(&object.gvk) else { return };
        let settles = self.rows.apps.get(app).is_some_and(|row| row.step == AppStep::Settle);
        let nodes = self.live.nodes_for_healing(t.now.mono_ms);
        let ward = self.live.app(app).wards.entry(object.clone()).or_default();
        let Some(cure) = ward.choose(kind, pods, &nodes, t.now.mono_ms) else { return };
        if !settles && !cure.force {
            ward.treated = None;
            return;
        }
        let Cure { pod, force, why } = cure;
        let fresh = ward.told.insert(pod.uid.clone());
        let gvk = Arc::new(Gvk::new("v1", "Pod"));
        let name = ObjectRef { gvk, namespace: object.namespace.clone(), name: pod.name };
        if settles || fresh {
            self.tell_deletion(t, app, &name, why, settles);
        }
        let op = self.live.begin_op(t.now, app, Deed::DeletePod(object));
        t.effect(Effect::Api { op, call: ApiCall::DeletePod { pod: name, uid: pod.uid, force } });
    }

    /// While a version settles, deletions are told by the receipt that ends it; at rest they have their own.
    fn tell_deletion(&mut self, t: &mut Turn, app: &AppName, pod: &ObjectRef, why: &str, settles: bool) {
        let seen =
            Evidence { object: pod.to_string(), reason: POD_DELETED.to_owned(), message: why.to_owned() };
        if settles {
            self.change_app(t, app, |row| {
                if !row.evidence.contains(&seen) {
                    row.evidence.insert(0, seen);
                    row.evidence = Evidence::bounded(std::mem::take(&mut row.evidence), &Limits::DEFAULT);
                }
            });
        } else {
            let current = self.rows.apps.get(app).and_then(|row| row.current);
            self.receipt(t, Told { evidence: vec![seen], ..Told::of(app, current, Outcome::Repaired) });
        }
    }

    /// Takes the answer to a pod's deletion: where it was not done, the next look decides anew.
    pub(super) fn on_pod_deleted(
        &mut self,
        app: &AppName,
        object: &ObjectRef,
        reply: Result<ApiReply, ApiError>,
    ) {
        let done = match reply {
            Ok(_) => true,
            Err(error) => matches!(error.class, ApiErrorClass::NotFound | ApiErrorClass::Conflict),
        };
        if let Some(ward) = self.live.app(app).wards.get_mut(object)
            && !done
        {
            ward.treated = None;
        }
    }
}

#[cfg(test)]
#[path = "tests/heal.rs"]
mod tests;
