//! What `deploy` and `rollback` share: how the change is made, committed, pushed and told.

use std::path::{Path, PathBuf};

use clap::Args;
use landfall_store::{ArtifactId, Name, StoreError, Version};
use serde_json::{Value, json};

use super::Outcome;
use super::context::{Context, store_error};
use super::error::CliError;
use super::exit::Exit;
use super::report::Format;
use super::wait::{self, WaitArgs, Waited, Watched};
use super::wait_fleet;
use crate::commit::{
    self, Change, ChangeError, Changed, ChooseError, Chosen, Commit, Edit, FileError, Policy, PublishError,
    Verb,
};
use crate::state::{EditError, Suspend, Target};

/// How a change is made.
#[derive(Debug, Args)]
pub struct ChangeArgs {
    /// Why, for the state, the commit and every host's history.
    #[arg(short = 'm', long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Who [default: git's user.email, else user@host].
    #[arg(long, value_name = "WHO")]
    pub by: Option<String>,
    /// Whether it is committed, and pushed.
    #[command(flatten)]
    pub git: GitArgs,
}

/// What becomes of an edit of the state in git.
#[derive(Debug, Args)]
pub struct GitArgs {
    /// Edit the file and leave git alone.
    #[arg(long)]
    pub no_commit: bool,
    /// Push after the commit; without a commit nothing is changed.
    #[arg(long, conflicts_with = "no_commit")]
    pub push: bool,
}

/// What should run where.
pub struct Wish<'a> {
    pub app: &'a Name,
    pub environment: &'a Name,
    pub to: &'a Chosen,
    pub verb: Verb,
    /// The reason, where the person gave none.
    pub reason: Option<String>,
}

/// A change as it was made, for the summary.
struct Made {
    file: PathBuf,
    changed: Changed,
    pushed: bool,
}

/// The artifact that a person names.
pub fn named(app: &Name, environment: &Name, text: &str, context: &Context) -> Result<Chosen, CliError> {
    commit::spelling(text).map_err(choose_error)?;
    commit::choose(&context.open_store()?, app, environment, text).map_err(choose_error)
}

/// The whole command: change, tell, and wait if asked to.
pub fn run(wish: &Wish<'_>, args: &ChangeArgs, wait: &WaitArgs, context: &Context) -> Outcome {
    let artifact = &wish.to.artifact;
    match wait::watched(wait, wish.app, wish.environment, context)? {
        Watched::Nobody => {
            let made = make(wish, args, context)?;
            tell(&made, wish, None, context);
            Ok(Exit::Done)
        }
        Watched::Agent(host) => {
            let follow = wait::begin(&host, wish.app, wish.environment)?;
            let made = make(wish, args, context)?;
            let follow = || wait::wait(follow, &host, artifact, wait.timeout, context.report);
            see_through(&made, wish, follow, context)
        }
        Watched::Fleet(store) => {
            let fleet = wait_fleet::begin(&store, wish.app, wish.environment, context)?;
            let made = make(wish, args, context)?;
            refuse_in_vain(&made, wish)?;
            let follow = || wait_fleet::wait(fleet, artifact, wait.timeout, args.git.push, context.report);
            see_through(&made, wish, follow, context)
        }
    }
}

/// No host acts on what the state suspends.
fn refuse_in_vain(made: &Made, wish: &Wish<'_>) -> Result<(), CliError> {
    let Changed::Written(written) = &made.changed else { return Ok(()) };
    let lasts = |suspend: &&Suspend| suspend.until.is_none_or(|until| until > jiff::Timestamp::now());
    let Some(suspend) = written.suspended.as_ref().filter(lasts) else { return Ok(()) };
    let Suspend { reason, by, .. } = suspend;
    let what = format!(
        "the state suspends `{}` in `{}`: {reason} ({by}); the change is made, and no host acts on it",
        wish.app, wish.environment
    );
    let hint = format!("`landfall resume {} {}` ends it", wish.app, wish.environment);
    Err(CliError::new(Exit::Suspended, "Suspended", what).hint(hint))
}

/// Tells of the change, and of what came of it.
fn see_through(
    made: &Made,
    wish: &Wish<'_>,
    follow: impl FnOnce() -> Result<Waited, CliError>,
    context: &Context,
) -> Outcome {
    if context.report.format() == Format::Table {
        tell(made, wish, None, context);
        return follow().map(|waited| waited.exit);
    }
    let waited = follow();
    // What was changed is told in every case: a script needs the commit of a deploy that failed, too.
    let (exit, verdict) = match waited {
        Ok(waited) => (waited.exit, waited.document),
        Err(error) => (error.exit, error.to_json()),
    };
    tell(made, wish, Some(verdict), context);
    Ok(exit)
}

