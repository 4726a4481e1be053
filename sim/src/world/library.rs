//! The releases of a scenario as real things: a root, bundles that were packed, releases that were signed, and what
//! the agent's own preparing makes of them, once for each generation however many sites apply it.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use airlift_agent::core::event::Failure;
use airlift_agent::core::object::{Generation, GenerationId, ObjectEntry, ObjectRef, Plan, Predecessors};
use airlift_agent::core::write::{BlobRow, DocumentRow, Write};
use airlift_agent::ports::Store as _;
use airlift_agent::ports::absent::AbsentCluster;
use airlift_agent::prepare::Bodies;
use airlift_agent::receive::content::DiskContent;
use airlift_agent::store::MemoryStore;
use airlift_bundles::document::release::{Platform, Statement};
use airlift_bundles::document::root::Scope;
use airlift_bundles::envelope::Envelope;
use airlift_bundles::ids::{AppName, Counter, FleetId, Sha256Digest, Timestamp, Version};
use airlift_bundles::layout::app::HealthRule;
use airlift_bundles::limits::Limits;
use airlift_bundles::pack::{ReleaseFacts, pack};
use serde_json::Value;

use super::WorldError;
use super::trust::Trust;
use crate::bundle::OwnBundle;
use crate::demo::image::write_image;
use crate::scenario::{ReleaseSpec, Scenario};

/// When the fleet's documents were drafted: 2027-01-15, which is also when the world begins.
pub(crate) const BEGINNING_S: i64 = 1_800_000_000;
/// What every app declares, and may be chosen for it: copies of its pods, and a setting.
pub(crate) const REPLICAS: std::ops::RangeInclusive<i64> = 1..=5;
pub(crate) const COLOURS: [&str; 3] = ["red", "green", "blue"];

/// A release that was really signed.
pub(crate) struct Published {
    pub(crate) envelope: Vec<u8>,
    pub(crate) sha256: Sha256Digest,
    pub(crate) bundle: Sha256Digest,
    pub(crate) statement: Statement,
    /// What travels, as the scenario has it.
    pub(crate) bytes: u64,
}

/// What a generation is applied from.
pub(crate) struct Rendered {
    pub(crate) objects: Vec<ObjectEntry>,
    /// By index.
    pub(crate) bodies: Vec<Value>,
    pub(crate) images: Vec<String>,
    pub(crate) rules: BTreeMap<ObjectRef, Vec<HealthRule>>,
}

/// A preparation: of what, whether a role's scope was asked, and compared with what.
type Preparation = (GenerationId, bool, Option<GenerationId>, Option<GenerationId>);

/// Everything that is the same for all sites.
pub(crate) struct Library {
    pub(crate) fleet: FleetId,
    pub(crate) platform: Platform,
    pub(crate) content: Arc<DiskContent>,
    releases: BTreeMap<(AppName, Version), Published>,
    store: Arc<MemoryStore>,
    bodies: Bodies,
    plans: BTreeMap<Preparation, Result<Plan, Failure>>,
    rendered: BTreeMap<GenerationId, Arc<Rendered>>,
    /// The content store's thread needs its runtime, and its files their folder.
    _runtime: tokio::runtime::Runtime,
    _folder: tempfile::TempDir,
}

/// The answer of a future that has it already.
pub(crate) fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer,
        Poll::Pending => unreachable!("what is in memory answers at once"),
    }
}

