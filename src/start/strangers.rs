//! Processes of another release of an app that nobody landfall knows has started: by hand, by an old script.
//!
//! Only what is proved to be such a one counts: it works in that release's directory, and its arguments are that
//! release's own start command. A shell, an editor or a script that only stands there is left alone.

use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use super::ProcessId;
use super::shim::limits::KILL_WAIT;
use crate::proc;

/// Those that run now. `commands` gives the start commands of a release by its name.
pub fn strangers(
    releases_dir: &Path,
    release_dir: &Path,
    commands: impl Fn(&str) -> Vec<Vec<String>>,
) -> Vec<ProcessId> {
    let own = release_dir.file_name();
    let Ok(releases) = releases_dir.canonicalize() else { return Vec::new() };
    let mut found = Vec::new();
    for stat in proc::working_under(&releases) {
        let Some(cwd) = proc::cwd(stat.id.pid).filter(|cwd| !cwd.deleted) else { continue };
        let beneath = cwd.path.strip_prefix(&releases).ok().and_then(|path| path.iter().next());
        let Some(other) = beneath.filter(|name| Some(*name) != own).and_then(OsStr::to_str) else { continue };
        let arguments = proc::arguments(stat.id.pid);
        if commands(other).iter().any(|command| is_same(command, &arguments)) {
            found.push(stat.id);
        }
    }
    found
}

/// `node` and `/usr/bin/node` are the same program.
fn is_same(command: &[String], arguments: &[String]) -> bool {
    let program =
        |words: &[String]| words.first().map(|word| Path::new(word).file_name().map(OsStr::to_owned));
    program(command) == program(arguments) && command.get(1..) == arguments.get(1..)
}

/// Asks them and everything below them to stop, and kills what is left after the grace. Gives what outlived it.
pub async fn end(strangers: &[ProcessId], signal: Signal, grace: Duration) -> Vec<ProcessId> {
    let below = strangers.iter().flat_map(|id| proc::descendants(id.pid)).map(|stat| stat.id);
    let mut left: Vec<ProcessId> = strangers.iter().copied().chain(below).collect();
    for (signal, limit) in [(signal, grace), (Signal::KILL, KILL_WAIT)] {
        left.retain(|id| proc::is_alive(*id) && proc::signal(*id, signal));
        let all = async {
            for id in &left {
                proc::exited(*id).await;
            }
        };
        if tokio::time::timeout(limit, all).await.is_ok() {
            return Vec::new();
        }
    }
    left.retain(|id| proc::is_alive(*id));
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_start_command_itself_proves_a_process() {
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert!(is_same(&words("node server.js"), &words("/usr/bin/node server.js")));
        for other in ["node server.js --inspect", "node", "vim server.js", "bash", "less server.js"] {
            assert!(!is_same(&words("node server.js"), &words(other)), "{other}");
        }
        assert!(!is_same(&words("node server.js"), &[]));
    }
}
