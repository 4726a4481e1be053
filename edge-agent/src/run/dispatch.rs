//! Starts what a committed step asks for; every end comes back as an event.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;

use airlift_bundles::document::receipt::Evidence;
use airlift_bundles::limits::Limits;
use airlift_bundles::reversal::remove;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tracing::{debug, warn};

use super::batch::{self, Due, Range, Waiting};
use super::images::{ImageKeeper, Kept};
use super::ops::{Operations, Replies};
use super::{Ports, Site, WriteMedia, surroundings};
use crate::apply::owned::{owns, owns_all};
use crate::core::api::{ApiCall, ApiError, ApiErrorClass, ApiReply, Applied};
use crate::core::effect::{FetchLimits, WantedDocument};
use crate::core::event::{ConnId, Failure, OpId};
use crate::core::object::{Generation, Gvk, Health, ObjectRef, Verdict};
use crate::core::write::MetaRow;
use crate::core::{Effect, Event};
use crate::observe::rules::judge_rules;
use crate::ports::cluster::{ApplyRequest, Propagation};
use crate::ports::images::{ImageToImport, ImportError};
use crate::ports::link::Outgoing;
use crate::ports::{Boxed, Cluster, Content as _, cancel::CancelFlag};
use crate::prepare::{Bodies, REPLICAS};

/// Carries effects out.
pub(super) struct Dispatcher {
    site: Site,
    ports: Ports,
    bodies: Arc<Bodies>,
    events: mpsc::Sender<Event>,
    replies: Replies,
    operations: Operations,
    outbox: Waiting,
    watch: Option<AbortHandle>,
    wake_at: Option<u64>,
    conn: Option<ConnId>,
    kept: watch::Sender<Kept>,
}

impl Dispatcher {
    pub(super) fn new(site: Site, ports: Ports, bodies: Arc<Bodies>, events: mpsc::Sender<Event>) -> Self {
        Self {
            site,
            ports,
            bodies,
            events,
            replies: Replies::default(),
            operations: Operations::default(),
            outbox: Waiting::default(),
            watch: None,
            wake_at: None,
            conn: None,
            kept: watch::Sender::new(None),
        }
    }

    pub(super) fn replies(&self) -> Replies {
        self.replies.clone()
    }

    /// Starts looking at the site by itself; ends when the result is dropped.
    pub(super) fn watch_surroundings(&self) -> JoinSet<()> {
        let mut watches = JoinSet::new();
        let (ports, events) = (self.ports.clone(), self.events.clone());
        watches.spawn(surroundings::watch_site(ports.clone(), self.site.state_dir.clone(), events.clone()));
        let bodies = Arc::clone(&self.bodies);
        watches.spawn(ImageKeeper::new(ports, bodies, self.kept.subscribe(), events).run());
        watches
    }

    pub(super) fn wake_at(&self) -> Option<u64> {
        self.wake_at
    }

    pub(super) fn woken(&mut self) {
        self.wake_at = None;
    }

    /// Remembers the connection that documents are asked for over.
    pub(super) fn linked(&mut self, conn: ConnId) {
        self.conn = Some(conn);
    }

    pub(super) fn forget(&mut self, op: OpId) {
        self.operations.forget(op);
    }

    /// Stops everything without a word: the core that asked for it is gone, or the process is ending.
    pub(super) fn drop_all(&mut self) {
        self.operations.cancel_all();
        self.wake_at = None;
        if let Some(watch) = self.watch.take() {
            watch.abort();
        }
    }

    /// Starts one effect; `meta` says who signs.
    pub(super) fn start(&mut self, effect: Effect, meta: Option<&MetaRow>) {
        match effect {
            Effect::Wake { at_mono_ms } => self.wake_at = Some(at_mono_ms),
            Effect::Connect { after_ms } => {
                if let Some(link) = &self.ports.link {
                    link.connect(std::time::Duration::from_millis(after_ms));
                }
            }
            Effect::Disconnect => {
                if let Some(link) = self.ports.link.clone() {
                    tokio::spawn(async move { link.disconnect().await });
                }
            }
            Effect::Birth { conn, conn_seq, assignment, root_version } => {
                self.publish(conn, Outgoing::Birth { conn_seq, assignment, root_version });
            }
            Effect::Send { conn, chain_id, from, upto, status } => {
                let Some(meta) = meta.cloned() else { return };
                let range = Range { chain_id, from, upto, status };
                if self.outbox.add(Due { conn, meta, range }) {
                    tokio::spawn(batch::send(self.site.clone(), self.ports.clone(), self.outbox.clone()));
                }
            }
            Effect::Want(documents) => self.want(documents),
            Effect::Fetch { op, generation, limits } => self.fetch(op, generation, limits),
            Effect::Prepare { op, generation, scope, before } => {
                let (bodies, ports) = (Arc::clone(&self.bodies), self.ports.clone());
                self.operate(op, async move {
                    let cluster = ports.cluster.as_ref();
                    let work = async {
                        let plan = bodies.prepare(&generation, scope.as_deref(), &before, cluster).await?;
                        bodies.check_room(&generation, &before, ports.images.as_ref(), cluster).await?;
                        Ok::<_, Failure>(plan)
                    };
                    match work.await {
                        Ok(plan) => Event::Prepared { op, plan },
                        Err(failure) => Event::PrepareFailed { op, failure },
                    }
                });
            }
            Effect::Import { op, generation } => self.import(op, generation),
            Effect::Api { op, call } => {
                let (ports, bodies) = (self.ports.clone(), Arc::clone(&self.bodies));
                self.operate(
                    op,
                    async move { Event::Api { op, reply: call_api(&ports, &bodies, call).await } },
                );
            }
            Effect::ReadHealth { op, generation, object } => self.read_health(op, generation, object),
            Effect::Watch { kinds } => self.watch(kinds),
            Effect::Cancel { op } => {
                self.operations.cancel(op);
                self.tell(Event::OpEnded { op });
            }
            Effect::Keep { generations } => self.keep(generations),
            Effect::WriteMedia { media, chain_id, from, upto } => {
                let request = WriteMedia { media, chain_id, from, upto };
                let media = self.ports.media.clone();
                tokio::spawn(async move {
                    let _ = media.send(request).await; // without a media edge there is nobody to write
                });
            }
            Effect::Reply { request, reply } => self.replies.answer(request, reply),
            Effect::Exit => {}
        }
    }

