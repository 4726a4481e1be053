//! A gate in front of a site's API server: open it passes every byte, shut it answers each request with 429.
//!
//! Open, it is a cable: TLS and identities stay between the two ends. Shut, it ends what is open and answers in
//! the API server's name, with its certificate, so that a client sees nothing but a server that has too much to do.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::json;

use crate::cluster::Cluster;

/// Where the API server listens.
const API_SERVER: u16 = 6443;
/// Bytes of a request's head that are read.
const HEAD_BYTES_MAX: usize = 64 << 10;

#[derive(Debug, Default)]
struct State {
    shut: bool,
    open: Vec<TcpStream>,
    refused: u64,
}

/// The gate of one site; it stays as long as this process lives.
#[derive(Clone, Debug)]
pub struct Gate {
    state: Arc<Mutex<State>>,
    kubeconfig: PathBuf,
}

impl Gate {
    /// Puts an open gate before the API server, on a port of its own.
    ///
    /// # Panics
    /// When the site's keys cannot be read.
    #[must_use]
    pub fn start(cluster: &Cluster) -> Self {
        let listener = cluster
            .namespace()
            .enter(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
            .join()
            .expect("the thread only binds")
            .expect("loopback has a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let direct = fs::read_to_string(cluster.kubeconfig()).expect("the site has a kubeconfig");
        let kubeconfig = cluster.kubeconfig().with_extension("gate");
        let through = direct.replace(&format!(":{API_SERVER}"), &format!(":{port}"));
        fs::write(&kubeconfig, through).expect("the site's directory is writable");
        let gate = Self { state: Arc::default(), kubeconfig };
        let tls = Arc::new(servers_identity(&cluster.bed().dir().join("keys")));
        let serving = gate.clone();
        let _ = cluster.namespace().enter(move || {
            for connection in listener.incoming().flatten() {
                serving.serve(connection, &tls);
            }
        });
        gate
    }

    /// The administrator's kubeconfig, by way of the gate.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Ends every connection, and answers 429 from now on.
    ///
    /// # Panics
    /// When a thread of the gate panicked, as do the other functions.
    pub fn shut(&self) {
        let mut state = self.state.lock().expect("no thread of the gate panics");
        state.shut = true;
        for connection in state.open.drain(..) {
            // It may have been closed by its own ends.
            let _ = connection.shutdown(Shutdown::Both);
        }
    }

    /// Lets everything through again.
    pub fn open(&self) {
        self.state.lock().expect("no thread of the gate panics").shut = false;
    }

    /// How many requests it has refused.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.state.lock().expect("no thread of the gate panics").refused
    }

    /// Runs on a thread inside of the site, so that the connection to the API server is made there.
    fn serve(&self, client: TcpStream, tls: &Arc<ServerConfig>) {
        let mut state = self.state.lock().expect("no thread of the gate panics");
        if state.shut {
            state.refused += 1;
            drop(state);
            let tls = Arc::clone(tls);
            // A client that leaves early is none of ours to explain.
            thread::spawn(move || drop(refuse(client, tls)));
            return;
        }
        // An API server that is not there is a connection that ends at once.
        let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, API_SERVER)) else { return };
        let copies = [client.try_clone(), server.try_clone(), client.try_clone(), server.try_clone()];
        let [Ok(to_client), Ok(to_server), Ok(client_end), Ok(server_end)] = copies else { return };
        state.open.extend([client_end, server_end]);
        drop(state);
        thread::spawn(move || pass(client, to_server));
        thread::spawn(move || pass(server, to_client));
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream) {
    // Either end may close first, in any way.
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}

fn servers_identity(keys: &Path) -> ServerConfig {
    let certificate = CertificateDer::from_pem_file(keys.join("apiserver.crt")).expect("the site has keys");
    let key = PrivateKeyDer::from_pem_file(keys.join("apiserver.key")).expect("the site has keys");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.expect("ring knows TLS").with_no_client_auth();
    config.with_single_cert(vec![certificate], key).expect("the key is the certificate's")
}

/// Reads one request whole and answers it as an overburdened API server does.
fn refuse(client: TcpStream, tls: Arc<ServerConfig>) -> io::Result<()> {
    let connection = ServerConnection::new(tls).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(connection, client);
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && head.len() < HEAD_BYTES_MAX {
        stream.read_exact(&mut byte)?;
        head.extend(byte);
    }
    let head = String::from_utf8_lossy(&head).to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length = length.and_then(|length| length.trim().parse().ok()).unwrap_or(0);
    io::copy(&mut (&mut stream).take(length), &mut io::sink())?;
    let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 429,
        "reason": "TooManyRequests", "message": "too many requests, please try again later",
        "details": {"retryAfterSeconds": 1}})
    .to_string();
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\nRetry-After: 1\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )?;
    stream.conn.send_close_notify();
    stream.flush()
}
