//! Ports that lead nowhere: what an agent has while only its own disk is to change.
//!
//! `media load` judges documents and stores content with no agent running; the cluster's turn comes with the next
//! `run`. Every call says that the cluster does not answer, which the core takes for weather.

use std::collections::BTreeSet;
use std::sync::Arc;

use airlift_bundles::ids::{AppName, Sha256Digest};
use tokio::sync::mpsc;

use super::Boxed;
use super::cancel::CancelFlag;
use super::cluster::{ApplyRequest, Cluster, Propagation, Resolved, Room};
use super::images::{ChangeWatch, ImageToImport, Images, ImportError, ImportedImage, Removal};
use crate::core::Event;
use crate::core::api::{ApiError, ApiErrorClass, Applied, Found, PodFound};
use crate::core::object::{Generation, Gvk, Health, ObjectRef, Uid};

/// A cluster that does not answer.
#[derive(Debug, Clone, Copy, Default)]
pub struct AbsentCluster;

fn unavailable<'a, T: Send + 'a>() -> Boxed<'a, Result<T, ApiError>> {
    let message = "the cluster is not asked while media is loaded without a running agent".to_owned();
    Box::pin(std::future::ready(Err(ApiError { class: ApiErrorClass::Unavailable, status: 0, message })))
}

impl Cluster for AbsentCluster {
    fn apply(&self, _: ApplyRequest) -> Boxed<'_, Result<Applied, ApiError>> {
        unavailable()
    }

    fn get<'a>(&'a self, _: &'a ObjectRef) -> Boxed<'a, Result<serde_json::Value, ApiError>> {
        unavailable()
    }

    fn delete<'a>(&'a self, _: &'a ObjectRef, _: &'a Uid, _: Propagation) -> Boxed<'a, Result<(), ApiError>> {
        unavailable()
    }

    fn list<'a>(
        &'a self,
        _: &'a AppName,
        _: &'a Gvk,
        _: &'a BTreeSet<ObjectRef>,
    ) -> Boxed<'a, Result<Vec<Found>, ApiError>> {
        unavailable()
    }

    fn others<'a>(
        &'a self,
        _: &'a ObjectRef,
        _: &'a BTreeSet<Uid>,
        _: bool,
    ) -> Boxed<'a, Result<Vec<String>, ApiError>> {
        unavailable()
    }

    fn is_autoscaled<'a>(&'a self, _: &'a ObjectRef) -> Boxed<'a, Result<bool, ApiError>> {
        unavailable()
    }

    fn watch(&self, _: BTreeSet<Arc<Gvk>>, _: mpsc::Sender<Event>) -> Boxed<'_, ()> {
        Box::pin(std::future::pending())
    }

    fn health<'a>(&'a self, _: &'a Generation, _: &'a ObjectRef) -> Boxed<'a, Result<Health, ApiError>> {
        unavailable()
    }

    fn pods<'a>(&'a self, _: &'a ObjectRef) -> Boxed<'a, Result<Vec<PodFound>, ApiError>> {
        unavailable()
    }

    fn delete_pod<'a>(&'a self, _: &'a ObjectRef, _: &'a Uid, _: bool) -> Boxed<'a, Result<(), ApiError>> {
        unavailable()
    }

    fn resolve<'a>(&'a self, _: &'a Gvk) -> Boxed<'a, Result<Resolved, ApiError>> {
        unavailable()
    }

    fn image_room(&self) -> Boxed<'_, Result<Option<Room>, ApiError>> {
        unavailable()
    }

    fn cluster_uid(&self) -> Boxed<'_, Result<Uid, ApiError>> {
        unavailable()
    }

    fn nodes(&self) -> Boxed<'_, Result<Vec<airlift_bundles::document::status::NodeStatus>, ApiError>> {
        unavailable()
    }
}

/// A container runtime that does not answer.
#[derive(Debug, Clone, Copy, Default)]
pub struct AbsentImages;

fn unreachable<'a, T: Send + 'a>() -> Boxed<'a, Result<T, ImportError>> {
    let reason = "it is not asked while media is loaded without a running agent".to_owned();
    Box::pin(std::future::ready(Err(ImportError::Unreachable { socket: "(none)".to_owned(), reason })))
}

impl Images for AbsentImages {
    fn import<'a>(
        &'a self,
        _: &'a ImageToImport,
        _: &'a mut (dyn FnMut(u64) + Send),
        _: &'a CancelFlag,
    ) -> Boxed<'a, Result<ImportedImage, ImportError>> {
        unreachable()
    }

    fn present<'a>(&'a self, _: &'a [String]) -> Boxed<'a, Result<Vec<Option<Sha256Digest>>, ImportError>> {
        unreachable()
    }

    fn watch_changes(&self) -> Boxed<'_, Result<Box<dyn ChangeWatch>, ImportError>> {
        unreachable()
    }

    fn owned(&self) -> Boxed<'_, Result<Vec<String>, ImportError>> {
        unreachable()
    }

    fn keep_system(&self) -> Boxed<'_, Result<Vec<String>, ImportError>> {
        unreachable()
    }

    fn remove<'a>(&'a self, _: &'a str) -> Boxed<'a, Result<Removal, ImportError>> {
        unreachable()
    }
}
