//! `landfall status --watch`: a look after every change, shown where the last one was.
//!
//! In a terminal it is one screen, drawn over the last in one write, on the terminal's other page, so that the
//! end leaves it as it was. Elsewhere every change is a line of its own: of text, or of JSON.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use notify::{RecursiveMode, Watcher};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use super::table::sign;
use super::{Seen, StatusArgs};
use crate::cli::Outcome;
use crate::cli::context::Context;
use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::cli::report::{Format, Report};
use crate::cli::text::local;
use crate::status::{Operation, Status};

/// Ages grow, and a process can end without a record of it.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// Records change together.
const DEBOUNCE: Duration = Duration::from_millis(50);

/// Shows until a signal ends it.
pub async fn run(args: &StatusArgs, context: &Context) -> Outcome {
    if context.report.format() == Format::Json {
        let what = "--watch has no end, and -o json is one document";
        return Err(CliError::new(Exit::Usage, "WatchNeedsLines", what)
            .hint("-o ndjson prints a line for each change"));
    }
    let mut triggers = Triggers::new()?;
    // What is wrong now is an error; what goes wrong later is shown.
    let mut seen = Seen::now(args, context).await;
    if let Err(error) = seen {
        return Err(error);
    }
    let mut view = View::new(&context.report)?;
    loop {
        if let Ok(seen) = &seen {
            triggers.follow(seen, context);
        }
        if view.show(&seen).is_err() {
            // Whoever read it went away.
            return Ok(Exit::Done);
        }
        match triggers.next().await {
            Trigger::Look => seen = Seen::now(args, context).await,
            Trigger::Pause => view.pause()?,
            Trigger::End => return Ok(Exit::Interrupted),
        }
    }
}

/// What makes a look.
enum Trigger {
    Look,
    Pause,
    End,
}

/// Events of the kernel, signals, and the clock.
struct Triggers {
    events: mpsc::UnboundedReceiver<()>,
    watcher: notify::RecommendedWatcher,
    watched: Vec<PathBuf>,
    resized: Signal,
    paused: Signal,
    ends: [Signal; 3],
}

/// SIGTSTP on Linux, which tokio has no name for.
const SIGTSTP: i32 = 20;

impl Triggers {
    fn new() -> Result<Self, CliError> {
        let listen = |kind| {
            signal(kind).map_err(|error| {
                CliError::new(Exit::Error, "Signals", format!("the kernel delivers no signals: {error}"))
            })
        };
        let (tell, events) = mpsc::unbounded_channel();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading makes events, too.
            if !event.is_ok_and(|event| event.kind.is_access()) {
                let _ended = tell.send(());
            }
        });
        let watcher = watcher.map_err(|error| {
            CliError::new(
                Exit::Error,
                "WatchFailed",
                format!("the kernel does not tell of changed files: {error}"),
            )
            .hint("`landfall doctor` says how to raise the limit")
        })?;
        Ok(Self {
            events,
            watcher,
            watched: Vec::new(),
            resized: listen(SignalKind::window_change())?,
            paused: listen(SignalKind::from_raw(SIGTSTP))?,
            ends: [
                listen(SignalKind::interrupt())?,
                listen(SignalKind::terminate())?,
                listen(SignalKind::hangup())?,
            ],
        })
    }

    /// Follows the directories that there are. One that cannot be followed is looked at when the time comes.
    fn follow(&mut self, seen: &Seen, context: &Context) {
        let mut dirs = vec![seen.looking.root().to_owned(), seen.looking.shared.host.root.apps()];
        for item in &seen.items {
            let dir = seen.looking.dir(&item.app);
            dirs.extend(dir.journal().parent().map(Path::to_owned));
            dirs.extend(dir.current().parent().map(Path::to_owned));
        }
        dirs.extend(context.state_file().ok().and_then(|state| {
            state.parent().map(|dir| if dir.as_os_str().is_empty() { Path::new(".") } else { dir }.to_owned())
        }));
        let known = |dir: &PathBuf| self.watched.contains(dir) || !dir.is_dir();
        dirs.retain(|dir| !known(dir));
        for dir in dirs {
            if self.watcher.watch(&dir, RecursiveMode::NonRecursive).is_ok() {
                self.watched.push(dir);
            }
        }
        self.watched.retain(|dir| dir.is_dir());
    }

    async fn next(&mut self) -> Trigger {
        let [interrupt, terminate, hangup] = &mut self.ends;
        tokio::select! {
            biased;
            _ = interrupt.recv() => Trigger::End,
            _ = terminate.recv() => Trigger::End,
            _ = hangup.recv() => Trigger::End,
            _ = self.paused.recv() => Trigger::Pause,
            _ = self.resized.recv() => Trigger::Look,
            Some(()) = self.events.recv() => {
                tokio::time::sleep(DEBOUNCE).await;
                while self.events.try_recv().is_ok() {}
                Trigger::Look
            }
            () = tokio::time::sleep(LOOK_AGAIN) => Trigger::Look,
        }
    }
}

