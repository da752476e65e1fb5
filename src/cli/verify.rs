//! `landfall verify`: are the releases on this host what they were prepared as?

use clap::Args;
use landfall_store::verify::{Depth, Report as Found};
use landfall_store::{ArtifactId, Name, Version};
use schemars::JsonSchema;
use serde::Serialize;

use super::Outcome;
use super::context::{Context, host_error};
use super::error::CliError;
use super::exit::Exit;
use super::look::Looking;
use super::report::{Report, Tone, columns};
use super::text::{WIDTH, wrap};
use crate::disk::RealDisk;
use crate::record::journal::Failure;
use crate::record::release::Progress;
use crate::release::{Checkable, is_intact};
use crate::switch;
use crate::watch::Site;

/// Compare the releases on this host with what they were prepared as.
///
/// Fast by default: names, kinds, modes, sizes and modification times, which landfall derives from the content.
/// `--deep` reads and hashes every byte. Env files, `writable` and `shared` paths are the app's own and left
/// out; files beside the release's own are reported and never removed.
///
/// Exits with 0 if every release is whole, else with 6.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  landfall verify                  every release of every app, quickly
  landfall verify web --deep       read every byte of every release of one app
  landfall verify web --repair     mend from the host's cache; needs the agent stopped")]
pub struct VerifyArgs {
    /// One app [default: every app of this host].
    pub app: Option<Name>,
    /// Read and hash every byte.
    #[arg(long)]
    pub deep: bool,
    /// Mend what is damaged from the host's cache, in every release that holds the same content.
    #[arg(long)]
    pub repair: bool,
    /// The environment, where host.toml does not say.
    #[arg(long, value_name = "ENV")]
    pub env: Option<Name>,
}

/// What became of one release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
enum Verdict {
    /// It is what it was prepared as.
    Whole,
    /// It was not, and is again.
    Repaired,
    /// It is not.
    Damaged,
    /// It was never prepared to the end, and nothing runs it.
    Unfinished,
}

/// A path that is not as it was prepared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
struct Wrong {
    path: String,
    fault: String,
}

/// What is said of one release.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "Verified")]
pub struct Item {
    app: Name,
    environment: Name,
    release: String,
    artifact: Option<ArtifactId>,
    version: Option<Version>,
    current: bool,
    result: Verdict,
    checked: u64,
    wrong: Vec<Wrong>,
    extra: Vec<String>,
    message: Option<String>,
}

/// Runs the command.
pub fn run(args: &VerifyArgs, context: &Context) -> Outcome {
    let looking = Looking::new(context, args.env.as_ref())?;
    // Held to the end: nobody prepares, switches or sweeps while files are replaced.
    let _lock = args.repair.then(|| looking.shared.host.lock()).transpose().map_err(host_error)?;
    let chosen = looking.chosen(args.app.as_ref())?;
    let sites = sites(&looking)?;
    let depth = if args.deep { Depth::Deep } else { Depth::Fast };
    let mut items = Vec::new();
    for site in sites.iter().filter(|site| chosen.contains(&site.service.app)) {
        items.extend(check_app(site, &sites, depth, args.repair)?);
    }
    context.report.items("VerifyList", &items, |report| show(report, &items, &looking));
    let whole = items.iter().all(|item| item.result != Verdict::Damaged);
    Ok(if whole { Exit::Done } else { Exit::Supply })
}

/// Every app of this host: a repair mends the same content wherever it stands.
fn sites(looking: &Looking) -> Result<Vec<Site>, CliError> {
    looking.apps()?.iter().map(|app| looking.site(app)).collect()
}

fn check_app(site: &Site, all: &[Site], depth: Depth, repair: bool) -> Result<Vec<Item>, CliError> {
    let current = switch::named(&RealDisk, &site.dir).unwrap_or_default();
    let names = site.supply().releases().map_err(host_failure)?;
    let check = |name: String| {
        let is_current = current.as_deref() == Some(name.as_str());
        check_release(site, all, Subject { name, is_current }, depth, repair)
    };
    Ok(names.into_iter().map(check).collect())
}

/// A release directory.
struct Subject {
    name: String,
    is_current: bool,
}

fn check_release(site: &Site, all: &[Site], subject: Subject, depth: Depth, repair: bool) -> Item {
    let unfinished =
        site.supply().record(&subject.name).is_ok_and(|record| record.progress != Progress::Prepared);
    if unfinished && !subject.is_current {
        let item =
            Item { message: Some("it was never prepared to the end".to_owned()), ..blank(site, subject) };
        return Item { result: Verdict::Unfinished, ..item };
    }
    let checked = site.supply().checkable(&subject.name).and_then(|release| {
        let found = release.compare(depth)?;
        Ok((release, found))
    });
    let (release, found) = match checked {
        Ok(checked) => checked,
        Err(failure) => return Item { message: Some(failure.message), ..blank(site, subject) },
    };
    let item = judged(blank(site, subject), &release, &found);
    match repair {
        false => item,
        true if item.result == Verdict::Whole => kept(site, item, &found),
        true => mended(site, all, item, &release, found, depth),
    }
}

