//! What an installation changes on a host: a pure decision over what is there and what was asked for.

use std::path::{Path, PathBuf};

use super::host_toml::Said;
use super::unit::{Origin, Unit, origin};
use crate::config::HostConfig;

/// Mode of what everybody on a host may read: directories.
const DIR_MODE: u32 = 0o755;
/// The same for files.
const FILE_MODE: u32 = 0o644;
/// Write permission of everybody but the owner.
const OTHERS_WRITE: u32 = 0o022;

/// An owner, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Whose everything is that landfall itself writes outside its root.
const ADMINISTRATOR: Owner = Owner { uid: 0, gid: 0 };

/// What was asked for.
#[derive(Debug, Clone)]
pub struct Wish {
    /// The unit.
    pub unit: Unit,
    /// Where it goes.
    pub unit_path: PathBuf,
    /// Whose the root is.
    pub owner: Owner,
    /// What was said about this host.
    pub said: Said,
    /// Whether an edited unit is replaced.
    pub force: bool,
    /// Whether the agent is to start with the host.
    pub enable: bool,
    /// Whether it is to run at the end.
    pub start: bool,
}

/// What is there.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// The unit file.
    pub unit: Option<String>,
    /// This host's configuration.
    pub config: Option<HostConfig>,
    /// Owner and mode of the root.
    pub root: Option<(Owner, u32)>,
    /// The unit starts with the host.
    pub enabled: bool,
    /// The agent runs as the unit.
    pub active: bool,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Make a directory, its parents too.
    MakeDir {
        /// Where.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// Whose it is.
        owner: Owner,
    },
    /// Take write permission on a directory from everybody but its owner.
    Tighten {
        /// Which.
        path: PathBuf,
        /// Its new mode.
        mode: u32,
    },
    /// Put a file in place.
    Write {
        /// Where.
        path: PathBuf,
        /// Its content.
        text: String,
        /// Its mode.
        mode: u32,
        /// What it replaces.
        before: Option<String>,
    },
    /// Remove a file.
    Remove(PathBuf),
    /// `systemctl …`.
    Systemctl(Vec<&'static str>),
}

/// Everything to do, in order; nothing where nothing is left to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// The changes.
    pub acts: Vec<Act>,
    /// What stays to be done by somebody, or stays as it is.
    pub notes: Vec<String>,
}

/// Why nothing is changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Somebody edited the unit.
    #[error("{} was edited by somebody: it is not replaced", .path.display())]
    UnitEdited {
        /// The unit.
        path: PathBuf,
        /// Its text.
        has: String,
        /// The text it would get.
        wants: String,
    },
    /// A first host.toml needs more.
    #[error("there is no {} yet, and {option} was not given", .path.display())]
    Unsaid {
        /// The configuration.
        path: PathBuf,
        /// What is missing.
        option: &'static str,
    },
    /// host.toml says something else.
    #[error("{} says otherwise: {what}", .path.display())]
    Contradicts {
        /// The configuration.
        path: PathBuf,
        /// What, and what was asked for.
        what: String,
    },
    /// The root is another account's.
    #[error("{} belongs to user {has}, and the agent would run as user {wants}", .path.display())]
    RootOfAnother {
        /// The root.
        path: PathBuf,
        /// Its owner.
        has: u32,
        /// The agent's account.
        wants: u32,
    },
}

/// What `landfall install` does.
pub fn install(wish: &Wish, facts: &Facts) -> Result<Plan, Refusal> {
    let mut plan = Plan::default();
    configuration(wish, facts, &mut plan)?;
    root(wish, facts, &mut plan)?;
    let changed = unit(wish, facts, &mut plan)?;
    if changed {
        plan.acts.push(Act::Systemctl(vec!["daemon-reload"]));
    }
    if (wish.enable || wish.start) && !facts.enabled {
        plan.acts.push(Act::Systemctl(vec!["enable", super::UNIT]));
    }
    match (wish.start, facts.active) {
        (true, false) => plan.acts.push(Act::Systemctl(vec!["start", super::UNIT])),
        (true, true) if changed => plan.acts.push(Act::Systemctl(vec!["restart", super::UNIT])),
        (false, true) if changed => plan.notes.push(
            "the agent runs as the old unit says until `systemctl restart landfall`, which restarts no app"
                .to_owned(),
        ),
        (false, false) => {
            plan.notes.push("start it with the host and now: `systemctl enable --now landfall`".to_owned());
        }
        _ => {}
    }
    Ok(plan)
}

