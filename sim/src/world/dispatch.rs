//! Carries out what a committed step of an agent asks for; every end comes back as an event. The only file that
//! knows all of the core's effects.

use std::sync::Arc;

use airlift_agent::core::api::{ApiCall, ApiError, ApiErrorClass, ApiReply};
use airlift_agent::core::event::{Failure, OpId};
use airlift_agent::core::object::{Generation, Health, ObjectRef, Verdict};
use airlift_agent::core::{Effect, Event};
use airlift_agent::observe::rules::judge_rules;
use airlift_agent::ports::cluster::{ApplyRequest, Propagation};
use airlift_bundles::document::receipt::Evidence;
use airlift_bundles::limits::Limits;
use airlift_bundles::wire::{Conn, ConnState};

use super::World;
use super::happening::{Happening, Life, SiteNo, Upward};
use super::keeping::not_here;
use crate::cluster::Model;
use crate::invariants::Invariant;

/// What an edge takes, from and to.
const PREPARE_MS: (u64, u64) = (50, 500);
const IMPORT_MS: (u64, u64) = (500, 20_000);
const API_MS: (u64, u64) = (5, 80);
const WATCH_MS: u64 = 20;
const LOOK_MS: (u64, u64) = (500, 5_000);
const LOOK_WHILE_DOWN_MS: u64 = 1_000;
/// The free space that every site has; full disks are a fault of commits.
const FREE_BYTES: u64 = 64 << 30;

impl World {
    /// Starts one effect of a site's core.
    pub(super) fn start(&mut self, site: SiteNo, effect: Effect) {
        let life = self.sites[site].life;
        match effect {
            Effect::Wake { at_mono_ms } => {
                let here = &mut self.sites[site];
                let at_ms = here.world_ms(at_mono_ms);
                if let Some(process) = &mut here.process {
                    process.alarm_ms = Some(at_ms);
                    self.timeline.at(at_ms, Happening::Alarm(site, life, at_ms));
                }
            }
            Effect::Connect { after_ms } => self.timeline.after(after_ms, Happening::Connect(site, life)),
            Effect::Disconnect => self.cut_link(site),
            Effect::Birth { conn, conn_seq, assignment, root_version } => {
                if self.is_over(site, conn) {
                    let boot = self.boot_name(site);
                    let state = ConnState::Online;
                    let message = Conn { state, boot, conn_seq, assignment, root_version };
                    self.send_up(site, Upward::Conn(message));
                }
            }
            Effect::Send { conn, chain_id, from, upto, status } => {
                if self.is_over(site, conn) {
                    if self.ledgers[site].talks_too_much(self.timeline.now_ms()) {
                        self.violated(Invariant::Sleep, Some(site), "it sends batches without end".into());
                    }
                    for batch in self.batches(site, &chain_id, (from, upto), status) {
                        self.send_batch(site, batch);
                    }
                }
            }
            Effect::Want(documents) => self.send_up(site, Upward::Get(documents)),
            Effect::Fetch { op, generation, .. } => {
                self.operate(site, op);
                self.fetch(site, op, generation.bundle);
            }
            Effect::Prepare { op, generation, scope, before } => {
                self.operate(site, op);
                let read = self.read_content(site, &generation.bundle);
                let plan = read.and_then(|()| self.library.plan(&generation, scope.as_deref(), &before));
                let event = match plan {
                    Ok(plan) => Event::Prepared { op, plan },
                    Err(failure) => Event::PrepareFailed { op, failure },
                };
                self.answer(site, PREPARE_MS, event);
            }
            Effect::Import { op, generation } => {
                self.operate(site, op);
                let event = match self.read_content(site, &generation.bundle) {
                    Ok(()) => {
                        let images = self.library.rendered(&generation).images.clone();
                        self.sites[site].images.extend(images);
                        Event::Imported { op }
                    }
                    Err(failure) => Event::ImportFailed { op, failure },
                };
                self.answer(site, IMPORT_MS, event);
            }
            Effect::Api { op, call } => {
                self.operate(site, op);
                if let ApiCall::Delete { object, uid } = &call {
                    self.check_delete(site, object, uid);
                }
                let delay_ms = self.random.between(API_MS.0, API_MS.1);
                self.timeline.after(delay_ms, Happening::Call(site, life, op, Box::new(call)));
            }
            Effect::ReadHealth { op, generation, object } => {
                self.operate(site, op);
                let delay_ms = self.random.between(API_MS.0, API_MS.1);
                self.timeline
                    .after(delay_ms, Happening::Read(site, life, op, Box::new((generation, object))));
            }
            Effect::Watch { kinds } => {
                let here = &mut self.sites[site];
                let Some(process) = &mut here.process else { return };
                if let Some(before) = process.watch.take() {
                    here.cluster.unwatch(before);
                }
                process.watch = (!kinds.is_empty()).then(|| here.cluster.watch(kinds));
                self.after_cluster(site);
            }
            Effect::Cancel { op } => {
                if let Some(process) = &mut self.sites[site].process {
                    process.ops.remove(&op);
                }
                self.forget_fetch(site, op);
                self.timeline.after(0, Happening::Tell(site, life, Box::new(Event::OpEnded { op })));
            }
            Effect::Keep { generations } => self.keep(site, &generations),
            Effect::WriteMedia { media, chain_id, from, upto } => {
                self.write_stick(site, &media, &chain_id, (from, upto));
            }
            // Nobody at a simulated site asks, and no simulated process ends in order.
            Effect::Reply { .. } | Effect::Exit => {}
        }
    }

