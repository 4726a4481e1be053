//! Looking at a stick without a hub: what is on it, and whether a site would take it.

use std::path::PathBuf;

use airlift_bundles::accept::open_release;
use airlift_bundles::code::Code;
use airlift_bundles::document::assignment::Assignment;
use airlift_bundles::document::enrolment::Grant;
use airlift_bundles::document::root::TrustedRoot;
use airlift_bundles::ids::Sha256Digest;
use airlift_bundles::limits::Limits;
use airlift_bundles::media::{MediaError, MediaKind, MediaName, MediaSource, open_media};
use clap::Args;
use serde_json::json;

use crate::cli::bundle::files::BundleFiles;
use crate::cli::failure::{Failure, Kind};
use crate::cli::output::{OutputArgs, Table, human_bytes};
use crate::cli::terminal::Terminal;

#[derive(Debug, Args)]
pub(crate) struct Ls {
    /// The stick's directory, or a tar
    media: PathBuf,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "Exit code 7 where anything would be refused, 1 where content is missing.")]
pub(crate) struct Verify {
    /// The stick's directory, or a tar
    media: PathBuf,
    /// Digest of root 1, as sites were installed with
    #[arg(long, value_name = "DIGEST")]
    root_sha256: Option<Sha256Digest>,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) fn ls(arguments: &Ls) -> Result<(), Failure> {
    let media = open_media(&arguments.media)?;
    let mut table = Table::new("MediaEntryList", &["NAME", "SIZE"], &["BYTES"]);
    let mut row = |name: &MediaName, size: u64| {
        let shape = json!({ "name": name.to_string(), "size": size });
        table.row(&shape, name, vec![name.to_string(), human_bytes(size), size.to_string()]);
    };
    each_document(&*media, |name, bytes| {
        row(&name, bytes?.len() as u64);
        Ok(())
    })?;
    for name in media.list(MediaKind::Blobs)? {
        if let MediaName::Blob(digest) = &name
            && let Some(blob) = media.open_blob(digest)?
        {
            row(&name, blob.size);
        }
    }
    Ok(table.print(arguments.output.format)?)
}

