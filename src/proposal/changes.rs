//! Two states compared, app by app and environment by environment. Pure.

use std::collections::BTreeSet;

use landfall_store::Name;

use super::Action;
use crate::state::{AppState, Blocked, DesiredState, EnvironmentState, Suspend, Target};

/// One app in one environment that the two states do not say the same of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Which app.
    pub app: Name,
    /// In which environment.
    pub environment: Name,
    /// What the change does, as far as the states tell.
    pub action: Action,
    /// What should run before.
    pub from: Option<Target>,
    /// What should run then.
    pub to: Option<Target>,
    /// Keys that change besides the artifact.
    pub settings: Vec<&'static str>,
    /// The suspension that is in force then.
    pub suspended: Option<Suspend>,
    /// Why the artifact may not be deployed then.
    pub blocked: Option<Blocked>,
    /// Why going back to the one before would be refused then.
    pub from_is_blocked: bool,
    /// Why hosts would refuse the app's part.
    pub invalid: Option<String>,
}

/// Every difference, by app and environment. `None`: there was no state before.
pub fn changes(old: Option<&DesiredState>, new: &DesiredState) -> Vec<Change> {
    let names: BTreeSet<&Name> = old.iter().flat_map(|old| old.apps.keys()).chain(new.apps.keys()).collect();
    names.into_iter().flat_map(|app| of_app(app, old, new)).collect()
}

fn of_app(app: &Name, old: Option<&DesiredState>, new: &DesiredState) -> Vec<Change> {
    let before = old.and_then(|old| old.apps.get(app)).and_then(|part| part.as_ref().ok());
    let (after, invalid) = match new.apps.get(app) {
        Some(Ok(part)) => (Some(part), None),
        Some(Err(problem)) => (None, Some(problem.to_string())),
        None => (None, None),
    };
    let of =
        |part: Option<&AppState>| part.map(|part| part.environments.keys().cloned().collect::<BTreeSet<_>>());
    let mut environments: BTreeSet<Name> = of(before).unwrap_or_default();
    environments.extend(of(after).unwrap_or_default());
    let change = |environment: Name| match &invalid {
        Some(why) => Some(refused(app, environment, before, why)),
        None => in_environment(app, environment, before, after),
    };
    environments.into_iter().filter_map(change).collect()
}

fn refused(app: &Name, environment: Name, before: Option<&AppState>, why: &str) -> Change {
    let from = before.and_then(|part| target(part, &environment));
    Change { action: Action::Refuse, invalid: Some(why.to_owned()), ..blank(app, environment, from, None) }
}

fn blank(app: &Name, environment: Name, from: Option<Target>, to: Option<Target>) -> Change {
    Change {
        app: app.clone(),
        environment,
        action: Action::Settings,
        from,
        to,
        settings: Vec::new(),
        suspended: None,
        blocked: None,
        from_is_blocked: false,
        invalid: None,
    }
}

fn in_environment(
    app: &Name,
    environment: Name,
    before: Option<&AppState>,
    after: Option<&AppState>,
) -> Option<Change> {
    let part =
        |state: Option<&AppState>| state.and_then(|state| state.environments.get(&environment).cloned());
    let (old, new) = (part(before), part(after));
    let is_absent = |state: Option<&AppState>| state.is_some_and(|state| absent(state, &environment));
    let from = before.and_then(|state| target(state, &environment));
    let to = after.and_then(|state| target(state, &environment));
    let artifact = |target: &Option<Target>| target.as_ref().map(|target| target.artifact);
    let action = match (&new, is_absent(after)) {
        (_, true) if is_absent(before) => Action::Settings,
        (_, true) => Action::Remove,
        (None, false) => Action::Forget,
        (Some(_), false) if artifact(&from) != artifact(&to) => Action::Deploy,
        (Some(_), false) => Action::Settings,
    };
    let block = |target: &Option<Target>| {
        let (state, target) = (after?, target.as_ref()?);
        state.blocked.iter().find(|block| block.artifact == target.artifact).cloned()
    };
    let (blocked, from_is_blocked) = (block(&to), block(&from).is_some());
    let mut settings = settings(old.as_ref(), new.as_ref());
    let was_blocked = before
        .zip(to.as_ref())
        .is_some_and(|(state, target)| state.blocked.iter().any(|block| block.artifact == target.artifact));
    if was_blocked != blocked.is_some() && action == Action::Settings {
        settings.push("blocked");
    }
    if action == Action::Settings && settings.is_empty() {
        return None;
    }
    let suspended = new.and_then(|part| part.suspend);
    Some(Change {
        action,
        settings,
        suspended,
        blocked,
        from_is_blocked,
        ..blank(app, environment, from, to)
    })
}

fn absent(state: &AppState, environment: &Name) -> bool {
    use crate::state::Presence::Absent;
    state.state == Absent || state.environments.get(environment).is_some_and(|part| part.state == Absent)
}

fn target(state: &AppState, environment: &Name) -> Option<Target> {
    if absent(state, environment) {
        return None;
    }
    state.environments.get(environment)?.target.clone()
}

