//! Why the demo stopped, in words that say where to look.

use std::io;
use std::path::PathBuf;

/// Why the demo stopped; all its processes are ended by then.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The person pressed Ctrl-C, or the machine shuts down.
    #[error("interrupted; every process that the demo started has been ended")]
    Interrupted,
    /// The options do not fit together, or not to this machine.
    #[error("{0}")]
    Options(String),
    /// A file or directory cannot be used.
    #[error("cannot use {path}: {source}", path = path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A command of the product failed.
    #[error("`{line}` failed ({status})\n{said}\n  log: {log}", log = log.display())]
    Command {
        /// As a person would type it.
        line: String,
        /// How it ended.
        status: String,
        /// What it said.
        said: String,
        /// Every command and its answer.
        log: PathBuf,
    },
    /// A command's answer is not what this version prints.
    #[error("`{line}` answered something unexpected: {said}")]
    Answer {
        /// As a person would type it.
        line: String,
        /// What it said.
        said: String,
    },
    /// A process that should run has ended.
    #[error("{name} ended by itself ({status}); the end of its log {log} says:\n{tail}", log = log.display())]
    Ended {
        /// Hub, or which site's agent.
        name: String,
        /// How.
        status: String,
        /// Its log.
        log: PathBuf,
        /// The last lines.
        tail: String,
    },
    /// Sites did not become what the story expects.
    #[error("{what}\n{sites}\n  logs: {logs}", logs = logs.display())]
    Stage {
        /// What was waited for, and how long.
        what: String,
        /// The sites that are not there, with what they show.
        sites: String,
        /// Where the logs are.
        logs: PathBuf,
    },
}

impl DemoError {
    /// For `map_err` at a file.
    pub fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }

    /// The exit code: that of an interrupted program, of a wrong command line, or of a failure.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Interrupted => 130,
            Self::Options(_) => 2,
            _ => 1,
        }
    }
}
