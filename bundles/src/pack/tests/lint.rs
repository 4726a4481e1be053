//! Every refusal of the build, with the file and line that it names.

use super::*;

/// Packs the usual folder with one more manifest, and gives its faults as text.
fn faults_with(manifest: &str) -> Vec<String> {
    let folder = Folder::new();
    folder.write("manifests/more/extra.yaml", manifest);
    folder.faults().iter().map(ToString::to_string).collect()
}

#[test]
fn each_fault_of_a_manifest_has_file_line_and_code() {
    let object = |kind: &str, rest: &str| format!("apiVersion: v1\nkind: {kind}\nmetadata:\n{rest}");
    let pod = |rest: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: p, namespace: shop}}\nspec:\n  containers:\n    - name: p\n{rest}"
        )
    };
    for (manifest, line, code, part) in [
        (
            object("ConfigMap", "  name: a\n  namespace: shop\n  name: b\n"),
            6,
            Code::BuildInvalid,
            "\"name\" stands twice",
        ),
        (
            object("ConfigMap", "  name: a\n  namespace: shop\ndata:\n  a: yes\n"),
            7,
            Code::AmbiguousYaml,
            "boolean to kubectl",
        ),
        (
            object("ConfigMap", "  name: a\n  namespace: shop\ndata:\n  on: a\n"),
            7,
            Code::AmbiguousYaml,
            "key: on",
        ),
        (
            object("ConfigMap", "  generateName: a-\n  namespace: shop\n"),
            4,
            Code::BuildInvalid,
            "generateName",
        ),
        (
            object("ConfigMap", "  name: a\n  namespace: shop\nstatus: {}\n"),
            6,
            Code::BuildInvalid,
            "status is set by the cluster",
        ),
        (
            object("ConfigMap", "  name: a\n  namespace: shop\n  uid: x\n"),
            6,
            Code::BuildInvalid,
            "metadata.uid",
        ),
        (object("ConfigMap", "  name: a\n"), 3, Code::BuildInvalid, "needs metadata.namespace"),
        (object("Namespace", "  name: a\n  namespace: shop\n"), 5, Code::BuildInvalid, "has no namespace"),
        (object("ConfigMap", "  name: ../a\n  namespace: shop\n"), 4, Code::BuildInvalid, "is not a name"),
        (
            format!("{0}---\n{0}", object("ConfigMap", "  name: a\n  namespace: shop\n")),
            7,
            Code::BuildInvalid,
            "stands twice; first at manifests/more/extra.yaml:1",
        ),
        (
            object("Secret", "  name: s\n  namespace: shop\nstringData: {a: b}\n"),
            1,
            Code::SecretInBundle,
            "allow_secret_data",
        ),
        (
            object("ConfigMap", "  name: a\n  namespace: shop\n  annotations:\n    airlift.dev/order: 5\n"),
            7,
            Code::BuildInvalid,
            "quoted whole number",
        ),
        (
            "apiVersion: example.com/v1\nkind: Thing\nmetadata: {name: t}\n".into(),
            3,
            Code::BuildInvalid,
            "cluster_scoped",
        ),
        (pod("      image: nginx:1\n"), 7, Code::ImageMissing, "add it under images"),
        (pod("      image: 'Nginx:1'\n"), 7, Code::ImageMissing, "is not an image name"),
        (
            pod("      image: registry.example/web:1\n      imagePullPolicy: Always\n"),
            7,
            Code::PullPolicyAlways,
            "set it to IfNotPresent",
        ),
        (
            pod(&format!("      image: registry.example/web:1@{}\n", Sha256Digest::of(b"other"))),
            7,
            Code::ImageMissing,
            "no such digest",
        ),
        ("- a\n- b\n".into(), 1, Code::BuildInvalid, "/apiVersion is missing"),
    ] {
        let faults = faults_with(&manifest);
        assert_eq!(faults.len(), 1, "{manifest}\n{faults:?}");
        let start = format!("manifests/more/extra.yaml:{line}: ");
        let fits = faults[0].starts_with(&start) && faults[0].contains(part) && faults[0].contains(code.id());
        assert!(fits, "{manifest}\nwants {start}… {part} … {code}\n{faults:?}");
    }
}

#[test]
fn all_faults_are_shown_at_once() {
    let faults = faults_with(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}\nstatus: {}\n",
    );
    assert_eq!(faults.len(), 3, "{faults:?}");
}

#[test]
fn an_object_over_one_mebibyte_is_refused() {
    let text = "x".repeat(1 << 20);
    let faults = faults_with(&format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a, namespace: shop}}\ndata: {{a: {text}}}\n"
    ));
    assert!(faults[0].contains("over the limit of 1048576"), "{faults:?}");
}

#[test]
fn a_link_among_the_manifests_is_refused() {
    let folder = Folder::new();
    std::os::unix::fs::symlink("/etc/hostname", folder.path().join("manifests/link.yaml")).unwrap();
    assert!(folder.faults()[0].to_string().starts_with("manifests/link.yaml: is not a plain file"));
}

