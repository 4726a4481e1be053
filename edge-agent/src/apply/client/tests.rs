//! The client against a server of our own on the loopback device.

use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;

/// A server that takes so many requests on each connection, and counts connections.
struct Server {
    port: u16,
    certificate: CertificateDer<'static>,
    connections: Arc<AtomicUsize>,
}

impl Server {
    async fn start(requests: usize) -> Self {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap().der().clone();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, acceptor) = (listener.local_addr().unwrap().port(), TlsAcceptor::from(Arc::new(config)));
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    // A client that does not believe this certificate ends here.
                    let Ok(mut tls) = acceptor.accept(tcp).await else { return };
                    for _ in 0..requests {
                        let mut head = Vec::new();
                        while !head.ends_with(b"\r\n\r\n") {
                            match tls.read_u8().await {
                                Ok(byte) => head.push(byte),
                                Err(_) => return,
                            }
                        }
                        let line = String::from_utf8(head).unwrap().lines().next().unwrap().to_owned();
                        let answer =
                            format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{line}", line.len());
                        tls.write_all(answer.as_bytes()).await.unwrap();
                    }
                    tls.shutdown().await.unwrap();
                });
            }
        });
        Self { port, certificate, connections }
    }

    fn client(&self, authority: &CertificateDer<'static>, prefix: &str) -> Arc<Client> {
        let access = Access {
            host: "127.0.0.1".to_owned(),
            port: self.port,
            prefix: prefix.to_owned(),
            name: ServerName::try_from("localhost").unwrap(),
            tls: crate::tls::cluster(std::slice::from_ref(authority), None).unwrap(),
            token: Some("abc".to_owned()),
        };
        Arc::new(Client::new(access).unwrap())
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

fn get(path: &str) -> Request<Full<Bytes>> {
    Request::get(path).body(Full::default()).unwrap()
}

#[tokio::test(flavor = "current_thread")]
async fn requests_that_follow_each_other_share_a_connection() {
    let server = Server::start(100).await;
    let client = server.client(&server.certificate, "/k8s");
    for number in 0..5 {
        let reply = client.send(get(&format!("/api?limit={number}"))).await.unwrap();
        assert_eq!(reply.status, StatusCode::OK);
        let text = reply.read(100).await.unwrap();
        assert_eq!(text, format!("GET /k8s/api?limit={number} HTTP/1.1"));
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test(flavor = "current_thread")]
async fn requests_at_the_same_time_have_each_their_own() {
    let server = Server::start(100).await;
    let client = server.client(&server.certificate, "");
    let first = client.send(get("/a")).await.unwrap();
    let second = client.send(get("/b")).await.unwrap();
    assert_eq!(second.read(100).await.unwrap(), "GET /b HTTP/1.1");
    assert_eq!(first.read(100).await.unwrap(), "GET /a HTTP/1.1");
    assert_eq!(server.connections(), 2);
}

#[tokio::test(flavor = "current_thread")]
async fn what_the_server_closed_is_not_used_again() {
    let server = Server::start(1).await;
    let client = server.client(&server.certificate, "");
    for _ in 0..3 {
        let reply = client.send(get("/a")).await.unwrap();
        assert_eq!(reply.read(100).await.unwrap(), "GET /a HTTP/1.1");
    }
    assert_eq!(server.connections(), 3);
}

#[tokio::test(flavor = "current_thread")]
async fn a_reply_that_is_too_long_is_given_up_with_its_connection() {
    let server = Server::start(100).await;
    let client = server.client(&server.certificate, "");
    let reply = client.send(get("/a")).await.unwrap();
    assert_eq!(reply.read(3).await.unwrap_err(), "it is longer than 3 bytes");
    assert!(client.take().is_none());
}

#[tokio::test(flavor = "current_thread")]
async fn another_authority_is_not_believed() {
    let (server, other) = (Server::start(1).await, Server::start(1).await);
    let client = server.client(&other.certificate, "");
    let Err(ClientError::Connect { source, .. }) = client.send(get("/a")).await else {
        panic!("it was believed")
    };
    assert!(source.to_string().contains("certificate"), "{source}");
}
