//! Reads what a child prints.

use std::os::fd::OwnedFd;

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;

/// Bytes read at once: the size of a pipe.
const PIPE_BYTES: usize = 64 << 10;

/// Gives every piece of a pipe to `each` until all its writers are gone.
pub(crate) async fn pump(pipe: OwnedFd, mut each: impl FnMut(&[u8])) {
    let Ok(mut pipe) = Receiver::from_owned_fd(pipe) else {
        return;
    };
    let mut buffer = vec![0; PIPE_BYTES];
    while let Ok(count @ 1..) = pipe.read(&mut buffer).await {
        each(&buffer[..count]);
    }
}
