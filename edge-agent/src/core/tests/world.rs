//! A world in a few maps: documents with real signatures, a store that is rows, a cluster that is objects.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use airlift_bundles::document::assignment::DesiredApp;
use airlift_bundles::document::receipt::{ClockQuality, Evidence, Outcome, Receipt};
use airlift_bundles::document::release::{Platform, Statement};
use airlift_bundles::document::root::{
    DirectorRole, Pattern, Policy, ReleaseRole, Revoked, Role, Roles, Root, Scope, TrustedRoot,
};
use airlift_bundles::document::status::{AppState, NodeStatus};
use airlift_bundles::envelope::{Document, Envelope};
use airlift_bundles::ids::{
    AppName, Blake3Digest, Counter, FleetId, Name, RandomId, Sha256Digest, SiteId, Timestamp,
};
use airlift_bundles::keys::SecretKey;
use airlift_bundles::limits::Limits;

use super::crew::Crew;
use crate::core::api::{ApiCall, ApiError, ApiErrorClass, ApiReply, Applied, Found};
use crate::core::object::{
    AppPolicy, Generation, Gvk, Health, ImageEntry, ObjectEntry, ObjectRef, ObjectTraits, Plan, Predecessors,
    Uid, Verdict,
};
use crate::core::status::{AppReport, LocalReply};
use crate::core::time::BootId;
use crate::core::write::{MetaRow, RootRow};
use crate::core::{Core, Effect, Event, Now, Rows, Start, Step, Write};

pub(super) const FLEET: &str = "fleet";
pub(super) const ISSUED_S: i64 = 1_800_000_000;

pub(super) fn app(name: &str) -> AppName {
    AppName::new(name).unwrap()
}

pub(super) fn site_key() -> SecretKey {
    SecretKey::from_seed(&[42; 32])
}

pub(super) fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32])
}

pub(super) fn sign<D: Document>(document: &D, seed: u8) -> Vec<u8> {
    let mut envelope = Envelope::draft(document);
    envelope.sign(&key(seed));
    envelope.to_json()
}

/// Key 1 holds root, 2 releases, 3 directs.
pub(super) fn root_1() -> Root {
    let keys = [1, 2, 3].map(|seed| key(seed).public());
    let ids = |seed: u8| vec![key(seed).public().key_id()];
    Root {
        fleet_id: FleetId::new(FLEET).unwrap(),
        version: 1,
        prev_sha256: None,
        keys: keys.into_iter().map(|key| (key.key_id(), key)).collect(),
        roles: Roles {
            root: Role { keyids: ids(1), threshold: 1 },
            director: DirectorRole { keyids: ids(3), threshold: 1, epoch: 0 },
            releases: vec![ReleaseRole {
                name: Name::new("apps").unwrap(),
                keyids: ids(2),
                threshold: 1,
                apps: vec![Pattern("*".into())],
                scope: Scope::all(),
            }],
        },
        apps: BTreeMap::new(),
        revoked: Revoked::default(),
        policy: Policy { retire_delay_s: 60, deletion_budget: 50 },
        issued_at: Timestamp::from_unix_s(ISSUED_S),
        crit: vec![],
    }
}

/// What a version of an app holds: object names with their content; content with `bad` never becomes healthy, content
/// with `refused` is refused by the API server.
#[derive(Debug, Clone)]
pub(super) struct Content {
    pub objects: Vec<(String, String)>,
    pub watch_ms: u64,
}

/// An object in the cluster.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Live {
    pub uid: Uid,
    pub content: String,
    /// Hash of our managedFields entry; `None` for an object that others made.
    pub entry: Option<Blake3Digest>,
}

