//! An app's listening socket: bound once, held by the shim of what serves, and given to the shim of what comes after.
//!
//! It outlives releases and agents because a shim does. Whoever asks at `socket` in the shim's directory is given
//! the descriptor (SCM_RIGHTS); the directory is landfall's own, so nobody else can ask.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;

use rustix::net::sockopt::set_socket_reuseaddr;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg,
};
use tokio::net::UnixListener;

use super::limits::{CONNECTIONS_WAITING, HAND_OVER_WAIT};
use super::order::{Listen, SlotFiles};
use crate::start::RunAs;
use crate::start::command::prepare;
use crate::unix_name::Short;

/// The listening socket of this order: that of the shim it names, else a new one.
///
/// A shim that has just died gives nothing any more: then the address is free, or held by somebody who is named.
pub(crate) fn obtain(wanted: &Listen) -> io::Result<TcpListener> {
    let address = wanted.address;
    let given = wanted.from.as_deref().and_then(|from| ask(from).ok());
    match given.filter(|listener| listener.local_addr().is_ok_and(|own| own == address)) {
        Some(listener) => Ok(listener),
        None => listen(address).map_err(|error| why_not(address, &error)),
    }
}

/// As systemd makes them: it blocks, and nothing of it is inherited by accident.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, CONNECTIONS_WAITING)?;
    Ok(socket.into())
}

fn why_not(address: SocketAddr, error: &io::Error) -> io::Error {
    let holders = crate::proc::listeners(address.port());
    let by = holders.first().map(|holder| format!(": it is held by {holder}")).unwrap_or_default();
    io::Error::new(error.kind(), format!("cannot listen on {address}: {error}{by}"))
}

fn ask(from: &Path) -> io::Result<TcpListener> {
    let shim = UnixStream::connect(Short::of(from)?.path())?;
    shim.set_read_timeout(Some(HAND_OVER_WAIT))?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(&shim, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut descriptors = control.drain().flat_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => descriptors.collect::<Vec<OwnedFd>>(),
        _ => Vec::new(),
    });
    descriptors.next().map(TcpListener::from).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

/// Gives the socket to whoever asks, for as long as this process lives.
pub(super) fn hand_out(files: &SlotFiles, listener: &TcpListener) -> io::Result<()> {
    let path = files.socket();
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let door = UnixListener::bind(Short::of(&path)?.path())?;
    let held = listener.try_clone()?;
    tokio::task::spawn_local(async move {
        while let Ok((asking, _)) = door.accept().await {
            // Whoever went away again needs nothing.
            let _ = give(&asking, &held);
        }
    });
    Ok(())
}

fn give(asking: &impl AsFd, held: &TcpListener) -> io::Result<()> {
    let descriptors = [held.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    sendmsg(asking, &[IoSlice::new(&[0])], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// The command of a process that is given this socket: it becomes `argv` by way of [`super::pass`].
pub(crate) fn passing(
    listener: &TcpListener,
    name: &str,
    argv: &[String],
    dir: &Path,
    env: &std::collections::BTreeMap<String, String>,
    run_as: Option<RunAs>,
) -> io::Result<std::process::Command> {
    use std::os::unix::process::CommandExt;
    let own = [crate::proc::OWN_PROGRAM, super::SUBCOMMAND, super::pass::WORD, name].map(str::to_owned);
    let mut command = prepare(&[&own[..], argv].concat(), dir, env, run_as);
    command.arg0("landfall").stdin(Stdio::from(OwnedFd::from(listener.try_clone()?)));
    Ok(command)
}
