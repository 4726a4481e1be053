//! Topics and filters: what each side may write and read, and how one finds the other.
//!
//! A site writes three topics and reads three subtrees, and only the hub writes what sites read. So a
//! filter is allowed only when its head, down to the subtree, is literal; and the filters that match a
//! topic can be listed without looking at any subscriber.

use super::reason::Reason;
use airlift_bundles::ids::Name;
use airlift_bundles::wire::Topic;
use std::sync::Arc;

/// Longest filter: a prefix and a site id of 63 bytes each, a digest of 71, and what stands between.
const FILTER_BYTES_MAX: usize = 256;
/// Most levels under a subtree's head; the deepest in use is two (`b/<item>/<n>`).
const TAIL_LEVELS_MAX: usize = 4;

/// Refuses a topic that sites write, and not the hub.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is a topic that sites write")]
pub struct NotHubTopic(pub String);

/// The topics under one prefix.
#[derive(Clone, Debug)]
pub(super) struct Topics {
    prefix: Name,
}

impl Topics {
    pub(super) fn new(prefix: Name) -> Self {
        Self { prefix }
    }

    /// Reads a topic that a site writes to; `None` is one that it may not write.
    pub(super) fn upward(&self, site: &str, topic: &str) -> Option<Topic> {
        let topic = Topic::parse(topic, &self.prefix).ok()?;
        match &topic {
            Topic::Status(owner) | Topic::Get(owner) | Topic::Conn(owner) => {
                (owner.as_str() == site).then_some(topic)
            }
            _ => None,
        }
    }

    /// Writes the name of a topic that the hub writes to.
    pub(super) fn hub_topic(&self, topic: &Topic) -> Result<Arc<str>, NotHubTopic> {
        let name = topic.name(&self.prefix);
        match topic {
            Topic::Status(_) | Topic::Get(_) | Topic::Conn(_) => Err(NotHubTopic(name)),
            _ => Ok(name.into()),
        }
    }

    /// Checks that a filter is well formed and reads only what `site` may read.
    pub(super) fn check_filter(&self, site: &str, filter: &str) -> Result<(), Reason> {
        if filter == "$share" || filter.starts_with("$share/") {
            return Err(Reason::SHARED_NOT_SUPPORTED);
        }
        if filter.is_empty() || filter.len() > FILTER_BYTES_MAX || !is_filter(filter) {
            return Err(Reason::FILTER_INVALID);
        }
        let tail = self.path(filter).and_then(split_readable).filter(|(owner, _)| match owner {
            Some(owner) => *owner == site,
            None => true,
        });
        match tail {
            None => Err(Reason::NOT_AUTHORIZED),
            Some((_, tail)) if tail.split('/').count() > TAIL_LEVELS_MAX + 1 => Err(Reason::FILTER_INVALID),
            Some(_) => Ok(()),
        }
    }

    /// Returns where the retained messages for one site alone begin.
    pub(super) fn site_head(&self, site: &str) -> String {
        format!("{}/v1/s/{site}/d/", self.prefix)
    }

    /// Lists every allowed filter that matches `topic`, which [`Topics::hub_topic`] made.
    ///
    /// A tail of n levels has 3·2ⁿ − 1 of them: 11 for a piece, whatever the number of subscribers.
    pub(super) fn filters_of(&self, topic: &str) -> Vec<String> {
        let Some((_, tail)) = self.path(topic).and_then(split_readable) else { return Vec::new() };
        let head = &topic[..topic.len() - tail.len()];
        let mut filters = Vec::new();
        let mut begun = vec![head.to_owned()];
        let levels: Vec<&str> = tail.split('/').collect();
        for (index, level) in levels.iter().enumerate() {
            filters.extend(begun.iter().map(|begin| format!("{begin}#")));
            let end = if index + 1 == levels.len() { "" } else { "/" };
            begun = begun
                .iter()
                .flat_map(|begin| [format!("{begin}{level}{end}"), format!("{begin}+{end}")])
                .collect();
        }
        // `a/#` matches `a` itself as well.
        filters.extend(begun.iter().map(|begin| format!("{begin}/#")));
        filters.extend(begun);
        filters
    }

    fn path<'a>(&self, topic: &'a str) -> Option<&'a str> {
        topic.strip_prefix(self.prefix.as_str())?.strip_prefix("/v1/")
    }
}

/// Splits a path into the site that it is for, if it is for one, and what follows the subtree's head.
fn split_readable(path: &str) -> Option<(Option<&str>, &str)> {
    if let Some(tail) = path.strip_prefix("b/").or_else(|| path.strip_prefix("h/")) {
        return Some((None, tail));
    }
    let (site, rest) = path.strip_prefix("s/")?.split_once('/')?;
    Some((Some(site), rest.strip_prefix("d/")?))
}

/// Tells whether each wildcard stands alone in its level, and `#` in the last one.
fn is_filter(filter: &str) -> bool {
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        let wild = level.contains(['+', '#']);
        if wild && level.len() > 1 || level == "#" && levels.peek().is_some() {
            return false;
        }
    }
    true
}

/// Tells whether a filter matches a topic, level by level.
pub(super) fn matches(filter: &str, topic: &str) -> bool {
    let mut levels = topic.split('/');
    for wanted in filter.split('/') {
        if wanted == "#" {
            return true;
        }
        match levels.next() {
            Some(level) if wanted == "+" || wanted == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

/// Returns the part of a filter before its first wildcard: where matching topics can begin.
pub(super) fn literal_head(filter: &str) -> &str {
    let end = filter.find(['+', '#']).unwrap_or(filter.len());
    // `a/#` also matches `a`.
    filter[..end].strip_suffix('/').unwrap_or(&filter[..end])
}
