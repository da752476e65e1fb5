//! The file of those who may sign: git's `gpg.ssh.allowedSignersFile`, as ssh-keygen(1) describes it.
//!
//! A line: principals, options, a public key. Known options are `namespaces`, `valid-after` and `valid-before`;
//! certificates (`cert-authority`) are refused, because nothing here verifies one. A file with a line that is not
//! understood is refused as a whole: what was meant to be forbidden must not be allowed.

use std::fmt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use ssh_key::public::KeyData;
use ssh_key::{Algorithm, EcdsaCurve, HashAlg, PublicKey};

/// Bytes of such a file: some thousand people.
pub const SIGNERS_BYTES_MAX: u64 = 1 << 20;

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SignersError {
    /// It cannot be read.
    #[error("{path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A line is not understood.
    #[error("{path}:{line}: {why}")]
    Line {
        /// The file.
        path: PathBuf,
        /// Which line.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// It names nobody.
    #[error("{path}: it names no key, so nothing could ever be accepted")]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// Others may change it.
    #[error("{path}: everybody may write it, so everybody could become a signer")]
    Writable {
        /// The file.
        path: PathBuf,
    },
}

/// Those who may sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signers {
    entries: Vec<Entry>,
}

/// One key, whose it is, for what and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    principals: Vec<String>,
    namespaces: Option<Vec<String>>,
    after: Option<Timestamp>,
    before: Option<Timestamp>,
    key: KeyData,
}

impl Signers {
    /// Reads a file that not everybody may write.
    pub fn read(path: &Path) -> Result<Self, SignersError> {
        use std::io::Read;
        use std::os::unix::fs::PermissionsExt;
        let unreadable = |source| SignersError::Unreadable { path: path.to_owned(), source };
        let file = std::fs::File::open(path).map_err(unreadable)?;
        if file.metadata().map_err(unreadable)?.permissions().mode() & 0o002 != 0 {
            return Err(SignersError::Writable { path: path.to_owned() });
        }
        let mut text = String::new();
        file.take(SIGNERS_BYTES_MAX).read_to_string(&mut text).map_err(unreadable)?;
        Self::parse(&text, path)
    }

    /// Parses such a file.
    pub fn parse(text: &str, path: &Path) -> Result<Self, SignersError> {
        let mut entries = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |why| SignersError::Line { path: path.to_owned(), line: index + 1, why };
            entries.push(entry(line).map_err(wrong)?);
        }
        if entries.is_empty() {
            Err(SignersError::Empty { path: path.to_owned() })
        } else {
            Ok(Self { entries })
        }
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none; a parsed file has some.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Lines about a key.
    pub(super) fn of<'a>(&'a self, key: &'a KeyData) -> impl Iterator<Item = &'a Entry> {
        self.entries.iter().filter(move |entry| entry.key == *key)
    }

    /// The names of `operators` that no line is about: they can sign nothing.
    pub fn without_key<'a>(&self, operators: &'a [String]) -> Vec<&'a str> {
        let has = |name: &&String| self.entries.iter().any(|entry| entry.is_of(name));
        operators.iter().filter(|name| !has(name)).map(String::as_str).collect()
    }
}

impl Entry {
    /// Whether a principal of this name is meant.
    pub(super) fn is_of(&self, name: &str) -> bool {
        matches(&self.principals, name)
    }

    /// Whether signatures of this purpose are.
    pub(super) fn is_for(&self, namespace: &str) -> bool {
        self.namespaces.as_ref().is_none_or(|known| matches(known, namespace))
    }

    /// Whether the key is good at a moment.
    pub(super) fn is_valid_at(&self, now: Timestamp) -> bool {
        self.after.is_none_or(|after| after <= now) && self.before.is_none_or(|before| now < before)
    }
}

/// Whose it is, as the file says.
impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.principals.join(","))
    }
}

/// The usual short name of a key.
pub(super) fn fingerprint(key: &KeyData) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

