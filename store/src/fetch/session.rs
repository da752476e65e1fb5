//! One fetch, from an artifact's id to its contents, in as few round trips as there are dependencies.
//!
//! [`rounds`](super::rounds) decides what to ask for; here it is asked, and the answers are taken in. What a
//! step needs that the step before did not tell is never asked for in vain, and nothing is asked for twice
//! unless the answer was wrong.

use std::collections::HashSet;
use std::io;

use rayon::prelude::*;

use super::ask::{each, find, hint, read_to_end};
use super::contents::{self, Located, Missing, locators};
use super::delta::{Delta, DeltaError};
use super::rounds::{Ask, Known, Way, asks};
use super::{Estimate, FetchReport, Progress, Watch, lacking, wants};
use crate::artifact::{Artifact, Layer};
use crate::backend::{BackendError, Opened};
use crate::blob::{BlobSink, BlobSource, Want};
use crate::delta::{Base, Hints};
use crate::digest::{ArtifactId, TreeId};
use crate::error::StoreError;
use crate::inflate::inflate;
use crate::layout;
use crate::limits::{HINTS_BYTES_MAX, LOCATOR_RAW_BYTES_MAX, SEGMENT_LIST_RAW_BYTES_MAX, TREE_BYTES_MAX};
use crate::segments::{Assembly, SegmentList, in_segments};
use crate::store::Store;
use crate::tree::Tree;

/// Trees that are cut for one that is fetched: of older versions hardly anything is left to find.
const LIKE_MAX: usize = 3;

/// What the place that fetches has already.
pub trait Kept: Sync {
    /// The canonical bytes of a tree, proved against its id.
    fn tree(&self, id: &TreeId) -> Option<Vec<u8>>;

    /// Trees that a layer's may be much like, likeliest first.
    fn like(&self, layer: &Layer) -> Vec<TreeId>;

    /// Whether a content is where this layer needs it.
    fn has(&self, layer: &Layer, want: &Want) -> io::Result<bool>;

    /// The contents of the trees.
    fn contents(&self) -> &dyn BlobSource;
}

/// A fetch. Calls in order: [`manifest`](Self::manifest) unless it is here, [`documents`](Self::documents),
/// [`contents`](Self::contents).
pub struct Session<'a> {
    store: &'a Store,
    kept: &'a dyn Kept,
    watch: Watch<'a>,
    hints: Option<Hints>,
    layers: Vec<Fetching<'a>>,
}

struct Fetching<'a> {
    layer: Layer,
    tree: Option<Tree>,
    /// Contents that are not here, once the tree is.
    missing: Vec<Want>,
    parts: Parts,
    delta: Offer<'a>,
    locator: Locator,
}

enum Parts {
    Whole,
    Listed,
    Assembling(Assembly),
}

enum Offer<'a> {
    Untried(Base),
    Open(Box<Delta<'a>>),
    None,
}

enum Locator {
    Unasked,
    Answered(Option<Vec<u8>>),
}