fn configuration(wish: &Wish, facts: &Facts, plan: &mut Plan) -> Result<(), Refusal> {
    let path = &wish.unit.config;
    if let Some(config) = &facts.config {
        let differences = wish.said.contradictions(config);
        if differences.is_empty() {
            return Ok(());
        }
        return Err(Refusal::Contradicts { path: path.clone(), what: differences.join("; ") });
    }
    let text = wish.said.text().map_err(|option| Refusal::Unsaid { path: path.clone(), option })?;
    if let Some(dir) = path.parent() {
        plan.acts.push(Act::MakeDir { path: dir.to_owned(), mode: DIR_MODE, owner: ADMINISTRATOR });
    }
    plan.acts.push(Act::Write { path: path.clone(), text, mode: FILE_MODE, before: None });
    Ok(())
}

fn root(wish: &Wish, facts: &Facts, plan: &mut Plan) -> Result<(), Refusal> {
    let path = wish.unit.root.clone();
    match facts.root {
        None => plan.acts.push(Act::MakeDir { path, mode: DIR_MODE, owner: wish.owner }),
        Some((has, _)) if has.uid != wish.owner.uid => {
            return Err(Refusal::RootOfAnother { path, has: has.uid, wants: wish.owner.uid });
        }
        Some((_, mode)) if mode & OTHERS_WRITE != 0 => {
            plan.acts.push(Act::Tighten { path, mode: mode & !OTHERS_WRITE });
        }
        Some(_) => {}
    }
    Ok(())
}

/// Returns whether the unit changes.
fn unit(wish: &Wish, facts: &Facts, plan: &mut Plan) -> Result<bool, Refusal> {
    let path = wish.unit_path.clone();
    let text = wish.unit.text();
    match &facts.unit {
        Some(has) if *has == text => return Ok(false),
        Some(has) if origin(has) == Origin::Edited && !wish.force => {
            return Err(Refusal::UnitEdited { path, has: has.clone(), wants: text });
        }
        _ => {}
    }
    plan.acts.push(Act::Write { path, text, mode: FILE_MODE, before: facts.unit.clone() });
    Ok(true)
}