fn entry(line: &str) -> Result<Entry, String> {
    let mut words = Words(line);
    let principals = words.next().ok_or("the line is empty")?;
    let mut rest = words.0.trim_start();
    let mut entry = Entry {
        principals: list(principals)?,
        namespaces: None,
        after: None,
        before: None,
        key: KeyData::Ed25519(ssh_key::public::Ed25519PublicKey([0; 32])),
    };
    if !is_key_type(rest.split(' ').next().unwrap_or_default()) {
        let options = words.next().ok_or("there is no key")?;
        for option in Options(options) {
            entry.take(&option?)?;
        }
        rest = words.0.trim_start();
    }
    let key = PublicKey::from_openssh(rest).map_err(|error| format!("this is no public key: {error}"))?;
    entry.key = match key.algorithm() {
        Algorithm::Ed25519
        | Algorithm::SkEd25519
        | Algorithm::SkEcdsaSha2NistP256
        | Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 | EcdsaCurve::NistP384 } => key.key_data().clone(),
        other => {
            return Err(format!(
                "keys of type {other} are not verified by this landfall: use ssh-ed25519 (also sk-ssh-ed25519) or \
                 ecdsa-sha2-nistp256/384"
            ));
        }
    };
    Ok(entry)
}

impl Entry {
    fn take(&mut self, (key, value): &(String, Option<String>)) -> Result<(), String> {
        match (key.to_ascii_lowercase().as_str(), value) {
            ("cert-authority", _) => Err(
                "certificates (`cert-authority`) are not verified by this landfall: list the keys themselves"
                    .to_owned(),
            ),
            ("namespaces", Some(value)) => {
                self.namespaces = Some(list(value.clone())?);
                Ok(())
            }
            ("valid-after", Some(value)) => {
                self.after = Some(moment(value)?);
                Ok(())
            }
            ("valid-before", Some(value)) => {
                self.before = Some(moment(value)?);
                Ok(())
            }
            (other, _) => Err(format!("the option `{other}` is not known")),
        }
    }
}

fn is_key_type(word: &str) -> bool {
    ["ssh-", "ecdsa-", "sk-ssh-", "sk-ecdsa-"].iter().any(|prefix| word.starts_with(prefix))
}

fn list(text: String) -> Result<Vec<String>, String> {
    let parts: Vec<String> = text.split(',').map(str::to_owned).collect();
    if parts.iter().any(String::is_empty) {
        Err(format!("`{text}` has an empty name in it"))
    } else {
        Ok(parts)
    }
}

/// Words of a line; spaces inside double quotes belong to the word, the quotes do not.
struct Words<'a>(&'a str);

impl Words<'_> {
    fn next(&mut self) -> Option<String> {
        let text = self.0.trim_start();
        let mut quoted = false;
        let end = text.find(|c: char| {
            quoted ^= c == '"';
            !quoted && (c == ' ' || c == '\t')
        });
        let (word, rest) = text.split_at(end.unwrap_or(text.len()));
        self.0 = rest;
        let whole = match word.strip_prefix('"').and_then(|inner| inner.strip_suffix('"')) {
            Some(inner) if !inner.contains('"') => inner,
            _ => word,
        };
        (!whole.is_empty()).then(|| whole.to_owned())
    }
}

/// Options: `key` or `key="value"`, separated by commas.
struct Options(String);

impl Iterator for Options {
    type Item = Result<(String, Option<String>), String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let mut quoted = false;
        let end = self.0.find(|c: char| {
            quoted ^= c == '"';
            !quoted && c == ','
        });
        let option: String = match end {
            Some(end) => {
                let rest = self.0.split_off(end + 1);
                let mut option = std::mem::replace(&mut self.0, rest);
                option.truncate(end);
                option
            }
            None => std::mem::take(&mut self.0),
        };
        Some(match option.split_once('=') {
            None => Ok((option, None)),
            Some((key, value)) => match value.strip_prefix('"').and_then(|value| value.strip_suffix('"')) {
                Some(value) if !value.contains('"') => Ok((key.to_owned(), Some(value.to_owned()))),
                _ => Err(format!("the value of `{key}` is not in double quotes")),
            },
        })
    }
}

