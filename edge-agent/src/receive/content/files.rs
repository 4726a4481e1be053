//! The files of the content store: complete blobs under their digest, transfers under theirs.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use airlift_bundles::ids::Sha256Digest;
use airlift_bundles::pieces::{PIECE_BYTES, PieceList};
use sha2::{Digest as _, Sha256};

/// Paths are made from digests alone; nothing from outside names a file.
pub(super) struct Files {
    blobs: PathBuf,
    partial: PathBuf,
}

impl Files {
    pub(super) fn open(state_dir: PathBuf) -> io::Result<Self> {
        let files = Self { blobs: state_dir.join("blobs/sha256"), partial: state_dir.join("blobs/partial") };
        fs::create_dir_all(&files.blobs)?;
        fs::create_dir_all(&files.partial)?;
        Ok(files)
    }

    pub(super) fn blob(&self, digest: &Sha256Digest) -> PathBuf {
        self.blobs.join(digest.to_hex())
    }

    fn partial(&self, digest: &Sha256Digest) -> PathBuf {
        self.partial.join(digest.to_hex())
    }

    /// Bytes that may still be written.
    pub(super) fn free_bytes(&self) -> io::Result<u64> {
        let disk = rustix::fs::statvfs(&self.blobs)?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    pub(super) fn size_of(&self, digest: &Sha256Digest) -> Option<u64> {
        fs::metadata(self.blob(digest)).ok().filter(fs::Metadata::is_file).map(|metadata| metadata.len())
    }

    pub(super) fn has_partial(&self, digest: &Sha256Digest) -> bool {
        self.partial(digest).is_file()
    }

    /// Reads a whole blob of at most `limit` bytes; `None` where its file is gone.
    pub(super) fn read(&self, digest: &Sha256Digest, limit: u64) -> io::Result<Option<Vec<u8>>> {
        let file = match File::open(self.blob(digest)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        file.take(limit + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("blob is over {limit} bytes")));
        }
        Ok(Some(bytes))
    }

    /// Writes one piece into a transfer's file, which grows as a sparse file.
    pub(super) fn write_piece(&self, digest: &Sha256Digest, piece: u64, bytes: &[u8]) -> io::Result<()> {
        let mut file =
            fs::OpenOptions::new().write(true).create(true).truncate(false).open(self.partial(digest))?;
        file.seek(SeekFrom::Start(piece * PIECE_BYTES as u64))?;
        file.write_all(bytes)
    }

    pub(super) fn sync_partial(&self, digest: &Sha256Digest) -> io::Result<()> {
        File::open(self.partial(digest))?.sync_data()
    }

    pub(super) fn drop_partial(&self, digest: &Sha256Digest) {
        let _ = fs::remove_file(self.partial(digest)); // gone already is as good
    }

    /// Hashes a transfer's file as a whole; `None` where it has not the blob's size.
    pub(super) fn digest_of_partial(
        &self,
        digest: &Sha256Digest,
        size: u64,
    ) -> io::Result<Option<Sha256Digest>> {
        let mut file = File::open(self.partial(digest))?;
        if file.metadata()?.len() == size { digest_of(&mut file).map(Some) } else { Ok(None) }
    }

    /// Reads a transfer's file again, and tells whether each of its pieces is the one of the list.
    pub(super) fn partial_fits(&self, digest: &Sha256Digest, list: &PieceList) -> io::Result<bool> {
        let mut file = File::open(self.partial(digest))?;
        let mut bytes = Vec::new();
        for piece in 0..list.count() {
            bytes.clear();
            (&mut file).take(PIECE_BYTES as u64).read_to_end(&mut bytes)?;
            if list.verify_piece(piece, &bytes).is_err() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Gives a transfer's file its name.
    pub(super) fn finish(&self, digest: &Sha256Digest) -> io::Result<()> {
        let path = self.partial(digest);
        File::open(&path)?.sync_all()?;
        self.name(&path, digest)
    }

    /// Writes a small blob that is at hand as a whole and was verified.
    pub(super) fn write_whole(&self, digest: &Sha256Digest, bytes: &[u8]) -> io::Result<()> {
        let path = self.partial(digest);
        let mut file = File::create(&path)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        self.name(&path, digest)
    }

    fn name(&self, from: &Path, digest: &Sha256Digest) -> io::Result<()> {
        fs::rename(from, self.blob(digest))?;
        File::open(&self.blobs)?.sync_all()
    }

    /// Opens a blob and hashes it; it stands at its beginning again.
    pub(super) fn open_hashed(&self, digest: &Sha256Digest) -> io::Result<(File, Sha256Digest)> {
        let mut file = File::open(self.blob(digest))?;
        let found = digest_of(&mut file)?;
        file.rewind()?;
        Ok((file, found))
    }

    pub(super) fn drop_blob(&self, digest: &Sha256Digest) -> io::Result<()> {
        match fs::remove_file(self.blob(digest)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

fn digest_of(file: &mut File) -> io::Result<Sha256Digest> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(Sha256Digest::from_bytes(hasher.finalize().into())),
            read => hasher.update(&buffer[..read]),
        }
    }
}
