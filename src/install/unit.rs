//! The text of the systemd unit, and how a unit that somebody edited is told from one that landfall wrote.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use landfall_store::Digest;

use crate::systemd::UNIT_DIR;
use crate::systemd::quote::path_word;

const CONTEXT: &str = "landfall 2026-11-21 systemd unit v1";
/// The first line of a unit that landfall wrote, before its seal.
const SEAL_LINE: &str = "# Written by `landfall install`; changes belong in a drop-in. Seal: ";
/// What `ProtectSystem=full` makes read-only.
const READ_ONLY: [&str; 5] = ["/usr", "/boot", "/efi", "/etc", "/bin"];

/// What the unit depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// The landfall binary.
    pub program: PathBuf,
    /// Its host.toml.
    pub config: PathBuf,
    /// Its root.
    pub root: PathBuf,
    /// The account the agent runs as; none: root.
    pub user: Option<String>,
    /// Directories of apps outside the root, as host.toml has them.
    pub app_dirs: Vec<PathBuf>,
}

/// Whose a unit file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// landfall wrote it, to the last byte.
    Landfall,
    /// Somebody wrote or edited it.
    Edited,
}

/// Who wrote this text.
pub fn origin(text: &str) -> Origin {
    let sealed = text.strip_prefix(SEAL_LINE).and_then(|rest| rest.split_once('\n'));
    match sealed {
        Some((claimed, body)) if claimed == seal(body) => Origin::Landfall,
        _ => Origin::Edited,
    }
}

fn seal(body: &str) -> String {
    Digest::derived(CONTEXT, body.as_bytes()).to_string()
}

impl Unit {
    /// The whole file.
    pub fn text(&self) -> String {
        let body = self.body();
        format!("{SEAL_LINE}{}\n{body}", seal(&body))
    }

    fn body(&self) -> String {
        let program = path_word(&self.program);
        let config = path_word(&self.config);
        let root = path_word(&self.root);
        let mut text = HEAD.replace("{ROOT}", &root);
        text.push_str("[Service]\n");
        text.push_str(&RUN.replace("{START}", &format!("{program} watch --config {config} --root {root}")));
        if let Some(user) = &self.user {
            text.push_str(&AS_USER.replace("{USER}", user));
        }
        text.push_str(HARDENING);
        if self.user.is_none() {
            text.push_str(&UNITS.replace("{UNITS}", UNIT_DIR));
        }
        self.allow_writing(&mut text);
        text.push_str("\n[Install]\nWantedBy=multi-user.target\n");
        text
    }

    fn allow_writing(&self, text: &mut String) {
        let places: Vec<&Path> = std::iter::once(&self.root)
            .chain(&self.app_dirs)
            .map(PathBuf::as_path)
            .filter(|place| READ_ONLY.iter().any(|dir| place.starts_with(dir)))
            .collect();
        if places.is_empty() {
            return;
        }
        text.push_str(
            "# The root, or an app's `dir` of host.toml, lies in one of these. `-`: it may be missing.\n",
        );
        for place in places {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "ReadWritePaths=-{}", path_word(place));
        }
    }
}

const HEAD: &str = "\
# Read with `systemctl cat landfall`, change with `systemctl edit landfall`: `landfall install` writes this
# file anew, and refuses to once somebody edited it.

[Unit]
Description=landfall agent
# The root must be mounted. Nothing else is waited for, the network, store and state neither: after a reboot
# the last healthy release of every app comes up without them.
RequiresMountsFor={ROOT}
After=network.target remote-fs.target nss-user-lookup.target
# An agent that cannot start (a broken host.toml) tries for ever and is there once the cause is mended.
StartLimitIntervalSec=0

";

const RUN: &str = "\
# Started means: it holds its root, has read the state and looked at its apps.
Type=notify
ExecStart={START}
# SIGHUP: read host.toml again and look at everything.
ExecReload=/bin/kill -HUP $MAINPID
Restart=always
RestartSec=2
# The deciding loop itself gives the signs of life. A hung agent is killed outright: there is nothing to clean
# up (it goes on from its journal), and a core dump would hold secrets of apps.
WatchdogSec=2min
WatchdogSignal=SIGKILL
# The apps live in this unit, under supervisors of their own, and outlive the agent: only the agent is ended by
# a stop, a restart or an upgrade, one app killed for want of memory ends no other, and all apps together are
# not bound by the limit of tasks for one service.
KillMode=process
OOMPolicy=continue
TasksMax=infinity
";

const AS_USER: &str = "\
# All apps run as this account too. systemd sets NoNewPrivileges for it, as the filters below need it.
User={USER}
";

