//! `support-bundle`: what somebody far away needs to see, as one file on a stick.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::failure::{Ending, Failure};
use super::output::{self, Format, OutputArgs, human_bytes, json_of, printable};
use super::status::LastKnown;
use super::{doctor, history, local, trust};
use crate::config::Config;
use crate::control::client;
use crate::control::client::ClientError;
use crate::control::message::{Action, Answer};
use crate::store::Peek;
use crate::support::archive::Draft;
use crate::support::gather::gather;

/// Receipts that are told.
const RECEIPTS: usize = 200;

#[derive(Debug, Args)]
pub(super) struct SupportArgs {
    /// Directory to write to, such as a stick's
    #[arg(long, value_name = "DIR", default_value = ".")]
    to: PathBuf,
    #[command(flatten)]
    output: OutputArgs,
}

/// Makes a support bundle.
pub(super) async fn support_bundle(config: &Config, args: &SupportArgs) -> Result<(), Failure> {
    if !args.to.is_dir() {
        let failure = Failure::new(Ending::Usage, format!("{} is no directory", args.to.display()));
        return Err(failure.next("Name a directory with `--to`; is the stick mounted?"));
    }
    let mut draft = gather(config).await;
    add_status(config, &mut draft).await;
    add_log(config, &mut draft).await;
    match history::newest(config, RECEIPTS) {
        Ok(history) => draft.add("history.json", "what happened, newest first", &history),
        Err(failure) => draft.miss("history.json", failure),
    }
    match trust::known(config) {
        Ok(trust) => {
            draft.add("trust.json", "whom this site believes: public keys' ids and counters", &trust)
        }
        Err(failure) => draft.miss("trust.json", failure),
    }
    draft.add("doctor.json", "the checks of `airlift-agent doctor`", &doctor::diagnose(config).await);
    let rows = Peek::open(&config.state_dir).and_then(|peek| peek.rows()).unwrap_or_default();
    let site = rows.meta.map(|meta| meta.site);
    let written = draft.write(&args.to, site.as_ref(), super::state::known_time()).map_err(|error| {
        let failure = Failure::new(Ending::Runtime, error);
        failure.next(format!("Check that {} can be written and has room.", args.to.display()))
    })?;
    match args.output.format {
        Format::Json => output::show(&json_of("SupportBundleWritten", &written)),
        Format::Table => {
            let mut text = format!(
                "{}\n{}, {} files; {} secrets were taken out. MANIFEST.json says what is in it and what is not.\n",
                written.path.display(),
                human_bytes(written.bytes),
                written.files,
                written.redacted
            );
            for missed in &written.not_had {
                text.push_str(&format!("not had: {}\n", printable(missed)));
            }
            output::show(&text);
        }
    }
    Ok(())
}

async fn ask(config: &Config, action: Action) -> Result<Answer, ClientError> {
    let stream = client::connect(&config.control_socket).await?;
    client::ask(stream, action, |_| {}).await
}

async fn add_status(config: &Config, draft: &mut Draft) {
    let name = "status.json";
    match ask(config, Action::Status).await {
        Ok(Answer::Status(status)) => draft.add(name, "how the agent says that the site is", &status),
        Ok(_) => draft.miss(name, "the agent answers something else"),
        Err(error) => {
            draft.miss("the agent's own answer", local::absent(config, error));
            match LastKnown::read(&config.state_dir) {
                Some(known) => {
                    draft.add(
                        name,
                        "the last that the database knows; no agent answered",
                        &json!({ "last_known": known }),
                    );
                }
                None => draft.miss(name, "no agent answers, and no site is enrolled here"),
            }
        }
    }
}

async fn add_log(config: &Config, draft: &mut Draft) {
    match ask(config, Action::Log).await {
        Ok(Answer::Log(text)) => draft.add_text("agent.log", "the newest lines of the running agent", &text),
        Ok(_) => draft.miss("agent.log", "the agent is of an earlier version"),
        Err(_) => {
            draft.miss("agent.log", "no agent answers; its lines are in the journal, where there is one")
        }
    }
}

#[cfg(test)]
mod tests;
