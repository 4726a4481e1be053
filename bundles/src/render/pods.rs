//! Finds the pods inside an object of any built-in workload kind, and the images that they name.

use serde_json::Value;

use super::object::ObjectId;

/// Lists of a pod spec whose entries run an image.
const CONTAINER_LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// One place where a pod names an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodImage {
    /// JSON pointer of the image's name.
    pub pointer: String,
    /// The name as it stands there.
    pub image: String,
    /// The pull policy as it stands there.
    pub pull_policy: Option<String>,
}

/// The JSON pointer of the pod template (or pod) in an object of this kind, or `None` where it has no pods.
///
/// Custom resources may make pods too, but nothing here can know where they name images.
#[must_use]
pub fn template_pointer(id: &ObjectId) -> Option<&'static str> {
    match (id.group(), id.kind.as_str()) {
        ("", "Pod") => Some(""),
        ("", "PodTemplate") => Some("/template"),
        ("apps", "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet")
        | ("", "ReplicationController")
        | ("batch", "Job") => Some("/spec/template"),
        ("batch", "CronJob") => Some("/spec/jobTemplate/spec/template"),
        _ => None,
    }
}

/// The pod template (or pod) of an object.
#[must_use]
pub fn find_template<'v>(id: &ObjectId, object: &'v Value) -> Option<&'v Value> {
    object.pointer(template_pointer(id)?)
}

/// Every image that the object's pods name: containers of all three lists, and image volumes.
#[must_use]
pub fn find_images(id: &ObjectId, object: &Value) -> Vec<PodImage> {
    let Some(base) = template_pointer(id) else { return Vec::new() };
    let Some(spec) = object.pointer(&format!("{base}/spec")) else { return Vec::new() };
    let mut images = Vec::new();
    let mut take = |entry: &Value, pointer: String, image: &str, policy: &str| {
        if let Some(image) = entry.get(image).and_then(Value::as_str) {
            let pull_policy = entry.get(policy).and_then(Value::as_str).map(str::to_owned);
            images.push(PodImage { pointer, image: image.to_owned(), pull_policy });
        }
    };
    for list in CONTAINER_LISTS {
        for (at, entry) in spec.get(list).and_then(Value::as_array).into_iter().flatten().enumerate() {
            take(entry, format!("{base}/spec/{list}/{at}/image"), "image", "imagePullPolicy");
        }
    }
    for (at, volume) in spec.get("volumes").and_then(Value::as_array).into_iter().flatten().enumerate() {
        if let Some(entry) = volume.get("image") {
            take(entry, format!("{base}/spec/volumes/{at}/image/reference"), "reference", "pullPolicy");
        }
    }
    images
}

/// The containers of the object's pods, of all three lists.
pub(crate) fn containers<'v>(id: &ObjectId, object: &'v Value) -> impl Iterator<Item = &'v Value> {
    let spec = find_template(id, object).and_then(|template| template.get("spec"));
    CONTAINER_LISTS.into_iter().filter_map(move |list| spec?.get(list)?.as_array()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn images_of(object: Value) -> Vec<(String, String)> {
        let id = ObjectId::of(&object).unwrap();
        find_images(&id, &object).into_iter().map(|image| (image.pointer, image.image)).collect()
    }

    #[test]
    fn every_workload_kind_and_every_list_is_searched() {
        let spec = json!({
            "initContainers": [{"image": "a"}],
            "containers": [{"image": "b"}, {"name": "no image"}],
            "ephemeralContainers": [{"image": "c"}],
            "volumes": [{"emptyDir": {}}, {"image": {"reference": "d"}}],
        });
        for (api, kind, base) in [
            ("v1", "Pod", ""),
            ("v1", "ReplicationController", "/spec/template"),
            ("apps/v1", "Deployment", "/spec/template"),
            ("apps/v1", "StatefulSet", "/spec/template"),
            ("apps/v1", "DaemonSet", "/spec/template"),
            ("apps/v1", "ReplicaSet", "/spec/template"),
            ("batch/v1", "Job", "/spec/template"),
            ("batch/v1", "CronJob", "/spec/jobTemplate/spec/template"),
        ] {
            let mut object = json!({"apiVersion": api, "kind": kind, "metadata": {"name": "x"}});
            for segment in base.split('/').skip(1).scan(String::new(), |path, segment| {
                *path = format!("{path}/{segment}");
                Some(path.clone())
            }) {
                let (parent, key) = segment.rsplit_once('/').unwrap();
                object.pointer_mut(parent).unwrap()[key] = json!({});
            }
            object.pointer_mut(base).unwrap()["spec"] = spec.clone();
            let found = images_of(object);
            let at = |rest: &str, image: &str| (format!("{base}/spec/{rest}"), image.to_owned());
            let expected = [
                at("initContainers/0/image", "a"),
                at("containers/0/image", "b"),
                at("ephemeralContainers/0/image", "c"),
                at("volumes/1/image/reference", "d"),
            ];
            assert_eq!(found, expected, "{kind}");
        }
    }

    #[test]
    fn an_object_of_another_group_with_a_workload_name_has_no_pods() {
        let object = json!({"apiVersion": "example.com/v1", "kind": "Deployment", "metadata": {"name": "x"},
            "spec": {"template": {"spec": {"containers": [{"image": "a"}]}}}});
        assert_eq!(images_of(object), []);
    }
}