enum Answer<'a> {
    Delta(Option<(Tree, Box<Delta<'a>>)>),
    List(Option<SegmentList>),
    Stored(Vec<u8>),
    Tree(Tree),
    Locator(Option<Vec<u8>>),
}

impl<'a> Session<'a> {
    /// A fetch from a store to a place.
    pub const fn new(store: &'a Store, kept: &'a dyn Kept, watch: Watch<'a>) -> Self {
        Self { store, kept, watch, hints: None, layers: Vec::new() }
    }

    /// The artifact's manifest, and beside it, in the same round trip, what may make the rest short.
    pub fn manifest(&mut self, id: &ArtifactId) -> Result<Artifact, StoreError> {
        let (store, watch) = (self.store, self.watch);
        let (artifact, hints) = std::thread::scope(|scope| {
            let hints = scope.spawn(|| read_hints(store, id, &watch));
            let artifact = super::artifact(store, id);
            (artifact, hints.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        });
        let artifact = artifact.map_err(|error| self.store.explain(error))?;
        self.hints = Some(hints?);
        Ok(artifact)
    }

    /// The trees of these layers, and all that is needed to get what is missing of their contents. Trees that
    /// came before an error stay in [`trees`](Self::trees).
    pub fn documents(&mut self, id: &ArtifactId, layers: &[&Layer]) -> Result<(), StoreError> {
        let mut seen = HashSet::new();
        for layer in layers.iter().filter(|layer| seen.insert(layer.tree)) {
            self.layers.push(Fetching::of(layer, self.kept)?);
        }
        self.offer_deltas(id)?;
        self.ask_until_known().map_err(|error| self.store.explain(error))
    }

    /// The trees that are here, in the order of their layers.
    pub fn trees(&self) -> impl Iterator<Item = (&Layer, &Tree)> {
        self.layers.iter().filter_map(|fetching| Some((&fetching.layer, fetching.tree.as_ref()?)))
    }

    /// The contents that are missing, each once.
    pub fn missing(&self) -> Vec<Want> {
        let mut seen = HashSet::new();
        let missing = self.layers.iter().flat_map(|fetching| &fetching.missing);
        missing.filter(|want| seen.insert(**want)).copied().collect()
    }

    /// Brings what is missing. What arrived stays when it fails.
    pub fn contents(mut self, sink: &dyn BlobSink) -> Result<FetchReport, StoreError> {
        let total = Missing::new(self.missing()).total;
        let mut report = FetchReport::default();
        self.by_deltas(total, sink, &mut report)?;
        let rest = Missing { wants: lacking(self.missing(), sink)?, total };
        if rest.wants.is_empty() {
            return Ok(report);
        }
        let (store, watch) = (self.store, self.watch);
        let located = self.located()?;
        let from = Progress { moved: report.bytes_moved, blobs: report.blobs, ..total };
        let bytes_here = total.bytes_total - rest.wants.iter().map(|want| want.size).sum::<u64>();
        let from = Progress { bytes: bytes_here, ..from };
        let by_packs = onward(watch, from, |watch| contents::bring(store, &located, rest, sink, watch));
        let by_packs = by_packs.map_err(|error| store.explain(error))?;
        report.bytes_moved += by_packs.bytes_moved;
        report.blobs += by_packs.blobs;
        report.frames += by_packs.frames;
        Ok(report)
    }

    /// What [`contents`](Self::contents) would move, found out without moving it.
    pub fn estimate(mut self) -> Result<Estimate, StoreError> {
        let missing = self.missing();
        let (mut by_deltas, mut deltas, mut came) = (0, 0, HashSet::new());
        for fetching in &mut self.layers {
            if let Offer::Open(delta) = &fetching.delta {
                by_deltas += delta.moves(&fetching.missing);
                deltas += 1;
                came.extend(std::mem::take(&mut fetching.missing));
            }
        }
        let rest: Vec<Want> = missing.iter().filter(|want| !came.contains(want)).copied().collect();
        let store = self.store;
        let by_packs = contents::stored_bytes(store, &self.located()?, &rest);
        let unpacked = missing.iter().map(|want| want.size).sum();
        Ok(Estimate { blobs: missing.len() as u64, unpacked, moved: by_deltas + by_packs, deltas })
    }

    /// Deltas are only looked for where something is missing that other hosts may have, too.
    fn offer_deltas(&mut self, id: &ArtifactId) -> Result<(), StoreError> {
        let open = |fetching: &Fetching<'_>| !fetching.is_complete() && !fetching.layer.is_env();
        if !self.layers.iter().any(open) {
            return Ok(());
        }
        if self.hints.is_none() {
            self.hints = Some(read_hints(self.store, id, &self.watch)?);
        }
        let Some(hints) = self.hints.as_ref().filter(|hints| !hints.is_empty()) else { return Ok(()) };
        for fetching in self.layers.iter_mut().filter(|fetching| open(fetching)) {
            let to = fetching.layer.tree;
            let is_base = |from: &TreeId| *from != to && self.kept.tree(from).is_some();
            fetching.delta = hints.best(&to, is_base).map_or(Offer::None, Offer::Untried);
        }
        Ok(())
    }

    fn ask_until_known(&mut self) -> Result<(), StoreError> {
        loop {
            let mut all: Vec<(usize, TreeId, Ask)> = Vec::new();
            for (index, fetching) in self.layers.iter().enumerate() {
                let asks = asks(&fetching.known()).into_iter();
                all.extend(asks.map(|ask| (index, fetching.layer.tree, ask)));
            }
            if all.is_empty() {
                return Ok(());
            }
            let (store, kept, watch) = (self.store, self.kept, self.watch);
            let ask = |(_, tree, ask): &(usize, TreeId, Ask)| ask_for(store, kept, &watch, *tree, ask);
            let answers = each(store.backend(), &all, ask);
            let mut failed = None;
            for ((index, _, ask), answer) in all.into_iter().zip(answers) {
                let taken = answer.and_then(|answer| self.layers[index].take(&ask, answer, self.kept));
                if let Err(error) = taken {
                    failed.get_or_insert(error);
                }
            }
            if let Some(error) = failed {
                return Err(error);
            }
        }
    }

    /// One delta after the other: each may need most of the memory that a fetch may take.
    fn by_deltas(
        &mut self,
        total: Progress,
        sink: &dyn BlobSink,
        report: &mut FetchReport,
    ) -> Result<(), StoreError> {
        let mut bytes = 0;
        for fetching in &mut self.layers {
            let Offer::Open(delta) = std::mem::replace(&mut fetching.delta, Offer::None) else { continue };
            let from = Progress { moved: report.bytes_moved, blobs: report.blobs, bytes, ..total };
            let unpacked = fetching.missing.iter().map(|want| want.size).sum::<u64>();
            // An earlier layer may have brought some of it.
            fetching.missing = lacking(std::mem::take(&mut fetching.missing), sink)?;
            let (missing, have) = (fetching.missing.clone(), self.kept.contents());
            let done = onward(self.watch, from, |watch| delta.contents(missing, have, sink, watch, report));
            match done {
                Ok(()) => {
                    bytes += unpacked;
                    fetching.missing.clear();
                }
                Err(DeltaError::Fatal(error)) => return Err(error),
                Err(error @ DeltaError::Unusable { .. }) => {
                    tracing::warn!(%error, "fetching the rest from packs");
                }
            }
        }
        Ok(())
    }

    fn located(&mut self) -> Result<Vec<Located<'_>>, StoreError> {
        let unasked = |fetching: &Fetching<'_>| {
            !fetching.missing.is_empty() && matches!(fetching.locator, Locator::Unasked)
        };
        let ids: Vec<TreeId> =
            self.layers.iter().filter(|fetching| unasked(fetching)).map(|f| f.layer.tree).collect();
        let mut found =
            locators(self.store, &ids, &self.watch).map_err(|error| self.store.explain(error))?.into_iter();
        let mut located = Vec::new();
        for fetching in &mut self.layers {
            if unasked(fetching) {
                fetching.locator = Locator::Answered(found.next().flatten());
            }
            // Whoever asks has the list of them already.
            let missing = std::mem::take(&mut fetching.missing);
            let Some(tree) = fetching.tree.as_ref().filter(|_| !missing.is_empty()) else {
                continue;
            };
            let locator = match &mut fetching.locator {
                Locator::Answered(bytes) => bytes.take(),
                Locator::Unasked => None,
            };
            located.push(Located { tree, id: fetching.layer.tree, locator });
        }
        Ok(located)
    }
}

