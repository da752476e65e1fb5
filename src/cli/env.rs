//! `landfall env`: which keys a release has, where each value came from, and what an edit would change.

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use landfall_store::{ArtifactId, Name};
use schemars::JsonSchema;
use serde::Serialize;

use super::Outcome;
use super::context::Context;
use super::error::CliError;
use super::exit::Exit;
use super::look::{Looking, record_error};
use super::report::{Report, Tone, columns};
use crate::disk::RealDisk;
use crate::env::key::OWN_PREFIX;
use crate::env::{Origin, ResolvedEnv};
use crate::record::journal::{Class, Failure};
use crate::switch;
use crate::watch::Site;

/// Show the environment of an app: names and origins, never values unless asked.
///
/// Shows what the running release was prepared with, and marks the keys that would be different if it were
/// prepared now, because a file or host.toml was edited since. Later origins win: clean base, the recipe's
/// `[env] set`, the base layer `.env.<env>`, the local layer `.env.<env>.local`, `[apps.<app>] env`, landfall.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  landfall env web                 names and origins
  landfall env web --reveal        with the values: mind who looks over your shoulder
  landfall env web -o json         for scripts")]
pub struct EnvArgs {
    /// The app.
    pub app: Name,
    /// Print the values, which are secrets.
    #[arg(long)]
    pub reveal: bool,
    /// The environment, where host.toml does not say.
    #[arg(long, value_name = "ENV")]
    pub env: Option<Name>,
}

/// How a key differs between the release and now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "EnvChange")]
#[serde(rename_all = "lowercase")]
enum Change {
    /// Another value.
    Changed,
    /// Not in the release.
    Added,
    /// No longer there.
    Removed,
}

/// One key. The values are there only where they were asked for.
#[derive(Serialize, PartialEq, Eq, JsonSchema)]
#[schemars(rename = "EnvKey")]
pub struct Item {
    key: String,
    origin: Option<String>,
    change: Option<Change>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    new_value: Option<String>,
}

/// Runs the command.
pub fn run(args: &EnvArgs, context: &Context) -> Outcome {
    let looking = Looking::new(context, args.env.as_ref())?;
    looking.chosen(Some(&args.app))?;
    let site = looking.site(&args.app)?;
    let seen = see(&looking, &site, &args.app)?;
    let mut items = compare(seen.running.as_ref(), seen.now.as_ref().ok());
    if !args.reveal {
        items.iter_mut().for_each(|item| (item.value, item.new_value) = (None, None));
    }
    context.report.items("EnvList", &items, |report| show(report, &items, &seen));
    Ok(Exit::Done)
}

/// The two environments.
struct Seen {
    what: String,
    running: Option<BTreeMap<String, String>>,
    now: Result<ResolvedEnv, Failure>,
}

fn see(looking: &Looking, site: &Site, app: &Name) -> Result<Seen, CliError> {
    let supply = site.supply();
    if let Some(name) = switch::named(&RealDisk, &site.dir).map_err(record_error)? {
        let record = supply.record(&name).map_err(failed)?;
        let running = supply.env_of_release(&name).map_err(failed)?;
        let now = supply.resolved(&record.release.artifact);
        return Ok(Seen { what: format!("release {name}"), running: Some(running), now });
    }
    let wanted = wanted(looking, app).ok_or_else(|| nothing(app))?;
    let now = supply.resolved(&wanted).map_err(failed)?;
    let what = format!("artifact {}, which is not in service", wanted.short());
    Ok(Seen { what, running: None, now: Ok(now) })
}

fn wanted(looking: &Looking, app: &Name) -> Option<ArtifactId> {
    looking.around(app).wanted.target().map(|target| target.artifact)
}

fn nothing(app: &Name) -> CliError {
    CliError::new(Exit::NotFound, "NotDeployed", format!("no release of `{app}` is in service here"))
        .hint(format!("`landfall status {app}` says why"))
}

fn failed(failure: Failure) -> CliError {
    let exit = match failure.class {
        Class::Supply => Exit::NotFound,
        Class::Refused => Exit::Invalid,
        _ => Exit::Error,
    };
    CliError::new(exit, failure.reason, failure.message)
}

/// Every key of either. landfall's own keys and the clean base differ between two commands on one host, so
/// they are never called changed.
fn compare(running: Option<&BTreeMap<String, String>>, now: Option<&ResolvedEnv>) -> Vec<Item> {
    let empty = BTreeMap::new();
    let running_keys = running.unwrap_or(&empty);
    let now_keys = now.map(|now| now.entries.keys()).into_iter().flatten();
    let keys: BTreeSet<&String> = running_keys.keys().chain(now_keys).collect();
    keys.into_iter().map(|key| item(key, running, now)).collect()
}

