//! Which platforms a node can run, best first, as containerd ranks them.
//!
//! The runtime chooses by itself when a pod starts; an import that chose otherwise would put the wrong layers there.

use crate::ports::images::Platform;

/// How well an offered platform suits the node: 0 is best, `None` cannot run.
pub(super) fn rank(node: &Platform, offered: &Platform) -> Option<usize> {
    let offered = normalised(offered);
    runnable(&normalised(node)).iter().position(|platform| *platform == offered)
}

/// The platform in containerd's spelling.
fn normalised(platform: &Platform) -> Platform {
    let architecture = platform.architecture.to_ascii_lowercase();
    let variant = platform.variant.as_deref().unwrap_or_default().to_ascii_lowercase();
    let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
        ("i386", _) => ("386", ""),
        ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
        ("x86_64" | "x86-64", variant) => ("amd64", variant),
        ("aarch64" | "arm64", "8" | "v8") => ("arm64", ""),
        ("aarch64", variant) => ("arm64", variant),
        ("armhf", _) | ("arm", "" | "7") => ("arm", "v7"),
        ("armel", _) | ("arm", "6") => ("arm", "v6"),
        ("arm", "5") => ("arm", "v5"),
        ("arm", "8") => ("arm", "v8"),
        (architecture, variant) => (architecture, variant),
    };
    Platform {
        os: platform.os.to_ascii_lowercase(),
        architecture: architecture.to_owned(),
        variant: (!variant.is_empty()).then(|| variant.to_owned()),
    }
}

/// A normalised node's platform and the older ones that it also runs.
fn runnable(node: &Platform) -> Vec<Platform> {
    let like = |architecture: &str, variant: Option<String>| Platform {
        os: node.os.clone(),
        architecture: architecture.to_owned(),
        variant,
    };
    let level =
        |variant: &Option<String>| -> Option<u8> { variant.as_deref()?.strip_prefix('v')?.parse().ok() };
    let mut platforms = vec![node.clone()];
    match node.architecture.as_str() {
        "amd64" => {
            let older = (1..level(&node.variant).unwrap_or(1)).rev();
            platforms.extend(older.map(|level| like("amd64", (level > 1).then(|| format!("v{level}")))));
            platforms.push(like("386", None));
        }
        "arm" => {
            let older = (5..level(&node.variant).unwrap_or(5)).rev();
            platforms.extend(older.map(|level| like("arm", Some(format!("v{level}")))));
        }
        "arm64" => {
            let top = level(&node.variant).unwrap_or(8);
            platforms.extend((5..=top).rev().map(|level| like("arm", Some(format!("v{level}")))));
        }
        _ => {}
    }
    platforms
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(architecture: &str, variant: &str) -> Platform {
        let variant = (!variant.is_empty()).then(|| variant.to_owned());
        Platform { os: "linux".into(), architecture: architecture.into(), variant }
    }

    #[test]
    fn the_node_runs_its_own_platform_before_older_ones() {
        let pi = platform("arm", "v7");
        assert_eq!(rank(&pi, &platform("arm", "v7")), Some(0));
        assert_eq!(rank(&pi, &platform("arm", "v6")), Some(1));
        assert_eq!(rank(&pi, &platform("arm", "v8")), None);
        assert_eq!(rank(&pi, &platform("arm64", "")), None);
        let server = platform("amd64", "");
        assert_eq!(rank(&server, &platform("386", "")), Some(1));
        assert_eq!(rank(&server, &platform("amd64", "v2")), None);
        assert_eq!(rank(&platform("amd64", "v3"), &platform("amd64", "")), Some(2));
    }

    #[test]
    fn spellings_of_one_platform_are_one() {
        assert_eq!(rank(&platform("aarch64", ""), &platform("arm64", "v8")), Some(0));
        assert_eq!(rank(&platform("x86_64", ""), &platform("amd64", "v1")), Some(0));
        assert_eq!(rank(&platform("arm64", "v8"), &platform("arm", "v7")), Some(2));
        assert_eq!(rank(&platform("arm", ""), &platform("armhf", "")), Some(0));
    }

    #[test]
    fn another_operating_system_never_runs() {
        let windows = Platform { os: "windows".into(), ..platform("amd64", "") };
        assert_eq!(rank(&platform("amd64", ""), &windows), None);
    }
}