/// Where looks are shown.
enum View {
    Screen(Screen),
    Lines(Lines),
}

impl View {
    fn new(report: &Report) -> Result<Self, CliError> {
        if report.format() == Format::Table && io::stdout().is_terminal() {
            return Screen::open(*report).map(Self::Screen).map_err(|error| unusable(&error));
        }
        Ok(Self::Lines(Lines { report: *report, last: BTreeMap::new(), trouble: None }))
    }

    fn show(&mut self, seen: &Result<Seen, CliError>) -> io::Result<()> {
        match self {
            Self::Screen(screen) => screen.show(seen),
            Self::Lines(lines) => lines.show(seen, &mut io::stdout().lock()),
        }
    }

    /// Ctrl-Z: the terminal is given back before the process stops, and taken again when it goes on.
    fn pause(&mut self) -> Result<(), CliError> {
        if let Self::Screen(screen) = self {
            screen.write(LEAVE).map_err(|error| unusable(&error))?;
        }
        let stopped = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::STOP);
        stopped.map_err(|error| unusable(&error.into()))?;
        if let Self::Screen(screen) = self {
            screen.drawn.clear();
            screen.write(ENTER).map_err(|error| unusable(&error))?;
        }
        Ok(())
    }
}

fn unusable(error: &io::Error) -> CliError {
    CliError::new(Exit::Error, "TerminalUnusable", format!("the terminal cannot be used: {error}"))
}

/// The other page, no cursor, no wrapping of lines.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";

/// A terminal that is drawn over. Dropping it gives it back as it was, with the last picture below.
struct Screen {
    report: Report,
    drawn: String,
    last: Vec<String>,
}

impl Screen {
    fn open(report: Report) -> io::Result<Self> {
        let mut screen = Self { report, drawn: String::new(), last: Vec::new() };
        screen.write(ENTER)?;
        Ok(screen)
    }