pub(super) struct World {
    pub mono_ms: u64,
    /// What the wall clock reads, where there is one.
    pub wall_ms: Option<u64>,
    pub core: Core,
    /// What is on disk.
    pub rows: Rows,
    pub pending: VecDeque<Effect>,
    pub wake_at: Option<u64>,
    pub wakes: u64,
    pub contents: BTreeMap<Sha256Digest, Content>,
    pub cluster: BTreeMap<ObjectRef, Live>,
    /// The pods of workloads whose pods matter.
    pub crews: BTreeMap<ObjectRef, Crew>,
    pub nodes: Vec<NodeStatus>,
    /// Pods that were deleted, by name; with a mark where by force.
    pub pods_deleted: Vec<String>,
    pub uids: u64,
    pub receipts: Vec<Receipt>,
    pub replies: Vec<LocalReply>,
    pub applied: u64,
    pub deleted: Vec<ObjectRef>,
    pub watched: BTreeSet<Arc<Gvk>>,
    /// Objects that are going, or do not go at once when they are deleted.
    pub going: BTreeSet<ObjectRef>,
    pub lingering: BTreeSet<ObjectRef>,
    /// What others have under namespaces, definitions and claims.
    pub others: BTreeMap<ObjectRef, Vec<String>>,
    /// Objects that another app or tool marks as its own.
    pub owners: BTreeMap<ObjectRef, String>,
    /// API groups that the cluster does not know.
    pub unknown: BTreeSet<String>,
    /// Updates that were only tried.
    pub tried: u64,
    /// The next apply requests get these answers instead.
    pub api_errors: VecDeque<ApiErrorClass>,
    /// The next readings of health fail so.
    pub read_errors: VecDeque<ApiErrorClass>,
    pub assignment_seq: u64,
}

pub(super) fn first_meta() -> MetaRow {
    MetaRow {
        fleet: FleetId::new(FLEET).unwrap(),
        site: SiteId::new("ship").unwrap(),
        incarnation: 1,
        minimum: Counter::default(),
        outbox_epoch: RandomId::from_bytes([4; 16]),
        outbox_next: 1,
        conn_seq: 0,
        starts: 0,
        chain_id: RandomId::from_bytes([3; 16]),
        receipt_next: 1,
        receipt_head: None,
        receipt_acked_next: 1,
        receipt_first: 1,
        time_floor: Timestamp::from_unix_s(ISSUED_S),
        cluster: None,
        hub_incarnation: None,
        hub_heard: None,
    }
}

pub(super) fn first_rows() -> Rows {
    let root = sign(&root_1(), 1);
    let trusted = TrustedRoot::stored(&root, &Limits::DEFAULT).unwrap();
    let mut rows = Rows::default();
    rows.apply(&Write::PutMeta(first_meta()));
    rows.apply(&Write::PutRoot(RootRow { version: 1, sha256: trusted.digest(), envelope: root.into() }));
    rows
}

pub(super) fn start() -> Start {
    Start {
        key: Arc::new(site_key()),
        platform: Platform { os: "linux".into(), architecture: "amd64".into(), variant: None },
        version: "0.1.0".into(),
        hub: true,
        process_start: true,
        root: None,
    }
}

pub(super) fn node(name: &str, ready: bool) -> NodeStatus {
    NodeStatus {
        name: name.into(),
        ready,
        schedulable: true,
        disk_pressure: false,
        platform: start().platform,
        kubelet: String::new(),
    }
}

/// The kind that a name's prefix stands for.
pub(super) fn object(name: &str) -> ObjectRef {
    let (gvk, namespace) = match name.split_once('-').map_or(name, |(kind, _)| kind) {
        "crd" => (Gvk::new("apiextensions.k8s.io/v1", "CustomResourceDefinition"), None),
        "ns" => (Gvk::new("v1", "Namespace"), None),
        "web" => (Gvk::new("apps/v1", "Deployment"), Some("shop".to_owned())),
        "set" => (Gvk::new("apps/v1", "StatefulSet"), Some("shop".to_owned())),
        "each" => (Gvk::new("apps/v1", "DaemonSet"), Some("shop".to_owned())),
        "job" => (Gvk::new("batch/v1", "Job"), Some("shop".to_owned())),
        "thing" => (Gvk::new("things.example/v1", "Thing"), Some("shop".to_owned())),
        "moved" => (Gvk::new("autoscaling/v2", "HorizontalPodAutoscaler"), Some("shop".to_owned())),
        "old" => {
            let gvk = Arc::new(Gvk::new("autoscaling/v1", "HorizontalPodAutoscaler"));
            let name = name.replace("old-", "moved-");
            return ObjectRef { gvk, namespace: Some("shop".to_owned()), name };
        }
        _ => (Gvk::new("v1", "ConfigMap"), Some("shop".to_owned())),
    };
    ObjectRef { gvk: Arc::new(gvk), namespace, name: name.to_owned() }
}

