//! What the loop does with what was seen of a state repository.

use jiff::Timestamp;
use tracing::{error, info, warn};

use super::accept::{self, Accepted, Court, StateProblem, Waiver};
use super::agent::Agent;
use crate::config::HostConfig;
use crate::control::Done;
use crate::door::Denied;
use crate::hook::Hook;
use crate::host::Host;
use crate::record::source::SourceRecord;
use crate::source::Source;
use crate::source::git::{Found, Seen, Trouble};
use crate::status::Origin;
use crate::trust::Floor;

/// Digits of an abbreviated commit that are enough on one host.
const COMMIT_DIGITS_MIN: usize = 7;

/// A commit that was refused, and why.
pub(super) struct Refused {
    found: Box<Found>,
    why: String,
}

impl Agent {
    /// Judges what a look found, and takes it or says why not.
    pub(super) fn note_seen(&mut self, seen: Result<Seen, Trouble>) {
        match seen {
            Err(trouble) => self.cannot_use(&trouble.into()),
            Ok(Seen::Same { remote }) => {
                self.refused = None;
                self.origin.remote = Some(remote);
                self.origin.head = self
                    .accepted
                    .as_ref()
                    .and_then(|accepted| accepted.head.as_ref())
                    .map(ToString::to_string);
                self.is_well();
            }
            Ok(Seen::New(found)) => self.judge(found),
        }
        self.note_source();
    }

    fn judge(&mut self, found: Box<Found>) {
        self.origin.remote = Some(found.remote.clone());
        self.origin.head = Some(found.head.to_string());
        self.origin.contact = Some(Timestamp::now());
        let path = self.settings.source.path().to_owned();
        let last = self.accepted.as_deref();
        let court = Court { config: &self.settings.host.config, floor: &self.floor, last };
        match accept::of_repository(&found, &path, &court) {
            Ok(accepted) => {
                let is_news = last.is_none_or(|last| !accept::is_same(last, &accepted));
                self.refused = None;
                if is_news {
                    let by = accepted.signed_by.as_deref().unwrap_or("nobody who was asked to");
                    info!(commit = %found.head.short(), remote = %found.remote, signed_by = by, "a new state is accepted");
                }
                self.is_well_with(&accepted);
                self.accept(accepted);
            }
            Err(problem) => {
                self.cannot_use(&problem);
                let why = problem.to_string();
                self.refused = matches!(problem, StateProblem::Refused(_)).then_some(Refused { found, why });
            }
        }
    }

    fn is_well(&mut self) {
        self.origin.contact = Some(Timestamp::now());
        if let Some(accepted) = self.accepted.clone() {
            self.is_well_with(&accepted);
        }
    }

    fn is_well_with(&mut self, accepted: &Accepted) {
        if self.complaint.take().is_some() {
            info!("the state can be used again");
        }
        self.wrong = None;
        self.see(accepted.view(Timestamp::now()));
    }

    /// Lets a git server call, if host.toml says so. Without it the poll finds everything, later.
    pub(super) async fn open_hook(&mut self) {
        let wanted = self.settings.host.config.webhook.as_ref();
        if self.hook.as_ref().map(Hook::config) == wanted {
            return;
        }
        // The old one first: it may listen where the new one shall.
        self.hook = None;
        let Some(config) = wanted else { return };
        match Hook::open(config, self.call.clone()).await {
            Ok(hook) => {
                info!(address = %hook.address(), "web hooks are heard");
                self.hook = Some(hook);
            }
            Err(error) => error!(%error, "nobody can tell this agent of a push; it finds out by looking"),
        }
    }

    /// What a status says of the repository.
    pub(super) fn origin(&self) -> Option<Origin> {
        origin(
            &self.settings.source,
            &self.settings.host.config,
            Some(&self.origin),
            self.accepted.as_deref(),
        )
    }

    /// Notes what commands that only look are told.
    fn note_source(&self) {
        let root = &self.settings.host.root;
        let record = SourceRecord {
            place: self.settings.source.place(),
            remote: self.origin.remote.clone(),
            head: self.origin.head.clone(),
            wrong: self.wrong.clone(),
            contact: self.origin.contact,
        };
        let touched = record
            .note(root)
            .map_err(|error| error.to_string())
            .and_then(|()| SourceRecord::touch(root).map_err(|error| error.to_string()));
        if let Err(error) = touched {
            warn!(%error, "`status` cannot tell how the state's repository is; nothing depends on it");
        }
    }

