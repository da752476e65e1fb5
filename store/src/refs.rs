//! Names for artifacts: versions, and the ways people abbreviate ids.

use serde::{Deserialize, Serialize};

use crate::artifact::Artifact;
use crate::backend::Key;
use crate::digest::{ArtifactId, Digest};
use crate::error::StoreError;
use crate::fetch;
use crate::layout;
use crate::limits::RECORD_BYTES_MAX;
use crate::name::{Name, Version};
use crate::store::Store;

/// Hex digits that an abbreviated id needs.
pub const PREFIX_DIGITS_MIN: usize = 8;
/// Candidates that an error lists.
const CANDIDATES_MAX: usize = 10;

/// Where an artifact came from. Outside its identity.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Provenance {
    /// When it was pushed, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// Who or what built it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub builder: Option<String>,
    /// The source commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
}

/// What a version of an app is: `refs/<app>/<version>.json`. Readers ignore keys they do not know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    artifact: Digest,
    /// Rises with each version of the app and each move of one.
    pub seq: u64,
    /// Where it came from.
    #[serde(flatten)]
    pub provenance: Provenance,
}

impl Reference {
    /// The artifact it names.
    pub const fn artifact(&self) -> ArtifactId {
        ArtifactId(self.artifact)
    }
}

/// One artifact of a store, for lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ArtifactInfo {
    /// Its id.
    pub id: ArtifactId,
    /// Its app.
    pub app: Name,
    /// The version it carries.
    pub version: Option<Version>,
    /// The environment it is bound to, if any.
    pub environment: Option<Name>,
    /// Its layers.
    pub layers: usize,
    /// Files of all layers.
    pub files: u64,
    /// Bytes of all layers.
    pub bytes: u64,
    /// Its place among the app's versions, if a version names it: higher is later.
    pub seq: Option<u64>,
    /// Where it came from, if a version names it.
    pub provenance: Option<Provenance>,
}

/// The version an artifact carries in its release spec.
pub fn version_of(artifact: &Artifact) -> Option<Version> {
    artifact.release.get("version")?.as_str()?.parse().ok()
}

/// What a version names; `None` if there is no such version.
pub fn version(store: &Store, app: &Name, version: &Version) -> Result<Option<Reference>, StoreError> {
    let key = layout::reference(app, version);
    let Some(bytes) = store.backend().find(&key, RECORD_BYTES_MAX)? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| store.damaged(&key, error))
}

/// All versions of an app. One that does not parse is left out, with a warning.
pub fn versions(store: &Store, app: &Name) -> Result<Vec<(Version, Reference)>, StoreError> {
    let mut found = Vec::new();
    for item in store.backend().list(&layout::references_of(app))? {
        let name = item.key.name().strip_suffix(".json").and_then(|name| name.parse::<Version>().ok());
        let Some(name) = name else { continue };
        match version(store, app, &name) {
            Ok(Some(reference)) => found.push((name, reference)),
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "a version is left out"),
        }
    }
    Ok(found)
}

/// Refuses another artifact under a version that exists, unless versions may move.
pub(crate) fn check_version(
    store: &Store,
    artifact: &Artifact,
    id: ArtifactId,
    may_move: bool,
) -> Result<(), StoreError> {
    let Some(name) = version_of(artifact) else { return Ok(()) };
    match version(store, &artifact.app, &name)? {
        Some(reference) if reference.artifact() != id && !may_move => Err(StoreError::VersionTaken {
            app: artifact.app.clone(),
            version: name,
            existing: reference.artifact(),
            new: id,
        }),
        _ => Ok(()),
    }
}

/// Writes the version that an artifact carries; nothing if it says so already: then its key is given back.
pub(crate) fn write_version(
    store: &Store,
    artifact: &Artifact,
    id: ArtifactId,
    may_move: bool,
    provenance: &Provenance,
) -> Result<Option<Key>, StoreError> {
    let Some(name) = version_of(artifact) else { return Ok(None) };
    let key = layout::reference(&artifact.app, &name);
    if version(store, &artifact.app, &name)?.is_some_and(|reference| reference.artifact() == id) {
        return Ok(Some(key));
    }
    // Asked again: somebody may have pushed meanwhile.
    check_version(store, artifact, id, may_move)?;
    let latest = versions(store, &artifact.app)?.iter().map(|(_, reference)| reference.seq).max();
    let reference = Reference {
        artifact: id.0,
        seq: latest.map_or(1, |seq| seq.saturating_add(1)),
        provenance: provenance.clone(),
    };
    let bytes = serde_json::to_vec(&reference).map_err(|error| store.damaged(&key, error))?;
    store.backend().replace(&key, &bytes)?;
    Ok(None)
}

/// The ids of all artifacts, sorted.
pub fn ids(store: &Store) -> Result<Vec<ArtifactId>, StoreError> {
    let listed = store.backend().list(&layout::artifacts())?;
    Ok(listed.iter().filter_map(|item| layout::digest_of(&item.key, "json")).map(ArtifactId).collect())
}

