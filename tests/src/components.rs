//! Where the real components are.

use std::path::PathBuf;

/// Finds one of the programs that `tests/run` built: `kube-apiserver`, `kubelet`, `kubectl`, `kine` and so on.
///
/// # Panics
/// When the tests were not started by `tests/run`, which says where they are.
#[must_use]
pub fn built(program: &str) -> PathBuf {
    let assets = std::env::var_os("KUBEBUILDER_ASSETS").expect("start the system tests with tests/run");
    let path = PathBuf::from(assets).join(program);
    assert!(path.exists(), "{} is missing: start the system tests with tests/run", path.display());
    path
}

/// Finds a binary of the product, `airlift` or `airlift-agent`, beside the test's own.
///
/// # Panics
/// When it is not built.
#[must_use]
pub fn product(program: &str) -> PathBuf {
    let own = std::env::current_exe().expect("a process knows its program");
    // A test lives in target/*/deps, the benches' program in target/*.
    let dirs = own.ancestors().skip(1).take(2);
    let path = dirs.map(|dir| dir.join(program)).find(|path| path.exists());
    path.unwrap_or_else(|| panic!("{program} is missing: cargo build --workspace --bins"))
}
