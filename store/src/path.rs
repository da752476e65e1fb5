//! Paths inside a layer, in the only form a tree can hold.
//!
//! An [`EntryPath`] is relative, has no empty, `.` or `..` component and no NUL, and is within the limits.
//! Nothing downstream re-checks it, because nothing else can be constructed.

use std::cmp::Ordering;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::limits::{COMPONENT_BYTES_MAX, DEPTH_MAX, LINK_BYTES_MAX, PATH_BYTES_MAX};

/// Why bytes are not a path of a layer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` cannot be a path in a layer: {why}", escape(.path))]
pub struct PathError {
    path: Vec<u8>,
    why: PathFault,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum PathFault {
    #[error("it is empty")]
    Empty,
    #[error("it begins with `/`")]
    Absolute,
    #[error("it has an empty component or ends in `/`")]
    EmptyComponent,
    #[error("it has the component `.` or `..`")]
    Dots,
    #[error("it has a NUL byte")]
    Nul,
    #[error("a component is longer than {COMPONENT_BYTES_MAX} bytes")]
    ComponentTooLong,
    #[error("it is longer than {PATH_BYTES_MAX} bytes")]
    TooLong,
    #[error("it is deeper than {DEPTH_MAX} levels")]
    TooDeep,
}

/// A relative path that stays inside its layer. Any bytes but NUL may stand in a component.
///
/// Ordered bytewise with `/` below every other byte, so that everything below a directory is contiguous.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct EntryPath(Box<[u8]>);

impl EntryPath {
    /// Checks raw bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, PathError> {
        let bytes = bytes.into();
        match fault(&bytes) {
            None => Ok(Self(bytes.into_boxed_slice())),
            Some(why) => Err(PathError { path: bytes, why }),
        }
    }

    /// The raw bytes, components joined by `/`.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// As a relative path of the file system.
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }

    /// The components, from the top.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|byte| *byte == b'/')
    }

    /// The directory that holds it; `None` at the top of the layer.
    pub fn parent(&self) -> Option<&[u8]> {
        let end = self.0.iter().rposition(|byte| *byte == b'/')?;
        Some(&self.0[..end])
    }

    /// The last component.
    pub fn file_name(&self) -> &[u8] {
        let start = self.0.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
        &self.0[start..]
    }

    /// Whether `self` is `other` or stands below it.
    pub fn is_at_or_below(&self, other: &[u8]) -> bool {
        is_at_or_below(&self.0, other)
    }
}

/// Whether `path` is `other` or stands below it.
pub(crate) fn is_at_or_below(path: &[u8], other: &[u8]) -> bool {
    path.strip_prefix(other).is_some_and(|rest| rest.first().is_none_or(|byte| *byte == b'/'))
}

/// The order of a tree: bytewise, `/` as the lowest byte.
pub fn tree_order(a: &[u8], b: &[u8]) -> Ordering {
    let key = |byte: &u8| if *byte == b'/' { 0 } else { *byte };
    let common = a.iter().zip(b).position(|(x, y)| x != y).unwrap_or(a.len().min(b.len()));
    a[common..].first().map(key).cmp(&b[common..].first().map(key))
}

impl Ord for EntryPath {
    fn cmp(&self, other: &Self) -> Ordering {
        tree_order(&self.0, &other.0)
    }
}

impl PartialOrd for EntryPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&escape(&self.0))
    }
}

impl fmt::Debug for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn fault(bytes: &[u8]) -> Option<PathFault> {
    if bytes.is_empty() {
        return Some(PathFault::Empty);
    }
    if bytes[0] == b'/' {
        return Some(PathFault::Absolute);
    }
    if bytes.contains(&0) {
        return Some(PathFault::Nul);
    }
    if bytes.len() > PATH_BYTES_MAX {
        return Some(PathFault::TooLong);
    }
    let mut depth = 0;
    for component in bytes.split(|byte| *byte == b'/') {
        depth += 1;
        match component {
            b"" => return Some(PathFault::EmptyComponent),
            b"." | b".." => return Some(PathFault::Dots),
            _ if component.len() > COMPONENT_BYTES_MAX => return Some(PathFault::ComponentTooLong),
            _ => {}
        }
    }
    (depth > DEPTH_MAX).then_some(PathFault::TooDeep)
}

/// Why a symbolic link cannot be in a layer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// Nothing, too much, or a NUL.
    #[error("`{0}` links to a target of {1} bytes: 1 to {LINK_BYTES_MAX} without NUL are possible")]
    Malformed(String, usize),
    /// It leaves the release.
    #[error("`{0}` links to `{1}`, outside the release")]
    Outside(String, String),
}

