//! Archives in: a tree, or the trees of an artifact, and their contents.

use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::path::Path;

use super::header::{Member, MemberKind, Members};
use super::input::{Input, Limits};
use super::names::{ImportError, Refusal};
use super::spool::Spool;
use super::{ARTIFACT_MEMBER, BLOBS, RECIPE, RESERVED, TREES};
use crate::artifact::Artifact;
use crate::blob::BlobSource;
use crate::digest::{BlobId, Digest, TreeId};
use crate::disjoint;
use crate::limits::ARTIFACT_BYTES_MAX;
use crate::path::{EntryPath, check_link};
use crate::tree::{Entry, Kind, Tree};

/// Bytes of a canonical tree: a million entries with long names.
const TREE_BYTES_MAX: u64 = 256 << 20;
/// Bytes of a recipe.
const RECIPE_BYTES_MAX: u64 = 1 << 20;
/// Bytes read at a time.
const CHUNK_BYTES: usize = 128 << 10;

/// What came out of an archive.
#[derive(Debug)]
pub struct Imported {
    /// The artifact that was exported into it, if it was: every tree and count of it is checked.
    pub artifact: Option<Artifact>,
    /// The trees of the artifact's layers, in their order; without an artifact, the one tree there is.
    pub trees: Vec<Tree>,
    /// The `landfall.toml` at the top of an archive without an artifact.
    pub recipe: Option<Vec<u8>>,
    /// The contents of all files.
    pub contents: Spool,
}

/// Reads an archive to its true end. Contents are kept on the file system of `spool_dir`, without a name.
pub fn import(reader: impl Read, spool_dir: &Path, limits: Limits) -> Result<Imported, ImportError> {
    let input = Input::new(reader, limits).map_err(|source| ImportError::Read { offset: 0, source })?;
    let mut import = Import {
        members: Members::new(input),
        contents: Spool::new(spool_dir)?,
        own: Own::default(),
        found: Found::default(),
        recipe: None,
    };
    let mut is_first = true;
    while let Some(member) = import.members.next()? {
        import.take(&member, is_first)?;
        // A top directory is what tools begin with; it says nothing.
        is_first &= member.name.is_empty();
    }
    import.finish()
}

struct Import<'a> {
    members: Members<'a>,
    contents: Spool,
    own: Own,
    found: Found,
    recipe: Option<Vec<u8>>,
}

/// Landfall's own members.
#[derive(Default)]
struct Own {
    artifact: Option<Artifact>,
    trees: HashMap<TreeId, Tree>,
}

