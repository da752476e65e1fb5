//! The programs that an artifact's steps, processes and checks need, looked for where its account will.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use landfall_store::Name;

use super::examine::Finding;
use crate::spec::{Check, Command, ManagerKind, ReleaseSpec, StepKind, applies};
use crate::start::argv;

const PROGRAMS: &str = "programs";

/// What a host would run.
#[derive(Debug)]
pub struct Asked<'a> {
    /// What the artifact says.
    pub spec: &'a ReleaseSpec,
    /// Roles of the host.
    pub roles: &'a [Name],
    /// The host runs migrations itself, and does not wait for another.
    pub migrates: bool,
}

/// What is needed, and where it may be.
pub fn findings(
    asked: &Asked<'_>,
    env: &BTreeMap<String, String>,
    packed: &BTreeSet<String>,
) -> Vec<Finding> {
    let path = env.get("PATH").map(String::as_str).unwrap_or_default();
    let wanted = wanted(asked, env);
    let missing: Vec<(&String, &String)> =
        wanted.iter().filter(|(program, _)| !is_there(program, path, packed)).collect();
    if missing.is_empty() {
        let names: Vec<&str> = wanted.keys().map(String::as_str).collect();
        let all = if names.is_empty() { "none needed".to_owned() } else { names.join(", ") };
        return vec![Finding::good(PROGRAMS, all)];
    }
    let told = |(program, what): (&String, &String)| {
        let message =
            format!("`{program}` is not on the PATH of the agent; {what} needs it (PATH is {path})");
        Finding::problem(
            PROGRAMS,
            message,
            format!("install {program}, or put its directory on the agent's PATH"),
        )
    };
    missing.into_iter().map(told).collect()
}

/// Each program with the first thing that needs it.
fn wanted(asked: &Asked<'_>, env: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let Asked { spec, roles, migrates } = asked;
    let mut wanted = BTreeMap::new();
    let mut need = |program: Option<String>, by: String| {
        if let Some(program) = program {
            wanted.entry(program).or_insert(by);
        }
    };
    for step in spec.steps.iter().filter(|step| applies(&step.roles, roles)) {
        let command = match (step.kind, migrates) {
            (StepKind::Migrate, false) => step.check.as_ref(),
            _ => Some(&step.command),
        };
        need(command.and_then(|command| program(command, env)), format!("step `{}`", step.name));
    }
    for start in spec.start.iter().filter(|start| applies(&start.roles, roles)) {
        if start.manager == ManagerKind::Pm2 {
            need(Some("pm2".to_owned()), format!("process `{}`", start.name));
            need(Some("node".to_owned()), format!("process `{}`", start.name));
        }
        need(program(&start.command, env), format!("process `{}`", start.name));
    }
    for health in spec.health.iter().filter(|health| applies(&health.roles, roles)) {
        if let Check::Run(list) = &health.check {
            need(program(&Command::Run(list.clone()), env), format!("health check `{}`", health.name));
        }
    }
    wanted
}

/// A command that cannot be expanded is told by the check of the env.
fn program(command: &Command, env: &BTreeMap<String, String>) -> Option<String> {
    argv(command, env).ok()?.into_iter().next()
}

/// A name is looked for on the PATH, an absolute path on this host, any other path in the release: what steps
/// make there is not known yet, so only the top of what is packed can be asked.
fn is_there(program: &str, path: &str, packed: &BTreeSet<String>) -> bool {
    if program.starts_with('/') {
        return is_executable(Path::new(program));
    }
    if let Some((top, _)) = program.trim_start_matches("./").split_once('/') {
        return packed.is_empty() || packed.contains(top) || top == "node_modules";
    }
    if program.starts_with("./") {
        return packed.is_empty() || packed.contains(program.trim_start_matches("./"));
    }
    std::env::split_paths(path).any(|dir| is_executable(&dir.join(program)))
}

fn is_executable(path: &Path) -> bool {
    path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_looked_for_where_it_will_be() {
        let packed = BTreeSet::from(["bin".to_owned(), "server".to_owned()]);
        let there = |program| is_there(program, "/usr/bin:/bin", &packed);
        assert!(there("sh") && there("/bin/sh") && there("bin/run") && there("./server"));
        assert!(there("node_modules/.bin/next"), "a step may make it");
        assert!(!there("no-such-program") && !there("/no/such") && !there("dist/run") && !there("./other"));
    }
}
