//! A disk in memory under a real process, mounted over a folder by FUSE: a power cut takes from it what was not synced.
//!
//! What the process is told and what is safe are two things, as with any disk ([`tree`]). A cut comes at a sync, just
//! before or just after it was done: the process hears of nothing any more, is killed where it stands, and what is left
//! of the unsynced changes is up to a seed. The same layer is full, or read-only, from a chosen write on.

mod fuse;
mod tree;

use std::ffi::CString;
use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::fd::AsRawFd as _;
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::process::{Pid, Signal, kill_process};

use crate::chance::Chance;
use crate::process::Process;
use fuse::{Conversation, Kind, REQUEST_BYTES_MAX, Request};
use tree::Tree;

/// Why a disk takes nothing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// No room is left; things may be removed.
    Full,
    /// It is mounted read-only, as the kernel does with a disk that fails.
    ReadOnly,
}

/// A disk that is mounted over a folder, and given free when it is dropped.
#[derive(Debug)]
pub struct LossyDisk {
    place: PathBuf,
    shared: Arc<Shared>,
    server: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    stopped: Condvar,
}

#[derive(Debug)]
struct State {
    tree: Tree,
    keeps_syncs: bool,
    chance: Chance,
    /// The power is gone: nothing is answered any more.
    is_cut: bool,
    syncs_done: u64,
    cut_at_sync: Option<u64>,
    changes: u64,
    refuse_from: Option<(u64, Refusal)>,
    refused: u64,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LossyDisk {
    /// Mounts a disk over a folder, with all that is in it; what happens to it stays in memory.
    ///
    /// # Panics
    /// When the machine refuses the mount, as do the other functions: nothing can be tested then.
    #[must_use]
    pub fn over(place: &Path, seed: u64) -> Self {
        std::fs::create_dir_all(place).expect("the folder can be made");
        let tree = Tree::read_from(place).expect("the folder can be read");
        let state = State {
            tree,
            keeps_syncs: true,
            chance: Chance(seed),
            is_cut: false,
            syncs_done: 0,
            cut_at_sync: None,
            changes: 0,
            refuse_from: None,
            refused: 0,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), stopped: Condvar::new() });
        let mut disk = Self { place: place.to_owned(), shared, server: None };
        disk.mount();
        disk
    }

    fn mount(&mut self) {
        let device = File::options().read(true).write(true).open("/dev/fuse").expect("the kernel has FUSE");
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd());
        let options = CString::new(options).expect("it holds no zero");
        mount("airlift-tests", &self.place, "fuse", MountFlags::empty(), options.as_c_str())
            .expect("root may mount");
        let shared = Arc::clone(&self.shared);
        self.server = Some(thread::spawn(move || serve(device, &shared)));
    }

    /// The number of changes so far: writes, and files made, named and resized.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.shared.lock().changes
    }

    /// From now on a sync makes nothing safe, and says that it did. A test that sees no loss then sees none ever.
    pub fn ignore_syncs(&self) {
        self.shared.lock().keeps_syncs = false;
    }

    /// Lets the power go at the sync after so many others.
    pub fn cut_after_syncs(&self, syncs: u64) {
        let mut state = self.shared.lock();
        state.cut_at_sync = Some(state.syncs_done + syncs + 1);
    }

    /// Waits for that sync, and answers whether it came within `patience`. The process stands still then.
    #[must_use]
    pub fn wait_for_cut(&self, patience: Duration) -> bool {
        let waited =
            self.shared.stopped.wait_timeout_while(self.shared.lock(), patience, |state| !state.is_cut);
        waited.unwrap_or_else(PoisonError::into_inner).0.is_cut
    }

    /// Ends the process where it stands, and gives the disk as it is after that.
    pub fn cut(&mut self, process: &mut Process) {
        self.shared.lock().is_cut = true;
        // Before its requests fail: it must not hear of that.
        let pid = i32::try_from(process.id()).ok().and_then(Pid::from_raw).expect("it was started");
        // One that ended by itself is as dead.
        let _ = kill_process(pid, Signal::KILL);
        self.unmount();
        process.kill();
        self.lose_power();
    }

    /// Gives the disk as it is after a cut; nobody has anything open on it.
    pub fn lose_power(&mut self) {
        self.unmount();
        let mut state = self.shared.lock();
        let State { tree, chance, .. } = &mut *state;
        tree.lose(chance);
        (state.is_cut, state.cut_at_sync) = (false, None);
        drop(state);
        self.mount();
    }

    /// The number of changes that it has refused.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.shared.lock().refused
    }

    /// Refuses every change after so many others; `None` takes changes again.
    pub fn refuse(&self, after: Option<(u64, Refusal)>) {
        let mut state = self.shared.lock();
        state.refuse_from = after.map(|(changes, refusal)| (state.changes + changes, refusal));
    }

    /// Writes what is on it now into another folder, for a look that leaves no trace.
    pub fn copy_to(&self, folder: &Path) {
        self.shared.lock().tree.write_to(folder).expect("the folder can be written");
    }

    /// Whatever waits for an answer fails.
    fn unmount(&mut self) {
        // Refused only where it is not mounted any more.
        let _ = unmount(&self.place, UnmountFlags::FORCE | UnmountFlags::DETACH);
        if let Some(server) = self.server.take() {
            server.join().expect("it answers every request that it can read");
        }
    }
}

