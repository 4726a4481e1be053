//! Loads one media: documents are judged, and the content of everything that the site is assigned is made complete.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use airlift_bundles::code::Code;
use airlift_bundles::document::assignment::DesiredApp;
use airlift_bundles::document::release::Statement;
use airlift_bundles::envelope::Envelope;
use airlift_bundles::ids::{AppName, SiteId, Version};
use airlift_bundles::limits::Limits;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::Source;
use super::feed::{Fed, feed};
use super::serve::Server;
use crate::control::desk::{AskError, Desk};
use crate::core::effect::FetchLimits;
use crate::core::event::{FailureClass, MediaId};
use crate::core::object::Generation;
use crate::core::status::StatusReport;
use crate::ports::content::ContentError;
use crate::ports::store::StoreError;
use crate::ports::{Content, Store};

/// Between two looks at the wants while fetches are under way.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Looks without anything to serve after which the rest is not on this media.
const IDLE_LOOKS: u32 = 40;
/// The same where no fetch of ours is under way, only what the core began by itself.
const IDLE_LOOKS_ALONE: u32 = 10;

/// An entry of the media that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Its name.
    pub name: String,
    /// The stable code.
    pub code: Code,
    /// What happened.
    pub reason: String,
}

/// Documents that the site refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The stable code.
    pub code: Code,
    /// How many.
    pub count: u64,
    /// The last one, in words.
    pub reason: String,
}

/// An app that the site is assigned, and whose content this media was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppLoaded {
    /// The app.
    pub app: AppName,
    /// Its version.
    pub version: Version,
    /// Bytes of its bundle that are stored and verified.
    pub have_bytes: u64,
    /// Bytes that it needs here.
    pub total_bytes: u64,
    /// Everything is here.
    pub complete: bool,
}

/// What came of loading a media.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Loaded {
    /// The site.
    pub site: Option<SiteId>,
    /// The site was enrolled by a grant of this media.
    pub enrolled: bool,
    /// Documents that were read and judged.
    pub documents: u64,
    /// The newest root in force.
    pub root_version: u64,
    /// The media holds an assignment for this site, of this number.
    pub assignment_found: Option<u64>,
    /// The assignment in force.
    pub assignment_seq: u64,
    /// An assignment waits for documents.
    pub assignment_parked: bool,
    /// The apps that the media's assignment names, where it is the one in force.
    pub apps: Vec<AppLoaded>,
    /// Bytes that were taken from this media.
    pub bytes: u64,
    /// Items that the site wants and this media does not have.
    pub missing: u64,
    /// What the site refused.
    pub refused: Vec<Refused>,
    /// Entries that cannot be used.
    pub faults: Vec<Fault>,
}

impl Loaded {
    /// Whether nothing of the media could be believed: something was refused, and its assignment is not in force.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        let in_force = self.assignment_found == Some(self.assignment_seq) || self.assignment_parked;
        !self.refused.is_empty() && !in_force && self.bytes == 0 && !self.enrolled
    }

    /// Whether the site has everything that it is assigned, as far as this media could tell.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.missing == 0 && !self.assignment_parked && self.apps.iter().all(|app| app.complete)
    }
}

/// How far a load is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Progress {
    /// Bytes stored and verified, of all apps.
    pub have_bytes: u64,
    /// Bytes in all, as far as known.
    pub total_bytes: u64,
}

/// A load could not go on; what was stored stays.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The core gave no answer.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// The content store failed.
    #[error("content cannot be stored")]
    Content(#[from] ContentError),
    /// The database failed.
    #[error("database failed")]
    Store(#[from] StoreError),
}

impl LoadError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Content(error) => error.code,
            Self::Ask(_) | Self::Store(_) => Code::StoreFailed,
        }
    }
}

/// Loads media into one running core.
#[derive(Clone)]
pub struct Loader {
    /// Where the core is asked.
    pub desk: Desk,
    /// The verified releases.
    pub store: Arc<dyn Store>,
    /// Where content goes.
    pub content: Arc<dyn Content>,
}

