//! Where a store keeps what: the keys of its objects.

use crate::backend::Key;
use crate::digest::{ArtifactId, Digest, PackId, TreeId};
use crate::name::{Name, Version};

/// The store's own record.
pub fn record() -> Key {
    tame("landfall-store.json".to_owned())
}

/// An artifact's canonical JSON.
pub fn artifact(id: &ArtifactId) -> Key {
    object("artifacts", &id.0, "json")
}

/// A tree's canonical bytes, compressed.
pub fn tree(id: &TreeId) -> Key {
    object("trees", &id.0, "zst")
}

/// A pack.
pub fn pack(id: &PackId) -> Key {
    object("packs", &id.0, "lfp")
}

/// A copy of a pack's directory. Env layers' packs have none, so that nothing is ever shared with them.
pub fn index(id: &PackId) -> Key {
    object("packs", &id.0, "idx")
}

/// The segments of a large tree.
pub fn segments(id: &TreeId) -> Key {
    object("segments", &id.0, "list")
}

/// Where a tree's contents are.
pub fn locator(id: &TreeId) -> Key {
    object("loc", &id.0, "json.zst")
}

/// What turns the tree `from` into the tree `to`.
pub fn delta(to: &TreeId, from: &TreeId) -> Key {
    let hex = to.to_string();
    tame(format!("deltas/{}/{hex}/{from}.lfd", &hex[..2]))
}

/// All deltas.
pub fn deltas() -> Key {
    tame("deltas".to_owned())
}

/// Which deltas lead to an artifact's trees.
pub fn hints(id: &ArtifactId) -> Key {
    object("hints", &id.0, "json")
}

/// The hints of all artifacts.
pub fn all_hints() -> Key {
    tame("hints".to_owned())
}

/// What a version of an app is.
pub fn reference(app: &Name, version: &Version) -> Key {
    tame(format!("refs/{app}/{version}.json"))
}

/// The versions of an app.
pub fn references_of(app: &Name) -> Key {
    tame(format!("refs/{app}"))
}

/// The versions of all apps.
pub fn references() -> Key {
    tame("refs".to_owned())
}

/// What hosts report of themselves.
pub fn reports() -> Key {
    tame("status".to_owned())
}

/// What one host reports of itself in an environment.
pub fn report(host: &Name, environment: &Name) -> Key {
    tame(format!("status/{host}/{environment}/host.json"))
}

/// A part of the history that it reports of an app.
pub fn reported_history(host: &Name, environment: &Name, app: &Name, number: u32) -> Key {
    tame(format!("status/{host}/{environment}/{app}/history-{number:06}.ndjson"))
}

/// Everything that one host reports.
pub fn reports_of(host: &Name) -> Key {
    tame(format!("status/{host}"))
}

/// All artifacts.
pub fn artifacts() -> Key {
    tame("artifacts".to_owned())
}

/// All packs and their directories.
pub fn packs() -> Key {
    tame("packs".to_owned())
}

/// All trees.
pub fn trees() -> Key {
    tame("trees".to_owned())
}

/// All locators.
pub fn locators() -> Key {
    tame("loc".to_owned())
}

/// The note of somebody who writes into the store.
pub fn lease(uuid: &str) -> Key {
    tame(format!("leases/{uuid}.json"))
}

/// Notes of everybody who writes into the store.
pub fn leases() -> Key {
    tame("leases".to_owned())
}

/// What the runs of the collection left.
pub fn runs() -> Key {
    tame("gc".to_owned())
}

/// What a run of the collection condemned.
pub fn tombstone(run: &str) -> Key {
    tame(format!("gc/{run}/tomb.json.zst"))
}

/// The note of a run that removes objects.
pub fn sweeping(run: &str) -> Key {
    tame(format!("gc/{run}/sweeping.json"))
}

/// Whether a key is a tombstone's.
pub fn is_tombstone(key: &Key) -> bool {
    key.name() == "tomb.json.zst"
}

/// Whether a key is that of a note of a sweep.
pub fn is_sweeping(key: &Key) -> bool {
    key.name() == "sweeping.json"
}

/// The id that an object's key names, if its file name is 64 hex digits and `suffix`.
pub fn digest_of(key: &Key, suffix: &str) -> Option<Digest> {
    key.name().strip_suffix(suffix)?.strip_suffix('.')?.parse().ok()
}

fn object(directory: &str, id: &Digest, suffix: &str) -> Key {
    let hex = id.to_string();
    tame(format!("{directory}/{}/{hex}.{suffix}", &hex[..2]))
}

fn tame(text: String) -> Key {
    Key::new(text).expect("names, versions and ids are made of the characters that keys allow")
}
