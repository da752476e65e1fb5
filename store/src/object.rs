//! What kind of object a key names: how large it may be, whether it changes, and the proof that bytes are it.
//!
//! Whoever takes objects from others (a server) asks here before a key gets bytes. Fetching needs none of
//! this: a reader proves every byte itself, so a store whose server proves nothing is slow to be noticed, never
//! wrong.

use std::io::{self, Read};

use crate::artifact::Artifact;
use crate::backend::{Backend, BackendError, Key};
use crate::delta;
use crate::digest::{ArtifactId, Digest, PackId, TreeId};
use crate::fetch;
use crate::inflate::inflating;
use crate::layout;
use crate::lease;
use crate::limits::{
    ARTIFACT_BYTES_MAX, DELTA_GROUP_BYTES_MAX, DELTA_GROUPS_MAX, FILE_BYTES_MAX, HINTS_BYTES_MAX,
    LOCATOR_RAW_BYTES_MAX, PACK_DIRECTORY_BYTES_MAX, RECORD_BYTES_MAX, SEGMENT_LIST_RAW_BYTES_MAX,
    TOMBSTONE_BYTES_MAX, TREE_BYTES_MAX,
};
use crate::locator;
use crate::name::{Name, Version};
use crate::pack::Directory;
use crate::refs::Reference;
use crate::reports::{Document, REPORT_BYTES_MAX};
use crate::segments::SegmentList;
use crate::store::check_record;
use crate::sweep;

const OTHER_HASH: &str = "their hash is another";

/// What a key names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ObjectKind {
    /// The store's own record.
    Record,
    /// An artifact's canonical JSON.
    Artifact(ArtifactId),
    /// A tree, compressed.
    Tree(TreeId),
    /// The segments of a large tree.
    Segments(TreeId),
    /// A pack.
    Pack(PackId),
    /// A copy of a pack's directory.
    Index(PackId),
    /// Where a tree's contents are.
    Locator(TreeId),
    /// All that turns the second tree into the first.
    Delta(TreeId, TreeId),
    /// Which deltas lead to an artifact's trees.
    Hints(ArtifactId),
    /// What a version of an app is.
    Reference(Name, Version),
    /// The note of a writer, by its name.
    Lease(String),
    /// The note of a run of the collection that removes objects, by the run's name.
    Sweeping(String),
    /// What a run of the collection condemned, by the run's name.
    Tombstone(String),
    /// What a host says of itself.
    Report(Document),
}

/// Why bytes are not the object that a key names.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// They are another object, or none.
    #[error("these bytes are not `{key}`: {why}")]
    Other {
        /// The key.
        key: Key,
        /// How it was noticed.
        why: String,
    },
    /// What they must agree with is not in the store.
    #[error("`{key}` comes after `{needs}`, which the store does not have")]
    TooEarly {
        /// The key.
        key: Key,
        /// What has to be there first.
        needs: Key,
    },
    /// They cannot be read, or the store cannot.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

impl ObjectKind {
    /// What `key` names; `None` if no object of a store has such a key.
    pub fn of(key: &Key) -> Option<Self> {
        let kind = Self::read(key)?;
        // One key for each object: another spelling of the same id names nothing.
        (kind.key() == *key).then_some(kind)
    }

    fn read(key: &Key) -> Option<Self> {
        if *key == layout::record() {
            return Some(Self::Record);
        }
        let id = |suffix| layout::digest_of(key, suffix);
        match key.top()?.as_str() {
            "artifacts" => id("json").map(|id| Self::Artifact(ArtifactId(id))),
            "trees" => id("zst").map(|id| Self::Tree(TreeId(id))),
            "segments" => id("list").map(|id| Self::Segments(TreeId(id))),
            "loc" => id("json.zst").map(|id| Self::Locator(TreeId(id))),
            "deltas" => {
                let (to, from) = (key.as_str().split('/').nth(2)?.parse().ok()?, id("lfd")?);
                Some(Self::Delta(TreeId(to), TreeId(from)))
            }
            "hints" => id("json").map(|id| Self::Hints(ArtifactId(id))),
            "packs" => id("lfp")
                .map(|id| Self::Pack(PackId(id)))
                .or_else(|| id("idx").map(|id| Self::Index(PackId(id)))),
            "refs" => {
                let app = key.as_str().split('/').nth(1)?.parse().ok()?;
                let version = key.name().strip_suffix(".json")?.parse().ok()?;
                Some(Self::Reference(app, version))
            }
            "leases" => Some(Self::Lease(key.name().strip_suffix(".json")?.to_owned())),
            "gc" => {
                let run = key.as_str().split('/').nth(1)?.to_owned();
                let sweeping = layout::is_sweeping(key).then(|| Self::Sweeping(run.clone()));
                sweeping.or_else(|| layout::is_tombstone(key).then_some(Self::Tombstone(run)))
            }
            "status" => Document::of(key).map(Self::Report),
            _ => None,
        }
    }

