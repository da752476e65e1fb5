//! An object's bytes as a stream that goes on where it was cut.

use std::io::{self, Read};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use reqwest::{Method, Response};
use tokio::time::timeout;

use super::HttpBackend;
use super::effort::Effort;
use super::patience::Patience;
use super::range::{Asked, Verdict, judge};
use super::request::{Fault, answer, told};
use crate::backend::Key;

/// Wrong answers to a range after which the object is asked for as a whole.
const WRONG_MAX: u32 = 2;

/// Bytes of an object from `at` to `end`, or to the object's end.
pub(super) struct Body<'a> {
    backend: &'a HttpBackend,
    key: Key,
    at: u64,
    end: u64,
    live: Option<Live>,
    chunk: Bytes,
    effort: Effort,
    /// Wrong answers to ranges so far.
    wrong: u32,
}

/// An answer whose body is being read.
struct Live {
    response: Response,
    /// Whether the body is the object from its first byte on, although a range was asked for.
    whole: bool,
    /// Bytes before the first that is wanted.
    skip: u64,
    /// Bytes that the body still has to bring; `None` where only its end will tell.
    due: Option<u64>,
    pace: Pace,
}

/// The rate of one body, over time spent waiting for it.
#[derive(Default)]
struct Pace {
    waited: Duration,
    bytes: u64,
}

impl<'a> Body<'a> {
    /// Asks for `length` bytes from `offset` on, and waits for the head of a usable answer. With `or_whole`,
    /// a server that ignores the range is taken at its word: the stream then begins at the object's first
    /// byte and goes to its last; the second value says whether that is so.
    pub(super) fn open(
        backend: &'a HttpBackend,
        key: &Key,
        asked: Asked,
        or_whole: bool,
    ) -> Result<(Self, bool), Fault> {
        let mut body = Self {
            backend,
            key: key.clone(),
            at: asked.offset,
            end: asked.offset.saturating_add(asked.length),
            live: None,
            chunk: Bytes::new(),
            effort: Effort::new(backend.patience.in_all(asked.length)),
            wrong: 0,
        };
        if asked.length > 0 {
            body.connect()?;
        }
        let Some(live) = body.live.as_mut().filter(|live| or_whole && live.whole) else {
            return Ok((body, false));
        };
        live.skip = 0;
        body.at = 0;
        body.end = live.due.unwrap_or(u64::MAX);
        Ok((body, true))
    }

    /// Asks until there is an answer to read from, or no more hope of one.
    fn connect(&mut self) -> Result<(), Fault> {
        loop {
            let backend = self.backend;
            let begun = Instant::now();
            let attempt = backend.runtime.run(self.attempt());
            self.effort.waited += begun.elapsed();
            match attempt {
                Ok(()) => return Ok(()),
                Err(fault) => self.failed(fault)?,
            }
        }
    }

    async fn attempt(&mut self) -> Result<(), Fault> {
        let asked = Asked { offset: self.at, length: self.end - self.at };
        let range = (self.wrong < WRONG_MAX && self.end < u64::MAX).then_some(asked);
        let response = self.backend.ask(Method::GET, &self.key, range).await?;
        let (whole, due) = match judge(asked, answer(&response)) {
            Verdict::Part(bytes) => (false, Some(bytes)),
            Verdict::Whole(size) => (true, size),
            Verdict::PastEnd => {
                self.end = self.at;
                return Ok(());
            }
            Verdict::Wrong(why) => {
                self.wrong += 1;
                return Err(Fault::passing(why));
            }
            Verdict::Encoded(how) => {
                return Err(Fault::Final(format!(
                    "it sends the object compressed ({how}): switch that off for the store"
                )));
            }
        };
        if range.is_some() {
            self.backend.ignores_ranges.store(whole, Ordering::Relaxed);
        }
        let skip = if whole { self.at } else { 0 };
        if let Some(due) = due {
            self.end = self.end.min((self.at - skip).saturating_add(due)).max(self.at);
            self.effort.allowed = self.backend.patience.in_all(due);
        }
        self.live = Some(Live { response, whole, skip, due, pace: Pace::default() });
        Ok(())
    }

    /// Decides about another try, and pauses before it.
    fn failed(&mut self, fault: Fault) -> Result<(), Fault> {
        self.live = None;
        self.effort.wait(fault, &self.backend.patience)
    }

    /// The next bytes; none at the end.
    fn next(&mut self) -> Result<Bytes, Fault> {
        while self.at < self.end {
            let Some(live) = &mut self.live else {
                self.connect()?;
                continue;
            };
            let backend = self.backend;
            let begun = Instant::now();
            let read = backend.runtime.run(live.read(&backend.patience));
            self.effort.waited += begun.elapsed();
            match read {
                Ok(Some(mut bytes)) => {
                    bytes.advance(live.skipped(bytes.len()));
                    bytes.truncate(usize::try_from(self.end - self.at).unwrap_or(usize::MAX));
                    self.at += bytes.len() as u64;
                    self.effort.progress(bytes.len());
                    if !bytes.is_empty() {
                        return Ok(bytes);
                    }
                }
                Ok(None) if live.due.is_none() => self.end = self.at,
                Ok(None) => self.failed(cut(self.at))?,
                Err(fault) => self.failed(fault)?,
            }
        }
        self.live = None;
        Ok(Bytes::new())
    }
}

fn cut(at: u64) -> Fault {
    Fault::passing(format!("it was cut at byte {at}"))
}

impl Live {
    async fn read(&mut self, patience: &Patience) -> Result<Option<Bytes>, Fault> {
        if self.due == Some(0) {
            return Ok(None);
        }
        let left = patience.window.saturating_sub(self.pace.waited);
        let begun = Instant::now();
        let read = timeout(left, self.response.chunk()).await;
        self.pace.waited += begun.elapsed();
        match read {
            Ok(Ok(Some(mut bytes))) => {
                if let Some(due) = &mut self.due {
                    bytes.truncate(usize::try_from(*due).unwrap_or(usize::MAX));
                    *due -= bytes.len() as u64;
                }
                self.pace.bytes += bytes.len() as u64;
                if self.pace.bytes >= patience.window_bytes {
                    self.pace = Pace::default();
                }
                Ok(Some(bytes))
            }
            Ok(Ok(None)) => Ok(None),
            Ok(Err(error)) => Err(Fault::passing(format!("it was cut: {}", told(&error)))),
            Err(_) => Err(Fault::Slow(format!(
                "it is too slow: {} bytes in {:?}",
                self.pace.bytes, patience.window
            ))),
        }
    }

    /// How many of `length` bytes lie before the first that is wanted.
    fn skipped(&mut self, length: usize) -> usize {
        let skipped = length.min(usize::try_from(self.skip).unwrap_or(usize::MAX));
        self.skip -= skipped as u64;
        skipped
    }
}

impl Read for Body<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.chunk.is_empty() {
            let next = self.next();
            self.chunk =
                next.map_err(|fault| io::Error::other(self.backend.error("read", &self.key, fault)))?;
        }
        let length = buffer.len().min(self.chunk.len());
        self.chunk.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}
