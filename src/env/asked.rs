//! What env files a host is asked for.

use landfall_store::{Artifact, Name};

use crate::spec::EnvSpec;

/// The recipe's `[env]` as it holds for a host with these roles. Where the artifact's env layers are for other roles
/// only, such as those of servers on a host of files, the host needs no env file and no required key.
pub fn asked_of(spec: &EnvSpec, artifact: &Artifact, environment: &Name, roles: &[Name]) -> EnvSpec {
    let of_environment =
        |layer: &&landfall_store::Layer| layer.environment.as_ref().is_none_or(|it| it == environment);
    let mut packed = artifact.layers.iter().filter(|layer| layer.is_env()).filter(of_environment).peekable();
    let for_others = packed.peek().is_some() && !packed.any(|layer| layer.applies(environment, roles));
    match for_others {
        true => EnvSpec { environments: Vec::new(), required: Vec::new(), ..spec.clone() },
        false => spec.clone(),
    }
}
