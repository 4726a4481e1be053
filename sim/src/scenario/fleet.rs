//! An operator's own fleet in the place of a scenario's: what `airlift site list -o json` wrote.

use std::collections::BTreeMap;

use airlift_bundles::document::enrolment::ContactClass;
use airlift_bundles::ids::{Name, SiteId};
use airlift_hub::api::types::Standing;
use airlift_hub::plan::select::{Selector, check_label};
use serde::Deserialize;

use super::{Group, LinkSpec, SITES_MAX, Scenario, ScenarioError};

/// The most of a file that is read: a million sites of a quarter KiB.
pub const FLEET_BYTES_MAX: u64 = 256 << 20;
/// Labels of a site, as the hub has it.
const LABELS_MAX: usize = 64;

/// The file is not the list of a fleet.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// Not what the command writes.
    #[error("not what `airlift site list -o json` writes: {0}")]
    Malformed(String),
    /// Another version of it.
    #[error("a {kind:?} of {version:?}, not a \"SiteList\" of \"airlift.dev/cli/v1\"")]
    Other {
        /// Its kind.
        kind: String,
        /// Its version.
        version: String,
    },
    /// Too many, or none.
    #[error("{0} sites that are not revoked; a scenario has 1 to {SITES_MAX}")]
    Count(usize),
    /// A label that no hub would take.
    #[error("site {site}: {fault}")]
    Label {
        /// Whose.
        site: SiteId,
        /// What is wrong.
        fault: String,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    api_version: String,
    kind: String,
    items: Vec<ListedSite>,
}

/// What of a site is taken over; what runs there now is not.
#[derive(Deserialize)]
struct ListedSite {
    site: SiteId,
    standing: Standing,
    contact: ContactClass,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

impl Scenario {
    /// The same story with the sites of a list, or about so many of them, evenly chosen; and what a reader has to know.
    ///
    /// Names, labels and contact classes are as they are. A site without a label `group` gets that of the scenario's
    /// group whose link it has: the first one of its contact class.
    ///
    /// # Errors
    /// [`ScenarioError::Fleet`], or what [`Self::parse`] refuses.
    pub fn with_fleet(
        mut self,
        list: &[u8],
        sites: Option<u64>,
    ) -> Result<(Self, Vec<String>), ScenarioError> {
        let listed = read(list)?;
        let all = listed.len();
        let wanted = sites.and_then(|sites| usize::try_from(sites).ok()).unwrap_or(all).clamp(1, all);
        // The n-th of `wanted` parts of the list each: no run of neighbours alone.
        let chosen = listed
            .into_iter()
            .enumerate()
            .filter(|(place, _)| place * wanted / all != (place + 1) * wanted / all);
        let templates = std::mem::take(&mut self.group);
        let mut groups: BTreeMap<(usize, ContactClass, BTreeMap<String, String>), Vec<SiteId>> =
            BTreeMap::new();
        for (_, site) in chosen {
            let place = template(&templates, &site);
            groups.entry((place, site.contact, site.labels)).or_default().push(site.site);
        }
        let mut without = 0;
        for ((place, contact, labels), names) in groups {
            let mut group =
                templates.get(place).or(templates.first()).expect("a scenario has a group").clone();
            if place >= templates.len() {
                without += names.len();
                (group.name, group.link) = (Name::new("own").expect("a name"), LinkSpec::default());
            }
            (group.count, group.contact) = (names.len() as u64, contact);
            (group.names, group.labels) = (names, labels);
            self.group.push(group);
        }
        self.check()?;
        let mut notes = vec![format!(
            "The fleet is an operator's own: {} of {all} sites, with their names, labels and contact classes. They begin \
             empty; what runs there now, their hardware and their real links are not known, links are the scenario's.",
            self.sites()
        )];
        if without > 0 {
            notes.push(format!(
                "{without} sites have no group of their contact class in the scenario: their link is the default one."
            ));
        }
        let unvisited = self.unvisited();
        if unvisited > 0 {
            notes.push(format!(
                "{unvisited} sites are reached by stick alone, and no carrier of the scenario goes there."
            ));
        }
        Ok((self, notes))
    }

    /// Sites that need a stick and that no carrier's route has.
    fn unvisited(&self) -> u64 {
        let routes: Vec<Selector> =
            self.carrier.iter().filter_map(|carrier| carrier.sites.parse().ok()).collect();
        let islands = self.group.iter().filter(|group| group.contact == ContactClass::Media);
        let left = islands.filter(|group| {
            let labels = group.all_labels();
            !routes.iter().any(|route| route.matches(&labels))
        });
        left.map(|group| group.count).sum()
    }
}

/// The place of the group whose link and name a site takes; beyond all where there is none.
fn template(groups: &[Group], site: &ListedSite) -> usize {
    let own = site.labels.get("group");
    let by_label = groups.iter().position(|group| own.is_some_and(|own| own == group.name.as_str()));
    let by_contact = || groups.iter().position(|group| group.contact == site.contact);
    by_label.or_else(by_contact).unwrap_or(groups.len())
}

fn read(list: &[u8]) -> Result<Vec<ListedSite>, FleetError> {
    let listed: Listed =
        serde_json::from_slice(list).map_err(|error| FleetError::Malformed(error.to_string()))?;
    if (listed.api_version.as_str(), listed.kind.as_str()) != ("airlift.dev/cli/v1", "SiteList") {
        return Err(FleetError::Other { kind: listed.kind, version: listed.api_version });
    }
    let mut sites = listed.items;
    sites.retain(|site| site.standing != Standing::Revoked);
    if sites.is_empty() || sites.len() as u64 > SITES_MAX {
        return Err(FleetError::Count(sites.len()));
    }
    for site in &sites {
        let refuse = |fault: String| FleetError::Label { site: site.site.clone(), fault };
        if site.labels.len() > LABELS_MAX {
            return Err(refuse(format!("more than {LABELS_MAX} labels")));
        }
        for (key, value) in &site.labels {
            check_label(key, value).map_err(|error| refuse(error.to_string()))?;
        }
    }
    Ok(sites)
}

#[cfg(test)]
mod tests {
    use airlift_hub::api::types::{Freshness, SiteInfo};

