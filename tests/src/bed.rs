//! The run's directory, and what ends everything that was started under it.
//!
//! A site's processes live in one control group, pods included, and `tests/stop`
//! ends that group and nothing else. It is called when a [`Bed`] is dropped, by
//! a helper that outlives this process however it ends, and by the next run for
//! what is older still.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{LazyLock, Mutex};

const BASE: &str = "/var/tmp/airlift-tests";
const STOP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/stop");

/// The directory of this process's run, made at first use.
static RUN: LazyLock<(PathBuf, Mutex<Child>)> = LazyLock::new(|| {
    let pid = std::process::id();
    let dir = Path::new(BASE).join(pid.to_string());
    fs::create_dir_all(&dir).expect("the run's directory can be made");
    let stat = fs::read_to_string("/proc/self/stat").expect("a process has its own stat");
    let after_name = stat.rsplit(") ").next().expect("rsplit gives at least one part");
    let started = after_name.split(' ').nth(19).expect("stat has more than 22 fields");
    fs::write(dir.join("owner"), format!("{started}\n")).expect("the run's directory is writable");
    // Its input closes when this process ends, in whatever way: then it stops what is left.
    let reaper = Command::new("setsid")
        .args([STOP, "--after"])
        .arg(&dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("tests/stop can be started");
    (dir, Mutex::new(reaper))
});

/// A directory, a control group and a name, all ended when it is dropped.
#[derive(Debug)]
pub struct Bed {
    dir: PathBuf,
    name: String,
    group: PathBuf,
}

impl Bed {
    /// Makes the bed of one site or hub; `short` is unique within the run.
    ///
    /// # Panics
    /// When the machine refuses a directory or control group: nothing can be tested then.
    #[must_use]
    pub fn make(short: &str) -> Self {
        let dir = RUN.0.join(short);
        fs::create_dir_all(dir.join("logs")).expect("the bed's directory can be made");
        fs::write(dir.join("running"), "").expect("the bed's directory is writable");
        let name = format!("airlift-{}-{short}", std::process::id());
        let group = make_control_group(&name);
        Self { dir, name, group }
    }

    /// Where everything of it is kept.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The name of its control group and network namespace, unique on the machine.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The control group directory that its own processes join.
    #[must_use]
    pub fn group(&self) -> &Path {
        &self.group
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        let mut stop = Command::new(STOP);
        stop.arg(&self.dir);
        if std::thread::panicking() {
            stop.env("KEEP_LOGS", "1");
            crate::say(&format!("logs of {}: {}", self.name, self.dir.join("logs").display()));
        }
        // What fails here is tried again by the run's reaper.
        let _ = stop.status();
    }
}

/// Makes the group in every hierarchy (cgroup v1) or once (v2), and gives the directory to join.
fn make_control_group(name: &str) -> PathBuf {
    let root = Path::new("/sys/fs/cgroup");
    if root.join("cgroup.controllers").exists() {
        let group = root.join(name);
        for parent in [root, &group] {
            fs::create_dir_all(&group).expect("a control group can be made");
            for controller in ["cpu", "cpuset", "memory", "pids", "io", "hugetlb"] {
                // A controller that this kernel lacks is one that the kubelet does without.
                let _ = fs::write(parent.join("cgroup.subtree_control"), format!("+{controller}"));
            }
        }
        let own = group.join("bed");
        fs::create_dir_all(&own).expect("a control group can be made");
        return own;
    }
    for hierarchy in fs::read_dir(root).expect("control groups are mounted").flatten() {
        if hierarchy.path().join("cgroup.procs").exists() && hierarchy.file_name() != "unified" {
            let group = hierarchy.path().join(name);
            fs::create_dir_all(&group).expect("a control group can be made");
            // A new cpuset is empty, and an empty one takes no process.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                if let Ok(parent) = fs::read_to_string(hierarchy.path().join(file)) {
                    fs::write(group.join(file), parent).expect("a cpuset takes its parent's value");
                }
            }
        }
    }
    let own = root.join("pids").join(name).join("bed");
    fs::create_dir_all(&own).expect("a control group can be made");
    own
}
