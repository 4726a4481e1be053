//! How a command ends badly: what happened, what stays safe, what to do next, and the exit code.

use std::error::Error;
use std::fmt;
use std::process::ExitCode;

use airlift_bundles::causes::in_one_line;
use airlift_bundles::code::Code;

/// The kind of an ending, which is its exit code; the numbers are those of `airlift`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The answer is no: something is unhealthy, incomplete or absent.
    No = 1,
    /// The command line or the configuration cannot be acted on.
    Usage = 2,
    /// Something at this site failed: disk, database, system.
    Runtime = 3,
    /// A signature, digest or rule of trust refused it.
    Refused = 7,
    /// Nobody answered.
    Unreachable = 10,
}

impl Ending {
    /// The ending that a code of a refusal stands for.
    pub(crate) fn of(code: Code) -> Self {
        match code {
            Code::HubUnreachable => Self::Unreachable,
            Code::ConfigInvalid => Self::Usage,
            Code::StoreFailed
            | Code::StoreLocked
            | Code::StoreDamaged
            | Code::DiskFull
            | Code::ClusterUnavailable => Self::Runtime,
            Code::ContentMissing | Code::NotEnrolled | Code::AssignmentParked | Code::NotFound => Self::No,
            _ => Self::Refused,
        }
    }
}

/// A bad ending.
#[derive(Debug)]
pub(crate) struct Failure {
    ending: Ending,
    code: Option<Code>,
    message: String,
    next: Option<String>,
}

impl Failure {
    /// Ends so; `error` says what happened, and its sources why.
    pub(crate) fn new(ending: Ending, error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { ending, code: None, message: in_one_line(error.into().as_ref()), next: None }
    }

    /// A refusal or failure with a stable code, which decides how the command ends.
    pub(crate) fn coded(code: Code, error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { code: Some(code), ..Self::new(Ending::of(code), error) }
    }

    /// Says what to do, where more is known than the code's own advice.
    pub(crate) fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    /// Ends otherwise than the code would have it.
    pub(crate) fn ending(mut self, ending: Ending) -> Self {
        self.ending = ending;
        self
    }

    /// The exit code.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.ending as u8)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) => write!(f, "error[{code}]: {}\n  {}: {}", self.message, code.title(), code.cause())?,
            None => write!(f, "error: {}", self.message)?,
        }
        match self.next.as_deref().or(self.code.map(Code::next_step)) {
            Some(next) => write!(f, "\n  next: {next}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ConfigError;

    #[test]
    fn a_failure_says_what_happened_why_and_what_to_do() {
        let source = std::io::Error::other("the disk is gone");
        let failure =
            Failure::coded(Code::ConfigInvalid, ConfigError::Read { path: "/etc/x".into(), source });
        let text = failure.to_string();
        assert!(text.starts_with("error[AL0904]: cannot read /etc/x: the disk is gone\n"), "{text}");
        assert!(text.contains("\n  next: "), "{text}");
        assert_eq!(failure.ending, Ending::Usage);
    }

    #[test]
    fn refusals_of_trust_end_with_seven_and_other_troubles_do_not() {
        for code in [Code::TooFewSignatures, Code::AssignmentOlder, Code::BlobDigest, Code::OtherSite] {
            assert_eq!(Ending::of(code) as u8, 7, "{code}");
        }
        assert_eq!(Ending::of(Code::StoreLocked) as u8, 3);
        assert_eq!(Ending::of(Code::HubUnreachable) as u8, 10);
        assert_eq!(Ending::of(Code::ContentMissing) as u8, 1);
    }
}
