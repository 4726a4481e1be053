//! An operator's own releases in a scenario's story, and one release in the place of another.

use std::collections::BTreeMap;
use std::path::PathBuf;

use airlift_bundles::document::release::Statement;
use airlift_bundles::ids::{AppName, Version};

use super::{Act, Action, ReleaseSpec, Scenario, ScenarioError, Span, soak, timeout};

impl Scenario {
    /// The same story with bundles of one app, by their numbers, in the place of the last versions of the app that the
    /// scenario assigns first; what it says of versions before goes.
    ///
    /// A scenario that assigns these very versions keeps its story, and only gets their bundles.
    ///
    /// # Errors
    /// [`ScenarioError::Senseless`] where they do not fit.
    pub fn with_bundles(mut self, mut bundles: Vec<(PathBuf, &Statement)>) -> Result<Self, ScenarioError> {
        let senseless = |text: String| Err(ScenarioError::Senseless(text));
        bundles.sort_by_key(|(_, statement)| (statement.predicate.epoch, statement.predicate.seq));
        let Some((_, first)) = bundles.first() else { return Ok(self) };
        let own = first.predicate.app.clone();
        if let Some((_, other)) = bundles.iter().find(|(_, statement)| statement.predicate.app != own) {
            return senseless(format!(
                "bundles of {own} and of {}: name those of one app",
                other.predicate.app
            ));
        }
        let specs: Vec<ReleaseSpec> =
            bundles.into_iter().map(|(path, statement)| spec(path, statement)).collect();
        let named = |version: &Version| specs.iter().any(|spec| spec.version == *version);
        let story =
            self.assigned(&own).iter().any(|place| self.action[*place].version.as_ref().is_some_and(named));
        let Some(leading) =
            self.action.iter().find(|action| action.act == Act::Assign).and_then(|action| action.app.clone())
        else {
            return senseless("the scenario assigns nothing in whose place a bundle could come".into());
        };
        if !story {
            self.replace(&leading, &own, &specs)?;
        }
        self.release.retain(|release| release.app != own || !named(&release.version));
        self.release.extend(specs);
        self.check()?;
        Ok(self)
    }

    /// The places at which an app is assigned, in the order of their time.
    fn assigned(&self, app: &AppName) -> Vec<usize> {
        let is = |action: &Action| action.act == Act::Assign && action.app.as_ref() == Some(app);
        let mut places: Vec<usize> =
            (0..self.action.len()).filter(|place| is(&self.action[*place])).collect();
        places.sort_by_key(|place| self.action[*place].at);
        places
    }

    /// Puts own versions in the places of the last ones of `leading`.
    fn replace(
        &mut self,
        leading: &AppName,
        own: &AppName,
        specs: &[ReleaseSpec],
    ) -> Result<(), ScenarioError> {
        let places = self.assigned(leading);
        let Some(before) = places.len().checked_sub(specs.len()) else {
            let text = format!(
                "the scenario assigns {} versions of {leading}, which is too few for {} bundles",
                places.len(),
                specs.len()
            );
            return Err(ScenarioError::Senseless(text));
        };
        let mut times: Vec<(Span, Version)> = Vec::new();
        let mut versions: BTreeMap<Version, Version> = BTreeMap::new();
        for (place, spec) in places[before..].iter().zip(specs) {
            let action = &mut self.action[*place];
            let old = action.version.replace(spec.version.clone());
            versions.extend(old.map(|old| (old, spec.version.clone())));
            action.app = Some(own.clone());
            times.push((action.at, spec.version.clone()));
        }
        let begins = times.first().map_or(Span::default(), |(at, _)| *at);
        self.action.retain_mut(|action| {
            if action.app.as_ref() != Some(leading) || leading == own && action.act == Act::Assign {
                return true;
            }
            // Of the versions before, nothing is left to assign, to stop or to retire.
            if action.act == Act::Assign || action.at < begins {
                return false;
            }
            action.app = Some(own.clone());
            match &action.version {
                None => true,
                Some(old) => {
                    action.version = versions.get(old).cloned();
                    action.version.is_some()
                }
            }
        });
        if leading == own {
            let kept: Vec<&Version> = specs.iter().map(|spec| &spec.version).collect();
            self.action.retain(|action| {
                action.act != Act::Assign
                    || action.app.as_ref() != Some(own)
                    || action.version.as_ref().is_some_and(|version| kept.contains(&version))
            });
        }
        self.expect_instead(leading, own, &times);
        self.release.retain(|release| release.app != *leading);
        Ok(())
    }

