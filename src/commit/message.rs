//! Commit messages that read well in `git log` and that scripts can read too.

use landfall_store::{ArtifactId, Name, Version};

use crate::state::{Suspend, Target};

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

/// The message of a suspension, or of its end: a subject, the reason, and what a reader of the log asks next.
pub(super) fn pause_message(
    app: &Name,
    environment: &Name,
    from: Option<&Suspend>,
    to: Option<&Suspend>,
    reason: Option<&str>,
) -> String {
    let verb = if to.is_some() { "suspend" } else { "resume" };
    let mut paragraphs = vec![format!("{verb} {app} in {environment}")];
    let said = to.map(|suspend| suspend.reason.as_str()).or(reason);
    paragraphs.extend(said.map(|reason| reason.trim().to_owned()));
    match (from, to) {
        (_, Some(suspend)) => {
            let until = suspend.until.map_or_else(|| "resumed".to_owned(), |until| until.to_string());
            paragraphs.push(format!("Until: {until}"));
        }
        (Some(suspend), None) => {
            paragraphs.push(format!(
                "Suspended-By: {}\nSuspended-For: {}",
                suspend.by,
                suspend.reason.trim()
            ));
        }
        (None, None) => {}
    }
    paragraphs.join("\n\n") + "\n"
}

fn full(target: &Target) -> String {
    match &target.version {
        Some(version) => format!("{} ({version})", target.artifact),
        None => target.artifact.to_string(),
    }
}
