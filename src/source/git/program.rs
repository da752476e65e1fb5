//! The `git` program, called so that nothing of a repository, of this machine's configuration or of an account's
//! can make it do more than fetch and read.
//!
//! Its environment is made from nothing; hooks, prompts, file system monitors, automatic maintenance and every
//! transport but the one of the address are off; objects are checked when they arrive. It has a time limit, a
//! limit on what it says and a limit on what it may store, and it is ended with its whole process group, also
//! when the agent is killed.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use super::fault::Fault;
use crate::config::Access;
use crate::config::remote::{Remote, Transport};
use crate::failpoint::cache_bytes;

/// Time for a question to the cache.
pub(super) const ASK_LIMIT: Duration = Duration::from_secs(60);
/// Time for a fetch: a first one brings the whole history.
pub(super) const FETCH_LIMIT: Duration = Duration::from_secs(300);
/// Bytes of an answer: the ids of a hundred thousand commits.
const ANSWER_BYTES_MAX: u64 = 16 << 20;
/// Bytes of complaints that are kept.
const WORDS_BYTES_MAX: u64 = 16 << 10;
/// Bytes the cache may take: a state repository is small; a monorepo without its blobs fits.
pub(super) const CACHE_BYTES_MAX: u64 = 1 << 30;
/// Between two looks at how much a fetch has stored.
const GROWTH_PAUSE: Duration = Duration::from_millis(100);
/// Seconds without a byte after which a transfer is given up.
const SILENCE_S: &str = "30";
/// Seconds for an ssh connection.
const CONNECT_S: &str = "15";

/// What every git command is told, whatever any configuration says.
const SETTINGS: &[&str] = &[
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.askPass=",
    "core.attributesFile=/dev/null",
    "core.commitGraph=false",
    // Large contents are streamed, never held.
    "core.bigFileThreshold=1m",
    "credential.helper=",
    "gc.auto=0",
    "maintenance.auto=false",
    "fetch.fsckObjects=true",
    "transfer.fsckObjects=true",
    "fetch.unpackLimit=1",
    "fetch.writeCommitGraph=false",
    "fetch.recurseSubmodules=false",
    "submodule.recurse=false",
    "protocol.version=2",
    "protocol.allow=never",
    "http.followRedirects=false",
    "http.lowSpeedLimit=1",
    "advice.diverging=false",
];

/// Where the pieces of a system's own PATH are: git looks for `ssh` and its helpers there.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// git on this machine, and the bare repository it works in.
#[derive(Debug, Clone)]
pub(super) struct Git {
    program: PathBuf,
    dir: PathBuf,
}

/// What a command came to.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) status: ExitStatus,
    pub(super) out: Vec<u8>,
    pub(super) words: String,
}

/// What a command may take.
#[derive(Debug, Clone, Copy)]
struct Limits {
    time: Duration,
    /// Bytes of the repository.
    store: Option<u64>,
}

impl Git {
    /// The git that is found first on this process's `PATH`, working in `dir`.
    pub(super) fn find(dir: PathBuf) -> Result<Self, Fault> {
        let path = std::env::var_os("PATH").unwrap_or_else(|| PATH.into());
        let program = std::env::split_paths(&path)
            .filter(|dir| dir.is_absolute())
            .map(|dir| dir.join("git"))
            .find(|file| is_program(file))
            .ok_or(Fault::NoGit)?;
        Ok(Self { program, dir })
    }

    /// Makes the bare repository. Its ids are SHA-1's, or SHA-256's.
    pub(super) async fn init(&self, format: &str) -> Result<(), Fault> {
        let format = format!("--object-format={format}");
        let mut command = self.command(None);
        command.args(["init", "--quiet", "--bare", "--template=", "--initial-branch=none", &format, "--"]);
        command.arg(&self.dir);
        let said = run(&mut command, &[], Limits { time: ASK_LIMIT, store: None }, &self.dir).await?;
        if said.status.success() { Ok(()) } else { Err(Fault::cache("init", &said.words)) }
    }

