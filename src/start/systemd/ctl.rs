//! Calls of `systemctl`: a plain environment, a deadline, and what it prints as facts.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use super::limits::{CALL_WAIT, SAID_LINES_MAX};
use crate::start::Exit;

/// Where systemctl may be.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/run/current-system/sw/bin";
const PROPERTIES: &str =
    "Id,LoadState,ActiveState,Job,Result,MainPID,NRestarts,ExecMainCode,ExecMainStatus,UnitFileState";

/// What a call said.
#[derive(Debug)]
pub(super) struct Said {
    /// It ended with 0.
    pub(super) ok: bool,
    /// What it printed as its result.
    pub(super) out: String,
    /// The last lines of its complaints.
    pub(super) complaint: String,
}

/// What systemd is doing with a unit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Activity {
    /// Nothing.
    #[default]
    Inactive,
    /// It has given up.
    Failed,
    /// It runs, or reloads.
    Active,
    /// On its way from one to another.
    Changing,
}

/// A unit, as systemd has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct UnitFacts {
    pub(super) name: String,
    /// systemd knows its file.
    pub(super) loaded: bool,
    pub(super) activity: Activity,
    /// Something is queued for it: the boot's start, a stop.
    pub(super) queued: bool,
    pub(super) result: String,
    pub(super) main_pid: Option<u32>,
    pub(super) restarts: u32,
    pub(super) last_exit: Option<Exit>,
    pub(super) enabled: bool,
}

/// Runs systemctl to its end.
pub(super) async fn call(arguments: &[&str], limit: Duration) -> Result<Said, String> {
    // A call that is abandoned is ended with its caller.
    let mut command = Command::new("systemctl");
    command.args(["--no-pager", "--no-ask-password"]).args(arguments);
    command.env_clear().env("PATH", PATH).env("LC_ALL", "C.UTF-8").current_dir("/");
    command.stdin(Stdio::null()).kill_on_drop(true);
    let words = arguments.join(" ");
    match timeout(limit, command.output()).await {
        Err(_) => Err(format!("`systemctl {words}` did not end within {limit:?}")),
        Ok(Err(error)) => Err(format!("systemctl: {error}")),
        Ok(Ok(output)) => Ok(Said {
            ok: output.status.success(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            complaint: last_lines(&String::from_utf8_lossy(&output.stderr)),
        }),
    }
}

/// The same where a failure is the manager's own.
pub(super) async fn must(arguments: &[&str], limit: Duration) -> Result<String, String> {
    let said = call(arguments, limit).await?;
    match said.ok {
        true => Ok(said.out),
        false => Err(format!("`systemctl {}` failed: {}", arguments.join(" "), said.complaint)),
    }
}

/// Every unit of these, in this order; one that systemd does not know is there with nothing.
pub(super) async fn show(units: &[String]) -> Result<Vec<UnitFacts>, String> {
    let mut arguments = vec!["show", "--property", PROPERTIES];
    arguments.extend(units.iter().map(String::as_str));
    let text = must(&arguments, CALL_WAIT).await?;
    let shown = parse(&text);
    let of = |name: &String| {
        let found = shown.iter().find(|facts| facts.name == *name).cloned();
        found.unwrap_or_else(|| UnitFacts { name: name.clone(), ..UnitFacts::default() })
    };
    Ok(units.iter().map(of).collect())
}

/// Keys of the environment that systemd hands to every service.
pub(super) async fn inherited_keys() -> Result<BTreeSet<String>, String> {
    let text = must(&["show-environment"], CALL_WAIT).await?;
    Ok(text.lines().filter_map(|line| Some(line.split_once('=')?.0.to_owned())).collect())
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(SAID_LINES_MAX)..].join("; ")
}

fn parse(text: &str) -> Vec<UnitFacts> {
    text.split("\n\n").filter(|block| !block.trim().is_empty()).map(unit).collect()
}

fn unit(block: &str) -> UnitFacts {
    let value = |key: &str| {
        let found = block.lines().find_map(|line| line.split_once('=').filter(|(own, _)| *own == key));
        found.map(|(_, value)| value).unwrap_or_default()
    };
    let number = |key: &str| value(key).parse::<u32>().unwrap_or(0);
    UnitFacts {
        name: value("Id").to_owned(),
        loaded: value("LoadState") == "loaded",
        activity: match value("ActiveState") {
            "active" | "reloading" => Activity::Active,
            "failed" => Activity::Failed,
            "activating" | "deactivating" | "maintenance" => Activity::Changing,
            _ => Activity::Inactive,
        },
        queued: !matches!(value("Job"), "" | "0"),
        result: value("Result").to_owned(),
        main_pid: Some(number("MainPID")).filter(|pid| *pid != 0),
        restarts: number("NRestarts"),
        last_exit: exit(number("ExecMainCode"), value("ExecMainStatus").parse().unwrap_or(0)),
        enabled: value("UnitFileState").starts_with("enabled"),
    }
}

/// `ExecMainCode` is the `si_code` of waitid(2); 0: it has not ended.
const fn exit(code: u32, status: i32) -> Option<Exit> {
    match code {
        0 => None,
        1 => Some(Exit::Code(status)),
        _ => Some(Exit::Signal(status)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As systemd 252 printed it: a process that was killed and is about to be started again, and a unit there is none
    /// of.
    const SHOWN: &str = "\
MainPID=0
Result=signal
NRestarts=2
ExecMainCode=2
ExecMainStatus=9
Id=landfall-web..prod..main.service
LoadState=loaded
ActiveState=activating
UnitFileState=enabled
Job=

MainPID=0
Result=success
NRestarts=0
ExecMainCode=0
ExecMainStatus=0
Id=nothing.service
LoadState=not-found
ActiveState=inactive
UnitFileState=
Job=41
";

    #[test]
    fn what_systemctl_prints_becomes_facts() {
        let [web, nothing] = <[UnitFacts; 2]>::try_from(parse(SHOWN)).unwrap();
        assert_eq!(web.name, "landfall-web..prod..main.service");
        assert_eq!((web.activity, web.main_pid, web.restarts), (Activity::Changing, None, 2));
        assert_eq!((web.last_exit, web.result.as_str()), (Some(Exit::Signal(9)), "signal"));
        assert!(web.loaded && web.enabled && !web.queued);
        assert_eq!((nothing.activity, nothing.last_exit), (Activity::Inactive, None));
        assert!(!nothing.loaded && !nothing.enabled && nothing.queued);
    }
}
