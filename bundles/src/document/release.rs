//! The release: "this bundle is version `seq` of this app", an in-toto statement signed by the app's release role.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{check_ascending, check_count};
use crate::code::Code;
use crate::envelope::{Contradiction, Document};
use crate::ids::{AppName, Counter, FleetId, Name, Sha256Digest, Timestamp, Version, encode_hex};

/// The statement's type, in-toto Attestation Framework v1.
pub const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
/// What kind of statement a release is.
pub const PREDICATE_TYPE: &str = "https://airlift.dev/release/v1";

/// An in-toto Statement v1 whose one subject is a bundle's `index.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// [`STATEMENT_TYPE`].
    #[serde(rename = "_type")]
    pub statement_type: String,
    /// Exactly one.
    pub subject: Vec<Subject>,
    /// [`PREDICATE_TYPE`].
    #[serde(rename = "predicateType")]
    pub predicate_type: String,
    /// What is said of the subject.
    pub predicate: Release,
}

/// What a statement speaks of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// `APP@VERSION`, for people.
    pub name: String,
    /// `sha256` → 64 hex digits.
    pub digest: BTreeMap<String, String>,
}

/// What the release role says of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// The fleet.
    pub fleet_id: FleetId,
    /// The app.
    pub app: AppName,
    /// The root's epoch for the app.
    pub epoch: u64,
    /// The version's number within the epoch.
    pub seq: u64,
    /// Once this release is healthy, nothing below this number returns; at most `seq`.
    #[serde(default)]
    pub floor: u64,
    /// The version for people.
    pub version: Version,
    /// The release that it follows, for display and deltas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prev: Option<Sha256Digest>,
    /// Platforms whose images it holds; empty where it has no images.
    #[serde(default)]
    pub platforms: Vec<Platform>,
    /// Apps that must be assigned beside it.
    #[serde(default)]
    pub requires: Vec<Requirement>,
    /// What it costs.
    pub sizes: Sizes,
    /// Whether the site may go back from it by itself.
    #[serde(default)]
    pub rollback: RollbackRule,
    /// Values that the director may choose, and within which bounds.
    #[serde(default)]
    pub parameters: BTreeMap<Name, ParameterDeclaration>,
    /// Names of the overlays in the bundle.
    #[serde(default)]
    pub overlays: Vec<Name>,
    /// Names of the slots for sealed secrets.
    #[serde(default)]
    pub secret_slots: Vec<Name>,
    /// What pruning may delete beyond ordinary objects.
    #[serde(default)]
    pub prune: DeletePermissions,
    /// What retiring may delete beyond ordinary objects.
    #[serde(default)]
    pub retire: DeletePermissions,
    /// When it was drafted.
    pub issued_at: Timestamp,
    /// Fields that a reader must understand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub crit: Vec<String>,
}

/// An operating system and architecture as OCI names them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// `amd64`, `arm64`, `arm` …
    pub architecture: String,
    /// `v7`, `v8` …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

impl Platform {
    /// Whether an image of this platform runs on `node`: an absent variant fits any.
    #[must_use]
    pub fn fits(&self, node: &Self) -> bool {
        self.os == node.os
            && self.architecture == node.architecture
            && (self.variant.is_none() || node.variant.is_none() || self.variant == node.variant)
    }
}

/// Another app that must be assigned at least at this number.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Requirement {
    /// The other app.
    pub app: AppName,
    /// Its smallest `seq`.
    pub min_seq: u64,
}

/// What a bundle costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Sizes {
    /// Bytes of all blobs.
    pub packed: u64,
    /// Bytes after unpacking layers and objects.
    pub unpacked: u64,
    /// Number of blobs.
    pub files: u64,
}

/// Whether a site may go back from a release by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RollbackRule {
    /// It may.
    #[default]
    Allowed,
    /// It must not: what the release changes cannot be undone.
    Never,
}

/// Classes of objects that are deleted only with the release's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeletePermissions {
    /// Namespaces.
    pub namespaces: bool,
    /// Custom resource definitions, and with them their objects.
    pub crds: bool,
    /// Persistent volume claims, and with them their data.
    pub claims: bool,
}

/// A parameter value: a scalar.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scalar {
    /// `true` or `false`.
    Boolean(bool),
    /// An integer within ±(2^53 − 1).
    Integer(i64),
    /// Text.
    String(String),
}

impl std::fmt::Display for Scalar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Boolean(value) => write!(f, "{value}"),
            Self::Integer(value) => write!(f, "{value}"),
            Self::String(value) => f.write_str(value),
        }
    }
}

impl From<Scalar> for serde_json::Value {
    fn from(scalar: Scalar) -> Self {
        match scalar {
            Scalar::Boolean(value) => value.into(),
            Scalar::Integer(value) => value.into(),
            Scalar::String(value) => value.into(),
        }
    }
}

impl Serialize for Scalar {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Boolean(value) => serializer.serialize_bool(*value),
            Self::Integer(value) => serializer.serialize_i64(*value),
            Self::String(value) => serializer.serialize_str(value),
        }
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        let scalar = match &value {
            serde_json::Value::Bool(value) => Some(Self::Boolean(*value)),
            serde_json::Value::Number(number) => number.as_i64().map(Self::Integer),
            serde_json::Value::String(text) => Some(Self::String(text.clone())),
            _ => None,
        };
        scalar.ok_or_else(|| serde::de::Error::custom("a parameter is a string, an integer or a boolean"))
    }
}

/// The type of a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ParameterType {
    /// Text: needs an enum, or a pattern with a maximum length.
    String,
    /// A whole number: needs an enum or a range.
    Integer,
    /// `true` or `false`.
    Boolean,
}

