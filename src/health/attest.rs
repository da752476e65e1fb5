//! Who answered: a good answer counts only from this start of this release.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::limits::{ACCEPT_LOOK, ACCEPT_WAIT};
use crate::proc::{self, Holder};
use crate::start::ProcessId;

/// The header by which an app names its start (the value of `LANDFALL_START`).
pub const START_HEADER: &str = "x-landfall-start";

/// One start that may answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answerer {
    /// Its random id.
    pub start_id: String,
    /// The release it runs.
    pub release_dir: PathBuf,
    /// [`proc::now_ticks`] when it was begun.
    pub since_ticks: u64,
}

impl Answerer {
    /// Live processes that work in this release and are younger than this start.
    pub fn processes(&self) -> Vec<ProcessId> {
        let young = |id: &ProcessId| id.started_ticks >= self.since_ticks;
        let here = proc::working_under(&self.release_dir).into_iter();
        here.map(|stat| stat.id).filter(young).collect()
    }
}

/// Who holds the server end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Holds {
    /// A process of this start.
    ThisStart,
    /// Somebody else.
    Stranger(Holder),
    /// Nobody has accepted it yet.
    NotAccepted,
    /// It cannot be seen: closed again, or on another host.
    Unseen,
}

/// Looks once. `passing` accept for a start and pass connections on: as long as only they hold one, nobody has it.
pub(super) fn holds(
    starts: &[Answerer],
    passing: &[ProcessId],
    client: SocketAddr,
    server: SocketAddr,
) -> Holds {
    let Some(socket) = proc::server_end(client, server) else {
        return Holds::Unseen;
    };
    if socket.inode == 0 {
        return Holds::NotAccepted;
    }
    let own: Vec<ProcessId> = starts.iter().flat_map(Answerer::processes).collect();
    if !proc::owners(socket.inode, Some(&own)).is_empty() {
        return Holds::ThisStart;
    }
    let mut strangers = proc::owners(socket.inode, None);
    let held = !strangers.is_empty();
    strangers.retain(|id| !passing.contains(id));
    if held && strangers.is_empty() {
        return Holds::NotAccepted;
    }
    let stranger = strangers.into_iter().find_map(Holder::of);
    stranger.map_or(Holds::Unseen, Holds::Stranger)
}

/// Looks until somebody has accepted the connection, for a moment.
pub(super) async fn holds_soon(
    starts: &[Answerer],
    passing: &[ProcessId],
    client: SocketAddr,
    server: SocketAddr,
) -> Holds {
    holds_within(starts, passing, client, server, ACCEPT_WAIT).await
}

/// Looks until somebody has accepted the connection or the time is up.
pub(super) async fn holds_within(
    starts: &[Answerer],
    passing: &[ProcessId],
    client: SocketAddr,
    server: SocketAddr,
    limit: Duration,
) -> Holds {
    let accepted = async {
        loop {
            match holds(starts, passing, client, server) {
                Holds::NotAccepted => sleep(ACCEPT_LOOK).await,
                seen => return seen,
            }
        }
    };
    timeout(limit, accepted).await.unwrap_or(Holds::NotAccepted)
}

/// Why an answer does not count; none: it does.
pub(super) fn objection(holds: &Holds) -> Option<String> {
    match holds {
        Holds::ThisStart => None,
        Holds::Stranger(holder) => Some(format!("answered by {holder}, which is not this start")),
        Holds::NotAccepted => Some("no process accepted the connection".to_owned()),
        Holds::Unseen => Some(format!(
            "who answered cannot be seen on this host: let the app answer with the header `{START_HEADER}`"
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_connection_that_only_its_passer_on_holds_is_not_accepted_yet() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (from, to) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
        assert_eq!(holds(&[], &[], from, to), Holds::NotAccepted, "nobody has it");
        let _accepted = listener.accept().unwrap();
        let own = proc::identity(std::process::id()).unwrap();
        assert_eq!(holds(&[], &[own], from, to), Holds::NotAccepted, "as pm2's daemon has it for a moment");
        assert!(matches!(holds(&[], &[], from, to), Holds::Stranger(holder) if holder.pid == own.pid));
        let here = Answerer {
            start_id: String::new(),
            release_dir: std::env::current_dir().unwrap(),
            since_ticks: 0,
        };
        assert_eq!(holds(&[here], &[own], from, to), Holds::ThisStart);
    }
}