    /// The object's key.
    pub fn key(&self) -> Key {
        match self {
            Self::Record => layout::record(),
            Self::Artifact(id) => layout::artifact(id),
            Self::Tree(id) => layout::tree(id),
            Self::Segments(id) => layout::segments(id),
            Self::Pack(id) => layout::pack(id),
            Self::Index(id) => layout::index(id),
            Self::Locator(id) => layout::locator(id),
            Self::Delta(to, from) => layout::delta(to, from),
            Self::Hints(id) => layout::hints(id),
            Self::Reference(app, version) => layout::reference(app, version),
            Self::Lease(name) => layout::lease(name),
            Self::Sweeping(run) => layout::sweeping(run),
            Self::Tombstone(run) => layout::tombstone(run),
            Self::Report(document) => document.key(),
        }
    }

    /// One word for it.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Record => "record",
            Self::Artifact(_) => "artifact",
            Self::Tree(_) => "tree",
            Self::Segments(_) => "segments",
            Self::Pack(_) => "pack",
            Self::Index(_) => "index",
            Self::Locator(_) => "locator",
            Self::Delta(..) => "delta",
            Self::Hints(_) => "hints",
            Self::Reference(..) => "reference",
            Self::Lease(_) => "lease",
            Self::Sweeping(_) => "sweeping",
            Self::Tombstone(_) => "tombstone",
            Self::Report(_) => "report",
        }
    }

    /// The hash that its bytes have in every store. What is stored compressed may have other bytes elsewhere.
    pub const fn digest(&self) -> Option<&Digest> {
        match self {
            Self::Artifact(id) => Some(&id.0),
            Self::Pack(id) => Some(&id.0),
            _ => None,
        }
    }

    /// Whether it may be replaced by something else. The record is made once.
    pub const fn is_mutable(&self) -> bool {
        matches!(
            self,
            Self::Locator(_)
                | Self::Hints(_)
                | Self::Reference(..)
                | Self::Lease(_)
                | Self::Sweeping(_)
                | Self::Report(_)
        )
    }

    /// Whether a cache may keep a copy of it for ever: its key says what it is, and hosts read it.
    pub const fn is_immutable(&self) -> bool {
        !self.is_mutable() && !matches!(self, Self::Record | Self::Tombstone(_))
    }

    /// Whether cleaning may remove it. Without its record a store is none.
    pub const fn is_removable(&self) -> bool {
        !matches!(self, Self::Record)
    }

    /// Bytes that none of its kind exceeds.
    pub const fn bytes_max(&self) -> u64 {
        match self {
            Self::Record | Self::Reference(..) | Self::Lease(_) | Self::Sweeping(_) => RECORD_BYTES_MAX,
            Self::Tombstone(_) => TOMBSTONE_BYTES_MAX,
            Self::Report(_) => REPORT_BYTES_MAX,
            Self::Hints(_) => HINTS_BYTES_MAX,
            Self::Delta(..) => DELTA_GROUPS_MAX * DELTA_GROUP_BYTES_MAX,
            Self::Artifact(_) => ARTIFACT_BYTES_MAX as u64,
            Self::Tree(_) => TREE_BYTES_MAX as u64,
            Self::Index(_) => PACK_DIRECTORY_BYTES_MAX,
            Self::Segments(_) => SEGMENT_LIST_RAW_BYTES_MAX as u64,
            Self::Locator(_) => LOCATOR_RAW_BYTES_MAX as u64,
            // One file of a layer may fill a pack alone.
            Self::Pack(_) => FILE_BYTES_MAX,
        }
    }

    /// Reads `content` to its end and checks that it is this object. `store` is asked for what it must agree
    /// with: an index for its pack.
    pub fn prove(&self, content: &mut dyn Read, store: &dyn Backend) -> Result<(), Unfit> {
        let key = self.key();
        let other = |why: String| Unfit::Other { key: key.clone(), why };
        let mut whole = || whole(content, self.bytes_max()).map_err(|error| error.to_string());
        match self {
            Self::Pack(id) => prove_pack(content, id),
            Self::Tree(id) => prove_tree(content, id),
            Self::Delta(..) => check_delta(content),
            Self::Index(pack) => return prove_index(&key, &whole().map_err(other)?, pack, store),
            Self::Record => whole().and_then(|bytes| check_record(&bytes)),
            Self::Segments(tree) => whole().and_then(|bytes| {
                SegmentList::decode(&bytes, *tree).map(drop).map_err(|error| error.to_string())
            }),
            Self::Artifact(id) => whole().and_then(|bytes| prove_artifact(&bytes, id)),
            Self::Locator(tree) => {
                whole().and_then(|bytes| locator::check(&bytes, *tree).map_err(|error| error.to_string()))
            }
            Self::Reference(..) => whole().and_then(|bytes| check_reference(&bytes)),
            Self::Hints(_) => whole().and_then(|bytes| check_hints(&bytes)),
            Self::Lease(_) | Self::Sweeping(_) => whole().and_then(|bytes| lease::check_note(&bytes)),
            Self::Tombstone(_) => whole().and_then(|bytes| sweep::check_tombstone(&bytes)),
            Self::Report(document) => whole().and_then(|bytes| document.check(&bytes)),
        }
        .map_err(other)
    }
}

