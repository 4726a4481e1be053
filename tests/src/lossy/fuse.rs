//! Answers the kernel's requests for a mounted folder, in the protocol of `linux/fuse.h`, version 7.31.
//!
//! Only the kernel changes what is in the tree, so that it may cache all that it has seen. It caches no writes: a
//! `write` has arrived here before it returns. Numbers are in the machine's order, as the kernel's are.

use std::collections::BTreeMap;

use rustix::io::Errno;

use super::tree::{Bytes, Content, Names, Tree};

/// The largest write that is asked for, and what comes around it.
const WRITE_BYTES_MAX: u32 = 128 << 10;
pub(super) const REQUEST_BYTES_MAX: usize = WRITE_BYTES_MAX as usize + 4096;
const HEADER: usize = 40;
/// Big writes, and as many pages a request as they need.
const FLAGS: u32 = (1 << 5) | (1 << 22);
/// The kernel may keep a file's pages from one opening to the next.
const KEEP_CACHE: u32 = 1 << 1;
/// A write of pages that were mapped, which nobody waits for.
const WRITE_CACHE: u32 = 1;
const FOREVER_S: u64 = 1 << 30;
const BLOCK: u32 = 4096;
/// What the disk says to hold: 64 GiB.
const BLOCKS: u64 = 16 << 20;

/// What is asked, as far as it is told apart here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing is changed, and nothing made safe.
    Look,
    /// Something is written, made, named or resized: what a full or protected disk refuses.
    Change,
    /// Something is removed: what a full disk does not refuse.
    Remove,
    /// A file or folder is made safe.
    Sync,
    /// Needs no answer.
    Silent,
}

/// A request of the kernel.
#[derive(Debug)]
pub(super) struct Request<'a> {
    opcode: u32,
    unique: u64,
    node: u64,
    body: &'a [u8],
}

mod opcode {
    pub(super) const LOOKUP: u32 = 1;
    pub(super) const FORGET: u32 = 2;
    pub(super) const GETATTR: u32 = 3;
    pub(super) const SETATTR: u32 = 4;
    pub(super) const READLINK: u32 = 5;
    pub(super) const SYMLINK: u32 = 6;
    pub(super) const MKNOD: u32 = 8;
    pub(super) const MKDIR: u32 = 9;
    pub(super) const UNLINK: u32 = 10;
    pub(super) const RMDIR: u32 = 11;
    pub(super) const RENAME: u32 = 12;
    pub(super) const LINK: u32 = 13;
    pub(super) const OPEN: u32 = 14;
    pub(super) const READ: u32 = 15;
    pub(super) const WRITE: u32 = 16;
    pub(super) const STATFS: u32 = 17;
    pub(super) const RELEASE: u32 = 18;
    pub(super) const FSYNC: u32 = 20;
    pub(super) const FLUSH: u32 = 25;
    pub(super) const INIT: u32 = 26;
    pub(super) const OPENDIR: u32 = 27;
    pub(super) const READDIR: u32 = 28;
    pub(super) const RELEASEDIR: u32 = 29;
    pub(super) const FSYNCDIR: u32 = 30;
    pub(super) const CREATE: u32 = 35;
    pub(super) const INTERRUPT: u32 = 36;
    pub(super) const BATCH_FORGET: u32 = 42;
    pub(super) const RENAME2: u32 = 45;
}

impl<'a> Request<'a> {
    /// Reads one; the kernel writes whole ones.
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let header = bytes.get(..HEADER)?;
        Some(Self {
            opcode: u32_at(header, 4),
            unique: u64_at(header, 8),
            node: u64_at(header, 16),
            body: &bytes[HEADER..],
        })
    }

    pub(super) fn kind(&self) -> Kind {
        match self.opcode {
            opcode::FORGET | opcode::BATCH_FORGET | opcode::INTERRUPT => Kind::Silent,
            opcode::FSYNC | opcode::FSYNCDIR => Kind::Sync,
            opcode::UNLINK | opcode::RMDIR => Kind::Remove,
            // Pages that were mapped have their blocks already.
            opcode::WRITE if u32_at(self.body, 20) & WRITE_CACHE != 0 => Kind::Look,
            opcode::SYMLINK
            | opcode::MKNOD
            | opcode::MKDIR
            | opcode::RENAME
            | opcode::RENAME2
            | opcode::LINK
            | opcode::WRITE
            | opcode::CREATE => Kind::Change,
            opcode::SETATTR if u32_at(self.body, 0) & SET_SIZE != 0 => Kind::Change,
            _ => Kind::Look,
        }
    }

    /// Whether a file is opened to be written, which a protected disk refuses.
    pub(super) fn opens_to_write(&self) -> bool {
        self.opcode == opcode::OPEN && u32_at(self.body, 0) & ACCESS_MODE != 0
    }

    /// The answer's bytes.
    pub(super) fn answer(&self, outcome: Result<Vec<u8>, Errno>) -> Vec<u8> {
        let (error, body) = match outcome {
            Ok(body) => (0, body),
            Err(errno) => (-errno.raw_os_error(), Vec::new()),
        };
        let length = u32::try_from(16 + body.len()).unwrap_or(u32::MAX);
        let mut bytes = Out(Vec::with_capacity(16 + body.len()));
        bytes.u32(length).u32(error.cast_unsigned()).u64(self.unique);
        bytes.0.extend_from_slice(&body);
        bytes.0
    }

    /// The body from `at` on, up to a zero: a name.
    fn name(&self, at: usize) -> &'a [u8] {
        let rest = self.body.get(at..).unwrap_or_default();
        rest.split(|byte| *byte == 0).next().unwrap_or_default()
    }
}

