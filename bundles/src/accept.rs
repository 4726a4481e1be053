//! Accepting at the site: one function from bytes and what is stored to what may be stored next.
//!
//! The order is fixed: roots were walked before; then the assignment as a document; then that every release it
//! names is here and verified; then entry by entry. A fault of the document refuses the whole, a fault of an entry
//! refuses that app alone. Counters refuse; no clock is read.

use std::collections::BTreeMap;

use crate::causes::in_one_line;
use crate::code::Code;
use crate::document::assignment::{Assignment, DesiredApp};
use crate::document::release::{Platform, Statement};
use crate::document::root::{RevokeAction, TrustedRoot};
use crate::envelope::{EnvelopeError, Verified, open_parsed};
use crate::ids::{AppName, Counter, FleetId, Sha256Digest, SiteId};
use crate::limits::Limits;
use crate::parameters;

/// Who the site is, by its grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its fleet.
    pub fleet_id: FleetId,
    /// Its name.
    pub site: SiteId,
    /// Its enrolment.
    pub incarnation: u64,
    /// Assignments at or below this are not for this enrolment.
    pub minimum: Counter,
}

/// What the site holds when an assignment arrives.
pub struct Held<'a> {
    /// Who it is.
    pub identity: &'a Identity,
    /// The newest root.
    pub root: &'a TrustedRoot,
    /// The assignment in force: its counter and payload digest.
    pub current: Option<(Counter, Sha256Digest)>,
    /// Envelope of a release, by the digest of its payload.
    pub release: &'a dyn Fn(&Sha256Digest) -> Option<Vec<u8>>,
    /// Releases that were accepted before, by app and counter.
    pub accepted: &'a BTreeMap<(AppName, Counter), Sha256Digest>,
    /// Per app the release that runs, whose acceptance outlives its keys.
    pub running: &'a BTreeMap<AppName, Sha256Digest>,
    /// Per app the floor that healthy releases have set.
    pub floors: &'a BTreeMap<AppName, Counter>,
    /// What the site's nodes run; empty while the cluster was never seen.
    pub platforms: &'a [Platform],
}

/// Why an assignment is refused as a whole. Nothing changes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AssignmentError {
    /// Not an assignment, or not signed by the director.
    #[error("assignment is not valid")]
    Envelope(#[from] EnvelopeError),
    /// Another fleet's.
    #[error("assignment is of fleet {0}")]
    OtherFleet(FleetId),
    /// Another site's.
    #[error("assignment is for site {0}")]
    OtherSite(SiteId),
    /// For an earlier or later enrolment.
    #[error("assignment is for incarnation {found}, this is {here}")]
    OtherIncarnation {
        /// This site's.
        here: u64,
        /// Found.
        found: u64,
    },
    /// Not of the root's director epoch.
    #[error("assignment is of epoch {found}, the root's is {root}")]
    OtherEpoch {
        /// The root's.
        root: u64,
        /// Found.
        found: u64,
    },
    /// Not newer than the one in force.
    #[error("assignment {found} is older than {current}")]
    Older {
        /// In force.
        current: Counter,
        /// Found.
        found: Counter,
    },
    /// As new as the one in force, and another.
    #[error("assignment {counter} is not the one accepted under that number")]
    EqualButDifferent {
        /// Its counter.
        counter: Counter,
    },
}

impl AssignmentError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Envelope(error) => error.code(),
            Self::OtherFleet(_) => Code::OtherFleet,
            Self::OtherSite(_) => Code::OtherSite,
            Self::OtherIncarnation { .. } => Code::OtherIncarnation,
            Self::OtherEpoch { .. } => Code::AssignmentEpochOther,
            Self::Older { .. } => Code::AssignmentOlder,
            Self::EqualButDifferent { .. } => Code::AssignmentEqualButDifferent,
        }
    }
}

