//! The answer for people: what should run, what runs, is it well, and if not why and what to type next.

use jiff::Timestamp;
use landfall_store::{ArtifactId, Version};

use super::advice::{self, About};
use super::cause::Cause;
use super::{Health, SourceView, View};
use crate::desired::Place;
use crate::record::content::Content;
use crate::record::history::Entry;
use crate::record::journal::{Drift, Failure, Journal, Stage};
use crate::record::release::ReleaseRef;

/// The sentence, and what to type next where there is something to do.
pub(super) fn sentence(view: &View, cause: &Cause, health: Health) -> (String, Option<String>) {
    let (message, next) = of_cause(view, cause, health);
    match &view.source {
        // Where it is not the reason itself, it still is why nothing new comes.
        SourceView::Unreachable(wrong) if !matches!(cause, Cause::SourceUnreachable(_)) => {
            let why = &wrong.message;
            (format!("{message}; the state cannot be read now, so the last accepted one counts: {why}"), next)
        }
        SourceView::Refused(wrong) if !matches!(cause, Cause::StateRefused(_)) => {
            let why = &wrong.message;
            (format!("{message}; the newest state is refused, so the last accepted one counts: {why}"), next)
        }
        SourceView::Invalid(why) if !matches!(cause, Cause::StateInvalid(_)) => {
            (format!("{message}; the state is invalid now, so the last accepted one counts: {why}"), next)
        }
        SourceView::Ready
        | SourceView::Unknown
        | SourceView::Stale(_)
        | SourceView::Refused(_)
        | SourceView::Unreachable(_)
        | SourceView::Invalid(_) => (message, next),
    }
}

fn of_cause(view: &View, cause: &Cause, health: Health) -> (String, Option<String>) {
    let (app, environment) = (&view.app, &view.environment);
    let told = |message: String, next: String| (message, Some(next));
    match cause {
        Cause::Fine { env_changed: false } if health == Health::Healthy => (runs(view), None),
        Cause::Fine { env_changed: false } => told(runs(view), format!("`landfall logs {app}`")),
        Cause::Fine { env_changed: true } => told(
            format!("{}; an env file was edited since, and it still has the old values", runs(view)),
            format!("`landfall env {app}` names the changed keys; the next deploy takes them"),
        ),
        Cause::ContentChanged(content) => told(
            format!("{}; files of its release are not as they were prepared: {content}", runs(view)),
            mend(view, content),
        ),
        Cause::Attempt(journal) => (attempt(view, journal), None),
        Cause::CutShort(journal) => told(
            format!(
                "attempt {} of {} was cut short while {}; {}",
                journal.attempt,
                aim(view, journal),
                journal.stage,
                runs(view)
            ),
            "`landfall watch` finishes it".to_owned(),
        ),
        Cause::Suspended(why) => told(
            format!("suspended: {why}; {}, and nothing is applied or healed", runs(view)),
            match why.place {
                Place::State => format!("take `suspend` of `{app}` out of the state to go on"),
                Place::Host => format!("`landfall resume {app}` lets it go on"),
            },
        ),
        Cause::Pinned(pin) => told(
            format!("pinned on this host to {pin}; {}, and {} waits", runs(view), wanted(view)),
            format!("`landfall unpin {app}` lets the state count again"),
        ),
        Cause::NotInState => told(
            format!("the state does not name `{app}` in `{environment}`; {}", runs(view)),
            format!("`landfall deploy {app} {environment} <version>` names an artifact"),
        ),
        Cause::StateInvalid(why) => told(
            format!("the state is invalid, and the last accepted one stays in force: {why}; {}", runs(view)),
            "`landfall state lint` shows every problem".to_owned(),
        ),
        Cause::StateRefused(wrong) => told(
            format!(
                "the state is refused, and the last accepted one stays in force: {}; {}",
                wrong.message,
                runs(view)
            ),
            wrong.hint.clone(),
        ),
        Cause::SourceSilent(since) => told(
            format!("{}; the state's repository has not answered since {since:.0}", runs(view)),
            match view.agent {
                true => "`landfall doctor` says whether it can be reached".to_owned(),
                false => "no agent is running: `landfall watch`".to_owned(),
            },
        ),
        Cause::StateStale(end) => told(
            format!("{}; the state is stale: it says that it is good until {end}", runs(view)),
            "find out why nobody renews it; nothing stops for it".to_owned(),
        ),
        Cause::SourceUnreachable(wrong) => told(
            format!(
                "the state cannot be read, and the last accepted one stays in force: {}; {}",
                wrong.message,
                runs(view)
            ),
            wrong.hint.clone(),
        ),
        Cause::Blocked(reason) => told(
            format!("the state blocks {}: {reason}; {}", wanted(view), runs(view)),
            format!("`landfall deploy {app} {environment} <version>` names another"),
        ),
        Cause::Quarantined { attempt, release, failure } => told(
            format!(
                "{} failed here in attempt {attempt}: {}; {}",
                named(release),
                failure.message,
                runs(view)
            ),
            quarantined(view, failure, release.artifact),
        ),
        Cause::CurrentBroken(why) => told(
            format!("`current` is not as landfall left it, so nothing is touched: {why}"),
            put_back(view),
        ),
        Cause::WillNotRun(release) => told(
            format!("{} stopped and does not come back; landfall has stopped trying", named(release)),
            format!(
                "`landfall logs {app}` shows its last words; then `landfall retry {app}`, or deploy another version"
            ),
        ),
        Cause::Interrupted(held) => told(
            format!(
                "the agent died twice in a row while it was {} {}, the last time in attempt {}; landfall has stopped trying; {}",
                held.stage,
                wanted(view),
                held.attempt,
                runs(view)
            ),
            format!(
                "find out what ended it (out of memory?), then `landfall retry {app}` or deploy another version"
            ),
        ),
        Cause::Drifted(_, Drift::ProcessMissing) => told(missing(view), started_again(view)),
        Cause::Drifted(release, heals) => told(
            format!("{} is what landfall left here, and {heals}; {}", named(release), runs(view)),
            is_put_right(view),
        ),
        Cause::Failed(entry) => told(failed(view, entry), again(view, entry)),
        Cause::Leaving(release) => {
            told(format!("{} is to be removed from this host; {}", named(release), runs(view)), leaves(view))
        }
        Cause::Removed => {
            (format!("removed, as the state asks; its data is kept in {}", view.data.display()), None)
        }
        Cause::NoRoom(dir) => told(
            format!(
                "{} is full: landfall cannot write down what it would do, so it does nothing; {}",
                dir.display(),
                runs(view)
            ),
            "make room: `landfall doctor` says where; the agent goes on by itself".to_owned(),
        ),
        Cause::Pending => {
            told(format!("{} is wanted and not in service; {}", wanted(view), runs(view)), comes(view))
        }
    }
}

