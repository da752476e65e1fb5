//! What systemd is told of its services, the agent and the server: the protocol of sd_notify(3). Started by
//! anything else, nobody is told.
//!
//! Everything here is called by the loop itself, never by a timer beside it: a loop that hangs falls silent, and
//! the unit's watchdog starts it again. Long work runs in threads and processes of its own, so that it
//! never silences a loop that is well.

pub(crate) mod quote;

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::Instant;
use tracing::warn;

/// Where an administrator's units are.
pub const UNIT_DIR: &str = "/etc/systemd/system";

/// Whether systemd runs this system.
pub fn booted() -> std::io::Result<bool> {
    sd_notify::booted()
}

/// Signs of life in the time after which the unit's watchdog would act: one may be late, and one may be lost.
const SIGNS_PER_WATCHDOG: u32 = 3;

/// A service's side of its unit.
#[derive(Debug)]
pub(crate) struct Systemd {
    every: Option<Duration>,
    next: Instant,
    status: String,
    unheard: bool,
}

impl Systemd {
    /// As the environment says.
    pub(crate) fn new() -> Self {
        let every = sd_notify::watchdog_enabled().map(|limit| limit / SIGNS_PER_WATCHDOG);
        Self { every, next: Instant::now(), status: String::new(), unheard: false }
    }

    /// The service does its work from now on, after a start or a reload.
    pub(crate) fn ready(&mut self) {
        self.tell(&[NotifyState::Ready]);
    }

    /// The configuration is being read again; [`Self::ready`] ends that, whatever came of it.
    pub(crate) fn reloading(&mut self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.tell(&[NotifyState::Reloading, now]),
            Err(error) => warn!(%error, "systemd was not told of the reload: there is no monotonic clock"),
        }
    }

    /// The service is about to end.
    pub(crate) fn stopping(&mut self) {
        self.tell(&[NotifyState::Stopping]);
    }

    /// What `systemctl status` shows as the unit's status: one line, sent when it changes.
    pub(crate) fn status(&mut self, text: String) {
        if self.status != text {
            self.tell(&[NotifyState::Status(&text)]);
            self.status = text;
        }
    }

    /// Waits until a sign of life is due; for ever where no watchdog waits for one.
    pub(crate) async fn sign_is_due(&self) {
        match self.every {
            Some(_) => tokio::time::sleep_until(self.next).await,
            None => std::future::pending().await,
        }
    }

    /// Gives a sign of life.
    pub(crate) fn sign_of_life(&mut self) {
        if let Some(every) = self.every {
            self.next = Instant::now() + every;
            self.tell(&[NotifyState::Watchdog]);
        }
    }

    /// A service that systemd cannot hear works all the same; it says so once.
    fn tell(&mut self, state: &[NotifyState<'_>]) {
        match sd_notify::notify(state) {
            Ok(()) => self.unheard = false,
            Err(error) if !self.unheard => {
                self.unheard = true;
                warn!(%error, "systemd cannot be told how the service is");
            }
            Err(_) => {}
        }
    }
}

/// What the agent does, in one line.
pub(crate) fn summary(apps: usize, busy: &[&str], complaint: Option<&str>) -> String {
    let doing = match busy {
        [] => "watching".to_owned(),
        busy => format!("working on {}", busy.join(", ")),
    };
    let apps = if apps == 1 { "1 app".to_owned() } else { format!("{apps} apps") };
    match complaint {
        None => format!("{apps}; {doing}"),
        // systemd takes one line.
        Some(complaint) => {
            let first = complaint.lines().next().unwrap_or_default();
            format!("{apps}; {doing}; the last accepted state stays in force: {first}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::summary;

    #[test]
    fn the_status_line_says_what_is_worked_on_and_what_is_wrong_in_one_line() {
        assert_eq!(summary(1, &[], None), "1 app; watching");
        assert_eq!(summary(3, &["api", "web"], None), "3 apps; working on api, web");
        let said = summary(0, &[], Some("state.json:7:11: unknown key\nhint: did you mean `target`?"));
        assert_eq!(
            said,
            "0 apps; watching; the last accepted state stays in force: state.json:7:11: unknown key"
        );
    }
}
