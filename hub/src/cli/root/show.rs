//! Looking at roots: the chain as a site walks it, what one says, what the next changes.

use std::path::PathBuf;

use airlift_bundles::document::root::{RevokeAction, Root, TrustedRoot};
use airlift_bundles::envelope::{Document as _, Envelope};
use airlift_bundles::ids::{KeyId, Sha256Digest};
use airlift_bundles::keys::PublicKey;
use airlift_bundles::limits::Limits;
use clap::Args;
use serde_json::json;

use super::draft;
use crate::cli::envelope_file::{self, signing_state};
use crate::cli::failure::{Failure, Kind};
use crate::cli::output::{Format, OutputArgs, Table, line, print_json};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  airlift root verify roots/ --root-sha256 sha256:…
  airlift root verify 1.json 2.json")]
pub(crate) struct Verify {
    /// Root files, or a folder of them
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Digest of root 1, as sites were installed with
    #[arg(long, value_name = "DIGEST")]
    root_sha256: Option<Sha256Digest>,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    /// A root or a draft
    file: PathBuf,
    #[command(flatten)]
    output: OutputArgs,
}

pub(crate) fn verify(arguments: &Verify) -> Result<(), Failure> {
    let chain = read_chain(&arguments.files)?;
    let walked = walk(&chain, arguments.root_sha256.as_ref())?;
    let mut table = Table::new("RootList", &["VERSION", "DIGEST", "ISSUED"], &["FLEET"]);
    for root in &walked {
        let shape = json!({ "version": root.version, "sha256": root.digest(), "issued_at": root.issued_at,
            "fleet_id": root.fleet_id, "pinned": arguments.root_sha256.is_some() });
        let cells = vec![
            root.version.to_string(),
            root.digest().to_string(),
            root.issued_at.to_string(),
            root.fleet_id.to_string(),
        ];
        table.row(&shape, root.version, cells);
    }
    table.print(arguments.output.format)?;
    if arguments.output.format == Format::Table {
        line(match &arguments.root_sha256 {
            Some(_) => "The chain is good from the pinned root on.",
            None => {
                "The chain is consistent. Compare the digest of version 1 with a key holder's, or pass it with --root-sha256."
            }
        })?;
    }
    Ok(())
}

/// Reads roots from files and folders, ascending by version; only names in folders are `VERSION.json`.
pub(crate) fn read_chain(paths: &[PathBuf]) -> Result<Vec<(PathBuf, Vec<u8>)>, Failure> {
    let mut files: Vec<PathBuf> = Vec::new();
    for path in paths {
        if path.is_dir() {
            let entries = std::fs::read_dir(path)?.collect::<Result<Vec<_>, _>>()?;
            let is_root = |path: &PathBuf| {
                path.extension().is_some_and(|ending| ending == "json")
                    && path.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok()).is_some()
            };
            files.extend(entries.into_iter().map(|entry| entry.path()).filter(is_root));
        } else {
            files.push(path.clone());
        }
    }
    let mut chain = Vec::new();
    for path in files {
        let bytes = envelope_file::read_bytes(&path)?;
        let root: Root = Envelope::parse(&bytes, &Limits::DEFAULT)
            .and_then(|envelope| envelope.read_unverified(&Limits::DEFAULT))
            .map_err(|error| Failure::from(error).during(format!("{} is no root", path.display())))?;
        chain.push((root.version, path, bytes));
    }
    chain.sort_by_key(|(version, ..)| *version);
    if chain.is_empty() {
        return Err(
            Failure::new(Kind::NotFound, "no root is there").next("Name files, or a folder of VERSION.json.")
        );
    }
    Ok(chain.into_iter().map(|(_, path, bytes)| (path, bytes)).collect())
}

/// Walks a chain from its first root, which must be the pinned one where a digest is given.
pub(crate) fn walk(
    chain: &[(PathBuf, Vec<u8>)],
    pinned: Option<&Sha256Digest>,
) -> Result<Vec<TrustedRoot>, Failure> {
    let limits = Limits::DEFAULT;
    let mut walked: Vec<TrustedRoot> = Vec::new();
    for (path, bytes) in chain {
        let next = match (walked.last(), pinned) {
            (Some(newest), _) => newest.advance(bytes, &limits),
            (None, Some(pinned)) => TrustedRoot::pin(bytes, pinned, &limits),
            (None, None) => TrustedRoot::stored(bytes, &limits),
        };
        let named = |error| Failure::from(error).during(format!("{} is not accepted", path.display()));
        walked.push(next.map_err(named)?);
    }
    Ok(walked)
}

