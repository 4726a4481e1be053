//! Small apps of a test's own making: objects as JSON, all in a namespace with the app's name.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::image::TestImage;

/// One version of an app; the folder is written by [`Sample::write`].
#[derive(Clone, Debug)]
pub struct Sample {
    /// Its name, and that of its namespace.
    pub name: String,
    /// Its version for people.
    pub version: String,
    settings: Map<String, Value>,
    objects: Vec<Value>,
}

impl Sample {
    /// An app of nothing but its namespace, with two minutes to become healthy.
    #[must_use]
    pub fn new(name: &str, version: &str) -> Self {
        let settings = json!({
            "apiVersion": "airlift.dev/v1alpha1", "kind": "App", "name": name, "version": version,
            "timeout": "120s", "soak": "3s",
        });
        let Value::Object(settings) = settings else { unreachable!("an object was written above") };
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        Self { name: name.to_owned(), version: version.to_owned(), settings, objects: vec![namespace] }
    }

    /// Lets it carry an image.
    #[must_use]
    pub fn carries(self, image: &TestImage) -> Self {
        let from = format!("oci:{}", image.layout.display());
        self.says("images", json!([{"name": image.name, "from": from}]))
    }

    /// Sets a field of `airlift.yaml`.
    #[must_use]
    pub fn says(mut self, field: &str, value: Value) -> Self {
        self.settings.insert(field.to_owned(), value);
        self
    }

    /// Adds an object.
    #[must_use]
    pub fn with(mut self, object: Value) -> Self {
        self.objects.push(object);
        self
    }

    /// Writes the folder.
    ///
    /// # Panics
    /// When it is not writable.
    pub fn write(&self, folder: &Path) -> PathBuf {
        let manifests = folder.join("manifests");
        fs::create_dir_all(&manifests).expect("the folder is writable");
        let settings = Value::Object(self.settings.clone()).to_string();
        fs::write(folder.join("airlift.yaml"), settings).expect("the folder is writable");
        for (number, object) in self.objects.iter().enumerate() {
            let file = manifests.join(format!("{number:02}.json"));
            fs::write(file, object.to_string()).expect("the folder is writable");
        }
        folder.to_owned()
    }
}

/// A pod template of the label `app=<app>`, whose program answers with this greeting on port 8080.
#[must_use]
pub fn pods(app: &str, image: &TestImage, greeting: &str, arguments: &[&str]) -> Value {
    let arguments: Vec<&str> = ["--port", "8080"].iter().chain(arguments).copied().collect();
    json!({
        "metadata": {"labels": {"app": app}},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": "greeter", "image": image.name, "imagePullPolicy": "IfNotPresent",
                "args": arguments,
                "env": [{"name": "GREETING", "value": greeting}],
                "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}, "periodSeconds": 1},
            }],
        },
    })
}

/// A Deployment, StatefulSet or DaemonSet that is named for its app, with these further fields of its spec.
#[must_use]
pub fn workload(kind: &str, app: &str, template: Value, more: Value) -> Value {
    let mut object = json!({
        "apiVersion": "apps/v1", "kind": kind, "metadata": {"name": app, "namespace": app},
        "spec": {"selector": {"matchLabels": {"app": app}}, "template": template},
    });
    if let Value::Object(more) = more {
        object["spec"].as_object_mut().expect("written above").extend(more);
    }
    object
}

/// A Job whose one pod runs once with these arguments; further fields of its spec.
#[must_use]
pub fn job(app: &str, name: &str, image: &TestImage, arguments: &[&str], more: Value) -> Value {
    let mut object = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "namespace": app},
        "spec": {
            "backoffLimit": 0,
            "template": {"spec": {
                "terminationGracePeriodSeconds": 1, "restartPolicy": "Never",
                "containers": [{
                    "name": "task", "image": image.name, "imagePullPolicy": "IfNotPresent", "args": arguments,
                }],
            }},
        },
    });
    if let Value::Object(more) = more {
        object["spec"].as_object_mut().expect("written above").extend(more);
    }
    object
}

/// A ConfigMap or Secret with this data.
#[must_use]
pub fn configuration(kind: &str, app: &str, name: &str, data: Value) -> Value {
    let field = if kind == "Secret" { "stringData" } else { "data" };
    json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": app}, field: data})
}

/// A Service before the app's pods.
#[must_use]
pub fn service(app: &str, name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": app},
        "spec": {"selector": {"app": app}, "ports": [{"port": 80, "targetPort": 8080}]},
    })
}
