//! `media load` and `media save`: through the running agent, or by this process where none runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use airlift_bundles::causes::in_one_line;
use airlift_bundles::code::Code;
use clap::{Args, Subcommand};
use tokio::time::Instant;

use super::enrol::{grant_from, request_onto};
use super::failure::{Ending, Failure};
use super::local::{absent, answered};
use super::output::{self, Format, human_bytes, json_of, printable};
use super::state::{State, pinned_root};
use crate::config::Config;
use crate::control::client::{self, ClientError};
use crate::control::message::{Action, Answer};
use crate::core::event::MediaId;
use crate::ports::Store;
use crate::receive::media::{Loaded, Progress, ReceiptWriter, Saved, open_source};

/// Between two progress lines where nobody watches.
const LINE_EVERY: Duration = Duration::from_secs(10);

#[derive(Debug, Subcommand)]
pub(super) enum MediaCommand {
    /// Verify and store what a stick or tar file holds for this site
    #[command(
        after_help = "Content that is stored stays when the stick is pulled; loading goes on where it stopped.
With no agent running, documents are judged and content is stored; objects are applied by the next `run`.
Exit code 7: everything was refused. Exit code 1: something is still missing.

Examples:
  airlift-agent media load /media/stick
  airlift-agent media load site-berta.tar -o json"
    )]
    Load(MediaArgs),
    /// Write receipts onto a stick or into a tar file; of a site that is not enrolled, its request
    #[command(after_help = "Examples:
  airlift-agent media save /media/stick
  airlift-agent media save receipts.tar")]
    Save(MediaArgs),
}

#[derive(Debug, Args)]
pub(super) struct MediaArgs {
    /// A stick's mount point, its airlift-media directory, or a tar file
    path: PathBuf,
    #[command(flatten)]
    output: output::OutputArgs,
}

/// Carries out a media command.
pub(super) async fn run(config: &Config, command: MediaCommand) -> Result<(), Failure> {
    match command {
        MediaCommand::Load(args) => load(config, &absolute(&args.path)?, args.output.format).await,
        MediaCommand::Save(args) => save(config, &absolute(&args.path)?, args.output.format).await,
    }
}

/// The running agent has another working directory.
fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| Failure::new(Ending::Usage, error))
}

async fn load(config: &Config, path: &Path, format: Format) -> Result<(), Failure> {
    let mut teller = Teller::new();
    let asked = ask_agent(config, Action::MediaLoad(path.to_owned()), |now| teller.tell(now)).await?;
    let outcome = match asked {
        Some(answer) => answered(answer),
        None => load_here(config, path, &mut teller).await.map(|loaded| Answer::Loaded(Box::new(loaded))),
    };
    teller.end();
    let Answer::Loaded(loaded) = outcome? else { return Err(foreign()) };
    match format {
        Format::Json => output::show(&json_of("MediaLoaded", &loaded)),
        Format::Table => output::show(&describe(&loaded)),
    }
    verdict(&loaded)
}

async fn save(config: &Config, path: &Path, format: Format) -> Result<(), Failure> {
    let answer = match ask_agent(config, Action::MediaSave(path.to_owned()), |_| {}).await? {
        Some(answer) => answered(answer)?,
        None => Answer::Saved(save_here(config, path).await?),
    };
    let Answer::Saved(saved) = answer else { return Err(foreign()) };
    match format {
        Format::Json => output::show(&json_of("MediaSaved", &saved)),
        Format::Table => match &saved.request {
            Some(fingerprint) => output::show(&format!(
                "this site is not enrolled: its request was written\nfingerprint: {fingerprint}\n"
            )),
            None => output::show(&format!("{} receipts in {} files\n", saved.receipts, saved.files)),
        },
    }
    Ok(())
}

fn foreign() -> Failure {
    Failure::new(Ending::Runtime, "the running agent's answer is not of this version")
        .next("Restart the agent, so that it is of the version of this command.")
}

/// Asks the running agent; `None` where none runs and the state directory may be taken.
async fn ask_agent(
    config: &Config,
    action: Action,
    progress: impl FnMut(Progress),
) -> Result<Option<Answer>, Failure> {
    match client::connect(&config.control_socket).await {
        Ok(stream) => {
            client::ask(stream, action, progress).await.map(Some).map_err(|error| absent(config, error))
        }
        Err(ClientError::Absent { .. }) => Ok(None),
        Err(error) => Err(absent(config, error)),
    }
}