const SET_MODE: u32 = 1;
const SET_SIZE: u32 = 1 << 3;
const ACCESS_MODE: u32 = 3;
const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;

/// One mounted tree's side of the conversation.
#[derive(Debug, Default)]
pub(super) struct Conversation {
    /// What folders held when they were opened: names that go meanwhile move no other's place.
    listings: BTreeMap<u64, Vec<(Vec<u8>, u64)>>,
    next: u64,
}

impl Conversation {
    /// Does what is asked; `is_full` is what the disk says of its room.
    pub(super) fn act(
        &mut self,
        tree: &mut Tree,
        request: &Request<'_>,
        is_full: bool,
    ) -> Result<Vec<u8>, Errno> {
        let (node, body) = (request.node, request.body);
        match request.opcode {
            opcode::INIT => Ok(init()),
            opcode::LOOKUP => tree.find(node, request.name(0)).and_then(|id| entry(tree, id)),
            opcode::GETATTR => attributes(tree, node),
            opcode::SETATTR => {
                let valid = u32_at(body, 0);
                if valid & SET_SIZE != 0 {
                    tree.resize(node, length(u64_at(body, 16))?)?;
                }
                if valid & SET_MODE != 0 {
                    tree.node_mut(node)?.mode = u32_at(body, 68);
                }
                attributes(tree, node)
            }
            opcode::READLINK => match &tree.node(node)?.content {
                Content::Link(to) => Ok(to.clone()),
                _ => Err(Errno::INVAL),
            },
            opcode::SYMLINK => {
                let name = request.name(0);
                let to = request.name(name.len() + 1).to_vec();
                let id = tree.make(node, name, LINK | 0o777, Content::Link(to))?;
                entry(tree, id)
            }
            opcode::MKNOD => {
                let mode = u32_at(body, 0);
                let is_file = mode & 0o170_000 == FILE;
                let content = if is_file { Content::File(Bytes::default()) } else { Content::Other };
                let id = tree.make(node, request.name(16), mode, content)?;
                entry(tree, id)
            }
            opcode::MKDIR => {
                let mode = FOLDER | u32_at(body, 0);
                let id = tree.make(node, request.name(8), mode, Content::Folder(Names::new()))?;
                entry(tree, id)
            }
            opcode::CREATE => {
                let content = Content::File(Bytes::default());
                let id = tree.make(node, request.name(16), u32_at(body, 4), content)?;
                let mut answer = entry(tree, id)?;
                answer.extend(open(0, KEEP_CACHE));
                Ok(answer)
            }
            opcode::UNLINK | opcode::RMDIR => tree.remove(node, request.name(0)).map(|()| Vec::new()),
            opcode::RENAME => rename(tree, request, 8),
            opcode::RENAME2 if u32_at(body, 8) == 0 => rename(tree, request, 16),
            opcode::LINK => {
                let id = u64_at(body, 0);
                tree.link(id, node, request.name(8))?;
                entry(tree, id)
            }
            opcode::OPEN => tree.file(node).map(|_| open(0, KEEP_CACHE)),
            opcode::READ => {
                let seen = &tree.file(node)?.seen;
                let from = length(u64_at(body, 8))?.min(seen.len());
                let upto = seen.len().min(from + u32_at(body, 16) as usize);
                Ok(seen[from..upto].to_vec())
            }
            opcode::WRITE => {
                let size = u32_at(body, 16);
                let bytes = body.get(40..40 + size as usize).ok_or(Errno::INVAL)?;
                tree.write(node, length(u64_at(body, 8))?, bytes)?;
                let mut answer = Out(Vec::new());
                answer.u32(size).u32(0);
                Ok(answer.0)
            }
            opcode::STATFS => Ok(room(is_full)),
            opcode::OPENDIR => {
                let names = tree.names(node)?.iter().map(|(name, id)| (name.clone(), *id));
                self.next += 1;
                self.listings.insert(self.next, names.collect());
                Ok(open(self.next, 0))
            }
            opcode::READDIR => self.list(tree, body),
            opcode::RELEASEDIR => {
                self.listings.remove(&u64_at(body, 0));
                Ok(Vec::new())
            }
            opcode::FSYNC => {
                tree.sync_file(node);
                Ok(Vec::new())
            }
            opcode::FSYNCDIR => {
                tree.sync_folder(node);
                Ok(Vec::new())
            }
            opcode::RELEASE | opcode::FLUSH => Ok(Vec::new()),
            _ => Err(Errno::NOSYS),
        }
    }

