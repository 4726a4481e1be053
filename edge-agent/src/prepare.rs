//! From a bundle's content to what is applied: rendered bodies, the plan of waves, the images.
//!
//! Rendering is a pure function of (generation, index), so nothing rendered is kept: the objects layer is unpacked
//! once into a cache file, and an object is read from its line when it is sent. The cache is derived; it is emptied
//! at every start.

mod cache;
mod plan;

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use airlift_bundles::code::Code;
use airlift_bundles::document::release::Statement;
use airlift_bundles::envelope::Envelope;
use airlift_bundles::ids::Sha256Digest;
use airlift_bundles::layout::Bundle;
use airlift_bundles::limits::Limits;
use airlift_bundles::render::object::ObjectId;
use serde_json::Value;

use crate::core::event::{Failure, FailureClass};
use crate::core::object::{
    AppPolicy, Generation, GenerationId, Gvk, ImageEntry, ObjectEntry, ObjectRef, Plan,
};
use crate::ports::cluster::APP_LABEL;
use crate::ports::images::{BlobSource, ImageToImport};
use crate::ports::{Content as _, Store};
use crate::receive::content::DiskContent;
use cache::Lines;

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
    lines: Lines,
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

    /// Renders all objects of a generation, checks them against its release and that release's role, and plans.
    ///
    /// # Errors
    /// A failure of the app where the content contradicts what was signed, of the surroundings where the disk fails.
    pub async fn prepare(&self, generation: &Generation) -> Result<Plan, Failure> {
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
        let mut objects = Vec::new();
        let mut places = Vec::new();
        for index in 0..opened.lines.count() {
            let body = render(generation, &opened, index)?;
            let id =
                ObjectId::of(&body).map_err(|error| app_failure(Code::BundleMalformed, error.to_string()))?;
            let place = plan::place(&id, &body);
            places.push(place);
            let bytes = serde_json::to_vec(&body).map_err(|error| surroundings(error.to_string()))?;
            let traits = plan::traits(&id, &app.adopt);
            objects.push(ObjectEntry {
                index,
                object: reference(id),
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
            deletion_budget: app.deletion_budget.map(|budget| u32::try_from(budget).unwrap_or(u32::MAX)),
        };
        Ok(Plan { images: images.collect(), objects, policy })
    }

    /// Renders one object, as it is sent.
    ///
    /// # Errors
    /// As [`Bodies::prepare`].
    pub fn body(&self, generation: &Generation, index: u32) -> Result<Value, Failure> {
        render(generation, &*self.opened(generation)?, index)
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

    /// Forgets generations that are kept no longer.
    pub fn keep(&self, generations: &[Arc<Generation>]) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|opened| generations.iter().any(|generation| generation.id == opened.id));
    }

    fn opened(&self, generation: &Generation) -> Result<Arc<Opened>, Failure> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(opened) = open.iter().find(|opened| opened.id == generation.id) {
            return Ok(Arc::clone(opened));
        }
        let bundle = self
            .content
            .bundle(&generation.bundle)
            .map_err(|error| Failure { code: error.code(), ..surroundings(error.to_string()) })?;
        let packed = self.content.open(&bundle.objects().digest).map_err(Failure::from)?;
        let path = self.dir.join(generation.id.to_hex());
        let lines = Lines::unpack(packed, bundle.objects_raw().size, path)
            .map_err(|error| app_failure(Code::BundleMalformed, error.to_string()))?;
        let opened = Arc::new(Opened { id: generation.id, bundle, lines });
        open.push_back(Arc::clone(&opened));
        if open.len() > OPEN_MAX {
            open.pop_front();
        }
        Ok(opened)
    }
}

/// One object of a generation with its chosen values, under the app's label.
fn render(generation: &Generation, opened: &Opened, index: u32) -> Result<Value, Failure> {
    let malformed = |reason: String| app_failure(Code::BundleMalformed, reason);
    let mut object = opened.lines.read(index).map_err(|error| surroundings(error.to_string()))?;
    let id = ObjectId::of(&object).map_err(|error| malformed(error.to_string()))?;
    for (name, value) in &generation.parameters {
        let declared = opened.bundle.app().parameters.get(name);
        let declared = declared.ok_or_else(|| app_failure(Code::ParameterUndeclared, name.to_string()))?;
        for target in declared.targets.iter().filter(|target| ObjectId::from(*target).is_same_object(&id)) {
            let scalar = object.pointer_mut(&target.pointer);
            let scalar = scalar.ok_or_else(|| malformed(format!("{} has no {}", id.name, target.pointer)))?;
            *scalar = value.clone().into();
        }
    }
    let labels = object
        .pointer_mut("/metadata")
        .and_then(Value::as_object_mut)
        .map(|metadata| metadata.entry("labels").or_insert_with(|| Value::Object(serde_json::Map::new())));
    if let Some(Value::Object(labels)) = labels {
        labels.insert(APP_LABEL.to_owned(), generation.app.as_str().into());
    }
    Ok(object)
}

fn reference(id: ObjectId) -> ObjectRef {
    ObjectRef { gvk: Arc::new(Gvk::new(&id.api_version, &id.kind)), namespace: id.namespace, name: id.name }
}

fn app_failure(code: Code, reason: String) -> Failure {
    Failure { class: FailureClass::App, code, reason, evidence: Vec::new() }
}

fn surroundings(reason: String) -> Failure {
    Failure { class: FailureClass::Environment, code: Code::StoreFailed, reason, evidence: Vec::new() }
}
