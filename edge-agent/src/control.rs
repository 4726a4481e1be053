//! Local control: people at the site ask and order over a unix socket that only the agent's own user may open.
//!
//! One request a connection, one line of JSON each way, progress lines in between; every line is bounded before it
//! is parsed. Orders become events like any other, so each is committed and receipted before it is answered.

pub mod client;
pub mod desk;
pub mod message;
pub mod server;

use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Version of the lines; another one is refused rather than guessed at.
pub const VERSION: u32 = 1;
/// Longest request: a path and a few words.
pub const REQUEST_BYTES_MAX: u64 = 64 << 10;
/// Longest answer: the status of 256 apps with 8 KiB of evidence each, or a page of history.
pub const ANSWER_BYTES_MAX: u64 = 8 << 20;

/// A line that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// The other end closed before a line ended.
    #[error("the connection ended in the middle")]
    Ended,
    /// The line is longer than it may be.
    #[error("a line is over {0} bytes")]
    TooLong(u64),
    /// It is not what this version says.
    #[error("a line is not of this version: {0}")]
    Foreign(String),
    /// The socket failed.
    #[error("the socket failed")]
    Io(#[from] std::io::Error),
}

/// Reads one line of at most `limit` bytes.
async fn read_line(reader: &mut (impl AsyncBufRead + Unpin), limit: u64) -> Result<Vec<u8>, LineError> {
    let mut line = Vec::new();
    reader.take(limit + 1).read_until(b'\n', &mut line).await?;
    if line.last() == Some(&b'\n') {
        line.pop();
        Ok(line)
    } else if line.len() as u64 > limit {
        Err(LineError::TooLong(limit))
    } else {
        Err(LineError::Ended)
    }
}

async fn write_line(
    writer: &mut (impl AsyncWrite + Unpin),
    value: &impl serde::Serialize,
) -> Result<(), LineError> {
    let mut line = serde_json::to_vec(value).map_err(|error| LineError::Foreign(error.to_string()))?;
    line.push(b'\n');
    writer.write_all(&line).await?;
    writer.flush().await?;
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests;
