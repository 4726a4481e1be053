//! An objects layer unpacked into a file, with where each object's line begins.

use std::fs::File;
use std::io::{self, BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
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
    /// Unpacks a layer of `raw_size` bytes into `path`; nothing is left there where that fails.
    pub(super) fn unpack(packed: impl io::Read, raw_size: u64, path: PathBuf) -> Result<Self, LinesError> {
        let unpacked = Self::fill(packed, raw_size, &path);
        if unpacked.is_err() {
            let _ = std::fs::remove_file(&path); // a full disk must not stay fuller by it
        }
        let (file, starts) = unpacked?;
        Ok(Self { file: Mutex::new(file), path, starts })
    }

    fn fill(packed: impl io::Read, raw_size: u64, path: &Path) -> Result<(File, Vec<u64>), LinesError> {
        let mut file = BufWriter::new(File::create(path)?);
        let (mut starts, mut at) = (Vec::new(), 0);
        for object in ObjectsReader::new(packed, raw_size, &Limits::DEFAULT)? {
            let line = serde_json::to_vec(&object?).map_err(io::Error::from)?;
            file.write_all(&line)?;
            starts.push(at);
            at += line.len() as u64;
        }
        starts.push(at);
        drop(file.into_inner().map_err(io::IntoInnerError::into_error)?);
        Ok((File::open(path)?, starts))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_fails_is_told_apart_from_content_that_cannot_be_read_and_leaves_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let unpack = |place: &str| Lines::unpack(&b"no layer"[..], 8, dir.path().join(place)).err();
        assert!(matches!(unpack("not/there"), Some(LinesError::Io(_))));
        assert!(matches!(unpack("here"), Some(LinesError::Layer(_))));
        assert_eq!(std::fs::read_dir(dir.path()).expect("it is there").count(), 0);
    }
}
