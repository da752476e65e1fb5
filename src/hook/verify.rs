//! Whether a call carries the signature of whoever knows the secret, in the forms that git servers send.
//!
//! | server | header | over |
//! |---|---|---|
//! | GitHub, Gitea, Forgejo | `X-Hub-Signature-256: sha256=<hex>` | the body |
//! | Gitea, Forgejo | `X-Gitea-Signature`, `X-Forgejo-Signature: <hex>` | the body |
//! | GitLab, a signing token | `webhook-signature: v1,<base64>` with `webhook-id`, `webhook-timestamp` | `<id>.<timestamp>.<body>` |
//! | GitLab, a secret token | `X-Gitlab-Token: <secret>` | nothing: the secret itself |
//!
//! All are HMAC-SHA256; comparisons take the same time wherever they differ.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use base64ct::{Base64, Encoding};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Bytes of a secret's file.
const SECRET_BYTES_MAX: u64 = 4 << 10;
/// Characters below which a secret can be guessed.
const SECRET_CHARS_MIN: usize = 16;
/// What a signing token of GitLab begins with (Standard Webhooks).
const SIGNING_PREFIX: &str = "whsec_";

/// Why there is no secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// It cannot be read.
    #[error("{path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Others can read it.
    #[error("{path}: everybody on this machine may read it")]
    Readable {
        /// The file.
        path: PathBuf,
    },
    /// It is too short to be one.
    #[error("{path}: its first line has less than {SECRET_CHARS_MIN} characters: that can be guessed")]
    Short {
        /// The file.
        path: PathBuf,
    },
}

/// What a git server and this host both know.
#[derive(Clone)]
pub struct Secret {
    text: String,
    signing: Option<Vec<u8>>,
}

impl Secret {
    /// Reads the first line of a file.
    pub fn read(path: &Path) -> Result<Self, SecretError> {
        let unreadable = |source| SecretError::Unreadable { path: path.to_owned(), source };
        let file = File::open(path).map_err(unreadable)?;
        if file.metadata().map_err(unreadable)?.permissions().mode() & 0o007 != 0 {
            return Err(SecretError::Readable { path: path.to_owned() });
        }
        let mut text = String::new();
        file.take(SECRET_BYTES_MAX).read_to_string(&mut text).map_err(unreadable)?;
        let line = text.lines().next().unwrap_or_default().trim();
        Self::of(line).ok_or_else(|| SecretError::Short { path: path.to_owned() })
    }

    fn of(line: &str) -> Option<Self> {
        let signing = line.strip_prefix(SIGNING_PREFIX).and_then(|rest| Base64::decode_vec(rest).ok());
        (line.len() >= SECRET_CHARS_MIN).then(|| Self { text: line.to_owned(), signing })
    }

    fn mac(&self) -> Hmac<Sha256> {
        Hmac::new_from_slice(self.text.as_bytes()).expect("HMAC takes keys of any length")
    }
}

/// A call whose headers were read, while its body comes in.
pub(super) struct Call {
    token: bool,
    body: Hmac<Sha256>,
    claims: Vec<Vec<u8>>,
    standard: Option<(Hmac<Sha256>, Vec<Vec<u8>>)>,
}

impl Call {
    /// Begins with the headers; `header` gives one by its lower-case name.
    pub(super) fn new<'a>(secret: &Secret, header: impl Fn(&str) -> Option<&'a str>) -> Self {
        let hex_claims = ["x-hub-signature-256", "x-gitea-signature", "x-forgejo-signature"];
        let claims = hex_claims.into_iter().filter_map(&header);
        let claims =
            claims.filter_map(|claim| unhex(claim.strip_prefix("sha256=").unwrap_or(claim))).collect();
        Self {
            token: header("x-gitlab-token").is_some_and(|token| is_same(secret, token)),
            body: secret.mac(),
            claims,
            standard: standard(secret, header),
        }
    }

    /// Takes more of the body.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.body.update(bytes);
        if let Some((mac, _)) = &mut self.standard {
            mac.update(bytes);
        }
    }

    /// Whether somebody who knows the secret made it.
    pub(super) fn is_genuine(self) -> bool {
        let holds = |mac: &Hmac<Sha256>, claims: &[Vec<u8>]| {
            claims.iter().any(|claim| mac.clone().verify_slice(claim).is_ok())
        };
        self.token
            || holds(&self.body, &self.claims)
            || self.standard.is_some_and(|(mac, claims)| holds(&mac, &claims))
    }
}

