//! `airlift assign` and `airlift retire`: what sites should run, and what should leave them.

use std::collections::BTreeMap;

use airlift_bundles::document::release::{ParameterType, Release, Scalar};
use airlift_bundles::ids::{AppName, Name, SiteId, Version};
use clap::Args;

use super::client::{Client, encode};
use super::context::ContextName;
use super::failure::{Failure, Kind};
use super::output::{OutputArgs, Table};
use super::site::key_value;
use super::terminal::Terminal;
use crate::api::types::{Assign, Assigned, ReleaseChoice, ReleaseInfo, Retire, SiteSelection, route};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  airlift assign shop --release shop@1.4.2 --site mast-17,mast-18
  airlift assign shop --release 42 -l region=north --set replicas=3 --dry-run
  airlift assign shop --release sha256:… -l '*' --retry     # try a generation again that failed

Values that are not set go back to the bundle's own. A site that cannot be reached gets it when it returns.")]
pub(crate) struct AssignArgs {
    /// The app
    app: AppName,
    /// The release: its digest, APP@VERSION, VERSION, its number, or \"newest\"
    #[arg(long)]
    release: String,
    #[command(flatten)]
    sites: SiteArgs,
    /// A value for a declared parameter, NAME=VALUE; repeat
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = key_value)]
    set: Vec<(String, String)>,
    /// An overlay of the bundle, in the order in which they are laid on; repeat
    #[arg(long = "overlay", value_name = "NAME")]
    overlays: Vec<Name>,
    /// Try again where this generation failed
    #[arg(long)]
    retry: bool,
    /// Say what would happen and do nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  airlift retire shop --site mast-17
  airlift retire shop -l region=north --dry-run

The site waits, visibly, for the fleet's retire delay before it deletes anything; `airlift assign` takes it back.
Claims, namespaces and CRDs go only if the release said so.")]
pub(crate) struct RetireArgs {
    /// The app
    app: AppName,
    #[command(flatten)]
    sites: SiteArgs,
    /// Say what would happen and do nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    output: OutputArgs,
}

/// Which sites.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub(crate) struct SiteArgs {
    /// Sites by name, separated by commas
    #[arg(long = "site", value_name = "SITE", value_delimiter = ',')]
    names: Vec<SiteId>,
    /// Sites by label: \"region=north,!spare\", or \"*\" for all
    #[arg(long, short = 'l')]
    selector: Option<String>,
}

impl SiteArgs {
    pub(crate) fn selection(&self) -> SiteSelection {
        SiteSelection { names: self.names.clone(), selector: self.selector.clone() }
    }
}

pub(crate) fn assign(arguments: &AssignArgs, context: &ContextName) -> Result<(), Failure> {
    let client = context.client()?;
    let release = choose(&arguments.app, &arguments.release)?;
    let parameters = match arguments.set.is_empty() {
        true => BTreeMap::new(),
        false => parameters(&find(&client, &arguments.app, &release)?, &arguments.set)?,
    };
    let request = Assign {
        app: arguments.app.clone(),
        release,
        sites: arguments.sites.selection(),
        parameters,
        overlays: arguments.overlays.clone(),
        retry: arguments.retry,
        dry_run: arguments.dry_run,
    };
    let assigned: Assigned = client.post(route::ASSIGNMENTS, &request)?;
    report(&assigned, arguments.dry_run, &arguments.output)
}

pub(crate) fn retire(
    arguments: &RetireArgs,
    context: &ContextName,
    terminal: Terminal,
) -> Result<(), Failure> {
    let client = context.client()?;
    let order = |dry_run| Retire { app: arguments.app.clone(), sites: arguments.sites.selection(), dry_run };
    let planned: Assigned = client.post(route::RETIREMENTS, &order(true))?;
    if arguments.dry_run {
        return report(&planned, true, &arguments.output);
    }
    let count = planned.sites.iter().filter(|site| site.changed).count();
    terminal.confirm(&format!("Remove app {} from {count} sites?", arguments.app))?;
    let done: Assigned = client.post(route::RETIREMENTS, &order(false))?;
    report(&done, false, &arguments.output)
}

