//! The keys of a test cluster: one authority, and a certificate for each component.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

/// An authority and the directory that its certificates are written to.
pub struct Authority {
    dir: PathBuf,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    /// Makes one, and writes `ca.crt`.
    ///
    /// # Panics
    /// When the directory is not writable, as do this module's other functions.
    #[must_use]
    pub fn make(dir: &Path) -> Self {
        fs::create_dir_all(dir).expect("the key directory can be made");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        params.distinguished_name.push(DnType::CommonName, "test cluster");
        let key = KeyPair::generate().expect("ring makes keys");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("the parameters are valid");
        fs::write(dir.join("ca.crt"), issuer.pem()).expect("the key directory is writable");
        Self { dir: dir.to_owned(), issuer }
    }

    /// Writes `<file>.crt` and `<file>.key` for a user of a group, or for a server with these names.
    pub fn issue(&self, file: &str, user: &str, group: &str, names: &[&str]) {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).expect("the names are valid");
        params.distinguished_name.push(DnType::CommonName, user);
        if !group.is_empty() {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().expect("ring makes keys");
        let certificate = params.signed_by(&key, &self.issuer).expect("the parameters are valid");
        fs::write(self.dir.join(format!("{file}.crt")), certificate.pem())
            .expect("the key directory is writable");
        fs::write(self.dir.join(format!("{file}.key")), key.serialize_pem())
            .expect("the key directory is writable");
    }

    /// Writes a kubeconfig for a certificate that was issued under `file`.
    #[must_use]
    pub fn kubeconfig(&self, file: &str) -> PathBuf {
        let dir = self.dir.display();
        let path = self.dir.join(format!("{file}.kubeconfig"));
        let text = format!(
            "apiVersion: v1
kind: Config
clusters:
- name: default
  cluster:
    server: https://127.0.0.1:6443
    certificate-authority: {dir}/ca.crt
users:
- name: default
  user:
    client-certificate: {dir}/{file}.crt
    client-key: {dir}/{file}.key
contexts:
- name: default
  context:
    cluster: default
    user: default
current-context: default
"
        );
        fs::write(&path, text).expect("the key directory is writable");
        path
    }
}

/// Writes the key pair that signs service account tokens: `<file>.key` and `<file>.pub`.
pub fn write_key_pair(dir: &Path, file: &str) {
    let key = KeyPair::generate().expect("ring makes keys");
    fs::write(dir.join(format!("{file}.key")), key.serialize_pem()).expect("the key directory is writable");
    fs::write(dir.join(format!("{file}.pub")), key.public_key_pem()).expect("the key directory is writable");
}