    fn publish(&self, conn: ConnId, message: Outgoing) {
        let Some(link) = &self.ports.link else { return };
        if link.publish(conn, message).is_err() {
            debug!("queue to the hub is full; the core will ask again");
        }
    }

    fn want(&self, documents: BTreeSet<WantedDocument>) {
        if let Some(conn) = self.conn {
            self.publish(conn, Outgoing::Documents(documents));
        }
    }

    /// Runs an operation whose last word is an event; cancelled, it says nothing.
    fn operate(&mut self, op: OpId, work: impl Future<Output = Event> + Send + 'static) {
        let events = self.events.clone();
        let task = tokio::spawn(async move {
            let _ = events.send(work.await).await; // the agent is ending
        });
        self.operations.insert(op, task.abort_handle());
    }

    fn tell(&self, event: Event) {
        let events = self.events.clone();
        tokio::spawn(async move {
            let _ = events.send(event).await; // the agent is ending
        });
    }

    fn fetch(&mut self, op: OpId, generation: Arc<Generation>, limits: FetchLimits) {
        let content = Arc::clone(&self.ports.content);
        let events = self.events.clone();
        self.operate(op, async move {
            let (sender, mut progress) = mpsc::channel(1);
            let fetch = content.fetch(generation, limits, sender);
            tokio::pin!(fetch);
            loop {
                tokio::select! {
                    biased;
                    outcome = &mut fetch => return match outcome {
                        Ok(()) => Event::ContentReady { op },
                        Err(error) => Event::ContentFailed { op, failure: error.into() },
                    },
                    Some((have_bytes, total_bytes)) = progress.recv() => {
                        let _ = events.try_send(Event::ContentProgress { op, have_bytes, total_bytes }); // only news
                    }
                }
            }
        });
    }

    fn import(&mut self, op: OpId, generation: Arc<Generation>) {
        let (ports, bodies) = (self.ports.clone(), Arc::clone(&self.bodies));
        self.operate(op, async move {
            let work = async {
                for image in bodies.images(&generation)? {
                    import_one(&ports, &image).await?;
                }
                Ok::<(), Failure>(())
            };
            match work.await {
                Ok(()) => Event::Imported { op },
                Err(failure) => Event::ImportFailed { op, failure },
            }
        });
    }

    fn read_health(&mut self, op: OpId, generation: Arc<Generation>, object: ObjectRef) {
        let (cluster, bodies) = (Arc::clone(&self.ports.cluster), Arc::clone(&self.bodies));
        self.operate(op, async move {
            let reading = match read_health(cluster.as_ref(), &bodies, &generation, &object).await {
                Err(ApiError { class: ApiErrorClass::NotFound | ApiErrorClass::KindUnknown, .. }) => {
                    Ok(Health::missing())
                }
                other => other,
            };
            Event::Health { op, reading }
        });
    }

    fn watch(&mut self, kinds: BTreeSet<Arc<Gvk>>) {
        if let Some(before) = self.watch.take() {
            before.abort();
        }
        if kinds.is_empty() {
            return;
        }
        let (cluster, events) = (Arc::clone(&self.ports.cluster), self.events.clone());
        let task = tokio::spawn(async move { cluster.watch(kinds, events).await });
        self.watch = Some(task.abort_handle());
    }

    /// Drops content and images that no kept generation needs; images that one needs and the runtime lost come back.
    fn keep(&self, generations: Vec<Arc<Generation>>) {
        self.kept.send_replace(Some(generations.clone()));
        self.bodies.keep(&generations);
        let content = Arc::clone(&self.ports.content);
        tokio::spawn(async move {
            match content.keep(generations).await {
                Ok(0) => {}
                Ok(freed_bytes) => debug!(freed_bytes, "dropped content that nothing needs"),
                Err(fault) => warn!(%fault, "content that nothing needs was not dropped"),
            }
        });
    }
}

