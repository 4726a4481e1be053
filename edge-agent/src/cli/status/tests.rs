use std::sync::Arc;

use airlift_bundles::code::Code;
use airlift_bundles::document::status::NodeStatus;
use airlift_bundles::ids::Sha256Digest;

use super::*;
use crate::config::host_platform;
use crate::control::message::RefusalView;
use crate::core::write::{AppRow, MetaRow, Write};
use crate::ports::Store as _;
use crate::receive::media::tests::site_meta;
use crate::store::SqliteStore;

fn view() -> StatusView {
    let node = NodeStatus {
        name: "n".into(),
        ready: true,
        schedulable: true,
        disk_pressure: false,
        platform: host_platform(),
        kubelet: String::new(),
    };
    StatusView {
        site: SiteId::new("berta").unwrap(),
        agent_version: "0.1.0".into(),
        has_hub: true,
        connected: false,
        hub_heard: Some(Timestamp::from_unix_s(1_800_000_000)),
        stale_after_s: Some(86_400),
        stale: true,
        media: vec!["/media/stick".into()],
        cluster_up: true,
        nodes: vec![node],
        root_version: 3,
        assignment_seq: 1_800_000_000_000,
        assignment_parked: true,
        receipts_waiting: 2,
        time: Timestamp::from_unix_s(1_800_100_000),
        apps: vec![],
        refusals: vec![RefusalView {
            code: Code::AssignmentOlder,
            carrier: "media".into(),
            count: 3,
            last: "7 is not above 9\u{1b}[2J".into(),
        }],
        missing: (0..5)
            .map(|number| MissingView {
                sha256: Sha256Digest::of(&[number]),
                bytes: Some(1 << 20),
                bytes_here: 1 << 16,
            })
            .collect(),
    }
}

fn joined(page: &str) -> String {
    page.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn the_page_fits_eighty_columns_and_tells_everything_around_the_apps() {
    let page = describe(&view(), false);
    assert!(page.lines().all(|line| line.chars().count() <= 80), "{page}");
    assert!(!page.contains('\u{1b}'), "{page}");
    let text = joined(&page);
    for part in [
        "site berta, as of 2027-01-16T11:46:40Z: no app is assigned yet",
        "not connected, its last word is 1 d 3 h old (2027-01-15T08:00:00Z)",
        "stale the hub is silent for more than 1 d",
        "answers; 1 of 1 nodes Ready",
        "a newer one waits for its documents, under root 3",
        "2 wait for the hub or a stick",
        "/media/stick is in",
        "64.0 KiB of 1.0 MiB here",
        "and 2 more items",
        "AL0404 assignment is older (3 so far, by media): 7 is not above 9",
    ] {
        assert!(text.contains(part), "{part}: {page}");
    }
}

#[test]
fn a_site_without_ready_nodes_or_hub_says_so() {
    let mut view = view();
    view.nodes[0].ready = false;
    (view.has_hub, view.stale, view.hub_heard) = (false, false, None);
    let text = joined(&describe(&view, false));
    assert!(text.contains("none of its 1 nodes is Ready"), "{text}");
    assert!(text.contains("sticks alone serve this site; it has not spoken yet"), "{text}");
    assert!(!text.contains("stale"), "{text}");
}

#[tokio::test]
async fn the_rows_of_a_stopped_agent_are_told_as_what_was() {
    let dir = tempfile::tempdir().unwrap();
    assert!(LastKnown::read(dir.path()).is_none(), "no database, nothing known");
    let store = Arc::new(SqliteStore::open(dir.path()).unwrap());
    let meta: MetaRow = site_meta();
    let row = AppRow {
        state: AppState::Healthy,
        since: Some(Timestamp::from_unix_s(1_800_000_000)),
        ..AppRow::new(AppName::new("shop").unwrap())
    };
    store.commit(vec![Write::PutMeta(meta.clone()), Write::PutApp(row.into())]).await.unwrap();
    let known = LastKnown::read(dir.path()).expect("a site is enrolled here");
    assert_eq!(known.site, meta.site);
    let text = joined(&known.describe());
    assert!(text.contains("LAST KNOWN") && text.contains("not how it is now"), "{text}");
    assert!(text.contains("shop: was healthy since 2027-01-15T08:00:00Z"), "{text}");
    assert!(!text.contains("shop: healthy"), "{text}");
    assert!(known.written_at.is_some_and(|at| text.contains(&at.to_string())), "{text}");
    assert!(json_of("LastKnownStatus", &known).contains("\"LastKnownStatus\""));
}