/// The app's folder, as an operator would have it: every version changes its settings and has a note of its own,
/// so that an update changes, adds and prunes.
fn write_app(folder: &Path, spec: &ReleaseSpec, platform: &Platform) -> io::Result<()> {
    let ReleaseSpec { app, version, seq, .. } = spec;
    let image = format!("sim.airlift.dev/{app}:{version}");
    let descriptor = format!(
        "apiVersion: airlift.dev/v1alpha1\nkind: App\nname: {app}\nversion: \"{version}\"\n\
         images:\n  - name: {image}\n    from: oci:image\ntimeout: {}s\nsoak: {}s\n\
         parameters:\n  replicas:\n    type: integer\n    min: {}\n    max: {}\n    targets:\n      - apiVersion: apps/v1\n        kind: Deployment\n        namespace: {app}\n        name: {app}\n        pointer: /spec/replicas\n  \
         colour:\n    type: string\n    enum: [{}]\n    targets:\n      - apiVersion: v1\n        kind: ConfigMap\n        namespace: {app}\n        name: settings\n        pointer: /data/colour\n",
        spec.timeout.ms() / 1000,
        spec.soak.ms() / 1000,
        REPLICAS.start(),
        REPLICAS.end(),
        COLOURS.join(", ")
    );
    let trouble = if spec.works { "" } else { "\n        sim.airlift.dev/trouble: crash" };
    let manifests = format!(
        "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {app}\n---\n\
         apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: settings\n  namespace: {app}\ndata:\n  version: \"{version}\"\n  colour: red\n---\n\
         apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: note-{seq}\n  namespace: {app}\ndata:\n  seq: \"{seq}\"\n---\n\
         apiVersion: v1\nkind: Service\nmetadata:\n  name: {app}\n  namespace: {app}\nspec:\n  selector:\n    app: {app}\n  ports:\n    - port: 80\n---\n\
         apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: {app}\n  namespace: {app}\nspec:\n  replicas: 2\n  selector:\n    matchLabels:\n      app: {app}\n  template:\n    metadata:\n      labels:\n        app: {app}\n      annotations:\n        version: \"{version}\"{trouble}\n    spec:\n      containers:\n        - name: app\n          image: {image}\n          imagePullPolicy: IfNotPresent\n          envFrom:\n            - configMapRef:\n                name: settings\n"
    );
    std::fs::create_dir_all(folder.join("manifests"))?;
    std::fs::write(folder.join("airlift.yaml"), descriptor)?;
    std::fs::write(folder.join("manifests/app.yaml"), manifests)?;
    write_image(&folder.join("image"), &image, version.as_str(), platform)
}

/// Takes an operator's own bundle in: its statement is signed anew, for this fleet, with the simulator's keys.
fn take_in(
    bundle: &OwnBundle,
    spec: &ReleaseSpec,
    (fleet, trust): (&FleetId, &Trust),
    platform: &Platform,
    blobs: &Path,
    store: &MemoryStore,
) -> Result<Published, WorldError> {
    let mut statement = bundle.statement().clone();
    let release = &mut statement.predicate;
    if (&release.app, &release.version, release.seq) != (&spec.app, &spec.version, spec.seq) {
        let text = format!("the bundle is {} {} number {}", release.app, release.version, release.seq);
        return Err(WorldError::Refused(format!("release {} {}: {text}", spec.app, spec.version)));
    }
    (release.fleet_id, release.epoch, release.prev) = (fleet.clone(), 0, None);
    for (sha256, size) in bundle.unpack(blobs)? {
        at_once(store.commit(vec![Write::PutBlob(BlobRow { sha256, size })]))?;
    }
    let envelope = trust.release(&statement);
    let sha256 = Envelope::draft(&statement).digest();
    let row = DocumentRow { sha256, envelope: envelope.as_slice().into() };
    at_once(store.commit(vec![Write::PutDocument(row)]))?;
    let bytes = spec.bytes.unwrap_or_else(|| bundle.bytes(platform));
    Ok(Published { envelope, sha256, bundle: statement.bundle(), statement, bytes })
}

