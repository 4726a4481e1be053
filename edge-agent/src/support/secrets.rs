//! Reads what is secret at this site, so that it can be taken out: keys, the kubeconfig's, and the values in Secrets and
//! parameters. None of it leaves this module but into the redactor.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use airlift_bundles::document::release::Scalar;
use airlift_bundles::ids::Sha256Digest;
use airlift_bundles::layout::objects::ObjectsReader;
use airlift_bundles::layout::{Blobs, Bundle};
use airlift_bundles::limits::Limits;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;

use super::redact::Redactor;
use crate::config::Config;
use crate::core::write::Rows;

/// Key files and kubeconfigs are smaller.
const FILE_BYTES_MAX: u64 = 256 << 10;
/// Fields of a kubeconfig that are secret.
const KUBECONFIG_FIELDS: &[&str] = &["token", "client-key-data", "password"];

/// Learns everything that is known to be secret here.
pub(super) fn learn(redactor: &mut Redactor, config: &Config, rows: &Rows) {
    for path in files_in(&config.keys_dir()) {
        learn_key(redactor, &read(&path).unwrap_or_default());
    }
    for line in read(&config.kubernetes.kubeconfig).unwrap_or_default().lines() {
        if let Some((field, value)) = line.trim().split_once(':')
            && KUBECONFIG_FIELDS.contains(&field.trim_start_matches("- "))
        {
            learn_encoded(redactor, value.trim().trim_matches('"'));
        }
    }
    let blobs = StoredBlobs(config.state_dir.join("blobs/sha256"));
    for row in rows.generations.values() {
        for value in row.generation.parameters.values() {
            if let Scalar::String(text) = value {
                redactor.learn(text);
            }
        }
        for object in objects(&row.generation.bundle, &blobs) {
            learn_secret(redactor, &object);
        }
    }
}

/// A key file: what it calls private where it is JSON, else its lines.
fn learn_key(redactor: &mut Redactor, text: &str) {
    match serde_json::from_str::<Value>(text) {
        Ok(value) => learn_private(redactor, &value),
        Err(_) => {
            text.lines().filter(|line| !line.starts_with("-----")).for_each(|line| redactor.learn(line))
        }
    }
}

/// Ids and public halves are no secrets, and stand in receipts.
fn learn_private(redactor: &mut Redactor, value: &Value) {
    for (name, value) in value.as_object().into_iter().flatten() {
        match value {
            Value::String(text) if name.contains("private") || name.contains("secret") => {
                redactor.learn(text)
            }
            other => learn_private(redactor, other),
        }
    }
}

/// A value that may be base64: as it stands, and decoded.
fn learn_encoded(redactor: &mut Redactor, value: &str) {
    redactor.learn(value);
    if let Some(text) = BASE64.decode(value).ok().and_then(|bytes| String::from_utf8(bytes).ok()) {
        text.lines().filter(|line| !line.starts_with("-----")).for_each(|line| redactor.learn(line));
    }
}

fn learn_secret(redactor: &mut Redactor, object: &Value) {
    if object["kind"] != "Secret" {
        return;
    }
    for field in ["data", "stringData"] {
        for value in object[field].as_object().into_iter().flat_map(|fields| fields.values()) {
            learn_encoded(redactor, value.as_str().unwrap_or_default());
        }
    }
}

/// The objects of a bundle, as far as it is here and can be read.
fn objects(bundle: &Sha256Digest, blobs: &StoredBlobs) -> Vec<Value> {
    let limits = &Limits::DEFAULT;
    let Ok(bundle) = Bundle::read(bundle, blobs, limits) else { return Vec::new() };
    let Ok(file) = File::open(blobs.path(&bundle.objects().digest)) else { return Vec::new() };
    let Ok(reader) = ObjectsReader::new(file, bundle.objects_raw().size, limits) else { return Vec::new() };
    reader.map_while(Result::ok).filter(|object| object["kind"] == "Secret").collect()
}

fn files_in(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    entries.map(|entry| entry.path()).filter(|path| path.is_file()).take(64).collect()
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(FILE_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// The blobs of a state directory, read beside whoever owns it.
struct StoredBlobs(PathBuf);

impl StoredBlobs {
    fn path(&self, digest: &Sha256Digest) -> PathBuf {
        self.0.join(digest.to_hex())
    }
}

impl Blobs for StoredBlobs {
    fn read_blob(&self, digest: &Sha256Digest, limit: u64) -> io::Result<Option<Vec<u8>>> {
        let file = match File::open(self.path(digest)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        file.take(limit).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }
}
