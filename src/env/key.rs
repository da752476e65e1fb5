//! Keys of an environment.

/// What landfall's own keys begin with; nobody else sets them.
pub const OWN_PREFIX: &str = "LANDFALL_";

/// Why a text is not a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an environment key: letters, digits, `_`, `.` and `-`")]
pub struct KeyError(String);

/// Whether `key` is one that a dotenv file can set.
pub fn check(key: &str) -> Result<(), KeyError> {
    let well_formed = !key.is_empty() && key.chars().all(is_key_char);
    if well_formed { Ok(()) } else { Err(KeyError(key.to_owned())) }
}

pub(super) const fn is_key_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')
}