    use super::*;

    fn list(items: &str) -> String {
        format!(r#"{{"apiVersion":"airlift.dev/cli/v1","kind":"SiteList","items":[{items}]}}"#)
    }

    fn site(name: &str, contact: &str, labels: &str, standing: &str) -> String {
        let labels = serde_json::from_str(&format!("{{{labels}}}")).unwrap();
        let word = |word: &str| serde_json::Value::from(word);
        let info = SiteInfo {
            site: SiteId::new(name).unwrap(),
            incarnation: 1,
            standing: serde_json::from_value(word(standing)).unwrap(),
            contact: serde_json::from_value(word(contact)).unwrap(),
            labels,
            connected: true,
            freshness: Freshness::Fresh,
            last_seen: None,
            assignment: None,
            assignment_reported: None,
            apps: Vec::new(),
        };
        serde_json::to_string(&info).unwrap()
    }

    #[test]
    fn names_labels_and_contact_classes_are_as_they_are() {
        let items = [
            site("berlin", "mqtt", r#""zone":"north""#, "enrolled"),
            site("hamburg", "mqtt", r#""zone":"north","group":"thin""#, "enrolled"),
            site("sylt", "media", "", "quarantined"),
            site("gone", "mqtt", "", "revoked"),
        ];
        let scenario = Scenario::find("chaos").unwrap();
        let (own, notes) = scenario.with_fleet(list(&items.join(",")).as_bytes(), None).unwrap();
        assert_eq!(own.sites(), 3, "a revoked site is none");
        let named = |name: &str| own.group.iter().find(|group| group.names[0].as_str() == name).unwrap();
        let groups = ["berlin", "hamburg", "sylt"].map(|name| named(name).all_labels()["group"].clone());
        assert_eq!(groups, ["town", "thin", "island"]);
        assert_eq!(named("hamburg").link.kbit_per_s, 256, "its group's link");
        assert_eq!(named("berlin").labels["zone"], "north");
        assert_eq!(named("sylt").contact, ContactClass::Media);
        assert_eq!(notes.len(), 1, "the carrier of the islands goes to it: {notes:?}");
        assert_eq!(Scenario::parse(&own.to_toml()).unwrap(), own);
    }

    #[test]
    fn a_part_of_a_fleet_is_taken_evenly_and_what_is_missing_is_said() {
        let items: Vec<String> = (0..100).map(|n| site(&format!("s{n}"), "media", "", "enrolled")).collect();
        let scenario = Scenario::find("bad-release").unwrap();
        let (own, notes) = scenario.with_fleet(list(&items.join(",")).as_bytes(), Some(10)).unwrap();
        assert_eq!(own.sites(), 10);
        assert!(own.group[0].names.iter().any(|name| name.as_str() == "s99"));
        assert!(own.group[0].names.iter().any(|name| name.as_str() == "s9"));
        assert!(notes.iter().any(|note| note.contains("no carrier")), "{notes:?}");
        assert!(notes.iter().any(|note| note.contains("default")), "{notes:?}");
    }

    #[test]
    fn what_is_no_fleet_is_refused_with_its_reason() {
        let refused = |text: &str| {
            let refused = Scenario::find("chaos").unwrap().with_fleet(text.as_bytes(), None).unwrap_err();
            std::error::Error::source(&refused).map_or_else(|| refused.to_string(), ToString::to_string)
        };
        assert!(refused("[]").contains("airlift site list -o json"));
        assert!(
            refused(r#"{"apiVersion":"airlift.dev/cli/v1","kind":"ReceiptList","items":[]}"#)
                .contains("ReceiptList")
        );
        assert!(refused(&list("")).contains("0 sites"));
        assert!(refused(&list(&site("a", "mqtt", r#""a b":"c""#, "enrolled"))).contains("site a"));
        let nameless = site("a", "mqtt", "", "enrolled").replace("\"a\"", "\"Not A Name\"");
        assert!(refused(&list(&nameless)).contains("airlift site list"));
        let twice = [site("a", "mqtt", "", "enrolled"), site("a", "media", "", "enrolled")].join(",");
        assert!(refused(&list(&twice)).contains("one name"));
    }
}
