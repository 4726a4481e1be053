//! The app descriptor: what the build took from `airlift.yaml` and the agent must know (FORMAT.md, section 3).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::reference::ImageReference;
use crate::document::release::{
    DeletePermissions, ParameterDeclaration, Platform, Release, Requirement, RollbackRule, Scalar,
};
use crate::ids::{AppName, Name, Sha256Digest, Version};
use crate::render::object::ObjectId;

/// How long an app may take to become healthy, unless it says otherwise.
pub const TIMEOUT_S: u64 = 600;
/// How long an app must stay ready to be healthy, unless it says otherwise.
pub const SOAK_S: u64 = 120;
/// Health rules of one app, at most.
pub const HEALTH_RULES_MAX: usize = 16;
/// Entries of any other list of a descriptor, at most.
const ENTRIES_MAX: usize = 1000;

/// Kinds whose deletion takes along what others keep under them.
const HOLDERS: [&str; 2] = ["/Namespace", "apiextensions.k8s.io/CustomResourceDefinition"];

/// Everything about an app but its objects and images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppDescriptor {
    /// The app.
    pub app: AppName,
    /// Its version for people.
    pub version: Version,
    /// Platforms whose images the bundle holds, ascending; empty where it has no images.
    #[serde(default)]
    pub platforms: Vec<Platform>,
    /// Apps that must be assigned beside it, ascending.
    #[serde(default)]
    pub requires: Vec<Requirement>,
    /// Whether the site may go back from it by itself.
    #[serde(default)]
    pub rollback: RollbackRule,
    /// Values that the director may choose.
    #[serde(default)]
    pub parameters: BTreeMap<Name, ParameterDeclaration>,
    /// Names of the overlays, in the order in which they are applied.
    #[serde(default)]
    pub overlays: Vec<Name>,
    /// Slots for sealed secrets.
    #[serde(default)]
    pub secret_slots: BTreeMap<Name, SecretSlot>,
    /// What pruning may delete beyond ordinary objects.
    #[serde(default)]
    pub prune: DeletePermissions,
    /// What retiring may delete beyond ordinary objects.
    #[serde(default)]
    pub retire: DeletePermissions,
    /// Objects that one prune may delete without a person's word; absent: the fleet's policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_budget: Option<u64>,
    /// Uptime within which the app must become healthy: seconds.
    pub timeout_s: u64,
    /// Uptime for which the app must stay ready: seconds.
    pub soak_s: u64,
    /// Uptime after success during which trouble still rolls back, once: seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watch_s: Option<u64>,
    /// Health of objects whose kinds say nothing by themselves.
    #[serde(default)]
    pub health: Vec<HealthRule>,
    /// Objects that may exist already and are taken over.
    #[serde(default)]
    pub adopt: Vec<ObjectId>,
    /// Kinds, as `group/Kind`, that are deleted and created anew where an update is impossible.
    #[serde(default)]
    pub recreate: Vec<String>,
    /// Fields that others may change.
    #[serde(default)]
    pub ignore: Vec<IgnoreRule>,
    /// Images that the site has by itself.
    #[serde(default)]
    pub preloaded: Vec<Preloaded>,
    /// Whether one node with an agent is enough at a site of several.
    #[serde(default)]
    pub one_node: bool,
    /// Whether pod templates go without the hash of the configuration that they name.
    #[serde(default)]
    pub no_config_hash: bool,
    /// Number of objects in the objects layer.
    pub objects: usize,
    /// Fields that a reader must understand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub crit: Vec<String>,
}

/// Where a sealed secret goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretSlot {
    /// Namespace of the Secret object.
    pub namespace: String,
    /// Name of the Secret object.
    pub secret: String,
    /// Whether the app is refused until the slot is filled.
    #[serde(default)]
    pub required: bool,
}

/// One rule about the health of one object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HealthRule {
    /// `example.com/v1`.
    pub api_version: String,
    /// The kind.
    pub kind: String,
    /// Absent for cluster-scoped objects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The object's name.
    pub name: String,
    /// Where the value stands; for a condition, where the list of conditions stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
    /// How it is compared.
    pub op: HealthOp,
    /// What it is compared with; for a condition, its type; absent for `exists`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Scalar>,
}

impl HealthRule {
    /// The object that the rule speaks of.
    #[must_use]
    pub fn object(&self) -> ObjectId {
        ObjectId {
            api_version: self.api_version.clone(),
            kind: self.kind.clone(),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
        }
    }

    fn check(&self) -> Result<(), String> {
        self.object().check().map_err(|error| error.to_string())?;
        check_pointer(self.pointer.as_deref().unwrap_or_default())?;
        match (self.op, &self.pointer, &self.value) {
            (HealthOp::Condition, _, Some(Scalar::String(_)))
            | (HealthOp::Exists, Some(_), None)
            | (HealthOp::Eq | HealthOp::Ne, Some(_), Some(_))
            | (HealthOp::Ge, Some(_), Some(Scalar::Integer(_))) => Ok(()),
            (HealthOp::Condition, ..) => Err("op condition takes the condition's type as value".into()),
            (HealthOp::Exists, ..) => Err("op exists takes a pointer and no value".into()),
            (HealthOp::Ge, ..) => Err("op ge takes a pointer and an integer as value".into()),
            (HealthOp::Eq | HealthOp::Ne, ..) => Err("op eq and ne take a pointer and a value".into()),
        }
    }
}

