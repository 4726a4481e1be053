//! `enrol`: joining a fleet, online with a token or offline with a stick.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use airlift_bundles::code::Code;
use airlift_bundles::document::enrolment::Grant;
use airlift_bundles::ids::{FleetId, Sha256Digest, SiteId};
use airlift_bundles::join::EnrolmentToken;
use airlift_bundles::media::{MediaDirectoryWriter, MediaError};
use clap::Args;

use super::failure::{Ending, Failure};
use super::output;
use super::state::{State, known_time, pinned_root};
use crate::config::Config;
use crate::enrol::identity::Ask;
use crate::enrol::offline;
use crate::enrol::online::{JoinError, join};
use crate::http::Endpoint;
use crate::receive::media::{Source, open_source};
use crate::tls;

/// A token is one line.
const TOKEN_BYTES_MAX: u64 = 4096;
const HTTPS_PORT: u16 = 8443;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  airlift-agent enrol --hub https://hub.example:8443 --token-file token
  airlift-agent enrol --media /media/stick --root-sha256 sha256:… --fleet lab --site berta

Offline, the request is written onto the stick and the site's fingerprint is shown. Take the stick to the hub,
compare the fingerprint there, and bring the stick back: `airlift-agent media load`, or this command again, takes
the grant.")]
pub(super) struct EnrolArgs {
    /// The hub: https://HOST:PORT, HOST:PORT or HOST
    #[arg(long, value_name = "URL", requires = "token_file", required_unless_present = "media")]
    hub: Option<String>,
    /// File with the enrolment token, or - for standard input
    #[arg(long, value_name = "FILE", requires = "hub")]
    token_file: Option<PathBuf>,
    /// A stick that carries the request out and the grant in
    #[arg(long, value_name = "DIR", conflicts_with = "hub")]
    media: Option<PathBuf>,
    /// Digest of the fleet's first root, where the configuration does not pin it
    #[arg(long, value_name = "SHA256")]
    root_sha256: Option<Sha256Digest>,
    /// The fleet, where neither the configuration nor a root on the stick names it
    #[arg(long, conflicts_with = "hub")]
    fleet: Option<FleetId>,
    /// The name that this site would like
    #[arg(long, value_name = "NAME")]
    site: Option<SiteId>,
}

/// Joins a fleet.
pub(super) async fn enrol(config: &Config, args: EnrolArgs) -> Result<(), Failure> {
    let mut state = State::open(config).await?;
    if let Some(enrolled) = state.enrolled(config)? {
        let message = format!("this site is enrolled already, as {}", enrolled.meta.site);
        return Err(Failure::new(Ending::No, message).next(
            "Nothing, if that is right. To enrol it anew, stop the agent and move its state directory away.",
        ));
    }
    match (&args.hub, &args.token_file, &args.media) {
        (Some(hub), Some(file), _) => {
            let grant = online(config, &mut state, hub, file, &args).await?;
            welcome(&grant);
            Ok(())
        }
        (_, _, Some(stick)) => by_media(config, &mut state, stick, &args).await,
        _ => Err(Failure::new(Ending::Usage, "give `--hub` with `--token-file`, or `--media`")),
    }
}

/// Says that the site is enrolled.
pub(super) fn welcome(grant: &Grant) {
    let (site, fleet, incarnation) = (&grant.site, &grant.fleet_id, grant.incarnation);
    output::show(&format!("enrolled as site {site} of fleet {fleet} (incarnation {incarnation})\n"));
}

async fn online(
    config: &Config,
    state: &mut State,
    hub: &str,
    file: &Path,
    args: &EnrolArgs,
) -> Result<Grant, Failure> {
    let token = EnrolmentToken::parse(&read_token(file)?)
        .map_err(|error| Failure::coded(Code::TokenRefused, error))?;
    let root_sha256 =
        pinned_root(config, args.root_sha256.or(config.root_sha256).or(Some(token.root_sha256)))?;
    if root_sha256 != token.root_sha256 {
        let message = format!("the token is for root {}, this site pins {root_sha256}", token.root_sha256);
        return Err(Failure::coded(Code::RootNotPinned, message));
    }
    let (host, port) = parse_hub(hub)?;
    let settings = tls::pinned(token.hub_key_sha256).map_err(|error| Failure::new(Ending::Runtime, error))?;
    let endpoint = Endpoint { host, port, tls: Arc::new(settings) };
    let ask = Ask {
        fleet_id: token.fleet_id.clone(),
        root_sha256,
        site: args.site.clone(),
        token: Some(token),
        now: known_time(),
    };
    let (_, request) = state.identity.request(&ask)?;
    let mut shown = false;
    let granted = join(&endpoint, request, state.identity.nonce(), |fingerprint| {
        if !shown {
            output::say(&format!(
                "waiting for approval at the hub; this site's fingerprint is\n  {fingerprint}"
            ));
            shown = true;
        }
    })
    .await?;
    state.take_grant(config, &root_sha256, &granted).await
}

async fn by_media(config: &Config, state: &mut State, stick: &Path, args: &EnrolArgs) -> Result<(), Failure> {
    let root_sha256 = pinned_root(config, args.root_sha256)?;
    if let Some(grant) = grant_from(config, state, stick, &root_sha256).await? {
        welcome(&grant);
        return Ok(());
    }
    let fleet = args.fleet.clone();
    let fingerprint = request_onto(config, state, stick, fleet, args.site.clone(), root_sha256)?;
    output::show(&format!(
        "request written to {}\nfingerprint: {fingerprint}\nnext: take the stick to the hub, compare the \
         fingerprint there, and bring the stick back\n",
        stick.display()
    ));
    Ok(())
}