#[test]
fn doubtful_scalars_warn_and_build() {
    let folder = Folder::new();
    folder.write(
        "manifests/mode.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: shop}\ndata: {a: 'x'}\nx-mode: 0644\n",
    );
    let (packed, _) = folder.pack().unwrap();
    let warnings: Vec<_> = packed.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].starts_with("manifests/mode.yaml:5: 0644 is octal"), "{warnings:?}");
}

#[test]
fn lists_are_flattened_and_empty_creation_times_dropped() {
    let folder = Folder::new();
    folder.write(
        "manifests/list.yaml",
        "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: ConfigMapList\n  items:\n  - apiVersion: v1\n    kind: ConfigMap\n    metadata: {name: a, namespace: shop, creationTimestamp: null}\n",
    );
    let (packed, dir) = folder.pack().unwrap();
    let values = objects(&read_bundle(&packed, &dir), &dir);
    let expected =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "shop"}});
    assert!(values.contains(&expected), "{values:?}");
}

#[test]
fn allowed_secret_data_is_packed_as_data() {
    let folder = Folder::new();
    folder.write("airlift.yaml", &format!("{APP}allow_secret_data: [shop/s]\n"));
    folder.write(
        "manifests/secret.yaml",
        "apiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: shop}\ndata: {a: b2xk, b: Yg==}\nstringData: {a: new}\n",
    );
    let (packed, dir) = folder.pack().unwrap();
    let values = objects(&read_bundle(&packed, &dir), &dir);
    let secret = values.iter().find(|value| value["kind"] == "Secret").unwrap();
    assert_eq!(secret["data"], json!({"a": "bmV3", "b": "Yg=="}));
    assert!(secret.get("stringData").is_none());
}

#[test]
fn objects_stand_in_the_order_of_their_journey() {
    let folder = Folder::new();
    folder.write(
        "manifests/a.yaml",
        "apiVersion: v1
kind: ConfigMap
metadata: {name: late, namespace: shop, annotations: {airlift.dev/order: '5'}}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: hook}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: z, namespace: shop}
---
apiVersion: example.com/v1
kind: Thing
metadata: {name: first}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: early, namespace: shop, annotations: {airlift.dev/order: '-1'}}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: things.example.com}
spec: {group: example.com, scope: Cluster, names: {kind: Thing}}
",
    );
    let (packed, dir) = folder.pack().unwrap();
    let values = objects(&read_bundle(&packed, &dir), &dir);
    let names: Vec<_> = values.iter().map(|value| value["metadata"]["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["things.example.com", "shop", "early", "z", "first", "web", "late", "hook"]);
}

#[test]
fn a_preloaded_image_pins_pods_and_is_not_carried() {
    let folder = Folder::new();
    let digest = Sha256Digest::of(b"somewhere else");
    folder
        .write("airlift.yaml", &format!("{APP}preloaded:\n  - {{name: 'pause:3.6', digest: '{digest}'}}\n"));
    folder.write(
        "manifests/pause.yaml",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: shop}\nspec: {containers: [{name: p, image: 'pause:3.6'}]}\n",
    );
    let (packed, dir) = folder.pack().unwrap();
    let bundle = read_bundle(&packed, &dir);
    assert_eq!(bundle.images().len(), 1);
    let values = objects(&bundle, &dir);
    let pod = values.iter().find(|value| value["kind"] == "Pod").unwrap();
    assert_eq!(pod["spec"]["containers"][0]["image"], format!("pause:3.6@{digest}"));
}

#[test]
fn the_tag_latest_needs_a_pull_policy() {
    let folder = Folder::new();
    folder.write("airlift.yaml", &APP.replace("registry.example/web:1", "web"));
    folder.write("manifests/web.yaml", &WEB.replace("registry.example/web:1", "web"));
    let fault = folder.faults()[0].to_string();
    assert!(fault.contains("the default of the tag latest"), "{fault}");
    folder.write(
        "manifests/web.yaml",
        &WEB.replace("registry.example/web:1", "web\n          imagePullPolicy: IfNotPresent"),
    );
    let (packed, dir) = folder.pack().unwrap();
    let values = objects(&read_bundle(&packed, &dir), &dir);
    let image = values[1].pointer("/spec/template/spec/containers/0/image").unwrap().as_str().unwrap();
    assert!(image.starts_with("web:latest@sha256:"), "{image}");
}

#[test]
fn an_image_that_no_pod_names_is_warned_of() {
    let folder = Folder::new();
    folder.write("manifests/web.yaml", "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n");
    let (packed, _) = folder.pack().unwrap();
    assert!(packed.warnings[0].to_string().starts_with("airlift.yaml:6: no pod"), "{:?}", packed.warnings);
}

#[test]
fn a_failed_build_leaves_nothing_behind() {
    let folder = Folder::new();
    folder.write("manifests/bad.yaml", "a: [\n");
    let out = tempfile::tempdir().unwrap();
    assert!(pack(folder.path(), &out.path().join("bundle"), &Limits::DEFAULT).is_err());
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0);
    fs::write(out.path().join("taken"), "").unwrap();
    let refused = pack(folder.path(), out.path(), &Limits::DEFAULT).unwrap_err().to_string();
    assert!(refused.contains("is there already"), "{refused}");
}
