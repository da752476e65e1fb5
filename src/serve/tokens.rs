//! Who may do what: bearer tokens, from files.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use landfall_store::Name;

use super::limits::{HOST_TOKEN_FILE_BYTES, HOST_TOKENS, TOKEN_CHARS_MIN, TOKEN_FILE_BYTES, TOKENS};
use super::reload::Reloaded;

/// What a token allows: what each of the files that it is in says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rights {
    /// Read everything, and list.
    pub read: bool,
    /// That, and write and remove everything but reports.
    pub push: bool,
    /// Write reports, and read them again.
    pub report: Option<Whose>,
}

impl Rights {
    /// Whether everything may be read.
    pub const fn reads(&self) -> bool {
        self.read || self.push
    }

    /// Whether this host's reports may be written.
    pub fn reports_for(&self, host: &Name) -> bool {
        match &self.report {
            None => false,
            Some(Whose::Host(own)) => own == host,
            Some(Whose::Any) => true,
        }
    }
}

/// Whose reports a token is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whose {
    /// One host's.
    Host(Name),
    /// Every host's.
    Any,
}

/// Who sent a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// Somebody without a token.
    Anonymous,
    /// Somebody with a token that is none of this server's.
    Stranger,
    /// The holder of a token.
    Known(Rights),
}

/// The tokens of one file. Only their hashes are kept.
#[derive(Debug)]
pub struct Tokens(Vec<blake3::Hash>);

impl Tokens {
    /// Reads a file: a token a line, `#` begins a comment.
    fn read(path: &Path) -> Result<Self, String> {
        read(path, TOKEN_FILE_BYTES, Self::parse)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let lines = lines(text, TOKENS)?;
        lines.into_iter().map(|(line, token)| hash(line, token)).collect::<Result<_, _>>().map(Self)
    }

    /// Whether this is one of them. Takes the same time whichever it is, and however much of it is right.
    fn hold(&self, token: &str) -> bool {
        let hash = blake3::hash(token.as_bytes());
        // `blake3::Hash` compares in constant time; no `any`, which would stop at the first.
        self.0.iter().fold(false, |found, own| found | (*own == hash))
    }
}

/// The tokens of hosts, each with whose reports it is for. Only their hashes are kept.
#[derive(Debug)]
pub struct HostTokens(Vec<(blake3::Hash, Whose)>);

impl HostTokens {
    /// Reads a file: a host and its token a line; `*` stands for every host, `#` begins a comment.
    fn read(path: &Path) -> Result<Self, String> {
        read(path, HOST_TOKEN_FILE_BYTES, Self::parse)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut known: Vec<(blake3::Hash, Whose)> = Vec::new();
        for (line, content) in lines(text, HOST_TOKENS)? {
            let Some((host, token)) = content.split_once(char::is_whitespace) else {
                return Err(format!("line {line} is not a host and its token, with a blank between them"));
            };
            let whose = match host {
                "*" => Whose::Any,
                // What stands there may be a token: it is not repeated.
                host => {
                    Whose::Host(host.parse().map_err(|_| format!("line {line} begins with no host's name"))?)
                }
            };
            let hash = hash(line, token.trim_start())?;
            if known.iter().any(|(other, _)| *other == hash) {
                return Err(format!(
                    "the token in line {line} stands in another line too: each host has its own"
                ));
            }
            known.push((hash, whose));
        }
        Ok(Self(known))
    }

    /// Whose reports this token is for. As constant in time as [`Tokens::hold`].
    fn whose(&self, token: &str) -> Option<&Whose> {
        let hash = blake3::hash(token.as_bytes());
        self.0.iter().fold(None, |found, (own, whose)| if *own == hash { Some(whose) } else { found })
    }
}

/// Reads a token file. What is wrong with it is said without its content.
fn read<T>(path: &Path, bytes_max: u64, parse: impl Fn(&str) -> Result<T, String>) -> Result<T, String> {
    let at = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
    let file = File::open(path).map_err(|error| at(&error))?;
    let facts = file.metadata().map_err(|error| at(&error))?;
    if facts.mode() & 0o007 != 0 {
        return Err(at(&"everybody on this machine can read this token file: chmod o= it"));
    }
    let mut text = String::new();
    file.take(bytes_max + 1).read_to_string(&mut text).map_err(|error| at(&error))?;
    if text.len() as u64 > bytes_max {
        return Err(at(&format!("more than {bytes_max} bytes are no token file")));
    }
    parse(&text).map_err(|why| at(&why))
}

/// The lines that say something, with their numbers.
fn lines(text: &str, most: usize) -> Result<Vec<(usize, &str)>, String> {
    let lines = text.lines().map(str::trim).enumerate().map(|(index, line)| (index + 1, line));
    let lines: Vec<_> = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')).collect();
    match lines.len() {
        0 => Err("there is no token in it".to_owned()),
        found if found > most => Err(format!("it has {found} tokens; {most} are possible")),
        _ => Ok(lines),
    }
}