impl Import<'_> {
    fn take(&mut self, member: &Member, is_first: bool) -> Result<(), ImportError> {
        if member.name.is_empty() && matches!(member.kind, MemberKind::Directory) {
            return Ok(());
        }
        if member.name.starts_with(RESERVED) || member.name == RESERVED[..RESERVED.len() - 1] {
            return self.take_own(member, is_first);
        }
        let path = EntryPath::new(member.name.clone()).map_err(|error| member.refuse(error))?;
        self.found.make_way(member, &path, self.members.limits())?;
        let kind = match &member.kind {
            MemberKind::Directory => return Ok(()),
            MemberKind::File { executable } => {
                let blob = self.keep_content(member)?;
                Kind::File { size: member.size, blob, executable: *executable }
            }
            MemberKind::Link(target) => {
                check_link(&path, target).map_err(|error| member.refuse(error))?;
                Kind::Link { target: target.clone().into_boxed_slice() }
            }
            MemberKind::HardLink(to) => self.found.linked(member, to)?,
        };
        if member.name == RECIPE && self.own.artifact.is_none() {
            self.recipe = self.read_recipe(member, &kind)?;
        }
        self.found.add(member, path, kind);
        Ok(())
    }

    fn take_own(&mut self, member: &Member, is_first: bool) -> Result<(), ImportError> {
        let MemberKind::File { executable: false } = member.kind else {
            return Err(member.refuse(Refusal::Reserved));
        };
        if is_first && member.name == ARTIFACT_MEMBER {
            let bytes = self.members.whole(member, ARTIFACT_BYTES_MAX as u64)?;
            self.own.artifact = Some(Artifact::decode(&bytes)?);
            return Ok(());
        }
        // They come before everything else, and only with an artifact.
        if self.own.artifact.is_none() || !self.found.is_empty() {
            return Err(member.refuse(Refusal::Reserved));
        }
        if let Some(id) = named_for(&member.name, TREES) {
            return self.take_tree(member, TreeId(id));
        }
        match named_for(&member.name, BLOBS) {
            Some(id) if self.contents.has(&BlobId(id)) => Err(member.refuse(Refusal::Duplicate)),
            Some(id) if self.keep_content(member)? == BlobId(id) => Ok(()),
            Some(_) => Err(member.refuse(Refusal::WrongId)),
            None => Err(member.refuse(Refusal::Reserved)),
        }
    }

    fn take_tree(&mut self, member: &Member, id: TreeId) -> Result<(), ImportError> {
        let bytes = self.members.whole(member, TREE_BYTES_MAX)?;
        if TreeId::of(&bytes) != id {
            return Err(member.refuse(Refusal::WrongId));
        }
        match self.own.trees.insert(id, Tree::decode(&bytes)?) {
            Some(_) => Err(member.refuse(Refusal::Duplicate)),
            None => Ok(()),
        }
    }

    fn keep_content(&mut self, member: &Member) -> Result<BlobId, ImportError> {
        let mut buffer = vec![0; CHUNK_BYTES.min(usize::try_from(member.size).unwrap_or(CHUNK_BYTES)).max(1)];
        let mut adding = self.contents.begin();
        loop {
            match self.members.read(&mut buffer)? {
                0 => return Ok(adding.finish()),
                count => adding.write(&buffer[..count])?,
            }
        }
    }

    fn read_recipe(&self, member: &Member, kind: &Kind) -> Result<Option<Vec<u8>>, ImportError> {
        let Kind::File { size, blob, .. } = *kind else { return Ok(None) };
        if size > RECIPE_BYTES_MAX {
            return Err(member.refuse(Refusal::TooLarge { size, limit: RECIPE_BYTES_MAX }));
        }
        let mut recipe = Vec::new();
        let read = self.contents.open(&blob, size).and_then(|mut from| from.read_to_end(&mut recipe));
        read.map_err(|source| ImportError::Read { offset: member.offset, source })?;
        Ok(Some(recipe))
    }

    fn finish(self) -> Result<Imported, ImportError> {
        let Self { contents, own, found, recipe, .. } = self;
        let Some(artifact) = own.artifact else {
            let trees = vec![found.tree()?];
            return Ok(Imported { artifact: None, trees, recipe, contents });
        };
        let trees = layer_trees(&artifact, &own.trees)?;
        check_contents(&trees, &contents)?;
        found.check_against(&trees)?;
        Ok(Imported { artifact: Some(artifact), trees, recipe: None, contents })
    }
}

fn named_for(name: &[u8], prefix: &[u8]) -> Option<Digest> {
    std::str::from_utf8(name.strip_prefix(prefix)?).ok()?.parse().ok()
}

/// The tree of each layer; each must be what the artifact says.
fn layer_trees(artifact: &Artifact, trees: &HashMap<TreeId, Tree>) -> Result<Vec<Tree>, ImportError> {
    let mut layers = Vec::new();
    for layer in &artifact.layers {
        let tree = trees.get(&layer.tree).ok_or(ImportError::NoTree(layer.tree))?;
        if (tree.files(), tree.bytes()) != (layer.files, layer.bytes) {
            return Err(ImportError::Counts(layer.name.clone()));
        }
        layers.push((layer, tree));
    }
    disjoint::check(&layers, &[])?;
    Ok(layers.into_iter().map(|(_, tree)| tree.clone()).collect())
}

fn check_contents(trees: &[Tree], contents: &Spool) -> Result<(), ImportError> {
    for tree in trees {
        if let Some((blob, _)) = tree.blobs().find(|(blob, size)| *size > 0 && !contents.has(blob)) {
            return Err(ImportError::NoContent(blob, tree.id()));
        }
    }
    Ok(())
}

