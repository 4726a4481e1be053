//! What is run: a scenario, and an operator's own fleet and bundles in it.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::RunError;
use crate::bundle::{OwnBundle, newest_root};
use crate::scenario::{FLEET_BYTES_MAX, Scenario};

/// The scenario, and what takes the place of its own fleet and releases.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct StageArgs {
    /// A built-in scenario (`airlift-sim list`), or a file
    pub(crate) scenario: String,
    /// About so many sites instead of all; groups keep their shares
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub(crate) sites: Option<u64>,
    /// Your own sites: a file that `airlift site list -o json` wrote
    #[arg(long, value_name = "FILE")]
    pub(crate) fleet: Option<PathBuf>,
    /// Your own bundle, with its release beside it, in the place of the last version; several of one app: oldest first
    #[arg(long, value_name = "BUNDLE")]
    pub(crate) bundle: Vec<PathBuf>,
    /// Roots that the bundles' signatures are checked with: files, or a folder of VERSION.json
    #[arg(long, value_name = "ROOTS")]
    pub(crate) root: Vec<PathBuf>,
}

/// A scenario as it is run, and what a reader of its results has to know.
pub(super) struct Stage {
    pub(super) scenario: Scenario,
    pub(super) notes: Vec<String>,
}

impl StageArgs {
    /// Reads it.
    pub(super) fn read(&self) -> Result<Stage, RunError> {
        self.read_with(&[])
    }

    /// The same with further bundles.
    pub(super) fn read_with(&self, further: &[PathBuf]) -> Result<Stage, RunError> {
        let mut notes = Vec::new();
        let mut scenario = Scenario::find(&self.scenario)?;
        match (&self.fleet, self.sites) {
            (Some(path), sites) => {
                let told;
                (scenario, told) = scenario.with_fleet(&read_bounded(path)?, sites)?;
                notes.extend(told);
            }
            (None, Some(sites)) => scenario = scenario.with_sites(sites),
            (None, None) => {}
        }
        let opened: Vec<(PathBuf, OwnBundle)> = self
            .bundle
            .iter()
            .chain(further)
            .map(|path| Ok((path.clone(), OwnBundle::open(path)?)))
            .collect::<Result<_, RunError>>()?;
        let statements = opened.iter().map(|(path, bundle)| (path.clone(), bundle.statement())).collect();
        scenario = scenario.with_bundles(statements)?;
        let root = if self.root.is_empty() { None } else { Some(newest_root(&self.root)?) };
        for path in scenario.release.iter().filter_map(|release| release.bundle.as_ref()) {
            let bundle = OwnBundle::open(path)?;
            if let Some(root) = &root {
                bundle.check(root)?;
            }
            notes.extend(bundle.notes(root.as_ref().map(|root| root.version))?);
        }
        Ok(Stage { scenario, notes })
    }

    /// The command that shows a run of it again, without the seed.
    pub(super) fn replay(&self) -> String {
        let mut command = format!("airlift-sim replay {}", self.scenario);
        if let Some(sites) = self.sites {
            command.push_str(&format!(" --sites {sites}"));
        }
        let files = self.fleet.iter().map(|path| ("fleet", path));
        let files = files.chain(self.bundle.iter().map(|path| ("bundle", path)));
        for (flag, path) in files.chain(self.root.iter().map(|path| ("root", path))) {
            command.push_str(&format!(" --{flag} {}", path.display()));
        }
        command
    }
}

fn read_bounded(path: &Path) -> Result<Vec<u8>, RunError> {
    let unreadable = |source| RunError::Unreadable { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(FLEET_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > FLEET_BYTES_MAX {
        let fault = format!("over {} MiB", FLEET_BYTES_MAX >> 20);
        return Err(unreadable(std::io::Error::new(std::io::ErrorKind::InvalidData, fault)));
    }
    Ok(bytes)
}
