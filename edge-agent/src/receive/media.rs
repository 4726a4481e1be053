//! Media as a link: a stick or a tar file brings documents and content, and a stick takes receipts home.
//!
//! Nothing on it is believed. Documents go to the core as any carrier's do; content goes piece by piece to the
//! content store, which checks each against what the signed release pins. The names that are wanted are opened,
//! never listed, and all reading happens on threads of its own, because a bad stick can make one read last minutes.

mod feed;
mod load;
mod receipts;
mod serve;
mod watch;

use std::path::Path;
use std::sync::Arc;

use airlift_bundles::limits::Limits;
use airlift_bundles::media::{MediaArchive, MediaDirectory, MediaError, MediaSource};

pub use load::{AppLoaded, Fault, LoadError, Loaded, Loader, Progress, Refused};
pub use receipts::{ReceiptWriter, Saved};
pub(crate) use watch::find_sticks;
pub use watch::watch;

/// Media that is open for reading, shared with the threads that read it.
pub type Source = Arc<dyn MediaSource + Send + Sync>;

/// Opens a stick's directory, or a tar file.
///
/// # Errors
/// [`MediaError`] where there is no media or it is refused.
pub fn open_source(path: &Path) -> Result<Source, MediaError> {
    if path.is_file() {
        Ok(Arc::new(MediaArchive::open(path, &Limits::DEFAULT)?))
    } else {
        Ok(Arc::new(MediaDirectory::open(path, &Limits::DEFAULT)?))
    }
}

#[cfg(test)]
pub(crate) mod tests;
