//! Why there is no environment. No message holds a value.

use std::path::PathBuf;

use super::layer::LayerKind;

/// Why an env file or a whole environment cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum EnvError {
    /// A file that was named is not there.
    #[error("{path}: there is no such env file")]
    NotFound {
        /// Which file.
        path: PathBuf,
    },
    /// A link that leads to itself, directly or in a circle.
    #[error("{path}: the env file is a symbolic link that leads back to itself")]
    LinkLoop {
        /// Which file.
        path: PathBuf,
    },
    /// A link where landfall's own copy is expected.
    #[error("{path}: the env file is a symbolic link; a regular file is needed here")]
    Link {
        /// Which file.
        path: PathBuf,
    },
    /// A directory, device, fifo or socket.
    #[error("{path}: the env file is not a regular file")]
    NotRegular {
        /// Which file.
        path: PathBuf,
    },
    /// More bytes than an env file has.
    #[error("{path}: {bytes} bytes are no env file: at most {most}")]
    TooLarge {
        /// Which file.
        path: PathBuf,
        /// How large it is.
        bytes: u64,
        /// The bound.
        most: u64,
    },
    /// Bytes that are not UTF-8.
    #[error("{path}:{line}: not UTF-8")]
    NotUtf8 {
        /// Which file.
        path: PathBuf,
        /// The first such line, from 1.
        line: usize,
    },
    /// A value no environment can hold.
    #[error("{path}: the value of `{key}` holds a NUL character, which no environment can carry")]
    Nul {
        /// Which file.
        path: PathBuf,
        /// Which key.
        key: String,
    },
    /// Reading failed.
    #[error("{path}: {source}")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A layer that must exist was found nowhere.
    #[error("the {layer} env layer `{file}` was found nowhere")]
    LayerMissing {
        /// Base or local.
        layer: LayerKind,
        /// The file name that was looked for.
        file: String,
    },
    /// Keys the recipe requires.
    #[error("required keys are not set by any env layer: {}", .keys.join(", "))]
    RequiredMissing {
        /// All of them, sorted.
        keys: Vec<String>,
    },
    /// A `${KEY}` that nothing sets.
    #[error("`${{{key}}}` is used but the environment has no `{key}`")]
    Unset {
        /// The key.
        key: String,
    },
    /// A `${` that is no reference.
    #[error("malformed reference: {why}")]
    Malformed {
        /// What is wrong with it.
        why: &'static str,
    },
    /// Expansion inside env files that does not come to an end.
    #[error("expanding `{key}` does not end: it refers to itself by way of other keys")]
    EndlessExpansion {
        /// The key whose value was being expanded.
        key: String,
    },
}

impl EnvError {
    /// What to do about it.
    pub const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::LayerMissing { layer: LayerKind::Local, .. } => Some(
                "put the file into `env_dir` (it may be empty), or say `[env] local = \"optional\"` in the recipe",
            ),
            Self::LayerMissing { .. } => {
                Some("put the file beside the recipe, or into `env_dir` on the host")
            }
            Self::RequiredMissing { .. } => {
                Some("set them in `env_dir`'s files or in `[apps.<app>].env` of host.toml")
            }
            Self::LinkLoop { .. } | Self::Link { .. } => {
                Some("replace the link by the file it was meant to lead to")
            }
            Self::Unset { .. } => Some("set the key in an env layer, or in `[env] set` of the recipe"),
            Self::Malformed { .. } => Some("a reference is written ${KEY}; a literal `${` is written $${"),
            Self::NotFound { .. }
            | Self::NotRegular { .. }
            | Self::TooLarge { .. }
            | Self::NotUtf8 { .. }
            | Self::Nul { .. }
            | Self::Unreadable { .. }
            | Self::EndlessExpansion { .. } => None,
        }
    }
}
