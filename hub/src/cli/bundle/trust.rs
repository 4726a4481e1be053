//! Signing a release and checking a bundle: the same verification that a site does before it uses a byte.

use std::path::{Path, PathBuf};

use airlift_bundles::accept::open_release;
use airlift_bundles::code::Code;
use airlift_bundles::document::release::Statement;
use airlift_bundles::document::root::{RevokeAction, TrustedRoot};
use airlift_bundles::envelope::Envelope;
use airlift_bundles::ids::Sha256Digest;
use airlift_bundles::keys::PublicKey;
use airlift_bundles::limits::Limits;
use airlift_bundles::media::release_file;
use clap::Args;
use serde_json::json;

use super::files::BundleFiles;
use crate::cli::envelope_file::{self, SignArgs, SigningState, signing_state};
use crate::cli::failure::{Failure, Kind};
use crate::cli::output::{Format, OutputArgs, line, print_json};
use crate::cli::root::show::newest;
use crate::cli::terminal::Terminal;

#[derive(Debug, Args)]
pub(crate) struct Sign {
    /// The bundle, or its release file
    bundle: PathBuf,
    /// The fleet's roots (files or a folder): refuse a key that may not release this app
    #[arg(long, value_name = "PATH")]
    root: Vec<PathBuf>,
    #[command(flatten)]
    sign: SignArgs,
}

#[derive(Debug, Args)]
pub(crate) struct Merge {
    /// The release file that collects the signatures, or its bundle
    bundle: PathBuf,
    /// Signed copies of it
    #[arg(required = true)]
    copies: Vec<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  airlift bundle verify shop-1.tar --root roots/ --root-sha256 sha256:…
  airlift bundle verify shop-1.release.json --root roots/ --signatures-only

Exit code 7 where a signature is missing or wrong, or content is not what was signed.")]
pub(crate) struct Verify {
    /// The bundle, or its release file with --signatures-only
    bundle: PathBuf,
    /// The fleet's roots: files, or a folder of VERSION.json
    #[arg(long, value_name = "PATH", required = true)]
    root: Vec<PathBuf>,
    /// Digest of root 1
    #[arg(long, value_name = "DIGEST")]
    root_sha256: Option<Sha256Digest>,
    /// The release file, where it is not beside the bundle
    #[arg(long, value_name = "FILE")]
    release_file: Option<PathBuf>,
    /// Leave the content unread
    #[arg(long)]
    signatures_only: bool,
    #[command(flatten)]
    output: OutputArgs,
}

/// A bundle's release file, whichever of both was named.
fn release_of(path: &Path) -> PathBuf {
    if path.extension().is_some_and(|ending| ending == "json") { path.to_owned() } else { release_file(path) }
}

pub(crate) fn sign(arguments: &Sign, terminal: Terminal) -> Result<(), Failure> {
    let file = release_of(&arguments.bundle);
    let envelope = envelope_file::read(&file)?;
    let statement: Statement = envelope
        .read_unverified(&Limits::DEFAULT)
        .map_err(|error| Failure::from(error).during(format!("{} is no release", file.display())))?;
    let release = &statement.predicate;
    terminal.note(format!(
        "release of {}@{}, number {} (epoch {}, floor {}) for fleet {}, bundle {}",
        release.app,
        release.version,
        release.seq,
        release.epoch,
        release.floor,
        release.fleet_id,
        statement.bundle()
    ));
    let key = arguments.sign.open_key()?;
    if !arguments.root.is_empty() {
        let root = newest(&arguments.root, None)?;
        let role = role_of(&root, &statement)?;
        if !role.keys.contains(&key.public()) {
            let id = key.public().key_id();
            let message = format!("key {id} is not in role {}, which releases {}", role.name, release.app);
            return Err(
                Failure::new(Kind::Refused, message).next("Sign with a key of the role. Nothing was signed.")
            );
        }
    }
    let signed = arguments.sign.sign(&file, envelope, &key, terminal)?;
    let written = arguments.sign.out.as_ref().unwrap_or(&file);
    let count = signed.signatures().len();
    line(format!("{} signed by {}, {count} signatures", written.display(), key.public().key_id()))?;
    Ok(())
}

pub(crate) fn merge(arguments: &Merge, terminal: Terminal) -> Result<(), Failure> {
    let file = release_of(&arguments.bundle);
    let mut envelope = envelope_file::read(&file)?;
    let gained = envelope_file::merge(&mut envelope, &arguments.copies)?;
    envelope_file::write(&file, &envelope)?;
    terminal.note(format!("{gained} new signatures"));
    line(format!("{}: {} signatures", file.display(), envelope.signatures().len()))?;
    Ok(())
}

/// The role that releases the statement's app.
struct ReleaseRole<'r> {
    name: &'r str,
    keys: Vec<PublicKey>,
    threshold: usize,
}

fn role_of<'r>(root: &'r TrustedRoot, statement: &Statement) -> Result<ReleaseRole<'r>, Failure> {
    let app = &statement.predicate.app;
    let Some(role) = root.release_role(app) else {
        let message = format!("no role of root {} releases app {app}", root.version);
        return Err(Failure::new(Kind::Refused, message).code(Code::ReleaseRoleMissing));
    };
    let keys = root.release_keys(role).cloned().collect();
    Ok(ReleaseRole { name: role.name.as_str(), keys, threshold: role.threshold })
}