fn read_hints(store: &Store, id: &ArtifactId, watch: &Watch<'_>) -> Result<Hints, StoreError> {
    let found = hint(store.backend(), &layout::hints(id), HINTS_BYTES_MAX, watch)?;
    Ok(found.map_or_else(Hints::default, |bytes| Hints::decode(&bytes)))
}

/// Runs one stage of a fetch whose progress goes on from here.
fn onward<T>(outer: Watch<'_>, from: Progress, stage: impl FnOnce(&Watch<'_>) -> T) -> T {
    let progress = |now: Progress| {
        (outer.progress)(Progress {
            blobs: from.blobs + now.blobs,
            bytes: from.bytes + now.bytes,
            moved: from.moved + now.moved,
            ..from
        });
    };
    stage(&Watch { progress: &progress, cancel: outer.cancel })
}

fn ask_for<'a>(
    store: &'a Store,
    kept: &dyn Kept,
    watch: &Watch<'_>,
    id: TreeId,
    ask: &Ask,
) -> Result<Answer<'a>, StoreError> {
    if (watch.cancel)() {
        return Err(StoreError::Cancelled);
    }
    let backend = store.backend();
    match ask {
        Ask::Delta(base) => {
            let from = kept.tree(&base.tree).and_then(|text| Tree::decode(&text).ok());
            match from.map(|from| Delta::open(store, base, &from, id)).transpose() {
                Ok(delta) => Ok(Answer::Delta(delta.map(|(tree, delta)| (tree, Box::new(delta))))),
                Err(DeltaError::Fatal(error)) => Err(error),
                Err(error @ DeltaError::Unusable { .. }) => {
                    tracing::warn!(%error, "fetching from packs instead");
                    Ok(Answer::Delta(None))
                }
            }
        }
        Ask::List => {
            let found = hint(backend, &layout::segments(&id), SEGMENT_LIST_RAW_BYTES_MAX as u64, watch)?;
            let list = found.map(|bytes| SegmentList::decode(&bytes, id)).transpose();
            Ok(Answer::List(list.unwrap_or_else(|error| {
                tracing::warn!(%error, "fetching the whole tree");
                None
            })))
        }
        Ask::Span(span) => {
            let key = layout::tree(&id);
            let failed = |source| BackendError::io("read", &key, backend.location(), source);
            match backend.open(&key, span.offset, span.length)? {
                Opened::Part(mut part) => read_to_end(&mut *part, watch, failed).map(Answer::Stored),
                Opened::Whole(whole) => {
                    let mut whole = io::Read::take(whole, TREE_BYTES_MAX as u64);
                    let stored = read_to_end(&mut whole, watch, failed)?;
                    let tree = inflate(&stored, TREE_BYTES_MAX).ok().filter(|text| TreeId::of(text) == id);
                    match tree.and_then(|text| Tree::decode(&text).ok()) {
                        Some(tree) => Ok(Answer::Tree(tree)),
                        // What follows is the question for the whole tree, which says what is wrong with it.
                        None => Ok(Answer::Stored(Vec::new())),
                    }
                }
            }
        }
        Ask::Tree => super::tree(store, &id).map(Answer::Tree),
        Ask::Locator => {
            let found = find(backend, &layout::locator(&id), LOCATOR_RAW_BYTES_MAX as u64, watch);
            found.map(Answer::Locator)
        }
    }
}

