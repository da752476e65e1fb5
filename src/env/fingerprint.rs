//! What the environment contributes to a release's identity, without telling anything about it.

use std::collections::BTreeMap;

use landfall_store::Digest;

/// Keyed BLAKE3 over the sorted pairs of the two layers and `[apps.<app>].env`, later ones winning. The key
/// stays on the host, so that nobody can try values against a fingerprint. The agent's base environment,
/// `[env] set` (which is in the artifact) and `LANDFALL_*` are not part of it, and neither is the outcome of
/// expansion: the same files give the same fingerprint.
pub fn fingerprint(secret: &[u8; 32], pairs: &BTreeMap<String, String>) -> Digest {
    let mut hasher = blake3::Hasher::new_keyed(secret);
    for (key, value) in pairs {
        for text in [key, value] {
            // The length first: no two sets of pairs are the same bytes.
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        }
    }
    hasher.finalize().into()
}