/// What changes besides the artifact. Of an entry that is new or gone there is nothing to compare.
fn settings(old: Option<&EnvironmentState>, new: Option<&EnvironmentState>) -> Vec<&'static str> {
    let Some(new) = new else { return Vec::new() };
    let none = EnvironmentState::default();
    let before = old.unwrap_or(&none);
    let words = |part: &EnvironmentState| {
        part.target.as_ref().map(|target| (target.version.clone(), target.reason.clone(), target.by.clone()))
    };
    let artifact = |part: &EnvironmentState| part.target.as_ref().map(|target| target.artifact);
    let same_artifact = artifact(before) == artifact(new);
    [
        ("target", same_artifact && words(before) != words(new)),
        ("suspend", before.suspend != new.suspend),
        ("reconcileRequestedAt", before.reconcile_requested_at != new.reconcile_requested_at),
        ("retain", before.retain != new.retain),
        ("health", before.health != new.health),
        ("state", before.state != new.state),
    ]
    .into_iter()
    .filter_map(|(key, differs)| differs.then_some(key))
    .collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use landfall_store::ArtifactId;
    use serde_json::{Value, json};

    use super::*;

    fn state(apps: &Value) -> DesiredState {
        let text = json!({"apiVersion": "landfall/v1", "apps": apps}).to_string();
        DesiredState::parse(&text, Path::new("deploy-state.json")).unwrap()
    }

    fn runs(name: &str) -> Value {
        json!({"target": {"artifact": ArtifactId::of(name.as_bytes()).to_string()}})
    }

    /// `app/environment action settings`.
    fn told(old: Option<&Value>, new: &Value) -> Vec<String> {
        let all = changes(old.map(state).as_ref(), &state(new));
        all.iter()
            .map(|one| format!("{}/{} {:?} {}", one.app, one.environment, one.action, one.settings.join(",")))
            .map(|line| line.trim_end().to_owned())
            .collect()
    }

    #[test]
    fn only_what_differs_is_told_app_by_app_and_environment_by_environment() {
        let old = json!({
            "api": {"environments": {"prod": runs("1"), "staging": runs("1")}},
            "web": {"environments": {"prod": runs("1")}},
        });
        let new = json!({
            "api": {"environments": {"prod": runs("1"), "staging": runs("2")}},
            "job": {"environments": {"prod": runs("1")}},
            "web": {"environments": {"prod": runs("1"), "dev": runs("1")}},
        });
        assert_eq!(told(Some(&old), &new), ["api/staging Deploy", "job/prod Deploy", "web/dev Deploy"]);
        assert_eq!(told(Some(&old), &old), Vec::<String>::new());
        assert_eq!(told(None, &old), ["api/prod Deploy", "api/staging Deploy", "web/prod Deploy"]);
    }

    #[test]
    fn an_app_that_is_left_out_stays_and_one_that_is_absent_goes() {
        let old = json!({"api": {"environments": {"prod": runs("1")}}, "web": {"environments": {"prod": runs("1")}}});
        let gone = json!({"web": {"environments": {"prod": runs("1")}}});
        assert_eq!(told(Some(&old), &gone), ["api/prod Forget"]);
        let mut absent = old.clone();
        absent["api"]["environments"]["prod"]["state"] = "absent".into();
        assert_eq!(told(Some(&old), &absent), ["api/prod Remove state"]);
        assert_eq!(told(Some(&absent), &absent), Vec::<String>::new());
        let mut whole = old.clone();
        whole["api"]["state"] = "absent".into();
        assert_eq!(told(Some(&old), &whole), ["api/prod Remove"]);
        assert_eq!(told(Some(&whole), &old), ["api/prod Deploy"], "and back again");
    }

    #[test]
    fn what_is_said_besides_the_artifact_is_named_by_its_key() {
        let old = json!({"web": {"environments": {"prod": runs("1")}}});
        let mut new = old.clone();
        new["web"]["environments"]["prod"]["suspend"] = json!({"reason": "fair", "by": "lee"});
        new["web"]["environments"]["prod"]["retain"] = 8.into();
        new["web"]["environments"]["prod"]["target"]["reason"] = "why".into();
        assert_eq!(told(Some(&old), &new), ["web/prod Settings target,suspend,retain"]);
        let all = changes(Some(&state(&old)), &state(&new));
        assert_eq!(all[0].suspended.as_ref().unwrap().reason, "fair");
    }

    #[test]
    fn a_block_of_what_runs_and_a_block_of_what_shall_run_are_both_seen() {
        let old = json!({"web": {"environments": {"prod": runs("1")}}});
        let block = |name: &str| json!([{"artifact": ArtifactId::of(name.as_bytes()).to_string(), "reason": "leaks", "by": "lee"}]);
        let mut new = json!({"web": {"environments": {"prod": runs("2")}, "blocked": block("1")}});
        let all = changes(Some(&state(&old)), &state(&new));
        assert!(all[0].from_is_blocked && all[0].blocked.is_none());
        new["web"]["blocked"] = block("2");
        let all = changes(Some(&state(&old)), &state(&new));
        assert_eq!(all[0].blocked.as_ref().unwrap().reason, "leaks");
        let mut same = old.clone();
        same["web"]["blocked"] = block("1");
        assert_eq!(told(Some(&old), &same), ["web/prod Settings blocked"]);
    }

    #[test]
    fn a_part_that_hosts_refuse_is_told_and_holds_no_other_app() {
        let old = json!({"api": {"environments": {"prod": runs("1")}}, "web": {"environments": {"prod": runs("1")}}});
        let mut new = old.clone();
        new["api"]["environments"]["prod"]["retain"] = "many".into();
        new["web"]["environments"]["prod"] = runs("2");
        assert_eq!(told(Some(&old), &new), ["api/prod Refuse", "web/prod Deploy"]);
    }
}