/// Why one app of an assignment is refused. The app stays as it is; the others go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {detail}")]
pub struct EntryRefusal {
    /// The stable code.
    pub code: Code,
    /// The facts, in words.
    pub detail: String,
}

impl EntryRefusal {
    fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into() }
    }
}

/// An assignment of which every document is here and verified.
#[derive(Debug, Clone)]
pub struct AcceptedAssignment {
    assignment: Verified<Assignment>,
    entries: Vec<AcceptedEntry>,
}

impl AcceptedAssignment {
    /// The assignment.
    #[must_use]
    pub fn assignment(&self) -> &Verified<Assignment> {
        &self.assignment
    }

    /// Its apps with their verdicts, in the assignment's order.
    #[must_use]
    pub fn entries(&self) -> &[AcceptedEntry] {
        &self.entries
    }
}

/// One app of an accepted assignment.
#[derive(Debug, Clone)]
pub struct AcceptedEntry {
    /// What the director wants.
    pub desired: DesiredApp,
    /// Its release, or why it is refused.
    pub verdict: Result<AcceptedRelease, EntryRefusal>,
}

/// A release that may be installed, or may go on running, at this site.
#[derive(Debug, Clone)]
pub struct AcceptedRelease {
    statement: Verified<Statement>,
    flag: Option<RevokeAction>,
}

impl AcceptedRelease {
    /// The release's statement.
    #[must_use]
    pub fn statement(&self) -> &Verified<Statement> {
        &self.statement
    }

    /// How the root took it back after it was installed; it runs on, flagged or stopped.
    #[must_use]
    pub fn flag(&self) -> Option<RevokeAction> {
        self.flag
    }
}

/// What an assignment comes to.
#[derive(Debug, Clone)]
pub enum Acceptance {
    /// The bytes in force, again: nothing to do.
    Same,
    /// Documents are missing: kept aside, no counter moves.
    Parked {
        /// Verified, but not in force.
        assignment: Box<Verified<Assignment>>,
        /// Payload digests of the releases that are missing.
        missing: Vec<Sha256Digest>,
    },
    /// To be stored with its counters and targets in one transaction.
    Accepted(Box<AcceptedAssignment>),
}

/// Judges an assignment in the order that the trust model fixes.
///
/// # Errors
/// [`AssignmentError`], where the document as a whole is refused.
pub fn accept_assignment(
    bytes: &[u8],
    held: &Held<'_>,
    limits: &Limits,
) -> Result<Acceptance, AssignmentError> {
    let assignment: Verified<Assignment> = held.root.open_directed(bytes, limits)?;
    check_addressee(assignment.document(), held)?;
    let counter = assignment.document().counter();
    if let Some((current, digest)) = held.current {
        if counter == current {
            let same = assignment.digest() == digest;
            return if same {
                Ok(Acceptance::Same)
            } else {
                Err(AssignmentError::EqualButDifferent { counter })
            };
        }
        if counter < current {
            return Err(AssignmentError::Older { current, found: counter });
        }
    }
    if counter <= held.identity.minimum {
        return Err(AssignmentError::Older { current: held.identity.minimum, found: counter });
    }
    let named = assignment.document().desired.iter().map(|desired| desired.release);
    let (mut releases, mut missing) = (BTreeMap::new(), Vec::new());
    for digest in named {
        match (held.release)(&digest) {
            Some(envelope) => drop(releases.insert(digest, envelope)),
            None => missing.push(digest),
        }
    }
    if !missing.is_empty() {
        return Ok(Acceptance::Parked { assignment: Box::new(assignment), missing });
    }
    let judged = judge_entries(assignment.document(), &releases, held, limits);
    Ok(Acceptance::Accepted(Box::new(AcceptedAssignment { assignment, entries: judged })))
}

