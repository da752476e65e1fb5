//! Who may do what: bearer tokens, from files.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::limits::{TOKEN_CHARS_MIN, TOKEN_FILE_BYTES, TOKENS};
use super::reload::Reloaded;

/// What a token allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Read everything, and list.
    Reader,
    /// That, and write and remove.
    Pusher,
}

/// Who sent a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// Somebody without a token.
    Anonymous,
    /// Somebody with a token that is none of this server's.
    Stranger,
    /// The holder of a token.
    Known(Role),
}

/// The tokens of one file. Only their hashes are kept.
#[derive(Debug)]
pub struct Tokens(Vec<blake3::Hash>);

impl Tokens {
    /// Reads a file: a token a line, `#` begins a comment. What is wrong with it is said without its content.
    pub fn read(path: &Path) -> Result<Self, String> {
        let at = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
        let file = File::open(path).map_err(|error| at(&error))?;
        let facts = file.metadata().map_err(|error| at(&error))?;
        if facts.mode() & 0o007 != 0 {
            return Err(at(&"everybody on this machine can read this token file: chmod o= it"));
        }
        let mut text = String::new();
        file.take(TOKEN_FILE_BYTES + 1).read_to_string(&mut text).map_err(|error| at(&error))?;
        if text.len() as u64 > TOKEN_FILE_BYTES {
            return Err(at(&format!("more than {TOKEN_FILE_BYTES} bytes are no token file")));
        }
        Self::parse(&text).map_err(|why| at(&why))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let lines = text.lines().map(str::trim).enumerate();
        let tokens: Vec<_> = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')).collect();
        if tokens.is_empty() {
            return Err("there is no token in it".to_owned());
        }
        if tokens.len() > TOKENS {
            return Err(format!("it has {} tokens; {TOKENS} are possible", tokens.len()));
        }
        let hash = |(index, token): (usize, &str)| {
            if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(format!("line {} is no token: ASCII without blanks", index + 1));
            }
            if token.len() < TOKEN_CHARS_MIN {
                return Err(format!(
                    "the token in line {} is too short: at least {TOKEN_CHARS_MIN} characters, as `openssl rand \
                     -hex 32` makes them",
                    index + 1
                ));
            }
            Ok(blake3::hash(token.as_bytes()))
        };
        tokens.into_iter().map(hash).collect::<Result<_, _>>().map(Self)
    }

    /// Whether this is one of them. Takes the same time whichever it is, and however much of it is right.
    pub fn hold(&self, token: &str) -> bool {
        let hash = blake3::hash(token.as_bytes());
        // `blake3::Hash` compares in constant time; no `any`, which would stop at the first.
        self.0.iter().fold(false, |found, own| found | (*own == hash))
    }
}

/// Both kinds of tokens, as configured.
pub struct Doors {
    /// Who may push; nobody where there is none.
    pub push: Option<Reloaded<Tokens>>,
    /// Who may read; everybody may read what is public where there is none.
    pub read: Option<Reloaded<Tokens>>,
}

impl Doors {
    /// Reads both files.
    pub fn open(push: Option<&Path>, read: Option<&Path>) -> Result<Self, String> {
        let open = |path: &Path| {
            let own = path.to_owned();
            Reloaded::new(vec![path.to_owned()], move || Tokens::read(&own))
        };
        Ok(Self { push: push.map(open).transpose()?, read: read.map(open).transpose()? })
    }

    /// Whether there is any token at all.
    pub const fn any(&self) -> bool {
        self.push.is_some() || self.read.is_some()
    }

    /// Who sends this `Authorization` header. Other schemes than `Bearer` are for whoever stands in front.
    pub fn caller(&self, authorization: Option<&str>) -> Caller {
        let Some(token) = authorization.and_then(bearer) else { return Caller::Anonymous };
        let holds = |door: &Option<Reloaded<Tokens>>| door.as_ref().is_some_and(|own| own.get().hold(token));
        // Both are always asked, so that time tells nobody which door a token fits.
        match (holds(&self.push), holds(&self.read)) {
            (true, _) => Caller::Known(Role::Pusher),
            (false, true) => Caller::Known(Role::Reader),
            (false, false) => Caller::Stranger,
        }
    }
}

fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const ONE: &str = "one-token-of-a-good-length";
    const TWO: &str = "two-token-of-a-good-length";

    #[test]
    fn a_file_may_hold_several_tokens_so_that_one_can_be_changed_without_a_gap() {
        let tokens = Tokens::parse(&format!("# new\n{ONE}\n\n  {TWO}  \n")).unwrap();
        assert!(tokens.hold(ONE) && tokens.hold(TWO));
        assert!(!tokens.hold("") && !tokens.hold(&ONE[1..]) && !tokens.hold("# new"));
    }

    #[test]
    fn a_file_without_a_usable_token_is_refused_and_never_repeated() {
        for bad in [
            "",
            "\n# only words\n",
            "tiny",
            "a token with blanks in it, and long enough",
            "ümlaut-ümlaut-ümlaut",
        ] {
            let why = Tokens::parse(bad).unwrap_err();
            assert!(bad.is_empty() || !why.contains(bad.trim()), "{why}");
        }
        assert!(Tokens::parse(&format!("{ONE}\n").repeat(TOKENS + 1)).is_err());
    }

    #[test]
    fn a_file_that_everybody_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, ONE).unwrap();
        for (mode, accepted) in [(0o604, false), (0o666, false), (0o640, true), (0o400, true)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(Tokens::read(&path).is_ok(), accepted, "{mode:o}");
        }
    }

    #[test]
    fn a_push_token_also_reads_and_a_read_token_does_not_push() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, token: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, token).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            path
        };
        let doors = Doors::open(Some(&file("push", ONE)), Some(&file("read", TWO))).unwrap();
        let caller = |header: &str| doors.caller(Some(header));
        assert_eq!(caller(&format!("Bearer {ONE}")), Caller::Known(Role::Pusher));
        assert_eq!(caller(&format!("bearer  {TWO}")), Caller::Known(Role::Reader));
        assert_eq!(caller("Bearer nobody-knows-this-token"), Caller::Stranger);
        assert_eq!(caller("Basic dXNlcjpwYXNzd29yZA=="), Caller::Anonymous);
        assert_eq!(doors.caller(None), Caller::Anonymous);
    }
}
