//! One line of the log for each request, written when its answer has ended. It has no header of the request, so
//! never a token.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use hyper::{Method, StatusCode};

use super::metrics::Metrics;

/// Characters of a path that a line shows: every key of a store, and not much of what is none.
const PATH_CHARS_SHOWN: usize = 200;

/// A request that is being answered.
pub struct Line {
    metrics: Arc<Metrics>,
    method: Method,
    path: String,
    peer: SocketAddr,
    began: Instant,
    status: StatusCode,
    reason: Option<&'static str>,
    received: Arc<AtomicU64>,
    sent: u64,
    expected: u64,
}

impl Line {
    /// Begins when the request's head has arrived.
    pub fn new(metrics: &Arc<Metrics>, method: &Method, path: &str, peer: SocketAddr) -> Self {
        metrics.begins();
        Self {
            metrics: Arc::clone(metrics),
            method: method.clone(),
            path: path.chars().take(PATH_CHARS_SHOWN).collect(),
            peer,
            began: Instant::now(),
            status: StatusCode::OK,
            reason: None,
            received: Arc::default(),
            sent: 0,
            expected: 0,
        }
    }

    /// Where bytes of the request's body are counted.
    pub fn received(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.received)
    }

    /// What is answered: a status, and why it is a refusal.
    pub const fn answers(&mut self, status: StatusCode, reason: Option<&'static str>, bytes: u64) {
        self.status = status;
        self.reason = reason;
        self.expected = bytes;
    }

    /// Bytes of the answer left.
    pub fn sent(&mut self, bytes: usize) {
        self.sent += bytes as u64;
        self.metrics.sent(bytes as u64);
    }

    /// The answer, whose length nobody knew before, is whole.
    pub const fn complete(&mut self) {
        self.expected = self.sent;
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let received = self.received.load(Ordering::Relaxed);
        self.metrics.ended(&self.method, self.status, self.reason, received);
        let (method, path, peer) = (self.method.as_str(), self.path.as_str(), self.peer);
        let (status, sent) = (self.status.as_u16(), self.sent);
        let ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let reason = self.reason.unwrap_or("-");
        let cut = sent < self.expected;
        tracing::info!(method, path, status, reason, sent, received, ms, %peer, cut, "request");
    }
}