async fn import_one(ports: &Ports, image: &ImageToImport) -> Result<(), Failure> {
    let cancel = CancelFlag::default();
    let imported = ports.images.import(image, &mut |_| {}, &cancel).await.map_err(|error| {
        if let Some(blob) = error.wants_blob() {
            warn!(%blob, "a blob on this disk is damaged or gone, and is fetched again");
            ports.content.forget(&blob);
        }
        from_import(&error)
    })?;
    debug!(image = %imported.top, bytes = imported.bytes, "image is in the container runtime");
    Ok(())
}

fn from_import(error: &ImportError) -> Failure {
    let class = error.class();
    Failure { class, code: error.code(), reason: error.to_string(), evidence: Vec::new() }
}

/// What the object's kind says of it, and then what the app's own rules ask of it.
async fn read_health(
    cluster: &dyn Cluster,
    bodies: &Bodies,
    generation: &Generation,
    object: &ObjectRef,
) -> Result<Health, ApiError> {
    let mut health = cluster.health(generation, object).await?;
    let rules = bodies.health_rules(generation, object).map_err(unrendered)?;
    if health.verdict == Verdict::Current && !rules.is_empty() && !generation.stopped {
        let judgement = judge_rules(&cluster.get(object).await?, &rules);
        if judgement.verdict != Verdict::Current {
            let told = Evidence {
                object: object.to_string(),
                reason: "HealthRule".into(),
                message: judgement.reason.clone(),
            };
            health.evidence = Evidence::bounded(vec![told], &Limits::DEFAULT);
            (health.verdict, health.reason) = (judgement.verdict, judgement.reason);
        }
    }
    Ok(health)
}

/// Applies a body; of an object that exists, fields that are left to others are sent only while nobody took them.
async fn apply(
    cluster: &dyn Cluster,
    mut request: ApplyRequest,
    mut left: Vec<String>,
) -> Result<Applied, ApiError> {
    if request.uid.is_none() {
        return cluster.apply(request).await;
    }
    let replicas = request.body.pointer(REPLICAS).is_some() && !left.iter().any(|field| field == REPLICAS);
    if replicas && request.object.gvk.group == "apps" && cluster.is_autoscaled(&request.object).await? {
        left.push(REPLICAS.to_owned());
    }
    if left.is_empty() {
        return cluster.apply(request).await;
    }
    let live = cluster.get(&request.object).await?;
    let taken = left.iter().filter(|field| !owns(&live, &request.field_manager, &request.body, field));
    // From the last to the first, so that elements of lists keep their places until their turn.
    let mut taken: Vec<&String> = taken.collect();
    taken.sort_unstable_by(|one, other| other.cmp(one));
    for field in taken {
        remove(&mut request.body, field);
    }
    let whole = owns_all(&live, &request.field_manager, &request.body);
    let applied = cluster.apply(request).await?;
    let version = live.pointer("/metadata/resourceVersion").and_then(serde_json::Value::as_str);
    let changed = !whole && version != Some(applied.resource_version.as_str());
    Ok(Applied { changed, ..applied })
}

/// One call of the `Cluster` port; bodies are rendered here and go no further.
fn call_api<'a>(
    ports: &'a Ports,
    bodies: &'a Bodies,
    call: ApiCall,
) -> Boxed<'a, Result<ApiReply, ApiError>> {
    Box::pin(async move {
        match call {
            ApiCall::List { app, gvk, only } => {
                ports.cluster.list(&app, &gvk, &only).await.map(ApiReply::Listed)
            }
            ApiCall::Apply { generation, index, object, uid, dry_run } => {
                let (body, left) = bodies.body(&generation, index).map_err(unrendered)?;
                let field_manager = format!("airlift/{}", generation.app);
                let request = ApplyRequest { object, body, field_manager, force: true, dry_run, uid };
                if generation.stopped {
                    // Nobody's wish for replicas counts against a root that stops the release.
                    return ports.cluster.apply(request).await.map(ApiReply::Applied);
                }
                apply(ports.cluster.as_ref(), request, left).await.map(ApiReply::Applied)
            }
            ApiCall::Others { object, ours, claims } => {
                ports.cluster.others(&object, &ours, claims).await.map(ApiReply::Others)
            }
            ApiCall::Delete { object, uid } => {
                ports.cluster.delete(&object, &uid, Propagation::Background).await.map(|()| ApiReply::Deleted)
            }
            ApiCall::Pods { object } => ports.cluster.pods(&object).await.map(ApiReply::Pods),
            ApiCall::DeletePod { pod, uid, force } => {
                ports.cluster.delete_pod(&pod, &uid, force).await.map(|()| ApiReply::Deleted)
            }
        }
    })
}

/// Content that was complete when it was prepared cannot be read now: the disk's fault, so it is fetched or tried again.
fn unrendered(failure: Failure) -> ApiError {
    let class =
        if failure.is_lost_content() { ApiErrorClass::ContentLost } else { ApiErrorClass::Unavailable };
    ApiError { class, status: 0, message: failure.reason }
}
