//! `landfall status --watch` in a real terminal: a pseudo-terminal with a session of its own, read by a terminal
//! emulator; and without a terminal.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

#[path = "../store/tests/common/faulty_http.rs"]
mod faulty_http;
mod support;

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use faulty_http::{Fault, Server};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use serde_json::Value;
use support::wait::{wait_for, wait_until};
use support::{Host, Source};

const LIMIT: Duration = Duration::from_secs(60);

/// A program in a terminal of its own.
struct Terminal {
    program: Child,
    master: OwnedFd,
    screen: Arc<Mutex<vt100::Parser>>,
    /// Every byte that was drawn.
    drawn: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    /// Runs it through `setsid --ctty`, so that Ctrl-C is a byte that the kernel turns into a signal.
    fn run(command: &Command, rows: u16, columns: u16) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        tcsetwinsize(&master, size(rows, columns)).unwrap();
        let slave = || Stdio::from(File::options().read(true).write(true).open(&name).unwrap());
        let mut program = Command::new("setsid");
        program.args(["--ctty", "--wait"]).arg(command.get_program()).args(command.get_args());
        program.env_clear().envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
        program.env("LANG", "C.UTF-8").env("TERM", "xterm-256color");
        program.current_dir(command.get_current_dir().unwrap());
        let program = program.stdin(slave()).stdout(slave()).stderr(slave()).spawn().unwrap();
        let screen = Arc::new(Mutex::new(vt100::Parser::new(cells(rows), cells(columns), 0)));
        let drawn = Arc::new(Mutex::new(Vec::new()));
        let (to_screen, to_drawn) = (Arc::clone(&screen), Arc::clone(&drawn));
        let mut reader = File::from(master.try_clone().unwrap());
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // The last of those who have the other side open ends it with EIO.
            while let Ok(count @ 1..) = reader.read(&mut bytes) {
                to_screen.lock().unwrap().process(&bytes[..count]);
                to_drawn.lock().unwrap().extend_from_slice(&bytes[..count]);
            }
        });
        Self { program, master, screen, drawn }
    }

    fn text(&self) -> String {
        self.screen.lock().unwrap().screen().contents()
    }

    #[track_caller]
    fn wait_for(&self, text: &str) -> String {
        wait_for(&format!("`{text}` on the screen"), LIMIT, || {
            let shown = self.text();
            shown.contains(text).then_some(shown)
        })
    }

    fn resize(&self, rows: u16, columns: u16) {
        self.screen.lock().unwrap().screen_mut().set_size(cells(rows), cells(columns));
        tcsetwinsize(&self.master, size(rows, columns)).unwrap();
    }

    fn type_in(&self, bytes: &[u8]) {
        File::from(self.master.try_clone().unwrap()).write_all(bytes).unwrap();
    }

    /// Its exit status.
    fn ended(&mut self) -> Option<i32> {
        wait_for("it ends", LIMIT, || self.program.try_wait().unwrap()).code()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.program.kill().ok();
        self.program.wait().ok();
    }
}

fn cells(count: u16) -> std::num::NonZero<u16> {
    std::num::NonZero::new(count).unwrap()
}

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

/// A deployed sleeper.
fn deployed() -> (Host, Source) {
    let host = Host::new("prod", "");
    let source = Source::sleeper("1");
    host.deploy_once(&source).expect_code(0);
    (host, source)
}

#[test]
fn a_terminal_shows_each_change_as_it_comes_and_is_given_back_on_ctrl_c() {
    let (mut host, source) = deployed();
    let mut terminal = Terminal::run(&host.landfall(&["status", "--watch"]), 24, 80);
    let shown = terminal.wait_for("no agent is running");
    assert!(shown.contains("Synced") && shown.contains("Ctrl-C ends"), "{shown}");

    host.start_agent();
    wait_until("the agent is seen", LIMIT, || !terminal.text().contains("no agent"));
    terminal.wait_for("✓  web");
    host.want("web", &host.pack_next(source.path()));
    terminal.wait_for("0.0.2");
    terminal.wait_for("✓  web");

    let alternate = || terminal.screen.lock().unwrap().screen().alternate_screen();
    assert!(alternate() && terminal.screen.lock().unwrap().screen().hide_cursor());
    terminal.type_in(b"\x03");
    assert_eq!(terminal.ended(), Some(130));
    wait_until("the terminal's own page is back", LIMIT, || {
        !terminal.screen.lock().unwrap().screen().alternate_screen()
    });
    assert!(!terminal.screen.lock().unwrap().screen().hide_cursor());
    terminal.wait_for("0.0.2");
}

#[test]
fn a_screen_is_never_empty_between_two_pictures() {
    let (host, source) = deployed();
    let mut terminal = Terminal::run(&host.landfall(&["status", "--watch"]), 24, 80);
    terminal.wait_for("Healthy");
    host.want("web", &host.pack_next(source.path()));
    terminal.wait_for("`landfall watch` brings it");
    terminal.type_in(b"\x03");
    assert_eq!(terminal.ended(), Some(130));
    let drawn = String::from_utf8_lossy(&terminal.drawn.lock().unwrap()).into_owned();
    assert!(!drawn.contains("\x1b[2J"), "the whole screen was cleared");
    assert_eq!(
        drawn.matches("\x1b[?2026h").count(),
        drawn.matches("\x1b[?2026l").count(),
        "pictures are whole"
    );
}