fn check_addressee(assignment: &Assignment, held: &Held<'_>) -> Result<(), AssignmentError> {
    let here = held.identity;
    if assignment.fleet_id != here.fleet_id {
        return Err(AssignmentError::OtherFleet(assignment.fleet_id.clone()));
    }
    if assignment.site != here.site {
        return Err(AssignmentError::OtherSite(assignment.site.clone()));
    }
    if assignment.incarnation != here.incarnation {
        return Err(AssignmentError::OtherIncarnation {
            here: here.incarnation,
            found: assignment.incarnation,
        });
    }
    let root = held.root.roles.director.epoch;
    if assignment.epoch != root {
        return Err(AssignmentError::OtherEpoch { root, found: assignment.epoch });
    }
    Ok(())
}

/// Judges each entry by itself, then each `requires` over the entries that are left.
fn judge_entries(
    assignment: &Assignment,
    releases: &BTreeMap<Sha256Digest, Vec<u8>>,
    held: &Held<'_>,
    limits: &Limits,
) -> Vec<AcceptedEntry> {
    let mut entries: Vec<AcceptedEntry> = assignment
        .desired
        .iter()
        .map(|desired| AcceptedEntry {
            desired: desired.clone(),
            verdict: judge_entry(desired, releases.get(&desired.release), held, limits),
        })
        .collect();
    loop {
        let standing: BTreeMap<AppName, u64> = entries
            .iter()
            .filter(|entry| entry.verdict.is_ok())
            .map(|entry| (entry.desired.app.clone(), entry.desired.seq))
            .collect();
        let Some((at, refusal)) = entries.iter().enumerate().find_map(|(at, entry)| {
            let release = entry.verdict.as_ref().ok()?.statement().document();
            let unmet = release.predicate.requires.iter().find(|requirement| {
                standing.get(&requirement.app).is_none_or(|seq| *seq < requirement.min_seq)
            })?;
            let detail = format!("needs app {} at seq {} or above", unmet.app, unmet.min_seq);
            Some((at, EntryRefusal::new(Code::RequiresMissing, detail)))
        }) else {
            return entries;
        };
        entries[at].verdict = Err(refusal);
    }
}

fn judge_entry(
    desired: &DesiredApp,
    release: Option<&Vec<u8>>,
    held: &Held<'_>,
    limits: &Limits,
) -> Result<AcceptedRelease, EntryRefusal> {
    let bytes =
        release.ok_or_else(|| EntryRefusal::new(Code::ContentMissing, "release document is not here"))?;
    let runs = held.running.get(&desired.app) == Some(&desired.release);
    let flag = held.root.revocation(&desired.release);
    let statement =
        if runs { reopen_release(bytes, limits)? } else { open_release(bytes, held.root, limits)? };
    let release = &statement.document().predicate;
    if statement.digest() != desired.release
        || release.app != desired.app
        || release.counter() != desired.counter()
    {
        let detail = format!(
            "assigned {} {}, the release says {} {}",
            desired.app,
            desired.counter(),
            release.app,
            release.counter()
        );
        return Err(EntryRefusal::new(Code::EntryDiffers, detail));
    }
    if let Some(other) = held.accepted.get(&(desired.app.clone(), desired.counter()))
        && *other != desired.release
    {
        let detail = format!("{} {} was accepted as {other}", desired.app, desired.counter());
        return Err(EntryRefusal::new(Code::ReleaseEqualButDifferent, detail));
    }
    if !runs {
        check_new_install(desired, release, flag, held)?;
    }
    if !release.platforms.is_empty()
        && !held.platforms.is_empty()
        && !held.platforms.iter().any(|node| release.platforms.iter().any(|platform| platform.fits(node)))
    {
        let here: Vec<String> = held.platforms.iter().map(ToString::to_string).collect();
        return Err(EntryRefusal::new(Code::PlatformMissing, format!("nodes run {}", here.join(", "))));
    }
    parameters::check_values(&release.parameters, &desired.parameters)?;
    if let Some(unknown) = desired.overlays.iter().find(|overlay| !release.overlays.contains(overlay)) {
        return Err(EntryRefusal::new(Code::OverlayUnknown, unknown.to_string()));
    }
    if let Some(slot) = desired.secrets.keys().next() {
        return Err(EntryRefusal::new(Code::SecretUnavailable, slot.to_string()));
    }
    Ok(AcceptedRelease { statement, flag })
}

