//! Logs on a terminal or into a pipe as they grow, until somebody has had enough.

use std::convert::Infallible;
use std::io;

use rustix::event::{PollFd, PollFlags, poll};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use super::error::CliError;
use super::exit::Exit;
use super::report::{Format, Report, Tone};
use super::{Outcome, io_runtime};
use crate::tail::{Place, TailError, Tails};

/// What is followed.
pub struct Follow {
    /// A line says which app it is of.
    pub several_apps: bool,
    /// Where the logs are.
    pub places: Vec<Place>,
    /// Lines of each log to begin with; none: only what comes.
    pub lines: Option<usize>,
}

/// Why following ended.
enum End {
    /// Nobody reads any more: no error, as with `tail -f | head`.
    NoReader,
    /// A log cannot be read.
    Failed(TailError),
}

/// Follows until Ctrl-C (130), or until nobody reads any more (0).
pub fn until_interrupted(follow: Follow, report: Report) -> Outcome {
    io_runtime()?.block_on(async {
        // Listened for before the first line is out: whoever reads one may interrupt.
        let mut interrupt =
            signal(SignalKind::interrupt()).map_err(|error| CliError::new(Exit::Error, "Signals", error))?;
        tokio::select! {
            _ = interrupt.recv() => Ok(Exit::Interrupted),
            ended = until_nobody_reads(follow, report) => ended,
        }
    })
}

/// Follows until nobody reads any more.
pub async fn until_nobody_reads(follow: Follow, report: Report) -> Outcome {
    let Err(end) = tokio::select! {
        end = lines(follow, report) => end,
        gone = reader_gone() => gone,
    };
    match end {
        End::NoReader => Ok(Exit::Done),
        End::Failed(error) => Err(CliError::new(Exit::Error, "LogUnreadable", error)),
    }
}

async fn lines(follow: Follow, report: Report) -> Result<Infallible, End> {
    let mut printer = Printer { report, several_apps: follow.several_apps, seen: Vec::new(), result: Ok(()) };
    let mut tell = |app: &str, name: &str, line: &[u8]| printer.line(app, name, line);
    let mut tails = Tails::begin(follow.places, follow.lines, &mut tell).map_err(End::Failed)?;
    if tails.is_empty() {
        report.say("no process has a log yet; waiting for one");
    }
    loop {
        printer.heard()?;
        tails.changed().await;
        tails.read(&mut |app, name, line| printer.line(app, name, line)).map_err(End::Failed)?;
    }
}

struct Printer {
    report: Report,
    several_apps: bool,
    seen: Vec<String>,
    result: io::Result<()>,
}

impl Printer {
    fn line(&mut self, app: &str, name: &str, line: &[u8]) {
        if self.result.is_ok() {
            self.result = match self.report.format() {
                Format::Table => self.plain(app, name, line),
                Format::Json | Format::Ndjson => self.document(app, name, line),
            };
        }
    }

    /// A name before each line as soon as there is more than one.
    fn plain(&mut self, app: &str, name: &str, line: &[u8]) -> io::Result<()> {
        let full = if self.several_apps { format!("{app}/{name}") } else { name.to_owned() };
        if !self.seen.contains(&full) {
            self.seen.push(full.clone());
        }
        let mut bytes = Vec::with_capacity(line.len() + 32);
        if self.seen.len() > 1 || self.several_apps {
            let width = self.seen.iter().map(String::len).max().unwrap_or(0);
            let name = self.report.tone(&format!("{full:width$} |"), Tone::Quiet);
            bytes.extend_from_slice(format!("{name} ").as_bytes());
        }
        bytes.extend_from_slice(line);
        bytes.push(b'\n');
        self.report.stream(&bytes)
    }

    fn document(&self, app: &str, name: &str, line: &[u8]) -> io::Result<()> {
        let line = String::from_utf8_lossy(line);
        let mut document = json!({ "app": app, "name": name, "line": line }).to_string();
        document.push('\n');
        self.report.stream(document.as_bytes())
    }

    fn heard(&mut self) -> Result<(), End> {
        std::mem::replace(&mut self.result, Ok(())).map_err(|_| End::NoReader)
    }
}

/// Ends when stdout's other end is closed, so that a quiet log does not keep `logs -f | head` alive. The thread
/// waits in the kernel and ends with the process.
async fn reader_gone() -> Result<Infallible, End> {
    let (gone, told) = oneshot::channel();
    std::thread::spawn(move || {
        let stdout = io::stdout();
        let mut watched = [PollFd::new(&stdout, PollFlags::empty())];
        while poll(&mut watched, None).is_err_and(|error| error == rustix::io::Errno::INTR) {}
        // Whoever waited may have ended for another reason.
        let _ = gone.send(());
    });
    match told.await {
        Ok(()) => Err(End::NoReader),
        Err(_) => std::future::pending().await,
    }
}
