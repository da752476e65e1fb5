//! `[state]`: where desired state comes from. `[webhook]`: who may say that it changed.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::remote::{Branch, Remote, RepoPath, Transport};
use super::{keys, relative_to};
use crate::document::{Problem, ProblemKind, Table, Value};
use crate::spec::Millis;

/// The file in a state repository.
const PATH: &str = "deploy-state.json";
/// The branch of a state repository.
const BRANCH: &str = "main";
/// Time between two looks at the repository.
const POLL: Millis = Millis(30_000);
/// The shortest pause between two looks: below it a thousand hosts are an attack on their git server.
const POLL_MS_MIN: u64 = 5_000;

/// Where desired state comes from and how often it is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateConfig {
    /// The place.
    pub location: StateLocation,
    /// Time between two looks at a repository; a file is watched.
    pub poll: Millis,
    /// Which changes of the repository's history are accepted.
    pub history: History,
}

/// A file or a file in a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateLocation {
    /// A file on this host.
    File(PathBuf),
    /// A file of a git repository.
    Git(Repository),
}

/// A file of a git repository, and how the repository is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    /// The repository, then its mirrors in order.
    pub remotes: Vec<Remote>,
    /// The branch.
    pub branch: Branch,
    /// The file in it.
    pub path: RepoPath,
    /// What proves who asks.
    pub access: Access,
}

/// What proves to the server who asks, and to this host who answers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// The private key for ssh; absent: those of this account.
    pub ssh_key: Option<PathBuf>,
    /// The host keys that are believed; absent: those of the machine and of this account.
    pub known_hosts: Option<PathBuf>,
    /// A file with `token` or `user:token`, for https.
    pub token_file: Option<PathBuf>,
}

/// Which changes of a state repository's history are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum History {
    /// Only commits that descend from the last accepted one.
    FastForward,
    /// Any: for development environments.
    Any,
}

/// Where the git server may say that there is something new.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookConfig {
    /// Where to listen.
    pub listen: SocketAddr,
    /// A file with the secret that the server signs with.
    pub secret_file: PathBuf,
}

pub(super) fn read(value: &Value<'_>, base: &Path) -> Result<StateConfig, Problem> {
    let table = value.table(keys::STATE)?;
    let location = match (table.get("git"), table.get("file")) {
        (Some(git), None) => StateLocation::Git(repository(&table, &git, base)?),
        (None, Some(file)) => {
            only_for_git(&table)?;
            StateLocation::File(relative_to(base, &file)?)
        }
        _ => return Err(value.invalid("[state] has exactly one of `git` and `file`")),
    };
    Ok(StateConfig {
        location,
        poll: table.read("poll", poll)?.unwrap_or(POLL),
        history: table.read("history", history)?.unwrap_or(History::FastForward),
    })
}

fn repository(table: &Table<'_>, git: &Value<'_>, base: &Path) -> Result<Repository, Problem> {
    let insecure = table.read("insecure_transport", Value::boolean)?.unwrap_or(false);
    let one = |value: &Value<'_>| remote(value, insecure);
    let mut remotes = vec![one(git)?];
    remotes.extend(table.read("mirrors", |list| list.set(one))?.unwrap_or_default());
    let uses =
        |transports: &[Transport]| remotes.iter().any(|remote| transports.contains(&remote.transport()));
    let file = |key: &str, transports: &[Transport], of: &str| {
        let read = |value: &Value<'_>| match uses(transports) {
            true => quotable(value, relative_to(base, value)?),
            false => Err(value.invalid(format!("`{key}` is for {of}, and no address here is one"))),
        };
        table.read(key, read)
    };
    let access = Access {
        ssh_key: file("ssh_key", &[Transport::Ssh], "ssh")?,
        known_hosts: file("known_hosts", &[Transport::Ssh], "ssh")?,
        token_file: file("token_file", &[Transport::Https, Transport::Http], "https")?,
    };
    Ok(Repository {
        branch: table
            .read("branch", |value| parsed(value, Branch::parse))?
            .unwrap_or(parse_own(BRANCH, Branch::parse)),
        path: table
            .read("path", |value| parsed(value, RepoPath::parse))?
            .unwrap_or(parse_own(PATH, RepoPath::parse)),
        remotes,
        access,
    })
}

/// A constant of ours.
fn parse_own<T>(text: &str, parse: impl Fn(&str) -> Result<T, String>) -> T {
    parse(text).expect("a constant that the tests parse")
}

fn parsed<T>(value: &Value<'_>, parse: impl Fn(&str) -> Result<T, String>) -> Result<T, Problem> {
    parse(value.text()?).map_err(|why| value.invalid(why))
}

/// ssh and git take these paths inside a line of their own: what would need quoting there is refused here.
fn quotable(value: &Value<'_>, path: PathBuf) -> Result<PathBuf, Problem> {
    let plain = |c: char| !c.is_control() && !"\"'`\\%$;&|<>*?(){}[]!#~ ".contains(c);
    match path.to_str() {
        Some(text) if text.chars().all(plain) => Ok(path),
        _ => Err(value.invalid("the path has a character that ssh or git could take for more than a name")),
    }
}

fn only_for_git(table: &Table<'_>) -> Result<(), Problem> {
    let stray = keys::STATE.iter().filter(|key| !matches!(**key, "git" | "file"));
    match stray.into_iter().find_map(|key| table.get(key)) {
        Some(value) => {
            Err(value.problem(ProblemKind::Invalid, "this is for a state repository; a file is watched"))
        }
        None => Ok(()),
    }
}

fn remote(value: &Value<'_>, insecure: bool) -> Result<Remote, Problem> {
    let remote = Remote::parse(value.text()?).map_err(|why| {
        value
            .invalid(why)
            .with_hint("ssh://git@host/state.git with `ssh_key`, or https://host/state.git with `token_file`")
    })?;
    if !remote.transport().is_private() && !insecure {
        let name = remote.transport().name();
        let what = format!("over {name}:// whoever is in between can read and change the state");
        return Err(value
            .invalid(what)
            .with_hint("use ssh:// or https://, or say `insecure_transport = true`"));
    }
    Ok(remote)
}

fn poll(value: &Value<'_>) -> Result<Millis, Problem> {
    let poll = value.duration()?;
    if poll.0 < POLL_MS_MIN {
        return Err(value
            .invalid("less than 5s between two looks at the repository")
            .with_hint("`landfall reconcile` or a webhook is quicker than any poll"));
    }
    Ok(poll)
}

fn history(value: &Value<'_>) -> Result<History, Problem> {
    match value.text()? {
        "fast-forward" => Ok(History::FastForward),
        "any" => Ok(History::Any),
        other => Err(value.invalid(format!("`{other}` is neither `fast-forward` nor `any`"))),
    }
}

pub(super) fn webhook(value: &Value<'_>, base: &Path) -> Result<WebhookConfig, Problem> {
    let table = value.table(keys::WEBHOOK)?;
    let address = |value: &Value<'_>| {
        let text = value.text()?;
        text.parse().map_err(|_| {
            value
                .invalid(format!("`{text}` is not an address and a port"))
                .with_hint("listen = \"127.0.0.1:9000\", behind the web server that has the certificate")
        })
    };
    Ok(WebhookConfig {
        listen: address(&table.need("listen")?)?,
        secret_file: relative_to(base, &table.need("secret_file")?)?,
    })
}
