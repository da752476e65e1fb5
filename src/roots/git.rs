//! What is asked of git about a state file's past: plumbing only, nothing that a repository could make run.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use super::RootsError;

/// Bytes of a state file in the past that are read; a state file has at most a sixteenth of it.
const CONTENT_BYTES_MAX: u64 = 16 << 20;
/// Commits that changed one file: a hundred a day for years.
const COMMITS_MAX: usize = 200_000;

/// What the environment could say about another repository, or make git ask or run.
const UNSET: [&str; 10] = [
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_PREFIX",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_NAMESPACE",
    "GIT_REPLACE_REF_BASE",
    "GIT_GRAFT_FILE",
    "GIT_SHALLOW_FILE",
];

/// A commit that changed the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Commit {
    pub(super) id: String,
    /// When it was made, in seconds since 1970, by its committer's clock.
    pub(super) time: u64,
    /// The commits that changed the file before it.
    pub(super) parents: Vec<String>,
}

fn git(dir: &Path) -> Command {
    let mut command = Command::new("git");
    command.args(["-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-C"]).arg(dir);
    command
        .env("LC_ALL", "C")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_OPTIONAL_LOCKS", "0")
        .env("GIT_NO_REPLACE_OBJECTS", "1")
        .env("GIT_NO_LAZY_FETCH", "1")
        .env("GIT_LITERAL_PATHSPECS", "1")
        .stdin(Stdio::null());
    for key in UNSET {
        command.env_remove(key);
    }
    command
}

fn ask(dir: &Path, arguments: &[&str]) -> Result<Output, RootsError> {
    git(dir).args(arguments).output().map_err(|source| RootsError::NoGit { source })
}

fn refused(dir: &Path, what: &'static str, output: &Output) -> RootsError {
    let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    RootsError::Git { dir: dir.to_owned(), what, words }
}

fn text(dir: &Path, what: &'static str, arguments: &[&str]) -> Result<String, RootsError> {
    let output = ask(dir, arguments)?;
    if !output.status.success() {
        return Err(refused(dir, what, &output));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Where a directory is inside its repository: `""` at the top, else a path with a closing `/`; `None` if it is
/// in no repository.
pub(super) fn prefix(dir: &Path) -> Result<Option<String>, RootsError> {
    let output = ask(dir, &["rev-parse", "--show-prefix"])?;
    if output.status.success() {
        return Ok(Some(String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').to_owned()));
    }
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    if words.contains("not a git repository") {
        return Ok(None);
    }
    // A bare repository has no work tree to be inside of.
    if text(dir, "rev-parse", &["rev-parse", "--is-bare-repository"]).is_ok_and(|bare| bare == "true") {
        return Ok(Some(String::new()));
    }
    Err(refused(dir, "rev-parse", &output))
}

/// Why the past is not all here: cut off at some depth, or without its contents.
pub(super) fn gap(dir: &Path) -> Result<Option<&'static str>, RootsError> {
    if text(dir, "rev-parse", &["rev-parse", "--is-shallow-repository"])? == "true" {
        return Ok(Some("it is a shallow clone"));
    }
    let partial =
        ask(dir, &["config", "--get-regexp", r"^(remote\..*\.promisor|extensions\.partialclone)$"])?;
    Ok(partial.status.success().then_some("it is a partial clone"))
}

/// Every commit on any branch, tag or remote branch that changed the file, newest first.
pub(super) fn commits(dir: &Path, file: &str) -> Result<Vec<Commit>, RootsError> {
    let most = format!("--max-count={}", COMMITS_MAX + 1);
    let listed = text(
        dir,
        "rev-list",
        &["rev-list", "--all", "--full-history", "--parents", "--timestamp", &most, "--", file],
    )?;
    let mut found = Vec::new();
    for line in listed.lines() {
        let mut words = line.split(' ');
        let time = words.next().and_then(|time| time.parse().ok());
        let (Some(time), Some(id)) = (time, words.next()) else {
            return Err(nonsense(dir, "rev-list"));
        };
        found.push(Commit { id: id.to_owned(), time, parents: words.map(str::to_owned).collect() });
    }
    if found.len() > COMMITS_MAX {
        return Err(RootsError::Git {
            dir: dir.to_owned(),
            what: "rev-list",
            words: format!("more than {COMMITS_MAX} commits changed {file}"),
        });
    }
    found.sort_by_key(|commit| std::cmp::Reverse(commit.time));
    Ok(found)
}

/// The tips of all branches, tags and remote branches.
pub(super) fn tips(dir: &Path) -> Result<Vec<String>, RootsError> {
    let mut tips: Vec<String> = text(dir, "for-each-ref", &["for-each-ref", "--format=%(objectname)"])?
        .lines()
        .map(str::to_owned)
        .collect();
    // A head that is detached is on no branch.
    let head = ask(dir, &["rev-parse", "--verify", "--quiet", "HEAD"])?;
    if head.status.success() {
        tips.push(String::from_utf8_lossy(&head.stdout).trim().to_owned());
    }
    tips.sort();
    tips.dedup();
    Ok(tips)
}

/// Calls `each` with the file's content in each commit; without one where it is not there.
pub(super) fn contents(
    dir: &Path,
    file: &str,
    commits: &[String],
    mut each: impl FnMut(&str, Option<&[u8]>),
) -> Result<(), RootsError> {
    let broken = |source| RootsError::Pipe { dir: dir.to_owned(), source };
    let mut child = git(dir)
        .args(["cat-file", "--batch"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|source| RootsError::NoGit { source })?;
    let (Some(mut input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(nonsense(dir, "cat-file"));
    };
    let read = std::thread::scope(|scope| {
        // Beside the reading: either pipe may fill up. If git ends early, the reading says so.
        scope.spawn(move || commits.iter().try_for_each(|commit| writeln!(input, "{commit}:{file}")));
        let mut output = BufReader::new(output);
        for commit in commits {
            let mut head = String::new();
            output.read_line(&mut head).map_err(broken)?;
            let words: Vec<&str> = head.trim_end().rsplitn(3, ' ').collect();
            match words.as_slice() {
                ["missing", ..] => each(commit, None),
                [size, "blob", _] => {
                    let size: u64 = size.parse().map_err(|_| nonsense(dir, "cat-file"))?;
                    if size > CONTENT_BYTES_MAX {
                        return Err(RootsError::Git {
                            dir: dir.to_owned(),
                            what: "cat-file",
                            words: format!("{file} has {size} bytes in commit {commit}"),
                        });
                    }
                    let mut content = vec![0; size as usize + 1];
                    output.read_exact(&mut content).map_err(broken)?;
                    each(commit, Some(&content[..size as usize]));
                }
                _ => return Err(nonsense(dir, "cat-file")),
            }
        }
        Ok(())
    });
    if read.is_err() {
        // It may be dead already, which is why the reading failed.
        child.kill().ok();
    }
    let status = child.wait().map_err(broken)?;
    read?;
    if status.success() { Ok(()) } else { Err(nonsense(dir, "cat-file")) }
}

fn nonsense(dir: &Path, what: &'static str) -> RootsError {
    RootsError::Git { dir: dir.to_owned(), what, words: "its answer is not understood".to_owned() }
}
