//! `airlift root publish`: the hub takes a chain of roots on, as a site does.

use std::path::PathBuf;

use clap::Args;
use serde_json::value::RawValue;

use super::show::{read_chain, walk};
use crate::api::types::{RootList, RootsPublish, route};
use crate::cli::client::Client;
use crate::cli::failure::{Failure, Kind};
use crate::cli::output::{OutputArgs, Table};

#[derive(Debug, Args)]
#[command(after_help = "Example:
  airlift root publish roots/

Roots that the hub has are skipped. Sites get the new ones with their next message or stick.")]
pub(crate) struct Publish {
    /// Root files, or a folder of VERSION.json
    #[arg(required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) fn publish(arguments: &Publish, client: &Client) -> Result<(), Failure> {
    let chain = read_chain(&arguments.files)?;
    walk(&chain, None)?;
    let roots: Result<Vec<Box<RawValue>>, _> =
        chain.iter().map(|(_, bytes)| serde_json::from_slice(bytes)).collect();
    let roots = roots.map_err(|cause| Failure::new(Kind::Usage, cause))?;
    let list: RootList = client.post(route::ROOTS, &RootsPublish { roots })?;
    let mut table = Table::new("RootList", &["VERSION", "DIGEST", "ISSUED"], &[]);
    for root in &list.roots {
        let cells = vec![root.version.to_string(), root.sha256.to_string(), root.issued_at.to_string()];
        table.row(root, root.version, cells);
    }
    Ok(table.print(arguments.output.format)?)
}