/// What `landfall uninstall` does: the unit goes, and nothing else.
pub fn uninstall(unit_path: &Path, facts: &Facts, force: bool) -> Result<Plan, Refusal> {
    let mut plan = Plan::default();
    let Some(has) = &facts.unit else { return Ok(plan) };
    if origin(has) == Origin::Edited && !force {
        let path = unit_path.to_owned();
        return Err(Refusal::UnitEdited { path, has: has.clone(), wants: String::new() });
    }
    if facts.active {
        plan.acts.push(Act::Systemctl(vec!["stop", super::UNIT]));
    }
    if facts.enabled {
        plan.acts.push(Act::Systemctl(vec!["disable", super::UNIT]));
    }
    plan.acts.push(Act::Remove(unit_path.to_owned()));
    plan.acts.push(Act::Systemctl(vec!["daemon-reload"]));
    Ok(plan)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: Owner = ADMINISTRATOR;
    const DEPLOY: Owner = Owner { uid: 990, gid: 990 };

    fn wish() -> Wish {
        Wish {
            unit: Unit {
                program: "/usr/local/bin/landfall".into(),
                config: "/etc/landfall/host.toml".into(),
                root: "/var/lib/landfall".into(),
                user: None,
                app_dirs: Vec::new(),
            },
            unit_path: "/etc/systemd/system/landfall.service".into(),
            owner: ROOT,
            said: Said {
                environment: Some("prod".parse().unwrap()),
                store: None,
                state: Some("/srv/state/deploy-state.json".into()),
            },
            force: false,
            enable: false,
            start: false,
        }
    }

    /// A host as an installation leaves it.
    fn installed(wish: &Wish) -> Facts {
        let config = HostConfig::parse(&wish.said.text().unwrap(), &wish.unit.config, "web-1").unwrap();
        Facts {
            unit: Some(wish.unit.text()),
            config: Some(config),
            root: Some((wish.owner, 0o40755)),
            enabled: wish.enable,
            active: wish.start,
        }
    }

    fn systemctl(plan: &Plan) -> Vec<Vec<&'static str>> {
        let calls = plan.acts.iter().filter_map(|act| match act {
            Act::Systemctl(arguments) => Some(arguments.clone()),
            _ => None,
        });
        calls.collect()
    }

    #[test]
    fn a_second_installation_changes_nothing() {
        let wish = Wish { enable: true, start: true, ..wish() };
        assert_eq!(install(&wish, &installed(&wish)).unwrap(), Plan::default());
    }

    #[test]
    fn a_bare_host_gets_configuration_root_and_unit_and_the_agent_only_when_asked() {
        let plan = install(&wish(), &Facts::default()).unwrap();
        let written = plan.acts.iter().filter_map(|act| match act {
            Act::Write { path, .. } => path.to_str(),
            _ => None,
        });
        let written: Vec<_> = written.collect();
        assert_eq!(written, ["/etc/landfall/host.toml", "/etc/systemd/system/landfall.service"]);
        let root = Act::MakeDir { path: "/var/lib/landfall".into(), mode: 0o755, owner: ROOT };
        assert!(plan.acts.contains(&root));
        assert_eq!(systemctl(&plan), [vec!["daemon-reload"]]);
        let now = install(&Wish { start: true, ..wish() }, &Facts::default()).unwrap();
        assert_eq!(
            systemctl(&now),
            [vec!["daemon-reload"], vec!["enable", "landfall.service"], vec!["start", "landfall.service"]]
        );
    }

    #[test]
    fn an_edited_unit_is_replaced_only_by_force() {
        let mut facts = installed(&wish());
        facts.unit = facts.unit.map(|text| text.replace("RestartSec=2", "RestartSec=9"));
        assert!(matches!(install(&wish(), &facts), Err(Refusal::UnitEdited { .. })));
        let forced = install(&Wish { force: true, ..wish() }, &facts).unwrap();
        assert!(matches!(&forced.acts[0], Act::Write { before: Some(old), .. } if old.contains("=9")));
        let path = Path::new("/etc/systemd/system/landfall.service");
        assert!(matches!(uninstall(path, &facts, false), Err(Refusal::UnitEdited { .. })));
        assert!(uninstall(path, &facts, true).is_ok());
    }

    #[test]
    fn an_older_unit_is_replaced_and_a_running_agent_is_restarted_only_when_asked() {
        let older = Wish { unit: Unit { user: Some("deploy".to_owned()), ..wish().unit }, ..wish() };
        let facts = Facts { unit: Some(older.unit.text()), active: true, ..installed(&wish()) };
        let plan = install(&wish(), &facts).unwrap();
        assert_eq!(systemctl(&plan), [vec!["daemon-reload"]]);
        assert!(plan.notes[0].contains("systemctl restart landfall"));
        let plan = install(&Wish { start: true, ..wish() }, &Facts { enabled: true, ..facts }).unwrap();
        assert_eq!(systemctl(&plan), [vec!["daemon-reload"], vec!["restart", "landfall.service"]]);
    }

    #[test]
    fn a_root_of_another_account_is_refused_and_one_that_others_may_write_is_tightened() {
        let wish = Wish { owner: DEPLOY, ..wish() };
        let mut facts = installed(&wish);
        facts.root = Some((ROOT, 0o40755));
        let refused = install(&wish, &facts).unwrap_err();
        assert!(matches!(refused, Refusal::RootOfAnother { has: 0, wants: 990, .. }), "{refused}");
        facts.root = Some((DEPLOY, 0o40777));
        let plan = install(&wish, &facts).unwrap();
        assert_eq!(plan.acts, [Act::Tighten { path: "/var/lib/landfall".into(), mode: 0o40755 }]);
    }

    #[test]
    fn uninstalling_removes_the_unit_and_nothing_else() {
        let wish = Wish { enable: true, start: true, ..wish() };
        let plan = uninstall(&wish.unit_path, &installed(&wish), false).unwrap();
        assert_eq!(
            plan.acts,
            [
                Act::Systemctl(vec!["stop", "landfall.service"]),
                Act::Systemctl(vec!["disable", "landfall.service"]),
                Act::Remove("/etc/systemd/system/landfall.service".into()),
                Act::Systemctl(vec!["daemon-reload"]),
            ]
        );
        assert_eq!(uninstall(&wish.unit_path, &Facts::default(), false).unwrap(), Plan::default());
    }
}