    /// An operator takes what was refused.
    pub(super) fn accept_refused(&mut self, commit: &str, by: &str, reason: &str) -> Result<Done, Denied> {
        let Source::Git(git) = &self.settings.source else {
            let what = "the state of this agent is a file: there is no commit to accept";
            return Err(Denied::new(2, "NotARepository", what));
        };
        let path = git.path().to_owned();
        let Some(refused) = &self.refused else {
            return Err(Denied {
                hint: Some(
                    "`landfall status` shows what is in force; `landfall reconcile` looks again".to_owned(),
                ),
                ..Denied::new(4, "NothingRefused", "no commit of the state's repository is refused now")
            });
        };
        let accepted = waived(refused, &path, self.accepted.as_deref(), commit, by, reason)?;
        accept::keep_waived(&self.settings.host, &refused.found, self.accepted.as_deref(), &accepted)
            .map_err(|error| Denied::new(20, "RecordFailed", error))?;
        let message = format!(
            "commit {} is accepted, although it had been refused: {}",
            refused.found.head.short(),
            refused.why
        );
        error!(by, reason, "{message}");
        self.refused = None;
        self.is_well_with(&accepted);
        self.accept(accepted);
        self.note_source();
        Ok(Done { message, changed: true, artifact: None })
    }
}

/// What an operator accepts, if that is what was refused.
fn waived(
    refused: &Refused,
    path: &std::path::Path,
    last: Option<&Accepted>,
    commit: &str,
    by: &str,
    reason: &str,
) -> Result<Accepted, Denied> {
    let head = &refused.found.head;
    if commit.len() < COMMIT_DIGITS_MIN || !head.as_str().starts_with(commit) {
        return Err(Denied {
            hint: Some(format!("if that is the one you mean: landfall state accept {}", head.short())),
            ..Denied::new(4, "OtherCommit", format!("the commit that is refused is {head}, not {commit}"))
        });
    }
    let waiver = Waiver {
        commit: head.to_string(),
        refusal: refused.why.clone(),
        by: by.to_owned(),
        reason: reason.to_owned(),
        at: Timestamp::now(),
    };
    accept::waive(&refused.found, path, last, waiver)
        .map_err(|problem| Denied::new(3, "StateInvalid", problem))
}

/// The same for a host without an agent: looks once, and takes what is refused. Only under the lock.
pub async fn accept_without_agent(
    source: &Source,
    host: &Host,
    commit: &str,
    by: &str,
    reason: &str,
) -> Result<Done, Denied> {
    let Source::Git(git) = source else {
        return Err(Denied::new(2, "NotARepository", "the state is a file: there is no commit to accept"));
    };
    let last = accept::last(host);
    let floor = accept::floor(host, &last);
    let last = last.ok().flatten();
    let found = git.found(floor.commit()).await;
    let found = found.map_err(|trouble| Denied::new(5, trouble.fault.reason(), trouble))?;
    let found = Box::new(found);
    let court = Court { config: &host.config, floor: &floor, last: last.as_ref() };
    let why = match accept::of_repository(&found, git.path(), &court) {
        Ok(_) => {
            return Err(Denied::new(
                4,
                "NothingRefused",
                "no commit of the state's repository is refused now",
            ));
        }
        Err(problem @ StateProblem::Refused(_)) => problem.to_string(),
        Err(problem) => return Err(Denied::new(3, "StateInvalid", problem)),
    };
    let refused = Refused { found, why };
    let accepted = waived(&refused, git.path(), last.as_ref(), commit, by, reason)?;
    accept::keep_waived(host, &refused.found, last.as_ref(), &accepted)
        .map_err(|error| Denied::new(20, "RecordFailed", error))?;
    let message = format!(
        "commit {} is accepted, although it had been refused: {}",
        refused.found.head.short(),
        refused.why
    );
    Ok(Done { message, changed: true, artifact: None })
}

/// What a status says of the repository, as far as one is known.
pub fn origin(
    source: &Source,
    config: &HostConfig,
    record: Option<&SourceRecord>,
    last: Option<&Accepted>,
) -> Option<Origin> {
    matches!(source, Source::Git(_)).then(|| Origin {
        place: source.place(),
        head: record.and_then(|record| record.head.clone()),
        accepted: last.and_then(|last| last.head.as_ref()).map(ToString::to_string),
        signed_by: last.and_then(|last| last.signed_by.clone()),
        contact: record.and_then(|record| record.contact),
        asks_for_signatures: config.trust.allowed_signers.is_some(),
    })
}

/// The floor that an accepted state is.
pub(super) fn floor_of(accepted: &Accepted) -> Floor {
    Floor::At { commit: accepted.head.clone(), serial: accepted.state.serial }
}
