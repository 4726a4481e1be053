//! What a site may write and read, and that every allowed filter finds its topics.

use super::super::topic::{Topics, literal_head, matches};
use super::*;
use proptest::prelude::*;

fn topics() -> Topics {
    Topics::new(prefix())
}

#[test]
fn a_site_writes_its_own_three_topics_and_no_other() {
    let upward = |topic: &str| topics().upward("berlin", topic);
    assert_eq!(upward("airlift/v1/s/berlin/u/s"), Some(Topic::Status(site("berlin"))));
    assert_eq!(upward("airlift/v1/s/berlin/u/get"), Some(Topic::Get(site("berlin"))));
    assert_eq!(upward("airlift/v1/s/berlin/u/conn"), Some(Topic::Conn(site("berlin"))));
    for topic in [
        "airlift/v1/s/paris/u/s",
        "airlift/v1/s/berlin-2/u/s",
        "airlift/v1/s/berlin/u/other",
        "airlift/v1/s/berlin/u/s/",
        "airlift/v1/s/berlin/u",
        "airlift/v1/s/berlin/d/desired",
        "airlift/v1/s/+/u/s",
        "airlift/v1/b/x/1",
        "airlift/v1/h/state",
        "airlift/v2/s/berlin/u/s",
        "/airlift/v1/s/berlin/u/s",
        "$SYS/s/berlin/u/s",
        "",
    ] {
        assert_eq!(upward(topic), None, "{topic}");
    }
}

#[test]
fn a_site_reads_its_own_subtree_and_the_two_common_ones() {
    let check = |filter: &str| topics().check_filter("berlin", filter);
    for filter in [
        "airlift/v1/s/berlin/d/#",
        "airlift/v1/s/berlin/d/desired",
        "airlift/v1/s/berlin/d/+",
        "airlift/v1/b/#",
        "airlift/v1/b/sha256-00/#",
        "airlift/v1/b/+/3",
        "airlift/v1/h/#",
        "airlift/v1/h/state",
    ] {
        assert_eq!(check(filter), Ok(()), "{filter}");
    }
    for filter in [
        "#",
        "+/v1/h/state",
        "airlift/#",
        "airlift/v1/#",
        "airlift/v1/+/state",
        "airlift/v1/s/#",
        "airlift/v1/s/+/d/#",
        "airlift/v1/s/paris/d/#",
        "airlift/v1/s/berlin/#",
        "airlift/v1/s/berlin/u/#",
        "airlift/v1/s/berlin/d",
        "airlift/v1/h",
        "$SYS/#",
        "/airlift/v1/h/state",
    ] {
        assert_eq!(check(filter), Err(Reason::NOT_AUTHORIZED), "{filter}");
    }
    for filter in ["", "airlift/v1/h/st+", "airlift/v1/h/#/x", "airlift/v1/h/##", "airlift/v1/b/1/2/3/4/5/6"]
    {
        assert_eq!(check(filter), Err(Reason::FILTER_INVALID), "{filter}");
    }
    assert_eq!(check(&format!("airlift/v1/h/{}", "x".repeat(300))), Err(Reason::FILTER_INVALID));
    assert_eq!(check("$share/g/airlift/v1/h/#"), Err(Reason::SHARED_NOT_SUPPORTED));
}

#[test]
fn the_hub_writes_only_what_sites_read() {
    for path in ["s/berlin/d/desired", "s/berlin/d/c", "h/state"] {
        assert_eq!(&*topics().hub_topic(&topic(path)).unwrap(), format!("airlift/v1/{path}"));
    }
    for path in ["s/berlin/u/s", "s/berlin/u/get", "s/berlin/u/conn"] {
        assert!(topics().hub_topic(&topic(path)).is_err(), "{path}");
    }
}

fn level() -> impl Strategy<Value = String> {
    prop_oneof![Just("a".to_owned()), Just("b".to_owned()), Just("+".to_owned())]
}

proptest! {
    /// The list of filters is what makes a fan-out cheap, so it must agree with matching one by one.
    #[test]
    fn listed_filters_are_exactly_those_that_match(
        tail in proptest::collection::vec(prop_oneof![Just("a"), Just("b")], 1..4),
        wanted in proptest::collection::vec(level(), 0..5),
        hash: bool,
    ) {
        let topic = format!("airlift/v1/b/{}", tail.join("/"));
        let mut levels = wanted;
        if hash || levels.is_empty() {
            levels.push("#".to_owned());
        }
        let filter = format!("airlift/v1/b/{}", levels.join("/"));
        prop_assert_eq!(topics().check_filter("site", &filter), Ok(()));
        let listed = topics().filters_of(&topic);
        prop_assert_eq!(listed.contains(&filter), matches(&filter, &topic), "{} {}", filter, topic);
        if matches(&filter, &topic) {
            prop_assert!(topic.starts_with(literal_head(&filter)));
        }
        let mut once = listed.clone();
        once.sort();
        once.dedup();
        prop_assert_eq!(once.len(), listed.len(), "a filter is listed twice");
    }

    #[test]
    fn any_filter_is_granted_or_refused(filter in "[a/+#$\u{e9}]{0,12}") {
        let granted = topics().check_filter("site", &filter).is_ok();
        prop_assert!(!granted, "{} is outside every subtree", filter);
        prop_assert!(!matches(&filter, "airlift/v1/h/state") || filter.contains(['+', '#']));
    }
}
