//! `landfall shim pass NAME PROGRAM ARGUMENT…`: the last moment before an app that is given a socket.
//!
//! The protocol of systemd's socket activation wants the app's own process id in its environment, which is known
//! only in the process itself. The socket comes as standard input and goes on as descriptor 3.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::io::FdFlags;

/// The word that leads here.
pub(crate) const WORD: &str = "pass";

/// The first descriptor beyond the standard ones, which is where apps look (`SD_LISTEN_FDS_START`).
const FIRST: i32 = 3;

/// Becomes the program. Returns only if that is not possible.
pub(super) fn main(arguments: &[OsString]) -> io::Result<()> {
    let [name, program, rest @ ..] = arguments else {
        return Err(io::Error::other("a name and a program are missing"));
    };
    let passed = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), FIRST)?;
    if passed.as_raw_fd() != FIRST {
        return Err(io::Error::other(format!("descriptor {FIRST} is taken already")));
    }
    rustix::io::fcntl_setfd(&passed, FdFlags::empty())?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    let mut command = Command::new(program);
    command.args(rest);
    command.env("LISTEN_FDS", "1").env("LISTEN_PID", std::process::id().to_string());
    command.env("LISTEN_FDNAMES", name);
    let error = command.exec();
    Err(io::Error::new(error.kind(), format!("`{}`: {error}", program.display())))
}
