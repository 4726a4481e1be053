use std::collections::BTreeMap;

use airlift_bundles::document::receipt::{ClockQuality, Evidence, ReleaseMark, RootMark};
use airlift_bundles::document::release::Platform;
use airlift_bundles::document::status::{AppStatus, NodeStatus, SiteStatus};
use airlift_bundles::ids::{AppName, RandomId, Sha256Digest, SiteId, Version};

use super::*;
use crate::api::types::DesiredInfo;

fn app() -> AppName {
    AppName::new("shop").unwrap()
}

fn mark(version: &str, seq: u64) -> ReleaseMark {
    let sha256 = Sha256Digest::of(version.as_bytes());
    ReleaseMark { sha256, epoch: 0, seq, version: Version::new(version).unwrap() }
}

fn status() -> SiteStatus {
    let says = AppStatus {
        state: AppState::Healthy,
        since: Timestamp::from_unix_s(1_800_000_000),
        running: Some(mark("1.4.2", 12)),
        target: Some(mark("1.5.0", 13)),
        generation: None,
        reason: Some(Code::NotHealthyInTime),
        detail: "Deployment shop/web is stuck".into(),
        evidence: vec![Evidence {
            object: "Deployment shop/web".into(),
            reason: "ErrImagePull".into(),
            message: "no such image\u{1b}[2J".into(),
        }],
        working: None,
        left: None,
        returns_to: None,
        waits: None,
        progress: None,
        bytes_per_s: None,
        objects: None,
        clock: None,
    };
    let platform = Platform { os: "linux".into(), architecture: "arm64".into(), variant: None };
    SiteStatus {
        agent_version: "0.1.0".into(),
        root: RootMark { version: 2, sha256: Sha256Digest::of(b"root") },
        assignment: None,
        parked: None,
        boot: RandomId::from_bytes([1; 16]),
        apps: BTreeMap::from([(app(), Box::new(says))]),
        nodes: vec![NodeStatus {
            name: "n".into(),
            ready: true,
            schedulable: true,
            disk_pressure: false,
            platform,
            kubelet: String::new(),
        }],
        cluster_up: true,
        disk_free_bytes: Some(5 << 30),
        refusals: BTreeMap::from([("AL0404".into(), 3)]),
        known_time: Timestamp::from_unix_s(1_800_000_600),
        clock_quality: ClockQuality::Floor,
    }
}

fn detail(freshness: Freshness) -> SiteDetail {
    let desired = DesiredInfo {
        release: Sha256Digest::of(b"1.5.0"),
        epoch: 0,
        seq: 13,
        version: Version::new("1.5.0").unwrap(),
        parameters: BTreeMap::new(),
        overlays: vec![],
        retry: 0,
    };
    SiteDetail {
        site: SiteInfo {
            site: SiteId::new("ship").unwrap(),
            incarnation: 1,
            standing: Standing::Enrolled,
            contact: ContactClass::Mqtt,
            labels: BTreeMap::new(),
            connected: false,
            freshness,
            last_seen: Some(Timestamp::from_unix_s(1_800_000_700)),
            assignment: None,
            assignment_reported: None,
            apps: vec![SiteApp {
                app: app(),
                desired: Some(desired),
                retiring: false,
                state: Some(AppState::Healthy),
                running: Some(Version::new("1.4.2").unwrap()),
                running_seq: Some(12),
                generation: None,
                reason: Some(Code::NotHealthyInTime),
                done: false,
            }],
        },
        keys: vec![],
        status: Some(status()),
        status_as_of: Some(Timestamp::from_unix_s(1_800_000_700)),
        status_age_s: Some(90_000),
        chains: vec![],
    }
}

fn joined(page: &str) -> String {
    page.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn a_site_is_told_with_its_age_on_eighty_columns_in_the_words_that_the_site_itself_uses() {
    let page = page(&detail(Freshness::Fresh), false);
    assert!(page.lines().all(|line| line.chars().count() <= 80), "{page}");
    assert!(!page.contains('\u{1b}'), "{page}");
    let text = joined(&page);
    for part in [
        "site ship: behind contact not connected",
        "as of 2027-01-15T08:11:40Z (1 d 1 h ago); 2027-01-15T08:10:00Z by the site's own clock",
        "answers; 1 of 1 nodes Ready",
        "5.00 GiB free",
        "AL0404 assignment is older, 3 so far",
        "shop: healthy for 10 min, since 2027-01-15T08:00:00Z",
        "1.5.0 (seq 13) was tried and left: not healthy in time",
        "Deployment shop/web: ErrImagePull: no such image",
        "desired 1.5.0 (seq 13), release sha256:",
    ] {
        assert!(text.contains(part), "{part}: {page}");
    }
}

#[test]
fn what_a_stale_site_said_is_never_shown_as_healthy() {
    let stale = detail(Freshness::Stale);
    let text = joined(&page(&stale, false));
    assert!(text.starts_with("site ship: stale STALE: nothing was heard"), "{text}");
    assert!(text.contains("shop: was healthy since") && !text.contains("shop: healthy"), "{text}");
    assert_eq!(app_in_short(&stale.site.apps[0], stale.site.freshness), "shop@1.4.2:was-healthy");
}

#[test]
fn a_site_that_cannot_see_its_cluster_is_unknown() {
    let mut blind = detail(Freshness::Fresh).site;
    blind.apps[0].reason = None;
    assert_eq!(state(&blind), "progressing", "another version is desired");
    blind.apps[0].state = Some(AppState::Unknown);
    assert_eq!(state(&blind), "unknown");
}