    fn write(&mut self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    fn show(&mut self, seen: &Result<Seen, CliError>) -> io::Result<()> {
        self.report = self.report.resized();
        match seen {
            Ok(seen) => self.last = seen.lines(&self.report),
            Err(error) => {
                let mut lines = vec![format!("error: {}", error.message)];
                lines.extend(error.hint.iter().map(|hint| format!("hint: {hint}")));
                lines.extend([String::new(), "before that:".to_owned()]);
                lines.extend(self.last.iter().skip_while(|line| line.starts_with("error: ")).cloned());
                return self.draw(&lines);
            }
        }
        let lines = self.last.clone();
        self.draw(&lines)
    }

    /// One write, and none at all for the same picture.
    fn draw(&mut self, lines: &[String]) -> io::Result<()> {
        let rows = console::Term::stdout().size_checked().map_or(24, |(rows, _)| usize::from(rows));
        let folded: Vec<String> = lines.iter().flat_map(|line| fold(line, self.report.width())).collect();
        let picture = picture(&folded, rows);
        if picture != self.drawn {
            self.write(&picture)?;
            self.drawn = picture;
        }
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let mut text = LEAVE.to_owned();
        self.last.iter().for_each(|line| text.extend([line, "\n"]));
        // Nobody is left to be told.
        drop(self.write(&text));
    }
}

/// No line is longer than the terminal is wide: a sentence goes on in the next one, a row of the table is cut.
fn fold(line: &str, width: usize) -> Vec<String> {
    if line.contains('\x1b') {
        return vec![console::truncate_str(line, width, "").into_owned()];
    }
    let chars: Vec<char> = line.chars().collect();
    if chars.len() <= width {
        return vec![line.to_owned()];
    }
    chars.chunks(width).map(|part| part.iter().collect()).collect()
}

/// From the top, each line to its end, nothing below: never an empty screen in between.
fn picture(lines: &[String], rows: usize) -> String {
    let foot = "Ctrl-C ends; the agent and the apps go on";
    let room = rows.saturating_sub(2).max(1);
    let mut shown: Vec<&str> = lines.iter().map(String::as_str).take(room).collect();
    let more = format!("… {} more lines: the terminal is too low", lines.len().saturating_sub(room) + 1);
    if lines.len() > room {
        shown.pop();
        shown.push(&more);
    }
    shown.extend(["", foot]);
    format!("\x1b[?2026h\x1b[H{}\x1b[K\x1b[J\x1b[?2026l", shown.join("\x1b[K\r\n"))
}

/// A line for each change.
struct Lines {
    report: Report,
    last: BTreeMap<String, String>,
    trouble: Option<String>,
}

impl Lines {
    fn show(&mut self, seen: &Result<Seen, CliError>, out: &mut impl Write) -> io::Result<()> {
        let trouble = seen.as_ref().err().map(|error| error.message.clone());
        if let (Err(error), true) = (seen, trouble != self.trouble) {
            self.report.error(error);
        }
        self.trouble = trouble;
        if let Ok(seen) = seen {
            for item in &seen.items {
                self.tell(item, out)?;
            }
        }
        out.flush()
    }

    fn tell(&mut self, item: &Status, out: &mut impl Write) -> io::Result<()> {
        // What machines get, without what changes by itself.
        let line = match self.report.format() {
            Format::Ndjson => serde_json::to_string(item).expect("items hold only what JSON can say"),
            Format::Table | Format::Json => sentence(&self.report, item),
        };
        let known = self.last.insert(format!("{}/{}", item.app, item.environment), line.clone());
        if known.as_ref() == Some(&line) {
            return Ok(());
        }
        match self.report.format() {
            Format::Ndjson => writeln!(out, "{line}"),
            Format::Table | Format::Json => {
                let now = Timestamp::now();
                writeln!(out, "{} {line}", local(now, now, &TimeZone::system()))
            }
        }
    }
}

/// Everything about an app on one line.
fn sentence(report: &Report, item: &Status) -> String {
    let (mark, tone) = sign(report, item);
    let doing = match item.operation {
        Operation::Idle => String::new(),
        Operation::In(stage) => format!(" {stage}"),
    };
    let agent = if item.agent { "" } else { " (no agent)" };
    let next = item.next.as_deref().map(|next| format!("; next: {next}")).unwrap_or_default();
    format!(
        "{} {}/{} {:?} {:?}{doing}{agent}: {}{next}",
        report.tone(mark, tone),
        item.app,
        item.environment,
        item.sync,
        item.health,
        item.message
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_never_scrolls_and_says_what_is_left_out() {
        let lines: Vec<String> = (0..10).map(|line| format!("line {line}")).collect();
        let whole = picture(&lines, 24);
        assert!(whole.contains("line 9") && !whole.contains("more lines"));
        let low = picture(&lines, 6);
        assert_eq!(low.matches("\r\n").count(), 5, "as many lines as rows");
        assert!(
            low.contains("line 2") && !low.contains("line 3\x1b") && low.contains("… 7 more lines"),
            "{low}"
        );
    }
}
