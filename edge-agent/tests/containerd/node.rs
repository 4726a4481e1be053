//! A containerd of the test's own: scratch root, state and socket, ended by process id.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use airlift_agent::import::Containerd;
use airlift_agent::ports::images::Images;

/// Names the directory with a newer containerd and its tools: `tests/run` builds one and sets this.
const NEWER: &str = "AIRLIFT_TESTS_CONTAINERD";

/// Which containerd a test is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Release {
    /// The distribution's package, 1.6 on Debian 12.
    Distribution,
    /// The one that `tests/run` builds from its module, 2.x.
    Newer,
}

impl Release {
    /// Says why the test cannot run here, if so.
    ///
    /// A newer containerd that was promised and is not there is a failure.
    pub(crate) fn cannot_run(self) -> Option<&'static str> {
        if !rustix::process::geteuid().is_root() {
            return Some("containerd needs root");
        }
        if self == Self::Newer && std::env::var_os(NEWER).is_none() {
            return Some(
                "no newer containerd; tests/run builds one and names it in AIRLIFT_TESTS_CONTAINERD",
            );
        }
        let lacks = |name: &str| {
            let mut command = self.command(name);
            command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err()
        };
        match self {
            _ if !lacks("containerd") && !lacks("ctr") => None,
            Self::Distribution => Some("containerd is not installed (apt-get install containerd runc)"),
            Self::Newer => panic!("{NEWER} names no directory with containerd and ctr"),
        }
    }

    /// One of its programs, which finds the others of its kind first.
    fn command(self, name: &str) -> Command {
        let Some(folder) = std::env::var_os(NEWER).filter(|_| self == Self::Newer) else {
            return Command::new(name);
        };
        let mut path = folder.clone();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        let mut command = Command::new(PathBuf::from(folder).join(name));
        command.env("PATH", path);
        command
    }

    /// The tables of the Kubernetes side: 2.x has cut it into three plugins, and would serve node plugins
    /// on one socket for the whole machine, which two tests cannot share.
    fn config(self, snapshotter: &str, cni: &str) -> String {
        match self {
            Self::Distribution => format!(
                r#"version = 2
[plugins."io.containerd.grpc.v1.cri"]
stream_server_port = "0"
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "{snapshotter}"
[plugins."io.containerd.grpc.v1.cri".cni]
conf_dir = "{cni}"
"#
            ),
            Self::Newer => format!(
                r#"version = 3
[plugins."io.containerd.grpc.v1.cri"]
stream_server_port = "0"
[plugins."io.containerd.cri.v1.images"]
snapshotter = "{snapshotter}"
[plugins."io.containerd.cri.v1.runtime".cni]
conf_dir = "{cni}"
[plugins."io.containerd.nri.v1.nri"]
disable = true
"#
            ),
        }
    }
}

/// A running containerd. Dropping it kills the process and removes what it mounted and wrote.
pub(crate) struct Node {
    folder: tempfile::TempDir,
    process: Option<Child>,
    release: Release,
    snapshotter: &'static str,
}

impl Node {
    pub(crate) async fn start(release: Release, snapshotter: &'static str) -> Self {
        let folder = tempfile::tempdir().expect("a scratch folder");
        let mut node = Self { folder, process: None, release, snapshotter };
        std::fs::create_dir(node.blobs()).expect("a scratch folder");
        node.launch().await;
        node
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn blobs(&self) -> PathBuf {
        self.path().join("blobs")
    }

    pub(crate) fn containerd(&self) -> Containerd {
        Containerd::new(&self.socket(), None).expect("a socket's path")
    }

    /// Ends containerd as a power cut would.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("our own child");
            process.wait().expect("our own child");
        }
    }

    /// Starts containerd on what is there and waits until its Kubernetes side answers.
    pub(crate) async fn launch(&mut self) {
        let path = |name: &str| self.path().join(name).display().to_string();
        let tables = self.release.config(self.snapshotter, &path("cni"));
        let (version, tables) = tables.split_once('\n').expect("the version stands first");
        let config = format!(
            r#"{version}
root = "{root}"
state = "{state}"
disabled_plugins = ["io.containerd.internal.v1.opt"]
[grpc]
address = "{socket}"
{tables}"#,
            root = path("root"),
            state = path("state"),
            socket = self.socket().display(),
        );
        let file = self.path().join("config.toml");
        std::fs::write(&file, config).expect("the scratch folder is writable");
        let log = std::fs::File::create(self.path().join("log")).expect("the scratch folder is writable");
        let mut command = self.release.command("containerd");
        command.arg("--config").arg(file).stdout(Stdio::null()).stderr(log);
        self.process = Some(command.spawn().expect("containerd is installed"));
        for _ in 0..150 {
            if self.containerd().present(&["never/there:1".to_owned()]).await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let log = std::fs::read_to_string(self.path().join("log")).unwrap_or_default();
        panic!("containerd does not answer:\n{log}");
    }

    /// Runs containerd's own tool and returns what it prints.
    pub(crate) fn ctr(&self, arguments: &[&str]) -> String {
        let output = self
            .release
            .command("ctr")
            .arg("--address")
            .arg(self.socket())
            .args(["--namespace", "k8s.io"])
            .args(arguments)
            .output()
            .expect("ctr is installed");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "ctr {arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// Reads a file of an image as a container would see it.
    pub(crate) fn file_in(&self, image: &str, name: &str) -> Vec<u8> {
        let mount = self.path().join("mount");
        std::fs::create_dir_all(&mount).expect("a scratch folder");
        let target = mount.display().to_string();
        self.ctr(&["images", "mount", "--snapshotter", self.snapshotter, image, &target]);
        let bytes = std::fs::read(mount.join(name)).expect("the file is in the image");
        self.ctr(&["images", "unmount", "--rm", &target]);
        bytes
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path().join("containerd.sock")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let below = self.path().display().to_string();
        let targets = mounts.lines().filter_map(|line| line.split(' ').nth(1));
        for target in targets.filter(|target| target.starts_with(&below)) {
            // What stays mounted stays behind in the scratch folder: no other test is harmed.
            let _unmounted = Command::new("umount").args(["-l", target]).status();
        }
    }
}
