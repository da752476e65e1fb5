//! `landfall suspend <app> <env>` and `resume <app> <env>`: a suspension in the state, for every host.

use jiff::Timestamp;
use landfall_store::Name;
use serde_json::json;

use super::Outcome;
use super::change::{GitArgs, change_error, dir_of, push_error, short, tell_uncommitted};
use super::context::Context;
use super::error::CliError;
use super::exit::Exit;
use super::report::{API_VERSION, Format};
use crate::commit::{self, Edit, Pause, Paused};
use crate::state::Suspend;

/// Why, and until when.
type Wanted<'a> = (&'a str, Option<Timestamp>);

/// Writes a suspension into the state, or takes it out.
pub fn run(
    app: &Name,
    environment: &Name,
    wanted: Option<Wanted<'_>>,
    reason: Option<&str>,
    by: Option<&str>,
    git: &GitArgs,
    context: &Context,
) -> Outcome {
    if let Some((_, Some(until))) = wanted
        && until <= Timestamp::now()
    {
        return Err(CliError::new(Exit::Usage, "TimeHasPassed", format!("{until:.0} has passed")));
    }
    let file = context.state_file()?;
    let by = by.map_or_else(|| commit::author(dir_of(&file)), str::to_owned);
    let to = wanted.map(|(reason, until)| Suspend {
        reason: reason.to_owned(),
        by,
        until: until.map(in_whole_seconds),
    });
    let pause = Pause { file: &file, app, environment, to: to.as_ref(), reason, policy: git.policy() };
    let mut made = commit::pause(&pause).map_err(change_error)?;
    if let Paused::Written(written) = &made {
        tell_uncommitted(&written.commit, &written.file, context);
    }
    if git.push {
        let kept = <Pause<'_> as Edit>::commit(&made).map(|commit| short(commit).to_owned());
        made = commit::publish(&pause, made).map_err(|error| push_error(error, kept))?;
        context.report.say("pushed.");
    }
    tell(&pause, &made, git.push, context);
    Ok(Exit::Done)
}

/// People read it in `git log`; a fraction of a second decides nothing.
fn in_whole_seconds(until: Timestamp) -> Timestamp {
    Timestamp::from_second(until.as_second().saturating_add(i64::from(until.subsec_nanosecond() > 0)))
        .unwrap_or(until)
}

fn tell(pause: &Pause<'_>, made: &Paused, pushed: bool, context: &Context) {
    if context.report.format() == Format::Table {
        context.report.line(sentence(pause, made));
        return;
    }
    let (from, to) = match made {
        Paused::Already(suspend) => (suspend, suspend),
        Paused::Written(written) => (&written.from, &written.to),
    };
    context.report.json(&json!({
        "apiVersion": API_VERSION,
        "kind": if pause.to.is_some() { "Suspend" } else { "Resume" },
        "app": pause.app,
        "environment": pause.environment,
        "file": pause.file,
        "from": from,
        "to": to,
        "changed": matches!(made, Paused::Written(_)),
        "commit": <Pause<'_> as Edit>::commit(made),
        "pushed": pushed,
    }));
}

fn sentence(pause: &Pause<'_>, made: &Paused) -> String {
    let Pause { app, environment, .. } = pause;
    let commit = <Pause<'_> as Edit>::commit(made).map(|commit| format!(", commit {}", short(commit)));
    let commit = commit.unwrap_or_default();
    match (made, pause.to) {
        (Paused::Already(Some(_)), _) => {
            format!("{app} in {environment} is suspended so already; nothing was written.")
        }
        (Paused::Already(None), _) => {
            format!("{app} in {environment} is not suspended in the state; nothing was written.")
        }
        (Paused::Written(_), Some(suspend)) => {
            let until =
                suspend.until.map_or_else(|| "it is resumed".to_owned(), |until| format!("{until:.0}"));
            format!("{app} in {environment}: suspended until {until}{commit}")
        }
        (Paused::Written(_), None) => format!("{app} in {environment}: resumed{commit}"),
    }
}
