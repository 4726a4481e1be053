//! From a bundle's content to what is applied: rendered bodies, the plan of waves, the images.
//!
//! Rendering is a pure function of (generation, index), so nothing rendered is kept: the objects layer is unpacked
//! once into a cache file, and an object is read from its line when it is sent. The cache is derived; it is emptied
//! at every start.

mod before;
mod cache;
mod plan;
mod room;
mod stopped;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use airlift_bundles::code::Code;
use airlift_bundles::document::release::Statement;
use airlift_bundles::document::root::Scope;
use airlift_bundles::envelope::Envelope;
use airlift_bundles::ids::{Name, Sha256Digest};
use airlift_bundles::layout::Bundle;
use airlift_bundles::layout::app::HealthRule;
use airlift_bundles::limits::Limits;
use airlift_bundles::render::config_hash::ConfigHashes;
use airlift_bundles::render::object::ObjectId;
use airlift_bundles::render::overlay::Overlay;
use airlift_bundles::render::scope::check_scope;
use airlift_bundles::render::{RenderError, Renderer};
use serde_json::Value;

use crate::core::event::{Failure, FailureClass};
use crate::core::object::{
    AppPolicy, Generation, GenerationId, Gvk, ImageEntry, ObjectEntry, ObjectRef, Plan, Predecessors,
};
use crate::ports::cluster::APP_LABEL;
use crate::ports::images::{BlobSource, ImageToImport};
use crate::ports::{Cluster, Store};
use crate::receive::content::{DiskContent, from_io};
use before::Before;
use cache::{Lines, LinesError};

/// Where workloads that can be scaled have their number of pods.
pub const REPLICAS: &str = "/spec/replicas";
/// Unpacked objects layers that are kept open: the coming and the previous generation of two apps.
const OPEN_MAX: usize = 4;

/// Renders what generations hold.
pub struct Bodies {
    dir: PathBuf,
    content: Arc<DiskContent>,
    store: Arc<dyn Store>,
    open: Mutex<VecDeque<Arc<Opened>>>,
}

/// A generation whose objects layer is unpacked.
struct Opened {
    id: GenerationId,
    bundle: Bundle,
    renderer: Renderer,
    hashes: ConfigHashes,
    /// Workloads whose replicas an autoscaler of the same bundle sets.
    autoscaled: Vec<ObjectId>,
    lines: Lines,
}

impl Opened {
    /// Renders one object with its chosen values, under the app's label.
    fn render(&self, generation: &Generation, index: u32) -> Result<(ObjectId, Value), Failure> {
        let object = self.lines.read(index).map_err(|error| surroundings(error.to_string()))?;
        let (id, mut object) = self.renderer.render(object).map_err(|error| unrendered(&error))?;
        let labels = object.pointer_mut("/metadata").and_then(Value::as_object_mut).map(|metadata| {
            metadata.entry("labels").or_insert_with(|| Value::Object(serde_json::Map::new()))
        });
        if let Some(Value::Object(labels)) = labels {
            labels.insert(APP_LABEL.to_owned(), generation.app.as_str().into());
        }
        self.hashes.annotate(&id, &mut object);
        if generation.stopped {
            stopped::stop(&id, &mut object);
        }
        Ok((id, object))
    }
}

impl Bodies {
    /// Empties the cache directory and begins with nothing open.
    ///
    /// # Errors
    /// [`io::Error`] where the directory cannot be made anew.
    pub fn open(dir: &Path, content: Arc<DiskContent>, store: Arc<dyn Store>) -> io::Result<Self> {
        match std::fs::remove_dir_all(dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => std::fs::create_dir_all(dir)?,
        }
        Ok(Self { dir: dir.to_owned(), content, store, open: Mutex::default() })
    }

