//! Orders that only the running agent can carry out: `hold`, `unhold`, `retry`, `rollback`.

use airlift_bundles::code::Code;

use super::failure::{Ending, Failure};
use super::output::{self, printable};
use crate::config::Config;
use crate::control::client::{self, ClientError};
use crate::control::message::{Action, Answer};

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

pub(super) fn unexpected() -> Failure {
    Failure::new(Ending::Runtime, "the agent answered something else than was asked")
        .next("Restart the agent, so that it is of the version of this command.")
}