fn prove_pack(content: &mut dyn Read, id: &PackId) -> Result<(), String> {
    match blake3::Hasher::new().update_reader(content) {
        Ok(hasher) if Digest::from(hasher.finalize()) == id.0 => Ok(()),
        Ok(_) => Err(OTHER_HASH.to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn whole(content: &mut dyn Read, max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    content.take(max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "they are more than any has"));
    }
    Ok(bytes)
}

/// By its form: what it leads to is proved where it is applied, and without it packs give the same.
fn check_delta(content: &mut dyn Read) -> Result<(), String> {
    let head = delta::Head::read(content).map_err(|error| error.to_string())?;
    let bytes = io::copy(content, &mut io::sink()).map_err(|error| error.to_string())?;
    if bytes == head.parts() { Ok(()) } else { Err("its parts are not as long as its head says".to_owned()) }
}

fn check_hints(bytes: &[u8]) -> Result<(), String> {
    serde_json::from_slice::<delta::Hints>(bytes).map(drop).map_err(|error| error.to_string())
}

fn check_reference(bytes: &[u8]) -> Result<(), String> {
    serde_json::from_slice::<Reference>(bytes).map(drop).map_err(|error| error.to_string())
}

fn prove_artifact(bytes: &[u8], id: &ArtifactId) -> Result<(), String> {
    if ArtifactId::of(bytes) != *id {
        return Err(OTHER_HASH.to_owned());
    }
    Artifact::decode(bytes).map(drop).map_err(|error| error.to_string())
}

/// By its hash alone: a tree may be 256 MiB, and whether it is well-formed is for its readers to refuse.
fn prove_tree(content: &mut dyn Read, id: &TreeId) -> Result<(), String> {
    let raw = inflating(content, TREE_BYTES_MAX).map_err(|error| error.to_string())?;
    match TreeId::read(raw).map_err(|error| error.to_string())? {
        found if found == *id => Ok(()),
        _ => Err(OTHER_HASH.to_owned()),
    }
}

fn prove_index(key: &Key, bytes: &[u8], pack: &PackId, store: &dyn Backend) -> Result<(), Unfit> {
    let other = |why: String| Unfit::Other { key: key.clone(), why };
    let own = match fetch::own_directory(store, pack) {
        Ok(directory) => directory.map_err(|error| other(format!("its pack is damaged: {error}")))?,
        Err(BackendError::NotFound { key: needs, .. }) => {
            return Err(Unfit::TooEarly { key: key.clone(), needs });
        }
        Err(error) => return Err(error.into()),
    };
    match Directory::decode(bytes) {
        Ok(directory) if directory == own => Ok(()),
        Ok(_) => Err(other("its pack holds something else".to_owned())),
        Err(error) => Err(other(error.to_string())),
    }
}
