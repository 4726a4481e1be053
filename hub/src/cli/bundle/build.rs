//! From a folder to a bundle and the draft of its release.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use airlift_bundles::envelope::Envelope;
use airlift_bundles::ids::{AppName, Counter, FleetId, Sha256Digest, Timestamp};
use airlift_bundles::limits::Limits;
use airlift_bundles::media::release_file;
use airlift_bundles::pack::{PackError, Packed, ReleaseFacts, pack_with, write_archive};
use clap::Args;

use super::compare::check_way_back;
use super::files::BundleFiles;
use super::sources::SourceArgs;
use crate::cli::envelope_file;
use crate::cli::failure::{Failure, Kind};
use crate::cli::output::{human_bytes, line};
use crate::cli::terminal::Terminal;
use crate::clock::Clock;

#[derive(Debug, Args)]
pub(crate) struct Init {
    /// The folder to make
    folder: PathBuf,
    /// The app's name; the folder's by default
    #[arg(long)]
    name: Option<AppName>,
}

#[derive(Debug, Args)]
pub(crate) struct Lint {
    /// The folder with airlift.yaml
    folder: PathBuf,
    #[command(flatten)]
    sources: SourceArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  airlift bundle build shop --fleet lab --seq 7 -o shop-7.tar
  airlift bundle build shop --fleet lab --seq 8 --floor 7 -o shop-8
  airlift bundle build shop --fleet lab --seq 8 --from shop-7.tar -o shop-8.tar

With --from the objects of both bundles are compared: what a site could not roll back by itself is refused.
Images come from files beside airlift.yaml, from a registry (`from: docker://HOST/NAME:TAG@sha256:…`, with the
login of `docker login`) or from this machine's containerd (`from: containerd:NAME:TAG`).
The same folder gives the same bundle, byte for byte. A release's number only rises within its epoch.")]
pub(crate) struct Build {
    /// The folder with airlift.yaml
    folder: PathBuf,
    /// Where the bundle goes: a new directory, or a file that ends in .tar
    #[arg(long, short = 'o', value_name = "DIR|FILE.tar")]
    out: PathBuf,
    /// The fleet that it is released for
    #[arg(long)]
    fleet: FleetId,
    /// The release's number
    #[arg(long)]
    seq: u64,
    /// The root's epoch for the app
    #[arg(long, default_value_t = 0)]
    epoch: u64,
    /// Once this release is healthy, nothing below this number returns
    #[arg(long, default_value_t = 0)]
    floor: u64,
    /// The release that it follows, by digest
    #[arg(long, value_name = "DIGEST")]
    prev: Option<Sha256Digest>,
    /// The bundle before it: refuse a change that a site could not roll back
    #[arg(long, value_name = "BUNDLE")]
    from: Option<PathBuf>,
    /// The time that the release says it was drafted (RFC 3339, UTC); now by default
    #[arg(long, value_name = "TIME")]
    issued_at: Option<Timestamp>,
    #[command(flatten)]
    sources: SourceArgs,
}

impl From<PackError> for Failure {
    fn from(error: PackError) -> Self {
        let code = error.code();
        let kind = match &error {
            PackError::Invalid(_) => Kind::Usage,
            PackError::Io { .. } => Kind::Runtime,
        };
        Self::new(kind, error).code(code)
    }
}

pub(crate) fn init(arguments: &Init) -> Result<(), Failure> {
    let folder = &arguments.folder;
    let name = match &arguments.name {
        Some(name) => name.clone(),
        None => AppName::new(&folder.file_name().unwrap_or_default().to_string_lossy())?,
    };
    if folder.join("airlift.yaml").exists() {
        let message = format!("{} has an airlift.yaml already", folder.display());
        return Err(Failure::new(Kind::Conflict, message).next("Nothing was changed."));
    }
    fs::create_dir_all(folder.join("manifests"))?;
    let write = |file: &str, text: &str| {
        envelope_file::write_whole(&folder.join(file), text.replace("NAME", name.as_str()).as_bytes())
    };
    write("airlift.yaml", SAMPLE_APP)?;
    write("manifests/NAME.yaml".replace("NAME", name.as_str()).as_str(), SAMPLE_MANIFEST)?;
    line(format!("{}: edit airlift.yaml and manifests/, then `airlift bundle lint`", folder.display()))?;
    Ok(())
}

pub(crate) fn lint(arguments: &Lint, terminal: Terminal) -> Result<(), Failure> {
    // packing is the check; the layout is thrown away
    let scratch = std::env::temp_dir().join(format!("airlift-lint-{}", std::process::id()));
    let packed = pack_folder(&arguments.folder, &scratch, &arguments.sources, terminal)?;
    fs::remove_dir_all(&scratch)?;
    warn(&packed, terminal);
    line(summary(&packed))?;
    Ok(())
}

pub(crate) fn build(arguments: &Build, terminal: Terminal) -> Result<(), Failure> {
    if arguments.seq == 0 || arguments.floor > arguments.seq {
        return Err(Failure::usage("--seq begins at 1, and --floor is at most --seq"));
    }
    let (out, release) = (&arguments.out, release_file(&arguments.out));
    for path in [out, &release] {
        envelope_file::refuse_existing(path)?;
    }
    let archive = out.extension().is_some_and(|ending| ending == "tar");
    let pack = |layout: &Path| pack_checked(arguments, layout, terminal);
    let packed = if archive { pack_archive(out, pack)? } else { pack(out)? };
    let draft = Envelope::draft(&packed.draft(&ReleaseFacts {
        fleet_id: arguments.fleet.clone(),
        counter: Counter { epoch: arguments.epoch, seq: arguments.seq },
        floor: arguments.floor,
        prev: arguments.prev,
        issued_at: arguments.issued_at.unwrap_or_else(|| Clock::start().now().time()),
    }));
    envelope_file::write(&release, &draft)?;
    warn(&packed, terminal);
    line(summary(&packed))?;
    line(format!("bundle   {}  {}", packed.index, out.display()))?;
    line(format!("release  {}  {} (not signed yet)", draft.digest(), release.display()))?;
    Ok(())
}

/// Packs, fetching the images that are not in the folder.
fn pack_folder(
    folder: &Path,
    layout: &Path,
    sources: &SourceArgs,
    terminal: Terminal,
) -> Result<Packed, Failure> {
    let sources = sources.open(terminal)?;
    pack_with(folder, layout, &sources, &Limits::DEFAULT).map_err(|error| match sources.take_failure() {
        // It knows more than the line in the file: whose fault it is, and what to do.
        Some(failure) => Failure::from(failure),
        None => error.into(),
    })
}

/// Packs into `layout`, and takes it away again where there would be no way back to the bundle before.
fn pack_checked(arguments: &Build, layout: &Path, terminal: Terminal) -> Result<Packed, Failure> {
    let packed = pack_folder(&arguments.folder, layout, &arguments.sources, terminal)?;
    let Some(from) = &arguments.from else { return Ok(packed) };
    let files = BundleFiles::of_layout(layout);
    let checked = files.read_bundle(&packed.index).and_then(|bundle| check_way_back(from, &files, &bundle));
    if let Err(failure) = checked {
        fs::remove_dir_all(layout)?;
        return Err(failure);
    }
    Ok(packed)
}

/// Packs beside `out` and writes it as one tar.
fn pack_archive(out: &Path, pack: impl Fn(&Path) -> Result<Packed, Failure>) -> Result<Packed, Failure> {
    let beside = |ending: &str| {
        let mut name = out.file_name().unwrap_or_default().to_owned();
        name.push(ending);
        out.with_file_name(name)
    };
    let (layout, partial) = (beside(".layout"), beside(".new"));
    // a leftover of a build that was interrupted
    if layout.exists() {
        fs::remove_dir_all(&layout)?;
    }
    let packed = pack(&layout)?;
    let written = File::create(&partial).and_then(|mut file| {
        write_archive(&layout, &mut file)?;
        file.sync_all()?;
        fs::rename(&partial, out)
    });
    fs::remove_dir_all(&layout)?;
    written.map_err(|cause| Failure::from(cause).during(format!("cannot write {}", out.display())))?;
    Ok(packed)
}

fn warn(packed: &Packed, terminal: Terminal) {
    for warning in &packed.warnings {
        terminal.note(format!("warning: {warning}"));
    }
}

fn summary(packed: &Packed) -> String {
    let (app, sizes) = (&packed.app, &packed.sizes);
    let platforms: Vec<String> = app.platforms.iter().map(ToString::to_string).collect();
    let platforms = if platforms.is_empty() { "no images".to_owned() } else { platforms.join(", ") };
    format!(
        "{}@{}: {} objects, {platforms}, {} in {} blobs",
        app.app,
        app.version,
        app.objects,
        human_bytes(sizes.packed),
        sizes.files
    )
}

const SAMPLE_APP: &str = "apiVersion: airlift.dev/v1alpha1
kind: App
name: NAME
version: 0.1.0
# Every image that a pod names comes with the bundle:
# images:
#   - name: registry.example/NAME:0.1.0
#     from: oci-archive:images/NAME.tar
# or from a registry, with its digest: from: docker://registry.example/NAME:0.1.0@sha256:…
timeout: 10m
soak: 2m
";

const SAMPLE_MANIFEST: &str = "apiVersion: v1
kind: Namespace
metadata:
  name: NAME
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: NAME
  namespace: NAME
data:
  greeting: hello
";