/// The members that stand for files, and the directories that they need.
#[derive(Default)]
struct Found {
    entries: Vec<(Entry, u64)>,
    index: HashMap<Box<[u8]>, usize>,
    /// With the first member that needs it.
    directories: HashMap<Box<[u8]>, u64>,
    name_bytes: u64,
}

impl Found {
    fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.directories.is_empty()
    }

    /// Checks that the member's name is free and that only directories stand above it.
    fn make_way(&mut self, member: &Member, path: &EntryPath, limits: Limits) -> Result<(), ImportError> {
        let name = path.as_bytes();
        let is_directory = matches!(member.kind, MemberKind::Directory);
        if self.index.contains_key(name) || (!is_directory && self.directories.contains_key(name)) {
            return Err(member.refuse(Refusal::Duplicate));
        }
        let above = name.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| &name[..at]);
        for dir in above.chain(is_directory.then_some(name)) {
            if self.directories.contains_key(dir) {
                continue;
            }
            if self.index.contains_key(dir) {
                return Err(member.refuse(Refusal::Below(dir.to_owned())));
            }
            self.count(dir, limits)?;
            self.directories.insert(dir.into(), member.offset);
        }
        self.count(name, limits)
    }

    fn count(&mut self, name: &[u8], limits: Limits) -> Result<(), ImportError> {
        self.name_bytes += name.len() as u64;
        if self.name_bytes > limits.name_bytes {
            return Err(ImportError::TooLarge {
                what: "has too many bytes of names",
                limit: limits.name_bytes,
            });
        }
        Ok(())
    }

    fn linked(&self, member: &Member, to: &[u8]) -> Result<Kind, ImportError> {
        match self.index.get(to).map(|at| &self.entries[*at].0.kind) {
            Some(file @ Kind::File { .. }) => Ok(file.clone()),
            _ => Err(member.refuse(Refusal::HardLink(to.to_owned()))),
        }
    }

    fn add(&mut self, member: &Member, path: EntryPath, kind: Kind) {
        self.index.insert(path.as_bytes().into(), self.entries.len());
        self.entries.push((Entry { path, kind }, member.offset));
    }

    fn tree(self) -> Result<Tree, ImportError> {
        let empty = self.empty_directories();
        let entries = self.entries.into_iter().map(|(entry, _)| entry);
        Ok(Tree::from_entries(entries.chain(empty).collect())?)
    }

    fn empty_directories(&self) -> Vec<Entry> {
        let parents: HashSet<&[u8]> = (self.entries.iter().map(|(entry, _)| entry.path.as_bytes()))
            .chain(self.directories.keys().map(AsRef::as_ref))
            .filter_map(|path| path.iter().rposition(|byte| *byte == b'/').map(|at| &path[..at]))
            .collect();
        let empty = self.directories.keys().filter(|dir| !parents.contains(dir.as_ref()));
        let path = |dir: &[u8]| EntryPath::new(dir).expect("a directory is the start of a checked path");
        empty.map(|dir| Entry { path: path(dir), kind: Kind::EmptyDir }).collect()
    }

    /// Every member must be what some tree says stands at its path, so that nothing is smuggled along.
    fn check_against(&self, trees: &[Tree]) -> Result<(), ImportError> {
        let stray = |path: &EntryPath, offset| ImportError::Member {
            name: path.as_bytes().to_owned(),
            offset,
            refusal: Refusal::Stray,
        };
        let is_known =
            |entry: &Entry| trees.iter().any(|tree| tree.get(entry.path.as_bytes()) == Some(entry));
        for (entry, offset) in &self.entries {
            if !is_known(entry) {
                return Err(stray(&entry.path, *offset));
            }
        }
        let implied: HashSet<&[u8]> =
            trees.iter().flat_map(|tree| tree.entries()).flat_map(|entry| parents(&entry.path)).collect();
        for entry in self.empty_directories() {
            if !is_known(&entry) && !implied.contains(entry.path.as_bytes()) {
                let offset = self.directories.get(entry.path.as_bytes()).copied().unwrap_or_default();
                return Err(stray(&entry.path, offset));
            }
        }
        Ok(())
    }
}

fn parents(path: &EntryPath) -> impl Iterator<Item = &[u8]> {
    let bytes = path.as_bytes();
    bytes.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| &bytes[..at])
}