    fn list(&self, tree: &Tree, body: &[u8]) -> Result<Vec<u8>, Errno> {
        let listing = self.listings.get(&u64_at(body, 0)).ok_or(Errno::BADF)?;
        let (from, size) = (length(u64_at(body, 8))?, u32_at(body, 16) as usize);
        let mut answer = Out(Vec::new());
        for (at, (name, id)) in listing.iter().enumerate().skip(from) {
            let padded = name.len().next_multiple_of(8);
            if answer.0.len() + 24 + padded > size {
                break;
            }
            // What was removed since is told without its kind.
            let kind = tree.node(*id).map_or(0, |node| node.mode >> 12);
            let length = u32::try_from(name.len()).unwrap_or(u32::MAX);
            answer.u64(*id).u64(at as u64 + 1).u32(length).u32(kind);
            answer.0.extend_from_slice(name);
            answer.0.resize(answer.0.len() + padded - name.len(), 0);
        }
        Ok(answer.0)
    }
}

fn rename(tree: &mut Tree, request: &Request<'_>, names_at: usize) -> Result<Vec<u8>, Errno> {
    let name = request.name(names_at);
    let new_name = request.name(names_at + name.len() + 1);
    tree.rename((request.node, name), (u64_at(request.body, 0), new_name)).map(|()| Vec::new())
}

fn init() -> Vec<u8> {
    let mut answer = Out(Vec::new());
    let read_ahead = 128 << 10;
    // 16 requests in the background, congested at 12.
    let background = 16 | (12 << 16);
    answer.u32(7).u32(31).u32(read_ahead).u32(FLAGS).u32(background).u32(WRITE_BYTES_MAX);
    answer.u32(1).u32(WRITE_BYTES_MAX / BLOCK);
    answer.0.resize(64, 0);
    answer.0
}

fn open(handle: u64, flags: u32) -> Vec<u8> {
    let mut answer = Out(Vec::new());
    answer.u64(handle).u32(flags).u32(0);
    answer.0
}

fn room(is_full: bool) -> Vec<u8> {
    let free = if is_full { 0 } else { BLOCKS };
    let mut answer = Out(Vec::new());
    answer.u64(BLOCKS).u64(free).u64(free).u64(BLOCKS).u64(free);
    answer.u32(BLOCK).u32(255).u32(BLOCK);
    answer.0.resize(80, 0);
    answer.0
}

fn attributes(tree: &Tree, id: u64) -> Result<Vec<u8>, Errno> {
    let mut answer = Out(Vec::new());
    answer.u64(FOREVER_S).u64(0);
    put_attributes(&mut answer, tree, id)?;
    Ok(answer.0)
}

fn entry(tree: &Tree, id: u64) -> Result<Vec<u8>, Errno> {
    let mut answer = Out(Vec::new());
    answer.u64(id).u64(0).u64(FOREVER_S).u64(FOREVER_S).u64(0);
    put_attributes(&mut answer, tree, id)?;
    Ok(answer.0)
}

fn put_attributes(answer: &mut Out, tree: &Tree, id: u64) -> Result<(), Errno> {
    let node = tree.node(id)?;
    let size = match &node.content {
        Content::File(bytes) => bytes.seen.len(),
        Content::Link(to) => to.len(),
        Content::Folder(_) | Content::Other => 0,
    } as u64;
    let links = if node.mode & 0o170_000 == FOLDER { 2 } else { 1 };
    answer.u64(id).u64(size).u64(size.div_ceil(512));
    answer.u64(node.changed).u64(node.changed).u64(node.changed).u32(0).u32(0).u32(0);
    answer.u32(node.mode).u32(links).u32(0).u32(0).u32(0).u32(BLOCK).u32(0);
    Ok(())
}

/// Files stay in memory: no length is one that this machine cannot count.
fn length(number: u64) -> Result<usize, Errno> {
    usize::try_from(number).ok().filter(|length| *length < 1 << 32).ok_or(Errno::FBIG)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|part| part.try_into().ok()).map_or(0, u32::from_ne_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|part| part.try_into().ok()).map_or(0, u64::from_ne_bytes)
}

/// An answer that is being written.
struct Out(Vec<u8>);

impl Out {
    fn u32(&mut self, number: u32) -> &mut Self {
        self.0.extend_from_slice(&number.to_ne_bytes());
        self
    }

    fn u64(&mut self, number: u64) -> &mut Self {
        self.0.extend_from_slice(&number.to_ne_bytes());
        self
    }
}
