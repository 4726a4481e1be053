//! Source: images that no file holds, from a registry or from the container runtime of the machine that builds.
//!
//! Packing asks for one document or blob at a time, and so only what the bundle needs is fetched, straight into it.
//! What arrives is checked against its digest there; nothing that a registry says is believed.

mod challenge;
mod containerd;
mod credentials;
mod http;
mod registry;

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use airlift_bundles::code::Code;
use airlift_bundles::ids::Sha256Digest;
use airlift_bundles::layout::reference::ImageReference;
use airlift_bundles::pack::{RemoteImage, RemoteImages};
use tokio::runtime::Runtime;

/// How often one step is tried when a registry does not answer or breaks off.
const TRIES: u32 = 6;
/// The pause before the second try; each later one is twice as long, 15 s in all.
const PAUSE: Duration = Duration::from_millis(500);

/// Where and how images are looked for.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Registries, as `host` or `host:port`, that are spoken to without TLS.
    pub plain_http: Vec<String>,
    /// Certificate authorities (PEM) that registries may have beside the system's.
    pub registry_ca: Vec<PathBuf>,
    /// containerd's socket; by default where containerd or K3s puts it.
    pub containerd: Option<PathBuf>,
    /// containerd's namespace.
    pub namespace: String,
}

/// Why an image cannot be taken from its source.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// What stands behind the transport is no image name.
    #[error("{from:?} does not name an image")]
    Name {
        /// As it stands in airlift.yaml.
        from: String,
    },
    /// A registry's tag may mean something else tomorrow.
    #[error("{from} has no digest; now it means {now}")]
    Unpinned {
        /// As it stands in airlift.yaml.
        from: String,
        /// What to write instead.
        now: String,
    },
    /// The registry wants other credentials, or these may not read the image.
    #[error("registry {host} does not let us read {image}: {reason}")]
    Denied {
        /// The image.
        image: String,
        /// The registry.
        host: String,
        /// What it said.
        reason: String,
    },
    /// The registry has no such image or blob.
    #[error("registry {host} does not have {what} of {image}")]
    NotFound {
        /// The image.
        image: String,
        /// The registry.
        host: String,
        /// The manifest or blob.
        what: String,
    },
    /// The registry cannot be spoken to, also after several tries.
    #[error("cannot fetch {image} from registry {host}: {reason}")]
    Registry {
        /// The image.
        image: String,
        /// The registry.
        host: String,
        /// What went wrong the last time.
        reason: String,
    },
    /// Stored credentials cannot be read.
    #[error("credentials for {host}: {reason}")]
    Credentials {
        /// The registry.
        host: String,
        /// What is wrong.
        reason: String,
    },
    /// A certificate authority cannot be read.
    #[error("certificate authority {path}: {reason}", path = path.display())]
    Authority {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// containerd does not answer.
    #[error("cannot read {image} from containerd at {socket}: {reason}", socket = socket.display())]
    Containerd {
        /// The image.
        image: String,
        /// The socket.
        socket: PathBuf,
        /// What went wrong.
        reason: String,
    },
    /// containerd has no such image.
    #[error("containerd has no image {image} in namespace {namespace}")]
    NotHeld {
        /// The image.
        image: String,
        /// Where it was looked for.
        namespace: String,
    },
    /// containerd has the image's name, but not all of its content.
    #[error("containerd holds {image} without its part {digest}")]
    Incomplete {
        /// The image.
        image: String,
        /// What is missing.
        digest: Sha256Digest,
    },
    /// The name means another image here than airlift.yaml says.
    #[error("{from} means {now} in containerd now")]
    Moved {
        /// As it stands in airlift.yaml.
        from: String,
        /// What the name means.
        now: String,
    },
}

