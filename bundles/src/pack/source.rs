//! What stands in `airlift.yaml` (FORMAT.md, section 3): strict, with defaults, turned into the app descriptor.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

use super::decode::decode;
use super::yaml::Node;
use super::{PackError, Place};
use crate::document::release::{
    DeletePermissions, ParameterDeclaration, Platform, Requirement, RollbackRule,
};
use crate::ids::{AppName, Name, Version};
use crate::layout::app::{HealthRule, IgnoreRule, Preloaded, SOAK_S, SecretSlot, TIMEOUT_S};
use crate::layout::reference::ImageReference;
use crate::render::object::ObjectId;
use crate::render::overlay::PatchKind;

/// The one version of the source's form.
const API_VERSION: &str = "airlift.dev/v1alpha1";

/// An `airlift.yaml`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppSource {
    #[serde(rename = "apiVersion")]
    api_version: String,
    kind: String,
    /// The app.
    pub name: AppName,
    /// Its version for people.
    pub version: Version,
    /// Images that the bundle carries.
    #[serde(default)]
    pub images: Vec<ImageSource>,
    /// Images that the site has by itself.
    #[serde(default)]
    pub preloaded: Vec<Preloaded>,
    /// Wanted platforms, as `linux/arm64`; by default those that every image has.
    #[serde(default)]
    pub platforms: Vec<PlatformText>,
    /// Values that the director may choose.
    #[serde(default)]
    pub parameters: BTreeMap<Name, ParameterDeclaration>,
    /// Overlays, applied in this order.
    #[serde(default)]
    pub overlays: Vec<OverlaySource>,
    /// Health of objects whose kinds say nothing by themselves.
    #[serde(default)]
    pub health: Vec<HealthRule>,
    /// Uptime within which the app must become healthy.
    #[serde(default = "default_timeout")]
    pub timeout: Duration,
    /// Uptime for which the app must stay ready.
    #[serde(default = "default_soak")]
    pub soak: Duration,
    /// Uptime after success during which trouble still rolls back, once.
    #[serde(default)]
    pub watch: Option<Duration>,
    /// Apps that must be assigned beside it.
    #[serde(default)]
    pub requires: Vec<RequirementSource>,
    /// Objects that may exist already and are taken over.
    #[serde(default)]
    pub adopt: Vec<ObjectId>,
    /// Kinds, as `group/Kind`, that may be deleted and created anew.
    #[serde(default)]
    pub recreate: Vec<String>,
    /// Fields that others may change.
    #[serde(default)]
    pub ignore: Vec<IgnoreRule>,
    /// What pruning may delete beyond ordinary objects.
    #[serde(default)]
    pub prune: DeletePermissions,
    /// What retiring may delete beyond ordinary objects.
    #[serde(default)]
    pub retire: DeletePermissions,
    /// Objects that one prune may delete without a person's word.
    #[serde(default)]
    pub deletion_budget: Option<u64>,
    /// Whether the site may go back by itself.
    #[serde(default)]
    pub rollback: RollbackRule,
    /// Slots for sealed secrets.
    #[serde(default)]
    pub secret_slots: BTreeMap<Name, SecretSlot>,
    /// Secrets, as `namespace/name`, whose data may stand in the bundle for all to read.
    #[serde(default)]
    pub allow_secret_data: Vec<String>,
    /// Kinds, as `group/Kind`, that have no namespace and whose CRD is not in the bundle.
    #[serde(default)]
    pub cluster_scoped: Vec<String>,
    /// Whether one node with an agent is enough at a site of several.
    #[serde(default)]
    pub one_node: bool,
    /// Whether pod templates carry the hash of the configuration that they name.
    #[serde(default = "default_true")]
    pub config_hash: bool,
}

/// An image and where the build finds it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageSource {
    /// The name that pods use.
    pub name: ImageReference,
    /// `oci:DIR`, `oci-archive:FILE` or `docker-archive:FILE`, with `:REFERENCE` where there are several;
    /// `docker://IMAGE` or `containerd:IMAGE`.
    pub from: String,
}

/// An overlay.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OverlaySource {
    /// Its name.
    pub name: Name,
    /// Its patches, in order.
    pub patches: Vec<PatchSource>,
}

/// One patch of an overlay.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PatchSource {
    /// The object that it changes.
    pub target: ObjectId,
    /// `merge` (RFC 7386) or `json` (RFC 6902).
    #[serde(rename = "type")]
    pub kind: PatchKind,
    /// Where the patch stands, relative to the folder.
    pub file: String,
}

/// Another app that must be assigned.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequirementSource {
    app: AppName,
    min_seq: u64,
}

impl From<RequirementSource> for Requirement {
    fn from(source: RequirementSource) -> Self {
        Self { app: source.app, min_seq: source.min_seq }
    }
}

