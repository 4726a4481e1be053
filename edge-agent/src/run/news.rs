//! What the log tells of a site's life: the assignment that is in force, and each app's way through its states.
//!
//! A line is written after the commit that it speaks of, so its time is the time from which the fact stands.

use std::collections::BTreeMap;
use std::sync::Arc;

use airlift_bundles::document::status::AppState;
use airlift_bundles::ids::{AppName, Sha256Digest};
use tracing::info;

use crate::core::Write;
use crate::core::object::GenerationId;
use crate::core::write::{AppRow, Rows, Slot};

/// What one step changed that is worth a line.
#[derive(Debug, Default)]
pub(super) struct News {
    assignment: Option<Sha256Digest>,
    /// The last row of each: those before it in the same step never stood.
    apps: BTreeMap<AppName, Arc<AppRow>>,
}

impl News {
    /// Finds it among a step's writes.
    pub(super) fn of(writes: &[Write]) -> Self {
        let mut news = Self::default();
        for write in writes {
            match write {
                Write::PutAssignment(row) if row.slot == Slot::Current => news.assignment = Some(row.sha256),
                Write::PutApp(row) => drop(news.apps.insert(row.app.clone(), Arc::clone(row))),
                _ => {}
            }
        }
        news
    }
}

/// Writes the lines, and remembers what was said: a row is written anew for many reasons, its state changes seldom.
#[derive(Debug, Default)]
pub(super) struct Chronicle {
    said: BTreeMap<AppName, (AppState, Option<GenerationId>)>,
}

impl Chronicle {
    /// Tells news that is committed; `rows` are at least as new.
    pub(super) fn tell(&mut self, news: News, rows: &Rows) {
        if let Some(sha256) = news.assignment {
            info!(%sha256, "assignment accepted");
        }
        for row in news.apps.into_values() {
            let generation = row.working.or(row.current);
            let now = (row.shown(), generation);
            if self.said.get(&row.app) == Some(&now) {
                continue;
            }
            let version = generation
                .and_then(|id| rows.generations.get(&id))
                .map_or_else(|| "none".to_owned(), |row| row.generation.version.to_string());
            let (app, state) = (&row.app, row.shown().word());
            info!(%app, %state, %version, reason = row.reason, "app changes state");
            self.said.insert(row.app.clone(), now);
        }
    }
}
