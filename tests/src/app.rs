//! The sample app of the system tests: a greeter of two replicas, as a folder that `airlift bundle build` takes.

use std::fs;
use std::path::{Path, PathBuf};

use crate::image::TestImage;

/// Selects the greeter's pods.
pub const PODS: &str = "app=greeter";

/// One version of the greeter; the folder is written by [`Greeter::write`].
#[derive(Clone, Debug)]
pub struct Greeter<'a> {
    /// Its version for people.
    pub version: &'a str,
    /// The image of its pods.
    pub image: &'a TestImage,
    /// How `airlift.yaml` says where the image is.
    pub from: String,
    /// What its program is started with, beside the port.
    pub arguments: Vec<&'a str>,
    /// Whether it holds the ConfigMap `extra`, which a test leaves out to see it pruned.
    pub extra: bool,
    /// How long it may take to become healthy: on a busy machine a pod needs most of a minute to start.
    pub timeout: &'a str,
    /// How long it has to stay well.
    pub soak: &'a str,
}

impl<'a> Greeter<'a> {
    /// A version that becomes healthy.
    #[must_use]
    pub fn new(version: &'a str, image: &'a TestImage) -> Self {
        let from = format!("oci:{}", image.layout.display());
        Self { version, image, from, arguments: Vec::new(), extra: true, timeout: "120s", soak: "3s" }
    }

    /// A version whose pods run and never become ready.
    #[must_use]
    pub fn never_ready(version: &'a str, image: &'a TestImage) -> Self {
        Self { arguments: vec!["--never-ready"], timeout: "20s", ..Self::new(version, image) }
    }

    /// Writes the folder.
    ///
    /// # Panics
    /// When it is not writable.
    pub fn write(&self, folder: &Path) -> PathBuf {
        let manifests = folder.join("manifests");
        fs::create_dir_all(&manifests).expect("the folder is writable");
        let write = |path: PathBuf, text: String| fs::write(path, text).expect("the folder is writable");
        write(folder.join("airlift.yaml"), self.app());
        write(manifests.join("greeter.yaml"), self.objects());
        write(manifests.join("widgets.yaml"), WIDGETS.to_owned());
        if self.extra {
            let extra = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: extra, namespace: greeter}\ndata: {more: here}\n";
            write(manifests.join("extra.yaml"), extra.to_owned());
        }
        folder.to_owned()
    }

    fn app(&self) -> String {
        format!(
            "apiVersion: airlift.dev/v1alpha1
kind: App
name: greeter
version: {}
images:
- name: {}
  from: {}
parameters:
  greeting:
    type: string
    pattern: '[a-z ]*'
    max_length: 64
    targets:
    - apiVersion: apps/v1
      kind: Deployment
      namespace: greeter
      name: greeter
      pointer: /spec/template/spec/containers/0/env/0/value
timeout: {}
soak: {}
",
            self.version, self.image.name, self.from, self.timeout, self.soak
        )
    }

    fn objects(&self) -> String {
        let arguments: String = self.arguments.iter().map(|argument| format!(", {argument}")).collect();
        format!(
            "apiVersion: v1
kind: Namespace
metadata: {{name: greeter}}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: greeter, namespace: greeter}}
data: {{version: '{version}'}}
---
apiVersion: v1
kind: Service
metadata: {{name: greeter, namespace: greeter}}
spec:
  selector: {{app: greeter}}
  ports: [{{port: 80, targetPort: 8080}}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: greeter, namespace: greeter}}
spec:
  replicas: 2
  selector: {{matchLabels: {{app: greeter}}}}
  template:
    metadata: {{labels: {{app: greeter}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: greeter
        image: {image}
        imagePullPolicy: IfNotPresent
        args: [--port, '8080'{arguments}]
        env: [{{name: GREETING, value: hello}}]
        envFrom: [{{configMapRef: {{name: greeter}}}}]
        readinessProbe: {{httpGet: {{path: /ready, port: 8080}}, periodSeconds: 1}}
",
            version = self.version,
            image = self.image.name,
        )
    }
}

/// A kind of its own, and an object of it.
const WIDGETS: &str = "apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.airlift.test}
spec:
  group: airlift.test
  scope: Namespaced
  names: {plural: widgets, singular: widget, kind: Widget}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec: {type: object, properties: {size: {type: integer}}}
---
apiVersion: airlift.test/v1
kind: Widget
metadata: {name: wheel, namespace: greeter}
spec: {size: 3}
";
