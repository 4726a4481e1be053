//! What a disk holds, and what it would still hold if the power went now.
//!
//! A file has the bytes that readers see and those that a sync has made safe, with the changes in between. Names are
//! kept as a journal, like those of ext4 and xfs: a synced folder makes safe every change of names up to its own last
//! one, and a cut keeps some first part of the rest. Of a file's unsynced changes each is kept, lost or torn by itself.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use rustix::io::Errno;

use crate::chance::Chance;

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;
/// The folder that is mounted.
pub(super) const ROOT: u64 = 1;
const FOLDER_MODE: u32 = 0o040_755;

/// The names of a folder.
pub(super) type Names = BTreeMap<Vec<u8>, u64>;

/// A file, a folder, or something that only has a name.
#[derive(Debug, Default)]
pub(super) struct Node {
    pub(super) mode: u32,
    /// Rises with each change, for whoever compares times.
    pub(super) changed: u64,
    pub(super) content: Content,
}

#[derive(Debug, Default)]
pub(super) enum Content {
    File(Bytes),
    Folder(Names),
    Link(Vec<u8>),
    /// A socket or a pipe.
    #[default]
    Other,
}

#[derive(Debug, Default)]
pub(super) struct Bytes {
    pub(super) seen: Vec<u8>,
    safe: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Debug)]
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Resize(usize),
}

/// A name that was given, or taken away.
#[derive(Debug)]
struct Entry {
    folder: u64,
    name: Vec<u8>,
    node: Option<u64>,
}

/// All of it.
#[derive(Debug)]
pub(super) struct Tree {
    nodes: BTreeMap<u64, Node>,
    next: u64,
    /// The names that are safe, by folder.
    safe: BTreeMap<u64, Names>,
    /// Changes of names since; those of one request stay together.
    journal: Vec<Vec<Entry>>,
    changes: u64,
}

impl Tree {
    pub(super) fn empty() -> Self {
        let root = Node { mode: FOLDER_MODE, changed: 0, content: Content::Folder(Names::new()) };
        Self {
            nodes: BTreeMap::from([(ROOT, root)]),
            next: ROOT + 1,
            safe: BTreeMap::new(),
            journal: Vec::new(),
            changes: 0,
        }
    }

    /// Takes over what is in a real folder, all of it safe.
    pub(super) fn read_from(place: &Path) -> std::io::Result<Self> {
        let mut tree = Self::empty();
        tree.read_folder(ROOT, place)?;
        tree.sync_all();
        Ok(tree)
    }

    fn read_folder(&mut self, into: u64, place: &Path) -> std::io::Result<()> {
        for entry in fs::read_dir(place)? {
            let entry = entry?;
            let (kind, path) = (entry.file_type()?, entry.path());
            let content = if kind.is_dir() {
                Content::Folder(Names::new())
            } else if kind.is_symlink() {
                Content::Link(fs::read_link(&path)?.as_os_str().as_bytes().to_vec())
            } else if kind.is_file() {
                let seen = fs::read(&path)?;
                Content::File(Bytes { safe: seen.clone(), seen, unsynced: Vec::new() })
            } else {
                continue;
            };
            let mode = path.symlink_metadata()?.permissions().mode();
            let made = self.make(into, entry.file_name().as_bytes(), mode, content)?;
            if kind.is_dir() {
                self.read_folder(made, &path)?;
            }
        }
        Ok(())
    }

    /// Writes what readers see now into a real folder.
    pub(super) fn write_to(&self, place: &Path) -> std::io::Result<()> {
        self.write_folder(ROOT, place)
    }

    fn write_folder(&self, from: u64, place: &Path) -> std::io::Result<()> {
        fs::create_dir_all(place)?;
        for (name, id) in self.names(from)? {
            let path = place.join(std::ffi::OsStr::from_bytes(name));
            match &self.node(*id)?.content {
                Content::File(bytes) => fs::write(path, &bytes.seen)?,
                Content::Folder(_) => self.write_folder(*id, &path)?,
                Content::Link(to) => symlink(std::ffi::OsStr::from_bytes(to), path)?,
                Content::Other => {}
            }
        }
        Ok(())
    }

    pub(super) fn node(&self, id: u64) -> Result<&Node, Errno> {
        self.nodes.get(&id).ok_or(Errno::STALE)
    }

    /// The node, which changes now.
    pub(super) fn node_mut(&mut self, id: u64) -> Result<&mut Node, Errno> {
        self.changes += 1;
        let node = self.nodes.get_mut(&id).ok_or(Errno::STALE)?;
        node.changed = self.changes;
        Ok(node)
    }

    pub(super) fn names(&self, folder: u64) -> Result<&Names, Errno> {
        match &self.node(folder)?.content {
            Content::Folder(names) => Ok(names),
            _ => Err(Errno::NOTDIR),
        }
    }

    pub(super) fn find(&self, folder: u64, name: &[u8]) -> Result<u64, Errno> {
        self.names(folder)?.get(name).copied().ok_or(Errno::NOENT)
    }

