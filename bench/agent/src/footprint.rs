//! What an agent holds in memory and keeps on disk, at one moment, to be set beside another.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::host::Host;
use super::proc::{self, Held};
use super::table::Table;

/// Files and bytes below one directory of the root.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Kept {
    /// Names: files, links and directories.
    names: u64,
    bytes: u64,
}

#[derive(Debug)]
pub struct Footprint {
    held: Held,
    /// By their place below the root, apps by what is below them.
    kept: BTreeMap<String, Kept>,
}

impl Footprint {
    pub fn now(host: &Host, app: &str) -> Self {
        let mut kept = BTreeMap::new();
        let own = host.app(app);
        for (base, prefix) in [(host.root(), ""), (own, "app/")] {
            for entry in std::fs::read_dir(&base).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                if prefix.is_empty() && name == "apps" {
                    continue;
                }
                kept.insert(format!("{prefix}{name}"), weigh(&entry.path()));
            }
        }
        Self { held: proc::held(host.agent_pid()), kept }
    }

    /// Sets this one beside a later one.
    pub fn beside(&self, later: &Self, table: &mut Table) {
        let mut row = |what: &str, before: String, after: String| {
            table.note(&format!("soak: {what}"), format!("{before} → {after}"));
        };
        let (a, b) = (&self.held, &later.held);
        row("resident", proc::mib(a.resident), proc::mib(b.resident));
        row("of that its own", proc::mib(a.anonymous), proc::mib(b.anonymous));
        row("threads", a.threads.to_string(), b.threads.to_string());
        row("descriptors", a.descriptors.to_string(), b.descriptors.to_string());
        row("disk, whole root", self.total().to_string(), later.total().to_string());
        let places: std::collections::BTreeSet<&String> = self.kept.keys().chain(later.kept.keys()).collect();
        for place in places {
            let at = |footprint: &Self| footprint.kept.get(place).copied().unwrap_or_default();
            if at(self) != at(later) {
                row(&format!("disk, `{place}`"), at(self).to_string(), at(later).to_string());
            }
        }
    }

    fn total(&self) -> Kept {
        self.kept.values().fold(Kept::default(), |sum, kept| sum.plus(*kept))
    }
}

impl Kept {
    const fn plus(self, other: Self) -> Self {
        Self { names: self.names + other.names, bytes: self.bytes + other.bytes }
    }
}

impl std::fmt::Display for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} names, {:.0} KiB", self.names, self.bytes as f64 / 1024.0)
    }
}

/// As the disk has it: whole blocks, a file with several names once for each.
fn weigh(path: &Path) -> Kept {
    let Ok(facts) = std::fs::symlink_metadata(path) else { return Kept::default() };
    let own = Kept { names: 1, bytes: facts.blocks() * 512 };
    if !facts.is_dir() {
        return own;
    }
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries.fold(own, |sum, entry| sum.plus(weigh(&entry.path())))
}
