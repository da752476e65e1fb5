//! `landfall logs`: the last lines that the app, or a step, printed.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::Args;
use landfall_store::Name;
use rustix::fs::OFlags;
use schemars::JsonSchema;
use serde::Serialize;

use super::Outcome;
use super::context::{Context, io as unreadable};
use super::error::CliError;
use super::exit::Exit;
use super::look::Looking;
use super::report::{Report, Tone};
use crate::disk::{Disk, RealDisk};
use crate::layout::AppDir;

/// Show the last lines that the processes of an app printed.
///
/// The files stand under ROOT/apps/<app>/<env>/logs, one for each process of the recipe's `[start]`, older
/// ones beside them. Output of the steps of one attempt is kept with the attempt.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  landfall logs web                      the last 50 lines of each process
  landfall logs web --process worker -n 200
  landfall logs web --attempt 7          which steps of attempt 7 printed something
  landfall logs web --attempt 7 --step migrate")]
pub struct LogsArgs {
    /// The app.
    pub app: Name,
    /// One process of the recipe's `[start]` [default: all].
    #[arg(long, value_name = "NAME")]
    pub process: Option<Name>,
    /// How many lines of each; 0: all that is kept.
    #[arg(short = 'n', long, value_name = "LINES", default_value_t = 50)]
    pub lines: usize,
    /// Output of the steps of this attempt instead.
    #[arg(long, value_name = "NUMBER", conflicts_with = "process")]
    pub attempt: Option<u64>,
    /// One step of that attempt [default: all].
    #[arg(long, value_name = "NAME", requires = "attempt")]
    pub step: Option<Name>,
    /// The environment, where host.toml does not say.
    #[arg(long, value_name = "ENV")]
    pub env: Option<Name>,
}

/// Bytes of a log that are read at most: more does not fit a terminal's memory.
const LOG_BYTES_MAX: u64 = 16 << 20;
/// Bytes read from the end at first; doubled until there are enough lines.
const BLOCK_BYTES: u64 = 64 << 10;
/// How a log's file name ends.
const SUFFIX: &str = ".log";

/// The end of one log.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Log")]
pub struct Item {
    name: String,
    path: PathBuf,
    lines: Vec<String>,
}

/// Runs the command.
pub fn run(args: &LogsArgs, context: &Context) -> Outcome {
    let looking = Looking::new(context, args.env.as_ref())?;
    looking.chosen(Some(&args.app))?;
    let dir = looking.dir(&args.app);
    let asked = args.process.as_ref().or(args.step.as_ref());
    let place = match args.attempt {
        Some(number) => dir.attempt(number),
        None => dir.logs(),
    };
    let names = names(&place, asked)?;
    if names.is_empty() {
        return Err(none(args, &dir));
    }
    let mut items = Vec::new();
    for name in names {
        let path = place.join(format!("{name}{SUFFIX}"));
        let lines = last_lines(&path, args.lines).map_err(|error| unreadable(&path, &error))?;
        items.push(Item { name, path, lines });
    }
    context.report.items("LogList", &items, |report| show(report, &items));
    Ok(Exit::Done)
}

/// Names of the logs in a directory: all, or the asked one.
fn names(place: &Path, asked: Option<&Name>) -> Result<Vec<String>, CliError> {
    let found = RealDisk.list(place).map_err(|error| unreadable(place, &error))?;
    let names = found.iter().filter_map(|file| file.strip_suffix(SUFFIX)).map(str::to_owned);
    Ok(names.filter(|name| asked.is_none_or(|asked| asked.as_str() == name)).collect())
}

