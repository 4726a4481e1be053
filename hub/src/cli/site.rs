//! `airlift site`: the waiting room, and the sites that were let in.

use std::collections::BTreeMap;
use std::path::PathBuf;

use airlift_bundles::document::enrolment::{ContactClass, EnrolmentRequest};
use airlift_bundles::ids::{RandomId, SiteId};
use airlift_bundles::limits::Limits;
use clap::{Args, Subcommand, ValueEnum};
use hyper::Method;
use serde::Serialize;
use serde_json::Value;

use super::client::{Client, encode};
use super::context::ContextName;
use super::envelope_file;
use super::failure::{Failure, Kind};
use super::output::{Format, OutputArgs, Table, line, print_json};
use super::terminal::Terminal;
use crate::api::types::{
    Approve, Approved, LabelChange, MediaFile, MediaImport, MediaImported, Reject, RequestInfo, RevokeSite,
    SiteDetail, SiteInfo, route,
};

mod show;
mod token;

pub(crate) use show::site_rows;

#[derive(Debug, Subcommand)]
pub(crate) enum SiteCommand {
    /// Make, list and revoke enrolment tokens
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// List the requests that wait for a decision
    Pending(Pending),
    /// Let a site in, by the fingerprint that it shows
    #[command(after_help = "Examples:
  airlift site approve --fingerprint 1f2e-… --site mast-17 --label region=north
  airlift site approve --request /media/stick/airlift-media/requests/1f2e-….json --fingerprint 1f2e-…

Read the fingerprint from the site's own screen (`airlift-agent status`), not from this command's list.
A site that only sticks reach finds its grant on the next stick: `airlift media save`.")]
    Approve(ApproveSite),
    /// Turn a request away
    Reject(RejectRequest),
    /// List sites
    List(List),
    /// Show one site
    Show(Show),
    /// Set labels (KEY=VALUE) and take them away (KEY-)
    Label(Label),
    /// Refuse a site's keys and certificate from now on; what runs there is left alone
    Revoke(Revoke),
}