    pub(super) fn make(
        &mut self,
        folder: u64,
        name: &[u8],
        mode: u32,
        content: Content,
    ) -> Result<u64, Errno> {
        if self.names(folder)?.contains_key(name) {
            return Err(Errno::EXIST);
        }
        let id = self.next;
        self.next += 1;
        self.nodes.insert(id, Node { mode, changed: 0, content });
        self.rename_all(vec![Entry { folder, name: name.to_vec(), node: Some(id) }])?;
        Ok(id)
    }

    pub(super) fn link(&mut self, node: u64, folder: u64, name: &[u8]) -> Result<(), Errno> {
        if self.names(folder)?.contains_key(name) {
            return Err(Errno::EXIST);
        }
        self.rename_all(vec![Entry { folder, name: name.to_vec(), node: Some(node) }])
    }

    pub(super) fn remove(&mut self, folder: u64, name: &[u8]) -> Result<(), Errno> {
        let id = self.find(folder, name)?;
        self.check_gone(id)?;
        self.rename_all(vec![Entry { folder, name: name.to_vec(), node: None }])
    }

    pub(super) fn rename(
        &mut self,
        (folder, name): (u64, &[u8]),
        (to, new_name): (u64, &[u8]),
    ) -> Result<(), Errno> {
        let id = self.find(folder, name)?;
        if let Ok(replaced) = self.find(to, new_name) {
            if replaced == id {
                return Ok(());
            }
            self.check_gone(replaced)?;
        }
        self.rename_all(vec![
            Entry { folder, name: name.to_vec(), node: None },
            Entry { folder: to, name: new_name.to_vec(), node: Some(id) },
        ])
    }

    /// A folder goes only when nothing is in it.
    fn check_gone(&self, id: u64) -> Result<(), Errno> {
        match &self.node(id)?.content {
            Content::Folder(names) if !names.is_empty() => Err(Errno::NOTEMPTY),
            _ => Ok(()),
        }
    }

    fn rename_all(&mut self, entries: Vec<Entry>) -> Result<(), Errno> {
        for entry in &entries {
            let Content::Folder(names) = &mut self.node_mut(entry.folder)?.content else {
                return Err(Errno::NOTDIR);
            };
            keep(names, entry);
        }
        self.journal.push(entries);
        Ok(())
    }

    pub(super) fn file(&self, id: u64) -> Result<&Bytes, Errno> {
        match &self.node(id)?.content {
            Content::File(bytes) => Ok(bytes),
            _ => Err(Errno::INVAL),
        }
    }

    fn change(&mut self, id: u64, change: Change) -> Result<(), Errno> {
        let Content::File(bytes) = &mut self.node_mut(id)?.content else { return Err(Errno::INVAL) };
        apply(&mut bytes.seen, &change);
        bytes.unsynced.push(change);
        Ok(())
    }

    pub(super) fn write(&mut self, id: u64, at: usize, bytes: &[u8]) -> Result<(), Errno> {
        self.change(id, Change::Write { at, bytes: bytes.to_vec() })
    }

    pub(super) fn resize(&mut self, id: u64, size: usize) -> Result<(), Errno> {
        self.change(id, Change::Resize(size))
    }

    /// Makes a file's bytes safe; its name is another matter.
    pub(super) fn sync_file(&mut self, id: u64) {
        if let Some(Content::File(bytes)) = self.nodes.get_mut(&id).map(|node| &mut node.content) {
            for change in bytes.unsynced.drain(..) {
                apply(&mut bytes.safe, &change);
            }
        }
    }

    /// Makes a folder's names safe, and with them all changes of names before.
    pub(super) fn sync_folder(&mut self, id: u64) {
        let last = self.journal.iter().rposition(|group| group.iter().any(|entry| entry.folder == id));
        if let Some(last) = last {
            self.replay(last + 1);
        }
    }

    fn sync_all(&mut self) {
        self.replay(self.journal.len());
    }

    fn replay(&mut self, count: usize) {
        for entry in self.journal.drain(..count).flatten() {
            keep(self.safe.entry(entry.folder).or_default(), &entry);
        }
    }

    /// The power goes and comes back: what is left of the unsynced changes is up to chance.
    pub(super) fn lose(&mut self, chance: &mut Chance) {
        let kept = chance.below(self.journal.len() as u64 + 1);
        self.replay(usize::try_from(kept).unwrap_or(0));
        self.journal.clear();
        for (id, node) in &mut self.nodes {
            match &mut node.content {
                Content::File(bytes) => bytes.lose(chance),
                Content::Folder(names) => *names = self.safe.get(id).cloned().unwrap_or_default(),
                Content::Link(_) | Content::Other => {}
            }
        }
        let mut reached = std::collections::BTreeSet::from([ROOT]);
        let mut folders = vec![ROOT];
        while let Some(names) = folders.pop().and_then(|folder| self.safe.get(&folder)) {
            folders.extend(names.values().copied().filter(|id| reached.insert(*id)));
            folders.retain(|id| self.safe.contains_key(id));
        }
        self.nodes.retain(|id, _| reached.contains(id));
        self.safe.retain(|id, _| reached.contains(id));
    }
}