fn none(args: &LogsArgs, dir: &AppDir) -> CliError {
    let app = &args.app;
    let known = |place: &Path| names(place, None).unwrap_or_default().join(", ");
    let (what, hint) = match (args.attempt, args.process.as_ref().or(args.step.as_ref())) {
        (Some(number), Some(step)) => {
            let known = known(&dir.attempt(number));
            let hint = match known.is_empty() {
                true => {
                    format!("no step of it printed anything; `landfall history {app}` lists the attempts")
                }
                false => format!("steps with output: {known}"),
            };
            (format!("attempt {number} of `{app}` has no output of a step `{step}`"), hint)
        }
        (Some(number), None) => (
            format!("no step of attempt {number} of `{app}` printed anything"),
            format!(
                "`landfall history {app}` lists the attempts; `landfall logs {app}` shows the app itself"
            ),
        ),
        (None, Some(process)) if !known(&dir.logs()).is_empty() => (
            format!("`{app}` has no process `{process}` with a log"),
            format!("there are: {}", known(&dir.logs())),
        ),
        (None, _) => (
            format!("no process of `{app}` has a log here"),
            format!("`landfall status {app}` says whether it ever ran"),
        ),
    };
    CliError::new(Exit::NotFound, "NoLogs", what).hint(hint)
}

fn show(report: &Report, items: &[Item]) {
    for item in items {
        if items.len() > 1 {
            report.line(report.tone(&format!("==> {} <==", item.name), Tone::Strong));
        }
        item.lines.iter().for_each(|line| report.line(line));
    }
}

/// The last lines of a log; 0: all of it, within bounds.
fn last_lines(path: &Path, count: usize) -> io::Result<Vec<String>> {
    let mut file = open(path)?;
    let wanted = if count == 0 { usize::MAX } else { count };
    let bytes = end_of(&mut file, wanted)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(wanted);
    Ok(lines[from..].iter().map(|line| (*line).to_owned()).collect())
}

/// The app can write beside its log: a link or a fifo there must be refused, not followed or waited for.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(i32::try_from(flags.bits()).unwrap_or_default())
        .open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file")),
    }
}

/// The end of a file that holds at least this many whole lines, if it has them within bounds.
fn end_of(file: &mut File, lines: usize) -> io::Result<Vec<u8>> {
    let len = file.metadata()?.len();
    let mut block = BLOCK_BYTES;
    loop {
        let from = len.saturating_sub(block.min(LOG_BYTES_MAX));
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(from))?;
        file.take(len - from).read_to_end(&mut bytes)?;
        let whole = bytes.iter().filter(|byte| **byte == b'\n').count();
        if whole > lines || from == 0 || block >= LOG_BYTES_MAX {
            return Ok(bytes);
        }
        block *= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(text: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("main.log");
        std::fs::write(&path, text).unwrap();
        (dir, path)
    }

    #[test]
    fn the_last_lines_are_whole_however_long_the_log_is() {
        let text: String = (0..20_000).map(|line| format!("line {line} of a log\n")).collect();
        let (_dir, path) = log(&text);
        let lines = last_lines(&path, 8_000).unwrap();
        assert_eq!(lines.len(), 8_000);
        assert_eq!(
            (lines[0].as_str(), lines[7_999].as_str()),
            ("line 12000 of a log", "line 19999 of a log")
        );
        assert_eq!(last_lines(&path, 0).unwrap().len(), 20_000);
        assert_eq!(last_lines(&path, 1).unwrap(), ["line 19999 of a log"]);
    }

    #[test]
    fn a_short_log_and_a_last_line_without_an_end_are_shown() {
        let (_dir, path) = log("one\ntwo");
        assert_eq!(last_lines(&path, 50).unwrap(), ["one", "two"]);
        assert_eq!(last_lines(&path, 1).unwrap(), ["two"]);
        let (_dir, path) = log("");
        assert_eq!(last_lines(&path, 5).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn a_link_in_the_place_of_a_log_is_refused() {
        let (dir, path) = log("secret");
        let link = dir.path().join("other.log");
        std::os::unix::fs::symlink(path, &link).unwrap();
        assert!(last_lines(&link, 5).is_err());
    }
}