/// Whether an object's content cannot be updated, and its kind may be created anew.
fn is_fixed(name: &str) -> bool {
    name.starts_with("fixed-") || name.starts_with("job-")
}

impl World {
    pub(super) fn new() -> Self {
        let rows = first_rows();
        let core = Core::load(start(), rows.clone()).unwrap();
        let mut world = Self {
            mono_ms: 1_000,
            wall_ms: None,
            core,
            rows,
            pending: VecDeque::new(),
            wake_at: None,
            wakes: 0,
            contents: BTreeMap::new(),
            cluster: BTreeMap::new(),
            crews: BTreeMap::new(),
            nodes: vec![node("node", true)],
            pods_deleted: Vec::new(),
            uids: 0,
            receipts: Vec::new(),
            replies: Vec::new(),
            applied: 0,
            deleted: Vec::new(),
            watched: BTreeSet::new(),
            going: BTreeSet::new(),
            lingering: BTreeSet::new(),
            others: BTreeMap::new(),
            owners: BTreeMap::new(),
            unknown: BTreeSet::new(),
            tried: 0,
            api_errors: VecDeque::new(),
            read_errors: VecDeque::new(),
            assignment_seq: 0,
        };
        world.resume();
        world
    }

    pub(super) fn now(&self) -> Now {
        let quality = if self.wall_ms.is_some() { ClockQuality::Synchronised } else { ClockQuality::Floor };
        Now { mono_ms: self.mono_ms, boot: BootId([1; 16]), wall_ms: self.wall_ms, quality }
    }

    fn resume(&mut self) {
        let step = self.core.resume(self.now());
        self.commit(step);
        self.say(Event::Nodes(self.nodes.clone()));
        self.say(Event::ApiState { up: true, cluster: Some(Uid("cluster".into())) });
    }

    pub(super) fn commit(&mut self, step: Step) {
        for write in &step.writes {
            self.rows.apply(write);
            if let Write::AppendReceipt(row) = write {
                let envelope = Envelope::parse(&row.envelope, &Limits::DEFAULT).unwrap();
                assert_eq!(envelope.valid_signers([&site_key().public()]).len(), 1, "signed by the site key");
                let receipt: Receipt = envelope.read_unverified(&Limits::DEFAULT).unwrap();
                let head = self.receipts.last().map(|before| Envelope::draft(before).digest());
                assert_eq!(receipt.prev_sha256, head, "chained to the receipt before");
                self.receipts.push(receipt);
            }
        }
        assert_eq!(&self.rows, self.core.rows(), "the disk holds exactly what the core knows");
        self.pending.extend(step.effects);
    }

    pub(super) fn say(&mut self, event: Event) {
        let step = self.core.step(self.now(), event);
        self.commit(step);
    }

    /// The process dies and starts again: effects under way are lost.
    pub(super) fn restart(&mut self) {
        self.pending.clear();
        self.wake_at = None;
        self.core = Core::load(start(), self.rows.clone()).unwrap();
        self.resume();
    }

    /// Does what is asked for until nothing is.
    pub(super) fn settle_down(&mut self) {
        for _ in 0..100_000 {
            let Some(effect) = self.pending.pop_front() else { return };
            if let Some(event) = self.answer(&effect) {
                self.say(event);
            }
        }
        panic!("the core asks without end");
    }

