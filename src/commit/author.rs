//! Who makes a change, when nobody says.

use std::path::Path;

use super::git;

/// The person as git knows them in this directory, else `user@host`.
pub fn author(dir: &Path) -> String {
    let own = |key: &str| std::env::var(key).ok().filter(|value| !value.trim().is_empty());
    own("GIT_AUTHOR_EMAIL")
        .or_else(|| git::email(dir))
        .unwrap_or_else(|| format!("{}@{}", login(), crate::config::host_name()))
}

fn login() -> String {
    let own = |key: &str| std::env::var(key).ok().filter(|value| !value.trim().is_empty());
    let known = || nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten().map(|user| user.name);
    own("USER").or_else(known).unwrap_or_else(|| "unknown".to_owned())
}
