//! A process of the test bed: in its bed's control group, in a namespace, with a log file.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::bed::Bed;
use crate::clock::wait_until;
use crate::namespace::Namespace;

/// A running process; killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `program` in the namespace and in the bed's control group; appends its words to `logs/<name>.log`.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(
        bed: &Bed,
        namespace: &Namespace,
        name: &str,
        program: &Path,
        arguments: &[String],
        environment: &[(&str, &str)],
    ) -> Self {
        let log = bed.dir().join("logs").join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log).expect("a log file can be made");
        // The shell joins the group and becomes the program, so the child's pid is the program's.
        let child = namespace
            .command("sh")
            .args(["-c", r#"echo $$ > "$0/cgroup.procs" && exec "$@""#])
            .arg(bed.group())
            .arg(program)
            .args(arguments)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a file handle can be copied"))
            .stderr(file)
            .spawn()
            .expect("nsenter is installed");
        Self { child, log }
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// All that it has written so far.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Refuses, with the end of its log, when it has ended.
    ///
    /// # Errors
    /// What it ended with and wrote last.
    pub fn check_alive(&mut self) -> Result<(), String> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            ended => {
                let log = self.log();
                let last: Vec<&str> = log.lines().rev().take(15).collect();
                let last: Vec<&str> = last.into_iter().rev().collect();
                Err(format!("{} ended: {ended:?}\n{}", self.log.display(), last.join("\n")))
            }
        }
    }

    /// How it has ended, where it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Ends it at once, as a power cut or the kernel would.
    pub fn kill(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to end, and waits for that.
    ///
    /// # Panics
    /// When it is still there after `limit`.
    pub fn end(mut self, limit: Duration) -> ExitStatus {
        let pid = self.child.id().to_string();
        let asked = Command::new("kill").args(["-TERM", &pid]).status().expect("kill is installed");
        assert!(asked.success(), "{} was gone before it was asked to end", self.log.display());
        wait_until("the process to end", limit, || match self.child.try_wait() {
            Ok(Some(status)) => Ok(status),
            other => Err(format!("{other:?}")),
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