/// Takes this site's grant from a stick or tar file, where there is one.
pub(super) async fn grant_from(
    config: &Config,
    state: &mut State,
    media: &Path,
    root_sha256: &Sha256Digest,
) -> Result<Option<Grant>, Failure> {
    let source = match open_source(media) {
        Ok(source) => source,
        Err(MediaError::NotMedia(_)) if media.is_dir() => return Ok(None),
        Err(error) => return Err(Failure::coded(error.code(), error)),
    };
    match offline::read_grant(source.as_ref(), &state.identity)? {
        Some(granted) => state.take_grant(config, root_sha256, &granted).await.map(Some),
        None => Ok(None),
    }
}

/// Writes this site's request onto a stick, and gives its fingerprint.
pub(super) fn request_onto(
    config: &Config,
    state: &State,
    stick: &Path,
    fleet: Option<FleetId>,
    site: Option<SiteId>,
    root_sha256: Sha256Digest,
) -> Result<String, Failure> {
    let media = open_source(stick).ok(); // none where the stick holds nothing of ours yet
    if let (Some(media), None) = (&media, &site)
        && let Some(fingerprint) = offline::request_on(media.as_ref(), &state.identity)?
    {
        return Ok(fingerprint); // written before, with what was wished then
    }
    let named = |media: &Source| offline::fleet_on(media.as_ref(), &root_sha256);
    let fleet_id = match fleet.or_else(|| config.fleet.clone()) {
        Some(fleet) => fleet,
        None => media.as_ref().map(named).transpose()?.flatten().ok_or_else(|| {
            Failure::coded(Code::ConfigInvalid, "the fleet is not known here").next(
                "Give `--fleet`, set `fleet` in agent.toml, or bring a stick that `airlift media save` wrote.",
            )
        })?,
    };
    let ask = Ask { fleet_id, root_sha256, site, token: None, now: known_time() };
    let mut writer =
        MediaDirectoryWriter::open(stick).map_err(|error| Failure::coded(error.code(), error))?;
    Ok(offline::write_request(&state.identity, &ask, &mut writer)?)
}

fn read_token(file: &Path) -> Result<String, Failure> {
    let unreadable = |error| {
        Failure::new(Ending::Usage, error).next(format!("Check that {} is the token's file.", file.display()))
    };
    let mut text = String::new();
    let read = if file == Path::new("-") {
        std::io::stdin().take(TOKEN_BYTES_MAX).read_to_string(&mut text)
    } else {
        let opened = std::fs::File::open(file).map_err(unreadable)?;
        opened.take(TOKEN_BYTES_MAX).read_to_string(&mut text)
    };
    read.map_err(unreadable)?;
    Ok(text)
}

/// Host and port of `https://HOST:PORT`, `HOST:PORT`, `HOST` or `[ADDRESS]:PORT`.
fn parse_hub(text: &str) -> Result<(String, u16), Failure> {
    let refuse =
        || Failure::new(Ending::Usage, format!("{text:?} names no hub: https://HOST:PORT is expected"));
    if text.contains("://") && !text.starts_with("https://") {
        return Err(refuse());
    }
    let rest = text.strip_prefix("https://").unwrap_or(text).trim_end_matches('/');
    let (host, port) = match rest.strip_prefix('[') {
        Some(address) => {
            let (host, after) = address.split_once(']').ok_or_else(refuse)?;
            (host, after.strip_prefix(':'))
        }
        None => match rest.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') => (host, Some(port)),
            _ => (rest, None), // a name, or an IPv6 address, alone
        },
    };
    let port = port.map_or(Ok(HTTPS_PORT), str::parse).map_err(|_| refuse())?;
    if host.is_empty() || host.contains(['/', '@', '?']) {
        Err(refuse())
    } else {
        Ok((host.to_owned(), port))
    }
}

impl From<JoinError> for Failure {
    fn from(error: JoinError) -> Self {
        match &error {
            JoinError::Http(_) => Self::coded(Code::HubUnreachable, error),
            JoinError::Refused { code, .. } => Self::coded(code.unwrap_or(Code::RequestInvalid), error),
            JoinError::Rejected(_) => Self::new(Ending::Refused, error)
                .next("Ask the operator why; a new request needs a new token and a new state directory."),
            JoinError::Reply(_) => Self::new(Ending::Runtime, error)
                .next("Check that the address is the hub's, and that hub and agent are of one version."),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hubs_are_named_in_four_ways_and_no_other() {
        let parsed = |text| parse_hub(text).ok();
        assert_eq!(parsed("https://hub.example:9443/"), Some(("hub.example".into(), 9443)));
        assert_eq!(parsed("10.0.0.1:9443"), Some(("10.0.0.1".into(), 9443)));
        assert_eq!(parsed("hub"), Some(("hub".into(), 8443)));
        assert_eq!(parsed("https://[fd00::1]:1"), Some(("fd00::1".into(), 1)));
        assert_eq!(parsed("fd00::1"), Some(("fd00::1".into(), 8443)));
        for bad in ["http://hub", "https://", "hub:port", "user@hub", "https://hub/path", "[fd00::1"] {
            assert_eq!(parsed(bad), None, "{bad}");
        }
    }
}