/// Checks that the link at `path` with this target stays, read lexically, inside the layer.
pub fn check_link(path: &EntryPath, target: &[u8]) -> Result<(), LinkError> {
    if target.is_empty() || target.len() > LINK_BYTES_MAX || target.contains(&0) {
        return Err(LinkError::Malformed(path.to_string(), target.len()));
    }
    let outside = || LinkError::Outside(path.to_string(), escape(target));
    if target[0] == b'/' {
        return Err(outside());
    }
    let mut depth = path.components().count() - 1;
    for component in target.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => depth = depth.checked_sub(1).ok_or_else(outside)?,
            _ => depth += 1,
        }
    }
    Ok(())
}

/// The text form of raw bytes: `%XX` for control characters, space, `%`, DEL and whatever is not UTF-8.
pub fn escape(raw: &[u8]) -> String {
    let mut text = String::with_capacity(raw.len());
    escape_into(&mut text, raw);
    text
}

/// Appends the text form of raw bytes.
pub fn escape_into(text: &mut String, raw: &[u8]) {
    // Nearly every path is plain; a million of them are written for each large tree.
    let is_plain = |byte: &u8| byte.is_ascii_graphic() && *byte != b'%';
    if let Ok(plain) = std::str::from_utf8(raw)
        && raw.iter().all(is_plain)
    {
        text.push_str(plain);
        return;
    }
    for chunk in raw.utf8_chunks() {
        for char in chunk.valid().chars() {
            if char <= ' ' || char == '%' || char == '\x7f' {
                push_escaped(text, char as u8);
            } else {
                text.push(char);
            }
        }
        for byte in chunk.invalid() {
            push_escaped(text, *byte);
        }
    }
}

fn push_escaped(text: &mut String, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    text.push('%');
    text.push(char::from(HEX[usize::from(byte >> 4)]));
    text.push(char::from(HEX[usize::from(byte & 15)]));
}

/// The raw bytes of a text form; `None` if an escape is not `%` and two upper-case hex digits.
///
/// Accepts escapes that [`escape`] would not write; a caller that needs canonical text re-encodes.
pub fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut raw = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            raw.push(hex(bytes.next()?)? << 4 | hex(bytes.next()?)?);
        } else {
            raw.push(byte);
        }
    }
    Some(raw)
}

const fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> EntryPath {
        EntryPath::new(text).unwrap()
    }

    #[test]
    fn paths_that_could_leave_the_layer_cannot_be_made() {
        for bad in
            ["", "/a", "a//b", "a/", "./a", "a/../b", "..", "a\0b", &"x".repeat(256), &"a/".repeat(128)]
        {
            assert!(EntryPath::new(bad).is_err(), "{bad:?} was accepted");
        }
        assert!(EntryPath::new([b"a/".repeat(127), b"a".to_vec()].concat()).is_ok());
        assert!(EntryPath::new([b"a/".repeat(128), b"a".to_vec()].concat()).is_err());
    }

    #[test]
    fn everything_below_a_directory_is_contiguous() {
        let mut paths = [path("a.b"), path("a/z"), path("a"), path("a/b"), path("a-b"), path("b")];
        paths.sort();
        assert_eq!(paths.map(|path| path.to_string()), ["a", "a/b", "a/z", "a-b", "a.b", "b"]);
    }

    #[test]
    fn a_link_out_of_the_release_is_refused_and_one_inside_is_not() {
        for (at, target) in [("a", "/etc"), ("a", ".."), ("d/a", "../../x"), ("d/a", "x/../../..")] {
            assert!(check_link(&path(at), target.as_bytes()).is_err(), "{at} -> {target}");
        }
        for (at, target) in [("d/a", ".."), ("d/a", "../b"), ("a", "./b//c"), ("a", "x/..")] {
            assert!(check_link(&path(at), target.as_bytes()).is_ok(), "{at} -> {target}");
        }
    }

    #[test]
    fn any_bytes_survive_the_text_form() {
        let raw: Vec<u8> = (1..=255).collect();
        let text = escape(&raw);
        assert!(text.bytes().all(|byte| byte > 0x20 && byte != 0x7f));
        assert_eq!(unescape(&text).unwrap(), raw);
        assert_eq!(escape("ü my file%".as_bytes()), "ü%20my%20file%25");
    }
}
