//! Drafting a root: every change is one function from root to root; what is incomplete is said, not refused.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use airlift_bundles::document::root::{
    DirectorRole, Pattern, Policy, ReleaseRole, RevokeAction, Revoked, RevokedRelease, Role, Roles, Root,
    Scope, TrustedRoot,
};
use airlift_bundles::envelope::{Document as _, Envelope, EnvelopeError};
use airlift_bundles::ids::{AppName, FleetId, KeyId, Name, Sha256Digest};
use airlift_bundles::json;
use airlift_bundles::keys::PublicKey;
use airlift_bundles::limits::Limits;
use clap::{Args, ValueEnum};

use super::DraftArgs;
use crate::cli::envelope_file;
use crate::cli::failure::{Failure, Kind};
use crate::cli::output::line;
use crate::cli::terminal::Terminal;
use crate::clock::Clock;
use crate::keyfile;

/// Fewer digits of a key id than this could fit two keys by accident.
const KEY_ID_PREFIX_MIN: usize = 8;

#[derive(Debug, Args)]
pub(crate) struct Init {
    /// The draft to write
    #[arg(value_name = "DRAFT")]
    file: PathBuf,
    /// The fleet's name, for ever (a DNS label)
    #[arg(long)]
    fleet: FleetId,
    /// Public key file of a root key holder; repeat
    #[arg(long, value_name = "FILE")]
    root_key: Vec<PathBuf>,
    /// How many root keys must sign
    #[arg(long, value_name = "N", default_value_t = 1)]
    root_threshold: usize,
    /// Public key file of the hub's director key; repeat
    #[arg(long, value_name = "FILE")]
    director_key: Vec<PathBuf>,
    /// How many director keys must sign
    #[arg(long, value_name = "N", default_value_t = 1)]
    director_threshold: usize,
    /// Public key file of a holder who may sign releases of every app; repeat
    #[arg(long, value_name = "FILE")]
    release_key: Vec<PathBuf>,
    /// How many release keys must sign
    #[arg(long, value_name = "N", default_value_t = 1)]
    release_threshold: usize,
}