/// Walks a chain to its newest root.
pub(crate) fn newest(paths: &[PathBuf], pinned: Option<&Sha256Digest>) -> Result<TrustedRoot, Failure> {
    let mut walked = walk(&read_chain(paths)?, pinned)?;
    Ok(walked.pop().expect("a chain that was read is not empty"))
}

pub(crate) fn show(arguments: &Show) -> Result<(), Failure> {
    let (envelope, root) = draft::read(&arguments.file)?;
    let keys: Vec<&PublicKey> = root.root_keys().collect();
    let state = signing_state(&envelope, keys, root.roles.root.threshold);
    match arguments.output.format {
        Format::Name => line(envelope.digest().to_string())?,
        Format::Json => {
            print_json("Root", &json!({ "sha256": envelope.digest(), "root": root, "signing": state }))?;
        }
        Format::Table | Format::Wide => {
            line(format!("digest {}", envelope.digest()))?;
            summary(&root).iter().try_for_each(line)?;
            state.lines("root").iter().try_for_each(line)?;
            if let Err(fault) = root.check() {
                line(format!("not complete yet: {fault}"))?;
            }
        }
    }
    Ok(())
}

/// What a root says, for the person who signs it.
pub(crate) fn summary(root: &Root) -> Vec<String> {
    let mut lines =
        vec![format!("root version {} of fleet {}, {}", root.version, root.fleet_id, root.issued_at)];
    let mut role = |name: &str, keyids: &[KeyId], threshold: usize, more: String| {
        lines.push(format!("  role {name}: {threshold} of {}{more}", keyids.len()));
        lines.extend(keyids.iter().map(|id| format!("    {id}")));
    };
    let roles = &root.roles;
    role("root", &roles.root.keyids, roles.root.threshold, String::new());
    let epoch = format!(", epoch {}", roles.director.epoch);
    role("director", &roles.director.keyids, roles.director.threshold, epoch);
    for release in &roles.releases {
        let list = |patterns: &[airlift_bundles::document::root::Pattern]| {
            patterns.iter().map(|pattern| pattern.0.as_str()).collect::<Vec<_>>().join(",")
        };
        let scope = &release.scope;
        let more = format!(
            "; apps {}; namespaces {}; cluster kinds {}; images {}{}",
            list(&release.apps),
            list(&scope.namespaces),
            list(&scope.cluster_kinds),
            list(&scope.images),
            if scope.privileged { "; privileged" } else { "" }
        );
        role(release.name.as_str(), &release.keyids, release.threshold, more);
    }
    lines.extend(
        root.apps
            .iter()
            .map(|(app, floor)| format!("  app {app}: epoch {}, at least {}", floor.epoch, floor.min_seq)),
    );
    lines.extend(root.revoked.keyids.iter().map(|id| format!("  revoked key {id}")));
    lines.extend(root.revoked.releases.iter().map(|revoked| {
        let action = match revoked.action {
            RevokeAction::Block => "block",
            RevokeAction::Stop => "stop",
        };
        format!("  revoked release {} ({action})", revoked.sha256)
    }));
    let policy = &root.policy;
    lines.push(format!(
        "  retire delay {} s, deletion budget {}",
        policy.retire_delay_s, policy.deletion_budget
    ));
    lines
}

/// What differs between two roots, as lines of their summaries: gone with `-`, new with `+`.
pub(crate) fn changes(before: &Root, after: &Root) -> Vec<String> {
    let (old, new) = (summary(before), summary(after));
    let gone =
        old.iter().skip(1).filter(|line| !new.contains(line)).map(|line| format!("- {}", line.trim_start()));
    let come =
        new.iter().skip(1).filter(|line| !old.contains(line)).map(|line| format!("+ {}", line.trim_start()));
    gone.chain(come).collect()
}