    /// Expects of an app, from the first of these times on, the version that was assigned last.
    fn expect_instead(&mut self, leading: &AppName, own: &AppName, times: &[(Span, Version)]) {
        let end = self.duration;
        self.expect.retain_mut(|expectation| {
            if expectation.app != *leading {
                return true;
            }
            let at = expectation.at.unwrap_or(end);
            let Some((_, version)) = times.iter().rev().find(|(from, _)| *from <= at) else { return false };
            expectation.app = own.clone();
            if expectation.running.is_some() {
                expectation.running = Some(version.clone());
            }
            // Nobody said that this one fails.
            expectation.failed = None;
            true
        });
    }

    /// The same story with this release as the last that is assigned of its app, and without `other` before it: what
    /// differs between two such stories is the release alone.
    ///
    /// # Errors
    /// [`ScenarioError::Senseless`] where the app is not assigned, or there is no such release.
    pub fn with_last(
        mut self,
        app: &AppName,
        version: &Version,
        other: &Version,
    ) -> Result<Self, ScenarioError> {
        let released = |version: &Version| {
            self.release.iter().any(|release| release.app == *app && release.version == *version)
        };
        if let Some(missing) = [version, other].into_iter().find(|version| !released(version)) {
            return Err(ScenarioError::Senseless(format!(
                "there is no release {missing} of {app} in the scenario"
            )));
        }
        let Some(last) = self.assigned(app).last().copied() else {
            return Err(ScenarioError::Senseless(format!("the scenario assigns no version of {app}")));
        };
        let at = self.action[last].at;
        self.action[last].version = Some(version.clone());
        let mut place = 0;
        self.action.retain(|action| {
            let compared = [version, other].map(Some).contains(&action.version.as_ref());
            let goes =
                action.act == Act::Assign && action.app.as_ref() == Some(app) && compared && place != last;
            place += 1;
            !goes
        });
        self.expect_instead(app, app, &[(at, version.clone())]);
        self.check()?;
        Ok(self)
    }
}

fn spec(bundle: PathBuf, statement: &Statement) -> ReleaseSpec {
    let release = &statement.predicate;
    ReleaseSpec {
        app: release.app.clone(),
        version: release.version.clone(),
        seq: release.seq,
        floor: release.floor,
        works: true,
        bytes: None,
        bundle: Some(bundle),
        timeout: timeout(),
        soak: soak(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn versions(scenario: &Scenario, app: &str) -> Vec<String> {
        let app = AppName::new(app).unwrap();
        let places = scenario.assigned(&app);
        places.iter().map(|place| scenario.action[*place].version.as_ref().unwrap().to_string()).collect()
    }

    #[test]
    fn two_stories_differ_in_the_last_release_alone() {
        let [app, good, bad] = ["till", "2.0.1", "2.0.0"];
        let (app, good, bad) =
            (AppName::new(app).unwrap(), Version::new(good).unwrap(), Version::new(bad).unwrap());
        let scenario = Scenario::find("bad-release").unwrap();
        let one = scenario.clone().with_last(&app, &good, &bad).unwrap();
        let two = scenario.clone().with_last(&app, &bad, &good).unwrap();
        assert_eq!(
            (versions(&one, "till"), versions(&two, "till")),
            (vec!["1.0.0".into(), "2.0.1".into()], vec!["1.0.0".into(), "2.0.0".into()])
        );
        let expected = |scenario: &Scenario| -> Vec<_> {
            scenario.expect.iter().filter_map(|expectation| expectation.running.clone()).collect()
        };
        assert_eq!((expected(&one), expected(&two)), (vec![good.clone()], vec![bad.clone()]));
        let missing = Version::new("9.9.9").unwrap();
        assert!(scenario.with_last(&app, &good, &missing).is_err());
    }
}
