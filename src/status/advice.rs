//! What to type next after a failure: a table, so that every reason has an answer.

use landfall_store::{ArtifactId, Name};

use crate::record::journal::{Class, Failure};

/// Which app it is about.
pub(super) struct About<'a> {
    pub app: &'a Name,
    pub environment: &'a Name,
    pub artifact: ArtifactId,
}

/// Reasons whose mending is not that of their class. `{app}`, `{env}` and `{id}` are filled in.
const REASONS: &[(&str, &str)] = &[
    ("InsufficientSpace", "make room (`landfall doctor` says where), then `landfall retry {app}`"),
    ("NotFound", "where it was packed: `landfall push {id} --to STORE`; or deploy another version"),
    ("DigestMismatch", "push it again: `landfall push {id} --to STORE`; the store's copy is damaged"),
    ("FetchFailed", "`landfall doctor` says whether the store can be reached"),
    ("EnvInvalid", "correct the env files (`landfall doctor` checks them), then `landfall retry {app}`"),
    ("EnvLayerMissing", "put the file into `env_dir`, then `landfall retry {app}`"),
    ("EnvUnreadable", "`landfall doctor` says which account may read what"),
    ("PortHeld", "is that the app itself? `landfall adopt {app} --pid <pid>`; else stop it"),
    ("ManagerDown", "`landfall doctor` looks for the programs it needs"),
    ("ManagerUnknown", "name another manager under [start] of the recipe"),
    ("WrongEnvironment", "deploy one that was packed for `{env}`: `landfall ls {app}` lists them"),
    ("WrongApp", "deploy one of `{app}`: `landfall ls {app}` lists them"),
    ("VersionMismatch", "correct the version in the state: `landfall state lint`"),
    ("ReleaseUnreadable", "a newer landfall is needed on this host"),
    ("FeatureUnknown", "a newer landfall is needed on this host"),
    ("ContentChanged", "`landfall verify {app}` names the files"),
    ("RevertFailed", "`landfall logs {app}` shows its last words; deploy a version that works"),
    ("RecordDamaged", "`landfall history {app} --verify` names the place"),
];

/// What the failure asks of a person.
pub(super) fn after(failure: &Failure, about: &About<'_>) -> String {
    let special = REASONS.iter().find(|(reason, _)| *reason == failure.reason).map(|(_, advice)| *advice);
    let advice = special.unwrap_or(match failure.class {
        Class::Refused => "correct what it names; `landfall doctor` checks it",
        Class::Supply => "`landfall doctor` says whether the store can be reached",
        Class::Host | Class::Manager => "`landfall doctor` says what is missing on this host",
        Class::Prepare | Class::Migrate => "`landfall describe {app}` shows what the step printed",
        _ => "`landfall describe {app}` shows the evidence",
    });
    let filled = advice.replace("{app}", about.app.as_str()).replace("{env}", about.environment.as_str());
    filled.replace("{id}", &about.artifact.to_string()[..15])
}

/// Every reason that has an answer of its own, for the tests.
#[cfg(test)]
pub(super) fn reasons() -> impl Iterator<Item = &'static str> {
    REASONS.iter().map(|(reason, _)| *reason)
}
