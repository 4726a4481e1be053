//! Apps of many objects and no pods, for the benches and whatever else needs an app of some size.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// An image that no pod of the benches is started from.
const IMAGE: &str = "airlift.test/shop:1";
const IMAGE_SHA256: &str = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
/// Where the objects of [`many`] are.
pub const NAMESPACE: &str = "bench";

/// Writes a folder that `airlift bundle build` takes; gives its one file of manifests.
///
/// # Panics
/// When it is not writable.
#[must_use]
pub fn write(folder: &Path, app: &str, version: u32, manifests: &str) -> PathBuf {
    let file = folder.join("manifests/all.yaml");
    fs::create_dir_all(file.parent().expect("it is in a folder")).expect("the folder is writable");
    let source = format!(
        "apiVersion: airlift.dev/v1alpha1
kind: App
name: {app}
version: {version}.0.0
preloaded:
- {{name: '{IMAGE}', digest: 'sha256:{IMAGE_SHA256}'}}
timeout: 10m
soak: 3s
"
    );
    fs::write(folder.join("airlift.yaml"), source).expect("the folder is writable");
    fs::write(&file, manifests).expect("the folder is writable");
    file
}

/// So many objects: a ServiceAccount, a ConfigMap, a Service and a Deployment of no replicas for each of a quarter of
/// them. Those of the first `changed` say `word`, all others "hello".
///
/// # Panics
/// Never: writing to a string cannot fail.
#[must_use]
pub fn many(objects: usize, changed: usize, word: &str) -> String {
    let mut text = String::new();
    for number in 0..objects / 4 {
        let word = if number < changed { word } else { "hello" };
        write!(
            text,
            "---
apiVersion: v1
kind: ServiceAccount
metadata: {{name: shop-{number}, namespace: {NAMESPACE}, labels: {{app: shop-{number}, word: {word}}}}}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: shop-{number}, namespace: {NAMESPACE}, labels: {{app: shop-{number}}}}}
data:
  greeting: {word}
  settings.ini: |
    [shop]
    number = {number}
    currency = EUR
    tills = 12
    open = 08:00-20:00
---
apiVersion: v1
kind: Service
metadata: {{name: shop-{number}, namespace: {NAMESPACE}, labels: {{app: shop-{number}, word: {word}}}}}
spec:
  selector: {{app: shop-{number}}}
  ports: [{{name: http, port: 80, targetPort: 8080}}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: shop-{number}, namespace: {NAMESPACE}, labels: {{app: shop-{number}}}}}
spec:
  replicas: 0
  selector: {{matchLabels: {{app: shop-{number}}}}}
  template:
    metadata: {{labels: {{app: shop-{number}}}}}
    spec:
      serviceAccountName: shop-{number}
      containers:
      - name: shop
        image: {IMAGE}
        imagePullPolicy: IfNotPresent
        args: [--port, '8080']
        env: [{{name: WORD, value: {word}}}]
        envFrom: [{{configMapRef: {{name: shop-{number}}}}}]
        ports: [{{name: http, containerPort: 8080}}]
        readinessProbe: {{httpGet: {{path: /ready, port: 8080}}, periodSeconds: 5}}
        resources: {{requests: {{cpu: 10m, memory: 16Mi}}, limits: {{memory: 64Mi}}}}
"
        )
        .expect("writing to a string cannot fail");
    }
    text
}

/// Fifty objects of ten kinds, five of each kind but one namespace and nine ConfigMaps.
#[must_use]
pub fn fifty_of_ten_kinds() -> String {
    let place = |number: usize| format!("metadata: {{name: shop-{number}, namespace: shop}}");
    let mut text = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n".to_owned();
    let mut add = |object: String| {
        text.push_str("---\n");
        text.push_str(&object);
    };
    for number in 0..9 {
        add(format!("apiVersion: v1\nkind: ConfigMap\n{}\ndata: {{number: '{number}'}}\n", place(number)));
    }
    let pods = format!(
        "{{metadata: {{labels: {{app: shop}}}}, spec: {{restartPolicy: POLICY, containers: \
         [{{name: shop, image: {IMAGE}, imagePullPolicy: IfNotPresent}}]}}}}"
    );
    let always = pods.replace("POLICY", "Always");
    let never = pods.replace("POLICY", "Never");
    for number in 0..5 {
        let at = place(number);
        let kinds = [
            ("v1", "ServiceAccount", String::new()),
            ("v1", "Service", "spec: {selector: {app: shop}, ports: [{port: 80}]}\n".to_owned()),
            (
                "rbac.authorization.k8s.io/v1",
                "Role",
                "rules: [{apiGroups: [''], resources: [configmaps], verbs: [get]}]\n".to_owned(),
            ),
            (
                "rbac.authorization.k8s.io/v1",
                "RoleBinding",
                format!(
                    "roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: shop-{number}}}\n\
                     subjects: [{{kind: ServiceAccount, name: shop-{number}, namespace: shop}}]\n"
                ),
            ),
            (
                "apps/v1",
                "Deployment",
                format!(
                    "spec: {{replicas: 0, selector: {{matchLabels: {{app: shop}}}}, template: {always}}}\n"
                ),
            ),
            (
                "batch/v1",
                "CronJob",
                format!(
                    "spec: {{schedule: '0 0 1 1 *', suspend: true, jobTemplate: {{spec: {{template: {never}}}}}}}\n"
                ),
            ),
            (
                "networking.k8s.io/v1",
                "NetworkPolicy",
                "spec: {podSelector: {}, policyTypes: [Ingress]}\n".to_owned(),
            ),
            (
                "policy/v1",
                "PodDisruptionBudget",
                "spec: {minAvailable: 0, selector: {matchLabels: {app: shop}}}\n".to_owned(),
            ),
        ];
        for (api_version, kind, rest) in kinds {
            add(format!("apiVersion: {api_version}\nkind: {kind}\n{at}\n{rest}"));
        }
    }
    text
}
