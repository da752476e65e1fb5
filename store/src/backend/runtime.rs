//! The one place where asynchronous clients meet the blocking trait `Backend`.
//!
//! Connections live on a small runtime of their own, shared by every network backend of the process. Callers
//! block their own thread, so whoever uses a backend needs no runtime and may have one: nothing here is
//! forbidden inside another runtime's context, except that it blocks.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

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
    fn it_works_inside_another_runtime() {
        let other = tokio::runtime::Builder::new_current_thread().build().unwrap();
        other.block_on(async {
            let runtime = Runtime::shared().unwrap();
            runtime.run(async { tokio::time::sleep(Duration::from_millis(1)).await });
        });
    }
}
