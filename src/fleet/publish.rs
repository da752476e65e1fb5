//! Leaving a report: histories first, so that whoever reads the report finds what it speaks of.

use std::collections::BTreeMap;
use std::ops::Range;

use landfall_store::reports::{self, Document};
use landfall_store::{Digest, Name, Store, StoreError};

use super::{Chain, HostReport, SEGMENT_ENTRIES};
use crate::record::history::History;

/// What it came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Published {
    /// Documents written.
    pub documents: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Writes a host's report and what is new of its histories. `histories` holds the file of each app's history, as
/// it stands on the host, and the same checked.
pub fn publish(
    store: &Store,
    report: &HostReport,
    histories: &BTreeMap<Name, (Vec<u8>, History)>,
) -> Result<Published, StoreError> {
    let mut published = Published::default();
    let before = super::read::host(store, &report.host, &report.environment)?;
    for app in &report.apps {
        let Some((bytes, history)) = histories.get(&app.app) else { continue };
        let known = before.as_ref().and_then(|before| before.apps.iter().find(|old| old.app == app.app));
        let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
        let lines = lines.get(..history.hashes().len()).unwrap_or_default();
        for number in outdated(known.map(|known| known.history), history.hashes()) {
            let end = lines.len().min((number + 1) * SEGMENT_ENTRIES);
            let text = lines[number * SEGMENT_ENTRIES..end].concat();
            put(store, &report.segment(&app.app, number), &text, &mut published)?;
        }
    }
    let text = serde_json::to_vec(report).expect("a report has only keys that are text");
    put(store, &report.place(), &text, &mut published)?;
    Ok(published)
}

fn put(
    store: &Store,
    document: &Document,
    bytes: &[u8],
    published: &mut Published,
) -> Result<(), StoreError> {
    reports::put(store, document, bytes)?;
    published.documents += 1;
    published.bytes += bytes.len() as u64;
    Ok(())
}

/// The documents that do not hold what the history holds by now. A history that is not the one that was reported
/// before, as after a recovery, is written whole. Pure.
fn outdated(known: Option<Chain>, hashes: &[Digest]) -> Range<usize> {
    let all = hashes.len().div_ceil(SEGMENT_ENTRIES);
    let reported = known.and_then(|known| {
        let entries = usize::try_from(known.entries).ok()?;
        let goes_on = entries > 0 && hashes.get(entries - 1) == Some(&known.last);
        goes_on.then_some(entries)
    });
    match reported {
        Some(entries) if entries == hashes.len() => all..all,
        Some(entries) => entries / SEGMENT_ENTRIES..all,
        None => 0..all,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_documents_that_grew_are_written_and_another_history_is_written_whole() {
        let hashes: Vec<Digest> = (0..600u32).map(|entry| Digest::of(&entry.to_le_bytes())).collect();
        let chain = |entries: usize| Some(Chain { entries: entries as u64, last: hashes[entries - 1] });
        assert_eq!(outdated(None, &hashes), 0..3);
        assert_eq!(outdated(chain(600), &hashes), 3..3);
        assert_eq!(outdated(chain(599), &hashes), 2..3);
        assert_eq!(outdated(chain(512), &hashes), 2..3);
        assert_eq!(outdated(chain(511), &hashes), 1..3);
        let other = Some(Chain { entries: 600, last: hashes[0] });
        assert_eq!(outdated(other, &hashes), 0..3);
        assert_eq!(outdated(chain(600), &hashes[..10]), 0..1, "entries were lost");
        assert_eq!(outdated(None, &[]), 0..0);
    }
}