const HARDENING: &str = "\
# Everything from here on holds for apps and release steps as well.
# /usr, /boot and /etc are read-only: landfall writes its root, the apps write below it and to their own places.
ProtectSystem=full
ProtectKernelModules=yes
ProtectKernelLogs=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
# unix: the agent's socket and pm2. inet: health checks, stores, apps. netlink: programs that list interfaces.
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallArchitectures=native
SystemCallFilter=~@clock @cpu-emulation @module @obsolete @raw-io @reboot @swap
SystemCallErrorNumber=EPERM
# CHOWN, DAC_*, FOWNER, FSETID: release files of several owners, and hard links to files of others.
# SETUID, SETGID, SETPCAP: start an app as its account. KILL: end it. SYS_PTRACE: see in /proc where and as what
# a process of another account runs. SYS_RESOURCE, SYS_NICE: limits and priorities an app asks for.
# NET_BIND_SERVICE: ports below 1024. AUDIT_WRITE: sudo in a step.
CapabilityBoundingSet=CAP_CHOWN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_FSETID
CapabilityBoundingSet=CAP_SETUID CAP_SETGID CAP_SETPCAP CAP_KILL CAP_SYS_PTRACE CAP_SYS_RESOURCE CAP_SYS_NICE
CapabilityBoundingSet=CAP_NET_BIND_SERVICE CAP_AUDIT_WRITE
# Left out on purpose, since apps would break:
#   ProtectKernelTunables, ProtectControlGroups: inside a container they show another boot id than the rest of
#   the machine sees, and by that id supervisors of this boot are told from those before a reboot.
#   PrivateTmp: it is removed with the agent's end, under apps that go on.
#   ProtectHome: accounts of apps may live in /home. ProtectProc: the agent must see processes of others.
#   NoNewPrivileges: file capabilities of an interpreter, sudo in a step. RestrictNamespaces: browser sandboxes.
#   MemoryDenyWriteExecute: node and every other just-in-time compiler. PrivateDevices: GPUs.
# A host whose apps need none of that can set them in a drop-in.
";

const UNITS: &str = "\
# Units of apps that systemd runs (`manager = \"systemd\"`). Whoever is root may have systemd run anything already.
ReadWritePaths={UNITS}
";

#[cfg(test)]
mod tests {
    use super::*;

    fn unit() -> Unit {
        Unit {
            program: "/usr/local/bin/landfall".into(),
            config: "/etc/landfall/host.toml".into(),
            root: "/var/lib/landfall".into(),
            user: None,
            app_dirs: Vec::new(),
        }
    }

    #[test]
    fn a_unit_that_somebody_edited_is_told_from_landfalls_own() {
        let text = unit().text();
        assert_eq!(origin(&text), Origin::Landfall);
        for edited in [
            text.replace("WatchdogSec=2min", "WatchdogSec=5min"),
            format!("{text}# mine\n"),
            text.lines().skip(1).map(|line| format!("{line}\n")).collect(),
            "[Service]\nExecStart=/opt/landfall watch\n".to_owned(),
            String::new(),
        ] {
            assert_eq!(origin(&edited), Origin::Edited, "{edited}");
        }
    }

    #[test]
    fn an_older_unit_of_landfalls_own_is_still_its_own() {
        let other = Unit { user: Some("deploy".to_owned()), ..unit() };
        assert_ne!(other.text(), unit().text());
        assert_eq!(origin(&other.text()), Origin::Landfall);
    }

    #[test]
    fn a_path_is_one_word_whatever_stands_in_it() {
        assert_eq!(path_word(Path::new("/var/lib/landfall")), "/var/lib/landfall");
        assert_eq!(path_word(Path::new("/srv/100% sure")), "\"/srv/100%% sure\"");
        assert_eq!(path_word(Path::new("/srv/$a\"b\\c")), "\"/srv/$$a\\\"b\\\\c\"");
    }

    #[test]
    fn only_an_agent_that_is_root_writes_units_of_apps() {
        assert!(unit().text().contains("\nReadWritePaths=/etc/systemd/system\n"));
        let other = Unit { user: Some("deploy".to_owned()), ..unit() };
        assert!(!other.text().contains("/etc/systemd/system"));
    }

    #[test]
    fn what_the_hardening_would_make_read_only_stays_writable() {
        let places = unit().text().lines().filter(|line| line.starts_with("ReadWritePaths")).count();
        assert_eq!(places, 1, "the units of apps");
        let dirs = vec![PathBuf::from("/usr/local/web"), PathBuf::from("/srv/web")];
        let text = Unit { app_dirs: dirs, ..unit() }.text();
        assert!(text.contains("ReadWritePaths=-/usr/local/web\n"));
        assert!(!text.contains("/srv/web"));
    }
}