impl Loader {
    /// Feeds the documents, waits until they are judged, and serves content until everything is here or the media
    /// has no more of it.
    ///
    /// # Errors
    /// [`LoadError`]; a refused document or a bad entry is no error but part of the answer.
    pub async fn load(
        &self,
        media: &MediaId,
        source: &Source,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<Loaded, LoadError> {
        let before = self.desk.status().await?;
        let events = self.desk.events();
        let fed =
            feed(Arc::clone(source), media.clone(), before.site.clone(), before.root_version, events).await;
        let after = self.desk.status().await?;
        let mut loaded = Loaded {
            site: Some(after.site.clone()),
            documents: fed.documents,
            root_version: after.root_version,
            assignment_found: fed.assignment.as_ref().map(|assignment| assignment.assignment_seq),
            assignment_seq: after.assignment_seq,
            assignment_parked: after.assignment_parked,
            refused: refused_since(&before, &after),
            faults: fed.faults.clone(),
            ..Loaded::default()
        };
        let mut fetches = self.fetches(&fed, &after).await?;
        let mut server = Server::new(Arc::clone(source));
        let idle_looks = if fetches.running.is_empty() { IDLE_LOOKS_ALONE } else { IDLE_LOOKS };
        let mut idle = 0;
        while idle < idle_looks {
            let round = server.round(self.content.as_ref()).await?;
            loaded.bytes += round.bytes;
            loaded.missing = round.missing as u64;
            fetches.listen()?;
            progress(fetches.progress());
            if fetches.started && fetches.running.is_empty() {
                break;
            }
            if round.bytes == 0 {
                idle += 1;
                tokio::time::sleep(LOOK_EVERY).await;
            } else {
                idle = 0;
            }
        }
        loaded.faults.append(&mut fetches.faults);
        loaded.apps = fetches.apps.into_values().collect();
        loaded.faults.extend(server.take_faults());
        Ok(loaded)
    }

    /// Wants the content of everything that the assignment in force names, also of apps that still wait for others:
    /// the stick may be gone by the time that their turn comes.
    async fn fetches(&self, fed: &Fed, after: &StatusReport) -> Result<Fetches, LoadError> {
        let mut fetches = Fetches::new();
        let in_force = fed.assignment.as_ref().filter(|found| found.assignment_seq == after.assignment_seq);
        for desired in in_force.into_iter().flat_map(|assignment| &assignment.desired) {
            let Some(bytes) = self.store.document(desired.release).await? else { continue };
            // It was verified before it was stored.
            let statement = Envelope::parse(&bytes, &Limits::DEFAULT)
                .and_then(|envelope| envelope.read_unverified::<Statement>(&Limits::DEFAULT));
            if let Ok(statement) = statement {
                fetches.start(&self.content, desired, &statement);
            }
        }
        Ok(fetches)
    }
}

/// The fetches of one load.
struct Fetches {
    started: bool,
    running: JoinSet<(AppName, Result<(), ContentError>)>,
    apps: BTreeMap<AppName, AppLoaded>,
    told: BTreeMap<AppName, mpsc::Receiver<(u64, u64)>>,
    faults: Vec<Fault>,
}

impl Fetches {
    fn new() -> Self {
        let (apps, told) = (BTreeMap::new(), BTreeMap::new());
        Self { started: false, running: JoinSet::new(), apps, told, faults: Vec::new() }
    }

    fn start(&mut self, content: &Arc<dyn Content>, desired: &DesiredApp, statement: &Statement) {
        let release = &statement.predicate;
        let generation = Arc::new(Generation::of(desired, statement));
        let sizes = release.sizes;
        let limits =
            FetchLimits { packed_bytes: sizes.packed, unpacked_bytes: sizes.unpacked, files: sizes.files };
        let app = AppLoaded {
            app: desired.app.clone(),
            version: release.version.clone(),
            have_bytes: 0,
            total_bytes: sizes.packed,
            complete: false,
        };
        let (sender, receiver) = mpsc::channel(1);
        let (content, name) = (Arc::clone(content), app.app.clone());
        self.running.spawn(async move { (name, content.fetch(generation, limits, sender).await) });
        self.told.insert(app.app.clone(), receiver);
        self.apps.insert(app.app.clone(), app);
        self.started = true;
    }

    /// Takes in what the fetches have told and which have ended.
    fn listen(&mut self) -> Result<(), ContentError> {
        for (name, told) in &mut self.told {
            while let (Ok((have, total)), Some(app)) = (told.try_recv(), self.apps.get_mut(name)) {
                (app.have_bytes, app.total_bytes) = (have, total);
            }
        }
        while let Some(ended) = self.running.try_join_next() {
            let Ok((name, outcome)) = ended else { continue };
            match outcome {
                Ok(()) => {
                    if let Some(app) = self.apps.get_mut(&name) {
                        (app.have_bytes, app.complete) = (app.total_bytes, true);
                    }
                }
                Err(error) if error.class == FailureClass::App => {
                    self.faults.push(Fault {
                        name: format!("app {name}"),
                        code: error.code,
                        reason: error.reason,
                    });
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn progress(&self) -> Progress {
        let have_bytes = self.apps.values().map(|app| app.have_bytes).sum();
        Progress { have_bytes, total_bytes: self.apps.values().map(|app| app.total_bytes).sum() }
    }
}

/// What media brought and the site refused between two reports.
fn refused_since(before: &StatusReport, after: &StatusReport) -> Vec<Refused> {
    let counted = |report: &StatusReport| -> BTreeMap<Code, (u64, String)> {
        let rows = report.refusals.iter().filter(|row| row.carrier == "media");
        rows.map(|row| (row.code, (row.count, row.last.clone()))).collect()
    };
    let before = counted(before);
    let new = |(code, (count, reason)): (Code, (u64, String))| {
        let count = count - before.get(&code).map_or(0, |(count, _)| *count).min(count);
        (count > 0).then_some(Refused { code, count, reason })
    };
    counted(after).into_iter().filter_map(new).collect()
}
