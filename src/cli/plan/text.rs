//! A change for a terminal.

use super::change::Ends;
use super::words;
use crate::cli::report::{Report, Tone, columns};
use crate::migrations::MigrationChange;
use crate::proposal::{Action, Proposed};

/// Dependencies shown before the rest is only counted; Markdown and JSON have all.
const DEPENDENCIES_SHOWN: usize = 10;

pub fn tell(ends: &Ends, items: &[Proposed], report: &Report) {
    report.say(format!("{} → {}", ends.from, ends.to));
    if items.is_empty() {
        report.say("nothing to do: both ask for the same.");
    }
    let rows: Vec<Vec<String>> = items.iter().map(|item| row(item, report)).collect();
    for (item, line) in items.iter().zip(columns(&rows)) {
        report.line(line);
        let details = details(item);
        for line in columns(&details) {
            report.line(format!("  {}", line.trim_end()));
        }
    }
}

fn row(item: &Proposed, report: &Report) -> Vec<String> {
    let tone = match item.action {
        Action::Deploy | Action::Remove | Action::Settings => Tone::Changing,
        Action::Forget => Tone::Quiet,
        Action::Refuse | Action::Unavailable => Tone::Bad,
    };
    let (from, to) = (words::name(item.from.as_ref()), words::name(item.to.as_ref()));
    let way = if from == to { from } else { format!("{from} → {to}") };
    vec![format!("{}/{}", item.app, item.environment), report.tone(words::verb(item.action), tone), way]
}

fn details(item: &Proposed) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    let mut put = |key: &str, value: String| rows.push(vec![key.to_owned(), value]);
    for conflict in &item.conflicts {
        let host = conflict.host.as_ref().map(|host| format!("{host}: ")).unwrap_or_default();
        put("conflict", format!("{host}{}", conflict.message));
    }
    let said = [item.why.clone(), item.by.as_ref().map(|by| format!("by {by}"))];
    let said: Vec<String> = said.into_iter().flatten().collect();
    if !said.is_empty() {
        put("why", said.join(", "));
    }
    if !item.settings.is_empty() {
        put("settings", format!("{} changed", item.settings.join(", ")));
    }
    if let Some(files) = item.files {
        put("files", words::files(files));
    }
    let shown = item.dependencies.iter().take(DEPENDENCIES_SHOWN);
    shown.for_each(|change| put("dependency", words::dependency(change)));
    if item.dependencies.len() > DEPENDENCIES_SHOWN {
        put("", format!("… and {} more dependencies", item.dependencies.len() - DEPENDENCIES_SHOWN));
    }
    for sentence in item.migrations.iter().flat_map(MigrationChange::sentences) {
        put("migrations", sentence);
    }
    if !item.release.is_empty() {
        put("recipe", format!("{} changed", item.release.join(", ")));
    }
    if let Some(fetch) = item.fetch {
        put("fetch", words::fetch(fetch));
    }
    if item.action == Action::Deploy {
        put("rollback", words::rollback(item));
    }
    if item.action == Action::Forget {
        put("note", "what runs stays; `\"state\": \"absent\"` removes it".to_owned());
    }
    for host in &item.hosts {
        put(&format!("host {}", host.host), words::on_host(host));
    }
    for unknown in &item.unknown {
        put("not known", unknown.clone());
    }
    rows
}
