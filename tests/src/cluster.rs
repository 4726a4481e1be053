//! One node's Kubernetes: kine, control plane, kubelet and containerd in one namespace.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use serde_json::Value;

use crate::bed::Bed;
use crate::certificates::{Authority, write_key_pair};
use crate::clock::wait_until;
use crate::components::built;
use crate::image::TestImage;
use crate::namespace::Namespace;
use crate::process::Process;

/// The image of the pods' sandboxes.
const SANDBOX: &str = "airlift.test/sandbox:1";

/// A running cluster of one node; all of it ends when it is dropped.
#[derive(Debug)]
pub struct Cluster {
    name: String,
    number: u8,
    kubeconfig: PathBuf,
    /// The names of the sandbox image: its own, and the one made from its configuration's digest.
    sandbox_names: Vec<String>,
    /// containerd first, then in the order in which they need each other.
    processes: Mutex<Vec<Process>>,
    namespace: Namespace,
    bed: Bed,
}

impl Cluster {
    /// Starts a cluster and waits until its node is Ready; `number` (1 to 200) sets its addresses apart.
    ///
    /// # Panics
    /// When it does not come up, with the end of the log that says why.
    #[must_use]
    pub fn start(number: u8) -> Self {
        let mut cluster = Self::make(number);
        cluster.start_containerd();
        cluster.start_api_server(&[]);
        cluster.start_controllers();
        cluster.start_kubelet();
        cluster
    }

    /// Starts the API server and its datastore alone: what is sent there is kept, and nothing else happens.
    ///
    /// # Panics
    /// When it does not come up, as above.
    #[must_use]
    pub fn start_api(number: u8) -> Self {
        let cluster = Self::make(number);
        cluster.start_api_server(&[]);
        cluster
    }

    /// The same, without what admission adds and controllers would take away: pods need no account, and claims go
    /// when they are deleted. A definition is established after five seconds, as where several servers hear of it.
    ///
    /// # Panics
    /// As [`Cluster::start`].
    #[must_use]
    pub fn start_lenient_api(number: u8) -> Self {
        let cluster = Self::make(number);
        cluster.start_api_server(&[
            "--disable-admission-plugins=ServiceAccount,StorageObjectInUseProtection",
            "--apiserver-count=2",
        ]);
        cluster
    }

    /// Ends control plane and kubelet, and starts them again on an empty datastore, as after a lost disk: what ran
    /// is in no API any more, and kube-system is another one. containerd goes on.
    ///
    /// # Panics
    /// As [`Cluster::start`].
    pub fn replace_datastore(&self) {
        // The last first: nobody misses what it needs.
        while self.processes().len() > 1 {
            let ended = self.processes().pop();
            drop(ended);
        }
        fs::remove_dir_all(self.bed.dir().join("state")).expect("the datastore was there");
        for log in ["kine", "kubelet"] {
            // Its words of before would be taken for those of its start.
            let log = self.bed.dir().join("logs").join(log).with_extension("log");
            fs::rename(&log, log.with_extension("old.log")).expect("it has written a log");
        }
        self.start_api_server(&[]);
        self.start_controllers();
        self.start_kubelet();
    }

    /// Makes a site's place with nothing running in it.
    fn make(number: u8) -> Self {
        let name = format!("site{number}");
        let bed = Bed::make(&name);
        let namespace = Namespace::make(bed.name());
        namespace.add_dead_end(node_address(number), Ipv4Addr::new(10, 70, number, 1));
        let kubeconfig = write_keys(bed.dir(), &name, number);
        Self {
            name,
            number,
            kubeconfig,
            sandbox_names: Vec::new(),
            processes: Mutex::default(),
            namespace,
            bed,
        }
    }

    /// The node's name, and the stem of every name of this cluster.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its number, by which its addresses differ from other clusters'.
    #[must_use]
    pub fn number(&self) -> u8 {
        self.number
    }

    /// Its directory, group and name.
    #[must_use]
    pub fn bed(&self) -> &Bed {
        &self.bed
    }

    /// Its network.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The administrator's kubeconfig, as K3s writes one to `/etc/rancher/k3s/k3s.yaml`.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// containerd's socket.
    #[must_use]
    pub fn containerd_socket(&self) -> PathBuf {
        self.bed.dir().join("containerd.sock")
    }

