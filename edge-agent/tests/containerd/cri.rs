//! Kubernetes' side of containerd, asked as the kubelet and `crictl` ask it; its few messages written by hand.

use std::collections::BTreeSet;
use std::path::Path;

use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Endpoint;
use tonic_prost::ProstCodec;

#[derive(Clone, PartialEq, prost::Message)]
struct Nothing {}

#[derive(Clone, PartialEq, prost::Message)]
struct ImageSpec {
    #[prost(string, tag = "1")]
    image: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct OneImage {
    #[prost(message, optional, tag = "1")]
    image: Option<ImageSpec>,
}

/// An image as the runtime shows it.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Shown {
    /// Its configuration's digest.
    #[prost(string, tag = "1")]
    pub(crate) id: String,
    /// Whether it is to be left alone by collectors.
    #[prost(bool, tag = "8")]
    pub(crate) pinned: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ImageList {
    #[prost(message, repeated, tag = "1")]
    images: Vec<Shown>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Container {
    #[prost(string, tag = "5")]
    image_ref: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ContainerList {
    #[prost(message, repeated, tag = "1")]
    containers: Vec<Container>,
}

async fn ask<Q, A>(socket: &Path, method: &'static str, question: Q) -> A
where
    Q: prost::Message + Send + Sync + 'static,
    A: prost::Message + Default + Send + Sync + 'static,
{
    let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display())).expect("a socket's path");
    let mut client = Grpc::new(endpoint.connect().await.expect("containerd listens"));
    client.ready().await.expect("containerd listens");
    let method = PathAndQuery::from_static(method);
    let answer = client.unary(tonic::Request::new(question), method, ProstCodec::<Q, A>::default()).await;
    answer.expect("containerd answers").into_inner()
}

/// All images.
pub(crate) async fn list_images(socket: &Path) -> Vec<Shown> {
    ask::<_, ImageList>(socket, "/runtime.v1.ImageService/ListImages", Nothing {}).await.images
}

/// Removes an image with all its names, as the kubelet's collector does.
pub(crate) async fn remove_image(socket: &Path, id: &str) {
    let question = OneImage { image: Some(ImageSpec { image: id.to_owned() }) };
    let _: Nothing = ask(socket, "/runtime.v1.ImageService/RemoveImage", question).await;
}

/// What `crictl rmi --prune` does: every image that no container uses and that is not pinned.
pub(crate) async fn prune(socket: &Path) {
    let containers = ask::<_, ContainerList>(socket, "/runtime.v1.RuntimeService/ListContainers", Nothing {});
    let used: BTreeSet<String> = containers.await.containers.into_iter().map(|it| it.image_ref).collect();
    for image in list_images(socket).await {
        if !image.pinned && !used.contains(&image.id) {
            remove_image(socket, &image.id).await;
        }
    }
}