impl<'a> Fetching<'a> {
    fn of(layer: &Layer, kept: &dyn Kept) -> Result<Self, StoreError> {
        let cut = !layer.is_env() && in_segments(layer.files) && !kept.like(layer).is_empty();
        let mut fetching = Self {
            layer: layer.clone(),
            tree: None,
            missing: Vec::new(),
            parts: if cut { Parts::Listed } else { Parts::Whole },
            delta: Offer::None,
            locator: Locator::Unasked,
        };
        if let Some(tree) = kept.tree(&layer.tree).and_then(|text| Tree::decode(&text).ok()) {
            fetching.has_come(tree, kept)?;
        }
        Ok(fetching)
    }

    fn is_complete(&self) -> bool {
        self.tree.is_some() && self.missing.is_empty()
    }

    fn known(&self) -> Known {
        Known {
            tree: self.tree.is_some(),
            way: match &self.parts {
                Parts::Whole => Way::Whole,
                Parts::Listed => Way::Listed,
                Parts::Assembling(assembly) => Way::Spans(assembly.lacking()),
            },
            lacking: self.missing.iter().map(|want| want.size.max(1)).sum(),
            delta: match &self.delta {
                Offer::Untried(base) => Some(*base),
                Offer::Open(_) | Offer::None => None,
            },
            coming: matches!(self.delta, Offer::Open(_)),
            located: matches!(self.locator, Locator::Answered(_)),
        }
    }

