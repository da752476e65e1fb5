//! Keys of a store's objects: relative paths of tame components, so that no key can leave the store.

use std::fmt;

use crate::limits::KEY_BYTES_MAX;

/// The name of an object in a store, or of a directory of them: components of `A-Z a-z 0-9 . _ + -`,
/// none of which begins with `.`, joined by `/`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

/// Why a text is not a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` cannot name an object of a store")]
pub struct KeyError(String);

impl Key {
    /// Checks a text.
    pub fn new(text: impl Into<String>) -> Result<Self, KeyError> {
        let text = text.into();
        let tame = |byte: u8| byte.is_ascii_alphanumeric() || b"._+-".contains(&byte);
        let component = |part: &str| !part.is_empty() && !part.starts_with('.') && part.bytes().all(tame);
        if text.len() <= KEY_BYTES_MAX && text.split('/').all(component) {
            Ok(Self(text))
        } else {
            Err(KeyError(text))
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The key of something in this directory.
    pub fn join(&self, name: &str) -> Result<Self, KeyError> {
        Self::new(format!("{}/{name}", self.0))
    }

    /// The last component.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// The first directory above it; `None` for an object at the store's top.
    pub fn top(&self) -> Option<Self> {
        self.0.split_once('/').map(|(top, _)| Self(top.to_owned()))
    }

    /// The directory it is in; `None` for an object at the store's top.
    pub fn parent(&self) -> Option<Self> {
        self.0.rsplit_once('/').map(|(above, _)| Self(above.to_owned()))
    }

    /// The directories above it, from the top, each a key.
    pub fn parents(&self) -> impl Iterator<Item = &str> {
        self.0.match_indices('/').map(|(at, _)| &self.0[..at])
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_could_leave_the_store_cannot_be_made() {
        for bad in ["", "/a", "a/", "a//b", "..", "a/../b", ".hidden", "a/.tmp", "a b", "ü", "a\0"] {
            assert!(Key::new(bad).is_err(), "{bad:?} was accepted");
        }
        assert!(Key::new("x".repeat(KEY_BYTES_MAX + 1)).is_err());
        assert_eq!(Key::new("a/b/c").unwrap().parents().collect::<Vec<_>>(), ["a", "a/b"]);
    }
}