/// The status is to know at once what the agent would only see at its next pass.
fn kept(site: &Site, item: Item, found: &Found) -> Item {
    match item.current.then(|| site.supply().keep(&item.release, found)) {
        Some(Err(failure)) => Item { message: Some(failure.message), ..item },
        Some(Ok(())) | None => item,
    }
}

fn blank(site: &Site, subject: Subject) -> Item {
    Item {
        app: site.service.app.clone(),
        environment: site.service.environment.clone(),
        release: subject.name,
        artifact: None,
        version: None,
        current: subject.is_current,
        result: Verdict::Damaged,
        checked: 0,
        wrong: Vec::new(),
        extra: Vec::new(),
        message: None,
    }
}

fn judged(item: Item, release: &Checkable, found: &Found) -> Item {
    let damaged = found
        .damaged
        .iter()
        .map(|damage| Wrong { path: damage.path.to_string(), fault: damage.fault.to_string() });
    let missing =
        found.missing.iter().map(|path| Wrong { path: path.to_string(), fault: "it is missing".to_owned() });
    Item {
        artifact: Some(release.record.release.artifact),
        version: Some(release.record.release.version.clone()),
        result: if is_intact(found) { Verdict::Whole } else { Verdict::Damaged },
        checked: found.checked,
        wrong: damaged.chain(missing).collect(),
        extra: found.extra.iter().map(|path| path.display().to_string()).collect(),
        ..item
    }
}

fn mended(site: &Site, all: &[Site], item: Item, release: &Checkable, found: Found, depth: Depth) -> Item {
    let others = others(all, release);
    let again = site.supply().mend(release, found, &others).and_then(|mended| {
        let again = release.compare(depth)?;
        Ok((mended, again))
    });
    match again {
        Ok((mended, again)) if is_intact(&again) => {
            let (paths, objects) = (mended.paths, mended.objects);
            let what = format!("{paths} paths made anew, {objects} contents of the cache healed");
            kept(site, Item { result: Verdict::Repaired, message: Some(what), ..item }, &again)
        }
        Ok((_, again)) => {
            let what = "the host's cache does not have the right content either; deploy the artifact again";
            Item { message: Some(what.to_owned()), ..judged(item, release, &again) }
        }
        Err(failure) => Item { message: Some(failure.message), ..item },
    }
}

/// Every other release that can be compared; one that cannot is reported when its turn comes.
fn others(all: &[Site], release: &Checkable) -> Vec<Checkable> {
    let of_site = |site: &Site| -> Vec<Checkable> {
        let names = site.supply().releases().unwrap_or_default();
        names.iter().filter_map(|name| site.supply().checkable(name).ok()).collect()
    };
    let mut others: Vec<Checkable> = all.iter().flat_map(of_site).collect();
    others.retain(|other| other.dir() != release.dir());
    others
}

fn host_failure(failure: Failure) -> CliError {
    CliError::new(Exit::Error, failure.reason, failure.message)
}

/// Wrong paths that are shown to people, for each release.
const SHOWN: usize = 10;

fn show(report: &Report, items: &[Item], looking: &Looking) {
    if items.is_empty() {
        return report.line("there is no release on this host");
    }
    let mark = |item: &Item| if item.current { "current" } else { "" };
    let row = |item: &Item| {
        vec![
            format!("{}/{}", item.app, item.environment),
            item.release.clone(),
            report.tone(&format!("{:?}", item.result), tone(item.result)),
            format!("{} paths", item.checked),
            mark(item).to_owned(),
        ]
    };
    let rows: Vec<Vec<String>> = items.iter().map(row).collect();
    for (line, item) in columns(&rows).into_iter().zip(items) {
        report.line(line);
        details(item).into_iter().for_each(|line| report.line(line));
    }
    if items.iter().any(|item| item.result == Verdict::Damaged) {
        let hint = match looking.has_agent() {
            true => "stop the agent, then `landfall verify --repair`: the app goes on meanwhile",
            false => "`landfall verify --repair` mends from the host's cache",
        };
        report.say(format!("next: {hint}"));
    }
}

fn details(item: &Item) -> Vec<String> {
    let mut lines: Vec<String> =
        item.wrong.iter().take(SHOWN).map(|wrong| format!("    {}: {}", wrong.path, wrong.fault)).collect();
    if item.wrong.len() > SHOWN {
        lines.push(format!("    and {} more", item.wrong.len() - SHOWN));
    }
    if let Some(first) = item.extra.first() {
        let what = format!(
            "{} files beside its own, the first {first}: list what the app writes under [paths] writable or shared",
            item.extra.len()
        );
        lines.extend(wrap(&what, "    ", WIDTH));
    }
    lines.extend(item.message.iter().flat_map(|message| wrap(message, "    ", WIDTH)));
    lines
}

const fn tone(verdict: Verdict) -> Tone {
    match verdict {
        Verdict::Whole => Tone::Good,
        Verdict::Repaired => Tone::Changing,
        Verdict::Unfinished => Tone::Quiet,
        Verdict::Damaged => Tone::Bad,
    }
}
