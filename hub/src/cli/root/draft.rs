//! Drafts of roots: made, read, changed and written; what is incomplete is said, not refused.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use airlift_bundles::document::root::{
    DirectorRole, Policy, ReleaseRole, Revoked, Role, Roles, Root, Scope, TrustedRoot,
};
use airlift_bundles::envelope::{Document as _, Envelope, EnvelopeError};
use airlift_bundles::ids::{FleetId, Name};
use airlift_bundles::json;
use airlift_bundles::limits::Limits;
use clap::Args;

use super::DraftArgs;
use super::change::{add_keys, patterns, read_keys};
use crate::cli::envelope_file;
use crate::cli::failure::{Failure, Kind};
use crate::cli::output::line;
use crate::cli::terminal::Terminal;
use crate::clock::Clock;

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
