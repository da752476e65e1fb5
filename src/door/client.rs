//! A command's side of the door.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::protocol::{Answer, LINE_BYTES_MAX, Letter, Request, VERSION};
use crate::unix_name::Short;

/// Time for the agent to answer: longer than it gives a caller.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum KnockError {
    /// Nobody is there.
    #[error("no agent answers at {path}")]
    NoAgent {
        /// The socket.
        path: PathBuf,
    },
    /// The door is not for this account.
    #[error("{path}: only root and the account of the agent may give orders")]
    NotAllowed {
        /// The socket.
        path: PathBuf,
    },
    /// Somebody is there and says nothing. The order may have been carried out.
    #[error("the agent at {path} did not answer within {limit:?}")]
    Silent {
        /// The socket.
        path: PathBuf,
        /// How long it was waited for.
        limit: Duration,
    },
    /// The system.
    #[error("{path}: {source}")]
    Io {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The answer is none.
    #[error("the agent at {path} said something else than an answer: {why}")]
    Nonsense {
        /// The socket.
        path: PathBuf,
        /// How that shows.
        why: String,
    },
}

/// Says one thing to the agent and waits for its answer.
pub fn ask(socket: &Path, request: Request) -> Result<Answer, KnockError> {
    let path = socket.to_owned();
    let line =
        speak(socket, &Letter { landfall: VERSION, request }).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                KnockError::NoAgent { path: path.clone() }
            }
            io::ErrorKind::PermissionDenied => KnockError::NotAllowed { path: path.clone() },
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                KnockError::Silent { path: path.clone(), limit: ANSWER_LIMIT }
            }
            _ => KnockError::Io { path: path.clone(), source },
        })?;
    serde_json::from_slice(&line).map_err(|error| KnockError::Nonsense { path, why: error.to_string() })
}

fn speak(socket: &Path, letter: &Letter) -> io::Result<Vec<u8>> {
    let mut agent = UnixStream::connect(Short::of(socket)?.path())?;
    agent.set_read_timeout(Some(ANSWER_LIMIT))?;
    agent.set_write_timeout(Some(ANSWER_LIMIT))?;
    let mut line = serde_json::to_vec(letter)?;
    line.push(b'\n');
    // An agent that sends a caller away does not listen first; its word counts.
    let said = agent.write_all(&line);
    let mut answer = Vec::new();
    BufReader::new(agent).take(LINE_BYTES_MAX as u64).read_until(b'\n', &mut answer)?;
    if answer.is_empty() {
        said?;
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(answer)
}
