//! What the store's tests share.

#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a helper of tests fails by panicking")]

pub mod faulty;
pub mod faulty_http;
pub mod model;

use std::collections::HashMap;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Mutex;

use landfall_store::artifact::Artifact;
use landfall_store::blob::{BlobSink, BlobSource, Want};
use landfall_store::push::{LayerContent, PushOptions, PushReport, push};
use landfall_store::scan::{LayerSource, Mapping, ScanOptions, ScannedLayer, scan};
use landfall_store::{BlobId, Layer, Store, StoreError, Tree};

/// A sink and source in memory.
#[derive(Default)]
pub struct Contents(pub Mutex<HashMap<Want, Vec<u8>>>);

impl Contents {
    pub fn get(&self, blob: &BlobId) -> Option<Vec<u8>> {
        let contents = self.0.lock().unwrap();
        contents.iter().find(|(want, _)| want.blob == *blob).map(|(_, bytes)| bytes.clone())
    }

    pub fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// Whether every content of the tree is here, in the form it needs.
    pub fn complete(&self, tree: &Tree) -> bool {
        landfall_store::fetch::wants(&[tree]).iter().all(|want| self.0.lock().unwrap().contains_key(want))
    }
}

impl BlobSink for Contents {
    fn has(&self, want: &Want) -> io::Result<bool> {
        Ok(self.0.lock().unwrap().contains_key(want))
    }

    fn put(&self, want: &Want, content: &mut dyn Read) -> io::Result<()> {
        let mut bytes = Vec::new();
        content.read_to_end(&mut bytes)?;
        if bytes.len() as u64 != want.size || BlobId::of(&bytes) != want.blob {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "other bytes"));
        }
        self.0.lock().unwrap().insert(*want, bytes);
        Ok(())
    }
}

impl BlobSource for Contents {
    fn open(&self, blob: &BlobId, _size: u64) -> io::Result<Box<dyn Read + '_>> {
        let bytes = self.get(blob).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        Ok(Box::new(io::Cursor::new(bytes)))
    }
}

/// Writes files below a directory: a name that ends in `/` is a directory.
pub fn write(dir: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = dir.join(name);
        if name.ends_with('/') {
            std::fs::create_dir_all(path).unwrap();
            continue;
        }
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}

pub fn source(name: &str, dir: &Path) -> LayerSource {
    LayerSource {
        name: name.parse().unwrap(),
        root: dir.to_owned(),
        files: vec![Mapping { from: ".".into(), to: String::new() }],
        exclude: vec![],
        env: false,
        env_files: vec![],
    }
}

pub fn scanned(dir: &Path) -> ScannedLayer {
    scan(&source("app", dir), &ScanOptions::default()).unwrap()
}

pub fn layer(name: &str, environment: Option<&str>, tree: &Tree) -> Layer {
    Layer {
        bytes: tree.bytes(),
        environment: environment.map(|name| name.parse().unwrap()),
        files: tree.files(),
        mount: String::new(),
        name: name.parse().unwrap(),
        roles: vec![],
        tree: tree.id(),
    }
}

pub fn artifact(version: &str, layers: Vec<Layer>) -> Artifact {
    let release = serde_json::json!({ "version": version }).as_object().unwrap().clone();
    Artifact::new("web".parse().unwrap(), None, layers, release).unwrap()
}

/// Pushes one scanned layer as a version.
pub fn push_scanned(store: &Store, version: &str, layer_: &ScannedLayer) -> Result<PushReport, StoreError> {
    let artifact = artifact(version, vec![layer("app", None, &layer_.tree)]);
    push(store, &artifact, &[layer_.content()], &PushOptions::default())
}

pub fn content<'a>(tree: &'a Tree, source: &'a dyn BlobSource) -> LayerContent<'a> {
    LayerContent { id: tree.id(), tree, source }
}

/// Every file below a directory, sorted.
pub fn files_below(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { todo.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

/// Text that does not compress much, the same for a seed.
pub fn noise(seed: u32, length: usize) -> String {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from(b'a' + (state >> 24) as u8 % 26)
    };
    (0..length).map(|_| next()).collect()
}
