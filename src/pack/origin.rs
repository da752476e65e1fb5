//! Where an artifact came from: noted beside its version, outside its identity.

use std::path::Path;
use std::process::{Command, Stdio};

use landfall_store::refs::Provenance;

/// Now, this machine, and the commit that stands in the source tree, if it is one of git.
pub(super) fn provenance(dir: &Path) -> Provenance {
    let now = jiff::Timestamp::now();
    let second = now.round(jiff::Unit::Second).unwrap_or(now);
    Provenance { time: Some(second.to_string()), builder: builder(), commit: commit(dir) }
}

fn builder() -> Option<String> {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    (!name.is_empty()).then_some(name)
}

fn commit(dir: &Path) -> Option<String> {
    let output = Command::new("git")
        .arg("-C")
        .arg(dir)
        .args(["rev-parse", "--verify", "--quiet", "HEAD"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !text.trim().is_empty()).then(|| text.trim().to_owned())
}
