use super::*;
use crate::document::receipt::Evidence;
use crate::document::status::Progress;
use crate::fixture::app;
use crate::ids::{Sha256Digest, Version};

fn mark(version: &str, seq: u64) -> ReleaseMark {
    let sha256 = Sha256Digest::of(version.as_bytes());
    ReleaseMark { sha256, epoch: 0, seq, version: Version::new(version).unwrap() }
}

fn status(state: AppState) -> AppStatus {
    AppStatus {
        state,
        since: Timestamp::from_unix_s(1_800_000_000),
        running: Some(mark("1.4.2", 12)),
        target: Some(mark("1.5.0", 13)),
        generation: None,
        reason: None,
        detail: String::new(),
        evidence: vec![],
        working: Some(mark("1.5.0", 13)),
        left: None,
        returns_to: Some(mark("1.4.2", 12)),
        waits: None,
        progress: None,
        bytes_per_s: None,
        objects: None,
        clock: None,
    }
}

fn now() -> Moment {
    Moment { time: Timestamp::from_unix_s(1_800_000_072), old: false, way: Way::Connected }
}

fn page(status: &AppStatus, moment: &Moment) -> String {
    let page = tell(&app("shop"), status, moment).page(false);
    assert!(page.lines().all(|line| line.chars().count() <= 80), "{page}");
    page
}

/// A page with its lines joined, so that a test does not depend on where they break.
fn text(status: &AppStatus, moment: &Moment) -> String {
    page(status, moment).split_whitespace().collect::<Vec<_>>().join(" ")
}

fn clock() -> SettleClock {
    SettleClock {
        used_ms: 72_000,
        limit_ms: 600_000,
        soaking: false,
        soaked_ms: 0,
        soak_ms: 120_000,
        runs: true,
    }
}