    /// Lets time pass, with every wake-up on the way.
    pub(super) fn pass(&mut self, ms: u64) {
        let end = self.mono_ms + ms;
        self.settle_down();
        while let Some(at) = self.wake_at.filter(|at| *at <= end) {
            assert!(at > self.mono_ms || self.wake_at.is_some());
            self.mono_ms = self.mono_ms.max(at);
            self.wake_at = None;
            self.wakes += 1;
            self.say(Event::Wake);
            self.settle_down();
        }
        self.mono_ms = end;
    }

    /// What the world answers to an effect.
    pub(super) fn answer(&mut self, effect: &Effect) -> Option<Event> {
        match effect.clone() {
            Effect::Wake { at_mono_ms } => {
                self.wake_at = Some(at_mono_ms);
                None
            }
            Effect::Fetch { op, .. } => Some(Event::ContentReady { op }),
            Effect::Prepare { op, generation, before, .. } => {
                Some(Event::Prepared { op, plan: self.plan(&generation, &before) })
            }
            Effect::Import { op, .. } => Some(Event::Imported { op }),
            Effect::Api { op, call } => Some(Event::Api { op, reply: self.call(call) }),
            Effect::ReadHealth { op, object, .. } => {
                Some(Event::Health { op, reading: self.read_health(&object) })
            }
            Effect::Cancel { op } => Some(Event::OpEnded { op }),
            Effect::Watch { kinds } => {
                self.watched = kinds;
                None
            }
            Effect::Reply { reply, .. } => {
                self.replies.push(reply);
                None
            }
            _ => None,
        }
    }

    /// Jobs and objects called `fixed` are created anew for another content, those called `sealed` cannot be.
    fn plan(&self, generation: &Generation, before: &Predecessors) -> Plan {
        let content = &self.contents[&generation.release];
        let differs = |name: &str, content: &str| {
            let mut objects = before.all().flat_map(|before| &self.contents[&before.release].objects);
            objects.any(|(other, before)| other == name && before != content)
        };
        let sealed = content.objects.iter().filter(|(name, _)| name.starts_with("sealed-"));
        let sealed = sealed.filter(|(name, content)| differs(name, content));
        let irreversible = sealed.map(|(name, _)| Evidence {
            object: name.clone(),
            reason: "AL0711".into(),
            message: "/spec cannot change".into(),
        });
        let entry = |(index, (name, content)): (usize, &(String, String))| {
            let object = object(name);
            let kind = object.gvk.kind.as_str();
            let index = u32::try_from(index).unwrap();
            ObjectEntry {
                index,
                wave: match kind {
                    "CustomResourceDefinition" => 0,
                    "Namespace" => 1,
                    "ConfigMap" => 2,
                    _ => 3,
                },
                sha256: Sha256Digest::of(self.body(generation, index).as_bytes()),
                traits: ObjectTraits {
                    observed: matches!(kind, "Deployment" | "StatefulSet" | "DaemonSet" | "Job"),
                    once: kind == "Job",
                    gate: kind == "CustomResourceDefinition",
                    adopt: false,
                    recreate: is_fixed(name) && differs(name, content),
                },
                object,
            }
        };
        Plan {
            objects: content.objects.iter().enumerate().map(entry).collect(),
            images: vec![ImageEntry {
                reference: format!("{}:1", generation.app),
                digest: Sha256Digest::of(b"i"),
            }],
            irreversible: irreversible.collect(),
            policy: AppPolicy {
                soak_ms: 3_000,
                timeout_ms: 20_000,
                watch_ms: content.watch_ms,
                deletion_budget: None,
            },
        }
    }

    fn body(&self, generation: &Generation, index: u32) -> String {
        let content = &self.contents[&generation.release].objects[index as usize].1;
        if generation.stopped && content.starts_with("front") {
            return "no pods".to_owned();
        }
        let greeting =
            generation.parameters.values().next().map(|value| format!(" {value}")).unwrap_or_default();
        format!("{content}{greeting}")
    }

