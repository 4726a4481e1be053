//! Image records: the names under which pods find an image, and which of them are ours to change.

use airlift_bundles::ids::Sha256Digest;
use tonic::{Code, Status};

use super::labels::{CONFIG, MANAGED, PINNED, RECORD};
use super::messages::{
    CriContainer, DeleteImageRequest, Descriptor, Empty, FieldMask, GetImageRequest, Image, ImageEnvelope,
    Labels, ListContainersResponse, ListImagesResponse, ListRequest, UpdateImageRequest,
};
use super::name::ImageName;
use super::socket::{CALL_TIMEOUT, Socket};
use crate::ports::images::{ImportError, Removal};

/// Where all records of one import point.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) descriptor: Descriptor,
    pub(super) config: Sha256Digest,
}

/// Refuses before any byte moves if a name means another image that is not ours.
pub(super) async fn check_free(
    socket: &Socket,
    names: &[String],
    target: &Descriptor,
) -> Result<(), ImportError> {
    for name in names {
        if let Some(record) = get(socket, name).await? {
            taken(name, &record, target)?;
        }
    }
    Ok(())
}

/// Makes a record, or moves one of ours; one of others' with the same target only gets Kubernetes' labels.
pub(super) async fn put(socket: &Socket, name: &str, target: &Target) -> Result<(), ImportError> {
    let config = target.config.to_string();
    let labels = [(RECORD, name), (CONFIG, &config), MANAGED, PINNED];
    let labels: Labels = labels.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let image = Image { name: name.to_owned(), labels, target: Some(target.descriptor.clone()) };
    if create(socket, image.clone()).await? {
        return Ok(());
    }
    let Some(present) = get(socket, name).await? else {
        let reason = format!("record {name} comes and goes");
        return Err(ImportError::Runtime { step: "naming an image", reason });
    };
    let is_id = name == config;
    if !is_id {
        taken(name, &present, &target.descriptor)?;
    }
    let moves = !points_to(&present, &target.descriptor);
    if moves && is_id {
        // Another index holds the same configuration: its record serves both.
        return Ok(());
    }
    let wanted = image.labels.iter().filter(|(key, _)| is_ours(&present) || key.as_str() != RECORD);
    let stale = wanted.filter(|(key, value)| present.labels.get(*key) != Some(*value));
    let mut paths: Vec<String> = stale.map(|(key, _)| format!("labels.{key}")).collect();
    if moves {
        paths.push("target".to_owned());
    }
    if paths.is_empty() { Ok(()) } else { update(socket, image, paths).await }
}

/// Makes a record; `false` when there is one of that name.
pub(super) async fn create(socket: &Socket, image: Image) -> Result<bool, ImportError> {
    let method = "/containerd.services.images.v1.Images/Create";
    let question = ImageEnvelope { image: Some(image) };
    match socket.call::<_, ImageEnvelope>(method, None, CALL_TIMEOUT, question).await {
        Ok(_) => Ok(true),
        Err(status) if status.code() == Code::AlreadyExists => Ok(false),
        Err(status) => Err(socket.failed("naming an image", &status)),
    }
}

/// The names that are ours, image ids aside: these go with the last name.
pub(super) async fn owned(socket: &Socket) -> Result<Vec<String>, ImportError> {
    let records = list(socket, vec![format!("labels.\"{RECORD}\"")]).await?;
    let ours = records.into_iter().filter(|record| is_ours(record) && !is_id(&record.name));
    Ok(ours.map(|record| record.name).collect())
}

/// Whether a record is named by an image id.
pub(super) fn is_id(name: &str) -> bool {
    name.starts_with("sha256:")
}

/// Writes a record again as it is, which makes Kubernetes' side look at it.
pub(super) async fn touch(socket: &Socket, name: &str) -> Result<(), ImportError> {
    match get(socket, name).await? {
        None => Ok(()),
        Some(image) => update(socket, image, vec![format!("labels.{}", MANAGED.0)]).await,
    }
}