/// Standard Webhooks, as GitLab signs with a `whsec_` token.
fn standard<'a>(
    secret: &Secret,
    header: impl Fn(&str) -> Option<&'a str>,
) -> Option<(Hmac<Sha256>, Vec<Vec<u8>>)> {
    let key = secret.signing.as_ref()?;
    let (id, time) = (header("webhook-id")?, header("webhook-timestamp")?);
    let claims = header("webhook-signature")?.split(' ').filter_map(|claim| claim.strip_prefix("v1,"));
    let claims = claims.filter_map(|claim| Base64::decode_vec(claim).ok()).collect();
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(format!("{id}.{time}.").as_bytes());
    Some((mac, claims))
}

/// Compares by what both become under the secret, so that the time says nothing about the text.
fn is_same(secret: &Secret, token: &str) -> bool {
    let mut said = secret.mac();
    said.update(token.as_bytes());
    let mut own = secret.mac();
    own.update(secret.text.as_bytes());
    said.verify(&own.finalize().into_bytes()).is_ok()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    (0..32).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "It's a Secret to Everybody";

    fn genuine(secret: &str, headers: &[(&str, &str)], body: &[u8]) -> bool {
        let secret = Secret::of(secret).unwrap();
        let header = |name: &str| headers.iter().find(|(key, _)| *key == name).map(|(_, value)| *value);
        let mut call = Call::new(&secret, header);
        // In pieces, as it comes.
        body.chunks(5).for_each(|piece| call.update(piece));
        call.is_genuine()
    }

    /// The example of GitHub's own documentation.
    #[test]
    fn the_signature_that_github_documents_is_genuine_and_nothing_near_it_is() {
        let good = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        let body = b"Hello, World!";
        assert!(genuine(SECRET, &[("x-hub-signature-256", good)], body));
        assert!(genuine(SECRET, &[("x-gitea-signature", &good[7..])], body));
        assert!(genuine(SECRET, &[("x-forgejo-signature", &good[7..])], body));
        assert!(!genuine(SECRET, &[("x-hub-signature-256", good)], b"Hello, World?"));
        assert!(!genuine("It's a secret to Everybody", &[("x-hub-signature-256", good)], body));
        assert!(!genuine(SECRET, &[], body));
        for bad in ["", "sha256=", &good[..70], &good.replace('7', "8"), "sha1=757107ea", &"é".repeat(32)] {
            assert!(!genuine(SECRET, &[("x-hub-signature-256", bad)], body), "{bad}");
        }
    }

    #[test]
    fn gitlab_is_known_by_its_token_or_by_its_signature() {
        assert!(genuine(SECRET, &[("x-gitlab-token", SECRET)], b"{}"));
        assert!(!genuine(SECRET, &[("x-gitlab-token", "It's a Secret to Everybod")], b"{}"));
        // The example of the Standard Webhooks specification.
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let signed = |signature: &str, body: &[u8]| {
            let headers = [
                ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
                ("webhook-timestamp", "1614265330"),
                ("webhook-signature", signature),
            ];
            genuine(secret, &headers, body)
        };
        let good = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert!(signed(good, b"{\"test\": 2432232314}"));
        assert!(signed(&format!("v1,AAAA {good}"), b"{\"test\": 2432232314}"));
        assert!(!signed(good, b"{\"test\": 2432232315}"));
        assert!(!signed(&good.replace("v1", "v2"), b"{\"test\": 2432232314}"));
    }

    #[test]
    fn a_secret_that_others_can_read_or_guess_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        let with = |text: &str, mode: u32| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            Secret::read(&path).is_ok()
        };
        assert!(with("0123456789abcdef\n", 0o600));
        assert!(with("0123456789abcdef\n", 0o640));
        assert!(!with("0123456789abcdef\n", 0o644));
        assert!(!with("short\n", 0o600));
        assert!(!with("\n0123456789abcdef\n", 0o600));
        std::fs::remove_file(&path).unwrap();
        assert!(Secret::read(&path).is_err());
    }
}
