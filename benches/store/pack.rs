//! First pack, unchanged repack, stored size: against `tar | zstd -3 -T0`.

use std::path::Path;

use super::input::{self, Input};
use super::sample::Samples;
use super::table::Table;

const TAR_ZSTD: &str = "tar -cf - -C input node_modules | zstd -q -3 -T0 -o work/peer.tar.zst";
const PEER: &str = "`tar \\| zstd -3 -T0`";

pub fn measure(input: &Input, rounds: usize, table: &mut Table) {
    let store = input.work.join("pack-store");
    let root = input.work.join("pack-root");
    let archive = input.work.join("peer.tar.zst");
    let (mut first, mut again, mut peer) = (Samples::default(), Samples::default(), Samples::default());
    for _ in 0..rounds {
        input::clear(&archive);
        peer.take(|| archive_of(input));
        input::clear(&store);
        input::clear(&root);
        first.take(|| pack(input, &store, &root));
        again.take(|| pack(input, &store, &root));
    }
    table.against("first pack", &first, (PEER, &peer), 1.0);
    table.against("unchanged repack", &again, ("first pack", &first), 1.0 / 20.0);
    let stored = input::weigh(&store).1;
    table.bytes("stored", stored, (PEER, archive.metadata().unwrap().len()), 1.2);
}

/// Makes the archive of the tree, if it is not there yet.
pub fn archive(input: &Input) {
    if !input.work.join("peer.tar.zst").exists() {
        archive_of(input);
    }
}

fn archive_of(input: &Input) {
    input::shell(TAR_ZSTD, input.app.parent().expect("an input in a directory"));
}

fn pack(input: &Input, store: &Path, root: &Path) -> String {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    input::landfall(&["pack", &text(&input.app), "--store", &text(store), "--root", &text(root)])
}
