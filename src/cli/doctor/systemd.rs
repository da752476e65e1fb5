//! Whether systemd can run an app that is to run under it.

use std::path::Path;

use super::examine::Finding;
use crate::install::{UNIT, UNIT_DIR, has_systemd};

const SYSTEMD: &str = "systemd";

/// What is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    booted: bool,
    is_root: bool,
    /// The text of the agent's own unit, if there is one.
    agent: Option<String>,
}

/// Looks.
pub fn look() -> Facts {
    Facts {
        booted: has_systemd().unwrap_or(false),
        is_root: rustix::process::geteuid().is_root(),
        agent: std::fs::read_to_string(Path::new(UNIT_DIR).join(UNIT)).ok(),
    }
}

/// Judges.
pub fn finding(facts: &Facts) -> Finding {
    let elsewhere = "start = \"direct\" under the app in host.toml";
    if !facts.booted {
        let what = "the app is to run under systemd, which does not run this machine";
        return Finding::problem(SYSTEMD, what, elsewhere);
    }
    let agent = facts.agent.as_deref();
    if !facts.is_root || agent.is_some_and(|unit| setting(unit, "User").is_some()) {
        let what = "the app is to run under systemd, whose units only an agent that is root may manage";
        return Finding::problem(SYSTEMD, what, format!("run the agent as root; or {elsewhere}"));
    }
    let may_write = |unit: &str| {
        setting(unit, "ProtectSystem").is_none()
            || unit.lines().any(|line| line == format!("ReadWritePaths={UNIT_DIR}"))
    };
    match agent.is_none_or(may_write) {
        true => Finding::good(SYSTEMD, "it can run the app"),
        false => Finding::problem(
            SYSTEMD,
            format!("the agent's unit is older than this landfall: the agent may not write {UNIT_DIR}"),
            "sudo landfall install; then systemctl restart landfall. The apps go on",
        ),
    }
}

fn setting<'a>(unit: &'a str, key: &str) -> Option<&'a str> {
    unit.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
}

#[cfg(test)]
mod tests {
    use super::super::examine::Level;
    use super::*;

    #[test]
    fn what_keeps_systemd_from_running_an_app_is_told_with_the_mending() {
        let able = Facts { booted: true, is_root: true, agent: None };
        let unit = |text: &str| Facts { agent: Some(text.to_owned()), ..able.clone() };
        let now = "ProtectSystem=full\nReadWritePaths=/etc/systemd/system\n";
        for facts in [able.clone(), unit("Type=notify\n"), unit(now)] {
            assert_eq!(finding(&facts).level, Level::Good, "{facts:?}");
        }
        for (facts, fix) in [
            (Facts { booted: false, ..able.clone() }, "direct"),
            (Facts { is_root: false, ..able.clone() }, "as root"),
            (unit("User=deploy\nProtectSystem=full\n"), "as root"),
            (unit("ProtectSystem=full\n"), "landfall install"),
        ] {
            let found = finding(&facts);
            assert_eq!(found.level, Level::Problem, "{facts:?}");
            assert!(found.fix.as_deref().unwrap().contains(fix), "{found:?}");
        }
    }
}