    /// Runs kubectl as the administrator, and gives whatever came of it.
    #[must_use]
    pub fn try_kubectl(&self, arguments: &[&str]) -> Output {
        self.namespace
            .command(&built("kubectl").display().to_string())
            .args(["--request-timeout=20s", "--kubeconfig"])
            .arg(&self.kubeconfig)
            .arg(format!("--cache-dir={}", self.bed.dir().join("kubectl").display()))
            .args(arguments)
            .output()
            .expect("nsenter is installed")
    }

    /// Runs kubectl, and gives what it printed.
    ///
    /// # Panics
    /// When kubectl fails.
    #[must_use]
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        said(&format!("kubectl {}", arguments.join(" ")), self.try_kubectl(arguments))
    }

    /// Reads objects as JSON; `None` when the one that was asked for does not exist.
    #[must_use]
    pub fn get(&self, arguments: &[&str]) -> Option<Value> {
        let mut all = vec!["get", "-o", "json"];
        all.extend_from_slice(arguments);
        let output = self.try_kubectl(&all);
        if !output.status.success() && String::from_utf8_lossy(&output.stderr).contains("NotFound") {
            return None;
        }
        let text = said(&format!("kubectl {}", all.join(" ")), output);
        Some(serde_json::from_str(&text).expect("kubectl prints JSON"))
    }

    /// Runs `ctr` in the name space of Kubernetes' images.
    ///
    /// # Panics
    /// When ctr fails.
    #[must_use]
    pub fn ctr(&self, arguments: &[&str]) -> String {
        let output = self
            .namespace
            .command("ctr")
            .arg(format!("--address={}", self.containerd_socket().display()))
            .arg("--namespace=k8s.io")
            .args(arguments)
            .output()
            .expect("nsenter is installed");
        said(&format!("ctr {}", arguments.join(" ")), output)
    }

    /// Puts an image into containerd by hand, as the product is not meant to need.
    pub fn import(&self, image: &TestImage) {
        let _ = self.ctr(&["images", "import", &image.oci_archive().display().to_string()]);
    }

    /// Removes every image from containerd but the one that sandboxes need.
    pub fn remove_images(&self) {
        let names = self.ctr(&["images", "list", "--quiet"]);
        let mut arguments = vec!["images", "remove", "--sync"];
        arguments.extend(names.lines().filter(|name| !self.sandbox_names.iter().any(|kept| kept == name)));
        if arguments.len() > 3 {
            let _ = self.ctr(&arguments);
        }
    }

    /// Waits until so many pods match the selector, all Ready and none going, and gives them.
    pub fn wait_for_ready_pods(&self, namespace: &str, selector: &str, count: usize) -> Vec<Value> {
        wait_until(&format!("{count} Ready pods of {selector}"), Duration::from_secs(240), || {
            let list = self.get(&["pods", "-n", namespace, "-l", selector]).ok_or("no list")?;
            let pods = list["items"].as_array().cloned().unwrap_or_default();
            if pods.len() == count && pods.iter().all(is_ready) {
                return Ok(pods);
            }
            let seen: Vec<String> = pods.iter().map(|pod| pod["status"].to_string()).collect();
            Err(format!("{} pods: {}", pods.len(), seen.join("\n")))
        })
    }

    /// Asks a program of a test image over HTTP, from inside the site, and gives the body.
    ///
    /// # Errors
    /// Why nothing answered there: a pod may go between being listed and being asked.
    ///
    /// # Panics
    /// When the site's namespace is gone.
    pub fn ask(&self, address: &str, port: u16, path: &str) -> Result<String, String> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        let address = address.to_owned();
        let asking = self.namespace.enter(move || -> std::io::Result<String> {
            let mut connection = TcpStream::connect((address.as_str(), port))?;
            connection.write_all(request.as_bytes())?;
            let mut answer = String::new();
            connection.read_to_string(&mut answer)?;
            Ok(answer)
        });
        let answer = asking.join().expect("the thread only asks").map_err(|error| error.to_string())?;
        let (_, body) = answer.split_once("\r\n\r\n").ok_or_else(|| answer.clone())?;
        Ok(body.to_owned())
    }

    /// All that runs for it.
    ///
    /// # Panics
    /// When a thread panicked while it held the list.
    pub fn processes(&self) -> MutexGuard<'_, Vec<Process>> {
        self.processes.lock().expect("nothing panics while it holds the list")
    }

    fn start_process(&self, name: &str, program: &Path, arguments: &[String]) {
        let process = Process::start(&self.bed, &self.namespace, name, program, arguments, &[]);
        self.processes().push(process);
    }

    fn check_alive(&self) {
        for process in self.processes().iter_mut() {
            if let Err(ended) = process.check_alive() {
                panic!("{ended}");
            }
        }
    }

    fn start_containerd(&mut self) {
        let dir = self.bed.dir().to_owned();
        let d = dir.display();
        let (number, network) = (self.number, self.bed.name().to_owned());
        write(
            &dir.join("cni/10-pods.conflist"),
            &format!(
                r#"{{"cniVersion": "1.0.0", "name": "{network}", "plugins": [{{
  "type": "bridge", "bridge": "pods0", "isGateway": true,
  "ipam": {{"type": "host-local", "dataDir": "{d}/addresses", "ranges": [[{{"subnet": "10.80.{number}.0/24"}}]],
    "routes": [{{"dst": "0.0.0.0/0"}}]}}}}]}}"#
            ),
        );
        // restrict_oom_score_adj: without CAP_SYS_RESOURCE runc would fail at lowering the score.
        let config = format!(
            r#"version = 2
root = "{d}/containerd"
state = "{d}/run"
[grpc]
  address = "{d}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{SANDBOX}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  netns_mounts_under_state_dir = true
  stream_server_address = "127.0.0.1"
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/usr/lib/cni"
  conf_dir = "{d}/cni"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  SystemdCgroup = false
  Root = "{d}/runc"
[plugins."io.containerd.internal.v1.opt"]
  path = "{d}/opt"
"#
        );
        write(&dir.join("containerd.toml"), &config);
        let arguments = [format!("--config={d}/containerd.toml")];
        self.start_process("containerd", Path::new("containerd"), &arguments);
        let socket = self.containerd_socket();
        wait_until("containerd's socket", Duration::from_secs(30), || {
            self.check_alive();
            std::os::unix::net::UnixStream::connect(&socket).map_err(|error| error.to_string())
        });
        let sandbox = TestImage::make(&dir.join("sandbox"), SANDBOX, 0);
        self.import(&sandbox);
        self.sandbox_names = self.ctr(&["images", "list", "--quiet"]).lines().map(str::to_owned).collect();
    }

    fn start_api_server(&self, more: &[&str]) {
        let dir = self.bed.dir().to_owned();
        let d = dir.display();
        let address = node_address(self.number);
        fs::create_dir_all(dir.join("state")).expect("the site's directory is writable");
        let kine = [
            format!("--endpoint=sqlite://{d}/state/state.db?_journal=WAL&cache=shared&_busy_timeout=30000"),
            "--listen-address=tcp://127.0.0.1:2379".to_owned(),
            "--metrics-bind-address=0".to_owned(),
        ];
        self.start_process("kine", &built("kine"), &kine);
        wait_until("kine's port", Duration::from_secs(30), || {
            self.check_alive();
            let kine = self.processes().last().expect("it was started above").log();
            if kine.contains("Kine available at") { Ok(()) } else { Err(kine) }
        });
        let mut apiserver = vec![
            "--etcd-servers=http://127.0.0.1:2379".to_owned(),
            format!("--advertise-address={address}"),
            "--service-cluster-ip-range=10.90.0.0/16".to_owned(),
            "--authorization-mode=Node,RBAC".to_owned(),
            "--enable-admission-plugins=NodeRestriction".to_owned(),
            "--allow-privileged=true".to_owned(),
            format!("--client-ca-file={d}/keys/ca.crt"),
            format!("--cert-dir={d}/keys"),
            format!("--tls-cert-file={d}/keys/apiserver.crt"),
            format!("--tls-private-key-file={d}/keys/apiserver.key"),
            format!("--kubelet-client-certificate={d}/keys/admin.crt"),
            format!("--kubelet-client-key={d}/keys/admin.key"),
            format!("--kubelet-certificate-authority={d}/keys/ca.crt"),
            "--kubelet-preferred-address-types=InternalIP".to_owned(),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            format!("--service-account-key-file={d}/keys/accounts.pub"),
            format!("--service-account-signing-key-file={d}/keys/accounts.key"),
        ];
        apiserver.extend(more.iter().map(ToString::to_string));
        self.start_process("kube-apiserver", &built("kube-apiserver"), &apiserver);
        wait_until("the API server", Duration::from_secs(120), || {
            self.check_alive();
            let output = self.try_kubectl(&["get", "--raw", "/readyz"]);
            if output.status.success() { Ok(()) } else { Err(format!("{output:?}")) }
        });
    }

    fn start_controllers(&self) {
        let dir = self.bed.dir().to_owned();
        let d = dir.display();
        for component in ["controller-manager", "scheduler"] {
            let kubeconfig = dir.join(format!("keys/{component}.kubeconfig"));
            let mut arguments = vec!["--leader-elect=false".to_owned()];
            for purpose in ["kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig"] {
                arguments.push(format!("--{purpose}={}", kubeconfig.display()));
            }
            if component == "controller-manager" {
                arguments.push(format!("--service-account-private-key-file={d}/keys/accounts.key"));
                arguments.push(format!("--root-ca-file={d}/keys/ca.crt"));
                arguments.push("--use-service-account-credentials=true".to_owned());
            }
            let program = format!("kube-{component}");
            self.start_process(&program, &built(&program), &arguments);
        }
    }

    fn start_kubelet(&self) {
        let dir = self.bed.dir().to_owned();
        let d = dir.display();
        let group = self.bed.name();
        let config = format!(
            r#"apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication:
  anonymous: {{enabled: false}}
  webhook: {{enabled: true}}
  x509: {{clientCAFile: {d}/keys/ca.crt}}
authorization: {{mode: Webhook}}
tlsCertFile: {d}/keys/kubelet.crt
tlsPrivateKeyFile: {d}/keys/kubelet.key
containerRuntimeEndpoint: unix://{d}/containerd.sock
cgroupDriver: cgroupfs
cgroupRoot: /{group}
failCgroupV1: false
failSwapOn: false
localStorageCapacityIsolation: false
makeIPTablesUtilChains: false
oomScoreAdj: 0
clusterDNS: [10.90.0.10]
clusterDomain: cluster.local
resolvConf: ""
podLogsDir: {d}/pods
volumePluginDir: {d}/volume-plugins
evictionHard: {{memory.available: 50Mi, nodefs.available: "1%", imagefs.available: "1%"}}
imageGCHighThresholdPercent: 99
imageGCLowThresholdPercent: 98
nodeStatusReportFrequency: 10s
"#
        );
        write(&dir.join("kubelet.yaml"), &config);
        let arguments = [
            format!("--config={d}/kubelet.yaml"),
            format!("--kubeconfig={d}/keys/kubelet.kubeconfig"),
            format!("--root-dir={d}/kubelet"),
            format!("--cert-dir={d}/keys"),
            format!("--hostname-override={}", self.name),
            format!("--node-ip={}", node_address(self.number)),
        ];
        self.start_process("kubelet", &built("kubelet"), &arguments);
        wait_until("the node to be Ready", Duration::from_secs(120), || {
            self.check_alive();
            let node = self.get(&["node", &self.name]).ok_or("not registered")?;
            if is_ready(&node) { Ok(()) } else { Err(node["status"]["conditions"].to_string()) }
        });
        wait_until("the default service account", Duration::from_secs(60), || {
            self.get(&["serviceaccount", "default", "-n", "default"]).ok_or_else(|| "not there".to_owned())
        });
    }
}