fn report(assigned: &Assigned, dry_run: bool, output: &OutputArgs) -> Result<(), Failure> {
    let head = if dry_run { "WOULD CHANGE" } else { "CHANGED" };
    let mut table = Table::new("SiteAssignedList", &["SITE", head, "ASSIGNMENT"], &["RELEASE"]);
    for site in &assigned.sites {
        let cells = vec![
            site.site.to_string(),
            if site.changed { "yes" } else { "no" }.into(),
            site.assignment.map_or_else(|| "-".into(), |counter| counter.to_string()),
            assigned.release.map_or_else(|| "-".into(), |release| release.to_string()),
        ];
        table.row(site, &site.site, cells);
    }
    Ok(table.print(output.format)?)
}

/// Reads what `--release` says.
fn choose(app: &AppName, text: &str) -> Result<ReleaseChoice, Failure> {
    if text == "newest" {
        return Ok(ReleaseChoice::Newest);
    }
    if text.starts_with("sha256:") {
        return Ok(ReleaseChoice::Sha256(text.parse()?));
    }
    if let Ok(seq) = text.parse() {
        return Ok(ReleaseChoice::Seq(seq));
    }
    let version = match text.split_once('@') {
        Some((named, version)) if named == app.as_str() => version,
        Some((named, _)) => {
            let failure = Failure::usage(format!("{text:?} is a release of {named}, not of {app}"));
            return Err(failure.next("Name one app in both places. Nothing was changed."));
        }
        None => text,
    };
    Ok(ReleaseChoice::Version(Version::new(version)?))
}

/// Finds the release that the hub will take, for the types of its parameters.
fn find(client: &Client, app: &AppName, choice: &ReleaseChoice) -> Result<Release, Failure> {
    let path = format!("{}?app={}", route::RELEASES, encode(app.as_str()));
    let releases: Vec<ReleaseInfo> = client.pages(&path)?;
    let epoch = releases.iter().map(|info| info.release.epoch).max();
    let fits = |info: &ReleaseInfo| match choice {
        ReleaseChoice::Sha256(sha256) => info.sha256 == *sha256,
        ReleaseChoice::Seq(seq) => info.release.seq == *seq && Some(info.release.epoch) == epoch,
        ReleaseChoice::Version(version) => info.release.version == *version,
        ReleaseChoice::Newest => true,
    };
    let newest = releases.into_iter().filter(fits).max_by_key(|info| info.release.counter());
    newest.map(|info| info.release).ok_or_else(|| {
        let failure = Failure::new(Kind::NotFound, format!("the hub holds no such release of app {app}"));
        failure.next("Publish it with `airlift publish`. Nothing was changed.")
    })
}

/// Gives values the types that the release declares.
fn parameters(release: &Release, set: &[(String, String)]) -> Result<BTreeMap<Name, Scalar>, Failure> {
    let mut values = BTreeMap::new();
    for (name, text) in set {
        let name = Name::new(name)?;
        let kind = release.parameters.get(&name).map(|declared| declared.kind);
        let value = match kind {
            Some(ParameterType::Boolean) => text.parse().ok().map(Scalar::Boolean),
            Some(ParameterType::Integer) => text.parse().ok().map(Scalar::Integer),
            Some(ParameterType::String) => Some(Scalar::String(text.clone())),
            None => {
                let declared: Vec<&str> = release.parameters.keys().map(Name::as_str).collect();
                let failure = Failure::new(Kind::Refused, format!("parameter {name} is not declared"));
                let next = format!("This release declares: {}. Nothing was changed.", declared.join(", "));
                return Err(failure.code(airlift_bundles::code::Code::ParameterUndeclared).next(next));
            }
        };
        let Some(value) = value else {
            let failure =
                Failure::new(Kind::Refused, format!("{text:?} is not of the type of parameter {name}"));
            return Err(failure.code(airlift_bundles::code::Code::ParameterOutside));
        };
        values.insert(name, value);
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_named_in_four_ways() {
        let app = AppName::new("shop").unwrap();
        let choose = |text: &str| choose(&app, text).ok();
        assert_eq!(choose("newest"), Some(ReleaseChoice::Newest));
        assert_eq!(choose("7"), Some(ReleaseChoice::Seq(7)));
        let version = || Version::new("1.4.2").map(ReleaseChoice::Version).ok();
        assert_eq!(choose("1.4.2"), version());
        assert_eq!(choose("shop@1.4.2"), version());
        assert_eq!(choose("till@1.4.2"), None);
        assert_eq!(choose("sha256:12"), None);
    }
}
