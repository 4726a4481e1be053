//! Packs a folder of manifests and images into a bundle: `airlift bundle build` as a library.
//!
//! The same folder gives the same bytes, whoever builds it and when. Whatever could be understood in two ways,
//! or could only fail at a site that nobody reaches, is refused here, with file and line.

mod build;
mod choices;
mod decode;
mod images;
mod kinds;
mod manifests;
mod pin;
mod scalar;
mod source;
mod take;
mod yaml;

use std::fmt;
use std::io;
use std::path::PathBuf;

pub use build::{Packed, ReleaseFacts, pack, pack_with, write_archive};
pub use images::{RemoteImage, RemoteImages};
pub use source::{AppSource, ImageSource};
pub use yaml::read_yaml_value;

use crate::code::Code;
use yaml::{YamlError, YamlWarning};

/// A file and line of the source; line 0 speaks of the file as a whole.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file, relative to the folder.
    pub file: String,
    /// The line, counted from 1.
    pub line: usize,
}

impl Place {
    fn new(file: &str, line: usize) -> Self {
        Self { file: file.to_owned(), line }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.file),
            line => write!(f, "{}:{line}", self.file),
        }
    }
}

/// Something in the source that must be mended.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// Where it stands.
    pub place: Place,
    /// Its stable code.
    pub code: Code,
    /// What is wrong, and what to write instead.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.place, self.message, self.code)
    }
}

/// Something in the source that another reader would take otherwise; the build goes on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Warning {
    /// Where it stands.
    pub place: Place,
    /// What is ambiguous.
    pub message: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// A folder cannot be packed; nothing usable was written.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// The source must be mended; every fault that was found.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Invalid(Vec<Fault>),
    /// A file cannot be read or written.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the disk says.
        source: io::Error,
    },
}

impl PackError {
    fn invalid(place: Place, message: impl Into<String>) -> Self {
        Self::Invalid(vec![Fault { place, code: Code::BuildInvalid, message: message.into() }])
    }

    fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }

    /// Its stable code: that of the first fault.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Invalid(faults) => faults.first().map_or(Code::BuildInvalid, |fault| fault.code),
            Self::Io { .. } => Code::BuildInvalid,
        }
    }
}

/// What was found while reading: the build stops if there are faults, and shows all of them.
#[derive(Debug, Default)]
struct Findings {
    faults: Vec<Fault>,
    warnings: Vec<Warning>,
}

impl Findings {
    fn fault(&mut self, place: Place, code: Code, message: impl Into<String>) {
        self.faults.push(Fault { place, code, message: message.into() });
    }

    fn invalid(&mut self, place: Place, message: impl Into<String>) {
        self.fault(place, Code::BuildInvalid, message);
    }

    fn yaml_fault(&mut self, file: &str, error: YamlError) {
        let code = if error.ambiguous { Code::AmbiguousYaml } else { Code::BuildInvalid };
        self.fault(Place::new(file, error.line), code, error.message);
    }

    fn yaml_warnings(&mut self, file: &str, warnings: Vec<YamlWarning>) {
        self.warnings.extend(
            warnings
                .into_iter()
                .map(|warning| Warning { place: Place::new(file, warning.line), message: warning.message }),
        );
    }

    fn take<T>(&mut self, result: Result<T, PackError>) -> Result<Option<T>, PackError> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(PackError::Invalid(faults)) => {
                self.faults.extend(faults);
                Ok(None)
            }
            Err(other) => Err(other),
        }
    }

    fn stop_on_faults(&mut self) -> Result<(), PackError> {
        if self.faults.is_empty() {
            return Ok(());
        }
        let mut faults = std::mem::take(&mut self.faults);
        faults.sort();
        faults.dedup();
        Err(PackError::Invalid(faults))
    }
}

#[cfg(test)]
mod tests;
