//! The agent's side of the door.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tracing::{debug, warn};

use super::protocol::{Answer, Denied, Knock, LINE_BYTES_MAX, Letter, Request, VERSION};
use crate::disk::TEMPORARY_PREFIX;

/// Callers at a time; one more is told to come again.
const CALLERS_MAX: usize = 16;
/// Time for a caller to say its line, and to take the answer.
const CALLER_LIMIT: Duration = Duration::from_secs(5);
/// Callers the kernel keeps waiting.
const BACKLOG: i32 = 64;
/// Pause after the system could not accept a caller (too many open files).
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Exit codes of refusals at the door (`docs/cli.md`).
const USAGE: u8 = 2;
const NO_AGENT: u8 = 15;
const OTHER: u8 = 20;

/// Why there is no door.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}")]
pub struct DoorError {
    path: PathBuf,
    source: io::Error,
}

/// An open door. Dropping it removes the socket file.
#[derive(Debug)]
pub struct Door {
    path: PathBuf,
    serving: tokio::task::JoinHandle<()>,
}

impl Door {
    /// Opens it. Only under the lock of the host: a socket file that is there belongs to an agent that is dead,
    /// and is replaced. Knocks go to `knocks`, in order.
    pub fn open(path: &Path, knocks: mpsc::Sender<Knock>) -> Result<Self, DoorError> {
        let listener = listen(path)
            .and_then(UnixListener::from_std)
            .map_err(|source| DoorError { path: path.to_owned(), source })?;
        let serving = tokio::task::spawn_local(serve(listener, knocks));
        Ok(Self { path: path.to_owned(), serving })
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.serving.abort();
        if let Err(error) = std::fs::remove_file(&self.path) {
            debug!(path = %self.path.display(), %error, "the socket was not removed; the next agent replaces it");
        }
    }
}

/// Listens under another name first, so that whoever finds the socket may knock, and nobody else may ever.
fn listen(path: &Path) -> io::Result<StdListener> {
    let dir = path.parent().unwrap_or(Path::new("."));
    remove_leftovers(dir)?;
    let new = dir.join(format!("{TEMPORARY_PREFIX}{:08x}.sock", fastrand::u32(..)));
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let bound = bind(&socket, &new).and_then(|()| {
        std::fs::set_permissions(&new, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        rustix::net::listen(&socket, BACKLOG)?;
        std::fs::rename(&new, path)
    });
    if bound.is_err() {
        // Nobody ever saw that name; the first error is the one to report.
        drop(std::fs::remove_file(&new));
    }
    bound.map(|()| StdListener::from(socket))
}

/// A name of a socket has 108 bytes at most; the directory is named by its descriptor, however deep it lies.
fn bind(socket: &OwnedFd, path: &Path) -> io::Result<()> {
    let short = crate::unix_name::Short::of(path)?;
    Ok(rustix::net::bind(socket, &SocketAddrUnix::new(short.path())?)?)
}

fn remove_leftovers(dir: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(TEMPORARY_PREFIX) && name.ends_with(".sock") {
            std::fs::remove_file(dir.join(&*name))?;
        }
    }
    Ok(())
}

async fn serve(listener: UnixListener, knocks: mpsc::Sender<Knock>) {
    let room = Arc::new(Semaphore::new(CALLERS_MAX));
    loop {
        let caller = match listener.accept().await {
            Ok((caller, _)) => caller,
            Err(error) => {
                warn!(%error, "a command could not be let in");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
            busy(&caller);
            continue;
        };
        let knocks = knocks.clone();
        tokio::task::spawn_local(async move {
            if tokio::time::timeout(CALLER_LIMIT, receive(caller, knocks)).await.is_err() {
                debug!("a caller at the door took too long");
            }
            drop(permit);
        });
    }
}

/// Hears one caller out and answers.
async fn receive(mut caller: UnixStream, knocks: mpsc::Sender<Knock>) {
    let answer = match hear(&mut caller).await {
        Ok(request) => put(request, &knocks).await,
        Err(denied) => Answer::Denied(denied),
    };
    if let Err(error) = say(&mut caller, &answer).await {
        debug!(%error, "a caller left before the answer");
    }
}

async fn hear(caller: &mut UnixStream) -> Result<Request, Denied> {
    let credentials = caller.peer_cred().map_err(|error| Denied::new(OTHER, "NoCredentials", error))?;
    let own = rustix::process::geteuid().as_raw();
    if credentials.uid() != 0 && credentials.uid() != own {
        warn!(uid = credentials.uid(), "a command of another account was refused");
        let what = format!("user {} may not give orders to this agent", credentials.uid());
        return Err(Denied {
            hint: Some("run the command as root or as the account of the agent".to_owned()),
            ..Denied::new(OTHER, "PermissionDenied", what)
        });
    }
    let mut line = Vec::new();
    let mut bounded = BufReader::new(caller).take(LINE_BYTES_MAX as u64 + 1);
    let read = bounded.read_until(b'\n', &mut line).await;
    read.map_err(|error| Denied::new(OTHER, "NotHeard", error))?;
    if line.pop() != Some(b'\n') {
        let what = format!("a request is one line of at most {LINE_BYTES_MAX} bytes");
        return Err(Denied::new(USAGE, "NotALine", what));
    }
    let letter: Letter = serde_json::from_slice(&line).map_err(|error| Denied {
        hint: Some("agent and command are of different versions? restart the agent".to_owned()),
        ..Denied::new(USAGE, "NotUnderstood", format!("the agent does not understand the request: {error}"))
    })?;
    match letter.landfall {
        VERSION => Ok(letter.request),
        other => Err(Denied {
            hint: Some("restart the agent after an upgrade".to_owned()),
            ..Denied::new(USAGE, "OtherVersion", format!("the agent speaks version {VERSION}, not {other}"))
        }),
    }
}

/// Hands a request to the loop and waits for what it says.
async fn put(request: Request, knocks: &mpsc::Sender<Knock>) -> Answer {
    let (answer, told) = oneshot::channel();
    let gone =
        || Answer::Denied(Denied::new(NO_AGENT, "Stopping", "the agent is stopping; nothing was changed"));
    if knocks.send(Knock { request, answer }).await.is_err() {
        return gone();
    }
    told.await.unwrap_or_else(|_| gone())
}

async fn say(caller: &mut UnixStream, answer: &Answer) -> io::Result<()> {
    caller.write_all(&line_of(answer)).await?;
    caller.shutdown().await
}

/// Tells a caller that there are too many, without waiting for it to listen.
fn busy(caller: &UnixStream) {
    let what = format!("{CALLERS_MAX} commands are at the agent's door already");
    let denied =
        Denied { hint: Some("try again in a moment".to_owned()), ..Denied::new(NO_AGENT, "Busy", what) };
    if let Err(error) = caller.try_write(&line_of(&Answer::Denied(denied))) {
        debug!(%error, "a caller was sent away without a word");
    }
}

fn line_of(answer: &Answer) -> Vec<u8> {
    let mut line = serde_json::to_vec(answer).expect("answers hold only what JSON can say");
    line.push(b'\n');
    line
}
