//! The agent's end of the control socket.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use airlift_bundles::causes::in_one_line;
use airlift_bundles::code::Code;
use tokio::io::BufReader;
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tracing::{debug, warn};

use super::message::{Action, Answer, MISSING_MAX, Request, StatusView};
use super::{LineError, REQUEST_BYTES_MAX, VERSION, read_line, write_line};
use crate::core::event::{LocalCommand, MediaId};
use crate::core::status::LocalReply;
use crate::receive::media::{LoadError, Loader, Progress, ReceiptWriter, open_source};
use crate::support::ring::Ring;

/// People and scripts at one site.
const CONNECTIONS_MAX: usize = 8;
/// Longest wait for a request to be written.
const REQUEST_PATIENCE: Duration = Duration::from_secs(10);
/// Between two progress lines.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// What requests are carried out with.
#[derive(Clone)]
pub struct Hands {
    /// Loads media; it holds the desk too.
    pub loader: Loader,
    /// Writes receipts.
    pub writer: ReceiptWriter,
    /// The newest lines of the agent's log.
    pub log: Ring,
}

/// The socket, bound.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl ControlSocket {
    /// Binds the socket for its owner alone. The caller holds the state directory, so whatever stands there is left
    /// over from a process that was killed.
    ///
    /// # Errors
    /// [`io::Error`], `AddrInUse` where another agent answers there.
    pub fn bind(path: &Path) -> io::Result<Self> {
        let dir = path.parent().unwrap_or(Path::new("."));
        if !dir.is_dir() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        }
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another agent answers there"));
        }
        // Bound beside and renamed, so that it is never open to others under its name.
        let beside = path.with_extension("new");
        for stale in [&beside, path] {
            match fs::remove_file(stale) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        let listener = UnixListener::bind(&beside)?;
        fs::set_permissions(&beside, fs::Permissions::from_mode(0o600))?;
        fs::rename(&beside, path)?;
        Ok(Self { listener, path: path.to_owned() })
    }

    /// Serves until the future is dropped.
    pub async fn serve(self, hands: Hands) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            // Where all places are taken, further callers wait in the kernel's queue.
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(fault) => {
                    warn!(%fault, "control socket does not accept");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    continue;
                }
            };
            let hands = hands.clone();
            tokio::spawn(async move {
                if let Err(fault) = converse(stream, hands).await {
                    debug!(%fault, "a local request ended early");
                }
                drop(place);
            });
        }
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path); // a leftover is removed by the next start
    }
}

async fn converse(stream: UnixStream, hands: Hands) -> Result<(), LineError> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let line = timeout(REQUEST_PATIENCE, read_line(&mut reader, REQUEST_BYTES_MAX));
    let answer = match line.await {
        Ok(Ok(line)) => match serde_json::from_slice::<Request>(&line) {
            Ok(Request { version: VERSION, action }) => {
                // A caller that leaves takes its request along; what the core has committed stays.
                let gone = read_line(&mut reader, REQUEST_BYTES_MAX);
                tokio::select! {
                    answer = carry_out(action, &hands, &mut writer) => answer,
                    _ = gone => return Err(LineError::Ended),
                }
            }
            Ok(Request { version, .. }) => invalid(format!("version {version} of the socket is not known")),
            Err(error) => invalid(format!("not a request: {error}")),
        },
        Ok(Err(LineError::TooLong(limit))) => invalid(format!("the request is over {limit} bytes")),
        Ok(Err(error)) => return Err(error),
        Err(_) => invalid("no request came".to_owned()),
    };
    write_line(&mut writer, &answer).await
}

fn invalid(reason: String) -> Answer {
    Answer::Refused { code: Code::RequestInvalid, reason }
}

async fn carry_out(action: Action, hands: &Hands, writer: &mut OwnedWriteHalf) -> Answer {
    let command = match action {
        Action::Status => LocalCommand::Status,
        Action::Hold(app) => LocalCommand::Hold(app),
        Action::Unhold(app) => LocalCommand::Unhold(app),
        Action::Retry(app) => LocalCommand::Retry(app),
        Action::Rollback(app) => LocalCommand::Rollback(app),
        Action::MediaLoad(path) => return load(path, hands, writer).await,
        Action::MediaSave(path) => return save(path, hands).await,
        Action::Log => return Answer::Log(hands.log.text()),
    };
    match hands.loader.desk.ask(command).await {
        Ok(LocalReply::Status(report)) => {
            let missing = hands.loader.content.wanted(MISSING_MAX);
            Answer::Status(Box::new(StatusView::new(*report, missing)))
        }
        Ok(LocalReply::Done(words)) => Answer::Done(words),
        Ok(LocalReply::Refused { code, reason }) => Answer::Refused { code, reason },
        Err(error) => Answer::Refused { code: Code::StoreFailed, reason: error.to_string() },
    }
}

async fn load(path: PathBuf, hands: &Hands, writer: &mut OwnedWriteHalf) -> Answer {
    let media = MediaId(path.display().to_string());
    let source = match tokio::task::spawn_blocking(move || open_source(&path)).await {
        Ok(Ok(source)) => source,
        Ok(Err(error)) => return Answer::Refused { code: error.code(), reason: in_one_line(&error) },
        Err(_) => {
            return Answer::Refused { code: Code::MediaCutShort, reason: "the media was not opened".into() };
        }
    };
    let (sender, mut told) = mpsc::channel::<Progress>(1);
    let mut progress = |now| {
        let _ = sender.try_send(now); // only news
    };
    let loading = hands.loader.load(&media, &source, &mut progress);
    tokio::pin!(loading);
    loop {
        tokio::select! {
            biased;
            outcome = &mut loading => return answer_of(outcome),
            Some(now) = told.recv() => {
                if write_line(writer, &Answer::Progress(now)).await.is_err() {
                    debug!("nobody listens to the progress any more");
                }
                // The load goes on meanwhile; only the telling has a rhythm.
                tokio::select! {
                    outcome = &mut loading => return answer_of(outcome),
                    () = tokio::time::sleep(PROGRESS_EVERY) => {}
                }
            }
        }
    }
}

fn answer_of(outcome: Result<crate::receive::media::Loaded, LoadError>) -> Answer {
    match outcome {
        Ok(loaded) => Answer::Loaded(Box::new(loaded)),
        Err(error) => Answer::Refused { code: error.code(), reason: in_one_line(&error) },
    }
}

async fn save(path: PathBuf, hands: &Hands) -> Answer {
    let media = MediaId(format!("save {}", path.display()));
    match hands.writer.save(&hands.loader.desk, media, path).await {
        Ok(saved) => Answer::Saved(saved),
        Err(error) => Answer::Refused { code: error.code(), reason: in_one_line(&error) },
    }
}
