//! Which scalars a parameter may replace: never what an object is or who may do what, and what a pod runs only
//! by a list (trust rule 3).

use crate::document::release::{ParameterDeclaration, ParameterTarget};
use crate::layout::app::check_pointer;
use crate::render::object::ObjectId;

/// Groups whose objects decide what others may do.
const GUARDED_GROUPS: &[&str] = &[
    "rbac.authorization.k8s.io",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "apiregistration.k8s.io",
];

/// Fields that say which object it is, or what another reference means, wherever they stand.
const IDENTITY_FIELDS: &[&str] = &["apiVersion", "kind", "namespace"];

/// Fields that say what a pod runs and with which rights, wherever they stand.
const LISTED_FIELDS: &[&str] = &[
    "args",
    "automountServiceAccountToken",
    "command",
    "ephemeralContainers",
    "hostIPC",
    "hostNetwork",
    "hostPID",
    "hostPath",
    "hostPort",
    "hostUsers",
    "image",
    "imagePullPolicy",
    "imagePullSecrets",
    "lifecycle",
    "procMount",
    "runtimeClassName",
    "securityContext",
    "serviceAccount",
    "serviceAccountName",
    "subPath",
    "subPathExpr",
    "volumeDevices",
    "volumeMounts",
    "volumes",
];

/// Checks one target of a parameter.
///
/// # Errors
/// Why the target is forbidden, in words.
pub fn check_target(declaration: &ParameterDeclaration, target: &ParameterTarget) -> Result<(), String> {
    let id = ObjectId::from(target);
    id.check().map_err(|error| error.to_string())?;
    check_pointer(&target.pointer)?;
    let segments: Vec<String> = target
        .pointer
        .split('/')
        .skip(1)
        .map(|segment| segment.replace("~1", "/").replace("~0", "~"))
        .collect();
    let refuse = |what: String| Err(format!("{} of {id} is never a parameter: {what}", target.pointer));
    let Some(last) = segments.last() else { return refuse("it is the whole object".into()) };
    if GUARDED_GROUPS.contains(&id.group()) || id.group_kind() == "/Secret" {
        return refuse(format!("{} decides rights or holds secrets", id.kind));
    }
    let own_metadata = segments[0] == "metadata"
        && !matches!(segments.get(1).map(String::as_str), Some("annotations" | "labels"));
    let is_configuration = id.group_kind() == "/ConfigMap" && segments[0] == "data";
    if own_metadata || IDENTITY_FIELDS.contains(&last.as_str()) && !is_configuration {
        return refuse("it says which object is meant".into());
    }
    let listed = segments.iter().find(|segment| LISTED_FIELDS.contains(&segment.as_str()));
    match listed {
        Some(field) if declaration.choices.is_empty() && !is_configuration => {
            Err(format!("{} of {id} needs an enum: {field} says what a pod runs", target.pointer))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::release::{ParameterType, Scalar};

    #[test]
    fn forbidden_targets_are_refused_and_listed_ones_need_an_enum() {
        let verdict = |api: &str, kind: &str, pointer: &str, listed: bool| {
            let target = ParameterTarget {
                api_version: api.into(),
                kind: kind.into(),
                namespace: Some("shop".into()),
                name: "x".into(),
                pointer: pointer.into(),
            };
            let choices = if listed { vec![Scalar::String("a".into())] } else { Vec::new() };
            let declaration = ParameterDeclaration {
                kind: ParameterType::String,
                choices,
                pattern: None,
                max_length: None,
                min: None,
                max: None,
                targets: vec![target.clone()],
            };
            check_target(&declaration, &target)
        };
        let container = |rest: &str| format!("/spec/template/spec/containers/0/{rest}");
        for (api, kind, pointer) in [
            ("apps/v1", "Deployment", ""),
            ("apps/v1", "Deployment", "/apiVersion"),
            ("apps/v1", "Deployment", "/kind"),
            ("apps/v1", "Deployment", "/metadata/name"),
            ("apps/v1", "Deployment", "/metadata/namespace"),
            ("apps/v1", "Deployment", "/metadata/finalizers/0"),
            ("autoscaling/v2", "HorizontalPodAutoscaler", "/spec/scaleTargetRef/kind"),
            ("rbac.authorization.k8s.io/v1", "RoleBinding", "/roleRef/name"),
            ("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration", "/webhooks/0/name"),
            ("apiextensions.k8s.io/v1", "CustomResourceDefinition", "/spec/scope"),
            ("v1", "Secret", "/data/a"),
            ("apps/v1", "Deployment", "spec"),
            ("apps/v1", "Deployment", "/spec/~2"),
        ] {
            assert!(verdict(api, kind, pointer, true).is_err(), "{kind} {pointer}");
        }
        for pointer in [
            container("image"),
            container("command/0"),
            container("args/1"),
            container("securityContext/runAsUser"),
            "/spec/template/spec/volumes/0/hostPath/path".into(),
            "/spec/template/spec/serviceAccountName".into(),
        ] {
            assert!(verdict("apps/v1", "Deployment", &pointer, false).is_err(), "{pointer}");
            assert_eq!(verdict("apps/v1", "Deployment", &pointer, true), Ok(()), "{pointer}");
        }
        for (api, kind, pointer) in [
            ("apps/v1", "Deployment", container("env/0/value")),
            ("apps/v1", "Deployment", "/spec/replicas".into()),
            ("apps/v1", "Deployment", "/metadata/labels/tier".into()),
            ("v1", "ConfigMap", "/data/command".into()),
        ] {
            assert_eq!(verdict(api, kind, &pointer, false), Ok(()), "{pointer}");
        }
    }
}