/// `2.14.0 (7f3a9c2e51d0)`.
fn named(release: &ReleaseRef) -> String {
    name(Some(&release.version), &release.artifact)
}

fn name(version: Option<&Version>, artifact: &ArtifactId) -> String {
    match version {
        Some(version) => format!("{version} ({})", artifact.short()),
        None => format!("artifact {}", artifact.short()),
    }
}

fn wanted(view: &View) -> String {
    match view.wanted.target() {
        Some(target) => name(view.wanted_version.as_ref(), &target.artifact),
        None => "nothing".to_owned(),
    }
}

fn aim(view: &View, journal: &Journal) -> String {
    let version = journal.to.as_ref().map(|release| &release.version).or(journal.target.version.as_ref());
    let same = view.wanted.target().is_some_and(|target| target.artifact == journal.target.artifact);
    let known = if same { view.wanted_version.as_ref() } else { None };
    name(version.or(known), &journal.target.artifact)
}

/// What runs, and how it is.
fn runs(view: &View) -> String {
    let proved =
        view.facts.current.release().is_some_and(|current| view.facts.healthy.first() == Some(current));
    match &view.serving.release {
        None => "nothing runs".to_owned(),
        Some(release) if !view.facts.running.is_whole() => format!("{} runs in part", named(release)),
        Some(release) if proved && view.facts.current.release() == Some(release) => {
            format!("{} runs and is healthy", named(release))
        }
        Some(release) => format!("{} runs", named(release)),
    }
}

