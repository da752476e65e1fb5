//! Artifacts: the canonical JSON document that names every layer of a version, and so every byte of it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::digest::{ArtifactId, TreeId};
use crate::json::{self, JsonError};
use crate::limits::{ARTIFACT_BYTES_MAX, LAYERS_MAX};
use crate::name::Name;

/// The `format` of every artifact this landfall writes and reads.
pub const FORMAT: &str = "landfall.artifact/1";

/// The name that every env layer has.
pub const ENV_LAYER: &str = "env";

/// An immutable build result. It holds no time, host, user or commit: equal input, equal id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Artifact {
    /// The app it is a version of.
    pub app: Name,
    /// The one environment it may run in; absent: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<Name>,
    /// [`FORMAT`].
    pub format: String,
    /// Sorted by (name, environment).
    pub layers: Vec<Layer>,
    /// What acts on a host. Opaque to the store.
    pub release: Map<String, Value>,
}

/// One layer of an artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Layer {
    /// Sum of its files' sizes.
    pub bytes: u64,
    /// The environment it is for; absent: every one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<Name>,
    /// Number of its files.
    pub files: u64,
    /// Where it stands in the release; format 1 knows only the top, `""`.
    pub mount: String,
    /// Its name.
    pub name: Name,
    /// Roles it is for, sorted; absent: every one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<Name>,
    /// Its content.
    pub tree: TreeId,
}

/// Why bytes are not an artifact.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// Not canonical JSON of this shape.
    #[error("artifact: {0}")]
    Json(#[from] JsonError),
    /// Another or a newer format.
    #[error("artifact format `{0}` is not `{FORMAT}`: a newer landfall is needed to read it")]
    Format(String),
    /// A rule of the document is broken.
    #[error("artifact: {0}")]
    Rule(String),
}

impl Layer {
    /// Whether it holds env files.
    pub fn is_env(&self) -> bool {
        self.name.as_str() == ENV_LAYER
    }

    /// Whether a host with these roles in this environment takes it.
    pub fn applies(&self, environment: &Name, roles: &[Name]) -> bool {
        self.environment.as_ref().is_none_or(|own| own == environment)
            && (self.roles.is_empty() || self.roles.iter().any(|role| roles.contains(role)))
    }

    /// Whether some (role, environment) takes both layers, so that their paths must be disjoint.
    pub fn may_meet(&self, other: &Self) -> bool {
        let environments = match (&self.environment, &other.environment) {
            (Some(a), Some(b)) => a == b,
            _ => true,
        };
        let roles = self.roles.is_empty()
            || other.roles.is_empty()
            || self.roles.iter().any(|role| other.roles.contains(role));
        environments && roles
    }
}

impl Artifact {
    /// Sorts the layers and checks the document's rules.
    pub fn new(
        app: Name,
        environment: Option<Name>,
        mut layers: Vec<Layer>,
        release: Map<String, Value>,
    ) -> Result<Self, ArtifactError> {
        layers.sort_by(|a, b| (&a.name, &a.environment).cmp(&(&b.name, &b.environment)));
        for layer in &mut layers {
            layer.roles.sort();
            layer.roles.dedup();
        }
        let artifact = Self { app, environment, format: FORMAT.to_owned(), layers, release };
        artifact.check()?;
        Ok(artifact)
    }

    /// The canonical bytes.
    pub fn encode(&self) -> Result<Vec<u8>, ArtifactError> {
        let bytes = json::encode(self)?;
        if bytes.len() > ARTIFACT_BYTES_MAX {
            return Err(ArtifactError::Rule(format!(
                "it has {} bytes; {ARTIFACT_BYTES_MAX} are possible",
                bytes.len()
            )));
        }
        Ok(bytes)
    }

    /// The artifact's id.
    pub fn id(&self) -> Result<ArtifactId, ArtifactError> {
        Ok(ArtifactId::of(&self.encode()?))
    }