impl Library {
    /// Packs and signs everything that a scenario releases.
    pub(crate) fn new(scenario: &Scenario, fleet: &FleetId, trust: &Trust) -> Result<Self, WorldError> {
        let folder = tempfile::tempdir()?;
        let mut platform = Platform { os: "linux".into(), architecture: "amd64".into(), variant: None };
        let mut own = BTreeMap::new();
        for (number, path) in
            scenario.release.iter().enumerate().filter_map(|(n, spec)| Some((n, spec.bundle.as_ref()?)))
        {
            let bundle = OwnBundle::open(path)?;
            platform = bundle.platform(&platform);
            own.insert(number, bundle);
        }
        let (state, store) = (folder.path().join("state"), Arc::new(MemoryStore::default()));
        let blobs = state.join("blobs/sha256");
        std::fs::create_dir_all(&blobs)?;
        let mut releases = BTreeMap::new();
        for (number, spec) in scenario.release.iter().enumerate() {
            if let Some(bundle) = own.get(&number) {
                let published = take_in(bundle, spec, (fleet, trust), &platform, &blobs, &store)?;
                releases.insert((spec.app.clone(), spec.version.clone()), published);
                continue;
            }
            let (source, layout) =
                (folder.path().join(format!("source-{number}")), folder.path().join(format!("{number}")));
            write_app(&source, spec, &platform)?;
            let packed = pack(&source, &layout, &Limits::DEFAULT)?;
            for blob in std::fs::read_dir(layout.join("blobs/sha256"))? {
                let blob = blob?;
                let sha256 = Sha256Digest::from_hex(&blob.file_name().to_string_lossy())
                    .map_err(|error| io::Error::other(error.to_string()))?;
                let size = blob.metadata()?.len();
                std::fs::rename(blob.path(), blobs.join(blob.file_name()))?;
                at_once(store.commit(vec![Write::PutBlob(BlobRow { sha256, size })]))?;
            }
            let statement = packed.draft(&ReleaseFacts {
                fleet_id: fleet.clone(),
                counter: Counter { epoch: 0, seq: spec.seq },
                floor: spec.floor,
                prev: None,
                issued_at: Timestamp::from_unix_s(BEGINNING_S),
            });
            let envelope = trust.release(&statement);
            let sha256 = Envelope::draft(&statement).digest();
            let row = DocumentRow { sha256, envelope: envelope.as_slice().into() };
            at_once(store.commit(vec![Write::PutDocument(row)]))?;
            let bytes = spec.bytes.unwrap_or(statement.predicate.sizes.packed);
            let published = Published { envelope, sha256, bundle: statement.bundle(), statement, bytes };
            releases.insert((spec.app.clone(), spec.version.clone()), published);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let opening = DiskContent::open(state, platform.clone(), Arc::clone(&store) as Arc<_>);
        let content = Arc::new(runtime.block_on(opening)?);
        let rows = Arc::clone(&store) as Arc<_>;
        let bodies = Bodies::open(&folder.path().join("cache"), Arc::clone(&content), rows)?;
        Ok(Self {
            fleet: fleet.clone(),
            platform,
            content,
            releases,
            store,
            bodies,
            plans: BTreeMap::new(),
            rendered: BTreeMap::new(),
            _runtime: runtime,
            _folder: folder,
        })
    }

    /// All releases.
    pub(crate) fn releases(&self) -> impl Iterator<Item = &Published> {
        self.releases.values()
    }

    /// The release of this version.
    pub(crate) fn release(&self, app: &AppName, version: &Version) -> Option<&Published> {
        self.releases.get(&(app.clone(), version.clone()))
    }

    /// The holders of new keys sign every release again; it stays the same document.
    pub(crate) fn sign_again(&mut self, trust: &Trust) {
        for release in self.releases.values_mut() {
            release.envelope = trust.release(&release.statement);
        }
    }

    /// The release whose bundle this is.
    pub(crate) fn of_bundle(&self, bundle: &Sha256Digest) -> Option<&Published> {
        self.releases.values().find(|release| release.bundle == *bundle)
    }

    /// Takes in a release that nobody published, so that only a checker can keep it from being applied.
    pub(crate) fn learn(&self, sha256: Sha256Digest, envelope: &[u8]) {
        let row = DocumentRow { sha256, envelope: envelope.into() };
        at_once(self.store.commit(vec![Write::PutDocument(row)])).expect("the store in memory does not fail");
    }

    /// What the agent's own preparing makes of a generation, where it may find these others. The apps of scenarios
    /// have nothing about which preparing would ask the cluster.
    pub(crate) fn plan(
        &mut self,
        generation: &Generation,
        scope: Option<&Scope>,
        before: &Predecessors,
    ) -> Result<Plan, Failure> {
        let id = |before: &Option<Arc<Generation>>| before.as_ref().map(|before| before.id);
        let preparation = (generation.id, scope.is_some(), id(&before.healthy), id(&before.begun));
        if let Some(plan) = self.plans.get(&preparation) {
            return plan.clone();
        }
        let plan = at_once(self.bodies.prepare(generation, scope, before, &AbsentCluster));
        self.plans.insert(preparation, plan.clone());
        plan
    }

    /// What a generation is applied from; nothing where it cannot be prepared.
    pub(crate) fn rendered(&mut self, generation: &Generation) -> Arc<Rendered> {
        if let Some(rendered) = self.rendered.get(&generation.id) {
            return Arc::clone(rendered);
        }
        let plan = self.plan(generation, None, &Predecessors::default());
        let (mut objects, images) =
            plan.map_or_else(|_| Default::default(), |plan| (plan.objects, plan.images));
        objects.sort_by_key(|entry| entry.index);
        let (mut bodies, mut rules) = (Vec::new(), BTreeMap::new());
        for entry in &objects {
            // The plan was made from these very bodies.
            bodies.push(self.bodies.body(generation, entry.index).unwrap_or_default().0);
            let of_object = self.bodies.health_rules(generation, &entry.object).unwrap_or_default();
            rules.insert(entry.object.clone(), of_object);
        }
        let images = images.into_iter().map(|image| image.reference).collect();
        let rendered = Arc::new(Rendered { objects, bodies, images, rules });
        self.rendered.insert(generation.id, Arc::clone(&rendered));
        rendered
    }
}
