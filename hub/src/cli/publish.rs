//! `airlift publish`: brings a signed bundle to the hub; what the hub has already is not sent again.

use std::path::PathBuf;

use airlift_bundles::code::Code;
use airlift_bundles::document::release::Statement;
use airlift_bundles::envelope::Envelope;
use airlift_bundles::limits::Limits;
use clap::Args;

use super::bundle::files::{BundleFiles, OneBlob};
use super::client::{Client, refusal};
use super::context::ContextName;
use super::failure::Failure;
use super::output::{Format, OutputArgs, human_bytes, line, print_json};
use super::terminal::Terminal;
use crate::api::types::{ReleaseInfo, route};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  airlift publish shop-1.tar
  airlift publish shop-1/ --release-file shop-1.release.json

An interrupted upload goes on where it stopped. Publishing puts nothing on any site: `airlift assign` does.")]
pub(crate) struct Publish {
    /// The bundle: a folder, a tar or a stick
    bundle: PathBuf,
    /// The release file, where it is not beside the bundle
    #[arg(long, value_name = "FILE")]
    release_file: Option<PathBuf>,
    /// Check and say what would be sent, and send nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    output: OutputArgs,
}

pub(crate) fn publish(arguments: &Publish, context: &ContextName, terminal: Terminal) -> Result<(), Failure> {
    let files = BundleFiles::open(&arguments.bundle)?;
    let client = context.client()?;
    for bytes in files.releases(&arguments.bundle, arguments.release_file.as_deref())? {
        let envelope = Envelope::parse(&bytes, &Limits::DEFAULT)?;
        let statement: Statement = envelope.read_unverified(&Limits::DEFAULT)?;
        let release = &statement.predicate;
        let blobs = files.blobs(&files.read_bundle(&statement.bundle())?)?;
        let total: u64 = blobs.iter().map(|(_, size)| size).sum();
        if arguments.dry_run {
            let signatures = envelope.signatures().len();
            let (count, size) = (blobs.len(), human_bytes(total));
            line(format!(
                "{}@{} number {} ({signatures} signatures): {count} blobs, {size} at most",
                release.app, release.version, release.seq
            ))?;
            continue;
        }
        let what = format!("{}@{}", release.app, release.version);
        // asked first: a release that would be refused costs no upload
        let (sent, info) = match client.post_bytes::<ReleaseInfo>(route::RELEASES, bytes.clone())? {
            Ok(info) => (0, info),
            Err(problem) if problem.code == Code::ContentMissing => {
                let sent = upload(&client, &files, &blobs, &what, terminal)?;
                (sent, client.post_bytes(route::RELEASES, bytes)?.map_err(refusal)?)
            }
            Err(problem) => return Err(refusal(problem)),
        };
        match arguments.output.format {
            Format::Json => print_json("Release", &info)?,
            Format::Name => line(info.sha256.to_string())?,
            Format::Table | Format::Wide => line(format!(
                "published {what} as number {}: {} ({} sent)",
                info.release.seq,
                info.sha256,
                human_bytes(sent)
            ))?,
        }
    }
    Ok(())
}

fn upload(
    client: &Client,
    files: &BundleFiles,
    blobs: &[(airlift_bundles::ids::Sha256Digest, u64)],
    what: &str,
    terminal: Terminal,
) -> Result<u64, Failure> {
    let progress = terminal.progress(what, blobs.iter().map(|(_, size)| size).sum());
    let mut sent = 0;
    for (digest, size) in blobs {
        sent += client.upload(digest, *size, &OneBlob { files, digest: *digest }, &progress)?;
    }
    Ok(sent)
}
