//! A bundle on a stick that somebody or something has changed: what each change is told as.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use super::*;
use crate::code::Code;
use crate::layout::{Blobs, read_bounded};
use crate::media::{
    MediaDirectory, MediaDirectoryWriter, MediaName, MediaSink as _, MediaSource, copy_verified,
};

/// The blobs of a stick, read as they stand there.
struct Carried<'m>(&'m MediaDirectory);

impl Blobs for Carried<'_> {
    fn read_blob(&self, digest: &Sha256Digest, limit: u64) -> io::Result<Option<Vec<u8>>> {
        let blob = self.0.open_blob(digest).map_err(io::Error::other)?;
        blob.map(|blob| read_bounded(blob.reader, limit)).transpose()
    }
}

/// A stick with every blob of one bundle.
struct Stick {
    dir: tempfile::TempDir,
    index: Sha256Digest,
    blobs: BTreeMap<Sha256Digest, Vec<u8>>,
}

impl Stick {
    fn new() -> Self {
        let folder = Folder::new();
        let (packed, layout) = folder.pack().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let mut writer = MediaDirectoryWriter::open(dir.path()).unwrap();
        let mut blobs = BTreeMap::new();
        for file in fs::read_dir(layout.0.join("blobs/sha256")).unwrap() {
            let bytes = fs::read(file.unwrap().path()).unwrap();
            let digest = Sha256Digest::of(&bytes);
            writer.put_blob(&digest, bytes.len() as u64, &mut &bytes[..]).unwrap();
            blobs.insert(digest, bytes);
        }
        Self { dir, index: packed.index, blobs }
    }

    fn path(&self, digest: &Sha256Digest) -> PathBuf {
        self.dir.path().join(crate::media::DIRECTORY).join(MediaName::Blob(*digest).to_string())
    }

    /// Reads the whole bundle as a site does: its tree first, then every blob that the tree names.
    fn take(&self) -> Result<Bundle, Code> {
        let media = MediaDirectory::open(self.dir.path(), &Limits::DEFAULT).unwrap();
        let bundle = Bundle::read(&self.index, &Carried(&media), &Limits::DEFAULT);
        let bundle = bundle.map_err(|error| error.code())?;
        for (digest, item) in bundle.items() {
            let open = media.open_blob(digest).map_err(|error| error.code())?;
            let mut open = open.ok_or(Code::ContentMissing)?;
            copy_verified(&mut open.reader, digest, item.size, &mut io::sink())
                .map_err(|error| error.code())?;
        }
        Ok(bundle)
    }
}

#[test]
fn each_blob_in_turn_that_is_missing_is_asked_for() {
    let stick = Stick::new();
    stick.take().unwrap();
    for (digest, bytes) in &stick.blobs {
        fs::remove_file(stick.path(digest)).unwrap();
        assert_eq!(stick.take().unwrap_err(), Code::ContentMissing);
        fs::write(stick.path(digest), bytes).unwrap();
    }
    stick.take().unwrap();
}

#[test]
fn each_blob_in_turn_with_one_changed_byte_is_thrown_away() {
    let stick = Stick::new();
    for (digest, bytes) in &stick.blobs {
        for at in [0, bytes.len() / 2, bytes.len() - 1] {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            fs::write(stick.path(digest), &changed).unwrap();
            assert_eq!(stick.take().unwrap_err(), Code::BlobDigest);
        }
        fs::write(stick.path(digest), bytes).unwrap();
    }
}

#[test]
fn two_good_blobs_in_each_others_place_are_thrown_away() {
    let stick = Stick::new();
    let blobs: Vec<_> = stick.blobs.iter().collect();
    for pair in blobs.windows(2) {
        let [(one, first), (two, second)] = [pair[0], pair[1]];
        fs::write(stick.path(one), second).unwrap();
        fs::write(stick.path(two), first).unwrap();
        // Blobs of other sizes are noticed before a byte is hashed.
        let told = stick.take().unwrap_err();
        let other_size = [Code::TooLarge, Code::MediaCutShort].contains(&told);
        assert!(told == Code::BlobDigest || other_size && first.len() != second.len(), "{told}");
        fs::write(stick.path(one), first).unwrap();
        fs::write(stick.path(two), second).unwrap();
    }
    stick.take().unwrap();
}

#[test]
fn what_no_signed_document_leads_to_is_not_part_of_the_bundle() {
    let stick = Stick::new();
    let before = stick.take().unwrap();
    let extra = Sha256Digest::of(b"extra");
    fs::write(stick.path(&extra), b"extra").unwrap();
    // An index with one image more, beside the signed one: OCI tools would find it, a site does not look.
    let mut index: Value = serde_json::from_slice(&stick.blobs[&stick.index]).unwrap();
    let image = index["manifests"].as_array().unwrap().last().unwrap().clone();
    index["manifests"].as_array_mut().unwrap().push(image);
    fs::write(stick.dir.path().join(crate::media::DIRECTORY).join("index.json"), index.to_string()).unwrap();
    let after = stick.take().unwrap();
    assert_eq!(after.items(), before.items());
    assert_eq!(after.images(), before.images());
    assert!(!after.items().contains_key(&extra));
    // The same index in the place of the signed one is another digest.
    fs::write(stick.path(&stick.index), index.to_string()).unwrap();
    assert_eq!(stick.take().unwrap_err(), Code::BlobDigest);
}