/// Within which bounds the director may choose a value, and which scalars it replaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ParameterDeclaration {
    /// The type.
    #[serde(rename = "type")]
    pub kind: ParameterType,
    /// The only values, where listed.
    #[serde(default, rename = "enum", skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<Scalar>,
    /// A regular expression that the whole text matches (linear-time dialect).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// Longest text: bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_length: Option<usize>,
    /// Smallest number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<i64>,
    /// Largest number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<i64>,
    /// The scalars that it replaces.
    pub targets: Vec<ParameterTarget>,
}

/// One scalar of one object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ParameterTarget {
    /// `apps/v1`.
    pub api_version: String,
    /// `Deployment`.
    pub kind: String,
    /// Absent for cluster-scoped objects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The object's name.
    pub name: String,
    /// Where the scalar stands (RFC 6901).
    pub pointer: String,
}

impl Statement {
    /// Says `release` of the bundle whose `index.json` has this digest.
    #[must_use]
    pub fn new(bundle: &Sha256Digest, release: Release) -> Self {
        let subject = Subject {
            name: format!("{}@{}", release.app, release.version),
            digest: BTreeMap::from([("sha256".to_owned(), encode_hex(bundle.as_bytes()))]),
        };
        Self {
            statement_type: STATEMENT_TYPE.to_owned(),
            subject: vec![subject],
            predicate_type: PREDICATE_TYPE.to_owned(),
            predicate: release,
        }
    }

    /// Digest of the bundle's `index.json`.
    ///
    /// # Panics
    /// Never for a statement that passed [`Document::check`].
    #[must_use]
    pub fn bundle(&self) -> Sha256Digest {
        self.subject_digest().expect("a checked statement has one subject with a SHA-256 digest")
    }

    fn subject_digest(&self) -> Option<Sha256Digest> {
        let [subject] = self.subject.as_slice() else { return None };
        subject.digest.get("sha256").and_then(|hex| Sha256Digest::from_hex(hex).ok())
    }
}

impl Release {
    /// Its place among the app's releases.
    #[must_use]
    pub fn counter(&self) -> Counter {
        Counter { epoch: self.epoch, seq: self.seq }
    }
}

impl Document for Statement {
    const PAYLOAD_TYPE: &'static str = "application/vnd.in-toto+json";
    const BODY: &'static str = "/predicate";
    const FIELDS: &'static [&'static str] = &[
        "fleet_id",
        "app",
        "epoch",
        "seq",
        "floor",
        "version",
        "prev",
        "platforms",
        "requires",
        "sizes",
        "rollback",
        "parameters",
        "overlays",
        "secret_slots",
        "prune",
        "retire",
        "issued_at",
        "crit",
    ];

    fn check(&self) -> Result<(), Contradiction> {
        if self.statement_type != STATEMENT_TYPE || self.predicate_type != PREDICATE_TYPE {
            let words = format!("statement {} with predicate {}", self.statement_type, self.predicate_type);
            return Err(Contradiction::of(Code::StatementInvalid, words));
        }
        if self.subject_digest().is_none() {
            let words = "a release has one subject with a sha256 digest";
            return Err(Contradiction::of(Code::StatementInvalid, words));
        }
        let release = &self.predicate;
        if release.seq == 0 || release.floor > release.seq {
            let words = format!("floor {} is above seq {}, or seq is 0", release.floor, release.seq);
            return Err(words.into());
        }
        check_count("platforms", release.platforms.len(), 16)?;
        check_count("requirements", release.requires.len(), 32)?;
        check_count("parameters", release.parameters.len(), 128)?;
        check_ascending("platforms", &release.platforms, Clone::clone)?;
        check_ascending("requirements", &release.requires, |requirement| requirement.app.clone())?;
        check_ascending("overlays", &release.overlays, Clone::clone)?;
        check_ascending("secret slots", &release.secret_slots, Clone::clone)?;
        let mut targets = BTreeSet::new();
        for (name, parameter) in &release.parameters {
            parameter.check().map_err(|fault| format!("parameter {name}: {fault}"))?;
            for target in &parameter.targets {
                let key =
                    (&target.api_version, &target.kind, &target.namespace, &target.name, &target.pointer);
                if !targets.insert(key) {
                    let words = format!("parameter {name}: {} is set by two parameters", target.pointer);
                    return Err(words.into());
                }
            }
        }
        Ok(())
    }
}

impl ParameterDeclaration {
    /// Checks that the declaration bounds its values, as rule 3 of the trust model asks.
    ///
    /// # Errors
    /// The missing or contradicting bound, in words.
    pub fn check(&self) -> Result<(), String> {
        check_count("choices", self.choices.len(), 64)?;
        check_count("targets", self.targets.len(), 64)?;
        if self.targets.is_empty() {
            return Err("it has no targets".into());
        }
        let fits = |choice: &Scalar| {
            matches!(
                (self.kind, choice),
                (ParameterType::String, Scalar::String(_))
                    | (ParameterType::Integer, Scalar::Integer(_))
                    | (ParameterType::Boolean, Scalar::Boolean(_))
            )
        };
        if !self.choices.iter().all(fits) {
            return Err("a choice is not of the declared type".into());
        }
        // The pattern must stand by itself: `a)|(?:.*` would leave the group that anchors it.
        if let Some(pattern) = &self.pattern {
            regex_lite::Regex::new(pattern).map_err(|error| format!("pattern {pattern:?}: {error}"))?;
        }
        let listed = !self.choices.is_empty();
        match self.kind {
            ParameterType::String if !listed && (self.pattern.is_none() || self.max_length.is_none()) => {
                Err("text needs an enum, or a pattern with max_length".into())
            }
            ParameterType::Integer if !listed && (self.min.is_none() || self.max.is_none()) => {
                Err("a number needs an enum, or min and max".into())
            }
            _ => Ok(()),
        }
    }
}
