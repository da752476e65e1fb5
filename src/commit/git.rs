//! The few things asked of the `git` program, always about one file in its directory.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::state::STATE_BYTES_MAX;

/// What would point git at another repository than the file's own, as in a hook that runs landfall.
const MISLEADING: [&str; 5] =
    ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_OBJECT_DIRECTORY"];

/// Why git did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// There is no git, or it cannot be started.
    #[error("cannot run git: {0}")]
    NotRun(std::io::Error),
    /// It refused; these are its words.
    #[error("git {what} failed: {words}")]
    Refused {
        /// What was asked.
        what: &'static str,
        /// What it said.
        words: String,
    },
}

fn git(dir: &Path) -> Command {
    let mut command = Command::new("git");
    command.arg("-C").arg(dir).env("GIT_LITERAL_PATHSPECS", "1").stdin(Stdio::null());
    for key in MISLEADING {
        command.env_remove(key);
    }
    command
}

/// A question: never waits for a person, never takes a lock, answers in plain English.
fn query(dir: &Path, arguments: &[&str], file: Option<&OsStr>) -> Result<Output, GitError> {
    let mut command = git(dir);
    command.args(arguments).env("GIT_OPTIONAL_LOCKS", "0").env("GIT_TERMINAL_PROMPT", "0").env("LC_ALL", "C");
    if let Some(file) = file {
        command.arg("--").arg(file);
    }
    command.output().map_err(GitError::NotRun)
}

fn act(what: &'static str, command: &mut Command) -> Result<(), GitError> {
    let output = command.output().map_err(GitError::NotRun)?;
    if output.status.success() { Ok(()) } else { Err(GitError::Refused { what, words: words(&output) }) }
}

/// What git said, as one text.
fn words(output: &Output) -> String {
    let both = [&output.stderr, &output.stdout].map(|text| String::from_utf8_lossy(text).trim().to_owned());
    let said: Vec<String> = both.into_iter().filter(|text| !text.is_empty()).collect();
    if said.is_empty() { output.status.to_string() } else { said.join("\n") }
}