    /// Asks the repository something.
    pub(super) async fn ask<S: AsRef<OsStr>>(&self, arguments: &[S], input: &[u8]) -> Result<Said, Fault> {
        let mut command = self.command(None);
        command.arg("--git-dir").arg(&self.dir).args(arguments);
        run(&mut command, input, Limits { time: ASK_LIMIT, store: None }, &self.dir).await
    }

    /// Fetches one ref from a remote, and nothing else.
    pub(super) async fn fetch(&self, remote: &Remote, refspec: &str, access: &Access) -> Result<Said, Fault> {
        let mut command = self.command(Some((remote, access)));
        command.arg("--git-dir").arg(&self.dir).args([
            "fetch",
            "--quiet",
            "--no-tags",
            "--no-recurse-submodules",
            "--no-auto-maintenance",
            "--no-write-fetch-head",
            "--no-show-forced-updates",
            "--force",
            "--filter=blob:limit=1048577",
            "--end-of-options",
            remote.url(),
            refspec,
        ]);
        let most = cache_bytes(CACHE_BYTES_MAX);
        let limits = Limits { time: FETCH_LIMIT, store: Some(most) };
        let said = run(&mut command, &[], limits, &self.dir).await?;
        // A quick one may have stored more than it may between two looks.
        match size_of(&self.dir) {
            bytes if bytes > most => Err(Fault::TooLarge { bytes }),
            _ => Ok(said),
        }
    }

    fn command(&self, remote: Option<(&Remote, &Access)>) -> Command {
        // What speaks with a server may take long; a question to the cache does not.
        let mut command = match remote {
            Some(_) => super::guard::command(&self.program),
            None => Command::new(&self.program),
        };
        command
            .env_clear()
            .envs([
                ("PATH", PATH),
                ("LC_ALL", "C"),
                ("GIT_CONFIG_NOSYSTEM", "1"),
                ("GIT_CONFIG_GLOBAL", "/dev/null"),
                ("GIT_ATTR_NOSYSTEM", "1"),
                ("GIT_TERMINAL_PROMPT", "0"),
                ("GIT_NO_REPLACE_OBJECTS", "1"),
                ("GIT_NO_LAZY_FETCH", "1"),
                ("GIT_OPTIONAL_LOCKS", "0"),
                ("GIT_LITERAL_PATHSPECS", "1"),
                ("GIT_CEILING_DIRECTORIES", "/"),
                ("GIT_ADVICE", "0"),
            ])
            // curl reads ~/.netrc: there is none here.
            .env("HOME", "/nonexistent")
            .envs(certificates())
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        command.args(["-c", &format!("http.lowSpeedTime={SILENCE_S}")]);
        if let Some((remote, access)) = remote {
            command.args(["-c", &format!("protocol.{}.allow=always", remote.transport().name())]);
            match (remote.transport(), &access.token_file) {
                (Transport::Ssh, _) => {
                    command.env("GIT_SSH_COMMAND", ssh(access)).env("GIT_SSH_VARIANT", "ssh");
                }
                (Transport::Https | Transport::Http, Some(file)) => {
                    command.args([
                        "-c",
                        &format!("credential.helper={}", super::credential::helper(remote, file)),
                    ]);
                }
                _ => {}
            }
        }
        command
    }
}

fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(file).is_ok_and(|facts| facts.is_file() && facts.permissions().mode() & 0o111 != 0)
}

/// Where this machine says its certificate authorities are, if it says so by the usual variables.
fn certificates() -> impl Iterator<Item = (&'static str, OsString)> {
    let set = |key: &'static str, from: &str| std::env::var_os(from).map(|value| (key, value));
    [set("GIT_SSL_CAINFO", "SSL_CERT_FILE"), set("GIT_SSL_CAPATH", "SSL_CERT_DIR")].into_iter().flatten()
}

