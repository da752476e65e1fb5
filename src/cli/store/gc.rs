//! `landfall store gc`: what of a store nothing needs any more is condemned, and removed by a later run.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::Args;
use jiff::Timestamp;
use landfall_store::sweep::{self, Collected, Facts, Policy, Reason, Request, SweepPlan, totals};
use landfall_store::{ArtifactId, Store};
use schemars::JsonSchema;
use serde::Serialize;

use crate::cli::Outcome;
use crate::cli::context::{Context, store_error};
use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::cli::progress::Progress;
use crate::cli::report::{Report, bytes, columns};
use crate::document::units;
use crate::roots::{self, Roots, RootsError, Window};

/// Remove from the store what nothing needs any more, in two runs at least three days apart.
///
/// Kept is what the state names: now, in the last --keep-versions artifacts of each app and environment, and
/// in every commit of the last --keep, on all branches. So are the last --keep-versions versions of each app and
/// all that were pushed within --keep, and everything younger than --grace. Of the rest, a run condemns what
/// is not condemned yet (nothing is deleted), and removes what an earlier run condemned at least --grace ago, if
/// nothing needs it now. Ages are judged by the store's own clock.
///
/// Pushes may run beside it: while somebody writes, nothing is removed, and a push waits while objects are
/// removed. A state, history, version or artifact that cannot be read stops it with nothing removed.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit code: 0 done, 2 no state given, 5 the state's history cannot be read, 6 the store cannot be read, 12 a
collection is removing objects now.

Examples:
  landfall store gc --dry-run --state ../state        what would be condemned and removed
  landfall store gc --state ../state                  once a day, from a timer
  landfall store gc --state ../state --repack         and pack anew what is mostly waste")]
pub struct Gc {
    /// Say what would be condemned and removed, and change nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Of each app, this many of the newest versions stay, and of each app and environment as many artifacts
    /// that the state asked for last.
    #[arg(long, value_name = "N", default_value_t = 30)]
    pub keep_versions: usize,
    /// Whatever was pushed or asked for within this time stays.
    #[arg(long, value_name = "TIME", default_value = "90d", value_parser = time)]
    pub keep: Duration,
    /// What is younger is never condemned, and what is condemned stays for this long. Less than the longest push
    /// takes only if nobody pushes.
    #[arg(long, value_name = "TIME", default_value = "72h", value_parser = time)]
    pub grace: Duration,
    /// Another state that hosts of this store follow: a file, or a repository with a deploy-state.json.
    #[arg(long, value_name = "PATH")]
    pub also_state: Vec<PathBuf>,
    /// There is no state: the versions in the store alone say what stays.
    #[arg(long, conflicts_with = "also_state")]
    pub no_state: bool,
    /// Pack anew what is needed of packs that are mostly waste.
    #[arg(long)]
    pub repack: bool,
}

/// `90d`, or a duration as in every other place.
fn time(text: &str) -> Result<Duration, String> {
    const DAYS_MAX: u64 = 36_500;
    let days = text.strip_suffix('d').and_then(|days| days.parse::<u64>().ok());
    match days {
        Some(days) if days <= DAYS_MAX => Ok(Duration::from_secs(days * 24 * 3600)),
        Some(_) => Err(format!("`{text}` is too long; at most {DAYS_MAX}d")),
        None => {
            units::duration(text).map(|span| Duration::from_millis(span.0)).map_err(|error| error.to_string())
        }
    }
}

/// What became, or would become, of one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
enum Fate {
    /// Removed, or in a dry run: would be.
    Remove,
    /// Condemned by this run, or in a dry run: would be.
    Condemn,
    /// Condemned by an earlier run, not long enough ago.
    Wait,
}

/// One object that nothing needs.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "StoreGarbage")]
pub struct Item {
    fate: Fate,
    kind: &'static str,
    key: String,
    bytes: u64,
    /// Why nothing needs it.
    reason: String,
    /// Whether it was done: false in a dry run, and while somebody writes into the store.
    done: bool,
}