    fn operate(&mut self, site: SiteNo, op: OpId) {
        if let Some(process) = &mut self.sites[site].process {
            process.ops.insert(op);
        }
    }

    fn answer(&mut self, site: SiteNo, takes_ms: (u64, u64), event: Event) {
        let (delay_ms, life) = (self.random.between(takes_ms.0, takes_ms.1), self.sites[site].life);
        self.timeline.after(delay_ms, Happening::Tell(site, life, Box::new(event)));
    }

    fn keep(&mut self, site: SiteNo, generations: &[Arc<Generation>]) {
        let mut images = std::collections::BTreeSet::new();
        for generation in generations {
            if self.sites[site].content.holds(&generation.bundle) {
                images.extend(self.library.rendered(generation).images.iter().cloned());
            }
        }
        let here = &mut self.sites[site];
        let wanted: Vec<_> = here.content.wanted.values().copied().collect();
        let kept = |bundle: &_| {
            wanted.contains(bundle) || generations.iter().any(|generation| generation.bundle == *bundle)
        };
        here.content.held.retain(|bundle, _| kept(bundle));
        here.content.partial.retain(|bundle, _| kept(bundle));
        here.content.doubtful.retain(kept);
        if let Some(process) = &mut here.process {
            process.kept_images = images;
        }
    }

    /// A request reaches the API server; its answer may find nobody who waits for it.
    pub(super) fn call(&mut self, site: SiteNo, life: Life, op: OpId, call: ApiCall) {
        if !self.sites[site].node.powered {
            return;
        }
        let reply = match call {
            ApiCall::List { app, gvk, only } => {
                self.on_cluster(site, |model, _| model.list(&app, &gvk, &only)).map(ApiReply::Listed)
            }
            ApiCall::Apply { generation, index, object, uid, dry_run } => {
                self.apply(site, &generation, index, object, uid, dry_run)
            }
            ApiCall::Delete { object, uid } => {
                let deleted = self
                    .on_cluster(site, |model, now| model.delete(now, &object, &uid, Propagation::Background));
                deleted.map(|()| ApiReply::Deleted)
            }
            ApiCall::Others { object, ours, claims } => {
                self.on_cluster(site, |model, _| model.others(&object, &ours, claims)).map(ApiReply::Others)
            }
            ApiCall::Pods { object } => {
                self.on_cluster(site, |model, _| model.pods(&object)).map(ApiReply::Pods)
            }
            ApiCall::DeletePod { pod, uid, .. } => {
                let deleted = self.on_cluster(site, |model, now| model.delete_pod(now, &pod, &uid));
                deleted.map(|()| ApiReply::Deleted)
            }
        };
        let delay_ms = self.random.between(API_MS.0, API_MS.1);
        let event = Box::new(Event::Api { op, reply });
        self.timeline.after(delay_ms, Happening::Tell(site, life, event));
    }

    fn apply(
        &mut self,
        site: SiteNo,
        generation: &Generation,
        index: u32,
        object: ObjectRef,
        uid: Option<airlift_agent::core::object::Uid>,
        dry_run: bool,
    ) -> Result<ApiReply, ApiError> {
        let rendered = self.library.rendered(generation);
        let body = usize::try_from(index).ok().and_then(|index| rendered.bodies.get(index)).cloned();
        self.read_content(site, &generation.bundle).map_err(unrendered)?;
        let body = body.ok_or_else(|| unrendered(not_here()))?;
        let field_manager = format!("airlift/{}", generation.app);
        let request = ApplyRequest { object: object.clone(), body, field_manager, force: true, dry_run, uid };
        let applied = self.on_cluster(site, |model, now| model.apply(now, &request))?;
        if !dry_run {
            self.check_apply(site, generation, &object, &applied.uid);
        }
        Ok(ApiReply::Applied(applied))
    }