    fn take(&mut self, ask: &Ask, answer: Answer<'a>, kept: &dyn Kept) -> Result<(), StoreError> {
        match (ask, answer) {
            (_, Answer::Delta(Some((tree, delta)))) => {
                self.delta = Offer::Open(delta);
                self.has_come(tree, kept)
            }
            (_, Answer::Delta(None)) => {
                self.delta = Offer::None;
                Ok(())
            }
            (_, Answer::List(None)) => {
                self.parts = Parts::Whole;
                Ok(())
            }
            (_, Answer::List(Some(list))) => {
                self.parts = Parts::Assembling(self.assembly(list, kept));
                self.assemble(kept)
            }
            (Ask::Span(span), Answer::Stored(stored)) => {
                if let Parts::Assembling(assembly) = &mut self.parts
                    && let Err(why) = assembly.put(span, &stored)
                {
                    self.give_up_parts(&why);
                }
                self.assemble(kept)
            }
            (_, Answer::Tree(tree)) if self.tree.is_none() => self.has_come(tree, kept),
            (_, Answer::Locator(locator)) => {
                self.locator = Locator::Answered(locator);
                Ok(())
            }
            (_, Answer::Stored(_) | Answer::Tree(_)) => Ok(()),
        }
    }

    fn assembly(&self, list: SegmentList, kept: &dyn Kept) -> Assembly {
        let mut assembly = Assembly::new(list);
        for base in kept.like(&self.layer).iter().take(LIKE_MAX) {
            if assembly.is_nearly_whole() {
                break;
            }
            if let Some(text) = kept.tree(base) {
                assembly.take_from(text);
            }
        }
        assembly
    }

    /// Makes the tree of its parts, once they are all here.
    fn assemble(&mut self, kept: &dyn Kept) -> Result<(), StoreError> {
        let Parts::Assembling(assembly) = &self.parts else { return Ok(()) };
        let Some(text) = assembly.finish() else { return Ok(()) };
        // The parts are as large as the whole.
        self.parts = Parts::Whole;
        if TreeId::of(&text) != self.layer.tree {
            self.give_up_parts("together they are another tree");
            return Ok(());
        }
        match Tree::decode(&text) {
            Ok(tree) => self.has_come(tree, kept),
            Err(error) => {
                self.give_up_parts(&error.to_string());
                Ok(())
            }
        }
    }

    fn give_up_parts(&mut self, why: &str) {
        tracing::warn!(tree = %self.layer.tree, why, "its segments do not fit, fetching the whole tree");
        self.parts = Parts::Whole;
    }

    fn has_come(&mut self, tree: Tree, kept: &dyn Kept) -> Result<(), StoreError> {
        let lacks = |want: Want| match kept.has(&self.layer, &want) {
            Ok(true) => None,
            Ok(false) => Some(Ok(want)),
            Err(source) => Some(Err(StoreError::Sink { blob: want.blob, source })),
        };
        self.missing = wants(&[&tree]).into_par_iter().filter_map(lacks).collect::<Result<_, _>>()?;
        self.tree = Some(tree);
        Ok(())
    }
}
