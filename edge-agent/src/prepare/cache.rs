//! An objects layer unpacked into a file, with where each object's line begins.

use std::fs::File;
use std::io::{self, BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use airlift_bundles::layout::objects::{ObjectsError, ObjectsReader};
use airlift_bundles::limits::Limits;
use serde_json::Value;

/// The lines of one layer; the file goes with the value.
pub(super) struct Lines {
    path: PathBuf,
    file: Mutex<File>,
    starts: Vec<u64>,
}

/// A layer cannot be unpacked or read.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinesError {
    #[error(transparent)]
    Layer(#[from] ObjectsError),
    #[error("cache cannot be used: {0}")]
    Io(#[from] io::Error),
    #[error("object {0} is not in the layer")]
    Beyond(u32),
}

impl Lines {
    /// Unpacks a layer of `raw_size` bytes into `path`.
    pub(super) fn unpack(packed: impl io::Read, raw_size: u64, path: PathBuf) -> Result<Self, LinesError> {
        let mut file = BufWriter::new(File::create(&path)?);
        let (mut starts, mut at) = (Vec::new(), 0);
        for object in ObjectsReader::new(packed, raw_size, &Limits::DEFAULT)? {
            let line = serde_json::to_vec(&object?).map_err(io::Error::from)?;
            file.write_all(&line)?;
            starts.push(at);
            at += line.len() as u64;
        }
        starts.push(at);
        drop(file.into_inner().map_err(io::IntoInnerError::into_error)?);
        Ok(Self { file: Mutex::new(File::open(&path)?), path, starts })
    }

    /// Number of objects.
    pub(super) fn count(&self) -> u32 {
        u32::try_from(self.starts.len() - 1).unwrap_or(u32::MAX)
    }

    /// Reads one object.
    pub(super) fn read(&self, index: u32) -> Result<Value, LinesError> {
        let at = index as usize;
        let (Some(start), Some(end)) = (self.starts.get(at), self.starts.get(at + 1)) else {
            return Err(LinesError::Beyond(index));
        };
        let mut line = vec![0; usize::try_from(end - start).unwrap_or(0)];
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(*start))?;
        file.read_exact(&mut line)?;
        Ok(serde_json::from_slice(&line).map_err(io::Error::from)?)
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path); // the next start empties the cache
    }
}