/// How a health rule compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HealthOp {
    /// The value is this one.
    Eq,
    /// The value is there and not this one.
    Ne,
    /// The number is at least this one.
    Ge,
    /// There is a value.
    Exists,
    /// The condition of this type is `True`.
    Condition,
}

/// Fields of one object that others may change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IgnoreRule {
    /// `apps/v1`.
    pub api_version: String,
    /// The kind.
    pub kind: String,
    /// Absent for cluster-scoped objects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The object's name.
    pub name: String,
    /// The fields (RFC 6901).
    pub pointers: Vec<String>,
}

impl IgnoreRule {
    /// The object that the rule speaks of.
    #[must_use]
    pub fn object(&self) -> ObjectId {
        ObjectId {
            api_version: self.api_version.clone(),
            kind: self.kind.clone(),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
        }
    }
}

/// An image that is at the site before the app.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preloaded {
    /// Its name with a tag.
    pub name: ImageReference,
    /// Its digest.
    pub digest: Sha256Digest,
}

impl AppDescriptor {
    /// Every field that this version understands; `crit` may name no other.
    const FIELDS: &'static [&'static str] = &[
        "app",
        "version",
        "platforms",
        "requires",
        "rollback",
        "parameters",
        "overlays",
        "secret_slots",
        "prune",
        "retire",
        "deletion_budget",
        "timeout_s",
        "soak_s",
        "watch_s",
        "health",
        "adopt",
        "recreate",
        "ignore",
        "preloaded",
        "one_node",
        "no_config_hash",
        "objects",
        "crit",
    ];

    /// Checks what the types alone do not say.
    ///
    /// # Errors
    /// The contradiction, in words.
    pub fn check(&self) -> Result<(), String> {
        if let Some(field) = self.crit.iter().find(|field| !Self::FIELDS.contains(&field.as_str())) {
            return Err(format!("field {field:?} needs a newer version"));
        }
        if self.health.len() > HEALTH_RULES_MAX {
            return Err(format!("{} health rules, at most {HEALTH_RULES_MAX}", self.health.len()));
        }
        let lists = [self.adopt.len(), self.recreate.len(), self.ignore.len(), self.preloaded.len()];
        if lists.iter().any(|&length| length > ENTRIES_MAX) {
            return Err(format!("a list of more than {ENTRIES_MAX} entries"));
        }
        for rule in &self.health {
            rule.check().map_err(|fault| format!("health rule for {}: {fault}", rule.object()))?;
        }
        for id in self.adopt.iter().cloned().chain(self.ignore.iter().map(IgnoreRule::object)) {
            id.check().map_err(|error| format!("{id}: {error}"))?;
        }
        for rule in &self.ignore {
            rule.pointers.iter().try_for_each(|pointer| check_pointer(pointer))?;
        }
        for kind in &self.recreate {
            let (_, name) = kind.split_once('/').unwrap_or_default();
            if name.is_empty() || HOLDERS.contains(&kind.as_str()) {
                return Err(format!(
                    "{kind} is no kind, as group/Kind, that can be deleted and created anew"
                ));
            }
        }
        for (name, parameter) in &self.parameters {
            parameter.check().map_err(|fault| format!("parameter {name}: {fault}"))?;
        }
        Ok(())
    }

    /// Compares the descriptor with what its release says; both must agree, since the hub decides by the
    /// release and the agent acts by the descriptor.
    ///
    /// # Errors
    /// The field that differs.
    pub fn check_release(&self, release: &Release) -> Result<(), &'static str> {
        let slots = self.secret_slots.keys();
        let mut overlays = self.overlays.clone();
        overlays.sort();
        let facts = [
            ("app", self.app == release.app),
            ("version", self.version == release.version),
            ("platforms", self.platforms == release.platforms),
            ("requires", self.requires == release.requires),
            ("rollback", self.rollback == release.rollback),
            ("parameters", self.parameters == release.parameters),
            ("overlays", overlays == release.overlays),
            ("secret_slots", slots.eq(&release.secret_slots)),
            ("prune", self.prune == release.prune),
            ("retire", self.retire == release.retire),
        ];
        facts.iter().find(|(_, same)| !same).map_or(Ok(()), |(field, _)| Err(*field))
    }
}

/// Checks the form of a JSON pointer (RFC 6901); empty means the whole object.
pub(crate) fn check_pointer(pointer: &str) -> Result<(), String> {
    let escapes = pointer.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
    if (pointer.is_empty() || pointer.starts_with('/')) && escapes && pointer.len() <= 1024 {
        Ok(())
    } else {
        Err(format!(
            "{:?} is not a JSON pointer such as /spec/replicas",
            pointer.chars().take(80).collect::<String>()
        ))
    }
}
