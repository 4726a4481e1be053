//! The commands' end of the control socket.

use std::io;
use std::path::{Path, PathBuf};

use tokio::io::BufReader;
use tokio::net::UnixStream;

use super::message::{Action, Answer, Request};
use super::{ANSWER_BYTES_MAX, LineError, VERSION, read_line, write_line};
use crate::receive::media::Progress;

/// The agent was not asked, or gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No agent listens.
    #[error("no agent answers at {path}")]
    Absent {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The caller may not.
    #[error("not allowed to speak to the agent at {0}")]
    Forbidden(PathBuf),
    /// The conversation broke.
    #[error("the agent's answer did not come")]
    Line(#[from] LineError),
}

/// Connects to the agent.
///
/// # Errors
/// [`ClientError::Absent`] or [`ClientError::Forbidden`].
pub async fn connect(socket: &Path) -> Result<UnixStream, ClientError> {
    UnixStream::connect(socket).await.map_err(|source| match source.kind() {
        io::ErrorKind::PermissionDenied => ClientError::Forbidden(socket.to_owned()),
        _ => ClientError::Absent { path: socket.to_owned(), source },
    })
}

/// Asks, tells progress, and gives the last answer.
///
/// # Errors
/// [`ClientError::Line`].
pub async fn ask(
    mut stream: UnixStream,
    action: Action,
    mut progress: impl FnMut(Progress),
) -> Result<Answer, ClientError> {
    let (reader, mut writer) = stream.split();
    let mut reader = BufReader::new(reader);
    write_line(&mut writer, &Request { version: VERSION, action }).await?;
    loop {
        let line = read_line(&mut reader, ANSWER_BYTES_MAX).await?;
        match serde_json::from_slice(&line).map_err(|error| LineError::Foreign(error.to_string()))? {
            Answer::Progress(now) => progress(now),
            answer => return Ok(answer),
        }
    }
}