async fn load_here(config: &Config, path: &Path, teller: &mut Teller) -> Result<Loaded, Failure> {
    let mut state = State::open(config).await?;
    let mut enrolled_now = false;
    if state.enrolled(config)?.is_none() {
        let root_sha256 = pinned_root(config, None)?;
        if grant_from(config, &mut state, path, &root_sha256).await?.is_none() {
            let message = "this site is not enrolled, and the media has no grant for it";
            return Err(Failure::coded(Code::NotEnrolled, message)
                .next("Run `airlift-agent enrol --media PATH`, and take the stick to the hub."));
        }
        enrolled_now = true;
    }
    let source = open_source(path).map_err(|error| Failure::coded(error.code(), error))?;
    let media = MediaId(path.display().to_string());
    let outcome = state
        .with_core(config, |loader| async move {
            let mut tell = |now| teller.tell(now);
            loader.load(&media, &source, &mut tell).await
        })
        .await?;
    let loaded = outcome.map_err(|error| Failure::coded(error.code(), in_one_line(&error)))?;
    Ok(Loaded { enrolled: enrolled_now, ..loaded })
}

async fn save_here(config: &Config, path: &Path) -> Result<Saved, Failure> {
    let state = State::open(config).await?;
    let Some(enrolled) = state.enrolled(config)? else {
        let request = request_onto(config, &state, path, None, None, pinned_root(config, None)?)?;
        return Ok(Saved { request: Some(request), ..Saved::default() });
    };
    let store: Arc<dyn Store> = Arc::clone(&state.store) as Arc<dyn Store>;
    let key = Arc::clone(&state.identity.site_key);
    let writer = ReceiptWriter::new(key, enrolled.meta, store);
    writer.save_unacked(path).await.map_err(|error| Failure::coded(error.code(), error))
}

/// What a person reads after a load.
fn describe(loaded: &Loaded) -> String {
    let mut text = String::new();
    let mut line = |words: String| {
        text.push_str(&words);
        text.push('\n');
    };
    if let (true, Some(site)) = (loaded.enrolled, &loaded.site) {
        line(format!("enrolled as site {site}"));
    }
    match loaded.assignment_found {
        Some(found) if found == loaded.assignment_seq => line(format!("assignment {found} is in force")),
        Some(found) if loaded.assignment_parked => line(format!("assignment {found} waits for documents")),
        Some(found) => line(format!("assignment {found} is not in force; {} is", loaded.assignment_seq)),
        None => line("no assignment for this site on the media".to_owned()),
    }
    for app in &loaded.apps {
        let (have, total) = (human_bytes(app.have_bytes), human_bytes(app.total_bytes));
        let word = if app.complete { "complete" } else { "incomplete" };
        line(format!("app {} {}: {word}, {have} of {total}", app.app, app.version));
    }
    line(format!("{} documents read, {} of content taken", loaded.documents, human_bytes(loaded.bytes)));
    for refused in &loaded.refused {
        let (code, count) = (refused.code, refused.count);
        line(format!("refused[{code}]: {count} × {}: {}", code.title(), printable(&refused.reason)));
    }
    for fault in &loaded.faults {
        line(format!("unusable[{}]: {}: {}", fault.code, printable(&fault.name), printable(&fault.reason)));
    }
    text
}

fn verdict(loaded: &Loaded) -> Result<(), Failure> {
    if loaded.is_refused() {
        let first = loaded.refused.first().map_or(Code::DocumentInvalid, |refused| refused.code);
        let message = "nothing on the media was accepted; what runs here is unchanged";
        return Err(Failure::coded(first, message).ending(Ending::Refused));
    }
    if !loaded.is_complete() {
        let message = format!("{} wanted items are not on this media; what arrived is kept", loaded.missing);
        return Err(Failure::coded(Code::ContentMissing, message));
    }
    Ok(())
}

/// Tells how far a load is: in place on a terminal, else a line each ten seconds.
struct Teller {
    told_at: Instant,
    started_at: Instant,
}

impl Teller {
    fn new() -> Self {
        let now = Instant::now();
        Self { told_at: now, started_at: now }
    }

    fn tell(&mut self, progress: Progress) {
        let every = if output::is_watched() { Duration::from_millis(200) } else { LINE_EVERY };
        let now = Instant::now();
        if progress.total_bytes == 0 || now.duration_since(self.told_at) < every {
            return;
        }
        self.told_at = now;
        let (have, total) = (human_bytes(progress.have_bytes), human_bytes(progress.total_bytes));
        let percent = progress.have_bytes.saturating_mul(100) / progress.total_bytes;
        let seconds = now.duration_since(self.started_at).as_secs();
        output::show_progress(&format!("stored and verified {have} of {total} ({percent} %), {seconds} s"));
    }

    fn end(&self) {
        output::end_progress();
    }
}
