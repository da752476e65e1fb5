//! What is asked of the cache, and how its answers are read: as bytes, within bounds, by full ids only.

use super::fault::Fault;
use super::program::{Git, Said};
use crate::trust::graph::Commit;
use crate::trust::{BlobId, CommitId};

/// The one ref that is kept.
pub(super) const HEAD: &str = "refs/landfall/head";
/// Commits between two accepted states: years of a busy repository.
pub(super) const COMMITS_MAX: usize = 20_000;

/// What stands at a path in a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) mode: Vec<u8>,
    pub(super) id: String,
    pub(super) bytes: Option<u64>,
}

fn ok(said: Said, what: &'static str) -> Result<Vec<u8>, Fault> {
    if said.status.success() { Ok(said.out) } else { Err(Fault::cache(what, &said.words)) }
}

fn nonsense(what: &'static str) -> Fault {
    Fault::cache(what, "its answer is not understood")
}

impl Git {
    /// The commit that was fetched.
    pub(super) async fn head(&self) -> Result<CommitId, Fault> {
        let name = format!("{HEAD}^{{commit}}");
        let out =
            ok(self.ask(&["rev-parse", "--verify", "--end-of-options", &name], &[]).await?, "rev-parse")?;
        id(&out).and_then(CommitId::parse).ok_or_else(|| nonsense("rev-parse"))
    }

    /// Whether the cache has this commit.
    pub(super) async fn has(&self, commit: &CommitId) -> Result<bool, Fault> {
        let line = format!("{commit}\n");
        let out = ok(self.ask(&["cat-file", "--batch-check"], line.as_bytes()).await?, "cat-file")?;
        Ok(out.starts_with(format!("{commit} commit ").as_bytes()))
    }

    /// Whether one commit is the other, or before it.
    pub(super) async fn is_ancestor(&self, old: &CommitId, new: &CommitId) -> Result<bool, Fault> {
        let said = self.ask(&["merge-base", "--is-ancestor", old.as_str(), new.as_str()], &[]).await?;
        match said.status.code() {
            Some(0) => Ok(true),
            Some(1) => Ok(false),
            _ => Err(Fault::cache("merge-base", &said.words)),
        }
    }

    /// The best common ancestors of two commits.
    pub(super) async fn bases(&self, a: &CommitId, b: &CommitId) -> Result<Vec<CommitId>, Fault> {
        let said = self.ask(&["merge-base", "--all", a.as_str(), b.as_str()], &[]).await?;
        match said.status.code() {
            Some(0 | 1) => ids(&said.out, "merge-base"),
            _ => Err(Fault::cache("merge-base", &said.words)),
        }
    }

    /// Commits reachable from `head` and not from `floor`, each with its parents, children first.
    pub(super) async fn since(
        &self,
        head: &CommitId,
        floor: Option<&CommitId>,
    ) -> Result<Vec<Commit>, Fault> {
        let most = format!("--max-count={}", COMMITS_MAX + 1);
        let mut arguments = vec!["rev-list", "--parents", "--topo-order", &most, head.as_str()];
        let not = floor.map(|floor| format!("^{floor}"));
        arguments.extend(not.as_deref());
        arguments.push("--");
        let out = ok(self.ask(&arguments, &[]).await?, "rev-list")?;
        let lines = out.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let commits: Option<Vec<Commit>> = lines
            .map(|line| {
                let mut ids = line.split(|byte| *byte == b' ').map(|id| CommitId::parse(text(id)?));
                Some(Commit { id: ids.next()??, parents: ids.collect::<Option<_>>()? })
            })
            .collect();
        let commits = commits.ok_or_else(|| nonsense("rev-list"))?;
        if commits.len() > COMMITS_MAX {
            Err(Fault::TooManyCommits { limit: COMMITS_MAX })
        } else {
            Ok(commits)
        }
    }

    /// The newest commit that gave a file its content, on the way back from `head`.
    pub(super) async fn last_change(&self, head: &CommitId, path: &str) -> Result<Option<CommitId>, Fault> {
        let arguments = ["rev-list", "--max-count=1", head.as_str(), "--", path];
        let out = ok(self.ask(&arguments, &[]).await?, "rev-list")?;
        Ok(ids(&out, "rev-list")?.into_iter().next())
    }

    /// The newest commits, on the way back from one, that changed a path; newest first.
    pub(super) async fn changes(&self, head: &str, path: &str, most: usize) -> Result<Vec<CommitId>, Fault> {
        let most = format!("--max-count={most}");
        let arguments = ["rev-list", "--topo-order", &most, head, "--", path];
        let out = ok(self.ask(&arguments, &[]).await?, "rev-list")?;
        ids(&out, "rev-list")
    }

    /// The bytes of these objects, in their order; `None`: it is not in the cache.
    pub(super) async fn objects(&self, names: &[String]) -> Result<Vec<Option<Vec<u8>>>, Fault> {
        let input: String = names.iter().map(|name| format!("{name}\n")).collect();
        let out = ok(self.ask(&["cat-file", "--batch"], input.as_bytes()).await?, "cat-file")?;
        let mut rest = out.as_slice();
        let found: Option<Vec<_>> = names.iter().map(|_| object(&mut rest)).collect();
        found.filter(|_| rest.is_empty()).ok_or_else(|| nonsense("cat-file"))
    }

    /// What each of these commits has at a path; `None`: nothing, or nothing that fits a state.
    pub(super) async fn contents(
        &self,
        commits: &[CommitId],
        path: &str,
    ) -> Result<Vec<Option<BlobId>>, Fault> {
        if commits.is_empty() {
            return Ok(Vec::new());
        }
        let input: String = commits.iter().map(|commit| format!("{commit}:{path}\n")).collect();
        let out = ok(self.ask(&["cat-file", "--batch-check"], input.as_bytes()).await?, "cat-file")?;
        let lines: Vec<&[u8]> = out.split(|byte| *byte == b'\n').collect();
        if lines.len() != commits.len() + 1 {
            return Err(nonsense("cat-file"));
        }
        Ok(lines.iter().take(commits.len()).map(|line| blob_of(line)).collect())
    }

