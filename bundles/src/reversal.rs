//! Whether a change from one version of an app to the next can be taken back: both versions' objects are compared
//! in both directions with the table of fields that an API server does not let change.
//!
//! A field that cannot change keeps the app from going forward, or from coming back after a failure. Deleting the
//! object and creating it anew gets around it, for kinds whose loss the app allows (`recreate`).

mod rules;
mod table;

use std::collections::BTreeSet;
use std::fmt;

use serde_json::Value;

use crate::layout::app::{AppDescriptor, IgnoreRule};
use crate::render::object::ObjectId;

pub use rules::Rule;
pub use table::{TABLE, TableRow};

/// Reasons that a comparison remembers; more are counted.
const REASONS_MAX: usize = 20;

/// What a comparison of two versions came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reversibility {
    /// Every object can be updated there and back.
    Reversible,
    /// Some objects are deleted and created anew, as the app allows.
    ByRecreate,
    /// An object cannot be brought to its new content, or not back.
    Irreversible,
}

impl fmt::Display for Reversibility {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Reversible => "reversible",
            Self::ByRecreate => "reversible-by-recreate",
            Self::Irreversible => "irreversible",
        })
    }
}

/// One field that does not let its object be updated.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reason {
    /// The object.
    pub id: ObjectId,
    /// The field, as a JSON pointer.
    pub field: String,
    /// The new content cannot be reached from the old one.
    pub forward: bool,
    /// The old content cannot be reached from the new one.
    pub back: bool,
    /// The app lets objects of this kind be deleted and created anew.
    pub recreated: bool,
}

impl Reason {
    /// What cannot be done, without the object's name.
    #[must_use]
    pub fn what(&self) -> String {
        let field = &self.field;
        match (self.forward, self.back) {
            (true, true) => format!("{field} cannot change"),
            (true, false) => format!("{field} cannot change this way"),
            (false, _) => format!("{field} cannot change back"),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.id, self.what())
    }
}

/// Compares two versions of an app, one pair of objects at a time.
#[derive(Debug, Clone, Default)]
pub struct Comparison {
    recreate: BTreeSet<String>,
    ignore: Vec<IgnoreRule>,
    reasons: Vec<Reason>,
    count: usize,
    worst: Option<Reversibility>,
}

impl Comparison {
    /// Begins to compare `before` with `after`: kinds that either lets be created anew, fields that either leaves to
    /// others. Both are asked because a rollback is done by the word of the version that is left.
    #[must_use]
    pub fn new(before: &AppDescriptor, after: &AppDescriptor) -> Self {
        Self {
            recreate: before.recreate.iter().chain(&after.recreate).cloned().collect(),
            ignore: before.ignore.iter().chain(&after.ignore).cloned().collect(),
            ..Self::default()
        }
    }

    /// Compares one object that both versions hold; `stored` are the versions of the API in which a cluster holds
    /// objects of the kind that the object defines, as far as known. Answers whether going forward needs the object
    /// to be created anew.
    pub fn add(&mut self, id: &ObjectId, before: &Value, after: &Value, stored: &BTreeSet<String>) -> bool {
        if before == after || !is_guarded(id) {
            return false;
        }
        let (before, after) = (self.without_ignored(id, before), self.without_ignored(id, after));
        let there = blocked_fields(id, &before, &after, stored);
        let mut held = stored.clone();
        held.extend(rules::storage_version(&before).map(ToOwned::to_owned));
        let back = blocked_fields(id, &after, &before, &held);
        let recreated = self.recreate.contains(&id.group_kind());
        let fields: BTreeSet<&String> = there.iter().chain(&back).collect();
        for field in fields {
            let verdict = if recreated { Reversibility::ByRecreate } else { Reversibility::Irreversible };
            self.worst = self.worst.max(Some(verdict));
            self.count += 1;
            if self.reasons.len() < REASONS_MAX {
                let (forward, back) = (there.contains(field), back.contains(field));
                self.reasons.push(Reason { id: id.clone(), field: field.clone(), forward, back, recreated });
            }
        }
        recreated && !there.is_empty()
    }

    /// The verdict over all pairs so far.
    #[must_use]
    pub fn verdict(&self) -> Reversibility {
        self.worst.unwrap_or(Reversibility::Reversible)
    }

    /// The first of the reasons for it.
    #[must_use]
    pub fn reasons(&self) -> &[Reason] {
        &self.reasons
    }

    /// How many reasons there are beyond those.
    #[must_use]
    pub fn further(&self) -> usize {
        self.count - self.reasons.len()
    }

    fn without_ignored(&self, id: &ObjectId, object: &Value) -> Value {
        let mut object = object.clone();
        for rule in self.ignore.iter().filter(|rule| rule.object().is_same_object(id)) {
            rule.pointers.iter().for_each(|pointer| remove(&mut object, pointer));
        }
        object
    }
}

/// Whether the table has rows for an object's kind.
#[must_use]
pub fn is_guarded(id: &ObjectId) -> bool {
    let kind = id.group_kind();
    TABLE.iter().any(|row| row.kind == kind)
}

/// The fields by which an API server refuses to update an object from one content to another, as far as the table
/// knows; `stored` as for [`Comparison::add`].
#[must_use]
pub fn blocked_fields(
    id: &ObjectId,
    from: &Value,
    to: &Value,
    stored: &BTreeSet<String>,
) -> BTreeSet<String> {
    let kind = id.group_kind();
    let rows = TABLE.iter().filter(|row| row.kind == kind);
    rows.flat_map(|row| row.rule.blocked(row.field, from, to, stored)).collect()
}

/// Removes what a JSON pointer names, where it is there.
pub fn remove(object: &mut Value, pointer: &str) {
    let Some((parent, last)) = pointer.rsplit_once('/') else { return };
    let last = last.replace("~1", "/").replace("~0", "~");
    match object.pointer_mut(parent) {
        Some(Value::Object(fields)) => {
            fields.remove(&last);
        }
        Some(Value::Array(items)) => {
            if let Some(at) = last.parse().ok().filter(|at: &usize| *at < items.len()) {
                items.remove(at);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests;