/// Runs the command.
pub fn run(args: &Gc, context: &Context) -> Outcome {
    // Mirrors are no part of it: what they have, the store may lack.
    let address = context.store()?;
    let address = landfall_store::location::StoreAddress { mirrors: Vec::new(), ..address };
    let store = address.open().map_err(store_error)?;
    let policy = Policy { versions: args.keep_versions, age: args.keep, grace: args.grace };
    let roots = roots(args, context, &store)?;
    let mut request = Request::new(&roots.artifacts);
    request.policy = policy;
    request.repack = args.repack;
    let progress = Progress::new(&context.report);
    progress.step("looking through the store");
    if args.dry_run {
        let (facts, plan) = sweep::preview(&store, &request).map_err(store_error)?;
        drop(progress);
        let items = items(&plan, |_| false);
        context.report.items("StoreGcList", &items, |report| {
            details(report, &items);
            summary(report, &facts, &plan, Told::DRY);
        });
        return Ok(Exit::Done);
    }
    let collected = sweep::collect(&store, &request).map_err(store_error)?;
    drop(progress);
    let Collected { facts, plan, writer, repacked } = &collected;
    let items = items(plan, |fate| match fate {
        Fate::Remove => writer.is_none(),
        Fate::Condemn => true,
        Fate::Wait => false,
    });
    context.report.items("StoreGcList", &items, |report| {
        if repacked.packs > 0 {
            let what = format!("{} packs, {} written", repacked.packs, bytes(repacked.bytes));
            report.line(format!("packed anew: {what}"));
        }
        summary(report, facts, plan, Told { removed: writer.is_none(), condemned: true });
    });
    if let Some(writer) = writer {
        let left = writer.until.duration_since(facts.now).unwrap_or_default().as_secs();
        context.report.say(format!(
            "nothing was removed: somebody writes into the store ({}, {}; its lease ends within {left} s); the \
             next run removes it",
            writer.kind, writer.key
        ));
    }
    Ok(Exit::Done)
}

/// What the states name; said, so that nobody collects without one by mistake.
fn roots(args: &Gc, context: &Context, store: &Store) -> Result<Roots, CliError> {
    if args.no_state {
        return Ok(Roots::default());
    }
    let now = store.now().map_err(store_error)?;
    let since =
        now.checked_sub(args.keep).and_then(|since| since.duration_since(SystemTime::UNIX_EPOCH).ok());
    let window = Window { versions: args.keep_versions, since: since.unwrap_or_default().as_secs() };
    let mut all = Roots { has_past: true, ..Roots::default() };
    for path in std::iter::once(context.state_file()?).chain(args.also_state.iter().cloned()) {
        let found = roots::of_state(&path, &window).map_err(roots_error)?;
        if !found.has_past {
            context.report.say(format!(
                "{}: in no git repository, so only what it names now is kept by it",
                path.display()
            ));
        }
        all.commits += found.commits;
        let mut artifacts: BTreeMap<ArtifactId, String> = found.artifacts;
        all.artifacts.append(&mut artifacts);
    }
    Ok(all)
}

fn roots_error(error: RootsError) -> CliError {
    let (exit, reason, hint) = match &error {
        RootsError::Missing { .. } => {
            (Exit::Usage, "StateMissing", "give the state with --state; --no-state if there is none")
        }
        RootsError::Unreadable { .. } => (Exit::Source, "SourceUnreachable", "make it readable"),
        RootsError::Gap { .. } => {
            (Exit::Source, "SourceIncomplete", "clone it whole: `git fetch --unshallow`, or a new clone")
        }
        RootsError::NoGit { .. } | RootsError::Git { .. } | RootsError::Pipe { .. } => {
            (Exit::Source, "SourceUnreachable", "nothing was removed; `git log` in that directory must work")
        }
    };
    CliError::new(exit, reason, &error).hint(hint)
}

