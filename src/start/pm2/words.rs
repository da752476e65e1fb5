//! What pm2's daemon said of its workers: the tail of its own log. Nothing else tells how a worker ended and
//! that pm2 has stopped starting it, without asking the daemon (which would start one).
//!
//! Its words add to what `/proc` shows and never replace it: without them only the reason is missing.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use jiff::civil::DateTime;

use crate::start::Exit;
use crate::start::shim::limits::{RESTART_WINDOW, RESTARTS_MAX};

/// Bytes of the log that are read: thousands of lines, and more than the window holds of a crash loop.
const TAIL_BYTES_MAX: i64 = 256 << 10;
/// What every line of the daemon has behind its time.
const MARK: &str = ": PM2 log: ";

/// What became of the workers of one name since they were last started on purpose.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Words {
    /// How the last one to die by itself ended.
    pub(super) last_exit: Option<Exit>,
    /// pm2 starts at least one of them no more (`errored`).
    pub(super) errored: bool,
    deaths: Vec<DateTime>,
}

impl Words {
    /// Reads them; none where the log cannot be read.
    pub(super) fn read(home: &Path, name: &str) -> Self {
        tail(&home.join("pm2.log")).map(|text| Self::of(&text, name)).unwrap_or_default()
    }

    /// Whether they died more often than is allowed, up to `now` by the wall clock that pm2 writes.
    pub(super) fn too_many_deaths(&self, now: DateTime) -> bool {
        let recent = self.deaths.iter().filter(|at| {
            let ago = now.duration_since(**at).abs();
            ago.unsigned_abs() < RESTART_WINDOW
        });
        recent.count() > RESTARTS_MAX
    }

    fn of(log: &str, name: &str) -> Self {
        let mut words = Self::default();
        let mut errored = BTreeSet::new();
        let mut last = None;
        for line in log.lines() {
            let Some((time, said)) = line.split_once(MARK) else { continue };
            if said.contains("New PM2 Daemon started")
                || said.starts_with(&format!("Stopping app:{name} id:"))
            {
                (words, last) = (Self::default(), None);
                errored.clear();
            } else if let Some((id, rest)) = about(said, name) {
                if rest.starts_with("starting in") {
                    errored.remove(&id);
                } else if let Some(exit) = exit(rest).filter(|_| !id.starts_with("_old")) {
                    words.last_exit = Some(exit);
                    words.deaths.extend(time.parse::<DateTime>());
                    last = Some(id);
                }
            } else if said.starts_with("App [") && said.contains("] exited with code [") {
                last = None;
            } else if said.starts_with("Script ") && said.contains(" had too many unstable restarts ") {
                errored.extend(last.take());
            }
        }
        words.errored = !errored.is_empty();
        words
    }
}

/// `App [name:id] rest`.
fn about<'a>(said: &'a str, name: &str) -> Option<(String, &'a str)> {
    let (subject, rest) = said.strip_prefix("App [")?.split_once("] ")?;
    let (own, id) = subject.rsplit_once(':')?;
    (own == name).then(|| (id.to_owned(), rest))
}

/// `exited with code [3] via signal [SIGINT]`; pm2 says SIGINT where there was no signal.
fn exit(rest: &str) -> Option<Exit> {
    let (code, signal) = rest.strip_prefix("exited with code [")?.split_once("] via signal [")?;
    Some(match signal.trim_end_matches(']') {
        "SIGKILL" => Exit::Signal(9),
        "SIGABRT" => Exit::Signal(6),
        "SIGSEGV" => Exit::Signal(11),
        "SIGTERM" => Exit::Signal(15),
        _ => Exit::Code(code.parse().ok()?),
    })
}

fn tail(path: &Path) -> Option<String> {
    let mut file = File::open(path).ok()?;
    let length = i64::try_from(file.metadata().ok()?.len()).ok()?;
    file.seek(SeekFrom::End(-length.min(TAIL_BYTES_MAX))).ok()?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES_MAX.unsigned_abs()).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As pm2 7.0.4 wrote it: a reload, a kill, then a release that dies at once.
    const LOG: &str = include_str!("pm2.log");

    fn until(line: &str) -> String {
        let end = LOG.find(line).unwrap_or_else(|| panic!("no `{line}`")) + line.len();
        LOG[..end].to_owned()
    }

    #[test]
    fn a_reload_is_no_death() {
        let words =
            Words::of(&until("13:30:28: PM2 log: pid=9686 msg=process tree killed (1 pids)"), "web-prod");
        assert_eq!(words, Words::default());
    }

    #[test]
    fn a_death_is_told_with_its_signal_or_status() {
        let killed =
            Words::of(&until("App [web-prod:0] exited with code [0] via signal [SIGKILL]"), "web-prod");
        assert_eq!((killed.last_exit, killed.errored), (Some(Exit::Signal(9)), false));
        let exited =
            Words::of(&until("App [web-prod:1] exited with code [3] via signal [SIGINT]"), "web-prod");
        assert_eq!((exited.last_exit, exited.errored), (Some(Exit::Code(3)), false));
    }

    #[test]
    fn pm2_having_stopped_trying_is_told_until_it_is_started_on_purpose() {
        let words = Words::of(&until("Stopped. \"errored\""), "web-prod");
        assert!(words.errored);
        assert_eq!(words.last_exit, Some(Exit::Code(3)));
        assert!(words.too_many_deaths("2025-11-21T13:31:00".parse().unwrap()));
        assert!(!words.too_many_deaths("2025-11-21T13:40:00".parse().unwrap()), "long ago is forgiven");
        assert!(!Words::of(LOG, "web-prod").errored);
        assert_eq!(Words::of(&until("Stopped. \"errored\""), "web"), Words::default(), "another app");
    }
}