    /// A reading of health reaches the API server.
    pub(super) fn read_health(
        &mut self,
        site: SiteNo,
        life: Life,
        op: OpId,
        generation: &Generation,
        object: &ObjectRef,
    ) {
        if !self.sites[site].node.powered {
            return;
        }
        let reading = match self.judged(site, generation, object) {
            Err(ApiError { class: ApiErrorClass::NotFound | ApiErrorClass::KindUnknown, .. }) => {
                Ok(Health::missing())
            }
            other => other,
        };
        let delay_ms = self.random.between(API_MS.0, API_MS.1);
        self.timeline.after(delay_ms, Happening::Tell(site, life, Box::new(Event::Health { op, reading })));
    }

    /// What the object's kind says of it, and then what the app's own rules ask of it.
    fn judged(
        &mut self,
        site: SiteNo,
        generation: &Generation,
        object: &ObjectRef,
    ) -> Result<Health, ApiError> {
        let mut health = self.on_cluster(site, |model, now| model.health(now, object))?;
        self.read_content(site, &generation.bundle).map_err(unrendered)?;
        let rendered = self.library.rendered(generation);
        let rules = rendered.rules.get(object).map(Vec::as_slice).unwrap_or_default();
        if health.verdict == Verdict::Current && !rules.is_empty() {
            let live = self.on_cluster(site, |model, now| model.get(now, object))?;
            let judged = judge_rules(&live, rules);
            if judged.verdict != Verdict::Current {
                let (object, message) = (object.to_string(), judged.reason.clone());
                let told = Evidence { object, reason: "HealthRule".into(), message };
                health.evidence = Evidence::bounded(vec![told], &Limits::DEFAULT);
                (health.verdict, health.reason) = (judged.verdict, judged.reason);
            }
        }
        Ok(health)
    }

    /// Works on a site's cluster at the present moment; what its watch then says is on its way.
    pub(super) fn on_cluster<T>(&mut self, site: SiteNo, act: impl FnOnce(&mut Model, u64) -> T) -> T {
        let now_ms = self.timeline.now_ms();
        self.stir(site);
        let model = &mut self.sites[site].cluster;
        model.advance(now_ms);
        let outcome = act(model, now_ms);
        self.after_cluster(site);
        outcome
    }

    pub(super) fn ripen(&mut self, site: SiteNo) {
        self.sites[site].ripens_ms = None;
        self.on_cluster(site, |_, _| ());
    }

    /// Sends on what the watch has to say, and comes back when time alone changes something.
    fn after_cluster(&mut self, site: SiteNo) {
        let here = &mut self.sites[site];
        let life = here.life;
        let watch = here.process.as_ref().and_then(|process| process.watch);
        let events = watch.map(|watch| here.cluster.take_events(watch)).unwrap_or_default();
        for event in events {
            self.timeline.after(WATCH_MS, Happening::Tell(site, life, Box::new(event)));
        }
        let here = &mut self.sites[site];
        let due = here.cluster.next_change_ms();
        if let Some(due_ms) = due.filter(|due_ms| here.ripens_ms.is_none_or(|planned| planned > *due_ms)) {
            here.ripens_ms = Some(due_ms);
            self.timeline.at(due_ms, Happening::Ripen(site));
        }
    }

    /// Something about cluster or nodes may be another: the agent will see it at its next look.
    pub(super) fn look_soon(&mut self, site: SiteNo) {
        let (delay_ms, life) = (self.random.between(LOOK_MS.0, LOOK_MS.1), self.sites[site].life);
        self.timeline.after(delay_ms, Happening::Look(site, life));
    }

    /// The agent looks whether the API answers, and at nodes and disk; only changes become events.
    pub(super) fn look(&mut self, site: SiteNo, life: Life) {
        let here = &mut self.sites[site];
        if here.life != life || here.process.is_none() {
            return;
        }
        let cluster = here.cluster.cluster_uid();
        let state = (cluster.is_ok(), cluster.ok());
        let nodes = if state.0 { here.cluster.nodes().ok() } else { None };
        let Some(process) = &mut here.process else { return };
        let mut news = Vec::new();
        if process.told_api.as_ref() != Some(&state) {
            news.push(Event::ApiState { up: state.0, cluster: state.1.clone() });
            process.told_api = Some(state.clone());
        }
        if let Some(nodes) = nodes.filter(|nodes| process.told_nodes.as_ref() != Some(nodes)) {
            news.push(Event::Nodes(nodes.clone()));
            process.told_nodes = Some(nodes);
        }
        let first = !std::mem::replace(&mut process.told_disk, true);
        if first {
            news.push(Event::Disk { free_bytes: FREE_BYTES, free_inodes: 1 << 20 });
        }
        for event in news {
            self.tell(site, life, event);
        }
        if first {
            self.see_stick(site);
        }
        if !state.0 {
            self.timeline.after(LOOK_WHILE_DOWN_MS, Happening::Look(site, life));
        }
    }
}

/// What no body could be made of is no request.
fn unrendered(failure: Failure) -> ApiError {
    ApiError { class: ApiErrorClass::ContentLost, status: 0, message: failure.reason }
}
