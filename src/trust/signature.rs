//! The SSH signature of one commit. Pure.

use jiff::Timestamp;
use ssh_key::{LineEnding, PublicKey, SshSig};

use super::CommitId;
use super::signers::{Signers, fingerprint};

/// What git signs for, in the words of SSH signatures.
const NAMESPACE: &str = "git";
/// Bytes of a commit: its message is a text that people wrote.
const COMMIT_BYTES_MAX: usize = 1 << 20;

/// Why a commit does not count as signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unsigned {
    /// It has no signature.
    #[error("it is not signed")]
    Missing,
    /// It is signed in a way that is not verified here.
    #[error("it is signed with gpg or x509, not with an SSH key")]
    OtherKind,
    /// Its signature is none.
    #[error("its signature cannot be read: {0}")]
    Malformed(String),
    /// It is a signature over something else.
    #[error("its signature ({key}) is not over this commit")]
    Wrong {
        /// The key's fingerprint.
        key: String,
    },
    /// Nobody knows the key.
    #[error("it is signed by a key that is not among the allowed signers: {key}")]
    UnknownKey {
        /// The key's fingerprint.
        key: String,
    },
    /// The key is somebody's who may not do this.
    #[error("it is signed by `{principal}` ({key}), who is not among the `operators`")]
    OtherRole {
        /// Whose key it is.
        principal: String,
        /// Its fingerprint.
        key: String,
    },
    /// The key is for other purposes.
    #[error("it is signed by `{principal}` with a key that is not for git (`namespaces`)")]
    OtherPurpose {
        /// Whose key it is.
        principal: String,
    },
    /// The key is not valid now.
    #[error("it is signed by `{principal}` with a key that is not valid now (`valid-after`, `valid-before`)")]
    NotValidNow {
        /// Whose key it is.
        principal: String,
    },
}

impl Unsigned {
    /// One word for machines.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Missing => "SignatureMissing",
            Self::OtherKind | Self::Malformed(_) | Self::Wrong { .. } => "SignatureInvalid",
            Self::UnknownKey { .. }
            | Self::OtherRole { .. }
            | Self::OtherPurpose { .. }
            | Self::NotValidNow { .. } => "KeyNotTrusted",
        }
    }
}

/// Whose signature a commit carries that is looked back at: keys count as they did when it was made, by its own
/// clock. `Ok(None)`: it carries one, and nobody said whose signatures are good.
pub fn signed_by(
    id: &CommitId,
    raw: &[u8],
    signers: Option<&Signers>,
    made: Timestamp,
) -> Result<Option<String>, Unsigned> {
    match signers {
        Some(signers) => signer(id, raw, signers, &[], made).map(Some),
        None => match parts(id, raw) {
            Err(Unsigned::Missing) => Err(Unsigned::Missing),
            _ => Ok(None),
        },
    }
}

/// Whose signature the commit carries. `operators`: who may sign; empty: everybody of the file.
///
/// A key's validity is asked of the moment of acceptance, never of the commit's own times: those are whatever its
/// author wrote.
pub(super) fn signer(
    id: &CommitId,
    raw: &[u8],
    signers: &Signers,
    operators: &[String],
    now: Timestamp,
) -> Result<String, Unsigned> {
    let (payload, armour) = parts(id, raw)?;
    let malformed = |error: &dyn std::fmt::Display| Unsigned::Malformed(error.to_string());
    let signature = SshSig::from_pem(&armour).map_err(|error| malformed(&error))?;
    let key = PublicKey::from(signature.public_key().clone());
    let print = fingerprint(signature.public_key());
    if signature.namespace() != NAMESPACE {
        return Err(Unsigned::Malformed(format!(
            "it is a signature for `{}`",
            signature.namespace().escape_debug()
        )));
    }
    if !signature.reserved().is_empty() {
        return Err(Unsigned::Malformed("it has a part that is reserved".to_owned()));
    }
    // One encoding only: what follows or precedes the signature in its armour is nobody's.
    if signature.to_pem(LineEnding::LF).map_err(|error| malformed(&error))?.trim_end() != armour.trim_end() {
        return Err(Unsigned::Malformed("it is not in the form that ssh-keygen writes".to_owned()));
    }
    key.verify(NAMESPACE, &payload, &signature).map_err(|_| Unsigned::Wrong { key: print.clone() })?;
    judge_key(&signature, print, signers, operators, now)
}