fn item(key: &str, running: Option<&BTreeMap<String, String>>, now: Option<&ResolvedEnv>) -> Item {
    let then = running.and_then(|running| running.get(key));
    let entry = now.and_then(|now| now.entries.get(key));
    let own = key.starts_with(OWN_PREFIX) || entry.is_some_and(|entry| entry.origin == Origin::Clean);
    let change = match (then, entry) {
        _ if own || running.is_none() || now.is_none() => None,
        (Some(then), Some(entry)) => (*then != entry.value).then_some(Change::Changed),
        (None, Some(_)) => Some(Change::Added),
        (Some(_), None) => Some(Change::Removed),
        (None, None) => None,
    };
    let later = entry.map(|entry| entry.value.clone());
    Item {
        key: key.to_owned(),
        origin: entry.map(|entry| entry.origin.to_string()),
        value: then.cloned().or_else(|| later.clone().filter(|_| change.is_none())),
        new_value: later.filter(|_| change.is_some()),
        change,
    }
}

fn show(report: &Report, items: &[Item], seen: &Seen) {
    report.say(format!("environment of {}", seen.what));
    let mut head = vec!["KEY", "ORIGIN", "EDITED SINCE"];
    let values = items.iter().any(|item| item.value.is_some() || item.new_value.is_some());
    if values {
        head.push("VALUE");
    }
    let mut rows = vec![head.iter().map(|word| report.tone(word, Tone::Strong)).collect()];
    rows.extend(items.iter().flat_map(|item| rows_of(report, item, values)));
    columns(&rows).into_iter().for_each(|line| report.line(line));
    if let Err(failure) = &seen.now {
        report.say(format!("what it would be now is not known: {}", failure.message));
    }
    let changed = items.iter().filter(|item| item.change.is_some()).count();
    if changed > 0 {
        report.say(format!("{changed} keys were edited since; the next deploy takes them"));
    }
}

/// A row for the key; where values are shown, one more for what an edited one would be now.
fn rows_of(report: &Report, item: &Item, values: bool) -> Vec<Vec<String>> {
    let change = match item.change {
        None => String::new(),
        Some(Change::Changed) => report.tone("changed", Tone::Changing),
        Some(Change::Added) => report.tone("added", Tone::Changing),
        Some(Change::Removed) => report.tone("removed", Tone::Changing),
    };
    let mut row = vec![item.key.clone(), item.origin.clone().unwrap_or_else(|| "-".to_owned()), change];
    if !values {
        return vec![row];
    }
    row.push(item.value.as_deref().map_or_else(String::new, one_line));
    let now = item.new_value.as_deref().map(one_line);
    let below = now.map(|now| vec![String::new(), String::new(), "now".to_owned(), now]);
    std::iter::once(row).chain(below).collect()
}

/// A value on one line, so that no value can look like two keys.
fn one_line(value: &str) -> String {
    if value.chars().any(char::is_control) { format!("{value:?}") } else { value.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::{EnvInput, Place, resolve};
    use crate::spec::EnvSpec;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn now(host: &[(&str, &str)]) -> ResolvedEnv {
        let (clean, host) = (map(&[("PATH", "/mine")]), map(host));
        let landfall = map(&[("LANDFALL_RELEASE", "new")]);
        let spec = EnvSpec::default();
        let (environment, base, local) = (None, None, None);
        let place = Place::Host;
        resolve(&EnvInput {
            place,
            spec: &spec,
            environment,
            clean: &clean,
            base,
            local,
            host: &host,
            landfall: &landfall,
        })
        .unwrap()
    }

    #[test]
    fn edited_added_and_removed_keys_are_told_apart_and_landfalls_own_never_count() {
        let running =
            map(&[("A", "1"), ("B", "1"), ("GONE", "1"), ("PATH", "/agent"), ("LANDFALL_RELEASE", "old")]);
        let items = compare(Some(&running), Some(&now(&[("A", "1"), ("B", "2"), ("NEW", "1")])));
        let told: Vec<_> = items.iter().map(|item| (item.key.as_str(), item.change)).collect();
        let expected = [
            ("A", None),
            ("B", Some(Change::Changed)),
            ("GONE", Some(Change::Removed)),
            ("LANDFALL_RELEASE", None),
            ("NEW", Some(Change::Added)),
            ("PATH", None),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn nothing_counts_as_edited_where_one_side_is_not_known() {
        let running = map(&[("A", "1")]);
        assert!(compare(Some(&running), None).iter().all(|item| item.change.is_none()));
        assert!(compare(None, Some(&now(&[("A", "1")]))).iter().all(|item| item.change.is_none()));
    }

    #[test]
    fn a_value_of_several_lines_stays_on_one() {
        assert_eq!(one_line("a b"), "a b");
        assert_eq!(one_line("a\nFAKE=1"), "\"a\\nFAKE=1\"");
    }
}