fn hash(line: usize, token: &str) -> Result<blake3::Hash, String> {
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!("line {line} is no token: ASCII without blanks"));
    }
    if token.len() < TOKEN_CHARS_MIN {
        return Err(format!(
            "the token in line {line} is too short: at least {TOKEN_CHARS_MIN} characters, as `openssl rand -hex \
             32` makes them"
        ));
    }
    Ok(blake3::hash(token.as_bytes()))
}

/// Every kind of tokens, as configured.
pub struct Doors {
    /// Who may push; nobody where there is none.
    pub push: Option<Reloaded<Tokens>>,
    /// Who may read; everybody may read what is public where there is none.
    pub read: Option<Reloaded<Tokens>>,
    /// Which hosts may report; none where there is none.
    pub report: Option<Reloaded<HostTokens>>,
}

impl Doors {
    /// Reads the files.
    pub fn open(push: Option<&Path>, read: Option<&Path>, report: Option<&Path>) -> Result<Self, String> {
        Ok(Self {
            push: push.map(|path| followed(path, Tokens::read)).transpose()?,
            read: read.map(|path| followed(path, Tokens::read)).transpose()?,
            report: report.map(|path| followed(path, HostTokens::read)).transpose()?,
        })
    }

    /// Whether there is any token at all.
    pub const fn any(&self) -> bool {
        self.push.is_some() || self.read.is_some() || self.report.is_some()
    }

    /// Who sends this `Authorization` header. Other schemes than `Bearer` are for whoever stands in front.
    pub fn caller(&self, authorization: Option<&str>) -> Caller {
        let Some(token) = authorization.and_then(bearer) else { return Caller::Anonymous };
        let holds = |door: &Option<Reloaded<Tokens>>| door.as_ref().is_some_and(|own| own.get().hold(token));
        // All are always asked, so that time tells nobody which door a token fits.
        let report = self.report.as_ref().and_then(|own| own.get().whose(token).cloned());
        let rights = Rights { read: holds(&self.read), push: holds(&self.push), report };
        if rights == Rights::default() { Caller::Stranger } else { Caller::Known(rights) }
    }
}

fn followed<T: 'static>(
    path: &Path,
    read: impl Fn(&Path) -> Result<T, String> + Send + Sync + 'static,
) -> Result<Reloaded<T>, String> {
    let own = path.to_owned();
    Reloaded::new(vec![path.to_owned()], move || read(&own))
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
    fn a_host_has_a_token_of_its_own_which_is_never_repeated() {
        let tokens = HostTokens::parse(&format!("# hosts\nweb-1 {ONE}\n *\t{TWO} \n")).unwrap();
        assert_eq!(tokens.whose(ONE), Some(&Whose::Host("web-1".parse().unwrap())));
        assert_eq!(tokens.whose(TWO), Some(&Whose::Any));
        assert_eq!(tokens.whose("web-1"), None);
        let renewed = HostTokens::parse(&format!("web-1 {ONE}\nweb-1 {TWO}")).unwrap();
        assert!(renewed.whose(ONE).is_some() && renewed.whose(TWO).is_some());
        for bad in [
            ONE.to_owned(),
            format!("{ONE} web-1"),
            format!("WEB {ONE}"),
            format!("web-1 {ONE} {TWO}"),
            "web-1 tiny".to_owned(),
            format!("web-1 {ONE}\nweb-2 {ONE}"),
            "# nothing".to_owned(),
        ] {
            let why = HostTokens::parse(&bad).unwrap_err();
            assert!(!why.contains("good-length") && !why.contains("tiny"), "{why}");
        }
    }

    #[test]
    fn a_token_allows_what_each_of_its_files_says() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            path
        };
        let three = "three-token-of-a-good-length";
        let (push, read) = (file("push", ONE), file("read", &format!("{TWO}\n{three}")));
        let report = file("report", &format!("web-1 {three}"));
        let doors = Doors::open(Some(&push), Some(&read), Some(&report)).unwrap();
        let caller = |header: &str| doors.caller(Some(header));
        let web: Name = "web-1".parse().unwrap();
        let Caller::Known(pusher) = caller(&format!("Bearer {ONE}")) else { panic!() };
        assert!(pusher.push && pusher.reads() && !pusher.reports_for(&web));
        let Caller::Known(reader) = caller(&format!("bearer  {TWO}")) else { panic!() };
        assert!(!reader.push && reader.reads() && !reader.reports_for(&web));
        let Caller::Known(host) = caller(&format!("Bearer {three}")) else { panic!() };
        assert!(!host.push && host.reads() && host.reports_for(&web));
        assert!(!host.reports_for(&"web-2".parse().unwrap()));
        assert_eq!(caller("Bearer nobody-knows-this-token"), Caller::Stranger);
        assert_eq!(caller("Basic dXNlcjpwYXNzd29yZA=="), Caller::Anonymous);
        assert_eq!(doors.caller(None), Caller::Anonymous);
    }
}