    /// Reads canonical bytes; anything else is an error.
    pub fn decode(bytes: &[u8]) -> Result<Self, ArtifactError> {
        if bytes.len() > ARTIFACT_BYTES_MAX {
            return Err(ArtifactError::Rule(format!(
                "it has {} bytes; {ARTIFACT_BYTES_MAX} are possible",
                bytes.len()
            )));
        }
        let value: Value = serde_json::from_slice(bytes).map_err(JsonError::from)?;
        if let Some(format) = value.get("format").and_then(Value::as_str)
            && format != FORMAT
        {
            return Err(ArtifactError::Format(format.to_owned()));
        }
        let artifact: Self = json::decode(bytes)?;
        artifact.check()?;
        Ok(artifact)
    }

    /// The layers a host with these roles takes in this environment.
    pub fn layers_for<'a>(
        &'a self,
        environment: &'a Name,
        roles: &'a [Name],
    ) -> impl Iterator<Item = &'a Layer> {
        self.layers.iter().filter(move |layer| layer.applies(environment, roles))
    }

    fn check(&self) -> Result<(), ArtifactError> {
        let rule = |text: String| Err(ArtifactError::Rule(text));
        if self.format != FORMAT {
            return Err(ArtifactError::Format(self.format.clone()));
        }
        if self.layers.len() > LAYERS_MAX {
            return rule(format!("it has {} layers; {LAYERS_MAX} are possible", self.layers.len()));
        }
        for layer in &self.layers {
            if !layer.mount.is_empty() {
                return rule(format!(
                    "layer `{}` has the mount `{}`; only \"\" is possible",
                    layer.name, layer.mount
                ));
            }
            if !layer.roles.is_sorted_by(|a, b| a < b) {
                return rule(format!(
                    "the roles of layer `{}` are not sorted, or one stands twice",
                    layer.name
                ));
            }
            if let (Some(own), Some(all)) = (&layer.environment, &self.environment)
                && own != all
            {
                return rule(format!("layer `{}` is for `{own}`, the artifact for `{all}`", layer.name));
            }
            if layer.is_env() && layer.environment.is_none() {
                return rule("a layer named `env` must be for one environment".to_owned());
            }
        }
        if !self.layers.is_sorted_by(|a, b| (&a.name, &a.environment) < (&b.name, &b.environment)) {
            return rule("its layers are not sorted, or one stands twice".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Tree;

    fn layer(name: &str, environment: Option<&str>) -> Layer {
        Layer {
            bytes: 0,
            environment: environment.map(|name| name.parse().unwrap()),
            files: 0,
            mount: String::new(),
            name: name.parse().unwrap(),
            roles: vec![],
            tree: Tree::default().id(),
        }
    }

    fn sample() -> Artifact {
        let release = serde_json::json!({"version": "1.0.0"});
        Artifact::new(
            "web".parse().unwrap(),
            None,
            vec![layer("env", Some("prod")), layer("deps", None), layer("env", Some("dev"))],
            release.as_object().unwrap().clone(),
        )
        .unwrap()
    }

    #[test]
    fn an_artifact_reads_back_as_itself_and_keeps_its_golden_id() {
        let bytes = sample().encode().unwrap();
        assert_eq!(Artifact::decode(&bytes).unwrap(), sample());
        assert_eq!(sample().id().unwrap().to_string(), GOLDEN);
    }
    const GOLDEN: &str = "b3:4ced99dfaa655f5f3d9afecd9176fb74bd629d1e5d293b090f3617a07c45a97c";

    #[test]
    fn a_newer_format_is_refused_by_name() {
        let text = String::from_utf8(sample().encode().unwrap()).unwrap();
        let newer = text.replace("artifact/1", "artifact/2");
        assert!(matches!(Artifact::decode(newer.as_bytes()), Err(ArtifactError::Format(_))));
    }

    #[test]
    fn every_flipped_bit_is_refused_or_is_another_artifact() {
        let bytes = sample().encode().unwrap();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                if let Ok(read) = Artifact::decode(&flipped) {
                    assert_eq!(read.encode().unwrap(), flipped);
                    assert_ne!(read.id().unwrap(), sample().id().unwrap());
                }
            }
        }
    }

    #[test]
    fn a_host_takes_only_its_own_layers() {
        let prod = "prod".parse().unwrap();
        let sample = sample();
        let names: Vec<_> =
            sample.layers_for(&prod, &[]).map(|l| (l.name.as_str(), l.environment.as_ref())).collect();
        assert_eq!(names, [("deps", None), ("env", Some(&prod))]);
    }
}