#[derive(Debug, Args)]
pub(crate) struct Edit {
    /// The newest root
    newest: PathBuf,
    /// The draft to write
    #[arg(value_name = "DRAFT")]
    file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct ChangeKeys {
    #[command(flatten)]
    pub(crate) draft: DraftArgs,
    /// root, director, or the name of a release role
    #[arg(long)]
    role: String,
    /// Public key file, or for a key of the draft the first digits of its id; repeat
    #[arg(long = "key", value_name = "FILE|ID", required = true)]
    keys: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct SetThreshold {
    #[command(flatten)]
    pub(crate) draft: DraftArgs,
    /// root, director, or the name of a release role
    #[arg(long)]
    role: String,
    /// How many keys must sign
    threshold: usize,
}

#[derive(Debug, Args)]
pub(crate) struct AddReleaseRole {
    #[command(flatten)]
    pub(crate) draft: DraftArgs,
    /// The role's name
    #[arg(long)]
    name: Name,
    /// Public key file of a holder; repeat
    #[arg(long = "key", value_name = "FILE")]
    keys: Vec<PathBuf>,
    /// How many must sign
    #[arg(long, default_value_t = 1)]
    threshold: usize,
    /// Apps that it may release: names, prefixes ending in "*"
    #[arg(long, value_delimiter = ',', default_value = "*")]
    apps: Vec<String>,
    /// Namespaces that the apps may touch
    #[arg(long, value_delimiter = ',', default_value = "*")]
    namespaces: Vec<String>,
    /// Cluster-scoped kinds that the apps may touch, as GROUP/Kind
    #[arg(long, value_delimiter = ',', default_value = "*")]
    cluster_kinds: Vec<String>,
    /// Image references that the apps may use, usually prefixes ending in "*"
    #[arg(long, value_delimiter = ',', default_value = "*")]
    images: Vec<String>,
    /// Allow privileged pods, host namespaces, paths and ports
    #[arg(long)]
    privileged: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RemoveReleaseRole {
    #[command(flatten)]
    pub(crate) draft: DraftArgs,
    /// The role's name
    #[arg(long)]
    name: Name,
}

#[derive(Debug, Args)]
pub(crate) struct Raise {
    #[command(flatten)]
    pub(crate) draft: DraftArgs,
    /// The app whose epoch or floor rises
    #[arg(long, required_unless_present = "director_epoch")]
    app: Option<AppName>,
    /// The app's new epoch, under which its numbers start again
    #[arg(long, requires = "app")]
    epoch: Option<u64>,
    /// The smallest release number that may still be assigned
    #[arg(long, requires = "app")]
    min_seq: Option<u64>,
    /// The director's new epoch, which leaves a stolen key's counters behind
    #[arg(long)]
    director_epoch: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct SetPolicy {
    #[command(flatten)]
    pub(crate) draft: DraftArgs,
    /// Seconds of uptime that a retire order waits, visibly, before it acts
    #[arg(long, value_name = "SECONDS")]
    retire_delay: Option<u64>,
    /// Objects that one prune may delete without a release's or a person's word
    #[arg(long, value_name = "COUNT")]
    deletion_budget: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct Revoke {
    #[command(flatten)]
    pub(crate) draft: DraftArgs,
    /// A key (public key file or first digits of its id): leaves all roles and may never return
    #[arg(long, value_name = "FILE|ID", required_unless_present = "release")]
    key: Vec<String>,
    /// A release, by the digest of its payload
    #[arg(long, value_name = "DIGEST")]
    release: Vec<Sha256Digest>,
    /// What sites do about the release
    #[arg(long, value_enum, default_value = "block")]
    action: Action,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Action {
    /// No new installs and no rollback to it; running copies are kept and flagged
    Block,
    /// Scale its workloads to zero and keep the data
    Stop,
}

pub(crate) fn init(arguments: &Init, terminal: Terminal) -> Result<(), Failure> {
    envelope_file::refuse_existing(&arguments.file)?;
    let empty = |threshold| Role { keyids: Vec::new(), threshold };
    let mut root = Root {
        fleet_id: arguments.fleet.clone(),
        version: 1,
        prev_sha256: None,
        keys: BTreeMap::new(),
        roles: Roles {
            root: empty(arguments.root_threshold),
            director: DirectorRole { keyids: Vec::new(), threshold: arguments.director_threshold, epoch: 0 },
            releases: Vec::new(),
        },
        apps: BTreeMap::new(),
        revoked: Revoked::default(),
        policy: Policy::default(),
        issued_at: Clock::start().now().time(),
        crit: Vec::new(),
    };
    add_keys(&mut root, "root", &read_keys(&arguments.root_key)?)?;
    add_keys(&mut root, "director", &read_keys(&arguments.director_key)?)?;
    if !arguments.release_key.is_empty() {
        let name = Name::new("releases")?;
        let apps = patterns(&["*".to_owned()]);
        let threshold = arguments.release_threshold;
        root.roles.releases.push(ReleaseRole {
            name,
            keyids: Vec::new(),
            threshold,
            apps,
            scope: Scope::all(),
        });
        add_keys(&mut root, "releases", &read_keys(&arguments.release_key)?)?;
    }
    save(&arguments.file, &root, terminal)
}

pub(crate) fn edit(arguments: &Edit, terminal: Terminal) -> Result<(), Failure> {
    envelope_file::refuse_existing(&arguments.file)?;
    let bytes = envelope_file::read_bytes(&arguments.newest)?;
    let newest = TrustedRoot::stored(&bytes, &Limits::DEFAULT)
        .map_err(|error| Failure::from(error).during(format!("{} is no root", arguments.newest.display())))?;
    let mut root = Root::clone(&newest);
    root.version += 1;
    root.prev_sha256 = Some(newest.digest());
    root.issued_at = root.issued_at.max(Clock::start().now().time());
    save(&arguments.file, &root, terminal)
}

/// Reads a draft, changes it, and writes it again.
pub(crate) fn change(
    draft: &DraftArgs,
    terminal: Terminal,
    change: impl FnOnce(&mut Root) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let (envelope, mut root) = read(&draft.file)?;
    if !envelope.signatures().is_empty() && !draft.discard_signatures {
        let message =
            format!("{} is signed by {} already", draft.file.display(), envelope.signatures().len());
        let next = "Draft the next version with `airlift root edit`, or drop the signatures with \
                    --discard-signatures. Nothing was changed.";
        return Err(Failure::new(Kind::Conflict, message).next(next));
    }
    change(&mut root)?;
    save(&draft.file, &root, terminal)
}

/// Reads a draft, which may still be incomplete.
pub(crate) fn read(path: &Path) -> Result<(Envelope, Root), Failure> {
    let envelope = envelope_file::read(path)?;
    let name = |error| Failure::from(error).during(format!("{} is no root", path.display()));
    if envelope.payload_type() != Root::PAYLOAD_TYPE {
        let found = envelope.payload_type().to_owned();
        return Err(name(EnvelopeError::PayloadType { expected: Root::PAYLOAD_TYPE, found }));
    }
    let root = json::parse(envelope.payload_unverified(), &Limits::DEFAULT)
        .map_err(|error| name(EnvelopeError::Payload(error)))?;
    Ok((envelope, root))
}

fn save(path: &Path, root: &Root, terminal: Terminal) -> Result<(), Failure> {
    let envelope = Envelope::draft(root);
    envelope_file::write(path, &envelope)?;
    if let Err(fault) = root.check() {
        terminal.note(format!("the draft is not complete yet: {fault}"));
    }
    line(format!(
        "{}: version {} of fleet {}, draft {}",
        path.display(),
        root.version,
        root.fleet_id,
        envelope.digest()
    ))?;
    Ok(())
}

fn read_keys(paths: &[PathBuf]) -> Result<Vec<PublicKey>, Failure> {
    Ok(paths.iter().map(|path| keyfile::read_public(path)).collect::<Result<_, _>>()?)
}

fn patterns(texts: &[String]) -> Vec<Pattern> {
    texts.iter().cloned().map(Pattern).collect()
}

fn role_of<'r>(root: &'r mut Root, role: &str) -> Result<(&'r mut Vec<KeyId>, &'r mut usize), Failure> {
    let roles = &mut root.roles;
    match role {
        "root" => Ok((&mut roles.root.keyids, &mut roles.root.threshold)),
        "director" => Ok((&mut roles.director.keyids, &mut roles.director.threshold)),
        name => {
            let found = roles.releases.iter_mut().find(|role| role.name.as_str() == name);
            found.map(|role| (&mut role.keyids, &mut role.threshold)).ok_or_else(|| {
                let failure = Failure::new(Kind::NotFound, format!("the draft has no role {name:?}"));
                failure.next("Roles are root, director, and what `airlift root add-release-role` added.")
            })
        }
    }
}

fn add_keys(root: &mut Root, role: &str, keys: &[PublicKey]) -> Result<(), Failure> {
    for key in keys {
        let id = key.key_id();
        let (keyids, _) = role_of(root, role)?;
        if let Err(at) = keyids.binary_search(&id) {
            keyids.insert(at, id.clone());
        }
        root.keys.insert(id, key.clone());
    }
    Ok(())
}

/// Finds a key of the root by its public key file or the first digits of its id.
fn find_key(root: &Root, text: &str) -> Result<KeyId, Failure> {
    let path = Path::new(text);
    if path.exists() {
        return Ok(keyfile::read_public(path)?.key_id());
    }
    let mut fitting = root.keys.keys().filter(|id| id.as_str().starts_with(text));
    match (fitting.next(), fitting.next()) {
        (Some(id), None) if text.len() >= KEY_ID_PREFIX_MIN => Ok(id.clone()),
        _ => {
            let message = format!("{text:?} is neither a file nor the beginning of one key's id");
            let next =
                format!("`airlift root show` lists the ids; give at least {KEY_ID_PREFIX_MIN} digits.");
            Err(Failure::new(Kind::NotFound, message).next(next))
        }
    }
}

/// Keys that no role names any more leave the root, so that nothing idle stands in it.
fn drop_idle_keys(root: &mut Root) {
    let roles = &root.roles;
    let releases = roles.releases.iter().flat_map(|role| &role.keyids);
    let named: Vec<&KeyId> = roles.root.keyids.iter().chain(&roles.director.keyids).chain(releases).collect();
    root.keys.retain(|id, _| named.contains(&id));
}

impl ChangeKeys {
    pub(crate) fn add(&self, root: &mut Root) -> Result<(), Failure> {
        let paths: Vec<PathBuf> = self.keys.iter().map(PathBuf::from).collect();
        add_keys(root, &self.role, &read_keys(&paths)?)
    }

    pub(crate) fn remove(&self, root: &mut Root) -> Result<(), Failure> {
        for text in &self.keys {
            let id = find_key(root, text)?;
            let (keyids, _) = role_of(root, &self.role)?;
            let Ok(at) = keyids.binary_search(&id) else {
                return Err(Failure::new(Kind::NotFound, format!("key {id} is not in role {}", self.role)));
            };
            keyids.remove(at);
        }
        drop_idle_keys(root);
        Ok(())
    }
}

impl SetThreshold {
    pub(crate) fn apply(&self, root: &mut Root) -> Result<(), Failure> {
        *role_of(root, &self.role)?.1 = self.threshold;
        Ok(())
    }
}

impl AddReleaseRole {
    pub(crate) fn apply(&self, root: &mut Root) -> Result<(), Failure> {
        if matches!(self.name.as_str(), "root" | "director") {
            return Err(Failure::usage("a release role cannot be called root or director"));
        }
        let scope = Scope {
            namespaces: patterns(&self.namespaces),
            cluster_kinds: patterns(&self.cluster_kinds),
            images: patterns(&self.images),
            privileged: self.privileged,
        };
        let (name, apps) = (self.name.clone(), patterns(&self.apps));
        let role = ReleaseRole { name, keyids: Vec::new(), threshold: self.threshold, apps, scope };
        root.roles.releases.retain(|role| role.name != self.name);
        root.roles.releases.push(role);
        root.roles.releases.sort_by(|a, b| a.name.cmp(&b.name));
        drop_idle_keys(root);
        add_keys(root, self.name.as_str(), &read_keys(&self.keys)?)
    }
}

impl RemoveReleaseRole {
    pub(crate) fn apply(&self, root: &mut Root) -> Result<(), Failure> {
        role_of(root, self.name.as_str())?;
        root.roles.releases.retain(|role| role.name != self.name);
        drop_idle_keys(root);
        Ok(())
    }
}

impl Raise {
    pub(crate) fn apply(&self, root: &mut Root) -> Result<(), Failure> {
        let lowers = |what: &str| Failure::usage(format!("{what} only rises")).next("Nothing was changed.");
        if let Some(epoch) = self.director_epoch {
            let current = &mut root.roles.director.epoch;
            *current = if epoch > *current { epoch } else { return Err(lowers("the director's epoch")) };
        }
        let Some(app) = &self.app else { return Ok(()) };
        let floor = root.apps.entry(app.clone()).or_default();
        let before = *floor;
        if let Some(epoch) = self.epoch {
            floor.epoch = epoch;
            floor.min_seq = 0;
        }
        floor.min_seq = self.min_seq.unwrap_or(floor.min_seq);
        if *floor <= before {
            return Err(lowers("an app's (epoch, min-seq)"));
        }
        Ok(())
    }
}

impl SetPolicy {
    pub(crate) fn apply(&self, root: &mut Root) -> Result<(), Failure> {
        let policy = &mut root.policy;
        policy.retire_delay_s = self.retire_delay.unwrap_or(policy.retire_delay_s);
        policy.deletion_budget = self.deletion_budget.unwrap_or(policy.deletion_budget);
        Ok(())
    }
}

impl Revoke {
    pub(crate) fn apply(&self, root: &mut Root) -> Result<(), Failure> {
        for text in &self.key {
            let id = find_key(root, text)?;
            let roles = &mut root.roles;
            let releases = roles.releases.iter_mut().map(|role| &mut role.keyids);
            let lists = [&mut roles.root.keyids, &mut roles.director.keyids].into_iter().chain(releases);
            lists.for_each(|keyids| keyids.retain(|listed| *listed != id));
            if let Err(at) = root.revoked.keyids.binary_search(&id) {
                root.revoked.keyids.insert(at, id);
            }
        }
        drop_idle_keys(root);
        let action = match self.action {
            Action::Block => RevokeAction::Block,
            Action::Stop => RevokeAction::Stop,
        };
        let releases = &mut root.revoked.releases;
        for sha256 in &self.release {
            releases.retain(|revoked| revoked.sha256 != *sha256);
            releases.push(RevokedRelease { sha256: *sha256, action });
        }
        releases.sort_by_key(|revoked| revoked.sha256);
        Ok(())
    }
}
