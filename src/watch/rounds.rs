//! Rounds over the files of every app's release: rarely, and one app at a time.

use std::collections::VecDeque;
use std::time::Duration;

use landfall_store::Name;
use tokio::time::Instant;

use super::apps::jittered;

/// Time in which every app has its turn.
const ROUND: Duration = Duration::from_secs(300);
/// Time before the first turn: what came up with the machine goes first.
const FIRST: Duration = Duration::from_secs(5);

/// Whose turn it is, and when.
pub(super) struct Rounds {
    next: Option<Instant>,
    turns: VecDeque<Name>,
}

impl Rounds {
    pub(super) fn new() -> Self {
        Self { next: Some(Instant::now() + jittered(FIRST)), turns: VecDeque::new() }
    }

    /// Waits for the next turn; for ever while one is taken.
    pub(super) async fn is_due(&self) {
        match self.next {
            Some(next) => tokio::time::sleep_until(next).await,
            None => std::future::pending().await,
        }
    }

    /// Whose turn it is, among these apps; nobody's, if there is none. No other turn comes before [`Rounds::ended`].
    pub(super) fn take<'a>(&mut self, apps: impl Iterator<Item = &'a Name> + Clone) -> Option<Name> {
        self.turns.retain(|turn| apps.clone().any(|app| app == turn));
        if self.turns.is_empty() {
            self.turns.extend(apps.cloned());
        }
        self.next = None;
        self.turns.pop_front()
    }

    /// A turn is over, among so many apps.
    pub(super) fn ended(&mut self, apps: usize) {
        let apps = u32::try_from(apps.max(1)).unwrap_or(u32::MAX);
        self.next = Some(Instant::now() + jittered(ROUND / apps));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_app_has_its_turn_before_one_has_its_second() {
        let apps: Vec<Name> = ["a", "b", "c"].iter().map(|name| name.parse().unwrap()).collect();
        let mut rounds = Rounds::new();
        let mut turn = |apps: &[Name]| rounds.take(apps.iter()).map(|name| name.to_string());
        let taken: Vec<_> = (0..4).map(|_| turn(&apps).unwrap()).collect();
        assert_eq!(taken, ["a", "b", "c", "a"]);
        assert_eq!(turn(&apps[2..]).unwrap(), "c", "an app that is gone has no turn");
        assert_eq!(turn(&[]), None);
    }
}