/// One fixed command; its paths hold nothing that a shell or ssh would take for more than a name (`config`).
fn ssh(access: &Access) -> String {
    let mut words = vec!["ssh".to_owned(), "-F".to_owned(), "/dev/null".to_owned()];
    let mut option = |text: String| words.extend(["-o".to_owned(), text]);
    for fixed in [
        "BatchMode=yes",
        "StrictHostKeyChecking=yes",
        "UpdateHostKeys=no",
        "PasswordAuthentication=no",
        "KbdInteractiveAuthentication=no",
        "ForwardAgent=no",
        "ForwardX11=no",
        "ClearAllForwardings=yes",
        "PermitLocalCommand=no",
        "ControlMaster=no",
        "ControlPath=none",
        "ServerAliveInterval=10",
        "ServerAliveCountMax=3",
    ] {
        option(fixed.to_owned());
    }
    option(format!("ConnectTimeout={CONNECT_S}"));
    if let Some(key) = &access.ssh_key {
        option("IdentitiesOnly=yes".to_owned());
        option("IdentityAgent=none".to_owned());
        option(format!("IdentityFile={}", key.display()));
    }
    if let Some(hosts) = &access.known_hosts {
        option(format!("UserKnownHostsFile={}", hosts.display()));
        option("GlobalKnownHostsFile=/dev/null".to_owned());
    }
    words.join(" ")
}

/// Ends the whole group of a command when it is dropped before its end.
struct Group {
    child: Child,
    pid: Option<Pid>,
}

impl Group {
    fn end(&mut self) {
        if let Some(pid) = self.pid.take()
            && let Err(error) = kill_process_group(pid, Signal::KILL)
            && error != rustix::io::Errno::SRCH
        {
            tracing::warn!(%error, "a git that took too long was not ended");
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.end();
    }
}

async fn run(command: &mut Command, input: &[u8], limits: Limits, dir: &Path) -> Result<Said, Fault> {
    let child = command.spawn().map_err(Fault::NotRun)?;
    let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    let mut group = Group { child, pid };
    let (stdin, stdout, stderr) =
        (group.child.stdin.take(), group.child.stdout.take(), group.child.stderr.take());
    let say = async {
        if let Some(mut stdin) = stdin {
            // A git that fails early does not listen to the end; its own words count.
            drop(stdin.write_all(input).await);
        }
    };
    let hear = async {
        let ((), out, words) =
            tokio::join!(say, read(stdout, ANSWER_BYTES_MAX, true), read(stderr, WORDS_BYTES_MAX, false));
        let status = group.child.wait().await.map_err(Fault::NotRun)?;
        Ok::<_, Fault>((status, out?, words?))
    };
    let (status, out, words) = tokio::select! {
        heard = hear => heard?,
        () = tokio::time::sleep(limits.time) => return Err(Fault::TooSlow { limit: limits.time }),
        bytes = outgrown(limits.store, dir) => return Err(Fault::TooLarge { bytes }),
    };
    // It has ended by itself, and its helpers with it.
    group.pid = None;
    Ok(Said { status, out, words: String::from_utf8_lossy(&words).trim().to_owned() })
}

/// Everything that is said, up to a limit. What is beyond it is an error, or let go.
async fn read(stream: Option<impl AsyncRead + Unpin>, limit: u64, strict: bool) -> Result<Vec<u8>, Fault> {
    let mut bytes = Vec::new();
    let Some(mut stream) = stream else { return Ok(bytes) };
    (&mut stream).take(limit).read_to_end(&mut bytes).await.map_err(Fault::NotRun)?;
    let more =
        tokio::io::copy(&mut stream.take(if strict { 1 } else { u64::MAX }), &mut tokio::io::sink()).await;
    if strict && more.map_err(Fault::NotRun)? > 0 {
        return Err(Fault::TooMuch { limit });
    }
    Ok(bytes)
}

/// Ends when the repository takes more than it may.
async fn outgrown(limit: Option<u64>, dir: &Path) -> u64 {
    let Some(limit) = limit else { return std::future::pending().await };
    loop {
        tokio::time::sleep(GROWTH_PAUSE).await;
        let bytes = size_of(dir);
        if bytes > limit {
            return bytes;
        }
    }
}

/// Bytes of the files of a repository. What vanishes meanwhile does not count.
pub(super) fn size_of(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => size_of(&entry.path()),
            Ok(kind) if kind.is_file() => entry.metadata().map_or(0, |facts| facts.len()),
            _ => 0,
        })
        .sum()
}
