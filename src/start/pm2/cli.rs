//! Calls of the pm2 program: absolute path, scrubbed environment, a deadline, and no trust in its status.

use std::cell::RefCell;
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::limits::{CALL_OUTPUT_BYTES_MAX, SAID_LINES_MAX};
use crate::start::Account;
use crate::start::shim::family::signal_group;
use crate::start::shim::limits::DRAIN_WAIT;

/// Where pm2 is and what it is given.
#[derive(Debug, Clone)]
pub(super) struct Cli {
    pub(super) program: PathBuf,
    /// `PM2_HOME`.
    pub(super) home: PathBuf,
    /// `PATH` of pm2 and its daemon: how they find node.
    pub(super) path: String,
}

/// What a call said.
#[derive(Debug)]
pub(super) struct Said {
    /// It ended with 0: worth no more than that.
    pub(super) ok: bool,
    /// The last lines it printed.
    pub(super) text: String,
}

impl Cli {
    /// Runs pm2 to its end, or ends it at the deadline.
    pub(super) async fn call(
        &self,
        arguments: &[&std::ffi::OsStr],
        account: Option<&Account>,
        limit: Duration,
    ) -> Result<Said, String> {
        let mut child = self.spawn(arguments, account).map_err(|error| self.not_run(&error))?;
        let group = child.id();
        match timeout(limit, finish(&mut child)).await {
            Ok(said) => said.map_err(|error| self.not_run(&error)),
            Err(_) => {
                group.into_iter().for_each(|group| signal_group(group, rustix::process::Signal::KILL));
                let _ = child.wait().await;
                Err(format!("{} {} did not end within {limit:?}", self.program.display(), shown(arguments)))
            }
        }
    }

    fn spawn(&self, arguments: &[&std::ffi::OsStr], account: Option<&Account>) -> io::Result<Child> {
        // The daemon outlives landfall: it must not inherit what landfall was started with.
        close_fds::set_fds_cloexec(3, &[]);
        let mut command = Command::new(&self.program);
        command.args(arguments).current_dir("/").process_group(0);
        command.env_clear().env("PATH", &self.path).env("PM2_HOME", &self.home);
        // No greeting, no call home.
        command.env("PM2_DISCRETE_MODE", "true").env("PM2_DISABLE_VERSION_CHECK", "true");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        match account {
            Some(account) => {
                command.gid(account.gid).uid(account.uid).env("HOME", &account.home);
            }
            None => {
                command.env("HOME", std::env::var_os("HOME").unwrap_or_else(|| "/".into()));
            }
        }
        command.spawn()
    }

    fn not_run(&self, error: &io::Error) -> String {
        format!("{}: {error}", self.program.display())
    }
}

/// The daemon may keep the pipes open: what was heard when pm2 ends is enough.
async fn finish(child: &mut Child) -> io::Result<Said> {
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let heard = RefCell::new(Vec::new());
    let listen = async { tokio::join!(hear(out, &heard), hear(err, &heard)) };
    tokio::pin!(listen);
    let mut silent = false;
    let status = loop {
        tokio::select! {
            status = child.wait() => break status?,
            _ = &mut listen, if !silent => silent = true,
        }
    };
    if !silent {
        let _ = timeout(DRAIN_WAIT / 4, &mut listen).await;
    }
    let text = last_lines(&String::from_utf8_lossy(&heard.borrow()));
    Ok(Said { ok: status.success(), text })
}

async fn hear(pipe: Option<impl AsyncRead + Unpin>, into: &RefCell<Vec<u8>>) {
    let Some(mut pipe) = pipe else { return };
    let mut buffer = vec![0; 4 << 10];
    while let Ok(count @ 1..) = pipe.read(&mut buffer).await {
        let mut heard = into.borrow_mut();
        let room = CALL_OUTPUT_BYTES_MAX.saturating_sub(heard.len());
        heard.extend_from_slice(&buffer[..count.min(room)]);
    }
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(SAID_LINES_MAX)..].join("; ")
}

fn shown(arguments: &[&std::ffi::OsStr]) -> String {
    let parts: Vec<_> = arguments.iter().map(|part| part.to_string_lossy()).collect();
    parts.join(" ")
}