/// Edits, commits and pushes as asked.
fn make(wish: &Wish<'_>, args: &ChangeArgs, context: &Context) -> Result<Made, CliError> {
    let file = context.state_file()?;
    let by = args.by.clone().unwrap_or_else(|| commit::author(dir_of(&file)));
    let change = Change {
        file: &file,
        app: wish.app,
        environment: wish.environment,
        to: wish.to,
        reason: args.reason.as_deref().or(wish.reason.as_deref()),
        by: &by,
        verb: wish.verb,
        policy: args.git.policy(),
    };
    let changed = commit::change(&change).map_err(change_error)?;
    let made = Made { file: file.clone(), changed, pushed: false };
    tell_commit(&made, context);
    tell_hindrances(&made, wish, context);
    if args.git.push {
        let kept = kept(&made);
        let changed = commit::publish(&change, made.changed).map_err(|error| push_error(error, kept))?;
        context.report.say("pushed.");
        return Ok(Made { file, changed, pushed: true });
    }
    Ok(made)
}

/// The directory of a state file as it was typed.
pub fn dir_of(file: &Path) -> &Path {
    file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

impl GitArgs {
    /// The same as the edit is told.
    pub const fn policy(&self) -> Policy {
        match (self.no_commit, self.push) {
            (true, _) => Policy::Never,
            (false, true) => Policy::Must,
            (false, false) => Policy::IfClean,
        }
    }
}

fn tell_commit(made: &Made, context: &Context) {
    let Changed::Written(written) = &made.changed else { return };
    tell_uncommitted(&written.commit, &written.file, context);
}

/// Says why an edit is in no commit.
pub fn tell_uncommitted(commit: &Commit, file: &Path, context: &Context) {
    let Commit::None(why) = commit else { return };
    context.report.say(format!("{} edited, not committed: {why}", file.display()));
    if let Some(hint) = why.hint(file) {
        context.report.say(format!("hint: {hint}"));
    }
}

/// What will keep hosts from acting on the change.
fn tell_hindrances(made: &Made, wish: &Wish<'_>, context: &Context) {
    let Changed::Written(written) = &made.changed else { return };
    if let Some(suspend) = &written.suspended {
        let until = suspend.until.map_or_else(String::new, |until| format!(" until {until}"));
        let Suspend { reason, by, .. } = suspend;
        context.report.say(format!("suspended{until}: hosts apply nothing for now ({reason}, {by})."));
    }
    if !wish.to.env_for_others.is_empty() {
        let others: Vec<&str> = wish.to.env_for_others.iter().map(Name::as_str).collect();
        context.report.say(format!(
            "it carries env files for {} only: every host of {} needs its own (`env_dir` in host.toml).",
            others.join(", "),
            wish.environment
        ));
    }
}

/// Says what was changed: one line for people, one document for machines.
fn tell(made: &Made, wish: &Wish<'_>, verdict: Option<Value>, context: &Context) {
    if context.report.format() == Format::Table {
        context.report.line(sentence(made, wish));
    } else {
        context.report.json(&document(made, wish, verdict));
    }
}

fn sentence(made: &Made, wish: &Wish<'_>) -> String {
    let Wish { app, environment, .. } = wish;
    match &made.changed {
        Changed::Already(target) => {
            format!("{app} in {environment} should run {} already; nothing was written.", name(target))
        }
        Changed::Written(written) => {
            let from = written.from.as_ref().map_or_else(|| "nothing".to_owned(), name);
            let commit = match &written.commit {
                Commit::Made(commit) => format!(", commit {}", short(commit)),
                Commit::None(_) => String::new(),
            };
            format!("{app} in {environment}: {from} → {}{commit}", name(&written.to))
        }
    }
}

/// A commit as people read it.
pub fn short(commit: &str) -> &str {
    &commit[..commit.len().min(12)]
}

/// `1.4.0 (4f1c0b7e93a8)`, or the digits alone.
fn name(target: &Target) -> String {
    called(target.version.as_ref(), &target.artifact)
}

/// The same for an artifact and its version.
pub fn called(version: Option<&Version>, artifact: &ArtifactId) -> String {
    version.map_or_else(|| artifact.short(), |version| format!("{version} ({})", artifact.short()))
}

/// The change in JSON.
fn document(made: &Made, wish: &Wish<'_>, verdict: Option<Value>) -> Value {
    let (from, to, commit, not_committed) = match &made.changed {
        Changed::Already(target) => (Some(target), target, None, None),
        Changed::Written(written) => match &written.commit {
            Commit::Made(id) => (written.from.as_ref(), &written.to, Some(id), None),
            Commit::None(why) => (written.from.as_ref(), &written.to, None, Some(why.to_string())),
        },
    };
    json!({
        "apiVersion": super::report::API_VERSION,
        "kind": match wish.verb {
            Verb::Deploy => "Deploy",
            Verb::RollBack => "Rollback",
            Verb::Promote => "Promote",
        },
        "app": wish.app,
        "environment": wish.environment,
        "file": made.file,
        "from": from,
        "to": to,
        "changed": matches!(made.changed, Changed::Written(_)),
        "commit": commit,
        "not_committed": not_committed,
        "pushed": made.pushed,
        "verdict": verdict,
    })
}

/// How a choice that failed is told.
fn choose_error(error: ChooseError) -> CliError {
    let hint = error.hint();
    let cli = match error {
        ChooseError::NotAnId { .. } => CliError::new(Exit::Usage, "NotAnArtifactId", &error),
        ChooseError::WrongApp { .. } => CliError::new(Exit::Invalid, "WrongApp", &error),
        ChooseError::WrongEnvironment { .. } => CliError::new(Exit::Invalid, "WrongEnvironment", &error),
        ChooseError::Store(StoreError::UnknownArtifact { .. }) => {
            CliError::new(Exit::NotFound, "ArtifactUnknown", &error)
        }
        ChooseError::Store(StoreError::Ambiguous { .. }) => {
            CliError::new(Exit::NotFound, "ArtifactAmbiguous", &error)
        }
        ChooseError::Store(error) => store_error(error),
    };
    CliError { hint: hint.or(cli.hint.clone()), ..cli }
}

/// How a change that was not made is told.
pub fn change_error(error: ChangeError) -> CliError {
    let (exit, reason) = match &error {
        ChangeError::File(FileError::NoDirectory { .. }) => (Exit::NotFound, "NoDirectory"),
        ChangeError::File(FileError::Busy { .. }) => (Exit::Conflict, "Busy"),
        ChangeError::File(FileError::NotUtf8 { .. }) => (Exit::Invalid, "StateInvalid"),
        ChangeError::File(FileError::Io { .. }) => (Exit::Error, "IoError"),
        ChangeError::State(error) => return super::state::state_error(error),
        ChangeError::Edit(EditError::Unknown(error)) => return super::state::resolve_error(error),
        ChangeError::Edit(_) => (Exit::Invalid, "StateInvalid"),
        ChangeError::Blocked { .. } => (Exit::Refused, "Blocked"),
        ChangeError::CannotCommit { .. } => (Exit::Conflict, "CannotCommit"),
        ChangeError::NotCommitted { .. } => (Exit::Error, "CommitFailed"),
    };
    let cli = CliError::new(exit, reason, &error);
    CliError { hint: error.hint(), ..cli }
}

/// What is left here if the push fails.
fn kept(made: &Made) -> Option<String> {
    <Change<'_> as Edit>::commit(&made.changed).map(|commit| short(commit).to_owned())
}

/// How a push that did not come about is told; `kept`: the commit that stays here.
pub fn push_error(error: PublishError, kept: Option<String>) -> CliError {
    let stays = kept.map_or_else(String::new, |commit| format!("commit {commit} stays here; "));
    match error {
        PublishError::SameEntry { .. } => CliError::new(Exit::Conflict, "SameEntryChanged", &error)
            .hint("`git pull`, look at what they chose, then decide again"),
        PublishError::Busy => CliError::new(Exit::Conflict, "Busy", &error)
            .hint(format!("{stays}`git pull --rebase` and `git push`")),
        PublishError::Rebase(_) => CliError::new(Exit::Conflict, "RebaseFailed", &error)
            .hint(format!("{stays}`git pull --rebase` by hand, then `git push`")),
        PublishError::Git(_) => CliError::new(Exit::Source, "PushFailed", &error)
            .hint(format!("{stays}once git can push, the same command again pushes it")),
        PublishError::Change(error) => change_error(error),
    }
}
