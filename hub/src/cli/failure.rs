//! How a command ends badly: what happened, what is safe, what to do next, and the exit code.

use std::fmt;
use std::io;
use std::process::ExitCode;

use airlift_bundles::code::Code;
use airlift_bundles::document::root::RootError;
use airlift_bundles::envelope::EnvelopeError;
use airlift_bundles::ids::IdError;

use crate::keyfile::KeyFileError;

/// The kind of an ending, which is its exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The answer to the question asked is no.
    No = 1,
    /// The command line or an input file cannot be acted on.
    Usage = 2,
    /// Something outside failed: disk, system, hub.
    Runtime = 3,
    /// The hub did not accept who asks.
    Auth = 4,
    /// What was named is not there.
    NotFound = 5,
    /// It contradicts what is there.
    Conflict = 6,
    /// A signature, digest or rule of trust refused it.
    Refused = 7,
    /// It took too long.
    Timeout = 8,
    /// No connection could be made.
    Unreachable = 10,
}

impl From<Kind> for ExitCode {
    fn from(kind: Kind) -> Self {
        Self::from(kind as u8)
    }
}

/// A bad ending.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) kind: Kind,
    code: Option<Code>,
    message: String,
    causes: Vec<String>,
    next: Option<String>,
}

impl Failure {
    /// Ends with `kind`; `error` says what happened, and its sources why.
    pub(crate) fn new(kind: Kind, error: impl Into<Box<dyn std::error::Error>>) -> Self {
        let error = error.into();
        let mut causes = Vec::new();
        let mut source = error.source();
        while let Some(cause) = source {
            causes.push(cause.to_string());
            source = cause.source();
        }
        Self { kind, code: None, message: error.to_string(), causes, next: None }
    }

    /// The command line or an input file cannot be acted on.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message.into())
    }

    /// Names the stable code.
    pub(crate) fn code(mut self, code: Code) -> Self {
        self.code = Some(code);
        self
    }

    /// Says what to do, where more is known than the code's own advice.
    pub(crate) fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    /// Says what was being done, before what went wrong with it.
    pub(crate) fn during(mut self, what: impl fmt::Display) -> Self {
        self.causes.insert(0, std::mem::replace(&mut self.message, what.to_string()));
        self
    }

    /// What happened and why, in one line.
    pub(crate) fn summary(&self) -> String {
        let mut text = self.message.clone();
        for cause in &self.causes {
            text.push_str(": ");
            text.push_str(cause);
        }
        text
    }

    /// What to do next.
    pub(crate) fn advice(&self) -> String {
        self.next.as_deref().or(self.code.map(Code::next_step)).unwrap_or("Read the message.").to_owned()
    }

    /// Whether the reader of our output went away, which is no failure.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        self.kind == Kind::Runtime && self.message == BROKEN_PIPE
    }
}

const BROKEN_PIPE: &str = "nobody reads the output";

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) => write!(f, "error[{code}]: {}", self.message)?,
            None => write!(f, "error: {}", self.message)?,
        }
        for cause in &self.causes {
            write!(f, "\n  because: {cause}")?;
        }
        if let Some(code) = self.code {
            write!(f, "\n  {}: {}", code.title(), code.cause())?;
        }
        if let Some(next) = self.next.as_deref().or(self.code.map(Code::next_step)) {
            write!(f, "\n  next: {next}")?;
        }
        self.code.map_or(Ok(()), |code| write!(f, "\n  more: airlift explain {code}"))
    }
}

impl From<RootError> for Failure {
    fn from(error: RootError) -> Self {
        let code = error.code();
        Self::new(Kind::Refused, error).code(code)
    }
}

impl From<EnvelopeError> for Failure {
    fn from(error: EnvelopeError) -> Self {
        let code = error.code();
        Self::new(Kind::Refused, error).code(code)
    }
}

impl From<KeyFileError> for Failure {
    fn from(error: KeyFileError) -> Self {
        let (code, kind) = match &error {
            KeyFileError::Io { cause, .. } if cause.kind() == io::ErrorKind::NotFound => {
                (error.code(), Kind::NotFound)
            }
            KeyFileError::Exists(_) => {
                return Self::new(Kind::Conflict, error).next("Choose another name for the new key.");
            }
            KeyFileError::NoPassphrase { .. } | KeyFileError::NotAKey { .. } => (error.code(), Kind::Usage),
            KeyFileError::Passphrase(_) => (error.code(), Kind::Auth),
            KeyFileError::Io { .. } | KeyFileError::Encrypt(_) => (error.code(), Kind::Runtime),
        };
        Self::new(kind, error).code(code)
    }
}

impl From<IdError> for Failure {
    fn from(error: IdError) -> Self {
        Self::new(Kind::Usage, error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::new(Kind::Runtime, BROKEN_PIPE),
            io::ErrorKind::NotFound => Self::new(Kind::NotFound, error),
            io::ErrorKind::TimedOut => Self::new(Kind::Timeout, error),
            _ => Self::new(Kind::Runtime, error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_what_happened_why_and_what_to_do() {
        let error = RootError::Envelope(EnvelopeError::Threshold { valid: 1, threshold: 2 });
        let failure = Failure::from(error).during("root.json is not accepted");
        assert_eq!(failure.kind, Kind::Refused);
        let text = failure.to_string();
        assert!(text.starts_with("error[AL0202]: root.json is not accepted\n"), "{text}");
        assert!(text.contains("because: 1 of 2 needed signatures are valid"), "{text}");
        assert!(text.contains("next: ") && text.ends_with("more: airlift explain AL0202"), "{text}");
    }
}
