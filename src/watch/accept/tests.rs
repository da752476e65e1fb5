use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;

use super::*;
use crate::record::acceptances::Chained;
use crate::trust::Before;

/// A disk that goes off at one of its writes: what was being written is there whole, or not at all.
#[derive(Default)]
struct Dying {
    files: RefCell<BTreeMap<PathBuf, Vec<u8>>>,
    /// Writes until it goes off, and whether the last one still gets there.
    left: Cell<Option<(usize, bool)>>,
    off: Cell<bool>,
}

impl Dying {
    fn write(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let dead = || io::Error::other("the machine is off");
        let put = || drop(self.files.borrow_mut().insert(path.to_owned(), content.to_vec()));
        match self.left.get() {
            _ if self.off.get() => return Err(dead()),
            Some((0, gets_there)) => {
                self.off.set(true);
                if gets_there {
                    put();
                }
                return Err(dead());
            }
            Some((writes, gets_there)) => self.left.set(Some((writes - 1, gets_there))),
            None => {}
        }
        put();
        Ok(())
    }

    fn boot(&self) {
        self.left.set(None);
        self.off.set(false);
    }
}

impl Disk for Dying {
    fn read(&self, path: &Path, _limit: u64) -> io::Result<Option<Vec<u8>>> {
        Ok(self.files.borrow().get(path).cloned())
    }
    fn replace(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        self.write(path, content)
    }
    fn append(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let whole = [self.files.borrow().get(path).cloned().unwrap_or_default(), content.to_vec()].concat();
        self.write(path, &whole)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.files.borrow_mut().remove(path);
        Ok(())
    }
    fn read_link(&self, _path: &Path) -> io::Result<Option<PathBuf>> {
        Ok(None)
    }
    fn point(&self, _link: &Path, _target: &Path) -> io::Result<()> {
        Ok(())
    }
    fn create_dir(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }
    fn list(&self, _path: &Path) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }
}

fn commit(letter: char) -> CommitId {
    CommitId::parse(&letter.to_string().repeat(40)).unwrap()
}

fn found(letter: char, serial: u64) -> Found {
    let target = format!(r#"{{"target":{{"artifact":"b3:{}"}}}}"#, letter.to_string().repeat(64));
    let text = format!(
        r#"{{"apiVersion":"landfall/v1","serial":{serial},"apps":{{"web":{{"environments":{{"prod":{target}}}}}}}}}"#
    );
    Found {
        remote: "here".to_owned(),
        head: commit(letter),
        changed: commit(letter),
        bytes: text.into_bytes(),
        before: Before::Older,
        deciding: Vec::new(),
    }
}

fn accepted(letter: char, serial: u64, last: Option<&Accepted>) -> Accepted {
    let found = found(letter, serial);
    let state = DesiredState::parse_bytes(&found.bytes, Path::new("deploy-state.json")).unwrap();
    taken(&found, state, None, last)
}

/// Three states one after the other: the third is an older one that an operator lets pass.
fn life(disk: &dyn Disk, root: &Root) -> Result<(), RecordError> {
    let one = accepted('a', 10, None);
    keep_on(disk, root, &one)?;
    let two = accepted('b', 11, Some(&one));
    keep_on(disk, root, &two)?;
    let back = found('c', 5);
    let waiver = Waiver {
        commit: back.head.to_string(),
        refusal: "it is older".to_owned(),
        by: "maria".to_owned(),
        reason: "back on purpose".to_owned(),
        at: Timestamp::UNIX_EPOCH,
    };
    let three = waive(&back, Path::new("deploy-state.json"), Some(&two), waiver).unwrap();
    keep_waived_on(disk, root, &back, Some(&two), &three)
}

/// What counts as the floor, by the letter of its commit.
fn floor_letter(disk: &dyn Disk, root: &Root) -> Option<char> {
    let last = last_on(disk, root).unwrap()?;
    last.head.and_then(|head| head.as_str().chars().next())
}

fn acceptances_of(disk: &dyn Disk, root: &Root) -> Vec<Chained> {
    acceptances::read(disk, root).unwrap()
}

#[test]
fn a_crash_at_every_write_of_the_floor_leaves_the_old_one_or_the_new_one_and_never_none() {
    let root = Root::new(Path::new("/sim")).unwrap();
    // The whole life without a crash, and how many writes it takes.
    let whole = Dying { left: Cell::new(Some((usize::MAX, true))), ..Dying::default() };
    life(&whole, &root).unwrap();
    let writes = usize::MAX - whole.left.get().unwrap().0;
    assert_eq!((writes, floor_letter(&whole, &root)), (4, Some('c')));
    assert_eq!(acceptances_of(&whole, &root).len(), 1);

    // What counts after so many writes that got there.
    let counts = [None, Some('a'), Some('b'), Some('b'), Some('c')];
    let mut crashes = 0;
    for at in 0..writes {
        for gets_there in [false, true] {
            let disk = Dying { left: Cell::new(Some((at, gets_there))), ..Dying::default() };
            assert!(life(&disk, &root).is_err());
            disk.boot();
            let floor = floor_letter(&disk, &root);
            assert_eq!(floor, counts[at + usize::from(gets_there)], "write {at}, got there: {gets_there}");
            // Who took an older commit is on record before it counts.
            let taken = acceptances_of(&disk, &root);
            assert!(floor != Some('c') || taken[0].acceptance.by == "maria");
            // Nothing older than the floor is taken.
            if let Some(serial) = last_on(&disk, &root).unwrap().and_then(|last| last.state.serial) {
                assert!(follows(Some(serial - 1), Some(serial)).is_err());
            }
            life(&disk, &root).unwrap();
            assert_eq!(floor_letter(&disk, &root), Some('c'));
            crashes += 1;
        }
    }
    assert_eq!(crashes, 8);
}
