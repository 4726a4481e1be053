//! Topics and filters: what each side may write and read, and how one finds the other.
//!
//! A site writes three topics and reads three subtrees, and only the hub writes what sites read. So a
//! filter is allowed only when its head, down to the subtree, is literal; and the filters that match a
//! topic can be listed without looking at any subscriber.

use super::reason::Reason;
use std::sync::Arc;

/// Longest topic or filter: a prefix of 64 bytes, a site id of 63, a digest of 71 and what stands between.
const TOPIC_BYTES_MAX: usize = 256;
/// Most levels under a subtree's head; the deepest in use is two (`b/<item>/<n>`).
const TAIL_LEVELS_MAX: usize = 4;

/// What a site says, by the topic that it says it on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    /// `u/s`: a signed outbox batch.
    Status,
    /// `u/get`: wanted items.
    Get,
    /// `u/conn`: the birth, and the will.
    Connection,
}

/// Refuses a topic prefix: it is empty, too long, too deep, or holds what only a filter may.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the topic prefix `{prefix}` is not one to three plain levels of at most 64 bytes in all")]
pub struct PrefixInvalid {
    /// What was configured.
    pub prefix: String,
}

/// Refuses a topic that is not the hub's to write.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{path}` is not a topic that the hub writes")]
pub struct NotHubTopic {
    /// The topic, without its prefix.
    pub path: String,
}

/// The topics under one prefix.
#[derive(Clone, Debug)]
pub(super) struct Topics {
    prefix: Arc<str>,
}

impl Topics {
    pub(super) fn new(prefix: &str) -> Result<Self, PrefixInvalid> {
        let plain = prefix.split('/').all(is_plain_level) && prefix.split('/').count() <= 3;
        if !plain || prefix.len() > 64 || prefix.starts_with('$') {
            return Err(PrefixInvalid { prefix: prefix.to_owned() });
        }
        Ok(Self { prefix: prefix.into() })
    }

    /// Returns which of its topics a site writes to; `None` is a topic that it may not write.
    pub(super) fn upward(&self, site: &str, topic: &str) -> Option<Topic> {
        match self.path(topic)?.strip_prefix("s/")?.strip_prefix(site)? {
            "/u/s" => Some(Topic::Status),
            "/u/get" => Some(Topic::Get),
            "/u/conn" => Some(Topic::Connection),
            _ => None,
        }
    }

    /// Checks that a filter is well formed and reads only what `site` may read.
    pub(super) fn check_filter(&self, site: &str, filter: &str) -> Result<(), Reason> {
        if filter == "$share" || filter.starts_with("$share/") {
            return Err(Reason::SHARED_NOT_SUPPORTED);
        }
        if filter.is_empty() || filter.len() > TOPIC_BYTES_MAX || !is_filter(filter) {
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

    /// Makes the full topic of one that the hub writes: `s/<site>/d/…`, `b/…` or `h/…`.
    pub(super) fn hub_topic(&self, path: &str) -> Result<Arc<str>, NotHubTopic> {
        let topic = format!("{}/{path}", self.prefix);
        let written = split_readable(path).is_some_and(|(owner, tail)| {
            owner.is_none_or(is_plain_level)
                && tail.split('/').all(is_plain_level)
                && tail.split('/').count() <= TAIL_LEVELS_MAX
        });
        if !written || topic.len() > TOPIC_BYTES_MAX {
            return Err(NotHubTopic { path: path.to_owned() });
        }
        Ok(topic.into())
    }

    /// Returns where the retained messages for one site alone begin.
    pub(super) fn site_head(&self, site: &str) -> String {
        format!("{}/s/{site}/d/", self.prefix)
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
        topic.strip_prefix(&*self.prefix)?.strip_prefix('/')
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

fn is_plain_level(level: &str) -> bool {
    !level.is_empty() && !level.contains(['+', '#', '/', '\0'])
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
