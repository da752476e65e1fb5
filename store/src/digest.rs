//! Content identities: BLAKE3 hashes, typed by what they name.
//!
//! A blob's id is the plain BLAKE3 of its content (`b3sum` agrees). Trees and artifacts are hashed in
//! BLAKE3's `derive_key` mode with a context of their own, so a file whose *content* is a valid tree
//! can never share an id with that tree.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

const TREE_CONTEXT: &str = "landfall 2026-11-20 tree v1";
const ARTIFACT_CONTEXT: &str = "landfall 2026-11-20 artifact v1";

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// Not exactly 64 hexadecimal digits.
    #[error("`{0}` is not a full id: {1} characters, 64 lower-case hex digits are needed")]
    Length(String, usize),
    /// A character outside `0-9a-f`.
    #[error("`{0}` is not an id: only the digits 0-9 and a-f are allowed")]
    NotHex(String),
    /// An artifact id without its `b3:` prefix.
    #[error("`{0}` is not an artifact id: it must begin with `b3:`")]
    NoPrefix(String),
}

/// 32 bytes of BLAKE3. Shown as 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest with these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The plain BLAKE3 of `content`.
    pub fn of(content: &[u8]) -> Self {
        Self(*blake3::hash(content).as_bytes())
    }

    /// BLAKE3 of `content` in the key-derivation mode named by `context`.
    pub fn derived(context: &str, content: &[u8]) -> Self {
        Self(blake3::derive_key(context, content))
    }

    /// The raw bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The 64 hex digits, without an allocation.
    pub fn to_hex(&self) -> impl std::ops::Deref<Target = str> {
        Hex(blake3::Hash::from_bytes(self.0).to_hex())
    }

    /// The first 12 hex digits, the form people read.
    pub fn short(&self) -> String {
        let mut hex = self.to_string();
        hex.truncate(12);
        hex
    }
}

struct Hex<T>(T);

impl<T: AsRef<str>> std::ops::Deref for Hex<T> {
    type Target = str;

    fn deref(&self) -> &str {
        self.0.as_ref()
    }
}

impl From<blake3::Hash> for Digest {
    fn from(hash: blake3::Hash) -> Self {
        Self(*hash.as_bytes())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        if text.len() != 64 {
            return Err(DigestError::Length(text.to_owned(), text.chars().count()));
        }
        let mut bytes = [0u8; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            match (nibble(pair[0]), nibble(pair[1])) {
                (Some(high), Some(low)) => *byte = high << 4 | low,
                _ => return Err(DigestError::NotHex(text.to_owned())),
            }
        }
        Ok(Self(bytes))
    }
}

const fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// The id of a file's content.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BlobId(pub Digest);

impl BlobId {
    /// The id of this content.
    pub fn of(content: &[u8]) -> Self {
        Self(Digest::of(content))
    }
}

/// The id of a canonical tree.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TreeId(pub Digest);

impl TreeId {
    /// The id of a tree with these canonical bytes.
    pub fn of(canonical: &[u8]) -> Self {
        Self(Digest::derived(TREE_CONTEXT, canonical))
    }

    /// The same of canonical bytes that are read to their end.
    pub fn read(canonical: impl std::io::Read) -> std::io::Result<Self> {
        let mut hasher = blake3::Hasher::new_derive_key(TREE_CONTEXT);
        Ok(Self(hasher.update_reader(canonical)?.finalize().into()))
    }
}

/// The id of a pack file: the plain BLAKE3 of its bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PackId(pub Digest);

/// The public name of a version: `b3:` and 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ArtifactId(pub Digest);

impl ArtifactId {
    /// The id of an artifact with these canonical bytes.
    pub fn of(canonical: &[u8]) -> Self {
        Self(Digest::derived(ARTIFACT_CONTEXT, canonical))
    }

    /// The first 12 hex digits without the prefix, the form people read.
    pub fn short(&self) -> String {
        self.0.short()
    }
}

impl fmt::Display for ArtifactId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b3:{}", self.0)
    }
}

impl FromStr for ArtifactId {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let hex = text.strip_prefix("b3:").ok_or_else(|| DigestError::NoPrefix(text.to_owned()))?;
        Ok(Self(hex.parse()?))
    }
}

impl Serialize for ArtifactId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ArtifactId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

macro_rules! shown_as_digest {
    ($($id:ty),*) => {$(
        impl fmt::Display for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
        impl fmt::Debug for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}
shown_as_digest!(BlobId, TreeId, PackId);

impl fmt::Debug for ArtifactId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_being_written_and_read() {
        let id = ArtifactId::of(b"{}");
        assert_eq!(id.to_string().parse::<ArtifactId>().unwrap(), id);
        assert!(id.to_string().starts_with("b3:"));
    }

    #[test]
    fn upper_case_short_and_unprefixed_ids_are_refused() {
        let hex = Digest::of(b"x").to_string();
        assert!(hex.to_uppercase().parse::<Digest>().is_err());
        assert!(hex[..12].parse::<Digest>().is_err());
        assert!(hex.parse::<ArtifactId>().is_err());
    }

    #[test]
    fn a_file_that_looks_like_a_tree_never_shares_its_id() {
        let bytes = b"landfall-tree 1\n";
        let ids = [BlobId::of(bytes).0, TreeId::of(bytes).0, ArtifactId::of(bytes).0];
        assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2]);
    }
}
