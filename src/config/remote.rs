//! Addresses of git repositories, branches, and paths in them: each a type that git cannot take for anything else.
//!
//! Everything is allow-listed. None of them can begin with `-`, so none can be an option; none holds a password,
//! because it would end up in logs.

use std::fmt;
use std::path::PathBuf;

/// How a repository is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transport {
    /// `ssh://` or `user@host:path`.
    Ssh,
    /// `https://`.
    Https,
    /// `http://`: whoever is in between can change what is said.
    Http,
    /// `git://`: the same.
    Git,
    /// A directory of this machine.
    File,
}

impl Transport {
    /// git's own name for it, for `protocol.<name>.allow`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ssh => "ssh",
            Self::Https => "https",
            Self::Http => "http",
            Self::Git => "git",
            Self::File => "file",
        }
    }

    /// Whether nobody in between can read or change what is said.
    pub const fn is_private(self) -> bool {
        matches!(self, Self::Ssh | Self::Https | Self::File)
    }
}

/// The address of a repository.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Remote {
    url: String,
    transport: Transport,
    host: Option<String>,
}

/// Bytes of an address: longer ones are no addresses.
const URL_BYTES_MAX: usize = 2_000;

impl Remote {
    /// Parses an address as people write it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let plain = |c: char| c.is_ascii_graphic() && !"\"'`\\<>|;&$(){}*^#!".contains(c);
        if text.is_empty() || text.len() > URL_BYTES_MAX || text.starts_with('-') || !text.chars().all(plain)
        {
            return Err("this is not an address of a git repository".to_owned());
        }
        if text.starts_with('/') {
            return Ok(Self { url: format!("file://{text}"), transport: Transport::File, host: None });
        }
        match text.split_once("://") {
            Some((scheme, rest)) => Self::with_scheme(text, scheme, rest),
            None => Self::like_scp(text),
        }
    }

    fn with_scheme(text: &str, scheme: &str, rest: &str) -> Result<Self, String> {
        let transport = match scheme {
            "ssh" => Transport::Ssh,
            "https" => Transport::Https,
            "http" => Transport::Http,
            "git" => Transport::Git,
            "file" if rest.starts_with('/') => {
                return Ok(Self { url: text.to_owned(), transport: Transport::File, host: None });
            }
            "file" => return Err("a file:// address has three slashes: file:///srv/state.git".to_owned()),
            _ => return Err(format!("git repositories are not read over `{scheme}`: ssh, https or file")),
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if path.is_empty() {
            return Err("the address names no repository on its host".to_owned());
        }
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        match user {
            Some(user) if user.contains(':') => {
                return Err(
                    "the repository's address has a password in it: it would end up in logs".to_owned()
                );
            }
            Some(_) if transport != Transport::Ssh => {
                return Err(
                    "the address has a user in it: the file of `token_file` says `user:token`".to_owned()
                );
            }
            Some(user) if !is_word(user) => return Err(format!("`{user}` is not a user")),
            _ => {}
        }
        let (name, port) = split_port(host);
        if !is_host(name) || port.is_some_and(|port| port.parse::<u16>().is_err()) {
            return Err(format!("`{host}` is not a host"));
        }
        Ok(Self { url: text.to_owned(), transport, host: Some(host.to_owned()) })
    }

    /// `user@host:path`.
    fn like_scp(text: &str) -> Result<Self, String> {
        let wrong = || "this is not an address of a git repository".to_owned();
        let (authority, path) = text.split_once(':').ok_or_else(wrong)?;
        let (user, host) = authority.split_once('@').ok_or_else(wrong)?;
        if !is_word(user) || !is_host(host) || path.is_empty() || path.starts_with(['-', ':']) {
            return Err(wrong());
        }
        Ok(Self { url: text.to_owned(), transport: Transport::Ssh, host: Some(host.to_owned()) })
    }

    /// The address as git takes it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// How it is reached.
    pub const fn transport(&self) -> Transport {
        self.transport
    }

    /// Host and port, as a credential is asked for; none for a directory.
    pub fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    /// The directory, if it is one of this machine.
    pub fn dir(&self) -> Option<PathBuf> {
        self.url.strip_prefix("file://").map(PathBuf::from)
    }
}

/// For people: without the user.
impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, rest) = self.url.split_once("://").map_or(("", self.url.as_str()), |(a, b)| (a, b));
        let cut = rest.find('/').unwrap_or(rest.len());
        let rest = match rest[..cut].rfind('@') {
            Some(at) => &rest[at + 1..],
            None => rest,
        };
        match scheme {
            "" => f.write_str(rest),
            scheme => write!(f, "{scheme}://{rest}"),
        }
    }
}

fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "._+-".contains(c))
}

fn is_host(text: &str) -> bool {
    let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    match inner {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => is_word(text),
    }
}

