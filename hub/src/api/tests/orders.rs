//! Assigning and retiring, and who may be chosen.

use crate::api::types::{
    Assign, Assigned, AuditLog, LabelChange, Page, ReleaseChoice, Retire, SiteInfo, SiteSelection, route,
};
use crate::scratch::{ScratchHub, ScratchSite};
use airlift_bundles::code::Code;
use airlift_bundles::ids::AppName;
use std::collections::BTreeMap;

fn order(selector: &str, dry_run: bool) -> Assign {
    Assign {
        app: AppName::new("web").unwrap(),
        release: ReleaseChoice::Seq(1),
        sites: SiteSelection { names: vec![], selector: Some(selector.to_owned()) },
        parameters: BTreeMap::new(),
        overlays: vec![],
        retry: false,
        dry_run,
    }
}

async fn fleet() -> ScratchHub {
    let hub = ScratchHub::start().await;
    for (seed, name) in [(1, "east"), (2, "west")] {
        ScratchSite::new(seed).enrol(&hub, &hub.token(name).await).await;
    }
    let change = LabelChange { set: [("side".to_owned(), "east".to_owned())].into(), remove: vec![] };
    let _: SiteInfo = hub.post(&route::fill(route::SITE_LABELS, &["east"]), &change).await;
    hub.publish(&hub.pack("web", 1)).await;
    hub
}

#[tokio::test]
async fn a_selector_chooses_sites_and_a_dry_run_changes_nothing() {
    let hub = fleet().await;
    let planned: Assigned = hub.post(route::ASSIGNMENTS, &order("side=east", true)).await;
    assert_eq!(planned.sites.len(), 1);
    assert!(planned.sites[0].changed && planned.sites[0].assignment.is_none());
    let sites: Page<SiteInfo> = hub.get(&format!("{}?selector=side", route::SITES)).await;
    assert!(sites.items[0].apps.is_empty());

    let done: Assigned = hub.post(route::ASSIGNMENTS, &order("side=east", false)).await;
    assert!(done.sites[0].changed && done.sites[0].assignment.is_some());
    let again: Assigned = hub.post(route::ASSIGNMENTS, &order("*", false)).await;
    assert_eq!(again.sites.iter().map(|site| site.changed).collect::<Vec<_>>(), [false, true]);
    assert_eq!(again.sites[0].assignment, done.sites[0].assignment, "nothing new is signed for who has it");
    let refused = hub.try_post::<Assigned>(route::ASSIGNMENTS, &order("", false)).await.unwrap_err();
    assert_eq!(refused.code, Code::RequestInvalid);
}

#[tokio::test]
async fn retiring_names_the_app_and_assigning_takes_it_back() {
    let hub = fleet().await;
    let _: Assigned = hub.post(route::ASSIGNMENTS, &order("*", false)).await;
    let retire = Retire {
        app: AppName::new("web").unwrap(),
        sites: SiteSelection { names: vec!["east".parse().unwrap()], selector: None },
        dry_run: false,
    };
    let done: Assigned = hub.post(route::RETIREMENTS, &retire).await;
    assert!(done.sites[0].changed);
    let read = async || {
        let (_, _, body) =
            hub.call(hyper::Method::GET, &route::fill(route::SITE_ASSIGNMENT, &["east"]), vec![]).await;
        crate::plan::sign::read_own(&body).unwrap()
    };
    let assignment = read().await;
    assert_eq!((assignment.desired.len(), assignment.retire.len()), (0, 1));
    hub.assign("web", "east").await;
    let assignment = read().await;
    assert_eq!((assignment.desired.len(), assignment.retire.len()), (1, 0));
}

#[tokio::test]
async fn every_order_stands_in_a_log_whose_entries_hang_together() {
    let hub = fleet().await;
    let _: Assigned = hub.post(route::ASSIGNMENTS, &order("*", false)).await;
    let log: AuditLog = hub.get(route::AUDIT).await;
    assert!(log.intact);
    let actions: Vec<&str> = log.entries.iter().map(|entry| entry.action.as_str()).collect();
    assert_eq!(actions[..2], ["hub.init", "root.install"]);
    let last = log.entries.last().unwrap();
    assert_eq!((last.actor.as_str(), last.action.as_str()), ("admin", "site.assign"));
    assert_eq!(last.detail, "east west");
    let mut altered = log.entries.clone();
    altered[1].detail = "nothing happened".into();
    assert!(!crate::db::rows::audit::is_intact(&altered));
    altered.remove(1);
    assert!(!crate::db::rows::audit::is_intact(&altered));
}
