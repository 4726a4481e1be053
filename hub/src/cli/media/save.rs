//! Writing a stick: the hub says what belongs on it; what is there already with the right bytes stays.

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use airlift_bundles::document::release::Statement;
use airlift_bundles::envelope::Envelope;
use airlift_bundles::ids::{Sha256Digest, SiteId};
use airlift_bundles::layout::descriptor::Index;
use airlift_bundles::limits::Limits;
use airlift_bundles::media::{
    MediaArchiveWriter, MediaDirectory, MediaDirectoryWriter, MediaEntry, MediaKind, MediaName, MediaSink,
    MediaSource as _,
};
use clap::Args;

use crate::api::types::{MediaContent, MediaPlan, SiteSelection, route};
use crate::cli::client::Client;
use crate::cli::failure::{Failure, Kind};
use crate::cli::output::{Format, OutputArgs, human_bytes, line, print_json};
use crate::cli::terminal::{Progress, Terminal};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  airlift media save /media/stick --site mast-17,mast-18
  airlift media save north.tar -l region=north --dry-run
  airlift media save /media/stick                       # grants of the sites that were approved since

A stick that has an airlift-media directory is topped up. Every root travels with it.")]
pub(crate) struct Save {
    /// The stick's directory, or a new file that ends in .tar
    #[arg(value_name = "DIR|FILE.tar")]
    to: PathBuf,
    /// Sites by name, separated by commas
    #[arg(long = "site", value_name = "SITE", value_delimiter = ',')]
    sites: Vec<SiteId>,
    /// Sites by label: "region=north,!spare", or "*" for all
    #[arg(long, short = 'l')]
    selector: Option<String>,
    /// A further release, by digest; repeat
    #[arg(long = "release", value_name = "DIGEST")]
    releases: Vec<Sha256Digest>,
    /// Say what would be written, with sizes, and write nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) fn save(arguments: &Save, client: &Client, terminal: Terminal) -> Result<(), Failure> {
    let plan = MediaPlan {
        sites: SiteSelection { names: arguments.sites.clone(), selector: arguments.selector.clone() },
        releases: arguments.releases.clone(),
    };
    let content: MediaContent = client.post(route::MEDIA_EXPORT, &plan)?;
    let blob_bytes: u64 = content.blobs.iter().map(|blob| blob.size).sum();
    if !arguments.dry_run {
        let progress = terminal.progress("writing", blob_bytes);
        let archive = arguments.to.extension().is_some_and(|ending| ending == "tar");
        if archive {
            save_archive(&arguments.to, client, &content, &progress)?;
        } else {
            save_directory(&arguments.to, client, &content, &progress)?;
        }
    }
    report(arguments, &content, blob_bytes)
}

fn report(arguments: &Save, content: &MediaContent, blob_bytes: u64) -> Result<(), Failure> {
    if arguments.output.format == Format::Json {
        return Ok(print_json("MediaContent", content)?);
    }
    let count = |kind: MediaKind| {
        let directory = format!("{}/", kind.directory());
        content.documents.iter().filter(|document| document.name.starts_with(&directory)).count()
    };
    let verb = if arguments.dry_run { "would hold" } else { "holds" };
    line(format!(
        "{} {verb} {} roots, {} releases, {} assignments, {} grants, {} blobs of {}",
        arguments.to.display(),
        count(MediaKind::Roots),
        count(MediaKind::Releases),
        count(MediaKind::Assignments),
        count(MediaKind::Grants),
        content.blobs.len(),
        human_bytes(blob_bytes)
    ))?;
    if arguments.output.format == Format::Wide || arguments.dry_run {
        content.sites.iter().try_for_each(|site| line(format!("  for site {site}")))?;
    }
    if !arguments.dry_run {
        line("next: `airlift-agent media load` at each site")?;
    }
    Ok(())
}

fn save_directory(
    path: &Path,
    client: &Client,
    content: &MediaContent,
    progress: &Progress,
) -> Result<(), Failure> {
    fs::create_dir_all(path)?;
    let mut writer = MediaDirectoryWriter::open(path)?;
    write(&mut writer, client, content, progress)?;
    if let Some(index) = combined_index(path, content)? {
        writer.put_oci_index(&index)?;
    }
    Ok(())
}

fn save_archive(
    path: &Path,
    client: &Client,
    content: &MediaContent,
    progress: &Progress,
) -> Result<(), Failure> {
    crate::cli::envelope_file::refuse_existing(path)?;
    let partial = path.with_extension("tar.new");
    let mut writer = MediaArchiveWriter::new(BufWriter::with_capacity(1 << 20, File::create(&partial)?));
    write(&mut writer, client, content, progress)?;
    let file = writer.finish()?.into_inner().map_err(|error| Failure::from(error.into_error()))?;
    file.sync_all()?;
    fs::rename(&partial, path)?;
    Ok(())
}

/// Writes documents, then blobs, in the order of the list of names.
fn write(
    sink: &mut dyn MediaSink,
    client: &Client,
    content: &MediaContent,
    progress: &Progress,
) -> Result<(), Failure> {
    let mut documents: Vec<(MediaName, &str)> = Vec::new();
    for document in &content.documents {
        let entry: MediaEntry = document.name.parse().map_err(|error| {
            Failure::new(Kind::Runtime, error).during("the hub named a file that media cannot hold")
        })?;
        documents.push((entry.name, &document.text));
    }
    documents.sort();
    for (name, text) in documents {
        sink.put_document(&name, text.as_bytes())?;
    }
    for blob in &content.blobs {
        let before = progress.position();
        let mut source = client.blob(&blob.sha256, progress);
        let put = sink.put_blob(&blob.sha256, blob.size, &mut source);
        if let Some(failure) = source.failure() {
            return Err(failure.during(format!("blob {} did not come whole", blob.sha256)));
        }
        put?;
        progress.move_to(before + blob.size);
    }
    Ok(())
}

/// One index over the bundles on the stick, by which OCI tools find their images.
fn combined_index(path: &Path, content: &MediaContent) -> Result<Option<Vec<u8>>, Failure> {
    let media = MediaDirectory::open(path, &Limits::DEFAULT)?;
    let mut combined: Option<Index> = None;
    for document in content.documents.iter().filter(|document| document.name.starts_with("releases/")) {
        let statement: Statement =
            Envelope::parse(document.text.as_bytes(), &Limits::DEFAULT)?.read_unverified(&Limits::DEFAULT)?;
        let Some(blob) = media.open_blob(&statement.bundle())? else { continue };
        let limit = Limits::DEFAULT.manifest_bytes as u64;
        let index: Result<Index, _> = serde_json::from_reader(std::io::Read::take(blob.reader, limit));
        let Ok(index) = index else { continue }; // sites refuse such a bundle; tools need not see it
        match &mut combined {
            None => combined = Some(index),
            Some(all) => {
                let new: Vec<_> =
                    index.manifests.into_iter().filter(|entry| !all.manifests.contains(entry)).collect();
                all.manifests.extend(new);
            }
        }
    }
    Ok(combined.map(|index| serde_json::to_vec(&index).expect("an index serialises without failure")))
}
