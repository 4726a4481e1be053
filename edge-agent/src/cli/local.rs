//! Commands that only the running agent can answer: `status`, `hold`, `unhold`, `retry`, `rollback`.

use airlift_bundles::code::Code;

use super::failure::{Ending, Failure};
use super::output::{self, Format, human_bytes, json_of, printable, table_of};
use crate::config::Config;
use crate::control::client::{self, ClientError};
use crate::control::message::{Action, Answer, AppView, StatusView};

/// Shows how the site is.
pub(super) async fn status(config: &Config, format: Format) -> Result<(), Failure> {
    let Answer::Status(status) = ask(config, Action::Status).await? else { return Err(unexpected()) };
    match format {
        Format::Json => output::show(&json_of("SiteStatus", &status)),
        Format::Table => output::show(&describe(&status)),
    }
    Ok(())
}

/// Gives an order about an app.
pub(super) async fn order(config: &Config, action: Action) -> Result<(), Failure> {
    match ask(config, action).await? {
        Answer::Done(words) => {
            output::show(&format!("{}\n", printable(&words)));
            Ok(())
        }
        _ => Err(unexpected()),
    }
}

/// Asks the running agent, and makes a refusal the command's own.
pub(super) async fn ask(config: &Config, action: Action) -> Result<Answer, Failure> {
    let exchange = async {
        let stream = client::connect(&config.control_socket).await?;
        client::ask(stream, action, |_| {}).await
    };
    answered(exchange.await.map_err(|error| absent(config, error))?)
}

/// Turns a refusal into a bad ending.
pub(super) fn answered(answer: Answer) -> Result<Answer, Failure> {
    match answer {
        Answer::Refused { code, reason } => {
            let failure = Failure::coded(code, printable(&reason));
            // A person's order that does not fit is a plain no; nothing was verified.
            Err(match code {
                Code::Conflict | Code::NotFound => failure
                    .ending(Ending::No)
                    .next("See `airlift-agent status` for what is there and what is being done."),
                Code::RequestInvalid => failure.ending(Ending::Runtime),
                _ => failure,
            })
        }
        answer => Ok(answer),
    }
}

/// Nobody answered.
pub(super) fn absent(config: &Config, error: ClientError) -> Failure {
    let (ending, next) = match &error {
        ClientError::Absent { .. } => (
            Ending::Unreachable,
            "Start it: `systemctl start airlift-agent`, or `airlift-agent run`. What runs in the cluster goes on \
             without it.",
        ),
        ClientError::Forbidden(_) => (Ending::Runtime, "Run the command as the user that the agent runs as."),
        ClientError::Line(_) => (Ending::Runtime, "Ask again; the agent may have been ending."),
    };
    let socket = config.control_socket.display();
    Failure::new(ending, error).next(format!("{next} (control socket: {socket})"))
}

fn unexpected() -> Failure {
    Failure::new(Ending::Runtime, "the agent answered something else than was asked")
        .next("Restart the agent, so that it is of the version of this command.")
}

fn describe(status: &StatusView) -> String {
    let yes = |is: bool, yes: &'static str, no: &'static str| if is { yes } else { no };
    let assignment = match (status.assignment_seq, status.assignment_parked) {
        (0, false) => "none yet".to_owned(),
        (seq, true) => format!("{seq}; a newer one waits for documents"),
        (seq, false) => seq.to_string(),
    };
    let mut text = format!(
        "site       {} (as of {})\nhub        {}\ncluster    {}\nroot       {}\nassignment {assignment}\nreceipts   {} waiting\n",
        status.site,
        status.time,
        yes(status.connected, "connected", "not connected"),
        yes(status.cluster_up, "answers", "does not answer"),
        status.root_version,
        status.receipts_waiting,
    );
    if status.apps.is_empty() {
        text.push_str("\nno apps\n");
        return text;
    }
    let rows: Vec<Vec<String>> = status.apps.iter().map(app_row).collect();
    text.push('\n');
    text.push_str(&table_of(&["APP", "STATE", "VERSION", "TARGET", "OBJECTS", "SINCE", "DETAIL"], &rows));
    for app in &status.apps {
        for seen in &app.evidence {
            let (object, reason, message) = (&seen.object, &seen.reason, &seen.message);
            text.push_str(&printable(&format!("  {}: {object}: {reason}: {message}", app.app)));
            text.push('\n');
        }
    }
    text
}

fn app_row(app: &AppView) -> Vec<String> {
    let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let fetched = app.fetched_bytes.zip(app.wanted_bytes);
    let detail = match (fetched, app.code) {
        (Some((have, want)), _) if have < want => format!("{} of {}", human_bytes(have), human_bytes(want)),
        (_, Some(code)) => format!("{code} {}: {}", code.title(), app.reason),
        (_, None) => app.reason.clone(),
    };
    vec![
        app.app.to_string(),
        app.state.word().to_owned(),
        or_dash(&app.version),
        or_dash(&app.target_version),
        format!("{}/{}", app.objects_applied, app.objects),
        app.since.map_or_else(|| "-".to_owned(), |since| since.to_string()),
        detail,
    ]
}
