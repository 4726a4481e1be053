//! `airlift site token`: what an operator hands to a new site; its text is shown once.

use std::path::PathBuf;

use airlift_bundles::ids::{RandomId, SiteId};
use clap::{Args, Subcommand};
use hyper::Method;

use super::{Contact, key_value, labels, word};
use crate::api::types::{TokenCreate, TokenCreated, TokenInfo, route};
use crate::cli::client::Client;
use crate::cli::envelope_file;
use crate::cli::failure::Failure;
use crate::cli::output::{Format, OutputArgs, Table, line, print_json};
use crate::cli::terminal::Terminal;

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token, good for one site
    #[command(after_help = "Examples:
  airlift site token create --site mast-17 --label region=north --out mast-17.token
  airlift site token create --valid 30d > token

At the site: airlift-agent enrol --hub https://… --token-file mast-17.token")]
    Create(Create),
    /// List tokens
    List(List),
    /// Make a token useless
    Revoke(Revoke),
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// The name that the site gets; the one that it asks for by default
    #[arg(long)]
    site: Option<SiteId>,
    /// A label that the site gets, KEY=VALUE; repeat
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = key_value)]
    labels: Vec<(String, String)>,
    /// How the site is reached
    #[arg(long, value_enum, default_value = "mqtt")]
    contact: Contact,
    /// How long the token is good: 90m, 24h, 30d (at most 90d)
    #[arg(long, value_name = "DURATION", value_parser = seconds)]
    valid: Option<u64>,
    /// Write the token to this new file, for its owner alone, instead of standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
pub(crate) struct Revoke {
    /// The token, as `airlift site token list` lists it
    token: RandomId,
}

pub(super) fn run(command: &TokenCommand, client: &Client, terminal: Terminal) -> Result<(), Failure> {
    match command {
        TokenCommand::Create(arguments) => create(client, arguments, terminal),
        TokenCommand::List(arguments) => list(client, arguments.output.format),
        TokenCommand::Revoke(arguments) => {
            let path = route::fill(route::TOKEN, &[arguments.token.as_str()]);
            client.tell(Method::DELETE, &path, &serde_json::json!({}))?;
            Ok(line(format!("token {} is revoked", arguments.token))?)
        }
    }
}

fn create(client: &Client, arguments: &Create, terminal: Terminal) -> Result<(), Failure> {
    if let Some(file) = &arguments.out {
        envelope_file::refuse_existing(file)?;
    }
    let request = TokenCreate {
        site: arguments.site.clone(),
        labels: arguments.labels.iter().cloned().collect(),
        contact: arguments.contact.into(),
        valid_s: arguments.valid,
    };
    let created: TokenCreated = client.post(route::TOKENS, &request)?;
    let info = &created.info;
    match (&arguments.out, arguments.output.format) {
        (Some(file), _) => {
            envelope_file::write_secret_whole(file, format!("{}\n", created.token).as_bytes())?;
            line(format!("{}: token {}, good until {}", file.display(), info.id, info.expires_at))?;
        }
        (None, Format::Json) => print_json("Token", &created)?,
        (None, _) => {
            line(&created.token)?;
            terminal.note(format!(
                "token {}, good for one site until {}; it is not shown again",
                info.id, info.expires_at
            ));
        }
    }
    Ok(())
}

fn list(client: &Client, format: Format) -> Result<(), Failure> {
    let tokens: Vec<TokenInfo> = client.pages(route::TOKENS)?;
    let columns = ["TOKEN", "SITE", "EXPIRES", "USED BY"];
    let mut table = Table::new("TokenList", &columns, &["CREATED", "CONTACT", "LABELS"]);
    let name = |site: &Option<SiteId>| site.as_ref().map_or_else(|| "-".into(), ToString::to_string);
    for token in &tokens {
        let cells = vec![
            token.id.to_string(),
            name(&token.site),
            token.expires_at.to_string(),
            name(&token.used_by),
            token.created_at.to_string(),
            word(&token.contact),
            labels(&token.labels),
        ];
        table.row(token, &token.id, cells);
    }
    Ok(table.print(format)?)
}

/// Reads `90m`, `24h`, `30d` or seconds.
fn seconds(text: &str) -> Result<u64, String> {
    let (number, unit) = match text.char_indices().last() {
        Some((at, 's')) => (&text[..at], 1),
        Some((at, 'm')) => (&text[..at], 60),
        Some((at, 'h')) => (&text[..at], 3600),
        Some((at, 'd')) => (&text[..at], 86400),
        _ => (text, 1),
    };
    let number: Option<u64> = number.parse().ok();
    number
        .and_then(|number| number.checked_mul(unit))
        .ok_or_else(|| format!("{text:?} is no duration such as 24h"))
}

#[cfg(test)]
mod tests {
    use super::seconds;

    #[test]
    fn durations_have_one_unit() {
        assert_eq!(seconds("24h"), Ok(86400));
        assert_eq!(seconds("90"), Ok(90));
        for bad in ["", "h", "1w", "-1h", "1.5h", "99999999999999999999d"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
