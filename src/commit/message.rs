//! Commit messages that read well in `git log` and that scripts can read too.

use landfall_store::{ArtifactId, Name, Version};

use crate::state::Target;

/// What a person does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Goes on.
    Deploy,
    /// Goes back.
    RollBack,
    /// Takes what another environment has.
    Promote,
}

/// `1.4.0`, or 12 digits of the id where there is no version.
pub(super) fn called(version: Option<&Version>, artifact: &ArtifactId) -> String {
    version.map_or_else(|| artifact.short(), ToString::to_string)
}

/// The message of a commit: a subject, the reason, and trailers with the ids in full.
pub(super) fn message(
    verb: Verb,
    app: &Name,
    environment: &Name,
    from: Option<&Target>,
    to: &Target,
) -> String {
    let name = called(to.version.as_ref(), &to.artifact);
    let subject = match verb {
        Verb::Deploy => format!("deploy {app} {name} to {environment}"),
        Verb::Promote => format!("promote {app} {name} to {environment}"),
        Verb::RollBack => format!("roll back {app} to {name} in {environment}"),
    };
    let reason = to.reason.as_deref().map(|reason| format!("{}\n\n", reason.trim()));
    let from = from.map(|from| format!("From: {}\n", full(from)));
    format!("{subject}\n\n{}{}Artifact: {}\n", reason.unwrap_or_default(), from.unwrap_or_default(), full(to))
}

fn full(target: &Target) -> String {
    match &target.version {
        Some(version) => format!("{} ({version})", target.artifact),
        None => target.artifact.to_string(),
    }
}
