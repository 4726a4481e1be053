//! What is to be done about one object: what the plan wants, what was applied and what is there, compared.

use airlift_bundles::code::Code;

use super::api::Found;
use super::event::Failure;
use super::object::ObjectRef;
use super::write::ObjectRow;

/// What is to be done about one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Need {
    /// It is as it should be.
    Nothing,
    /// It is sent.
    Send,
    /// It is deleted, and sent when it is gone: an update cannot bring it there.
    Replace,
    /// It was run for a generation that is left: it is deleted, and not run again for the one that comes back.
    Remove,
    /// It was run before, and is not run again; that is noted.
    Leave,
    /// It is going; it is looked at again later.
    Await,
    /// It is somebody else's.
    Foreign(Option<String>),
}

impl Need {
    /// Whether the object is another afterwards.
    pub(super) fn changes(&self) -> bool {
        matches!(self, Self::Send | Self::Replace | Self::Remove)
    }
}

/// Compares what the plan wants, what was applied and what was found. `runs` is false where the generation has run its
/// Jobs before, so that those that are gone stay gone.
pub(super) fn need(row: &ObjectRow, found: Option<&Found>, runs: bool) -> Need {
    let Some(wanted) = row.wanted else { return Need::Nothing };
    let same = row.applied.as_ref().is_some_and(|applied| applied.sha256 == wanted.sha256);
    let Some(found) = found else {
        return match (row.traits.once, same, runs) {
            (true, true, _) => Need::Nothing,
            (true, false, false) => Need::Leave,
            _ => Need::Send,
        };
    };
    let known = row.applied.as_ref().filter(|applied| applied.uid == found.uid);
    if let Some(owner) = &found.other_owner {
        return Need::Foreign(Some(owner.clone()));
    }
    if known.is_none() && found.fields_hash.is_none() && !row.traits.adopt {
        return Need::Foreign(None);
    }
    if found.terminating {
        return Need::Await;
    }
    match known {
        Some(applied) if same && found.fields_hash == Some(applied.fields_hash) => Need::Nothing,
        Some(_) if !same && row.traits.once && !runs => Need::Remove,
        Some(_) if !same && row.traits.recreate => Need::Replace,
        // Ours by its entry alone: which content it has is not known, and what ran is not touched for that.
        None if row.traits.once && same => Need::Nothing,
        None if row.traits.once && !runs => Need::Leave,
        _ => Need::Send,
    }
}

/// Why an object of that name is not touched.
pub(super) fn foreign(object: &ObjectRef, owner: Option<String>) -> Failure {
    match owner {
        None => Failure::app(
            Code::ObjectNotOurs,
            format!("{object} exists and was not made by this app; nothing of it was changed"),
        ),
        Some(owner) => Failure::app(Code::OtherOwner, format!("{object} belongs to {owner}")),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use airlift_bundles::ids::{AppName, Blake3Digest, Sha256Digest};

    use super::*;
    use crate::core::object::{Gvk, ObjectTraits, Uid};
    use crate::core::write::{AppliedRow, WantedRow};

    fn digest(content: &str) -> Sha256Digest {
        Sha256Digest::of(content.as_bytes())
    }

    /// An object that was applied as `applied` and is wanted as `new`.
    fn row(applied: Option<&str>, traits: ObjectTraits) -> ObjectRow {
        let applied = applied.map(|content| AppliedRow {
            uid: Uid("one".into()),
            sha256: digest(content),
            fields_hash: Blake3Digest::of(b"fields"),
            generation: digest("generation"),
        });
        ObjectRow {
            app: AppName::new("shop").unwrap(),
            object: ObjectRef {
                gvk: Arc::new(Gvk::new("batch/v1", "Job")),
                namespace: Some("shop".into()),
                name: "migrate".into(),
            },
            applied,
            wanted: Some(WantedRow { index: 0, sha256: digest("new") }),
            wave: 0,
            traits,
        }
    }

    fn found(row: &ObjectRow, uid: &str) -> Found {
        Found {
            object: row.object.clone(),
            uid: Uid(uid.into()),
            fields_hash: Some(Blake3Digest::of(b"fields")),
            other_owner: None,
            terminating: false,
        }
    }

    #[test]
    fn a_run_is_begun_once_per_content_and_never_again_for_what_ran_before() {
        let once = ObjectTraits { once: true, recreate: true, ..ObjectTraits::default() };
        assert_eq!(need(&row(None, once), None, true), Need::Send);
        assert_eq!(need(&row(Some("new"), once), None, true), Need::Nothing);
        assert_eq!(need(&row(Some("old"), once), None, true), Need::Send);
        assert_eq!(need(&row(Some("old"), once), None, false), Need::Leave);
        assert_eq!(need(&row(None, once), None, false), Need::Leave);
        let changed = row(Some("old"), once);
        assert_eq!(need(&changed, Some(&found(&changed, "one")), true), Need::Replace);
        assert_eq!(need(&changed, Some(&found(&changed, "one")), false), Need::Remove);
        assert_eq!(need(&changed, Some(&found(&changed, "other")), false), Need::Leave);
        let ran = row(Some("new"), once);
        assert_eq!(need(&ran, Some(&found(&ran, "other")), true), Need::Nothing);
    }

    #[test]
    fn only_another_content_is_worth_a_new_object() {
        let recreate = ObjectTraits { recreate: true, ..ObjectTraits::default() };
        let same = row(Some("new"), recreate);
        let mut drifted = found(&same, "one");
        assert_eq!(need(&same, Some(&drifted), true), Need::Nothing);
        drifted.fields_hash = Some(Blake3Digest::of(b"fewer"));
        assert_eq!(need(&same, Some(&drifted), true), Need::Send);
        let old = row(Some("old"), recreate);
        assert_eq!(need(&old, Some(&drifted), true), Need::Replace);
        assert_eq!(need(&old, Some(&found(&old, "other")), true), Need::Send);
        assert_eq!(need(&row(Some("old"), ObjectTraits::default()), Some(&drifted), true), Need::Send);
    }

    #[test]
    fn what_is_going_is_awaited_and_what_others_made_is_left_alone() {
        let plain = row(Some("new"), ObjectTraits::default());
        let going = Found { terminating: true, ..found(&plain, "one") };
        assert_eq!(need(&plain, Some(&going), true), Need::Await);
        let theirs = Found { fields_hash: None, ..found(&plain, "other") };
        assert_eq!(need(&plain, Some(&theirs), true), Need::Foreign(None));
        let adopted = row(Some("new"), ObjectTraits { adopt: true, ..ObjectTraits::default() });
        assert_eq!(need(&adopted, Some(&theirs), true), Need::Send);
        let tracked = Found { other_owner: Some("Helm".into()), ..found(&plain, "one") };
        assert_eq!(need(&plain, Some(&tracked), true), Need::Foreign(Some("Helm".into())));
    }
}
