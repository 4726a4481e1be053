//! The archive: gathered in memory, cleaned, and written whole: a tar.gz, because every computer opens that.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use airlift_bundles::ids::{Sha256Digest, SiteId, Timestamp};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Serialize;
use serde_json::Value;

use super::redact::Redactor;

/// Bytes of one file; of longer texts the end is kept, which is the newest of a log.
const FILE_BYTES_MAX: usize = 2 << 20;

/// What is never in a support bundle, for its manifest.
const LEFT_OUT: &[&str] = &[
    "private keys: the site's own, its TLS key, the kubeconfig's",
    "tokens and passwords, also where a log or an event showed one: [redacted] stands in their place",
    "Secrets, all other objects' bodies, and the images and objects of bundles",
    "values of parameters: nothing declares which of them are confidential, so all are left out",
    "the signed documents; receipts are told by what they say",
];

/// A support bundle in the making.
#[derive(Debug)]
pub struct Draft {
    redactor: Redactor,
    files: Vec<(FileNote, String)>,
    failed: Vec<Missed>,
}

/// One file, for the manifest.
#[derive(Debug, Clone, Serialize)]
struct FileNote {
    name: String,
    what: String,
    bytes: u64,
    sha256: Sha256Digest,
    /// Places where something was taken out.
    redacted: usize,
    /// It was longer, and only its end is here.
    cut: bool,
}

/// Something that could not be had.
#[derive(Debug, Clone, Serialize)]
struct Missed {
    what: String,
    why: String,
}

#[derive(Debug, Serialize)]
struct Manifest<'a> {
    kind: &'static str,
    site: Option<&'a SiteId>,
    made_at: Timestamp,
    agent_version: &'static str,
    files: Vec<&'a FileNote>,
    not_had: &'a [Missed],
    left_out: &'static [&'static str],
}

/// A support bundle, written.
#[derive(Debug, Clone, Serialize)]
pub struct Written {
    /// Where.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// Files in it.
    pub files: usize,
    /// Places where a secret was taken out.
    pub redacted: usize,
    /// What could not be had.
    pub not_had: Vec<String>,
}

impl Draft {
    /// Begins an empty one.
    #[must_use]
    pub fn new(redactor: Redactor) -> Self {
        Self { redactor, files: Vec::new(), failed: Vec::new() }
    }

    /// Adds a text.
    pub fn add_text(&mut self, name: &str, what: &str, text: &str) {
        let (mut text, redacted) = self.redactor.clean(text);
        let cut = text.len() > FILE_BYTES_MAX;
        if cut {
            let from = text.len() - FILE_BYTES_MAX;
            let from = (from..=text.len()).find(|&at| text.is_char_boundary(at)).unwrap_or(text.len());
            text.drain(..from);
        }
        let note = FileNote {
            name: name.to_owned(),
            what: what.to_owned(),
            bytes: text.len() as u64,
            sha256: Sha256Digest::of(text.as_bytes()),
            redacted,
            cut,
        };
        self.files.push((note, text));
    }

    /// Adds something as JSON.
    pub fn add(&mut self, name: &str, what: &str, item: &impl Serialize) {
        match serde_json::to_value(item) {
            Ok(value) => self.add_text(name, what, &format!("{:#}\n", without_secrets(value))),
            Err(error) => self.miss(what, error),
        }
    }

    /// Notes that something could not be had.
    pub fn miss(&mut self, what: &str, why: impl ToString) {
        let (why, _) = self.redactor.clean(&why.to_string());
        self.failed.push(Missed { what: what.to_owned(), why });
    }

    /// Writes the archive into a directory, beside its name first, so that it is whole or absent.
    ///
    /// # Errors
    /// [`io::Error`] of the directory.
    pub fn write(self, dir: &Path, site: Option<&SiteId>, made_at: Timestamp) -> io::Result<Written> {
        let stamp: String = made_at.to_string().chars().filter(|letter| !"-:".contains(*letter)).collect();
        let stem = format!("airlift-support-{}-{stamp}", site.map_or("unenrolled", SiteId::as_str));
        let path = dir.join(format!("{stem}.tar.gz"));
        let beside = dir.join(format!(".{stem}.part"));
        let manifest = Manifest {
            kind: "SupportBundle",
            site,
            made_at,
            agent_version: env!("CARGO_PKG_VERSION"),
            files: self.files.iter().map(|(note, _)| note).collect(),
            not_had: &self.failed,
            left_out: LEFT_OUT,
        };
        let manifest = serde_json::to_value(&manifest)?;
        let written = pack(&beside, &stem, &format!("{manifest:#}\n"), &self.files, made_at);
        if let Err(error) = written.and_then(|()| fs::rename(&beside, &path)) {
            let _ = fs::remove_file(&beside); // what failed is told; a leftover would only puzzle
            return Err(error);
        }
        if let Ok(dir) = File::open(dir) {
            let _ = dir.sync_all(); // not every file system of a stick can; the file itself is synced
        }
        Ok(Written {
            bytes: fs::metadata(&path)?.len(),
            path,
            files: self.files.len() + 1,
            redacted: self.files.iter().map(|(note, _)| note.redacted).sum(),
            not_had: self
                .failed
                .into_iter()
                .map(|missed| format!("{}: {}", missed.what, missed.why))
                .collect(),
        })
    }
}

fn pack(
    path: &Path,
    stem: &str,
    manifest: &str,
    files: &[(FileNote, String)],
    made_at: Timestamp,
) -> io::Result<()> {
    let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    let mut tar = tar::Builder::new(GzEncoder::new(file, Compression::default()));
    let mut append = |name: &str, text: &str| {
        let mut header = tar::Header::new_ustar();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(u64::try_from(made_at.unix_s()).unwrap_or(0));
        tar.append_data(&mut header, format!("{stem}/{name}"), text.as_bytes())
    };
    append("MANIFEST.json", manifest)?;
    for (note, text) in files {
        append(&note.name, text)?;
    }
    let mut file = tar.into_inner()?.finish()?;
    file.flush()?;
    file.sync_all()
}

/// JSON without the values of fields that are secret by their name: `env` values and the like, whatever they hold.
fn without_secrets(value: Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(
            fields
                .into_iter()
                .map(|(name, value)| match name.as_str() {
                    "parameters" | "data" | "stringData" => (name, Value::from(super::redact::REDACTED)),
                    _ => (name, without_secrets(value)),
                })
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.into_iter().map(without_secrets).collect()),
        other => other,
    }
}