pub(crate) fn verify(arguments: &Verify, terminal: Terminal) -> Result<(), Failure> {
    let root = newest(&arguments.root, arguments.root_sha256.as_ref())?;
    let releases = if arguments.signatures_only {
        let file = arguments.release_file.clone().unwrap_or_else(|| release_of(&arguments.bundle));
        vec![envelope_file::read_bytes(&file)?]
    } else {
        let files = BundleFiles::open(&arguments.bundle)?;
        let releases = files.releases(&arguments.bundle, arguments.release_file.as_deref())?;
        for release in &releases {
            verify_content(&files, &root, release, terminal)?;
        }
        releases
    };
    for bytes in &releases {
        let verdict = verify_release(&root, bytes)?;
        show(&verdict, arguments.output.format)?;
        verdict.refuse_unless_good()?;
    }
    Ok(())
}

/// What is known of a release's trust.
struct Verdict {
    statement: Statement,
    sha256: Sha256Digest,
    role: String,
    root_version: u64,
    signing: SigningState,
    trust: Result<(), Failure>,
}

impl Verdict {
    fn refuse_unless_good(self) -> Result<(), Failure> {
        self.trust
    }
}

/// Says who signed a release and who did not, and whether a site with this root takes it.
fn verify_release(root: &TrustedRoot, bytes: &[u8]) -> Result<Verdict, Failure> {
    let envelope = Envelope::parse(bytes, &Limits::DEFAULT)?;
    let statement: Statement = envelope.read_unverified(&Limits::DEFAULT)?;
    let role = role_of(root, &statement)?;
    let signing = signing_state(&envelope, &role.keys, role.threshold);
    let trust = check_trust(root, bytes, &statement, &envelope.digest());
    let (role, root_version) = (role.name.to_owned(), root.version);
    Ok(Verdict { sha256: envelope.digest(), statement, role, root_version, signing, trust })
}

fn check_trust(
    root: &TrustedRoot,
    bytes: &[u8],
    statement: &Statement,
    sha256: &Sha256Digest,
) -> Result<(), Failure> {
    let refuse = |code: Code, message: String| Err(Failure::new(Kind::Refused, message).code(code));
    let release = &statement.predicate;
    if let Err(refusal) = open_release(bytes, root, &Limits::DEFAULT) {
        return refuse(refusal.code, refusal.detail);
    }
    if release.fleet_id != root.fleet_id {
        return refuse(Code::OtherFleet, format!("release is for fleet {}", release.fleet_id));
    }
    let floor = root.floor(&release.app);
    if release.epoch != floor.epoch {
        let message = format!("release is of epoch {}, the root's is {}", release.epoch, floor.epoch);
        return refuse(Code::ReleaseEpochOther, message);
    }
    if release.counter() < floor {
        return refuse(Code::ReleaseBelowFloor, format!("release {} is below {floor}", release.counter()));
    }
    match root.revocation(sha256) {
        Some(RevokeAction::Block) => refuse(Code::ReleaseRevoked, format!("release {sha256}")),
        Some(RevokeAction::Stop) => refuse(Code::ReleaseStopped, format!("release {sha256}")),
        None => Ok(()),
    }
}

/// Reads every byte of a bundle that a release names and checks it; only where the release itself is good.
pub(crate) fn verify_content(
    files: &BundleFiles,
    root: &TrustedRoot,
    release: &[u8],
    terminal: Terminal,
) -> Result<(), Failure> {
    let Ok(statement) = open_release(release, root, &Limits::DEFAULT) else {
        return Ok(()); // said, with who is missing, by the verdict on the release itself
    };
    let statement = statement.document();
    let bundle = files.read_bundle(&statement.bundle())?;
    bundle.app().check_release(&statement.predicate).map_err(|field| {
        let failure = Failure::new(Kind::Refused, format!("release and bundle differ in {field}"));
        failure.code(Code::DescriptorDiffers)
    })?;
    let blobs = files.blobs(&bundle)?;
    let progress = terminal.progress("verifying", blobs.iter().map(|(_, size)| size).sum());
    for (digest, size) in &blobs {
        files.check_blob(digest, *size, &progress)?;
    }
    Ok(())
}

fn show(verdict: &Verdict, format: Format) -> Result<(), Failure> {
    let release = &verdict.statement.predicate;
    match format {
        Format::Name => line(verdict.sha256.to_string())?,
        Format::Json => print_json(
            "BundleVerdict",
            &json!({ "sha256": verdict.sha256, "bundle": verdict.statement.bundle(), "app": release.app,
                "version": release.version, "seq": release.seq, "epoch": release.epoch, "role": verdict.role,
                "root_version": verdict.root_version, "signing": verdict.signing, "good": verdict.trust.is_ok() }),
        )?,
        Format::Table | Format::Wide => {
            let trust = if verdict.trust.is_ok() { "good" } else { "REFUSED" };
            line(format!("{}@{} number {}: {trust}", release.app, release.version, release.seq))?;
            line(format!("release  {}", verdict.sha256))?;
            line(format!("bundle   {}", verdict.statement.bundle()))?;
            let role = format!("{} (root {})", verdict.role, verdict.root_version);
            verdict.signing.lines(&role).iter().try_for_each(line)?;
        }
    }
    Ok(())
}
