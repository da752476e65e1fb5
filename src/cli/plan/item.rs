//! What would be done for one app, as data.

use landfall_store::cache::HostCache;
use landfall_store::{ArtifactId, Name, Version};
use schemars::JsonSchema;
use serde::Serialize;

use crate::cli::change;
use crate::cli::exit::Exit;
use crate::cli::report::bytes;
use crate::cli::verdict;
use crate::migrations::{self, MigrationChange};
use crate::outlook::Outlook;
use crate::plan::{Desired, Hold, Plan as Decision, revert_target};
use crate::preview::{self, Documents, Files, Missing};
use crate::record::release::ReleaseRef;
use crate::release::spec_of;

#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Named {
    artifact: ArtifactId,
    version: Option<Version>,
}

impl From<&ReleaseRef> for Named {
    fn from(release: &ReleaseRef) -> Self {
        Self { artifact: release.artifact, version: Some(release.version.clone()) }
    }
}

impl Named {
    pub fn shown(this: Option<&Self>) -> String {
        let called = |named: &Self| change::called(named.version.as_ref(), &named.artifact);
        this.map_or_else(|| "nothing".to_owned(), called)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub enum Action {
    None,
    Deploy,
    Switch,
    Restart,
    Remove,
    Hold,
    Refuse,
    Unavailable,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Planned")]
pub struct Item {
    pub app: Name,
    pub environment: Name,
    pub action: Action,
    pub from: Option<Named>,
    pub to: Option<Named>,
    pub files: Option<Files>,
    pub fetch: Option<Missing>,
    /// Migrations that only one of the two has.
    pub migrations: Vec<MigrationChange>,
    pub rollback_target: Option<Named>,
    pub env_changed: bool,
    /// Why nothing is done, or why it would not work.
    pub why: Option<String>,
    /// What could not be found out, and why.
    pub unknown: Vec<String>,
    #[serde(skip)]
    pub exit: Exit,
}

impl Item {
    pub fn of(app: &Name, environment: &Name, seen: &Outlook, documents: &Documents<'_>) -> Self {
        let from = seen.facts.current.release();
        let mut item = Self {
            app: app.clone(),
            environment: environment.clone(),
            action: Action::None,
            from: from.map(Named::from),
            to: wanted(&seen.facts.desired),
            files: None,
            fetch: None,
            migrations: Vec::new(),
            rollback_target: None,
            env_changed: matches!(seen.plan, Decision::InSync { env_changed: true }),
            why: None,
            unknown: Vec::new(),
            exit: Exit::Done,
        };
        item.note(seen);
        item.decide(&seen.plan);
        if matches!(item.action, Action::Deploy | Action::Switch) {
            item.look_inside(seen, documents);
        }
        let failing = seen.facts.candidate.as_ref().map(|candidate| &candidate.release);
        item.rollback_target = match item.action {
            Action::Deploy | Action::Switch => {
                revert_target(&seen.facts.healthy, failing).as_ref().map(Named::from)
            }
            _ => revert_target(&seen.facts.healthy, from).as_ref().map(Named::from),
        };
        item
    }

    fn note(&mut self, seen: &Outlook) {
        if seen.new_host {
            self.unknown.push("no landfall worked on this host yet: everything would be new".to_owned());
        } else if seen.facts.candidate.is_none() && matches!(seen.facts.desired, Desired::Target(_)) {
            let what = "the release identity: its manifest or env files are not on this host yet";
            self.unknown.push(what.to_owned());
        }
        if let Some(journal) = &seen.journal {
            let what = format!("attempt {} is in {} and is finished first", journal.attempt, journal.stage);
            self.unknown.push(what);
        }
    }

    fn decide(&mut self, plan: &Decision) {
        let (action, exit) = match plan {
            Decision::InSync { .. } => (Action::None, Exit::Done),
            Decision::Hold(Hold::NotInState) => (Action::None, Exit::Done),
            Decision::Hold(hold) => {
                self.why = Some(hold.to_string());
                (Action::Hold, verdict::code_of_hold(hold))
            }
            Decision::Refuse(refusal) => {
                self.why = Some(refusal.to_string());
                (Action::Refuse, Exit::Refused)
            }
            Decision::Deploy { reuse: Some(_), .. } => (Action::Switch, Exit::Differs),
            Decision::Deploy { reuse: None, .. } => (Action::Deploy, Exit::Differs),
            Decision::Restart { .. } => (Action::Restart, Exit::Differs),
            Decision::Remove { .. } => (Action::Remove, Exit::Differs),
            Decision::Removed => (Action::None, Exit::Done),
        };
        (self.action, self.exit) = (action, exit);
    }

    /// Compares packed files, and judges the artifact as the agent will before it moves anything.
    fn look_inside(&mut self, seen: &Outlook, documents: &Documents<'_>) {
        let Some(to) = self.to.clone() else { return };
        let artifact = match documents.artifact(&to.artifact) {
            Ok(artifact) => artifact,
            Err(why) => return self.cannot(Action::Unavailable, Exit::Supply, why),
        };
        if artifact.app != self.app {
            let why = format!("{} is an artifact of `{}`", to.artifact, artifact.app);
            return self.cannot(Action::Refuse, Exit::Invalid, why);
        }
        if let Some(only) = artifact.environment.as_ref().filter(|only| **only != self.environment) {
            let why = format!("{} was packed for `{only}`", to.artifact);
            return self.cannot(Action::Refuse, Exit::Invalid, why);
        }
        let own = landfall_store::refs::version_of(&artifact);
        if to.version.is_some() && own != to.version {
            let own = own.map_or_else(|| "none".to_owned(), |own| own.to_string());
            let why = format!("the state names another version than the artifact's own, {own}");
            return self.cannot(Action::Refuse, Exit::Invalid, why);
        }
        self.to = Some(Named { artifact: to.artifact, version: own });
        if let Ok(spec) = spec_of(&artifact) {
            self.migrations = migrations::compare(seen.current.as_ref().map(|current| &current.spec), &spec);
        }
        let new = match documents.trees(&artifact, &self.environment) {
            Ok(new) => new,
            Err(why) => return self.unknown.push(format!("files: {why}")),
        };
        // On a new host opening the cache would make one.
        let cache = if seen.new_host { None } else { HostCache::open(documents.host.root.path()).ok() };
        self.fetch = Some(preview::missing(cache.as_ref(), &new));
        match seen.current.as_ref().map(|current| documents.trees_of(current)).transpose() {
            Ok(old) => self.files = Some(preview::files(&old.unwrap_or_default(), &new)),
            Err(why) => self.unknown.push(format!("files: {why}")),
        }
    }

    fn cannot(&mut self, action: Action, exit: Exit, why: String) {
        (self.action, self.exit, self.why) = (action, exit, Some(why));
    }
}

/// What would run: a pin, else what the state asks.
fn wanted(desired: &Desired) -> Option<Named> {
    match desired {
        Desired::Pinned { pin, .. } => Some(Named::from(&pin.release)),
        other => {
            other.target().map(|target| Named { artifact: target.artifact, version: target.version.clone() })
        }
    }
}

impl Item {
    /// What people read below the line.
    pub fn details(&self) -> Vec<String> {
        let mut details = Vec::new();
        details.extend(self.why.clone());
        if let Some(files) = self.files {
            let Files { added, changed, removed } = files;
            details.push(format!("files      +{added} ~{changed} -{removed}"));
        }
        if let Some(missing) = self.fetch {
            details.push(match missing.contents {
                0 => "fetch      nothing: every content is on this host".to_owned(),
                contents => format!("fetch      {contents} contents, {} unpacked", bytes(missing.bytes)),
            });
        }
        let migrations = self.migrations.iter().flat_map(MigrationChange::sentences);
        details.extend(migrations.map(|sentence| format!("migrations {sentence}")));
        if self.action == Action::Restart {
            details.push("if it fails, nothing is reverted: the version is not to blame".to_owned());
        }
        if self.action == Action::Remove {
            details.push("`shared`, logs and the history stay on this host".to_owned());
        }
        if matches!(self.action, Action::Deploy | Action::Switch) {
            details.push(match &self.rollback_target {
                Some(target) => format!("if it fails, back to {}", Named::shown(Some(target))),
                None => "if it fails, there is nothing healthy to go back to".to_owned(),
            });
        }
        if self.env_changed {
            details.push("its env files were edited since the start; the next deploy takes them".to_owned());
        }
        details.extend(self.unknown.iter().map(|what| format!("not known: {what}")));
        details
    }
}
