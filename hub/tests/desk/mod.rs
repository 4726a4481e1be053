//! A scratch desk: a folder in which the real program runs, with no hub and no terminal.

use std::path::Path;
use std::process::{Command, Output, Stdio};

/// A folder to run `airlift` in.
pub(crate) struct Desk {
    folder: tempfile::TempDir,
}

impl Desk {
    /// An empty folder.
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder") }
    }

    /// The folder.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Runs a line.
    pub(crate) fn airlift(&self, line: &str) -> Output {
        Command::new(env!("CARGO_BIN_EXE_airlift"))
            .current_dir(self.path())
            .env_remove("AIRLIFT_PASSPHRASE_FILE")
            .env("XDG_CONFIG_HOME", self.path().join("config"))
            .env("DOCKER_CONFIG", self.path().join("docker"))
            .stdin(Stdio::null())
            .args(line.split_whitespace())
            .output()
            .expect("the program was built")
    }

    /// Runs a line that must succeed; gives what it printed.
    pub(crate) fn good(&self, line: &str) -> String {
        let output = self.airlift(line);
        let (said, told) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "airlift {line}: {:?}\n{said}{told}", output.status.code());
        said
    }

    /// Runs a line that must fail with `exit`; gives what it told.
    pub(crate) fn bad(&self, exit: i32, line: &str) -> String {
        let output = self.airlift(line);
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(exit), "airlift {line}\n{}{told}", text(&output.stdout));
        told
    }

    /// Makes plain keys.
    pub(crate) fn keys(&self, names: &[&str]) {
        for name in names {
            self.good(&format!("key generate {name}.key --plain"));
        }
    }

    /// Drafts a root of two out of three, and two out of two for releases.
    pub(crate) fn two_of_three(&self, director: &str) {
        self.keys(&["a", "b", "c", "r1", "r2"]);
        self.good(&format!(
            "root init root.json --fleet lab --root-key a.pub --root-key b.pub --root-key c.pub \
             --root-threshold 2 --director-key {director} --release-key r1.pub --release-key r2.pub \
             --release-threshold 2"
        ));
    }
}

/// Bytes as text.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
