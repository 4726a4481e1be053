//! The changes that a draft can be given, each one function from root to root.

use std::path::{Path, PathBuf};

use airlift_bundles::document::root::{Pattern, ReleaseRole, RevokeAction, RevokedRelease, Root, Scope};
use airlift_bundles::ids::{AppName, KeyId, Name, Sha256Digest};
use airlift_bundles::keys::PublicKey;
use clap::{Args, ValueEnum};

use super::DraftArgs;
use crate::cli::failure::{Failure, Kind};
use crate::keyfile;

/// Fewer digits of a key id than this could fit two keys by accident.
const KEY_ID_PREFIX_MIN: usize = 8;

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

/// Reads public key files.
pub(super) fn read_keys(paths: &[PathBuf]) -> Result<Vec<PublicKey>, Failure> {
    Ok(paths.iter().map(|path| keyfile::read_public(path)).collect::<Result<_, _>>()?)
}

/// Texts as patterns.
pub(super) fn patterns(texts: &[String]) -> Vec<Pattern> {
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

/// Gives a role keys.
pub(super) fn add_keys(root: &mut Root, role: &str, keys: &[PublicKey]) -> Result<(), Failure> {
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
