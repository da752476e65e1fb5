//! The release identity: what is compared to decide that something changed.
//!
//! It covers the artifact, the environment, this host's roles, user, manager and start overrides, and the env
//! values of the two layers and host.toml. It does not cover landfall's clean base, `LANDFALL_*`, the state's
//! health limits, retention or suspension, or paths, so a tuning commit or an agent upgrade restarts nothing.

use landfall_store::{ArtifactId, Digest, Name, json};
use serde::Serialize;

use crate::config::StartOverride;

const SETTINGS_CONTEXT: &str = "landfall settings v1";
const RELEASE_CONTEXT: &str = "landfall release v1";

/// Everything of an identity but the env.
#[derive(Debug, Clone, Serialize)]
pub struct Settings<'a> {
    /// The artifact.
    pub artifact: ArtifactId,
    /// Where it runs.
    pub environment: &'a Name,
    /// For which parts.
    pub roles: &'a [Name],
    /// As whom.
    pub user: Option<&'a str>,
    /// Started how, where the host differs from the artifact.
    pub start: StartOverride,
    /// Steps that are left out.
    #[serde(skip_serializing_if = "<[Name]>::is_empty")]
    pub skipped: &'a [Name],
}

#[derive(Serialize)]
struct Identity<'a> {
    #[serde(flatten)]
    settings: &'a Settings<'a>,
    env: Digest,
}

impl Settings<'_> {
    /// What is compared to tell an env edit from every other change.
    pub fn digest(&self) -> Digest {
        Digest::derived(SETTINGS_CONTEXT, &canonical(self))
    }

    /// The release identity with this env fingerprint.
    pub fn identity(&self, env: Digest) -> Digest {
        Digest::derived(RELEASE_CONTEXT, &canonical(&Identity { settings: self, env }))
    }
}

fn canonical(value: &impl Serialize) -> Vec<u8> {
    json::encode(value).expect("identities hold only names, hashes and small integers")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_and_the_env_change_the_identity() {
        let prod: Name = "prod".parse().unwrap();
        let roles: [Name; 1] = ["server".parse().unwrap()];
        let env = Digest::of(b"env");
        let base = Settings {
            artifact: ArtifactId::of(b"a"),
            environment: &prod,
            roles: &roles,
            user: None,
            start: StartOverride::default(),
            skipped: &[],
        };
        let identity = base.identity(env);
        assert_eq!(base.clone().identity(env), identity);
        let start = StartOverride { instances: Some(3), ..StartOverride::default() };
        let others = [
            Settings { artifact: ArtifactId::of(b"b"), ..base.clone() },
            Settings { roles: &[], ..base.clone() },
            Settings { user: Some("web"), ..base.clone() },
            Settings { start, ..base.clone() },
            Settings { skipped: &roles, ..base.clone() },
        ];
        for other in &others {
            assert_ne!(other.identity(env), identity, "{other:?}");
            assert_ne!(other.digest(), base.digest(), "{other:?}");
        }
        assert_ne!(base.identity(Digest::of(b"another env")), identity);
    }
}