/// Shows every document that is there; an unreadable one is shown as an error, so that the others are still seen.
fn each_document(
    media: &dyn MediaSource,
    mut visit: impl FnMut(MediaName, Result<Vec<u8>, MediaError>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    for kind in MediaKind::DOCUMENTS {
        for name in media.list(kind)? {
            // a document may be taken away between listing and reading
            if let Some(bytes) = media.read_document(&name).transpose() {
                visit(name, bytes)?;
            }
        }
    }
    Ok(())
}

/// What became of one file.
struct Verdict {
    name: String,
    /// The code and words of a refusal; none where it is good.
    refused: Option<(Code, String)>,
    note: String,
}

impl Verdict {
    fn good(name: &MediaName, note: impl Into<String>) -> Self {
        Self { name: name.to_string(), refused: None, note: note.into() }
    }

    fn refused(name: &MediaName, code: Code, detail: impl ToString) -> Self {
        Self { name: name.to_string(), refused: Some((code, detail.to_string())), note: String::new() }
    }
}

pub(super) fn verify(arguments: &Verify, terminal: Terminal) -> Result<(), Failure> {
    let media = open_media(&arguments.media)?;
    let mut verdicts = Vec::new();
    let root = walk_roots(&*media, arguments.root_sha256.as_ref(), &mut verdicts)?;
    check_documents(&*media, &root, &mut verdicts)?;
    let files = BundleFiles::of_media(media);
    check_blobs(&files, terminal, &mut verdicts)?;
    let missing = count_missing(&files, &root)?;
    report(arguments, &verdicts, missing)
}

/// Walks the stick's roots from the first, and gives the newest good one.
fn walk_roots(
    media: &dyn MediaSource,
    pinned: Option<&Sha256Digest>,
    verdicts: &mut Vec<Verdict>,
) -> Result<TrustedRoot, Failure> {
    let limits = Limits::DEFAULT;
    let mut newest: Option<TrustedRoot> = None;
    for name in media.list(MediaKind::Roots)? {
        let bytes = media.read_document(&name)?.unwrap_or_default();
        let next = match (&newest, pinned) {
            (Some(root), _) => root.advance(&bytes, &limits),
            (None, Some(pinned)) => TrustedRoot::pin(&bytes, pinned, &limits),
            (None, None) => TrustedRoot::stored(&bytes, &limits),
        };
        match next {
            Ok(root) => {
                verdicts.push(Verdict::good(&name, root.digest().to_string()));
                newest = Some(root);
            }
            Err(error) => verdicts.push(Verdict::refused(&name, error.code(), &error)),
        }
    }
    newest.ok_or_else(|| {
        let failure = Failure::new(Kind::Refused, "no good root is on the media").code(Code::RootChainBroken);
        failure.next("Write it again with `airlift media save`; compare the digest of root 1.")
    })
}

fn check_documents(
    media: &dyn MediaSource,
    root: &TrustedRoot,
    verdicts: &mut Vec<Verdict>,
) -> Result<(), Failure> {
    let limits = Limits::DEFAULT;
    each_document(media, |name, bytes| {
        let verdict = match (&name, bytes) {
            (MediaName::Root(_), _) => return Ok(()),
            (_, Err(error)) => Verdict::refused(&name, error.code(), error),
            (MediaName::Release(sha256), Ok(bytes)) => match open_release(&bytes, root, &limits) {
                Ok(release) if release.digest() != *sha256 => {
                    Verdict::refused(&name, Code::BlobDigest, "its name is another release's")
                }
                Ok(release) => {
                    let release = &release.document().predicate;
                    Verdict::good(
                        &name,
                        format!("{}@{} number {}", release.app, release.version, release.seq),
                    )
                }
                Err(refusal) => Verdict::refused(&name, refusal.code, refusal.detail),
            },
            (MediaName::Assignment(_), Ok(bytes)) => {
                match root.open_directed::<Assignment>(&bytes, &limits) {
                    Ok(assignment) => {
                        let assignment = assignment.document();
                        Verdict::good(
                            &name,
                            format!("number {}, {} apps", assignment.counter(), assignment.desired.len()),
                        )
                    }
                    Err(error) => Verdict::refused(&name, error.code(), error),
                }
            }
            (MediaName::Grant(_), Ok(bytes)) => match root.open_directed::<Grant>(&bytes, &limits) {
                Ok(grant) => Verdict::good(&name, format!("for site {}", grant.document().site)),
                Err(error) => Verdict::refused(&name, error.code(), error),
            },
            (_, Ok(_)) => Verdict::good(&name, "not checked here: the hub knows the site's key"),
        };
        verdicts.push(verdict);
        Ok(())
    })
}

fn check_blobs(files: &BundleFiles, terminal: Terminal, verdicts: &mut Vec<Verdict>) -> Result<(), Failure> {
    let Some(media) = files.media() else { return Ok(()) };
    let names = media.list(MediaKind::Blobs)?;
    let progress = terminal.progress("verifying", 0);
    for name in &names {
        let MediaName::Blob(digest) = name else { continue };
        let Some(size) = files.open_blob(digest)?.map(|blob| blob.size) else { continue };
        if let Err(failure) = files.check_blob(digest, size, &progress) {
            verdicts.push(Verdict::refused(name, Code::BlobDigest, failure.summary()));
        }
    }
    Ok(())
}

/// Blobs that good releases on the stick name and the stick does not hold.
fn count_missing(files: &BundleFiles, root: &TrustedRoot) -> Result<usize, Failure> {
    let Some(media) = files.media() else { return Ok(0) };
    let mut missing = 0;
    for name in media.list(MediaKind::Releases)? {
        let bytes = media.read_document(&name)?.unwrap_or_default();
        let Ok(release) = open_release(&bytes, root, &Limits::DEFAULT) else { continue };
        match files.read_bundle(&release.document().bundle()) {
            Ok(bundle) => {
                for digest in bundle.items().keys() {
                    missing += usize::from(files.open_blob(digest)?.is_none());
                }
            }
            Err(_) => missing += 1,
        }
    }
    Ok(missing)
}

fn report(arguments: &Verify, verdicts: &[Verdict], missing: usize) -> Result<(), Failure> {
    let mut table = Table::new("MediaVerdictList", &["NAME", "VERDICT", "DETAIL"], &[]);
    for verdict in verdicts {
        let (word, detail) = match &verdict.refused {
            None => ("good".to_owned(), verdict.note.clone()),
            Some((code, detail)) => (format!("refused {code}"), detail.clone()),
        };
        let code = verdict.refused.as_ref().map(|(code, _)| *code);
        let shape = json!({ "name": verdict.name, "refused": code, "detail": detail });
        table.row(&shape, &verdict.name, vec![verdict.name.clone(), word, detail]);
    }
    table.print(arguments.output.format)?;
    let refused = verdicts.iter().filter(|verdict| verdict.refused.is_some()).count();
    if refused > 0 {
        let failure = Failure::new(Kind::Refused, format!("{refused} files on the media would be refused"));
        return Err(failure.next("Write it again with `airlift media save`. Sites use only what is good."));
    }
    if missing > 0 {
        let failure = Failure::new(Kind::No, format!("{missing} blobs are not on the media"));
        let next = "A site that does not hold them already waits for them; top the stick up with `airlift media save`.";
        return Err(failure.code(Code::ContentMissing).next(next));
    }
    Ok(())
}