    pub(super) fn call(&mut self, call: ApiCall) -> Result<ApiReply, ApiError> {
        let error = |class| ApiError { class, status: 409, message: "scripted".into() };
        match call {
            ApiCall::List { gvk, .. } if self.unknown.contains(&gvk.group) => {
                Err(error(ApiErrorClass::KindUnknown))
            }
            ApiCall::List { gvk, only, .. } => {
                let found =
                    self.cluster.iter().filter(|(object, _)| object.gvk == gvk && only.contains(*object));
                let found = found.map(|(object, live)| Found {
                    object: object.clone(),
                    uid: live.uid.clone(),
                    fields_hash: live.entry,
                    other_owner: self.owners.get(object).cloned(),
                    terminating: self.going.contains(object),
                });
                Ok(ApiReply::Listed(found.collect()))
            }
            ApiCall::Apply { generation, index, object, uid, dry_run } => {
                if let Some(class) = self.api_errors.pop_front() {
                    return Err(error(class));
                }
                let before = self.cluster.get(&object).map(|live| live.uid.clone());
                if uid.is_some() && uid != before {
                    return Err(error(ApiErrorClass::Conflict));
                }
                let content = self.body(&generation, index);
                let fixed = |name: &str| is_fixed(name) || name.starts_with("sealed-");
                let changes = self.cluster.get(&object).is_some_and(|live| live.content != content);
                if content.contains("refused") || fixed(&object.name) && changes {
                    return Err(ApiError { status: 422, ..error(ApiErrorClass::Final) });
                }
                let entry = Blake3Digest::of(content.as_bytes());
                let uid = before.unwrap_or_else(|| {
                    self.uids += 1;
                    Uid(format!("uid-{}", self.uids))
                });
                if dry_run {
                    self.tried += 1;
                    let (resource_version, fields_hash) = (String::new(), entry);
                    return Ok(ApiReply::Applied(Applied {
                        uid,
                        resource_version,
                        fields_hash,
                        changed: true,
                    }));
                }
                self.applied += 1;
                if let Some(crew) = Crew::of(&object) {
                    self.crews.entry(object.clone()).or_insert(crew).wanted.clone_from(&content);
                }
                self.cluster.insert(object, Live { uid: uid.clone(), content, entry: Some(entry) });
                Ok(ApiReply::Applied(Applied {
                    uid,
                    resource_version: "1".into(),
                    fields_hash: entry,
                    changed: true,
                }))
            }
            ApiCall::Delete { object, uid } => match self.cluster.get(&object) {
                Some(live) if live.uid == uid && self.lingering.contains(&object) => {
                    self.going.insert(object);
                    Ok(ApiReply::Deleted)
                }
                Some(live) if live.uid == uid => {
                    self.cluster.remove(&object);
                    self.crews.remove(&object);
                    self.deleted.push(object);
                    Ok(ApiReply::Deleted)
                }
                Some(_) => Err(error(ApiErrorClass::Conflict)),
                None => Ok(ApiReply::Deleted),
            },
            ApiCall::Others { object, .. } => {
                Ok(ApiReply::Others(self.others.get(&object).cloned().unwrap_or_default()))
            }
            ApiCall::Pods { object } => match self.crews.get_mut(&object) {
                Some(crew) => Ok(ApiReply::Pods(crew.roll(&self.nodes, &mut self.uids))),
                None => Err(error(ApiErrorClass::NotFound)),
            },
            ApiCall::DeletePod { pod, uid, force } => {
                for crew in self.crews.values_mut() {
                    crew.delete(&uid, force, &self.nodes);
                }
                self.pods_deleted.push(if force { format!("{} by force", pod.name) } else { pod.name });
                Ok(ApiReply::Deleted)
            }
        }
    }

    /// What was going is gone now.
    pub(super) fn let_go(&mut self) {
        self.lingering.clear();
        for object in std::mem::take(&mut self.going) {
            self.cluster.remove(&object);
        }
    }

    fn read_health(&mut self, object: &ObjectRef) -> Result<Health, ApiError> {
        match self.read_errors.pop_front() {
            Some(class) => Err(ApiError { class, status: 429, message: "scripted".into() }),
            None => Ok(self.health(object)),
        }
    }

