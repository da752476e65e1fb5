//! `--wait` where no agent works: every host that reports, followed by what it leaves in the store.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use landfall_store::{ArtifactId, Name, Store};
use serde_json::{Value, json};

use super::context::{Context, store_error};
use super::error::CliError;
use super::exit::Exit;
use super::report::{Report, Tone, span};
use super::verdict;
use super::wait::Waited;
use crate::fleet::{FleetFollow, Verdict};
use crate::record::history::Outcome;

/// Between two looks at the store: it tells nobody of changes.
const PAUSE: Duration = Duration::from_secs(2);

/// Begins to look, before the state is changed.
pub fn begin<'a>(
    store: &'a Store,
    app: &'a Name,
    environment: &'a Name,
    context: &Context,
) -> Result<FleetFollow<'a>, CliError> {
    let follow = FleetFollow::begin(store, app, environment, Timestamp::now()).map_err(store_error)?;
    let follow = follow.ok_or_else(|| {
        let what = format!("no host in `{environment}` reports to the store {}", store.location());
        CliError::new(Exit::NoAgent, "NoReports", what).hint("`[report] to = \"store\"` in each host.toml")
    })?;
    let hosts: Vec<&str> = follow.pending().map(Name::as_str).collect();
    context
        .report
        .say(format!("no agent works here: following {}, which report to the store.", hosts.join(", ")));
    for host in &follow.silent {
        context.report.say(format!("{host} does not report by itself any more, and is not waited for."));
    }
    Ok(follow)
}

/// Waits until every host that reports has come to its verdict, and tells of each.
pub fn wait(
    mut follow: FleetFollow<'_>,
    artifact: &ArtifactId,
    limit: Duration,
    pushed: bool,
    report: Report,
) -> Result<Waited, CliError> {
    let deadline = Instant::now() + limit;
    let mut verdicts: Vec<(Name, Verdict)> = Vec::new();
    loop {
        for (host, verdict) in follow.look(artifact).map_err(store_error)? {
            tell(&host, &verdict, report);
            verdicts.push((host, verdict));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if follow.pending().next().is_none() || left.is_zero() {
            break;
        }
        std::thread::sleep(PAUSE.min(left));
    }
    let document =
        json!({ "hosts": verdicts.iter().map(|(host, verdict)| item(host, verdict)).collect::<Vec<_>>() });
    let worst = verdicts.iter().map(|(_, verdict)| code_of(verdict)).max_by_key(|exit| exit.code());
    let worst = worst.unwrap_or(Exit::Done);
    let late: Vec<&str> = follow.pending().map(Name::as_str).collect();
    if late.is_empty() || worst != Exit::Done {
        return Ok(Waited { exit: worst, document });
    }
    let what = format!("no verdict of {} within {limit:?}; they go on", late.join(", "));
    let hint = match pushed {
        true => "`landfall status --fleet` shows what they do",
        false => "do they read this state? `--push` pushes it; `landfall status --fleet` shows what they do",
    };
    Err(CliError::new(Exit::TimedOut, "TimedOut", what).hint(hint))
}

fn code_of(verdict: &Verdict) -> Exit {
    match verdict {
        Verdict::Attempt(entry) => verdict::code_of(entry),
        Verdict::InSync => Exit::Done,
        Verdict::Quarantined => Exit::Refused,
        Verdict::Held(_) => Exit::Suspended,
    }
}

fn item(host: &Name, verdict: &Verdict) -> Value {
    match verdict {
        Verdict::Attempt(entry) => json!({ "host": host, "result": entry.result, "entry": entry }),
        Verdict::InSync => json!({ "host": host, "result": "InSync" }),
        Verdict::Quarantined => json!({ "host": host, "result": "Quarantined" }),
        Verdict::Held(why) => json!({ "host": host, "result": "Held", "why": why }),
    }
}

fn tell(host: &Name, verdict: &Verdict, report: Report) {
    let said = match verdict {
        Verdict::Attempt(entry) => {
            let tone = match entry.result {
                Outcome::Healthy | Outcome::Adopted | Outcome::Removed => Tone::Good,
                Outcome::Superseded | Outcome::Interrupted | Outcome::Unverified => Tone::Changing,
                Outcome::Reverted | Outcome::Failed | Outcome::Refused => Tone::Bad,
            };
            let result = report.tone_err(&entry.result.to_string(), tone);
            let why = entry.failure.as_ref().map(|failure| format!(": {}", failure.message));
            format!(
                "{result} in {} (attempt {}){}",
                span(entry.took_ms),
                entry.attempt,
                why.unwrap_or_default()
            )
        }
        Verdict::InSync => "runs it already".to_owned(),
        Verdict::Quarantined => "failed with it before, and does not try it again".to_owned(),
        Verdict::Held(why) => format!("does nothing now: {why}"),
    };
    report.say(format!("  {host}  {said}"));
}
