//! Content as it lies on a site's disk: what was torn, emptied or lost there is judged by the agent's own words, and
//! the checker sees to it that nothing is used that is not what was signed.

use std::convert::Infallible;

use airlift_agent::core::Event;
use airlift_agent::core::event::{Failure, FailureClass, OpId};
use airlift_agent::receive::content::judge::{Finished, judge_blob, judge_finished};
use airlift_bundles::code::Code;
use airlift_bundles::ids::Sha256Digest;

use super::World;
use super::happening::SiteNo;
use super::site::SiteContent;
use crate::invariants::Invariant;

impl SiteContent {
    /// Whether a bundle is here, whatever its file has become since.
    pub(super) fn holds(&self, bundle: &Sha256Digest) -> bool {
        self.held.contains_key(bundle)
    }

    /// Whether its file is what it should be, which only the simulator knows before it is read.
    pub(super) fn is_good(&self, bundle: &Sha256Digest) -> bool {
        self.held.get(bundle) == Some(bundle)
    }
}

/// What zeros in the place of some of its bytes make of a file's digest.
fn torn(bundle: &Sha256Digest) -> Sha256Digest {
    Sha256Digest::of(bundle.as_bytes())
}

impl World {
    /// Reads a bundle as an edge does: what is found damaged is not used, and counts as gone.
    pub(super) fn read_content(&mut self, site: SiteNo, bundle: &Sha256Digest) -> Result<(), Failure> {
        let Some(found) = self.sites[site].content.held.get(bundle).copied() else { return Err(not_here()) };
        if let Err(damaged) = judge_blob(bundle, &found) {
            self.sites[site].content.held.remove(bundle);
            return Err(damaged.into());
        }
        if found != *bundle {
            let text = format!("content {bundle} is used, and its bytes are those of {found}");
            self.violated(Invariant::Content, Some(site), text);
        }
        Ok(())
    }

    /// Every piece of a bundle is there: it is kept, or comes again where the disk has not kept the pieces.
    pub(super) fn finish_transfer(&mut self, site: SiteNo, bundle: Sha256Digest) {
        let content = &mut self.sites[site].content;
        content.partial.remove(&bundle);
        let doubtful = content.doubtful.remove(&bundle);
        let found = if doubtful { torn(&bundle) } else { bundle };
        let Ok(finished) = judge_finished(&bundle, Some(&found), || Ok::<_, Infallible>(!doubtful));
        match finished {
            Finished::Whole => drop(content.held.insert(bundle, found)),
            Finished::Again => {}
            Finished::Contradiction => {
                let reason = "content fits its piece list and not its digest".to_owned();
                let failure = Failure {
                    class: FailureClass::App,
                    code: Code::BlobDigest,
                    reason,
                    evidence: Vec::new(),
                };
                self.fail_fetches(site, &failure);
            }
        }
    }

    /// Tells all fetches of a site that they have failed.
    pub(super) fn fail_fetches(&mut self, site: SiteNo, failure: &Failure) {
        let wanted: Vec<OpId> = std::mem::take(&mut self.sites[site].content.wanted).into_keys().collect();
        let life = self.sites[site].life;
        for op in wanted {
            self.tell(site, life, Event::ContentFailed { op, failure: failure.clone() });
        }
    }

    /// Of what was synced some is zeros now, some is gone, some is as it was.
    pub(super) fn damage_content(&mut self, site: SiteNo) {
        self.stop_transfer(site);
        let content = &self.sites[site].content;
        let (partial, held): (Vec<_>, Vec<_>) =
            (content.partial.keys().copied().collect(), content.held.keys().copied().collect());
        for bundle in partial {
            match self.random.below(3) {
                0 => drop(self.sites[site].content.doubtful.insert(bundle)),
                1 => drop(self.sites[site].content.partial.remove(&bundle)),
                _ => {}
            }
        }
        for bundle in held {
            match self.random.below(3) {
                0 => drop(self.sites[site].content.held.insert(bundle, torn(&bundle))),
                1 => drop(self.sites[site].content.held.remove(&bundle)),
                _ => {}
            }
        }
    }
}

/// Content that was there is not: the disk's fault.
pub(super) fn not_here() -> Failure {
    let reason = "content of the bundle is not here".to_owned();
    let (class, code) = (FailureClass::Environment, Code::ContentMissing);
    Failure { class, code, reason, evidence: Vec::new() }
}