    /// Renders all objects of a generation, checks them against its release and, where it is not accepted yet,
    /// against the scope of that release's role, compares them with what they may be now, and plans.
    ///
    /// # Errors
    /// A failure of the app where the content contradicts what was signed, of the surroundings where the disk or the
    /// API server fails.
    pub async fn prepare(
        &self,
        generation: &Generation,
        scope: Option<&Scope>,
        before: &Predecessors,
        cluster: &dyn Cluster,
    ) -> Result<Plan, Failure> {
        let release =
            self.store.document(generation.release).await.map_err(|error| surroundings(error.to_string()))?;
        let release = release.ok_or_else(|| surroundings("the release document is not here".into()))?;
        let opened = self.opened(generation)?;
        let app = opened.bundle.app();
        let statement: Statement = Envelope::parse(&release, &Limits::DEFAULT)
            .and_then(|envelope| envelope.read_unverified(&Limits::DEFAULT))
            .map_err(|error| app_failure(error.code(), error.to_string()))?;
        app.check_release(&statement.predicate).map_err(|field| {
            app_failure(Code::DescriptorDiffers, format!("release and bundle differ in {field}"))
        })?;
        let mut before = Before::open(self, &opened, generation, before, cluster);
        let mut kinds: BTreeSet<Arc<Gvk>> = BTreeSet::new();
        let mut objects = Vec::new();
        let mut places = Vec::new();
        for index in 0..opened.lines.count() {
            let (id, body) = opened.render(generation, index)?;
            if let Some(scope) = scope {
                check_scope(&id, &body, scope)
                    .map_err(|error| app_failure(Code::OutOfScope, error.to_string()))?;
            }
            let place = plan::place(&id, &body);
            places.push(place);
            let bytes = serde_json::to_vec(&body).map_err(|error| surroundings(error.to_string()))?;
            let mut traits = plan::traits(&id, &app.adopt);
            traits.recreate = before.compare(&id, &body).await?;
            traits.observed |= app.health.iter().any(|rule| rule.object().is_same_object(&id));
            objects.push(ObjectEntry {
                index,
                object: shared(&mut kinds, reference(id)),
                wave: 0,
                sha256: Sha256Digest::of(&bytes),
                traits,
            });
        }
        for ((object, wave), place) in objects.iter_mut().zip(plan::waves(&places)).zip(&places) {
            object.wave = wave;
            object.traits.gate |= plan::gates_webhooks(*place, &places);
        }
        let images = self.images(generation)?.into_iter().flat_map(|image| {
            let digest = image.top;
            image.references.into_iter().map(move |reference| ImageEntry { reference, digest })
        });
        let policy = AppPolicy {
            soak_ms: app.soak_s.saturating_mul(1000),
            timeout_ms: app.timeout_s.saturating_mul(1000),
            watch_ms: app.watch_s.unwrap_or(0).saturating_mul(1000),
            deletion_budget: app.deletion_budget.map(|budget| u32::try_from(budget).unwrap_or(u32::MAX)),
        };
        Ok(Plan { images: images.collect(), objects, policy, irreversible: before.irreversible() })
    }

    /// Renders one object, as it is sent, with the fields of it that are left to others.
    ///
    /// # Errors
    /// As [`Bodies::prepare`].
    pub fn body(&self, generation: &Generation, index: u32) -> Result<(Value, Vec<String>), Failure> {
        let opened = self.opened(generation)?;
        let (id, body) = opened.render(generation, index)?;
        let rules = opened.bundle.app().ignore.iter().filter(|rule| rule.object().is_same_object(&id));
        let mut left: Vec<String> = rules.flat_map(|rule| rule.pointers.iter().cloned()).collect();
        if opened.autoscaled.iter().any(|target| target.is_same_object(&id)) {
            left.push(REPLICAS.to_owned());
        }
        Ok((body, left))
    }

    /// The images that a generation's pods use, as they are put into the container runtime.
    ///
    /// # Errors
    /// As [`Bodies::prepare`].
    pub fn images(&self, generation: &Generation) -> Result<Vec<ImageToImport>, Failure> {
        let opened = self.opened(generation)?;
        let image = |image: &airlift_bundles::layout::BundleImage| ImageToImport {
            references: image.names.iter().map(|name| name.pin(image.target.digest).to_string()).collect(),
            top: image.target.digest,
            platform: self.content.platform().clone(),
            blobs: Arc::clone(&self.content) as Arc<dyn BlobSource>,
        };
        Ok(opened.bundle.images().iter().map(image).collect())
    }

    /// The app's own health rules that speak of an object.
    ///
    /// # Errors
    /// As [`Bodies::prepare`].
    pub fn health_rules(
        &self,
        generation: &Generation,
        object: &ObjectRef,
    ) -> Result<Vec<HealthRule>, Failure> {
        let opened = self.opened(generation)?;
        let rules = opened.bundle.app().health.iter();
        Ok(rules.filter(|rule| reference(rule.object()) == *object).cloned().collect())
    }

