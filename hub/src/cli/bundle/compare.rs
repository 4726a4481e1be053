//! Comparing a bundle with the one before it: can a site go back by itself?

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use airlift_bundles::code::Code;
use airlift_bundles::document::release::{RollbackRule, Statement};
use airlift_bundles::envelope::Envelope;
use airlift_bundles::layout::Bundle;
use airlift_bundles::limits::Limits;
use airlift_bundles::render::object::ObjectId;
use airlift_bundles::reversal::{Comparison, Reversibility, is_guarded};
use serde_json::Value;

use super::files::BundleFiles;
use crate::cli::failure::{Failure, Kind};
use crate::cli::output::{line, printable};

/// Compares the bundle whose blobs are in `files` with the one at `previous`, says the verdict, and refuses what could
/// not be rolled back, unless the app says that it never is.
pub(super) fn check_way_back(previous: &Path, files: &BundleFiles, bundle: &Bundle) -> Result<(), Failure> {
    let before = BundleFiles::open(previous)?;
    let mut releases = before.releases(previous, None)?;
    let (Some(release), true) = (releases.pop(), releases.is_empty()) else {
        let message = format!("{} holds several releases; name one bundle", previous.display());
        return Err(Failure::usage(message));
    };
    let statement: Statement =
        Envelope::parse(&release, &Limits::DEFAULT)?.read_unverified(&Limits::DEFAULT)?;
    let old = before.read_bundle(&statement.bundle())?;
    if old.app().app != bundle.app().app {
        let message = format!("{} is a bundle of app {}", previous.display(), old.app().app);
        return Err(Failure::usage(message));
    }
    let comparison = compare(&before, &old, files, bundle)?;
    say(&comparison, &old, bundle)
}

/// Pairs the objects of both as they stand in the bundles: overlays and parameters are the sites' choice, and
/// compared there.
fn compare(
    before: &BundleFiles,
    old: &Bundle,
    files: &BundleFiles,
    bundle: &Bundle,
) -> Result<Comparison, Failure> {
    let mut known: BTreeMap<(String, Option<String>, String), Value> = BTreeMap::new();
    let key = |id: &ObjectId| (id.group_kind(), id.namespace.clone(), id.name.clone());
    before.each_object(old, |id, object| {
        if is_guarded(&id) {
            known.insert(key(&id), object);
        }
    })?;
    let mut comparison = Comparison::new(old.app(), bundle.app());
    files.each_object(bundle, |id, object| {
        if let Some(before) = known.get(&key(&id)) {
            comparison.add(&id, before, &object, &BTreeSet::new());
        }
    })?;
    Ok(comparison)
}

fn say(comparison: &Comparison, old: &Bundle, bundle: &Bundle) -> Result<(), Failure> {
    let (app, verdict) = (bundle.app(), comparison.verdict());
    line(format!("{verdict} from {}@{}", old.app().app, old.app().version))?;
    for reason in comparison.reasons() {
        let how = if reason.recreated { " (deleted and created anew)" } else { "" };
        line(printable(&format!("  {reason}{how}")))?;
    }
    if comparison.further() > 0 {
        line(format!("  and {} more", comparison.further()))?;
    }
    if verdict == Reversibility::Irreversible && app.rollback == RollbackRule::Allowed {
        let message = "a site could not roll this version back by itself; nothing was written";
        let next = "Name the kind under `recreate` in airlift.yaml, keep the field as it was, or write \
                    `rollback: never`.";
        return Err(Failure::new(Kind::Refused, message).code(Code::Irreversible).next(next));
    }
    Ok(())
}