fn items(plan: &SweepPlan, done: impl Fn(Fate) -> bool) -> Vec<Item> {
    let fates = [(Fate::Remove, &plan.remove), (Fate::Condemn, &plan.condemn), (Fate::Wait, &plan.waiting)];
    let item = |fate, item: &sweep::Item| Item {
        fate,
        kind: item.family.label(),
        key: item.key.to_string(),
        bytes: item.bytes,
        reason: said(item.reason).to_owned(),
        done: done(fate),
    };
    fates.iter().flat_map(|(fate, found)| found.iter().map(|found| item(*fate, found))).collect()
}

const fn said(reason: Reason) -> &'static str {
    match reason {
        Reason::OldVersion => "outside the window",
        Reason::Unnamed => "nothing names it",
        Reason::OfNoArtifact => "its artifact goes",
        Reason::OfNoTree => "no artifact that stays has its tree",
        Reason::NotNeeded => "no tree that stays needs it",
        Reason::OfNoPack => "its pack goes",
    }
}

fn details(report: &Report, items: &[Item]) {
    let fate = |fate| match fate {
        Fate::Remove => "remove",
        Fate::Condemn => "condemn",
        Fate::Wait => "wait",
    };
    let row = |item: &Item| {
        let name = item.key.rsplit_once('/').map_or(item.key.as_str(), |(_, name)| name);
        let name = if item.kind == "version" { &item.key } else { name.get(..12).unwrap_or(name) };
        [fate(item.fate), item.kind, name, &bytes(item.bytes), &item.reason].map(str::to_owned).to_vec()
    };
    let head = ["", "KIND", "NAME", "SIZE", "WHY"].map(str::to_owned).to_vec();
    if !items.is_empty() {
        let rows: Vec<_> = std::iter::once(head).chain(items.iter().map(row)).collect();
        columns(&rows).iter().for_each(|line| report.line(line));
    }
}

/// What was done, of what was decided.
struct Told {
    removed: bool,
    condemned: bool,
}

impl Told {
    const DRY: Self = Self { removed: false, condemned: false };
}

fn summary(report: &Report, facts: &Facts, plan: &SweepPlan, done: Told) {
    let told = |items: &[sweep::Item]| {
        let size: u64 = items.iter().map(|item| item.bytes).sum();
        let kinds: Vec<String> = totals(items)
            .iter()
            .map(|(kind, count, _)| format!("{count} {}", plural(kind, *count)))
            .collect();
        if kinds.is_empty() { "nothing".to_owned() } else { format!("{}: {}", bytes(size), kinds.join(", ")) }
    };
    report.line(format!("{}: {}", if done.removed { "removed" } else { "would remove" }, told(&plan.remove)));
    report.line(format!(
        "{}: {}",
        if done.condemned { "condemned" } else { "would condemn" },
        told(&plan.condemn)
    ));
    if !plan.waiting.is_empty() {
        let at = plan.ripe_at.and_then(|at| Timestamp::try_from(at).ok());
        let at = at.map(|at| format!(", to be removed from {at:.0} on")).unwrap_or_default();
        report.line(format!("condemned before: {}{at}", told(&plan.waiting)));
    }
    report.line(format!(
        "kept: {}, {} objects, for {} artifacts",
        bytes(plan.kept_bytes),
        plan.kept,
        facts.artifacts.len()
    ));
    if facts.absent > 0 {
        report.say(format!("{} artifacts that the state names are not in this store", facts.absent));
    }
    if facts.lost > 0 {
        report.say(format!(
            "{} contents are in no pack: `landfall store verify` says who needs them",
            facts.lost
        ));
    }
    for pack in &facts.unreadable {
        report.say(format!("{pack} stays: its directory cannot be read; `landfall store verify` says more"));
    }
}

fn plural(kind: &str, count: u64) -> String {
    match (kind, count) {
        ("hints" | "segments", _) | (_, 1) => kind.to_owned(),
        ("index", _) => "indexes".to_owned(),
        _ => format!("{kind}s"),
    }
}