/// A length of time such as `90s`, `10m` or `1h30m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Duration {
    /// Whole seconds.
    pub seconds: u64,
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let seconds = parse_duration(&text);
        let refused =
            || serde::de::Error::custom(format!("{text:?} is not a duration such as 90s, 10m or 1h30m"));
        seconds.map(|seconds| Self { seconds }).ok_or_else(refused)
    }
}

fn parse_duration(text: &str) -> Option<u64> {
    let mut seconds = 0_u64;
    let mut rest = text;
    while !rest.is_empty() {
        let unit_at = rest.find(|letter: char| !letter.is_ascii_digit())?;
        let (number, tail) = rest.split_at(unit_at);
        let unit = match tail.as_bytes()[0] {
            b's' => 1,
            b'm' => 60,
            b'h' => 3600,
            b'd' => 86_400,
            _ => return None,
        };
        seconds = seconds.checked_add(number.parse::<u64>().ok()?.checked_mul(unit)?)?;
        rest = &tail[1..];
    }
    (!text.is_empty() && seconds <= 366 * 86_400).then_some(seconds)
}

/// A platform as text: `linux/arm64` or `linux/arm/v7`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlatformText(pub Platform);

impl<'de> Deserialize<'de> for PlatformText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let parts: Vec<_> = text.split('/').collect();
        let word = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric());
        match parts.as_slice() {
            [os, architecture, variant @ ..] if variant.len() <= 1 && parts.iter().all(word) => {
                Ok(Self(Platform {
                    os: (*os).to_owned(),
                    architecture: (*architecture).to_owned(),
                    variant: variant.first().map(|&variant| variant.to_owned()),
                }))
            }
            _ => Err(serde::de::Error::custom(format!("{text:?} is not a platform such as linux/arm64"))),
        }
    }
}

fn default_timeout() -> Duration {
    Duration { seconds: TIMEOUT_S }
}

fn default_soak() -> Duration {
    Duration { seconds: SOAK_S }
}

fn default_true() -> bool {
    true
}

impl AppSource {
    /// Reads the one document of an `airlift.yaml`.
    pub(super) fn read(node: &Node, file: &str) -> Result<Self, PackError> {
        let refuse = |line: usize, message: String| PackError::invalid(Place::new(file, line), message);
        let source: Self =
            decode(node).map_err(|error| refuse(error.line.unwrap_or(node.line), error.message))?;
        if source.api_version != API_VERSION || source.kind != "App" {
            return Err(refuse(node.line, format!("expected apiVersion {API_VERSION} and kind App")));
        }
        if source.soak.seconds >= source.timeout.seconds {
            let line = node.line_at("/soak");
            return Err(refuse(
                line,
                "soak must be shorter than timeout, or the app is never healthy in time".into(),
            ));
        }
        Ok(source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pack::yaml::read_yaml;

    const HEAD: &str = "apiVersion: airlift.dev/v1alpha1\nkind: App\nname: shop\nversion: 1.4.2\n";

    fn read(text: &str) -> Result<AppSource, PackError> {
        AppSource::read(&read_yaml(text, 128).unwrap().documents[0], "airlift.yaml")
    }

    #[test]
    fn a_short_source_gets_the_defaults() {
        let source = read(HEAD).unwrap();
        assert_eq!((source.timeout.seconds, source.soak.seconds, source.watch), (600, 120, None));
        assert_eq!(source.rollback, RollbackRule::Allowed);
        assert!(source.config_hash);
    }

    #[test]
    fn faults_are_refused_with_their_line() {
        for (rest, line, part) in [
            ("colour: red\n", 5, "unknown field `colour`"),
            (
                "images:\n  - {name: a:1, from: 'oci:x'}\n  - name: a:1\n    frm: x\n",
                8,
                "unknown field `frm`",
            ),
            ("soak: 3 parsecs\n", 5, "not a duration"),
            ("timeout: 60\n", 5, "string"),
            ("rollback: maybe\n", 5, "unknown variant `maybe`"),
            ("platforms: [linux]\n", 5, "not a platform"),
            ("soak: 20s\ntimeout: 20s\n", 5, "shorter than timeout"),
            ("prune:\n  everything: true\n", 6, "unknown field `everything`"),
            ("preloaded:\n  - name: a:1\n    digest: sha256:12\n", 7, "digest"),
        ] {
            let error = read(&format!("{HEAD}{rest}")).expect_err(rest).to_string();
            assert!(error.contains(&format!("airlift.yaml:{line}:")), "{rest:?}: {error}");
            assert!(error.contains(part), "{rest:?}: {error}");
        }
        assert!(read(&HEAD.replace("v1alpha1", "v9")).is_err());
    }

    #[test]
    fn durations_add_up() {
        for (text, seconds) in
            [("3s", Some(3)), ("1h30m", Some(5400)), ("2d", Some(172_800)), ("0s", Some(0))]
        {
            assert_eq!(parse_duration(text), seconds, "{text}");
        }
        for text in ["", "3", "s", "1.5h", "-1s", "9999999999999999999d", "1y"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }
}