impl SourceError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Name { .. } => Code::BuildInvalid,
            Self::Unpinned { .. } | Self::Moved { .. } => Code::ImageUnpinned,
            _ => Code::ImageUnfetched,
        }
    }

    /// What a person does next, where more is known than the code's own advice.
    #[must_use]
    pub fn next(&self) -> String {
        match self {
            Self::Name { .. } => {
                "Write docker://HOST/NAME:TAG@sha256:… or containerd:HOST/NAME:TAG in airlift.yaml."
                    .to_owned()
            }
            Self::Unpinned { now, .. } => {
                format!("Write `from: {now}` in airlift.yaml, if that is the image.")
            }
            Self::Moved { now, .. } => {
                format!("Write the digest of {now} in airlift.yaml, or pull the image that it names.")
            }
            Self::Denied { host, .. } => format!("Log in with `docker login {host}`, and build again."),
            Self::NotFound { .. } => "Check name, tag and digest with whoever pushed it.".to_owned(),
            Self::Registry { host, .. } => {
                format!("Check the network and the name; --plain-http {host} is for a registry without TLS.")
            }
            Self::Credentials { host, .. } => format!("Log in again with `docker login {host}`."),
            Self::Authority { .. } => "Name a PEM file with --registry-ca.".to_owned(),
            Self::Containerd { .. } => {
                "Check that containerd runs and that you may use its socket; --containerd names another."
                    .to_owned()
            }
            Self::NotHeld { .. } => {
                "List what is there with `ctr -n NAMESPACE images ls`; --containerd-namespace names another."
                    .to_owned()
            }
            Self::Incomplete { image, .. } => {
                format!(
                    "Pull it whole (`ctr images pull --all-platforms {image}`), or name fewer platforms in airlift.yaml."
                )
            }
        }
    }
}

/// Hears how fetching goes.
pub trait Progress {
    /// A blob of an image begins; 0 bytes where nobody said how large it is.
    fn begins(&self, image: &str, bytes: u64);
    /// So many bytes more are here.
    fn fetched(&self, bytes: u64);
}

/// What all images of one build share.
struct Shared {
    settings: Settings,
    runtime: Runtime,
    progress: Box<dyn Progress>,
    http: RefCell<Option<Rc<http::Http>>>,
    /// The first failure: packing knows words only.
    failure: RefCell<Option<SourceError>>,
}

/// Opens images for packing, one after the other.
pub struct Sources(Rc<Shared>);

impl Sources {
    /// Makes ready; nothing is opened yet.
    ///
    /// # Errors
    /// [`std::io::Error`] when the system gives no runtime.
    pub fn new(settings: Settings, progress: impl Progress + 'static) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (progress, http, failure) = (Box::new(progress), RefCell::default(), RefCell::default());
        Ok(Self(Rc::new(Shared { settings, runtime, progress, http, failure })))
    }

    /// The first failure, with its code and what to do.
    #[must_use]
    pub fn take_failure(&self) -> Option<SourceError> {
        self.0.failure.take()
    }
}

impl RemoteImages for Sources {
    fn open(&self, from: &str) -> Result<Box<dyn RemoteImage>, String> {
        let (transport, name) = from.split_once(':').unwrap_or((from, ""));
        let name = if transport == "docker" { name.strip_prefix("//").unwrap_or_default() } else { name };
        let image = name
            .parse::<ImageReference>()
            .map_err(|_| SourceError::Name { from: from.to_owned() })
            .and_then(|image| match transport {
                "docker" => registry::open(&self.0, from, &image),
                _ => containerd::open(&self.0, from, &image),
            });
        image.map_err(|error| self.0.failed(error))
    }
}

impl Shared {
    /// Keeps the first failure for the caller, and gives packing its words.
    fn failed(&self, error: SourceError) -> String {
        let words = error.to_string();
        self.failure.borrow_mut().get_or_insert(error);
        words
    }

    fn failed_io(&self, error: SourceError) -> std::io::Error {
        std::io::Error::other(self.failed(error))
    }

    fn begins(&self, image: &str, bytes: u64) {
        self.progress.begins(image, bytes);
    }

    fn fetched(&self, bytes: u64) {
        self.progress.fetched(bytes);
    }
}
