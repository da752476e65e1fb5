//! What is wrong in a file people wrote: where, what, and what to do.

use std::fmt;
use std::path::{Path, PathBuf};

/// The classes of problem, for machines and tests; people read the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProblemKind {
    /// Not TOML or not JSON.
    Syntax,
    /// The same key twice.
    Duplicate,
    /// A key nobody reads.
    UnknownKey,
    /// A key that must be there.
    Missing,
    /// A string where a table is needed, and the like.
    WrongShape,
    /// The right shape with a value that is refused.
    Invalid,
    /// Reserved for a later format, or not built yet.
    Reserved,
    /// Written for another version of landfall.
    Version,
}

/// One problem. Displays as `file:line:column: key: what`.
#[derive(Clone, PartialEq, Eq)]
pub struct Problem(Box<Inner>);

#[derive(Clone, PartialEq, Eq)]
struct Inner {
    kind: ProblemKind,
    file: PathBuf,
    line: usize,
    column: usize,
    at: String,
    what: String,
    hint: Option<String>,
}

impl Problem {
    /// A problem at byte `offset` of `text`.
    pub(super) fn new(
        kind: ProblemKind,
        file: &Path,
        text: &str,
        offset: usize,
        at: &str,
        what: impl Into<String>,
    ) -> Self {
        let (line, column) = position(text, offset);
        Self(Box::new(Inner {
            kind,
            file: file.to_owned(),
            line,
            column,
            at: at.to_owned(),
            what: what.into(),
            hint: None,
        }))
    }

    /// The same problem with what to do about it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// The class of the problem.
    pub fn kind(&self) -> ProblemKind {
        self.0.kind
    }

    /// The file it is in.
    pub fn file(&self) -> &Path {
        &self.0.file
    }

    /// Line, from 1.
    pub fn line(&self) -> usize {
        self.0.line
    }

    /// Column in characters, from 1.
    pub fn column(&self) -> usize {
        self.0.column
    }

    /// The key: `start.stop.signal` in TOML, `/apps/web` (a JSON pointer) in JSON; empty at the top.
    pub fn at(&self) -> &str {
        &self.0.at
    }

    /// What is wrong, without the place.
    pub fn what(&self) -> &str {
        &self.0.what
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        write!(f, "{}:{}:{}: ", inner.file.display(), inner.line, inner.column)?;
        if !inner.at.is_empty() {
            write!(f, "{}: ", inner.at)?;
        }
        f.write_str(&inner.what)
    }
}

impl fmt::Debug for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")?;
        self.hint().map_or(Ok(()), |hint| write!(f, " (hint: {hint})"))
    }
}

impl std::error::Error for Problem {}

/// Line and column (in characters), both from 1, of a byte offset; an offset past the end is the end.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..text.floor_char_boundary(offset)];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.matches('\n').count() + 1;
    (line, before[line_start..].chars().count() + 1)
}
