//! Whoever resolves `current` while it is switched gets one complete release: never nothing, never two halves.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics, in its helpers too")]

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use landfall::disk::RealDisk;
use landfall::layout::{AppDir, Root};
use landfall::record::release::ReleaseRef;
use landfall::switch;
use landfall_store::{ArtifactId, Digest};
use rustix::fs::{Mode, OFlags, openat};

const SWITCHES: usize = 2_000;
const READERS: usize = 4;
/// Fewer would say little: many opens for each switch.
const OPENS_MIN: usize = 50 * SWITCHES;

fn release(dir: &AppDir, version: &str) -> ReleaseRef {
    let hash = Digest::of(version.as_bytes());
    let release = ReleaseRef::new(ArtifactId(hash), hash, version.parse().unwrap());
    let path = dir.release(&release.name);
    std::fs::create_dir_all(&path).unwrap();
    for file in ["one", "two"] {
        std::fs::write(path.join(file), version).unwrap();
    }
    release
}

fn read_at(dir: &File, name: &str) -> String {
    let opened = openat(dir, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let mut text = String::new();
    File::from(opened.expect("the file is there")).read_to_string(&mut text).unwrap();
    text
}

/// Opens the directory behind `current` and both of its files, until told to stop; counts the opens.
fn read_until(stop: &AtomicBool, current: &Path) -> usize {
    let mut opens = 0;
    while !stop.load(Ordering::Relaxed) {
        let dir = File::open(current).expect("`current` resolves");
        assert_eq!(read_at(&dir, "one"), read_at(&dir, "two"), "both of one release");
        opens += 3;
    }
    opens
}

#[test]
fn p3_readers_never_see_a_gap_or_a_mix_while_current_is_switched() {
    let root = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let dir = Root::new(root.path()).unwrap().app(&"web".parse().unwrap(), &"prod".parse().unwrap(), None);
    let releases = ["1.0.0", "2.0.0"].map(|version| release(&dir, version));
    switch::to(&RealDisk, &dir, &releases[0]).unwrap();
    let (stop, current) = (AtomicBool::new(false), dir.current());
    let opens: usize = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..READERS).map(|_| scope.spawn(|| read_until(&stop, &current))).collect();
        for turn in 1..=SWITCHES {
            switch::to(&RealDisk, &dir, &releases[turn % 2]).unwrap();
            // The readers get their turn at every state, also on a machine with one core.
            std::thread::sleep(std::time::Duration::from_micros(500));
        }
        stop.store(true, Ordering::Relaxed);
        readers.into_iter().map(|reader| reader.join().unwrap()).sum()
    });
    println!("{SWITCHES} switches, {opens} opens");
    assert!(opens >= OPENS_MIN, "only {opens} opens");
}