fn attempt(view: &View, journal: &Journal) -> String {
    let what = format!("attempt {} of {} is {}", journal.attempt, aim(view, journal), journal.stage);
    match journal.stage {
        Stage::Reverting => {
            let to = journal.healthy.as_ref().map_or_else(|| "nothing".to_owned(), named);
            let why = journal.failure.as_ref().map_or("it failed", |failure| &failure.message);
            format!("{what} to {to}: {why}")
        }
        stage if stage < Stage::Switching => {
            format!("{what}{}; {} meanwhile", waiting(view, journal), runs(view))
        }
        _ => format!("{what}{}", waiting(view, journal)),
    }
}

/// A pause inside the attempt, and what it waits for.
fn waiting(view: &View, journal: &Journal) -> String {
    let Some(waiting) = &journal.waiting else { return String::new() };
    let at = when(waiting.until, view.now);
    format!(" and waits after try {}, the next is {at}: {}", waiting.tried, waiting.failure.message)
}

fn quarantined(view: &View, failure: &Failure, artifact: ArtifactId) -> String {
    let (app, environment) = (&view.app, &view.environment);
    let advice = advice::after(failure, &About { app, environment, artifact });
    match view.facts.healthy.is_empty() {
        true => format!("{advice}; deploy a fixed version"),
        false => format!("{advice}; deploy a fixed version, or `landfall rollback {app} {environment}`"),
    }
}

fn put_back(view: &View) -> String {
    match view.facts.healthy.first() {
        Some(healthy) => format!("make `current` a link to releases/{} again", healthy.name),
        None => "remove `current`: nothing was ever healthy here".to_owned(),
    }
}

fn missing(view: &View) -> String {
    let linked = view.facts.current.release().map_or_else(|| "it".to_owned(), named);
    let serving = &view.serving;
    match serving.pids.len() {
        0 => format!("{linked} should run and does not"),
        count => format!("only {count} of {} processes of {linked} run", serving.expected),
    }
}

fn mend(view: &View, content: &Content) -> String {
    let app = &view.app;
    match content.wrong {
        0 => format!(
            "`landfall verify {app}` names them; list what the app writes under [paths] writable or shared"
        ),
        _ => format!("`landfall verify {app} --repair` mends them; so does the next deploy"),
    }
}

fn is_put_right(view: &View) -> String {
    match view.agent {
        true => format!("the agent puts it right; `landfall history {}` shows how that ended", view.app),
        false => "`landfall watch` puts it right".to_owned(),
    }
}

fn started_again(view: &View) -> String {
    let logs = format!("`landfall logs {}` shows its last words", view.app);
    if view.agent {
        format!("the agent starts it again; {logs}")
    } else {
        format!("`landfall watch` starts it again; {logs}")
    }
}

fn failed(view: &View, entry: &Entry) -> String {
    let version = entry.release.as_ref().map(|release| &release.version).or(entry.target.version.as_ref());
    let what = name(version.or(view.wanted_version.as_ref()), &entry.target.artifact);
    let why = entry.failure.as_ref().map_or("no reason was recorded", |failure| &failure.message);
    format!("attempt {} of {what} failed while {}: {why}; {}", entry.attempt, entry.stage, runs(view))
}

fn again(view: &View, entry: &Entry) -> String {
    let about = About { app: &view.app, environment: &view.environment, artifact: entry.target.artifact };
    let Some(failure) = &entry.failure else { return format!("`landfall describe {}`", view.app) };
    let advice = advice::after(failure, &about);
    match (view.agent, entry.next_try()) {
        (true, Some(at)) => format!("{advice}; the agent tries again {}", when(at, view.now)),
        (false, Some(_)) => format!("{advice}; `landfall watch` tries again"),
        (_, None) => advice,
    }
}

/// `in 9m`, or at once.
fn when(at: Timestamp, now: Timestamp) -> String {
    match at.duration_since(now).as_secs() {
        ..=0 => "in a moment".to_owned(),
        seconds @ ..=90 => format!("in {seconds}s"),
        seconds => format!("in {}m", (seconds + 59) / 60),
    }
}

fn leaves(view: &View) -> String {
    if view.agent {
        "the agent stops it in a moment".to_owned()
    } else {
        "`landfall watch` stops and removes it".to_owned()
    }
}

fn comes(view: &View) -> String {
    if view.agent {
        "the agent takes it up in a moment".to_owned()
    } else {
        "`landfall watch` brings it into service".to_owned()
    }
}
