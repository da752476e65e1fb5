//! What the text and the Markdown of a change have in common: one fact, one sentence.

use crate::cli::change::called;
use crate::cli::report::bytes;
use crate::diff::DependencyChange;
use crate::fleet::Called;
use crate::preview::Files;
use crate::proposal::{Action, Fetch, OnHost, Proposed};

pub fn name(called_: Option<&Called>) -> String {
    called_.map_or_else(|| "nothing".to_owned(), |one| called(one.version.as_ref(), &one.artifact))
}

pub const fn verb(action: Action) -> &'static str {
    match action {
        Action::Deploy => "deploy",
        Action::Remove => "remove",
        Action::Forget => "no longer named",
        Action::Settings => "settings",
        Action::Refuse => "refused",
        Action::Unavailable => "not available",
    }
}

pub fn files(files: Files) -> String {
    let Files { added, changed, removed } = files;
    format!("+{added} ~{changed} -{removed}")
}

pub fn dependency(change: &DependencyChange) -> String {
    let list = |versions: &[String]| match versions {
        [] => "none".to_owned(),
        versions => versions.join(", "),
    };
    format!("{} {} → {}", change.name, list(&change.from), list(&change.to))
}

pub fn fetch(fetch: Fetch) -> String {
    if fetch.contents == 0 {
        return format!("{}, documents only: every content is there", bytes(fetch.bytes));
    }
    let way = if fetch.deltas > 0 { "by delta" } else { "from packs" };
    format!("{} {way} ({} unpacked)", bytes(fetch.bytes), bytes(fetch.unpacked))
}

/// What follows a failed deploy of it, for a person who has to decide.
pub fn rollback(item: &Proposed) -> String {
    match &item.rollback_target {
        Some(target) => format!("to {}, which the store has", name(Some(target))),
        None if item.from.is_none() => "there is nothing before it to go back to".to_owned(),
        None => format!("not to {}", name(item.from.as_ref())),
    }
}

pub fn on_host(host: &OnHost) -> String {
    let mut told = vec![format!("runs {}", name(host.running.as_ref()))];
    if let Some(planned) = host.fetch {
        told.push(format!("fetches {}", fetch(planned)));
    }
    told.push(match host.revert_target {
        Some(target) => format!("goes back to {} if it fails", target.short()),
        None => "has nothing healthy to go back to".to_owned(),
    });
    if host.overdue {
        told.push(format!("has not reported since {}", host.reported.strftime("%Y-%m-%d %H:%M:%SZ")));
    }
    told.join("; ")
}