/// Removes our records of a name, unless a container uses the image.
pub(super) async fn remove(socket: &Socket, name: &ImageName) -> Result<Removal, ImportError> {
    let mut ours = Vec::new();
    let digest = name.digest;
    let names = match digest {
        Some(digest) => name.records(digest),
        None => vec![name.lookup()],
    };
    for name in names {
        let Some(record) = get(socket, &name).await? else { continue };
        // A tag that has moved on to a newer image stays with it.
        let moved_on = digest.is_some_and(|digest| target_of(&record) != digest.to_string());
        if is_ours(&record) && !moved_on {
            ours.push(record);
        }
    }
    let Some(id) = ours.first().and_then(|record| record.labels.get(CONFIG)).cloned() else {
        return Ok(Removal::NotOurs);
    };
    if in_use(socket, &id).await? {
        return Ok(Removal::InUse);
    }
    for record in &ours {
        delete(socket, &record.name).await?;
    }
    let others = list(socket, vec![format!("labels.\"{CONFIG}\"==\"{id}\"")]).await?;
    if others.iter().all(|record| record.name == id) && !others.is_empty() {
        delete(socket, &id).await?;
    }
    Ok(Removal::Removed)
}

/// Reads a record.
pub(super) async fn get(socket: &Socket, name: &str) -> Result<Option<Image>, ImportError> {
    let method = "/containerd.services.images.v1.Images/Get";
    let question = GetImageRequest { name: name.to_owned() };
    match socket.call::<_, ImageEnvelope>(method, None, CALL_TIMEOUT, question).await {
        Ok(answer) => Ok(answer.image),
        Err(status) if status.code() == Code::NotFound => Ok(None),
        Err(status) => Err(socket.failed("reading an image record", &status)),
    }
}

/// The digest that a record points to.
pub(super) fn target_of(record: &Image) -> &str {
    record.target.as_ref().map_or("", |target| target.digest.as_str())
}

fn points_to(record: &Image, target: &Descriptor) -> bool {
    target_of(record) == target.digest
}

pub(super) fn is_ours(record: &Image) -> bool {
    record.labels.get(RECORD) == Some(&record.name)
}

fn taken(name: &str, record: &Image, target: &Descriptor) -> Result<(), ImportError> {
    if is_ours(record) || points_to(record, target) {
        return Ok(());
    }
    Err(ImportError::NameTaken { reference: name.to_owned(), holder: target_of(record).to_owned() })
}

async fn update(socket: &Socket, image: Image, paths: Vec<String>) -> Result<(), ImportError> {
    let method = "/containerd.services.images.v1.Images/Update";
    let question = UpdateImageRequest { image: Some(image), update_mask: Some(FieldMask { paths }) };
    let answer: Result<ImageEnvelope, Status> = socket.call(method, None, CALL_TIMEOUT, question).await;
    answer.map(drop).map_err(|status| socket.failed("updating an image record", &status))
}

async fn delete(socket: &Socket, name: &str) -> Result<(), ImportError> {
    let method = "/containerd.services.images.v1.Images/Delete";
    let question = DeleteImageRequest { name: name.to_owned() };
    match socket.call::<_, Empty>(method, None, CALL_TIMEOUT, question).await {
        Ok(_) => Ok(()),
        Err(status) if status.code() == Code::NotFound => Ok(()),
        Err(status) => Err(socket.failed("removing an image record", &status)),
    }
}

/// The records that match one of the filters; all, without any.
pub(super) async fn list(socket: &Socket, filters: Vec<String>) -> Result<Vec<Image>, ImportError> {
    let method = "/containerd.services.images.v1.Images/List";
    let answer: Result<ListImagesResponse, Status> =
        socket.call(method, None, CALL_TIMEOUT, ListRequest { filters }).await;
    Ok(answer.map_err(|status| socket.failed("listing image records", &status))?.images)
}

/// Whether any container of any pod, running or not, was made from the image.
async fn in_use(socket: &Socket, id: &str) -> Result<bool, ImportError> {
    let method = "/runtime.v1.RuntimeService/ListContainers";
    let answer: Result<ListContainersResponse, Status> =
        socket.call(method, None, CALL_TIMEOUT, Empty {}).await;
    let containers = answer.map_err(|status| socket.failed("listing containers", &status))?.containers;
    let uses = |container: &CriContainer| {
        container.image_ref == id || container.image.as_ref().is_some_and(|image| image.image == id)
    };
    Ok(containers.iter().any(uses))
}
