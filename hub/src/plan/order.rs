//! Orders: what assigning or retiring an app changes at one site, and what forbids it.

use std::collections::BTreeMap;

use airlift_bundles::code::Code;
use airlift_bundles::document::assignment::DesiredApp;
use airlift_bundles::document::release::{Release, Requirement, Scalar};
use airlift_bundles::document::root::{RevokeAction, Root};
use airlift_bundles::ids::{AppName, Name, Sha256Digest};
use airlift_bundles::parameters::check_values;

/// An order to run a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssignOrder {
    /// Digest of the release's payload.
    pub sha256: Sha256Digest,
    /// What the release says.
    pub release: Release,
    /// Chosen values.
    pub parameters: BTreeMap<Name, Scalar>,
    /// Chosen overlays, in their order.
    pub overlays: Vec<Name>,
    /// Try a failed generation again.
    pub retry: bool,
}

/// Why an order is refused; sites would refuse it too, and nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct OrderRefused {
    /// The stable code.
    pub code: Code,
    /// In words.
    pub detail: String,
}

impl OrderRefused {
    fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into() }
    }
}

impl AssignOrder {
    /// Checks what is the same for every site: epoch, floor, revocation, parameters, overlays.
    ///
    /// # Errors
    /// [`OrderRefused`].
    pub fn check(&self, root: &Root) -> Result<(), OrderRefused> {
        let (app, release) = (&self.release.app, &self.release);
        let floor = root.floor(app);
        if release.epoch != floor.epoch {
            let detail =
                format!("release is of epoch {}, the root's for {app} is {}", release.epoch, floor.epoch);
            return Err(OrderRefused::new(Code::ReleaseEpochOther, detail));
        }
        if release.counter() < floor {
            let detail = format!("release {} of {app} is below the root's floor {floor}", release.counter());
            return Err(OrderRefused::new(Code::ReleaseBelowFloor, detail));
        }
        match root.revocation(&self.sha256) {
            Some(RevokeAction::Block) => {
                return Err(OrderRefused::new(Code::ReleaseRevoked, self.sha256.to_string()));
            }
            Some(RevokeAction::Stop) => {
                return Err(OrderRefused::new(Code::ReleaseStopped, self.sha256.to_string()));
            }
            None => {}
        }
        check_values(&release.parameters, &self.parameters)
            .map_err(|refusal| OrderRefused::new(refusal.code, format!("parameter {}", refusal.detail)))?;
        for (at, overlay) in self.overlays.iter().enumerate() {
            if !release.overlays.contains(overlay) || self.overlays[..at].contains(overlay) {
                let detail = format!("overlay {overlay} is not in the release, or is named twice");
                return Err(OrderRefused::new(Code::OverlayUnknown, detail));
            }
        }
        Ok(())
    }

    /// What the order makes of a site's entry for the app; `None` where it changes nothing.
    #[must_use]
    pub fn apply(&self, current: Option<&DesiredApp>) -> Option<DesiredApp> {
        let mut wanted = DesiredApp {
            app: self.release.app.clone(),
            release: self.sha256,
            epoch: self.release.epoch,
            seq: self.release.seq,
            parameters: self.parameters.clone(),
            overlays: self.overlays.clone(),
            secrets: current.map(|current| current.secrets.clone()).unwrap_or_default(),
            retry: current.map_or(0, |current| current.retry),
        };
        if self.retry {
            wanted.retry += 1;
        }
        (current != Some(&wanted)).then_some(wanted)
    }
}

/// Checks that every app which a site should run finds the others that it requires.
///
/// # Errors
/// [`OrderRefused`] with [`Code::RequiresMissing`], for the first that does not.
pub fn check_requires(
    desired: &BTreeMap<AppName, DesiredApp>,
    requires: &BTreeMap<AppName, Vec<Requirement>>,
) -> Result<(), OrderRefused> {
    for (app, requirements) in requires.iter().filter(|(app, _)| desired.contains_key(*app)) {
        for requirement in requirements {
            let found = desired.get(&requirement.app).map(|entry| entry.seq);
            if found.is_none_or(|seq| seq < requirement.min_seq) {
                let found = found.map_or("it is not assigned".to_owned(), |seq| format!("assigned is {seq}"));
                let (needs, least) = (&requirement.app, requirement.min_seq);
                let detail = format!("{app} requires {needs} at {least} or later: {found}");
                return Err(OrderRefused::new(Code::RequiresMissing, detail));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