    /// A commit as it is hashed and signed.
    pub(super) async fn raw(&self, commit: &CommitId) -> Result<Vec<u8>, Fault> {
        ok(self.ask(&["cat-file", "commit", commit.as_str()], &[]).await?, "cat-file")
    }

    /// What stands at a path in a commit.
    pub(super) async fn entry(&self, commit: &CommitId, path: &str) -> Result<Option<Entry>, Fault> {
        let arguments = ["ls-tree", "-l", "-z", "--full-tree", commit.as_str(), "--", path];
        let out = ok(self.ask(&arguments, &[]).await?, "ls-tree")?;
        let mut lines = out.split(|byte| *byte == 0).filter(|line| !line.is_empty());
        match (lines.next(), lines.next()) {
            (None, _) => Ok(None),
            (Some(line), None) => entry(line, path.as_bytes()).map(Some).ok_or_else(|| nonsense("ls-tree")),
            (Some(_), Some(_)) => Err(nonsense("ls-tree")),
        }
    }

    /// A blob.
    pub(super) async fn blob(&self, id: &str) -> Result<Vec<u8>, Fault> {
        ok(self.ask(&["cat-file", "blob", id], &[]).await?, "cat-file")
    }
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

fn id(out: &[u8]) -> Option<&str> {
    text(out)?.strip_suffix('\n')
}

fn ids(out: &[u8], what: &'static str) -> Result<Vec<CommitId>, Fault> {
    let lines = out.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let ids: Option<Vec<CommitId>> = lines.map(|line| text(line).and_then(CommitId::parse)).collect();
    ids.ok_or_else(|| nonsense(what))
}

/// One answer of `cat-file --batch`: `<id> <kind> <size>`, a newline, the bytes and a newline; or a line that says
/// what is missing.
fn object(rest: &mut &[u8]) -> Option<Option<Vec<u8>>> {
    let end = rest.iter().position(|byte| *byte == b'\n')?;
    let (line, behind) = (text(&rest[..end])?, &rest[end + 1..]);
    if line.ends_with(" missing") || line.ends_with(" ambiguous") {
        *rest = behind;
        return Some(None);
    }
    let size: usize = line.rsplit(' ').next()?.parse().ok()?;
    let (bytes, behind) = (behind.get(..size)?, behind.get(size..)?);
    *rest = behind.strip_prefix(b"\n")?;
    Some(Some(bytes.to_vec()))
}

/// `<id> blob <size>`; anything else is nothing.
fn blob_of(line: &[u8]) -> Option<BlobId> {
    let mut words = text(line)?.split(' ');
    match (words.next(), words.next(), words.next(), words.next()) {
        (Some(id), Some("blob"), Some(_), None) => BlobId::parse(id),
        _ => None,
    }
}

/// `<mode> <kind> <id> <size>\t<path>`, the size right-aligned or `-`.
fn entry(line: &[u8], path: &[u8]) -> Option<Entry> {
    let tab = line.iter().position(|byte| *byte == b'\t')?;
    if &line[tab + 1..] != path {
        return None;
    }
    let mut words = text(&line[..tab])?.split_ascii_whitespace();
    let (mode, _, id, size) = (words.next()?, words.next()?, words.next()?, words.next()?);
    BlobId::parse(id)?;
    Some(Entry { mode: mode.as_bytes().to_vec(), id: id.to_owned(), bytes: size.parse().ok() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "1234567890123456789012345678901234567890";

    #[test]
    fn answers_of_git_are_read_whole_or_not_at_all() {
        let line = format!("100644 blob {ID}     123\tdeploy-state.json");
        let found = entry(line.as_bytes(), b"deploy-state.json").unwrap();
        assert_eq!((found.mode.as_slice(), found.bytes), (&b"100644"[..], Some(123)));
        let link = format!("160000 commit {ID}       -\tx");
        assert_eq!(entry(link.as_bytes(), b"x").unwrap().bytes, None);
        for bad in [
            "",
            "100644",
            "100644 blob",
            "100644 blob zz 1\tx",
            &format!("100644 blob {ID} 1 x"),
            &format!("100644 blob {ID} 1\ty"),
        ] {
            assert_eq!(entry(bad.as_bytes(), b"x"), None, "{bad:?}");
        }
        assert_eq!(blob_of(format!("{ID} blob 12").as_bytes()), BlobId::parse(ID));
        for bad in [
            "",
            "x missing",
            &format!("{ID} tree 12"),
            &format!("{ID} blob"),
            &format!("{ID} blob 1 2"),
            "\u{fffd}",
        ] {
            assert_eq!(blob_of(bad.as_bytes()), None, "{bad:?}");
        }
        let mut rest = &b"abc blob 3\nx\ny\nabc:p missing\n"[..];
        assert_eq!(object(&mut rest), Some(Some(b"x\ny".to_vec())));
        assert_eq!((object(&mut rest), rest), (Some(None), &b""[..]));
        for bad in [&b""[..], b"abc", b"abc blob\n", b"abc blob 9\nx\n", b"abc blob 1\nxy"] {
            assert_eq!(object(&mut &bad[..]), None, "{bad:?}");
        }
        assert_eq!(ids(b"\n\n", "x").unwrap(), []);
        assert!(ids(b"abc\n", "x").is_err() && ids(b"\xff\n", "x").is_err());
    }
}
