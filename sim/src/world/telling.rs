//! The last happenings of each site in words, for who wants to understand where a story went wrong.
//!
//! Each site has a bound of its own: what others do in the meantime pushes nothing out of a quiet site's story.

use std::collections::{BTreeMap, VecDeque};

use super::World;
use super::happening::{Happening, SiteNo};
use crate::scenario::FaultKind;

/// A happening is cut after so many characters: documents are long.
const CHARS_MAX: usize = 400;

/// The last lines of each site, and of what is no site's, with their steps.
pub(super) struct Telling {
    lines_max: usize,
    places: BTreeMap<Option<SiteNo>, VecDeque<(u64, String)>>,
}

impl Telling {
    /// Keeps so many lines of each.
    pub(super) fn new(lines_max: usize) -> Self {
        Self { lines_max, places: BTreeMap::new() }
    }

    fn add(&mut self, place: Option<SiteNo>, step: u64, line: String) {
        let lines = self.places.entry(place).or_default();
        if lines.len() == self.lines_max {
            lines.pop_front();
        }
        if self.lines_max > 0 {
            lines.push_back((step, line));
        }
    }

    /// The last lines of a site; of everybody where none is named.
    fn last(mut self, site: Option<SiteNo>) -> Vec<String> {
        let mut lines: Vec<(u64, String)> = match site {
            Some(_) => self.places.remove(&site).unwrap_or_default().into(),
            None => self.places.into_values().flatten().collect(),
        };
        lines.sort_by_key(|(step, _)| *step);
        let from = lines.len().saturating_sub(self.lines_max);
        lines.drain(from..).map(|(_, line)| line).collect()
    }
}

impl World {
    /// Notes what happens next, where somebody wants to read it.
    pub(super) fn say(&mut self, next: &Happening) {
        let Some(telling) = &mut self.telling else { return };
        let (place, text) = match next {
            Happening::Strike(number, site) => {
                let kind = self.scenario.fault[*number].kind;
                let of_hub = matches!(kind, FaultKind::HubCrash | FaultKind::HubRestore);
                ((!of_hub).then_some(*site), format!("Strike({kind:?})"))
            }
            Happening::Mend(mending) => (mending.site(), format!("{next:?}")),
            _ => (next.site(), format!("{next:?}")),
        };
        let named = place.map_or_else(String::new, |site| format!(" {}", self.sites[site].id));
        let text: String = text.chars().take(CHARS_MAX).collect();
        let line = format!("{:>10} {:>12} ms{named} {text}", self.steps, self.timeline.now_ms());
        telling.add(place, self.steps, line);
    }

    /// The story that was kept: of the site of the first violation, or of everybody.
    pub(super) fn told(&mut self) -> Vec<String> {
        let site = self.violations.first().and_then(|violation| violation.site.as_ref());
        let site = site.and_then(|site| self.names.get(site)).copied();
        self.telling.take().map(|telling| telling.last(site)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(site: Option<SiteNo>) -> Vec<String> {
        let mut telling = Telling::new(2);
        for step in 0..3 {
            telling.add(Some(1), step, format!("quiet {step}"));
        }
        for step in 3..1_000 {
            telling.add(Some(11), step, format!("loud {step}"));
        }
        telling.add(None, 1_000, "hub 1000".to_owned());
        telling.last(site)
    }

    #[test]
    fn a_quiet_site_keeps_its_last_lines_whatever_others_do() {
        assert_eq!(told(Some(1)), ["quiet 1", "quiet 2"]);
        assert_eq!(told(Some(11)), ["loud 998", "loud 999"]);
        assert!(told(Some(2)).is_empty());
    }

    #[test]
    fn a_story_of_nobody_is_that_of_all() {
        assert_eq!(told(None), ["loud 999", "hub 1000"]);
    }
}
