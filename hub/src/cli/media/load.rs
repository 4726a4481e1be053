//! Taking a stick back: its receipts and enrolment requests go to the hub.

use std::path::PathBuf;

use airlift_bundles::media::{MediaKind, open_media};
use clap::Args;

use crate::api::types::{MediaFile, MediaFileResult, MediaImport, MediaImported, route};
use crate::cli::client::Client;
use crate::cli::failure::{Failure, Kind};
use crate::cli::output::{OutputArgs, Table};
use crate::cli::terminal::Terminal;

/// The hub takes 8 MiB a request; JSON's quotes need room beside the text: bytes.
const BATCH_BYTES: usize = 6 << 20;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  airlift media load /media/stick
  airlift media load back.tar

Loading twice does no harm. Requests then wait in `airlift site pending`.")]
pub(crate) struct Load {
    /// The stick's directory, or a tar
    from: PathBuf,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) fn load(arguments: &Load, client: &Client, terminal: Terminal) -> Result<(), Failure> {
    let media = open_media(&arguments.from)?;
    let mut results: Vec<MediaFileResult> = Vec::new();
    let mut batch = Batch::default();
    let mut unreadable = 0;
    // assignments that come back show a hub that was restored what it had signed
    for kind in [MediaKind::Requests, MediaKind::Assignments, MediaKind::Receipts] {
        for name in media.list(kind)? {
            let text = media.read_document(&name).map_err(Failure::from).and_then(|bytes| {
                String::from_utf8(bytes.unwrap_or_default())
                    .map_err(|cause| Failure::new(Kind::Refused, cause))
            });
            match text {
                Ok(text) => {
                    if batch.bytes + text.len() > BATCH_BYTES {
                        results.extend(batch.send(client)?);
                    }
                    batch.add(MediaFile { name: name.to_string(), text });
                }
                Err(failure) => {
                    unreadable += 1;
                    terminal.fail(&failure.during(format!("{name} is left out")));
                }
            }
        }
    }
    results.extend(batch.send(client)?);
    report(arguments, &results, unreadable)
}

/// Files that go to the hub in one request.
#[derive(Default)]
struct Batch {
    files: Vec<MediaFile>,
    bytes: usize,
}

impl Batch {
    fn add(&mut self, file: MediaFile) {
        self.bytes += file.text.len();
        self.files.push(file);
    }

    fn send(&mut self, client: &Client) -> Result<Vec<MediaFileResult>, Failure> {
        if self.files.is_empty() {
            return Ok(Vec::new());
        }
        let import = MediaImport { files: std::mem::take(&mut self.files) };
        self.bytes = 0;
        let imported: MediaImported = client.post(route::MEDIA_IMPORT, &import)?;
        Ok(imported.files)
    }
}

fn report(arguments: &Load, results: &[MediaFileResult], unreadable: usize) -> Result<(), Failure> {
    let mut table = Table::new("MediaFileResultList", &["FILE", "NEW", "KNOWN", "REFUSED"], &["DETAIL"]);
    for result in results {
        let cells = vec![
            result.name.clone(),
            result.new.to_string(),
            result.known.to_string(),
            result.refused.map_or_else(|| "-".into(), |code| format!("{code} {}", code.title())),
            result.detail.clone(),
        ];
        table.row(result, &result.name, cells);
    }
    table.print(arguments.output.format)?;
    let refused = results.iter().filter(|result| result.refused.is_some()).count() + unreadable;
    if refused == 0 {
        return Ok(());
    }
    let failure = Failure::new(Kind::Refused, format!("{refused} files were refused; the others were taken"));
    Err(failure.next("`-o wide` says why. The stick can be loaded again without harm."))
}