/// What must hold for a release that does not run here yet: fleet, epoch, floors, revocation.
fn check_new_install(
    desired: &DesiredApp,
    release: &crate::document::release::Release,
    flag: Option<RevokeAction>,
    held: &Held<'_>,
) -> Result<(), EntryRefusal> {
    if release.fleet_id != held.identity.fleet_id {
        return Err(EntryRefusal::new(Code::OtherFleet, format!("release is of fleet {}", release.fleet_id)));
    }
    let rooted = held.root.floor(&desired.app);
    if release.epoch != rooted.epoch {
        let detail = format!(
            "release is of epoch {}, the root's for {} is {}",
            release.epoch, desired.app, rooted.epoch
        );
        return Err(EntryRefusal::new(Code::ReleaseEpochOther, detail));
    }
    let floor = held.floors.get(&desired.app).copied().unwrap_or_default().max(rooted);
    if release.counter() < floor {
        return Err(EntryRefusal::new(
            Code::ReleaseBelowFloor,
            format!("{} is below {floor}", release.counter()),
        ));
    }
    match flag {
        Some(RevokeAction::Block) => {
            Err(EntryRefusal::new(Code::ReleaseRevoked, desired.release.to_string()))
        }
        Some(RevokeAction::Stop) => Err(EntryRefusal::new(Code::ReleaseStopped, desired.release.to_string())),
        None => Ok(()),
    }
}

/// Opens a release under the one role of the root that matches the app which it names.
///
/// # Errors
/// [`EntryRefusal`] with the code of the envelope's fault, or [`Code::ReleaseRoleMissing`].
pub fn open_release(
    bytes: &[u8],
    root: &TrustedRoot,
    limits: &Limits,
) -> Result<Verified<Statement>, EntryRefusal> {
    let refuse = |error: EnvelopeError| EntryRefusal::new(error.code(), in_one_line(&error));
    // The role depends on the app inside the payload, so every role whose threshold is met may open it; which of
    // them is then checked against the app. Nothing unverified is parsed.
    let envelope = crate::envelope::Envelope::parse(bytes, limits).map_err(refuse)?;
    let mut last = EnvelopeError::Threshold { valid: 0, threshold: 1 };
    for role in &root.roles.releases {
        let keys = root.release_keys(role);
        match open_parsed::<Statement>(&envelope, bytes, keys, role.threshold, limits) {
            Ok(statement) => {
                let app = &statement.document().predicate.app;
                return match root.release_role(app) {
                    Some(matching) if matching.name == role.name => Ok(statement),
                    Some(matching) => {
                        let detail =
                            format!("app {app} is released by role {}, not {}", matching.name, role.name);
                        Err(EntryRefusal::new(Code::TooFewSignatures, detail))
                    }
                    None => Err(EntryRefusal::new(Code::ReleaseRoleMissing, format!("app {app}"))),
                };
            }
            Err(EnvelopeError::Threshold { valid, threshold }) => {
                if let EnvelopeError::Threshold { valid: most, .. } = last
                    && valid >= most
                {
                    last = EnvelopeError::Threshold { valid, threshold };
                }
            }
            Err(other) => return Err(refuse(other)),
        }
    }
    Err(refuse(last))
}

/// Opens a release that this site accepted before and stored: its signatures were verified then, and key rotation
/// since must not take it away. The caller finds the bytes by their payload's digest.
fn reopen_release(bytes: &[u8], limits: &Limits) -> Result<Verified<Statement>, EntryRefusal> {
    crate::envelope::reopen(bytes, limits)
        .map_err(|error| EntryRefusal::new(error.code(), in_one_line(&error)))
}

#[cfg(test)]
mod tests;