impl Bytes {
    fn lose(&mut self, chance: &mut Chance) {
        for change in self.unsynced.drain(..) {
            let Change::Write { at, bytes } = change else {
                if chance.below(2) == 0 {
                    apply(&mut self.safe, &change);
                }
                continue;
            };
            // All of it, none of it, its first sectors, or any of them.
            let way = chance.below(4);
            let sectors = (at % SECTOR + bytes.len()).div_ceil(SECTOR) as u64;
            let first = chance.below(sectors + 1);
            let (mut from, mut sector) = (0, 0);
            while from < bytes.len() {
                let upto = bytes.len().min(from + SECTOR - (at + from) % SECTOR);
                let kept = match way {
                    0 => true,
                    1 => false,
                    2 => sector < first,
                    _ => chance.below(2) == 0,
                };
                if kept {
                    let part = Change::Write { at: at + from, bytes: bytes[from..upto].to_vec() };
                    apply(&mut self.safe, &part);
                }
                (from, sector) = (upto, sector + 1);
            }
        }
        self.seen.clone_from(&self.safe);
    }
}

fn keep(names: &mut Names, entry: &Entry) {
    match entry.node {
        Some(id) => drop(names.insert(entry.name.clone(), id)),
        None => drop(names.remove(&entry.name)),
    }
}

fn apply(to: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Resize(size) => to.resize(*size, 0),
        Change::Write { at, bytes } => {
            let end = at + bytes.len();
            if to.len() < end {
                to.resize(end, 0);
            }
            to[*at..end].copy_from_slice(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(tree: &mut Tree, folder: u64, name: &str) -> u64 {
        tree.make(folder, name.as_bytes(), 0o100_644, Content::File(Bytes::default())).unwrap()
    }

    fn bytes(tree: &Tree, name: &str) -> Option<Vec<u8>> {
        let id = tree.find(ROOT, name.as_bytes()).ok()?;
        Some(tree.file(id).unwrap().seen.clone())
    }

    #[test]
    fn what_was_synced_outlives_every_cut() {
        for seed in 0..100 {
            let mut tree = Tree::empty();
            let id = file(&mut tree, ROOT, "kept");
            tree.write(id, 0, &[7; 3000]).unwrap();
            tree.sync_file(id);
            tree.sync_folder(ROOT);
            tree.write(id, 3000, &[8; 3000]).unwrap();
            tree.lose(&mut Chance(seed));
            assert!(bytes(&tree, "kept").unwrap().starts_with(&[7; 3000]), "seed {seed}");
        }
    }

    #[test]
    fn each_fate_of_what_was_not_synced_is_met() {
        let (mut lost, mut whole, mut torn, mut nameless) = (0, 0, 0, 0);
        for seed in 0..200 {
            let mut tree = Tree::empty();
            let id = file(&mut tree, ROOT, "new");
            tree.write(id, 0, &[9; 4096]).unwrap();
            tree.lose(&mut Chance(seed));
            match bytes(&tree, "new") {
                None => nameless += 1,
                Some(left) if left.is_empty() => lost += 1,
                Some(left) if left == [9; 4096] => whole += 1,
                Some(left) => {
                    assert!(left.chunks(SECTOR).all(|sector| sector == [9; SECTOR] || sector == [0; SECTOR]));
                    torn += 1;
                }
            }
        }
        assert!(lost > 5 && whole > 5 && torn > 5 && nameless > 50, "{lost} {whole} {torn} {nameless}");
    }

    #[test]
    fn a_rename_is_never_half_done_and_stays_once_its_folder_is_synced() {
        for seed in 0..100 {
            let mut tree = Tree::empty();
            let folder = tree.make(ROOT, b"folder", FOLDER_MODE, Content::Folder(Names::new())).unwrap();
            file(&mut tree, ROOT, "old");
            let new = file(&mut tree, folder, "new");
            tree.sync_folder(ROOT);
            tree.sync_folder(folder);
            tree.rename((folder, b"new"), (ROOT, b"old")).unwrap();
            let synced = seed % 2 == 0;
            if synced {
                tree.sync_folder(ROOT);
            }
            tree.lose(&mut Chance(seed));
            let (moved, left) = (tree.find(ROOT, b"old").unwrap() == new, tree.find(folder, b"new").is_ok());
            assert!(moved != left && (moved || !synced), "seed {seed}: {moved} {left}");
        }
    }

    #[test]
    fn a_folder_comes_and_goes_as_a_real_one() {
        let (real, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir(real.path().join("folder")).unwrap();
        fs::write(real.path().join("folder/file"), "text").unwrap();
        let mut tree = Tree::read_from(real.path()).unwrap();
        tree.lose(&mut Chance(1));
        tree.write_to(copy.path()).unwrap();
        assert_eq!(fs::read(copy.path().join("folder/file")).unwrap(), b"text");
    }
}
