//! The layers in their order, as a pure function.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use landfall_store::{Digest, Name};

use super::error::EnvError;
use super::expansion;
use super::layer::{Layer, LayerKind, file_name};
use super::{dotenv_expand, fingerprint::fingerprint};
use crate::spec::EnvSpec;

/// Where the environment is for: each has its own idea of what may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A build: only the base layer is needed (none at all without an environment), and keys of `[env] set`
    /// that speak of facts only a host has are left out.
    Build,
    /// A release: both layers must resolve unless the recipe says that the local one is optional.
    Host,
}

/// Everything an environment is made of. Later fields win over earlier ones, `spec.set` coming second.
#[derive(Debug, Clone)]
pub struct EnvInput<'a> {
    /// What may be missing.
    pub place: Place,
    /// The recipe's part.
    pub spec: &'a EnvSpec,
    /// Which environment; `None`: a build for all of them, without env layers.
    pub environment: Option<&'a Name>,
    /// `PATH`, `HOME`, `LANG`, `TZ`.
    pub clean: &'a BTreeMap<String, String>,
    /// `.env.<env>`.
    pub base: Option<&'a Layer>,
    /// `.env.<env>.local`.
    pub local: Option<&'a Layer>,
    /// `[apps.<app>].env`.
    pub host: &'a BTreeMap<String, String>,
    /// `LANDFALL_*`.
    pub landfall: &'a BTreeMap<String, String>,
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// landfall's clean base.
    Clean,
    /// `[env] set` of the recipe.
    Set,
    /// The base layer, read from this file.
    Base(PathBuf),
    /// The local layer, read from this file.
    Local(PathBuf),
    /// `[apps.<app>].env` of host.toml.
    Host,
    /// landfall itself.
    Landfall,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clean => f.write_str("clean base"),
            Self::Set => f.write_str("recipe [env] set"),
            Self::Base(path) => write!(f, "base layer {}", path.display()),
            Self::Local(path) => write!(f, "local layer {}", path.display()),
            Self::Host => f.write_str("host.toml [apps] env"),
            Self::Landfall => f.write_str("landfall"),
        }
    }
}

/// One value. `Debug` shows its origin only.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// The value: a secret.
    pub value: String,
    /// Where it came from.
    pub origin: Origin,
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}>", self.origin)
    }
}

/// A complete environment. `Debug` shows keys and origins, never a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedEnv {
    /// Every key of it.
    pub entries: BTreeMap<String, Entry>,
    layered: Layered,
}

/// The winning pairs of the layers and host.toml before expansion.
#[derive(Clone, Default, PartialEq, Eq)]
struct Layered(BTreeMap<String, String>);

impl fmt::Debug for Layered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl ResolvedEnv {
    /// The pairs as a process gets them.
    pub fn vars(&self) -> BTreeMap<String, String> {
        self.entries.iter().map(|(key, entry)| (key.clone(), entry.value.clone())).collect()
    }

    /// See [`fingerprint`](crate::env::fingerprint). It does not depend on the `LANDFALL_*` keys given to
    /// [`resolve`], so it can be taken before the release has a name.
    pub fn fingerprint(&self, secret: &[u8; 32]) -> Digest {
        fingerprint(secret, &self.layered.0)
    }
}

/// Puts the layers in order: clean base < `[env] set` < base < local < `[apps.<app>].env` < `LANDFALL_*`.
pub fn resolve(input: &EnvInput<'_>) -> Result<ResolvedEnv, EnvError> {
    layers_are_there(input)?;
    let mut resolved = ResolvedEnv { entries: BTreeMap::new(), layered: layered(input) };
    resolved.lay(input.clean, &Origin::Clean);
    resolved.lay(&set(input)?, &Origin::Set);
    for (layer, origin) in [(input.base, Origin::Base as fn(PathBuf) -> Origin), (input.local, Origin::Local)]
    {
        if let Some(layer) = layer {
            resolved.lay(layer.pairs.iter().map(|(key, value)| (key, value)), &origin(layer.path.clone()));
        }
    }
    resolved.lay(input.host, &Origin::Host);
    resolved.lay(input.landfall, &Origin::Landfall);
    if input.spec.expand {
        resolved.expand(input)?;
    }
    required(input, &resolved)?;
    Ok(resolved)
}

impl ResolvedEnv {
    fn lay<'a>(&mut self, pairs: impl IntoIterator<Item = (&'a String, &'a String)>, origin: &Origin) {
        for (key, value) in pairs {
            let entry = Entry { value: value.clone(), origin: origin.clone() };
            self.entries.insert(key.clone(), entry);
        }
    }

    /// Expands what the two files hold, and only that: a value set by host.toml or inherited is literal.
    fn expand(&mut self, input: &EnvInput<'_>) -> Result<(), EnvError> {
        let mut values = self.vars();
        dotenv_expand::expand(&self.keys_from_files(input), &mut values)?;
        for (key, value) in values {
            if let Some(entry) = self.entries.get_mut(&key) {
                entry.value = value;
            }
        }
        Ok(())
    }

    /// In the order dotenv-cli sees them with the override given first.
    fn keys_from_files(&self, input: &EnvInput<'_>) -> Vec<String> {
        let from_file = |key: &&String| {
            matches!(
                self.entries.get(*key).map(|entry| &entry.origin),
                Some(Origin::Base(_) | Origin::Local(_))
            )
        };
        let mut keys: Vec<String> = Vec::new();
        for (key, _) in [input.local, input.base].into_iter().flatten().flat_map(|layer| &layer.pairs) {
            if from_file(&key) && !keys.contains(key) {
                keys.push(key.clone());
            }
        }
        keys
    }
}

fn layered(input: &EnvInput<'_>) -> Layered {
    let mut pairs = BTreeMap::new();
    for layer in [input.base, input.local].into_iter().flatten() {
        pairs.extend(layer.pairs.iter().cloned());
    }
    pairs.extend(input.host.iter().map(|(key, value)| (key.clone(), value.clone())));
    Layered(pairs)
}

fn layers_are_there(input: &EnvInput<'_>) -> Result<(), EnvError> {
    let Some(environment) = input.environment else {
        return Ok(());
    };
    if input.spec.environments.is_empty() {
        return Ok(());
    }
    let local_needed = input.place == Place::Host && !input.spec.local_optional;
    let missing = match (input.base, input.local) {
        (None, _) => Some(LayerKind::Base),
        (_, None) if local_needed => Some(LayerKind::Local),
        _ => None,
    };
    missing.map_or(Ok(()), |layer| {
        Err(EnvError::LayerMissing { layer, file: file_name(input.spec, environment, layer) })
    })
}

fn set(input: &EnvInput<'_>) -> Result<BTreeMap<String, String>, EnvError> {
    let mut set = BTreeMap::new();
    for (key, text) in &input.spec.set {
        match expansion::expand(text, input.landfall) {
            Ok(value) => drop(set.insert(key.clone(), value)),
            Err(EnvError::Unset { .. }) if input.place == Place::Build => {}
            Err(error) => return Err(error),
        }
    }
    Ok(set)
}

/// A build needs no secrets of the host; a release needs every key the recipe names, empty counting as set.
fn required(input: &EnvInput<'_>, resolved: &ResolvedEnv) -> Result<(), EnvError> {
    if input.place == Place::Build {
        return Ok(());
    }
    let mut keys: Vec<String> = input.spec.required.clone();
    keys.retain(|key| !resolved.entries.contains_key(key));
    keys.sort();
    if keys.is_empty() { Ok(()) } else { Err(EnvError::RequiredMissing { keys }) }
}