/// Says whether a pod or node has the condition Ready, and is not going.
#[must_use]
pub fn is_ready(object: &Value) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    let ready = |condition: &Value| condition["type"] == "Ready" && condition["status"] == "True";
    object["metadata"]["deletionTimestamp"].is_null() && conditions.is_some_and(|list| list.iter().any(ready))
}

fn node_address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 70, number, 2)
}

/// Writes all keys and kubeconfigs, and gives the administrator's.
fn write_keys(dir: &Path, node: &str, number: u8) -> PathBuf {
    let keys = dir.join("keys");
    let authority = Authority::make(&keys);
    let address = node_address(number).to_string();
    let names = ["127.0.0.1", &address, "10.90.0.1", "localhost", "kubernetes.default.svc"];
    authority.issue("apiserver", "kube-apiserver", "", &names);
    authority.issue("kubelet", &format!("system:node:{node}"), "system:nodes", &[&address, node]);
    authority.issue("controller-manager", "system:kube-controller-manager", "", &[]);
    authority.issue("scheduler", "system:kube-scheduler", "", &[]);
    authority.issue("admin", "admin", "system:masters", &[]);
    for user in ["kubelet", "controller-manager", "scheduler"] {
        let _ = authority.kubeconfig(user);
    }
    write_key_pair(&keys, "accounts");
    authority.kubeconfig("admin")
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().expect("the path has a directory"))
        .expect("the site's directory is writable");
    fs::write(path, text).expect("the site's directory is writable");
}

fn said(what: &str, output: Output) -> String {
    assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("it prints UTF-8")
}
