//! Names that become parts of paths, and therefore cannot hold anything a path could misread.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, de};

use crate::limits::{NAME_BYTES_MAX, VERSION_BYTES_MAX};

/// Why a text is not a name or a version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {kind}: {rule}")]
pub struct NameError {
    text: String,
    kind: &'static str,
    rule: &'static str,
}

/// The name of an app, environment, layer, role or host:
/// `[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?` without `..`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Name(String);

/// The version of an artifact: `[A-Za-z0-9][A-Za-z0-9._+-]{0,127}` without `..`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Version(String);

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let edge = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let bytes = text.as_bytes();
        let well_formed = bytes.first().is_some_and(edge)
            && bytes.last().is_some_and(edge)
            && bytes.len() <= NAME_BYTES_MAX
            && bytes.iter().all(|byte| edge(byte) || b"._-".contains(byte))
            && !text.contains("..");
        if !well_formed {
            return Err(NameError {
                text: text.to_owned(),
                kind: "name",
                rule: "1 to 63 characters of a-z, 0-9, `.`, `_` and `-`, a letter or digit at both ends, no `..`",
            });
        }
        Ok(Self(text.to_owned()))
    }
}

impl FromStr for Version {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let bytes = text.as_bytes();
        let well_formed = bytes.first().is_some_and(u8::is_ascii_alphanumeric)
            && bytes.len() <= VERSION_BYTES_MAX
            && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"._+-".contains(byte))
            && !text.contains("..");
        if !well_formed {
            return Err(NameError {
                text: text.to_owned(),
                kind: "version",
                rule: "1 to 128 characters of letters, digits, `.`, `_`, `+` and `-`, beginning with a letter or digit, no `..`",
            });
        }
        Ok(Self(text.to_owned()))
    }
}

macro_rules! text_type {
    ($($name:ty),*) => {$(
        impl $name {
            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    )*};
}
text_type!(Name, Version);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_be_misread_as_paths_are_refused() {
        for bad in ["", ".", "..", "a..b", "-a", "a-", "A", "a/b", "a b", "ä", &"a".repeat(64)] {
            assert!(bad.parse::<Name>().is_err(), "{bad:?} was accepted");
        }
        for good in ["a", "web", "web-1.example_x", &"a".repeat(63)] {
            assert!(good.parse::<Name>().is_ok(), "{good:?} was refused");
        }
    }

    #[test]
    fn versions_cannot_climb_or_hide() {
        for bad in ["", ".1", "1..2", "1/2", "-1", "1 2", &"1".repeat(129)] {
            assert!(bad.parse::<Version>().is_err(), "{bad:?} was accepted");
        }
        for good in ["1.0.0", "V2", "2026-11-20T10", "1.0.0-rc.1+build.5"] {
            assert!(good.parse::<Version>().is_ok(), "{good:?} was refused");
        }
    }
}