#[test]
fn a_terminal_that_changes_its_size_is_drawn_anew_and_never_scrolls() {
    let (host, source) = deployed();
    host.want("web", &host.pack_next(source.path()));
    let mut terminal = Terminal::run(&host.landfall(&["status", "--watch"]), 24, 120);
    terminal.wait_for("Ctrl-C ends");
    terminal.resize(6, 50);
    terminal.wait_for("more lines: the terminal is too low");
    let shown = terminal.text();
    assert!(shown.lines().next().unwrap().contains("APP"), "the top stays: {shown}");
    terminal.resize(24, 80);
    wait_until("everything is there again", LIMIT, || !terminal.text().contains("more lines"));
    terminal.wait_for("no agent is running");
    terminal.type_in(b"\x03");
    assert_eq!(terminal.ended(), Some(130));
}

/// The lines that a program prints, as they come.
fn lines(child: &mut Child) -> std::sync::mpsc::Receiver<String> {
    let (tell, lines) = std::sync::mpsc::channel();
    let out = BufReader::new(child.stdout.take().unwrap());
    std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| tell.send(line)));
    lines
}

#[test]
fn without_a_terminal_each_change_is_a_line_and_nothing_is_drawn() {
    let (host, source) = deployed();
    let mut child = host.landfall(&["status", "--watch"]).stdout(Stdio::piped()).spawn().unwrap();
    let told = lines(&mut child);
    let first = told.recv_timeout(LIMIT).unwrap();
    assert!(first.contains("web/prod Synced Healthy (no agent)"), "{first}");
    host.want("web", &host.pack_next(source.path()));
    let second = told.recv_timeout(LIMIT).unwrap();
    assert!(second.contains("OutOfSync") && second.contains("next: `landfall watch`"), "{second}");
    assert!(!format!("{first}{second}").contains('\x1b'));
    interrupt(&child);
    assert_eq!(wait_for("it ends", LIMIT, || child.try_wait().unwrap()).code(), Some(130));
}

#[test]
fn machines_get_one_document_for_each_change() {
    let (host, source) = deployed();
    let mut child =
        host.landfall(&["status", "--watch", "-o", "ndjson"]).stdout(Stdio::piped()).spawn().unwrap();
    let told = lines(&mut child);
    let next = || serde_json::from_str::<Value>(&told.recv_timeout(LIMIT).unwrap()).unwrap();
    assert_eq!((next()["sync"].as_str(), true), (Some("Synced"), true));
    host.want("web", &host.pack_next(source.path()));
    assert_eq!(next()["sync"], "OutOfSync");
    interrupt(&child);
    child.wait().unwrap();
    let said = host.run(&["status", "--watch", "-o", "json"]);
    said.expect_code(2);
    assert!(said.out.contains("WatchNeedsLines"), "{}", said.out);
}

#[test]
fn a_reader_that_goes_away_ends_it() {
    let (host, source) = deployed();
    let mut child = host.landfall(&["status", "--watch"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    out.read_line(&mut String::new()).unwrap();
    drop(out);
    host.want("web", &host.pack_next(source.path()));
    assert_eq!(wait_for("it ends", LIMIT, || child.try_wait().unwrap()).code(), Some(0));
}

fn interrupt(child: &Child) {
    rustix::process::kill_process(rustix::process::Pid::from_child(child), rustix::process::Signal::INT)
        .unwrap();
}

#[test]
fn a_fetch_shows_a_bar_with_bytes_rate_and_time_left_and_leaves_none_of_it() {
    let host = Host::new("prod", "");
    let mut source = Source::sleeper("large");
    for number in 0..4u8 {
        // Contents that do not compress, each a frame of its own.
        let mut bytes = vec![0; 2 << 20];
        fill_with_noise(number, &mut bytes);
        source = source.with(&format!("app/{number}"), &bytes);
    }
    let artifact = host.pack_next(source.path());
    let server = Server::of(&host.root().join("store"));
    let url = server.url();
    server.misbehave(|request| match request.path.ends_with(".lfp") {
        true => Fault::Slow(32 << 10, Duration::from_millis(50)),
        false => Fault::None,
    });
    let release = ["release", &artifact, "--app", "web", "--env", "prod", "--store", &url, "--skip-pm2"];
    let mut terminal = Terminal::run(&host.landfall(&release), 24, 80);
    let shown = terminal.wait_for("left");
    let line = shown.lines().find(|line| line.contains("left")).unwrap();
    for part in ["fetching", "━", "─", " MB of 8.4 MB", "/s, "] {
        assert!(line.contains(part), "{part}: {line}");
    }
    server.misbehave(|_| Fault::None);
    assert_eq!(terminal.ended(), Some(0), "{}", terminal.text());
    assert!(!terminal.text().contains("left"), "{}", terminal.text());
    assert!(!host.app("web", "prod").join("fetching").exists());
}

fn fill_with_noise(seed: u8, bytes: &mut [u8]) {
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(bytes);
}