/// `YYYYMMDD[Z]` or `YYYYMMDDHHMM[SS][Z]`; without `Z` in this machine's time zone.
fn moment(text: &str) -> Result<Timestamp, String> {
    let wrong = || format!("`{text}` is not a time: YYYYMMDD[HHMM[SS]][Z]");
    let (digits, zone) = match text.strip_suffix('Z') {
        Some(digits) => (digits, TimeZone::UTC),
        None => (text, TimeZone::system()),
    };
    if !matches!(digits.len(), 8 | 12 | 14) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    let padded = format!("{digits:0<14}");
    let moment = DateTime::strptime("%Y%m%d%H%M%S", &padded).map_err(|_| wrong())?;
    moment.to_zoned(zone).map(|moment| moment.timestamp()).map_err(|_| wrong())
}

/// ssh's lists of patterns: one of them must match, and none that is negated.
fn matches(patterns: &[String], text: &str) -> bool {
    let mut found = false;
    for pattern in patterns {
        match pattern.strip_prefix('!') {
            Some(pattern) if fits(pattern.as_bytes(), text.as_bytes()) => return false,
            Some(_) => {}
            None => found |= fits(pattern.as_bytes(), text.as_bytes()),
        }
    }
    found
}

/// `*` and `?`, without a stack: the last star is where matching goes on after a mistake.
fn fits(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(b'?') => (p, t) = (p + 1, t + 1),
            Some(byte) if *byte == text[t] => (p, t) = (p + 1, t + 1),
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    (p, t) = (at + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";

    fn parse(text: &str) -> Result<Signers, SignersError> {
        Signers::parse(text, Path::new("allowed_signers"))
    }

    #[test]
    fn the_file_of_git_is_read_with_its_options() {
        let text = format!(
            "# people\n\nmaria@acme.example,lee@acme.example namespaces=\"git\",valid-after=\"20260101Z\",valid-before=\"20270101Z\" {KEY} Maria\n\
             \"ops team\" {KEY}\n*@acme.example,!eve@acme.example {KEY}\n"
        );
        let signers = parse(&text).unwrap();
        assert_eq!(signers.len(), 3);
        let [dated, quoted, pattern] = &signers.entries[..] else { panic!() };
        assert!(dated.is_of("lee@acme.example") && !dated.is_of("eve@acme.example"));
        assert!(dated.is_for("git") && !dated.is_for("file"));
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        assert!(!dated.is_valid_at(at("2025-12-31T23:59:59Z")));
        assert!(dated.is_valid_at(at("2026-01-01T00:00:00Z")));
        assert!(!dated.is_valid_at(at("2027-01-01T00:00:00Z")));
        assert!(quoted.is_of("ops team") && quoted.is_for("anything"));
        assert!(pattern.is_of("lee@acme.example") && !pattern.is_of("eve@acme.example"));
        assert_eq!(signers.without_key(&["lee@acme.example".into(), "nobody".into()]), ["nobody"]);
    }

    #[test]
    fn a_file_with_a_line_that_is_not_understood_is_refused_as_a_whole() {
        let bad = [
            String::new(),
            "# nobody".to_owned(),
            "maria".to_owned(),
            format!("maria cert-authority {KEY}"),
            format!("maria namespaces=git {KEY}"),
            format!("maria valid-before=\"tomorrow\" {KEY}"),
            format!("maria valid-before=\"20261301Z\" {KEY}"),
            format!("maria expires=\"20260101Z\" {KEY}"),
            format!("maria,,lee {KEY}"),
            "maria ssh-ed25519 AAAA".to_owned(),
            format!("maria {KEY}\nlee ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAAQC"),
        ];
        for text in bad {
            assert!(parse(&text).is_err(), "{text}");
        }
    }

    #[test]
    fn patterns_are_ssh_s() {
        for (pattern, text, fit) in [
            ("*", "", true),
            ("a*c", "abbc", true),
            ("a*c", "abbd", false),
            ("?", "", false),
            ("a?c", "abc", true),
            ("*@x", "me@y@x", true),
            ("git", "git2", false),
        ] {
            assert_eq!(fits(pattern.as_bytes(), text.as_bytes()), fit, "{pattern} {text}");
        }
        let stars = "a*".repeat(2_000);
        assert!(!fits(stars.as_bytes(), "a".repeat(1_000).as_bytes()), "and it ends soon");
    }
}
