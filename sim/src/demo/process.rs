//! A process that the demo keeps running: its log, its end by kill, and its end in good order.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::failure::DemoError;

/// How long a process may take to end in good order before it is killed.
const GRACE: Duration = Duration::from_secs(5);
/// Bytes of a log's end that are shown when its process ended by itself.
const TAIL_BYTES: usize = 1200;

/// A running process of ours.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    child: Child,
}

impl Process {
    /// Starts it; all that it says is added to its log.
    ///
    /// # Errors
    /// [`DemoError::Io`].
    pub fn start(name: &str, mut command: Command, log: &Path) -> Result<Self, DemoError> {
        let open = || -> std::io::Result<(File, File)> {
            let file = OpenOptions::new().create(true).append(true).open(log)?;
            Ok((file.try_clone()?, file))
        };
        let (out, err) = open().map_err(DemoError::io(log))?;
        command.stdin(Stdio::null()).stdout(out).stderr(err).kill_on_drop(true);
        let program = command.as_std().get_program().to_owned();
        let child = command.spawn().map_err(DemoError::io(program))?;
        Ok(Self { name: name.to_owned(), log: log.to_owned(), child })
    }

    /// Says whether it still runs.
    ///
    /// # Errors
    /// [`DemoError::Ended`], with the end of its log.
    pub fn check(&mut self) -> Result<(), DemoError> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(self.ended(status.to_string())),
            Err(error) => Err(self.ended(error.to_string())),
        }
    }

    /// Its process id, while it runs.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Ends it as a power cut would (SIGKILL).
    pub async fn kill(mut self) {
        // It may have ended just now, which is as good.
        let _ = self.child.kill().await;
    }

    /// Ends it in good order, or by a kill if it takes too long.
    pub async fn stop(mut self) {
        let pid = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // Not reaped yet, so the id is still its own.
            let _ = kill_process(pid, Signal::TERM);
        }
        if timeout(GRACE, self.child.wait()).await.is_err() {
            self.kill().await;
        }
    }

    fn ended(&self, status: String) -> DemoError {
        let text = fs::read(&self.log).unwrap_or_default();
        let tail = String::from_utf8_lossy(&text[text.len().saturating_sub(TAIL_BYTES)..]).into_owned();
        DemoError::Ended { name: self.name.clone(), status, log: self.log.clone(), tail }
    }
}