    /// Forgets generations that are kept no longer.
    pub fn keep(&self, generations: &[Arc<Generation>]) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|opened| generations.iter().any(|generation| generation.id == opened.id));
    }

    fn renderer(&self, bundle: &Bundle, generation: &Generation) -> Result<Renderer, Failure> {
        let limits = &Limits::DEFAULT;
        let chosen: BTreeSet<Name> = generation.overlays.iter().cloned().collect();
        let mut overlays = BTreeMap::new();
        for (name, blob) in bundle.overlays().iter().filter(|(name, _)| chosen.contains(name)) {
            let mut bytes = Vec::new();
            let packed = self.content.open_checked(&blob.digest)?.take(limits.whole_item_bytes);
            BufReader::new(packed).read_to_end(&mut bytes).map_err(|error| from_io(&error))?;
            let overlay = Overlay::parse(&bytes, limits);
            let overlay = overlay
                .map_err(|error| app_failure(Code::BundleMalformed, format!("overlay {name}: {error}")))?;
            overlays.insert(name.clone(), overlay);
        }
        Renderer::new(bundle.app(), &overlays, &chosen, &generation.parameters, limits)
            .map_err(|error| unrendered(&error))
    }

    fn bundle(&self, generation: &Generation) -> Result<Bundle, Failure> {
        let bundle = self.content.bundle(&generation.bundle);
        bundle.map_err(|error| Failure { code: error.code(), ..surroundings(error.to_string()) })
    }

    fn opened(&self, generation: &Generation) -> Result<Arc<Opened>, Failure> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(opened) = open.iter().find(|opened| opened.id == generation.id) {
            return Ok(Arc::clone(opened));
        }
        let bundle = self.bundle(generation)?;
        let packed = self.content.open_checked(&bundle.objects().digest)?;
        let path = self.dir.join(generation.id.to_hex());
        let lines = Lines::unpack(packed, bundle.objects_raw().size, path).map_err(|error| match error {
            LinesError::Io(error) => Failure::from(from_io(&error)),
            LinesError::Layer(error) => app_failure(error.code(), error.to_string()),
            error => app_failure(Code::BundleMalformed, error.to_string()),
        })?;
        let renderer = self.renderer(&bundle, generation)?;
        let (mut hashes, mut autoscaled) = (ConfigHashes::default(), Vec::new());
        let mut opened = Opened {
            id: generation.id,
            bundle,
            renderer,
            hashes: ConfigHashes::default(),
            autoscaled: Vec::new(),
            lines,
        };
        for index in 0..opened.lines.count() {
            let (id, object) = opened.render(generation, index)?;
            if !opened.bundle.app().no_config_hash {
                hashes.learn(&id, &object);
            }
            autoscaled.extend(plan::scale_target(&id, &object));
        }
        (opened.hashes, opened.autoscaled) = (hashes, autoscaled);
        let opened = Arc::new(opened);
        open.push_back(Arc::clone(&opened));
        if open.len() > OPEN_MAX {
            open.pop_front();
        }
        Ok(opened)
    }
}

/// Lets objects of one kind share it.
fn shared(kinds: &mut BTreeSet<Arc<Gvk>>, object: ObjectRef) -> ObjectRef {
    match kinds.get(&object.gvk) {
        Some(gvk) => ObjectRef { gvk: Arc::clone(gvk), ..object },
        None => {
            kinds.insert(Arc::clone(&object.gvk));
            object
        }
    }
}

fn reference(id: ObjectId) -> ObjectRef {
    ObjectRef { gvk: Arc::new(Gvk::new(&id.api_version, &id.kind)), namespace: id.namespace, name: id.name }
}

fn unrendered(error: &RenderError) -> Failure {
    app_failure(error.code(), error.to_string())
}

fn app_failure(code: Code, reason: String) -> Failure {
    Failure { class: FailureClass::App, code, reason, evidence: Vec::new() }
}

fn surroundings(reason: String) -> Failure {
    Failure { class: FailureClass::Environment, code: Code::StoreFailed, reason, evidence: Vec::new() }
}

#[cfg(test)]
mod tests;