fn line(output: &Output) -> Option<String> {
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

/// `user.email` as it is in this directory.
pub(super) fn email(dir: &Path) -> Option<String> {
    line(&query(dir, &["config", "user.email"], None).ok()?)
}

/// Whether the directory is in a work tree. An error: git knows one and will not work in it.
pub(super) fn is_work_tree(dir: &Path) -> Result<bool, GitError> {
    let output = query(dir, &["rev-parse", "--is-inside-work-tree"], None)?;
    if output.status.success() {
        return Ok(line(&output).as_deref() == Some("true"));
    }
    match words(&output) {
        said if said.contains("not a git repository") => Ok(false),
        words => Err(GitError::Refused { what: "rev-parse", words }),
    }
}

/// The two letters of `git status` for the file; empty: as committed, or neither there nor known.
pub(super) fn status(dir: &Path, file: &OsStr) -> Result<String, GitError> {
    let output =
        query(dir, &["status", "--porcelain", "-z", "--untracked-files=all", "--ignored"], Some(file))?;
    if !output.status.success() {
        return Err(GitError::Refused { what: "status", words: words(&output) });
    }
    Ok(String::from_utf8_lossy(&output.stdout).chars().take(2).collect())
}

/// Whether a file that is not there would be left out.
pub(super) fn is_ignored(dir: &Path, file: &OsStr) -> Result<bool, GitError> {
    Ok(query(dir, &["check-ignore", "--quiet"], Some(file))?.status.success())
}

/// Whether git has the file in its index.
pub(super) fn is_tracked(dir: &Path, file: &OsStr) -> Result<bool, GitError> {
    Ok(query(dir, &["ls-files", "--error-unmatch"], Some(file))?.status.success())
}

/// Commits just this file, by git's own rules: its hooks run, it is signed if commits are. Returns the commit.
pub(super) fn commit(dir: &Path, file: &OsStr, message: &str) -> Result<String, GitError> {
    let new = !is_tracked(dir, file)?;
    if new {
        act("add", git(dir).args(["add", "--intent-to-add", "--"]).arg(file))?;
    }
    let mut command = git(dir);
    command
        .args(["commit", "--quiet", "--only", "--cleanup=whitespace", "--message", message, "--"])
        .arg(file);
    if let Err(error) = act("commit", command.stdin(Stdio::inherit())) {
        if new {
            // The index forgets a file that was not committed; the commit's own error is the one to report.
            drop(act("update-index", git(dir).args(["update-index", "--force-remove", "--"]).arg(file)));
        }
        return Err(error);
    }
    head(dir)
}

fn head(dir: &Path) -> Result<String, GitError> {
    let output = query(dir, &["rev-parse", "HEAD"], None)?;
    line(&output).ok_or_else(|| GitError::Refused { what: "rev-parse", words: words(&output) })
}

/// The commit that a person names: a branch, a tag, `HEAD~2`, an id; `None`: there is no such commit.
pub(super) fn commit_named(dir: &Path, name: &str) -> Result<Option<String>, GitError> {
    let commit = format!("{name}^{{commit}}");
    let output = query(dir, &["rev-parse", "--verify", "--quiet", "--end-of-options", &commit], None)?;
    Ok(line(&output))
}

/// The branch that this one follows.
pub(super) const UPSTREAM: &str = "@{upstream}";

/// Why a push did not succeed.
#[derive(Debug)]
pub(super) enum Refusal {
    /// Somebody else pushed first.
    Behind,
    /// Anything else.
    Other(GitError),
}

/// Pushes the current branch to where git pushes it.
pub(super) fn push_branch(dir: &Path) -> Result<(), Refusal> {
    let mut command = git(dir);
    command.args(["push", "--porcelain"]).env("LC_ALL", "C").stdin(Stdio::inherit());
    act("push", &mut command).map_err(|error| match &error {
        GitError::Refused { words, .. } if is_behind(words) => Refusal::Behind,
        _ => Refusal::Other(error),
    })
}

/// `[rejected]` is this git's own word on a branch that has moved on; `[remote rejected]` is a server's.
fn is_behind(words: &str) -> bool {
    words.lines().any(|line| {
        line.starts_with('!') && line.contains("[rejected]") && !line.contains("[remote rejected]")
    })
}

/// Learns what others pushed.
pub(super) fn fetch(dir: &Path) -> Result<(), GitError> {
    act("fetch", git(dir).args(["fetch", "--quiet"]).stdin(Stdio::inherit()))
}

/// Takes back the newest commit, which must be this one, and what it changed; uncommitted changes stay.
pub(super) fn undo(dir: &Path, commit: &str) -> Result<(), GitError> {
    if head(dir)? != commit {
        let words = format!("{commit} is not the newest commit any more");
        return Err(GitError::Refused { what: "reset", words });
    }
    act("reset", git(dir).args(["reset", "--quiet", "--keep"]).arg(format!("{commit}^")))
}

/// Puts a commit back that was just undone.
pub(super) fn redo(dir: &Path, commit: &str) -> Result<(), GitError> {
    act("reset", git(dir).args(["reset", "--quiet", "--keep", commit]))
}

/// Puts the branch on top of what others pushed; its own commits follow. On an error it is as it was.
pub(super) fn onto_upstream(dir: &Path) -> Result<(), GitError> {
    let forward = act("merge", git(dir).args(["merge", "--quiet", "--ff-only", UPSTREAM]));
    let Err(_) = forward else { return Ok(()) };
    act("rebase", git(dir).args(["rebase", "--quiet", UPSTREAM])).inspect_err(|_| {
        // It may not have begun; the error of the rebase is the one to report.
        drop(act("rebase", git(dir).args(["rebase", "--abort"])));
    })
}

/// Who changed the file last upstream, and how they called it.
pub(super) fn who_changed(dir: &Path, file: &OsStr) -> String {
    let log = query(dir, &["log", "-1", "--format=\"%s\" by %an <%ae>", UPSTREAM], Some(file));
    log.ok().as_ref().and_then(line).unwrap_or_else(|| "in a commit that cannot be read".to_owned())
}

/// The newest commits that changed the file, newest first, at most `limit`.
pub(super) fn commits(dir: &Path, file: &OsStr, limit: usize) -> Result<Vec<String>, GitError> {
    let output = query(dir, &["log", &format!("--max-count={limit}"), "--format=%H"], Some(file))?;
    if !output.status.success() {
        return Err(GitError::Refused { what: "log", words: words(&output) });
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}

/// The file as it was in a commit; `None` if it was not there or is not text.
pub(super) fn show(dir: &Path, file: &OsStr, commit: &str) -> Result<Option<String>, GitError> {
    let Some(file) = file.to_str() else { return Ok(None) };
    let output = query(dir, &["show", &format!("{commit}:./{file}")], None)?;
    Ok(output.status.success().then(|| String::from_utf8(output.stdout).ok()).flatten())
}

/// `git log` of the file in a format of one's own, newest first. `signers`: the allowed signers that signatures are
/// checked with.
pub(super) fn log(
    dir: &Path,
    file: &OsStr,
    limit: usize,
    format: &str,
    signers: Option<&Path>,
) -> Result<String, GitError> {
    let mut arguments = Vec::new();
    let allowed = signers.map(|signers| format!("gpg.ssh.allowedSignersFile={}", signers.display()));
    if let Some(allowed) = &allowed {
        arguments.extend(["-c", allowed]);
    }
    let limit = format!("--max-count={limit}");
    arguments.extend(["log", "--topo-order", &limit, format]);
    let output = query(dir, &arguments, Some(file))?;
    if !output.status.success() {
        return Err(GitError::Refused { what: "log", words: words(&output) });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The contents of these objects, in their order; `None`: there is no such file, or it is no text.
pub(super) fn contents(dir: &Path, objects: &[String]) -> Result<Vec<Option<String>>, GitError> {
    let mut child = git(dir)
        .args(["cat-file", "--batch"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(GitError::NotRun)?;
    let (mut input, output) = (child.stdin.take(), child.stdout.take());
    let mut found = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for object in objects {
                // A git that ended early is told by its answers.
                if input.as_mut().is_none_or(|input| writeln!(input, "{object}").is_err()) {
                    break;
                }
            }
        });
        let mut output = output.map(BufReader::new);
        while let Some(answer) = output.as_mut().and_then(|output| answer(output).ok()) {
            found.push(answer);
        }
    });
    child.wait().map_err(GitError::NotRun)?;
    if found.len() == objects.len() {
        return Ok(found);
    }
    Err(GitError::Refused { what: "cat-file", words: "it ended before it had given every object".to_owned() })
}

/// One answer of `cat-file --batch`: `<id> <kind> <size>`, the content and a newline, or a line without it.
fn answer(output: &mut impl BufRead) -> std::io::Result<Option<String>> {
    let mut head = String::new();
    if output.read_line(&mut head)? == 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    let size = head.trim_end().rsplit_once(' ').and_then(|(_, size)| size.parse::<u64>().ok());
    let Some(size) = size else { return Ok(None) };
    let mut content = Vec::new();
    if size <= STATE_BYTES_MAX {
        output.take(size).read_to_end(&mut content)?;
    } else {
        std::io::copy(&mut output.take(size), &mut std::io::sink())?;
    }
    output.read_line(&mut String::new())?;
    Ok(if size <= STATE_BYTES_MAX { String::from_utf8(content).ok() } else { None })
}
