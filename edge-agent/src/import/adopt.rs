//! Asks Kubernetes' side of the runtime whether a pod would find an image: the proof that an import is done.

use std::time::Duration;

use airlift_bundles::ids::Sha256Digest;
use tonic::{Code, Status};

use super::messages::{ImageSpec, ImageStatusRequest, ImageStatusResponse, InfoRequest, InfoResponse};
use super::name::ImageName;
use super::records;
use super::socket::{CALL_TIMEOUT, Socket};
use crate::ports::images::ImportError;

/// Kubernetes' side follows containerd's events, usually within milliseconds; a loaded Pi needs seconds.
const TRIES: u32 = 120;
const PAUSE: Duration = Duration::from_millis(250);
/// After this many tries without an answer its event is taken for lost, and sent again.
const TOUCH_EVERY: u32 = 12;

/// Waits until the name answers with this image.
pub(super) async fn prove(
    socket: &Socket,
    reference: &str,
    name: &ImageName,
    config: Sha256Digest,
) -> Result<(), ImportError> {
    let mut found = None;
    for attempt in 1..=TRIES {
        found = status(socket, reference).await?;
        if found == Some(config) {
            return Ok(());
        }
        if attempt % TOUCH_EVERY == 0 {
            records::touch(socket, &name.lookup()).await?;
        }
        tokio::time::sleep(PAUSE).await;
    }
    let reason = match found {
        None => "it does not know the name".to_owned(),
        Some(other) => format!("it answers with image {other} instead of {config}"),
    };
    Err(ImportError::NotAdopted { reference: reference.to_owned(), reason })
}

/// The image that a pod would get for a name, if its record and its top document are still there.
///
/// The answer of Kubernetes' side alone is a memory: it keeps saying yes after a blob was removed by hand.
pub(super) async fn find(socket: &Socket, reference: &str) -> Result<Option<Sha256Digest>, ImportError> {
    // What cannot be a name is no image's name.
    let Ok(name) = ImageName::parse(reference) else { return Ok(None) };
    let Some(id) = status(socket, reference).await? else { return Ok(None) };
    let Some(record) = records::get(socket, &name.lookup()).await? else { return Ok(None) };
    let method = "/containerd.services.content.v1.Content/Info";
    let question = InfoRequest { digest: records::target_of(&record).to_owned() };
    match socket.call::<_, InfoResponse>(method, None, CALL_TIMEOUT, question).await {
        Ok(_) => Ok(Some(id)),
        Err(status) if status.code() == Code::NotFound => Ok(None),
        Err(status) => Err(socket.failed("looking for an image", &status)),
    }
}

async fn status(socket: &Socket, reference: &str) -> Result<Option<Sha256Digest>, ImportError> {
    let method = "/runtime.v1.ImageService/ImageStatus";
    let question = ImageStatusRequest { image: Some(ImageSpec { image: reference.to_owned() }) };
    let answer: Result<ImageStatusResponse, Status> = socket.call(method, None, CALL_TIMEOUT, question).await;
    let answer = answer.map_err(|status| socket.failed("asking for an image", &status))?;
    Ok(answer.image.and_then(|image| image.id.parse().ok()))
}
