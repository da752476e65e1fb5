//! A certificate authority of a test's own.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

/// Writes `ca.pem`, and `cert.pem` and `key.pem` of a server with these names or addresses, into a directory.
pub fn authority(dir: &Path, names: &[&str]) {
    let own = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(Vec::new()).expect("an authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    write(dir, "ca.pem", &params.self_signed(&own).expect("an authority").pem());
    let issuer = Issuer::new(params, own);
    let key = KeyPair::generate().expect("a key");
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let params = CertificateParams::new(names).expect("names of a server");
    write(dir, "cert.pem", &params.signed_by(&key, &issuer).expect("a certificate").pem());
    write(dir, "key.pem", &key.serialize_pem());
}

fn write(dir: &Path, name: &str, text: &str) {
    std::fs::write(dir.join(name), text).expect("a file of the authority");
}