impl Drop for LossyDisk {
    fn drop(&mut self) {
        self.unmount();
    }
}

/// Answers until the mount is gone, or stands still once the power is.
fn serve(device: File, shared: &Shared) {
    let mut buffer = vec![0; REQUEST_BYTES_MAX];
    let mut conversation = Conversation::default();
    loop {
        let read = match (&device).read(&mut buffer) {
            Ok(read) => read,
            // The request was taken back, or a signal came.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Interrupted) => continue,
            Err(_) => return,
        };
        let Some(request) = Request::read(&buffer[..read]) else { continue };
        if let Some(outcome) = shared.answer(&mut conversation, &request) {
            // Refused where nobody waits for it any more.
            let _ = (&device).write_all(&request.answer(outcome));
        }
    }
}

impl Shared {
    /// The outcome of a request; `None` where there is nothing to say, or nobody to say it.
    fn answer(
        &self,
        conversation: &mut Conversation,
        request: &Request<'_>,
    ) -> Option<Result<Vec<u8>, Errno>> {
        let mut state = self.lock();
        let kind = request.kind();
        if state.is_cut || kind == Kind::Silent {
            return None;
        }
        let refusal =
            state.refuse_from.filter(|(from, _)| state.changes >= *from).map(|(_, refusal)| refusal);
        state.changes += u64::from(kind == Kind::Change);
        let refused = match refusal {
            Some(Refusal::Full) => (kind == Kind::Change).then_some(Errno::NOSPC),
            Some(Refusal::ReadOnly) => {
                let writes = matches!(kind, Kind::Change | Kind::Remove) || request.opens_to_write();
                writes.then_some(Errno::ROFS)
            }
            None => None,
        };
        if let Some(errno) = refused {
            state.refused += 1;
            return Some(Err(errno));
        }
        let State { tree, chance, .. } = &mut *state;
        if kind != Kind::Sync {
            return Some(conversation.act(tree, request, refusal == Some(Refusal::Full)));
        }
        let before = chance.below(2) == 0;
        state.syncs_done += 1;
        let cut = state.cut_at_sync.is_some_and(|at| state.syncs_done >= at);
        let outcome = if !state.keeps_syncs || (cut && before) {
            Ok(Vec::new())
        } else {
            conversation.act(&mut state.tree, request, false)
        };
        if cut {
            state.is_cut = true;
            self.stopped.notify_all();
            return None;
        }
        Some(outcome)
    }
}
