//! Images that the caller opens: the same bytes, and nothing believed.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use super::*;
use crate::layout::descriptor::{Descriptor, INDEX_TYPE};

/// An image in a directory, given as from afar.
#[derive(Debug, Clone)]
struct Afar {
    blobs: PathBuf,
    target: Descriptor,
    /// A manifest that is listed and not there.
    absent: Option<Sha256Digest>,
    /// What comes in the place of every layer.
    instead: Option<&'static [u8]>,
}

impl RemoteImages for Afar {
    fn open(&self, from: &str) -> Result<Box<dyn RemoteImage>, String> {
        match from {
            "docker://registry.example/web:1" => Ok(Box::new(self.clone())),
            other => Err(format!("nobody knows {other}")),
        }
    }
}

impl RemoteImage for Afar {
    fn target(&self) -> Descriptor {
        self.target.clone()
    }

    fn holds(&self, digest: &Sha256Digest) -> io::Result<bool> {
        Ok(self.absent != Some(*digest))
    }

    fn open(&self, digest: &Sha256Digest) -> io::Result<Box<dyn Read + '_>> {
        if self.absent == Some(*digest) {
            return Err(io::Error::other("not pulled"));
        }
        let mut file = File::open(self.blobs.join(digest.to_hex()))?;
        let mut start = [0; 2];
        file.read_exact(&mut start)?;
        match self.instead.filter(|_| start == [0x1f, 0x8b]) {
            Some(instead) => Ok(Box::new(instead)),
            None => Ok(Box::new(io::Cursor::new(start).chain(file))),
        }
    }
}

fn folder_and_afar(from: &str) -> (Folder, Afar) {
    let folder = Folder::new();
    folder.write("airlift.yaml", &APP.replace("oci:web", from));
    let blobs = folder.path().join("web/blobs/sha256");
    let top = fs::read(folder.path().join("web/index.json")).unwrap();
    let top: Index = serde_json::from_slice(&top).unwrap();
    let target = top.manifests[0].clone();
    assert_eq!(target.media_type, INDEX_TYPE);
    (folder, Afar { blobs, target, absent: None, instead: None })
}

fn pack_from(folder: &Folder, afar: &Afar) -> Result<(Packed, LayoutDir), PackError> {
    let out = tempfile::tempdir_in(folder.path()).unwrap().keep().join("bundle");
    pack_with(folder.path(), &out, afar, &Limits::DEFAULT).map(|packed| (packed, LayoutDir(out)))
}

#[test]
fn an_image_from_afar_gives_the_same_bundle_as_the_same_image_on_disk() {
    let (folder, afar) = folder_and_afar("docker://registry.example/web:1");
    let (packed, dir) = pack_from(&folder, &afar).unwrap();
    assert_eq!(read_bundle(&packed, &dir).images()[0].target.digest, afar.target.digest);
    folder.write("airlift.yaml", APP);
    assert_eq!(folder.pack().unwrap().0.index, packed.index);
}

#[test]
fn only_platforms_that_are_there_count() {
    let (folder, mut afar) = folder_and_afar("docker://registry.example/web:1");
    let index = fs::read(afar.blobs.join(afar.target.digest.to_hex())).unwrap();
    let index: Index = serde_json::from_slice(&index).unwrap();
    let arm64 = &index.manifests[1];
    afar.absent = Some(arm64.digest);
    let (packed, dir) = pack_from(&folder, &afar).unwrap();
    assert_eq!(packed.app.platforms.iter().map(ToString::to_string).collect::<Vec<_>>(), ["linux/amd64"]);
    assert_eq!(read_bundle(&packed, &dir).images()[0].target.digest, afar.target.digest);
    folder.write(
        "airlift.yaml",
        &format!("{}platforms: [linux/arm64]\n", APP.replace("oci:web", "docker://registry.example/web:1")),
    );
    let refused = pack_from(&folder, &afar).unwrap_err().to_string();
    assert!(refused.contains("has no manifest for linux/arm64"), "{refused}");
}

#[test]
fn other_bytes_and_unknown_names_are_refused_with_the_line() {
    let (folder, mut afar) = folder_and_afar("docker://registry.example/web:1");
    afar.instead = Some(b"something else");
    let refused = pack_from(&folder, &afar).unwrap_err().to_string();
    assert!(
        refused.starts_with("airlift.yaml:6: ") && refused.contains("does not match its bytes"),
        "{refused}"
    );
    let (folder, afar) = folder_and_afar("containerd:web:1");
    let refused = pack_from(&folder, &afar).unwrap_err().to_string();
    assert!(refused.contains("nobody knows containerd:web:1"), "{refused}");
}
