//! Is there an agent, is it this landfall, and will it be there after a reboot?

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::examine::Finding;
use crate::host::Host;
use crate::proc;

const AGENT: &str = "agent";
const SERVICE: &str = "service";

/// Where units lie, most important first.
const UNIT_DIRS: [&str; 3] =
    ["/etc/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system"];
const UNIT: &str = "landfall.service";
/// The link that `systemctl enable` makes.
const ENABLED: &str = "/etc/systemd/system/multi-user.target.wants/landfall.service";

/// What is known of the agent.
#[derive(Debug)]
struct Facts {
    running: bool,
    /// The program that holds the lock, if it may be looked at.
    program: Option<Program>,
    systemd: bool,
    unit: Option<PathBuf>,
    enabled: bool,
}

/// A running agent's program beside the one that was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Program {
    pid: u32,
    path: PathBuf,
    /// The same file as the landfall that examines.
    same: bool,
    /// The file was replaced since it was started.
    replaced: bool,
}

/// Looks.
pub fn findings(host: &Host) -> Vec<Finding> {
    let running = host.is_locked();
    let unit = UNIT_DIRS.iter().map(|dir| Path::new(dir).join(UNIT)).find(|path| path.is_file());
    judge(&Facts {
        running,
        program: if running { holder(&host.root.lock()) } else { None },
        systemd: Path::new("/run/systemd/system").is_dir(),
        unit,
        enabled: Path::new(ENABLED).exists(),
    })
}

fn judge(facts: &Facts) -> Vec<Finding> {
    let start = match (&facts.unit, facts.systemd) {
        (Some(_), true) => "sudo systemctl enable --now landfall",
        _ => "landfall watch",
    };
    let mut found = vec![match (facts.running, &facts.program) {
        (false, _) => Finding::warning(AGENT, "no agent is running: nothing is deployed or healed", start),
        (true, Some(program)) if program.replaced => Finding::warning(
            AGENT,
            format!("the agent (pid {}) runs a landfall that was replaced since", program.pid),
            match facts.unit {
                Some(_) => "sudo systemctl restart landfall".to_owned(),
                None => format!("kill {}; then `landfall watch`. The apps go on", program.pid),
            },
        ),
        (true, Some(program)) if !program.same => Finding::warning(
            AGENT,
            format!("the agent (pid {}) is another landfall: {}", program.pid, program.path.display()),
            "use one landfall on a host: `landfall --version` of both shows which is older",
        ),
        (true, Some(program)) => {
            Finding::good(AGENT, format!("running (pid {}), this landfall", program.pid))
        }
        (true, None) => Finding::good(AGENT, "running"),
    }];
    found.extend(service(facts));
    found
}

/// Only where systemd is.
fn service(facts: &Facts) -> Option<Finding> {
    match (facts.systemd, &facts.unit) {
        (false, _) => None,
        (true, None) => Some(Finding::warning(
            SERVICE,
            "the agent is not installed as a service: it does not come back after a reboot",
            "sudo landfall install",
        )),
        (true, Some(unit)) if facts.enabled => {
            Some(Finding::good(SERVICE, format!("{} is enabled", unit.display())))
        }
        (true, Some(unit)) => Some(Finding::warning(
            SERVICE,
            format!("{} is not enabled: the agent does not come back after a reboot", unit.display()),
            "sudo systemctl enable landfall",
        )),
    }
}

/// The process that has the lock file open. Who looks without being allowed to sees nobody.
fn holder(lock: &Path) -> Option<Program> {
    let lock = std::fs::metadata(lock).ok()?;
    let own = std::env::current_exe().and_then(std::fs::metadata).ok();
    let me = std::process::id();
    proc::all().into_iter().filter(|stat| stat.is_live() && stat.id.pid != me).find_map(|stat| {
        let pid = stat.id.pid;
        let open = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
        let mut files = open.filter_map(|fd| std::fs::metadata(fd.path()).ok());
        if !files.any(|file| (file.dev(), file.ino()) == (lock.dev(), lock.ino())) {
            return None;
        }
        let link = PathBuf::from(format!("/proc/{pid}/exe"));
        let path = std::fs::read_link(&link).ok()?;
        let facts = std::fs::metadata(&link).ok();
        let same = facts.zip(own.as_ref()).is_some_and(|(a, b)| (a.dev(), a.ino()) == (b.dev(), b.ino()));
        let replaced = path.to_string_lossy().ends_with(" (deleted)");
        Some(Program { pid, path, same, replaced })
    })
}

#[cfg(test)]
mod tests {
    use super::super::examine::Level;
    use super::*;

    fn facts(running: bool, program: Option<(bool, bool)>) -> Facts {
        let program = program.map(|(same, replaced)| Program {
            pid: 7,
            path: "/usr/local/bin/landfall".into(),
            same,
            replaced,
        });
        Facts {
            running,
            program,
            systemd: true,
            unit: Some("/etc/systemd/system/landfall.service".into()),
            enabled: true,
        }
    }

    #[test]
    fn an_agent_that_is_not_there_or_not_this_landfall_is_told_with_the_command() {
        let first = |facts: Facts| judge(&facts).remove(0);
        assert_eq!(first(facts(true, Some((true, false)))).level, Level::Good);
        assert_eq!(first(facts(true, None)).level, Level::Good);
        let gone = first(facts(false, None));
        assert_eq!(
            (gone.level, gone.fix.as_deref()),
            (Level::Warning, Some("sudo systemctl enable --now landfall"))
        );
        let old = first(facts(true, Some((false, true))));
        assert_eq!(old.fix.as_deref(), Some("sudo systemctl restart landfall"));
        assert!(first(facts(true, Some((false, false)))).message.contains("another landfall"));
    }

    #[test]
    fn a_service_that_would_not_survive_a_reboot_is_a_warning() {
        let fix = |facts: Facts| service(&facts).and_then(|finding| finding.fix);
        assert_eq!(fix(facts(true, None)), None);
        assert_eq!(
            fix(Facts { enabled: false, ..facts(true, None) }).as_deref(),
            Some("sudo systemctl enable landfall")
        );
        assert_eq!(fix(Facts { unit: None, ..facts(true, None) }).as_deref(), Some("sudo landfall install"));
        assert_eq!(service(&Facts { systemd: false, ..facts(true, None) }), None);
    }
}