#[test]
fn settling_tells_the_clock_what_is_unwell_and_that_the_way_back_is_safe() {
    let settling = AppStatus {
        clock: Some(clock()),
        waits: Some(Waiting::Health),
        evidence: vec![Evidence {
            object: "Deployment shop/web".into(),
            reason: "ImagePullBackOff".into(),
            message: "pod web-6d4f8-x2: back-off pulling image \u{1b}[2J".into(),
        }],
        ..status(AppState::Settling)
    };
    assert_eq!(
        page(&settling, &now()),
        "shop: settling for 1 min 12 s, since 2027-01-15T08:00:00Z
  version   1.5.0 (seq 13) takes the place of 1.4.2 (seq 12)
  now       waits until all is well: 1 min 12 s of 10 min used, 8 min 48 s left
  seen      Deployment shop/web: ImagePullBackOff: pod web-6d4f8-x2: back-off
            pulling image \u{fffd}[2J
  safe      if it fails, the site goes back to 1.4.2 (seq 12) by itself
  next      nothing to do
"
    );
    let soaking = SettleClock { soaking: true, soaked_ms: 30_000, ..clock() };
    let soaking = AppStatus { clock: Some(soaking), ..status(AppState::Settling) };
    assert!(text(&soaking, &now()).contains("all is well, and has to stay so: 30 s of 2 min"));
}

#[test]
fn a_clock_that_stands_still_says_why() {
    let stopped = SettleClock { runs: false, ..clock() };
    for (waits, why) in [
        (Waiting::Cluster, "waits for the API server"),
        (Waiting::Node, "waits for a node that is Ready"),
        (Waiting::Import, "an import that keeps the disk busy"),
    ] {
        let stands = AppStatus { clock: Some(stopped), waits: Some(waits), ..status(AppState::Settling) };
        let shown = text(&stands, &now());
        assert!(shown.contains("this clock stands still; ") && shown.contains(why), "{shown}");
        let mood = tell(&app("shop"), &stands, &now()).mood;
        assert!(matches!(mood, Mood::Warning | Mood::Busy), "{mood:?}");
    }
}

#[test]
fn fetching_tells_how_much_how_fast_and_by_which_way() {
    let fetching = AppStatus {
        progress: Some(Progress { have: 1 << 20, want: 3 << 20 }),
        bytes_per_s: Some(128 << 10),
        waits: Some(Waiting::Content),
        ..status(AppState::Fetching)
    };
    let shown = text(&fetching, &now());
    assert!(
        shown.contains(
            "1.0 MiB of 3.0 MiB are here, 128.0 KiB/s, about 16 s left; the rest comes from the hub"
        )
    );
    assert!(shown.contains("1.4.2 (seq 12) runs on, untouched") && shown.contains("nothing to do"));
    let away = Moment { way: Way::Away, ..now() };
    let shown = text(&fetching, &away);
    assert!(shown.contains("the hub is away") && shown.contains("`airlift media save`"), "{shown}");
}

#[test]
fn waiting_names_the_other_app_and_its_number() {
    let waits = Waiting::App { app: app("db"), min_seq: 4, seq: Some(3) };
    let waiting = AppStatus { waits: Some(waits), running: None, ..status(AppState::Waiting) };
    let shown = text(&waiting, &now());
    assert!(shown.contains("waits for app db to be healthy at seq 4 or later (now at 3)"), "{shown}");
    assert!(shown.contains("nothing of this app ran here before"), "{shown}");
    assert!(shown.contains("nothing was changed in the cluster"), "{shown}");
}

#[test]
fn trouble_tells_what_happened_what_is_safe_and_what_to_do() {
    let refused = AppStatus {
        working: None,
        reason: Some(Code::ObjectNotOurs),
        detail: "Service shop/web exists and was not made by this app".into(),
        ..status(AppState::Refused)
    };
    let shown = text(&refused, &now());
    assert!(shown.contains("version 1.4.2 (seq 12); 1.5.0 (seq 13) is assigned"), "{shown}");
    assert!(shown.contains("why object exists and is not ours: Service shop/web exists"), "{shown}");
    assert!(shown.contains("safe 1.4.2 (seq 12) runs on, untouched"), "{shown}");
    assert!(
        shown.contains("next Rename one of them") && shown.contains("`airlift explain AL0701`"),
        "{shown}"
    );

    let again = AppStatus { reason: Some(Code::FailedBefore), ..refused };
    assert!(
        text(&again, &now()).contains("`airlift-agent retry shop`"),
        "the app's name stands in the order"
    );

    let first = AppStatus { running: None, working: None, ..status(AppState::Failed) };
    assert!(text(&first, &now()).contains("its objects are left for you to look at"));
    let degraded = AppStatus { working: None, ..status(AppState::Degraded) };
    assert!(text(&degraded, &now()).contains("nothing is deleted"));
}

#[test]
fn a_version_that_was_left_is_told_beside_the_one_that_runs() {
    let back = AppStatus {
        left: Some(mark("1.5.0", 13)),
        working: Some(mark("1.4.2", 12)),
        ..status(AppState::RollingBack)
    };
    let shown = text(&back, &now());
    assert!(shown.contains("back to 1.4.2 (seq 12), from 1.5.0 (seq 13)"), "{shown}");
    assert!(shown.contains("without the hub"), "{shown}");
    let after = AppStatus {
        working: None,
        reason: Some(Code::NotHealthyInTime),
        detail: "Deployment shop/web is stuck".into(),
        ..status(AppState::Healthy)
    };
    let telling = tell(&app("shop"), &after, &now());
    assert_eq!((telling.state.as_str(), telling.mood), ("healthy", Mood::Warning));
    let shown = text(&after, &now());
    assert!(shown.contains("1.5.0 (seq 13) was tried and left: not healthy in time: Deployment"), "{shown}");
    assert!(shown.contains("1.4.2 (seq 12) runs and is kept right"), "{shown}");
}

#[test]
fn leaving_and_being_held_say_what_stops_them() {
    let waits = Some(Waiting::RetireDelay { left_s: 600 });
    let leaves = AppStatus { working: None, target: None, waits, ..status(AppState::Retiring) };
    let shown = text(&leaves, &now());
    assert!(shown.contains("leaves by order of the hub; in 10 min of uptime"), "{shown}");
    assert!(shown.contains("`airlift-agent hold shop` at the site stops it"), "{shown}");
    let held = AppStatus { working: None, waits: Some(Waiting::Person), ..status(AppState::Held) };
    assert!(text(&held, &now()).contains("`airlift-agent unhold shop` at the site lets it go on"));
}

#[test]
fn what_is_old_or_unknown_is_never_told_as_healthy() {
    let healthy = AppStatus { working: None, ..status(AppState::Healthy) };
    assert_eq!(tell(&app("shop"), &healthy, &now()).mood, Mood::Well);
    let old = tell(&app("shop"), &healthy, &Moment { old: true, ..now() });
    assert_eq!((old.state.as_str(), old.mood), ("was healthy", Mood::Old));
    assert!(old.lines.iter().all(|(label, _)| !matches!(*label, "now" | "safe" | "next")));
    for (waits, why) in [(Waiting::Cluster, "API server"), (Waiting::Node, "a node that is Ready")] {
        let alone = AppStatus { waits: Some(waits), state: AppState::Unknown, ..healthy.clone() };
        let told = tell(&app("shop"), &alone, &now());
        assert_eq!((told.state.as_str(), told.mood), ("unknown", Mood::Warning));
        let shown = text(&alone, &now());
        assert!(
            shown.contains("was healthy when it was last seen; waits for") && shown.contains(why),
            "{shown}"
        );
    }
}

#[test]
fn every_state_is_told_on_eighty_columns_and_coloured_only_where_wanted() {
    use AppState::*;
    let long = "x".repeat(200);
    for state in [
        Waiting,
        Fetching,
        Prepared,
        Importing,
        Applying,
        Settling,
        Healthy,
        Refused,
        Held,
        RollingBack,
        Degraded,
        Failed,
        Retiring,
        Unknown,
    ] {
        let seen = Evidence { object: long.clone(), reason: "Reason".into(), message: "words ".repeat(100) };
        let told = AppStatus {
            reason: Some(Code::ApplyRefused),
            detail: long.clone(),
            evidence: vec![seen; 9],
            objects: Some(Progress { have: 12, want: 14 }),
            clock: Some(clock()),
            ..status(state)
        };
        let shown = page(&told, &now());
        assert!(
            shown.starts_with(&format!("shop: {} ", state.word())) && !shown.contains('\u{1b}'),
            "{shown}"
        );
        assert!(shown.contains("and 3 more"), "{shown}");
        let coloured = tell(&app("shop"), &told, &now()).page(true);
        assert!(coloured.contains('\u{1b}'), "{coloured}");
        assert_eq!(coloured.lines().count(), shown.lines().count());
    }
}

#[test]
fn a_later_version_may_wait_for_something_new() {
    let known: Waiting = serde_json::from_str(r#"{"for":"app","app":"db","min_seq":4}"#).unwrap();
    assert_eq!(known, Waiting::App { app: app("db"), min_seq: 4, seq: None });
    let later: Waiting = serde_json::from_str(r#"{"for":"full-moon","nights":3}"#).unwrap();
    assert_eq!(later, Waiting::Unknown);
}