fn split_port(host: &str) -> (&str, Option<&str>) {
    if host.ends_with(']') {
        return (host, None);
    }
    host.rsplit_once(':').map_or((host, None), |(name, port)| (name, Some(port)))
}

/// A branch of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Branch(String);

impl Branch {
    /// The branch of this name.
    pub fn parse(text: &str) -> Result<Self, String> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._/+-".contains(c);
        let well_formed = text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.len() <= 255
            && text.chars().all(allowed)
            && !text.contains("..")
            && !text.contains("//")
            && !text.contains("/.")
            && !text.ends_with(['/', '.'])
            && !text.split('/').any(|part| part.ends_with(".lock"));
        if well_formed { Ok(Self(text.to_owned())) } else { Err(format!("`{text}` is not a branch")) }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Branch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A file in a repository, by its full path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepoPath(String);

impl RepoPath {
    /// The file at this path.
    pub fn parse(text: &str) -> Result<Self, String> {
        let fault = |part: &str| matches!(part, "" | "." | "..") || part.eq_ignore_ascii_case(".git");
        let control = |c: char| c.is_control() || c == ':' || c == '\\' || c == '"';
        if text.starts_with('-') || text.contains(control) || text.len() > 1_000 || text.split('/').any(fault)
        {
            return Err(format!("`{text}` is not a path inside the repository"));
        }
        Ok(Self(text.to_owned()))
    }

    /// As it stands in git's trees.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RepoPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// B22: what other tools let through as options, commands or credentials.
    #[test]
    fn b22_no_address_branch_or_path_can_be_taken_for_anything_else() {
        let evil = [
            "",
            "-",
            "--upload-pack=touch /tmp/x",
            "--upl=x",
            "-oProxyCommand=sh",
            "ssh://-oProxyCommand=sh/x",
            "ssh://-oProxyCommand=sh@h/x",
            "ssh://git@-oProxyCommand=sh/x",
            "git@-oProxyCommand=sh:x",
            "-git@host:x",
            "git@host:-x",
            "git@host:",
            "@host:x",
            "host:x",
            "ext::sh -c touch% /tmp/x",
            "ext::sh",
            "fd::17",
            "ftp://host/x",
            "rsync://host/x",
            "file://x",
            "file://host/x",
            "https://",
            "https://host",
            "https://host/",
            "https://user@host/x",
            "https://user:secret@host/x",
            "ssh://git:secret@host/x",
            "ssh://git@host:notaport/x",
            "ssh://git@host:99999/x",
            "ssh://git@[::1/x",
            "ssh://git@[nonsense]/x",
            "https://ho st/x",
            "https://host/a b",
            "https://host/x\n",
            "https://host/x\0",
            "https://host/$(id)",
            "https://host/`id`",
            "https://host/x;id",
            "https://host/x|id",
            "https://host/x&id",
            "https://host/'x'",
            "https://höst/x",
        ];
        for text in evil {
            assert!(Remote::parse(text).is_err(), "{text:?}");
        }
        for text in [
            "", "-b", "a..b", "a b", "a~1", "a^{}", "a:b", "@{u}", "a/.b", "x.lock", "x.lock/y", "a/", "*",
            "\u{7f}",
        ] {
            assert!(Branch::parse(text).is_err(), "{text:?}");
        }
        for text in [
            "",
            "-x",
            "/a",
            "a/",
            "a//b",
            "../a",
            "a/../b",
            ".git/config",
            "a/.GIT/b",
            "a:b",
            "a\\b",
            "a\nb",
            ":(top)x",
        ] {
            assert!(RepoPath::parse(text).is_err(), "{text:?}");
        }
        assert!(evil.len() + 14 + 13 >= 40);
    }

    #[test]
    fn the_usual_addresses_are_taken_and_shown_without_a_user() {
        let shown = |text: &str| {
            let remote = Remote::parse(text).unwrap();
            (remote.transport(), remote.to_string())
        };
        assert_eq!(
            shown("ssh://git@git.internal:2222/state.git"),
            (Transport::Ssh, "ssh://git.internal:2222/state.git".into())
        );
        assert_eq!(
            shown("git@github.com:acme/state.git"),
            (Transport::Ssh, "github.com:acme/state.git".into())
        );
        assert_eq!(
            shown("https://git.example.org/acme/state.git"),
            (Transport::Https, "https://git.example.org/acme/state.git".into())
        );
        assert_eq!(shown("/srv/state.git"), (Transport::File, "file:///srv/state.git".into()));
        assert_eq!(shown("ssh://[::1]:22/x"), (Transport::Ssh, "ssh://[::1]:22/x".into()));
        assert_eq!(Remote::parse("https://h:8443/x").unwrap().host(), Some("h:8443"));
    }
}