/// Whether somebody who may sign has this key, for this, now. Says what is closest to it otherwise.
fn judge_key(
    signature: &SshSig,
    print: String,
    signers: &Signers,
    operators: &[String],
    now: Timestamp,
) -> Result<String, Unsigned> {
    let mut nearest = Unsigned::UnknownKey { key: print.clone() };
    for entry in signers.of(signature.public_key()) {
        let name = match operators {
            [] => entry.to_string(),
            operators => match operators.iter().find(|name| entry.is_of(name)) {
                Some(name) => name.clone(),
                None => {
                    nearest = Unsigned::OtherRole { principal: entry.to_string(), key: print.clone() };
                    continue;
                }
            },
        };
        if !entry.is_for(NAMESPACE) {
            nearest = Unsigned::OtherPurpose { principal: name };
        } else if !entry.is_valid_at(now) {
            nearest = Unsigned::NotValidNow { principal: name };
        } else {
            return Ok(name);
        }
    }
    Err(nearest)
}

/// What was signed, and the armoured signature: the commit without and with its one header for it.
fn parts(id: &CommitId, raw: &[u8]) -> Result<(Vec<u8>, String), Unsigned> {
    if raw.len() > COMMIT_BYTES_MAX {
        return Err(Unsigned::Malformed(format!("the commit has more than {COMMIT_BYTES_MAX} bytes")));
    }
    let own: &[u8] = if id.as_str().len() == 40 { b"gpgsig " } else { b"gpgsig-sha256 " };
    let end = raw.windows(2).position(|pair| pair == b"\n\n").map_or(raw.len(), |at| at + 1);
    let (head, message) = raw.split_at(end);
    let (mut payload, mut armour, mut inside, mut seen) = (Vec::new(), Vec::new(), false, 0);
    for line in head.split_inclusive(|byte| *byte == b'\n') {
        if let Some(first) = line.strip_prefix(own) {
            (inside, seen) = (true, seen + 1);
            armour.extend_from_slice(first);
        } else if let (true, Some(more)) = (inside, line.strip_prefix(b" ")) {
            armour.extend_from_slice(more);
        } else if line.starts_with(b"gpgsig") {
            // Another hash's signature beside it: what git leaves out of the payload then differs by version.
            return Err(Unsigned::Malformed("it has a second kind of signature beside it".to_owned()));
        } else {
            inside = false;
            payload.extend_from_slice(line);
        }
    }
    payload.extend_from_slice(message);
    match seen {
        0 => return Err(Unsigned::Missing),
        1 => {}
        _ => return Err(Unsigned::Malformed("it has several signatures".to_owned())),
    }
    let armour = String::from_utf8(armour).map_err(|_| Unsigned::Malformed("it is not text".to_owned()))?;
    if !armour.starts_with("-----BEGIN SSH SIGNATURE-----") {
        return Err(Unsigned::OtherKind);
    }
    Ok((payload, armour))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> CommitId {
        CommitId::parse(&"a".repeat(40)).unwrap()
    }

    #[test]
    fn the_signature_is_the_header_and_the_payload_is_all_the_rest() {
        let raw = b"tree 1\nauthor a\ngpgsig -----BEGIN SSH SIGNATURE-----\n abc\n -----END SSH SIGNATURE-----\nencoding x\n\nsubject\n\ngpgsig no\n body\n";
        let (payload, armour) = parts(&id(), raw).unwrap();
        assert_eq!(payload, b"tree 1\nauthor a\nencoding x\n\nsubject\n\ngpgsig no\n body\n");
        assert_eq!(armour, "-----BEGIN SSH SIGNATURE-----\nabc\n-----END SSH SIGNATURE-----\n");
    }

    #[test]
    fn what_is_not_one_ssh_signature_is_none() {
        let reason = |raw: &[u8]| parts(&id(), raw).unwrap_err().reason();
        assert_eq!(reason(b"tree 1\n\nsubject\n"), "SignatureMissing");
        assert_eq!(reason(b"tree 1\n\ngpgsig -----BEGIN SSH SIGNATURE-----\n"), "SignatureMissing");
        assert_eq!(reason(b"tree 1\ngpgsig -----BEGIN PGP SIGNATURE-----\n x\n\ns\n"), "SignatureInvalid");
        assert_eq!(reason(b"tree 1\ngpgsig a\ngpgsig b\n\ns\n"), "SignatureInvalid");
        assert_eq!(reason(b"tree 1\ngpgsig a\ngpgsig-sha256 b\n\ns\n"), "SignatureInvalid");
        assert_eq!(reason(&vec![b'x'; COMMIT_BYTES_MAX + 1]), "SignatureInvalid");
    }
}