    fn health(&mut self, object: &ObjectRef) -> Health {
        let crew = self.crews.get_mut(object).map(|crew| {
            crew.roll(&self.nodes, &mut self.uids);
            crew.is_well(&self.nodes)
        });
        let (verdict, reason) = match self.cluster.get(object) {
            Some(_) if crew == Some(false) => (Verdict::Progressing, "0 of 3 pods are ready"),
            Some(_) if crew == Some(true) => (Verdict::Current, ""),
            None => (Verdict::Missing, "not there"),
            Some(live) if live.content.contains("bad") => (Verdict::Progressing, "0 of 2 replicas are ready"),
            Some(_) => (Verdict::Current, ""),
        };
        let evidence = match verdict {
            Verdict::Progressing => vec![Evidence {
                object: format!("Pod shop/{}-1", object.name),
                reason: "CrashLoopBackOff".into(),
                message: "exit code 3".into(),
            }],
            _ => vec![],
        };
        Health { verdict, restarts: 0, reason: reason.into(), evidence }
    }

    pub(super) fn report(&self) -> AppReport {
        self.report_of("shop")
    }

    pub(super) fn report_of(&self, name: &str) -> AppReport {
        let report = self.core.report(self.now());
        report.apps.into_iter().find(|report| report.app == app(name)).expect("the app is known")
    }

    /// Gives a release's app a `watch` time.
    pub(super) fn watch_of(&mut self, statement: &Statement, watch_ms: u64) {
        let digest = Envelope::draft(statement).digest();
        self.contents.get_mut(&digest).expect("it was released").watch_ms = watch_ms;
    }

    /// Something outside of Airlift makes a running object ill; only its status changes.
    pub(super) fn fall_ill(&mut self, name: &str) {
        self.change_status(name, |content| content.push_str(" bad"));
    }

    pub(super) fn get_well(&mut self, name: &str) {
        self.change_status(name, |content| *content = content.replace(" bad", ""));
    }

    fn change_status(&mut self, name: &str, change: impl FnOnce(&mut String)) {
        let (owner, live) = (self.owner_of(name), self.cluster.get_mut(&object(name)).expect("it is there"));
        change(&mut live.content);
        let (uid, entry) = (live.uid.clone(), live.entry.map(|hash| (owner, hash)));
        self.say(Event::Seen { object: object(name), uid, resource_version: "2".into(), entry });
    }

    fn owner_of(&self, name: &str) -> AppName {
        let holds = |(_, rows): &(&AppName, &BTreeMap<_, _>)| rows.contains_key(&object(name));
        self.rows.objects.iter().find(holds).expect("an app holds it").0.clone()
    }

    pub(super) fn state(&self) -> AppState {
        self.report().state
    }

    pub(super) fn content(&self, name: &str) -> Option<&str> {
        self.cluster.get(&object(name)).map(|live| live.content.as_str())
    }

    pub(super) fn outcomes(&self) -> Vec<Outcome> {
        self.receipts.iter().map(|receipt| receipt.outcome).collect()
    }

    pub(super) fn last(&self, outcome: Outcome) -> &Receipt {
        let found = self.receipts.iter().rev().find(|receipt| receipt.outcome == outcome);
        found.expect("such a receipt was made")
    }

    pub(super) fn last_of(&self, name: &str, outcome: Outcome) -> &Receipt {
        let of = |receipt: &&Receipt| receipt.outcome == outcome && receipt.app == Some(app(name));
        self.receipts.iter().rev().find(of).expect("such a receipt was made")
    }
}

pub(super) fn desire(statement: &Statement) -> DesiredApp {
    DesiredApp {
        app: statement.predicate.app.clone(),
        release: Envelope::draft(statement).digest(),
        epoch: statement.predicate.epoch,
        seq: statement.predicate.seq,
        parameters: BTreeMap::new(),
        overlays: vec![],
        secrets: BTreeMap::new(),
        retry: 0,
    }
}
