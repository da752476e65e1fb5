//! A change as the comment of a pull request. What people wrote into the state is text here and never markup.

use super::change::Ends;
use super::words;
use crate::diff::Change;
use crate::migrations::MigrationChange;
use crate::proposal::{Action, Proposed};

/// Paths of one app that are listed; a comment has a limit, and a reader has one before that.
const PATHS_SHOWN: usize = 50;
/// Dependencies and migrations of one app that are listed.
const LINES_SHOWN: usize = 50;

/// The whole comment.
pub fn render(ends: &Ends, items: &[Proposed]) -> String {
    let mut text = format!("### landfall plan: {} → {}\n\n", plain(&ends.from), plain(&ends.to));
    if items.is_empty() {
        text.push_str("Nothing to do: both ask for the same.\n");
        return text;
    }
    text.push_str("| app | | from | to | files | fetch | rollback |\n|---|---|---|---|---|---|---|\n");
    for item in items {
        let cells = [
            format!("**{}**/{}", plain(item.app.as_str()), plain(item.environment.as_str())),
            action(item),
            plain(&words::name(item.from.as_ref())),
            plain(&words::name(item.to.as_ref())),
            item.files.map(words::files).unwrap_or_default(),
            item.fetch.map(words::fetch).unwrap_or_default(),
            if item.action == Action::Deploy { plain(&words::rollback(item)) } else { String::new() },
        ];
        text.push_str(&format!("| {} |\n", cells.join(" | ")));
    }
    items.iter().for_each(|item| section(item, &mut text));
    text
}

fn action(item: &Proposed) -> String {
    let verb = words::verb(item.action);
    match item.action {
        Action::Refuse | Action::Unavailable => format!("❌ {verb}"),
        _ if item.conflicts.is_empty() => verb.to_owned(),
        _ => format!("⚠️ {verb}"),
    }
}

fn section(item: &Proposed, text: &mut String) {
    let mut lines: Vec<String> = Vec::new();
    for conflict in &item.conflicts {
        let host = conflict.host.as_ref().map(|host| format!("{host}: ")).unwrap_or_default();
        lines.push(format!("- **{}** {}", conflict.reason, plain(&format!("{host}{}", conflict.message))));
    }
    if let Some(why) = &item.why {
        let by = item.by.as_ref().map(|by| format!(" ({by})")).unwrap_or_default();
        lines.push(format!("- why: {}", plain(&format!("{why}{by}"))));
    }
    if !item.settings.is_empty() {
        lines.push(format!("- settings changed: {}", item.settings.join(", ")));
    }
    for sentence in item.migrations.iter().flat_map(MigrationChange::sentences) {
        lines.push(format!("- migrations: {}", plain(&sentence)));
    }
    if !item.release.is_empty() {
        lines.push(format!("- recipe changed: {}", plain(&item.release.join(", "))));
    }
    if item.action == Action::Forget {
        lines.push("- what runs stays; `\"state\": \"absent\"` removes it".to_owned());
    }
    lines.extend(item.unknown.iter().map(|what| format!("- not known: {}", plain(what))));
    lines.extend(
        item.hosts
            .iter()
            .map(|host| format!("- host **{}** {}", plain(host.host.as_str()), plain(&words::on_host(host)))),
    );
    let folded = [dependencies(item), paths(item)];
    if lines.is_empty() && folded.iter().all(Option::is_none) {
        return;
    }
    text.push_str(&format!("\n#### {}/{}\n\n", plain(item.app.as_str()), plain(item.environment.as_str())));
    lines.iter().for_each(|line| text.push_str(&format!("{line}\n")));
    folded.into_iter().flatten().for_each(|block| text.push_str(&block));
}

fn dependencies(item: &Proposed) -> Option<String> {
    let all = &item.dependencies;
    let lines =
        all.iter().take(LINES_SHOWN).map(|change| format!("- {}\n", plain(&words::dependency(change))));
    folded(("dependency", "dependencies"), all.len(), LINES_SHOWN, lines)
}

fn paths(item: &Proposed) -> Option<String> {
    let line = |path: &crate::proposal::Path| {
        let sign = match path.change {
            Change::Added => "added",
            Change::Removed => "removed",
            Change::Changed => "changed",
        };
        format!("- {sign} {}\n", plain(&path.path))
    };
    folded(("file", "files"), item.paths.len(), PATHS_SHOWN, item.paths.iter().take(PATHS_SHOWN).map(line))
}

fn folded(
    (one, many): (&str, &str),
    count: usize,
    most: usize,
    lines: impl Iterator<Item = String>,
) -> Option<String> {
    let what = if count == 1 { one } else { many };
    if count == 0 {
        return None;
    }
    let lines: String = lines.collect();
    let rest = match count.saturating_sub(most) {
        0 => String::new(),
        more => format!("- … and {more} more\n"),
    };
    Some(format!("\n<details><summary>{count} {what}</summary>\n\n{lines}{rest}\n</details>\n"))
}

/// Text that stays text: no table, link, mention or tag comes of it.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '<' => plain.push_str("&lt;"),
            '>' => plain.push_str("&gt;"),
            '&' => plain.push_str("&amp;"),
            // Behind it no account is called.
            '@' => plain.push_str("@\u{200b}"),
            '\n' | '\r' | '\t' => plain.push(' '),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' | '~' | '!' => {
                plain.push('\\');
                plain.push(character);
            }
            other => plain.push(other),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_wrote_stays_text() {
        let hostile = "a|b\n<img src=x> `c` [d](e) @team **f**";
        let plain = plain(hostile);
        for markup in ["<img", "a|b", "\n", "[d]", "@team", "**f"] {
            assert!(!plain.contains(markup), "{markup}: {plain}");
        }
        assert!(plain.contains("\\|") && plain.contains("&lt;img"));
    }
}
