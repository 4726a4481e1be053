//! `airlift login`: where the hub is, how it is known, and the token that speaks for this person.
//!
//! A context is one file in `$XDG_CONFIG_HOME/airlift/contexts`, for its owner's eyes only.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use airlift_bundles::code::Code;
use airlift_bundles::ids::{Name, Sha256Digest};
use clap::Args;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::client::{Client, HubAddress, pin};
use super::envelope_file;
use super::failure::{Failure, Kind};
use super::output::line;
use super::terminal::read_secret_text;
use crate::api::types::{HubInfo, route};
use crate::config::{Config, DataDir};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  airlift login --data /var/lib/airlift-hub                  # on the hub's own machine
  airlift login https://hub.example:8443 --hub-key sha256:… --token-file token
  airlift login https://hub.example:8443 --hub-ca hub-ca.pem --token-file -

The hub's key digest is printed by `airlift hub init` and `airlift hub check --data DIR`.")]
pub(crate) struct Login {
    /// The hub's address: https://HOST:PORT
    #[arg(required_unless_present = "data")]
    url: Option<String>,
    /// Read the API token from this file (\"-\": standard input)
    #[arg(long, value_name = "FILE", required_unless_present = "data")]
    token_file: Option<PathBuf>,
    /// SHA-256 of the hub CA's key, as `airlift hub init` printed it
    #[arg(long, value_name = "DIGEST", conflicts_with = "hub_ca")]
    hub_key: Option<Sha256Digest>,
    /// The hub CA's certificate, PEM
    #[arg(long, value_name = "FILE")]
    hub_ca: Option<PathBuf>,
    /// The hub's data directory on this machine: token, key and address are read there
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

/// What a context file holds.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Context {
    url: String,
    hub_key_sha256: Sha256Digest,
    token: String,
}

/// Which context a command uses.
#[derive(Debug, Clone)]
pub(crate) struct ContextName(pub(crate) Name);

impl ContextName {
    /// Where the context's file is.
    pub(crate) fn file(&self) -> Result<PathBuf, Failure> {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let config = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")));
        let Some(config) = config else {
            return Err(Failure::usage("neither XDG_CONFIG_HOME nor HOME is set"));
        };
        Ok(config.join("airlift/contexts").join(format!("{}.json", self.0)))
    }

    /// Prepares to speak to the context's hub.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        let file = self.file()?;
        let text = read_secret_text(&file).map_err(|cause| match cause.kind() {
            io::ErrorKind::NotFound => {
                let failure =
                    Failure::new(Kind::Auth, format!("not logged in to a hub (context {})", self.0));
                failure.next(
                    "Run `airlift login`. Everything under key, root, bundle and explain works without.",
                )
            }
            _ => Failure::from(cause).during(format!("cannot read {}", file.display())),
        })?;
        let context: Context = serde_json::from_str(&text).map_err(|cause| {
            let failure = Failure::usage(format!("{} is no context: {cause}", file.display()));
            failure.code(Code::ConfigInvalid).next("Run `airlift login` again.")
        })?;
        Client::new(HubAddress::parse(&context.url)?, context.hub_key_sha256, Zeroizing::new(context.token))
    }
}

pub(crate) fn login(arguments: &Login, name: &ContextName) -> Result<(), Failure> {
    let data = arguments.data.as_deref().map(DataDir::new);
    let url = match (&arguments.url, &data) {
        (Some(url), _) => url.clone(),
        (None, Some(data)) => local_url(data)?,
        (None, None) => {
            return Err(Failure::usage("name the hub's address, or its data directory with --data"));
        }
    };
    let token_file = arguments.token_file.clone().or_else(|| data.as_ref().map(DataDir::admin_token));
    let token_file = token_file.ok_or_else(|| Failure::usage("name the token's file with --token-file"))?;
    let token = read_secret_text(&token_file)
        .map_err(|cause| Failure::from(cause).during(format!("cannot read {}", token_file.display())))?;
    let ca_file = arguments.hub_ca.clone().or_else(|| data.as_ref().map(DataDir::hub_ca));
    let hub_key_sha256 = match (arguments.hub_key, ca_file) {
        (Some(digest), _) => digest,
        (None, Some(file)) => key_of(&file)?,
        (None, None) => {
            let failure = Failure::usage("nothing says how the hub is known");
            return Err(
                failure.next("Give --hub-key or --hub-ca; `airlift hub init` printed the key's digest.")
            );
        }
    };
    let client = Client::new(HubAddress::parse(&url)?, hub_key_sha256, token.clone())?;
    let hub: HubInfo = client.get(route::HUB)?;
    let context = Context { url: url.clone(), hub_key_sha256, token: token.as_str().to_owned() };
    save(&name.file()?, &context)?;
    line(format!("logged in to the hub of fleet {} at {url} (context {})", hub.fleet_id, name.0))?;
    Ok(())
}

/// The address of a hub on this machine: the first host that its settings name.
pub(crate) fn local_url(data: &DataDir) -> Result<String, Failure> {
    let config =
        Config::load(data).map_err(|cause| Failure::new(Kind::Usage, cause).code(Code::ConfigInvalid))?;
    let host = config.hosts.first().map(String::as_str).unwrap_or_default().to_owned();
    let port = match config.https.port {
        0 => listened_port(data)?,
        port => port,
    };
    let address = HubAddress { host, port };
    Ok(format!("https://{}", address.authority()))
}

/// The port that a running hub chose, where its settings leave it to the system.
fn listened_port(data: &DataDir) -> Result<u16, Failure> {
    #[derive(Deserialize)]
    struct Ports {
        https: u16,
    }
    let file = data.path().join("ports");
    let text = fs::read_to_string(&file).map_err(|cause| {
        Failure::from(cause).during(format!("no hub runs: cannot read {}", file.display()))
    })?;
    let ports: Result<Ports, _> = toml::from_str(&text);
    ports.map(|ports| ports.https).map_err(|cause| Failure::new(Kind::Runtime, cause))
}

/// Digest of the key in a PEM certificate.
pub(crate) fn key_of(file: &Path) -> Result<Sha256Digest, Failure> {
    let refuse = || Failure::usage(format!("{} holds no certificate in PEM", file.display()));
    let bytes = fs::read(file)
        .map_err(|cause| Failure::from(cause).during(format!("cannot read {}", file.display())))?;
    let certificate = CertificateDer::from_pem_slice(&bytes).map_err(|_| refuse())?;
    pin::key_digest(&certificate).ok_or_else(refuse)
}

fn save(file: &Path, context: &Context) -> Result<(), Failure> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    let text = Zeroizing::new(serde_json::to_vec(context).expect("a context serialises without failure"));
    envelope_file::write_secret_whole(file, &text)
}
