//! Deltas: all that turns one tree into another, in one object.
//!
//! ```text
//! deltas/<xx>/<to>/<from>.lfd
//!   head        what stays of tree `from`, and how the rest of the object is divided
//!   came        the entries of `to` that `from` lacks, against those of `from` that `to` lacks
//!   group*      the new contents in path order, against contents they replace
//! ```
//! Nothing is said twice: both sides derive from the two trees which contents are new and which were
//! replaced ([`Change`]), so the head holds numbers only. Neither is a delta believed: the tree must hash to
//! its id, and every content to the id the tree gives it. A delta is disposable; without it the same bytes
//! come from packs. `docs/formats.md` has the bytes, decision 0021 the reasons.

mod change;
mod codec;
mod head;
mod hints;
mod make;
mod plan;
mod span;

pub(crate) use change::{Change, changed, gone};
pub(crate) use codec::decompress;
pub(crate) use head::Head;
pub use hints::{Base, Hints};
pub(crate) use make::{MakeError, make};
pub(crate) use plan::Group;
pub(crate) use span::Span;