/// Everything `landfall ls` shows, by app, then latest version first. An artifact that is damaged is left
/// out, with a warning.
pub fn list(store: &Store) -> Result<Vec<ArtifactInfo>, StoreError> {
    let mut found = Vec::new();
    for id in ids(store)? {
        match fetch::artifact(store, &id) {
            Ok(artifact) => found.push(info(store, id, &artifact)?),
            Err(error) => tracing::warn!(%error, "an artifact is left out"),
        }
    }
    found.sort_by(|a, b| (&a.app, b.seq, a.id).cmp(&(&b.app, a.seq, b.id)));
    Ok(found)
}

fn info(store: &Store, id: ArtifactId, artifact: &Artifact) -> Result<ArtifactInfo, StoreError> {
    let carried = version_of(artifact);
    let reference = match &carried {
        Some(name) => version(store, &artifact.app, name)?.filter(|reference| reference.artifact() == id),
        None => None,
    };
    Ok(ArtifactInfo {
        id,
        app: artifact.app.clone(),
        version: carried,
        environment: artifact.environment.clone(),
        layers: artifact.layers.len(),
        files: artifact.layers.iter().map(|layer| layer.files).sum(),
        bytes: artifact.layers.iter().map(|layer| layer.bytes).sum(),
        seq: reference.as_ref().map(|reference| reference.seq),
        provenance: reference.map(|reference| reference.provenance),
    })
}

/// The artifact that a text means: a full id, a unique beginning of at least [`PREFIX_DIGITS_MIN`] hex
/// digits (with or without `b3:`), or a version, of `app` if it is given.
///
/// A version wins over a beginning of an id that looks the same.
///
/// A store that cannot be listed knows full ids, and versions of an app that is given.
pub fn resolve(store: &Store, app: Option<&Name>, text: &str) -> Result<ArtifactId, StoreError> {
    resolve_listed(store, app, text).map_err(|error| match error {
        StoreError::Backend(error) if error.is_unsupported() => {
            StoreError::Unlisted { text: text.to_owned(), at: store.location() }
        }
        other => other,
    })
}

fn resolve_listed(store: &Store, app: Option<&Name>, text: &str) -> Result<ArtifactId, StoreError> {
    let hex = text.strip_prefix("b3:").unwrap_or(text);
    if let Ok(digest) = hex.parse::<Digest>() {
        return known(store, app, text, ArtifactId(digest));
    }
    let found = match text.parse::<Version>() {
        Ok(version) if !text.starts_with("b3:") => by_version(store, app, &version)?,
        _ => Vec::new(),
    };
    let found = if found.is_empty() { by_prefix(store, app, hex)? } else { found };
    match found.as_slice() {
        [(id, _)] => Ok(*id),
        [] => Err(unknown(store, app, text)?),
        several => Err(StoreError::Ambiguous {
            text: text.to_owned(),
            candidates: several.iter().take(CANDIDATES_MAX).map(|(_, shown)| shown.clone()).collect(),
        }),
    }
}

fn known(store: &Store, app: Option<&Name>, text: &str, id: ArtifactId) -> Result<ArtifactId, StoreError> {
    match store.backend().size(&layout::artifact(&id))? {
        Some(_) => Ok(id),
        None => Err(unknown(store, app, text)?),
    }
}

fn by_version(
    store: &Store,
    app: Option<&Name>,
    wanted: &Version,
) -> Result<Vec<(ArtifactId, String)>, StoreError> {
    let apps = match app {
        Some(app) => vec![app.clone()],
        None => apps(store)?,
    };
    let mut found = Vec::new();
    for app in apps {
        if let Some(reference) = version(store, &app, wanted)? {
            let id = reference.artifact();
            found.push((id, format!("{app} {wanted} (b3:{})", id.short())));
        }
    }
    Ok(found)
}

fn by_prefix(store: &Store, app: Option<&Name>, hex: &str) -> Result<Vec<(ArtifactId, String)>, StoreError> {
    let digits = hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if !digits || hex.len() < PREFIX_DIGITS_MIN {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for id in ids(store)?.into_iter().filter(|id| id.0.to_string().starts_with(hex)) {
        let artifact = fetch::artifact(store, &id)?;
        if app.is_none_or(|app| *app == artifact.app) {
            found.push((id, id.to_string()));
        }
    }
    Ok(found)
}

fn apps(store: &Store) -> Result<Vec<Name>, StoreError> {
    let listed = store.backend().list(&layout::references())?;
    let mut apps: Vec<Name> =
        listed.iter().filter_map(|item| item.key.as_str().split('/').nth(1)?.parse().ok()).collect();
    apps.dedup();
    Ok(apps)
}

fn unknown(store: &Store, app: Option<&Name>, text: &str) -> Result<StoreError, StoreError> {
    let listed = match list(store) {
        Err(StoreError::Backend(error)) if error.is_unsupported() => Vec::new(),
        listed => listed?,
    };
    let of_app = listed.into_iter().filter(|info| app.is_none_or(|app| *app == info.app));
    let shown = |info: ArtifactInfo| match info.version {
        Some(version) => format!("{} {version} (b3:{})", info.app, info.id.short()),
        None => format!("{} (b3:{})", info.app, info.id.short()),
    };
    Ok(StoreError::UnknownArtifact {
        text: text.to_owned(),
        at: store.location(),
        candidates: of_app.take(CANDIDATES_MAX).map(shown).collect(),
    })
}
