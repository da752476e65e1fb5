//! The one place where asynchronous clients meet the blocking trait `Backend`.
//!
//! Connections live on a small runtime of their own, shared by every network backend of the process. Callers
//! block their own thread, so whoever uses a backend needs no runtime and may have one: nothing here is
//! forbidden inside another runtime's context, except that it blocks.

use std::future::Future;
use std::io::{self, Read};
use std::pin::{Pin, pin};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use bytes::{Buf, Bytes};
use futures_util::{Stream, StreamExt};

/// Threads that move bytes between sockets and their readers: they hash and decompress nothing.
const THREADS: usize = 2;

/// Runs futures of network clients for callers that block.
pub(crate) struct Runtime(tokio::runtime::Runtime);

impl Runtime {
    /// The process's runtime, made at first use.
    pub(crate) fn shared() -> io::Result<&'static Self> {
        static SHARED: OnceLock<Runtime> = OnceLock::new();
        if let Some(runtime) = SHARED.get() {
            return Ok(runtime);
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("landfall-net")
            .enable_all()
            .build()?;
        // Of two first users one drops its own again.
        Ok(SHARED.get_or_init(|| Self(runtime)))
    }

    /// Runs a future to its end on the calling thread. Sockets and timers that it makes are the runtime's, so
    /// make them inside it.
    pub(crate) fn run<F: Future>(&self, future: F) -> F::Output {
        let _inside = self.0.enter();
        let waker = Waker::from(Arc::new(Parked(std::thread::current())));
        let mut context = Context::from_waker(&waker);
        let mut future = pin!(future);
        loop {
            match future.as_mut().poll(&mut context) {
                Poll::Ready(output) => return output,
                Poll::Pending => std::thread::park(),
            }
        }
    }

    /// A stream of bytes as a blocking reader. One chunk is held at a time: what the reader does not take
    /// stays in the socket, and the sender is held up.
    pub(crate) fn reader<S>(&'static self, stream: S) -> StreamReader
    where
        S: Stream<Item = io::Result<Bytes>> + Send + 'static,
    {
        StreamReader { runtime: self, stream: Box::pin(stream), chunk: Bytes::new() }
    }
}

/// What [`Runtime::reader`] makes.
pub(crate) struct StreamReader {
    runtime: &'static Runtime,
    stream: Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>,
    chunk: Bytes,
}

impl Read for StreamReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            match self.runtime.run(self.stream.next()) {
                Some(chunk) => self.chunk = chunk?,
                None => return Ok(0),
            }
        }
        let length = buffer.len().min(self.chunk.len());
        self.chunk.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

struct Parked(Thread);

impl Wake for Parked {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_stream_is_read_in_pieces_of_any_size() {
        let chunks = [b"hel".as_slice(), b"", b"lo, ", b"world"].map(|text| Ok(Bytes::from_static(text)));
        let mut reader = Runtime::shared().unwrap().reader(futures_util::stream::iter(chunks));
        let mut text = Vec::new();
        let mut two = [0; 2];
        while let read @ 1.. = reader.read(&mut two).unwrap() {
            text.extend_from_slice(&two[..read]);
        }
        assert_eq!(text, b"hello, world");
    }

    #[test]
    fn it_works_inside_another_runtime() {
        let other = tokio::runtime::Builder::new_current_thread().build().unwrap();
        other.block_on(async {
            let runtime = Runtime::shared().unwrap();
            runtime.run(async { tokio::time::sleep(Duration::from_millis(1)).await });
        });
    }
}
