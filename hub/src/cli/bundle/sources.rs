//! Where `bundle build` looks for images that are not in the folder, and how it says what it fetches.

use std::cell::RefCell;
use std::path::PathBuf;

use clap::Args;

use crate::cli::failure::{Failure, Kind};
use crate::cli::terminal::{self, Terminal};
use crate::source::{Progress, Settings, SourceError, Sources};

/// Blobs below this are here before anybody could read of them: bytes.
const SHOWN_BYTES_MIN: u64 = 1 << 20;

#[derive(Debug, Args)]
#[command(next_help_heading = "Images that are not in the folder")]
pub(crate) struct SourceArgs {
    /// A registry that has no TLS; may be given several times
    #[arg(long, value_name = "HOST[:PORT]")]
    plain_http: Vec<String>,
    /// Further certificate authorities for registries; may be given several times
    #[arg(long, value_name = "FILE.pem")]
    registry_ca: Vec<PathBuf>,
    /// The socket for `from: containerd:NAME`; containerd's own or K3s's by default
    #[arg(long, value_name = "SOCKET", env = "CONTAINERD_ADDRESS")]
    containerd: Option<PathBuf>,
    /// The namespace of containerd's images; those of Kubernetes are in k8s.io
    #[arg(long, value_name = "NAME", env = "CONTAINERD_NAMESPACE", default_value = "default")]
    containerd_namespace: String,
}

impl SourceArgs {
    /// Makes ready to fetch; nothing is asked before packing needs it.
    pub(super) fn open(&self, terminal: Terminal) -> Result<Sources, Failure> {
        let settings = Settings {
            plain_http: self.plain_http.clone(),
            registry_ca: self.registry_ca.clone(),
            containerd: self.containerd.clone(),
            namespace: self.containerd_namespace.clone(),
        };
        Ok(Sources::new(settings, Shown { terminal, bar: RefCell::default() })?)
    }
}

/// Progress, one blob after the other.
struct Shown {
    terminal: Terminal,
    bar: RefCell<Option<terminal::Progress>>,
}

impl Progress for Shown {
    fn begins(&self, image: &str, bytes: u64) {
        let shown = (bytes >= SHOWN_BYTES_MIN).then(|| self.terminal.progress(image, bytes));
        self.bar.replace(shown);
    }

    fn fetched(&self, bytes: u64) {
        if let Some(bar) = &*self.bar.borrow() {
            bar.done(bytes);
        }
    }
}

impl From<SourceError> for Failure {
    fn from(error: SourceError) -> Self {
        let kind = match &error {
            SourceError::Name { .. }
            | SourceError::Unpinned { .. }
            | SourceError::Moved { .. }
            | SourceError::Authority { .. } => Kind::Usage,
            SourceError::Denied { .. } | SourceError::Credentials { .. } => Kind::Auth,
            SourceError::NotFound { .. } | SourceError::NotHeld { .. } | SourceError::Incomplete { .. } => {
                Kind::NotFound
            }
            SourceError::Registry { .. } | SourceError::Containerd { .. } => Kind::Unreachable,
        };
        let (code, next) = (error.code(), error.next());
        Self::new(kind, error).code(code).next(next)
    }
}