#[derive(Debug, Args)]
pub(crate) struct Pending {
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ApproveSite {
    /// The fingerprint that the site shows
    #[arg(long)]
    fingerprint: String,
    /// A request that came on a stick
    #[arg(long, value_name = "FILE")]
    request: Option<PathBuf>,
    /// The site's name; the one that it asks for by default
    #[arg(long)]
    site: Option<SiteId>,
    /// A label to set, KEY=VALUE; repeat
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = key_value)]
    labels: Vec<(String, String)>,
    /// How the site is reached; by the way that the request came by default
    #[arg(long, value_enum)]
    contact: Option<Contact>,
    /// Replace the enrolled site that has this name; its keys are revoked
    #[arg(long)]
    replace: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RejectRequest {
    /// The request, as `airlift site pending` lists it
    request: RandomId,
    /// Why; the site shows it
    #[arg(long, default_value = "")]
    reason: String,
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only sites whose labels fit: "region=north,!spare"
    #[arg(long, short = 'l')]
    selector: Option<String>,
    /// Only sites that are assigned this app
    #[arg(long)]
    app: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    site: SiteId,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
pub(crate) struct Label {
    site: SiteId,
    /// KEY=VALUE sets, KEY- takes away
    #[arg(required = true)]
    changes: Vec<String>,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
pub(crate) struct Revoke {
    site: SiteId,
    /// Why, for the audit log
    #[arg(long, default_value = "")]
    reason: String,
}

/// How a site is reached.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Contact {
    /// Over a network: silence is overdue after minutes
    Mqtt,
    /// By sticks: silence is overdue after weeks
    Media,
}

impl From<Contact> for ContactClass {
    fn from(contact: Contact) -> Self {
        match contact {
            Contact::Mqtt => Self::Mqtt,
            Contact::Media => Self::Media,
        }
    }
}

pub(crate) fn run(command: &SiteCommand, context: &ContextName, terminal: Terminal) -> Result<(), Failure> {
    let client = context.client()?;
    match command {
        SiteCommand::Token(command) => token::run(command, &client, terminal),
        SiteCommand::Pending(arguments) => pending(&client, arguments.output.format),
        SiteCommand::Approve(arguments) => approve(&client, arguments),
        SiteCommand::Reject(arguments) => {
            let path = route::fill(route::REQUEST_REJECT, &[arguments.request.as_str()]);
            client.tell(Method::POST, &path, &Reject { reason: arguments.reason.clone() })?;
            Ok(line(format!("request {} is turned away", arguments.request))?)
        }
        SiteCommand::List(arguments) => list(&client, arguments),
        SiteCommand::Show(arguments) => {
            let path = route::fill(route::SITE, &[arguments.site.as_str()]);
            show::show(&client.get::<SiteDetail>(&path)?, arguments.output.format, terminal.paints_answers())
        }
        SiteCommand::Label(arguments) => label(&client, arguments),
        SiteCommand::Revoke(arguments) => {
            let site = &arguments.site;
            terminal.confirm(&format!("Refuse the keys of site {site} from now on?"))?;
            let path = route::fill(route::SITE_REVOKE, &[site.as_str()]);
            let _: SiteInfo = client.post(&path, &RevokeSite { reason: arguments.reason.clone() })?;
            Ok(line(format!("site {site} is revoked; what runs there is left alone"))?)
        }
    }
}

fn pending(client: &Client, format: Format) -> Result<(), Failure> {
    let requests: Vec<RequestInfo> = client.pages(route::REQUESTS)?;
    let columns = ["REQUEST", "SITE", "FINGERPRINT", "CAME", "BY"];
    let mut table = Table::new("RequestList", &columns, &["MACHINE"]);
    for request in &requests {
        let machine: Vec<String> =
            request.machine.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let cells = vec![
            request.nonce.to_string(),
            request.site.as_ref().map_or_else(|| "-".into(), ToString::to_string),
            request.fingerprint.clone(),
            request.received_at.to_string(),
            request.carrier.clone(),
            machine.join(" "),
        ];
        table.row(request, &request.nonce, cells);
    }
    Ok(table.print(format)?)
}

fn approve(client: &Client, arguments: &ApproveSite) -> Result<(), Failure> {
    let nonce = match &arguments.request {
        Some(file) => import_request(client, file)?,
        None => find_request(client, &arguments.fingerprint)?,
    };
    let body = Approve {
        fingerprint: arguments.fingerprint.clone(),
        site: arguments.site.clone(),
        labels: arguments.labels.iter().cloned().collect(),
        contact: arguments.contact.map(Into::into),
        replace: arguments.replace,
    };
    let path = route::fill(route::REQUEST_APPROVE, &[nonce.as_str()]);
    let approved: Approved = client.post(&path, &body)?;
    Ok(line(format!("site {} is enrolled (incarnation {})", approved.site, approved.incarnation))?)
}

/// Hands a request from a stick to the hub, as `airlift media load` would.
fn import_request(client: &Client, file: &std::path::Path) -> Result<RandomId, Failure> {
    let envelope = envelope_file::read(file)?;
    let request: EnrolmentRequest = envelope
        .read_unverified(&Limits::DEFAULT)
        .map_err(|error| Failure::from(error).during(format!("{} is no request", file.display())))?;
    let text = String::from_utf8(envelope.to_json()).expect("an envelope is JSON, which is UTF-8");
    let name = format!("requests/{}.json", request.fingerprint());
    let import = MediaImport { files: vec![MediaFile { name, text }] };
    let imported: MediaImported = client.post(route::MEDIA_IMPORT, &import)?;
    match imported.files.into_iter().find_map(|file| file.refused.map(|code| (code, file.detail))) {
        Some((code, detail)) => Err(Failure::new(Kind::Refused, detail).code(code)),
        None => Ok(request.nonce),
    }
}

fn find_request(client: &Client, fingerprint: &str) -> Result<RandomId, Failure> {
    let digits = |text: &str| text.to_lowercase().replace(['-', ' '], "");
    let requests: Vec<RequestInfo> = client.pages(route::REQUESTS)?;
    let found = requests.into_iter().rfind(|request| digits(&request.fingerprint) == digits(fingerprint));
    found.map(|request| request.nonce).ok_or_else(|| {
        let failure = Failure::new(Kind::NotFound, "no waiting request has this fingerprint");
        failure.next(
            "Compare it with the site's screen; `airlift site pending` lists who waits. \
             If it differs, somebody else may be asking: do not approve. Nothing was changed.",
        )
    })
}

fn list(client: &Client, arguments: &List) -> Result<(), Failure> {
    let mut query = Vec::new();
    query.extend(arguments.selector.as_ref().map(|selector| format!("selector={}", encode(selector))));
    query.extend(arguments.app.as_ref().map(|app| format!("app={}", encode(app))));
    let path = match query.is_empty() {
        true => route::SITES.to_owned(),
        false => format!("{}?{}", route::SITES, query.join("&")),
    };
    let sites: Vec<SiteInfo> = client.pages(&path)?;
    Ok(site_rows(&sites).print(arguments.output.format)?)
}

fn label(client: &Client, arguments: &Label) -> Result<(), Failure> {
    let mut change = LabelChange::default();
    for text in &arguments.changes {
        match (text.split_once('='), text.strip_suffix('-')) {
            (Some((key, value)), _) => drop(change.set.insert(key.to_owned(), value.to_owned())),
            (None, Some(key)) => change.remove.push(key.to_owned()),
            (None, None) => {
                return Err(Failure::usage(format!("{text:?} is neither KEY=VALUE nor KEY-")));
            }
        }
    }
    let path = route::fill(route::SITE_LABELS, &[arguments.site.as_str()]);
    let site: SiteInfo = client.post(&path, &change)?;
    match arguments.output.format {
        Format::Json => Ok(print_json("Site", &site)?),
        _ => Ok(line(format!("{}: {}", site.site, labels(&site.labels)))?),
    }
}

/// Labels as text: `a=1,b=2`.
fn labels(labels: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    if pairs.is_empty() { "-".into() } else { pairs.join(",") }
}

/// Reads `KEY=VALUE`.
pub(crate) fn key_value(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').ok_or_else(|| format!("{text:?} is not KEY=VALUE"))?;
    Ok((pair.0.to_owned(), pair.1.to_owned()))
}

/// The word that JSON has for a value of an enumeration.
pub(crate) fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(word)) => word,
        Ok(other) => other.to_string(),
        Err(_) => "-".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_the_api() {
        assert_eq!(word(&ContactClass::Media), "media");
        assert_eq!(key_value("a=b=c").unwrap(), ("a".into(), "b=c".into()));
        assert!(key_value("a").is_err());
    }
}
