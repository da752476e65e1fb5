//! Several places with the same objects: each object comes from the first that can give it.

use std::collections::{HashMap, HashSet};
use std::io::{self, Read};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::{Access, Backend, BackendError, Cost, Key, Listed, Opened, Upload};

/// How long a place that failed is asked last, so that a dead one delays one object and not each.
const REST: Duration = Duration::from_secs(60);
/// Objects about which places are remembered as wrong; beyond it something else is the matter.
const MISTRUSTED_MAX: usize = 4096;

/// A store and its mirrors. Only the store itself is written to.
pub struct MirroredBackend {
    places: Vec<Place>,
    /// Places that gave wrong bytes, by object.
    mistrusted: Mutex<HashMap<Key, HashSet<usize>>>,
}

struct Place {
    backend: Box<dyn Backend>,
    failed: Mutex<Option<Instant>>,
}

impl Place {
    /// Whether it failed a moment ago.
    fn rests(&self) -> bool {
        lock(&self.failed).is_some_and(|failed| failed.elapsed() < REST)
    }

    fn note_failure(&self) {
        *lock(&self.failed) = Some(Instant::now());
    }
}

impl MirroredBackend {
    /// A store and the places that are asked, in order, for what it cannot give.
    pub fn new(store: Box<dyn Backend>, mirrors: Vec<Box<dyn Backend>>) -> Self {
        let place = |backend| Place { backend, failed: Mutex::default() };
        Self {
            places: std::iter::once(store).chain(mirrors).map(place).collect(),
            mistrusted: Mutex::default(),
        }
    }

    fn store(&self) -> &dyn Backend {
        &*self.places[0].backend
    }

    /// The places in the order in which they are asked for an object: last those that gave wrong bytes for
    /// it, before them those that failed a moment ago.
    fn order(&self, key: &Key) -> Vec<usize> {
        let mistrusted = lock(&self.mistrusted);
        let wrong = mistrusted.get(key);
        let mut order: Vec<usize> = (0..self.places.len()).collect();
        order.sort_by_key(|at| (wrong.is_some_and(|wrong| wrong.contains(at)), self.places[*at].rests()));
        order
    }

    /// The first answer of `places`, and whose it is; else the error that says most.
    fn first<'a, T>(
        &'a self,
        places: &[usize],
        ask: impl Fn(&'a dyn Backend) -> Result<T, BackendError>,
    ) -> Result<(usize, T), Option<BackendError>> {
        let mut told: Option<BackendError> = None;
        for &at in places {
            let place = &self.places[at];
            let error = match ask(&*place.backend) {
                Ok(answer) => return Ok((at, answer)),
                Err(error) => error,
            };
            let absent = matches!(error, BackendError::NotFound { .. });
            if matches!(error, BackendError::Unreachable { .. }) {
                place.note_failure();
                tracing::warn!(%error, "asking the next place");
            }
            if told.as_ref().is_none_or(|told| !absent && matches!(told, BackendError::NotFound { .. })) {
                told = Some(error);
            }
        }
        Err(told)
    }

    fn ask_any<'a, T>(
        &'a self,
        key: &Key,
        ask: impl Fn(&'a dyn Backend) -> Result<T, BackendError>,
    ) -> Result<(usize, T), BackendError> {
        let absent = || BackendError::NotFound { key: key.clone(), at: self.location() };
        self.first(&self.order(key), ask).map_err(|told| told.unwrap_or_else(absent))
    }

    fn body<'a>(&'a self, key: &Key, at: u64, end: u64, first: (usize, Reading<'a>)) -> Reading<'a> {
        let (place, stream) = first;
        let others = self.order(key).into_iter().filter(|other| *other != place).collect();
        Box::new(Body { backend: self, key: key.clone(), at, end, stream, place, others })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

type Reading<'a> = Box<dyn Read + Send + 'a>;

/// A stream that goes on at another place where one breaks.
struct Body<'a> {
    backend: &'a MirroredBackend,
    key: Key,
    at: u64,
    end: u64,
    stream: Reading<'a>,
    place: usize,
    others: Vec<usize>,
}

impl Read for Body<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let error = match self.stream.read(buffer) {
                Ok(read) => {
                    self.at += read as u64;
                    return Ok(read);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => error,
            };
            let Self { backend, key, at, end, .. } = self;
            backend.places[self.place].note_failure();
            let place = backend.places[self.place].backend.location();
            tracing::warn!(%error, object = %key, place, at, "asking the next place for the rest");
            let next = backend.first(&self.others, |place| place.read(key, *at, *end - *at));
            let Ok((place, stream)) = next else { return Err(error) };
            (self.place, self.stream) = (place, stream);
            self.others.retain(|other| *other != place);
        }
    }
}

impl Backend for MirroredBackend {
    fn location(&self) -> String {
        self.store().location()
    }

    fn cost(&self) -> Cost {
        self.store().cost()
    }

    fn now(&self) -> Result<SystemTime, BackendError> {
        self.store().now()
    }

    fn size(&self, key: &Key) -> Result<Option<u64>, BackendError> {
        let absent = || BackendError::NotFound { key: key.clone(), at: self.location() };
        match self.ask_any(key, |place| place.size(key)?.ok_or_else(absent)) {
            Ok((_, size)) => Ok(Some(size)),
            Err(BackendError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn read(&self, key: &Key, offset: u64, length: u64) -> Result<Box<dyn Read + Send + '_>, BackendError> {
        let first = self.ask_any(key, |place| place.read(key, offset, length))?;
        Ok(self.body(key, offset, offset.saturating_add(length), first))
    }

    fn open(&self, key: &Key, offset: u64, length: u64) -> Result<Opened<'_>, BackendError> {
        let (place, opened) = self.ask_any(key, |place| place.open(key, offset, length))?;
        Ok(match opened {
            Opened::Part(stream) => {
                Opened::Part(self.body(key, offset, offset.saturating_add(length), (place, stream)))
            }
            Opened::Whole(stream) => Opened::Whole(self.body(key, 0, u64::MAX, (place, stream))),
        })
    }

    fn mistrust(&self, key: &Key) -> bool {
        let Some(&asked_first) = self.order(key).first() else { return false };
        let mut mistrusted = lock(&self.mistrusted);
        if mistrusted.len() >= MISTRUSTED_MAX && !mistrusted.contains_key(key) {
            return false;
        }
        let wrong = mistrusted.entry(key.clone()).or_default();
        wrong.insert(asked_first);
        if wrong.len() < self.places.len() {
            return true;
        }
        // Every place was wrong: the next time they are asked in their order again.
        mistrusted.remove(key);
        false
    }

    fn begin(&self, under: Option<&Key>, access: Access) -> Result<Box<dyn Upload + '_>, BackendError> {
        self.store().begin(under, access)
    }

    fn replace(&self, key: &Key, bytes: &[u8]) -> Result<(), BackendError> {
        self.store().replace(key, bytes)
    }

    fn list(&self, under: &Key) -> Result<Vec<Listed>, BackendError> {
        let all: Vec<usize> = (0..self.places.len()).collect();
        match self.first(&all, |place| place.list(under)) {
            Ok((_, listed)) => Ok(listed),
            Err(error) => error.map_or_else(|| Ok(Vec::new()), Err),
        }
    }

    fn delete(&self, key: &Key) -> Result<(), BackendError> {
        self.store().delete(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::MemoryBackend;

    fn key(text: &str) -> Key {
        Key::new(text).unwrap()
    }

    fn with(objects: &[(&str, &[u8])]) -> Box<dyn Backend> {
        let memory = MemoryBackend::default();
        for (name, bytes) in objects {
            memory.replace(&key(name), bytes).unwrap();
        }
        Box::new(memory)
    }

    #[test]
    fn what_the_store_lacks_comes_from_a_mirror() {
        let all = MirroredBackend::new(with(&[("a/1", b"one")]), vec![with(&[]), with(&[("a/2", b"two")])]);
        let all: &dyn Backend = &all;
        assert_eq!(all.get(&key("a/1"), 9).unwrap(), b"one");
        assert_eq!(all.get(&key("a/2"), 9).unwrap(), b"two");
        assert_eq!(all.size(&key("a/2")).unwrap(), Some(3));
        assert_eq!(all.find(&key("a/3"), 9).unwrap(), None);
    }

    #[test]
    fn wrong_bytes_are_asked_for_elsewhere_until_every_place_was_wrong() {
        let all = MirroredBackend::new(
            with(&[("a", b"bad"), ("b", b"1")]),
            vec![with(&[("a", b"worse"), ("b", b"2")]), with(&[("a", b"good")])],
        );
        let all: &dyn Backend = &all;
        let mut read = vec![all.get(&key("a"), 9).unwrap()];
        while all.mistrust(&key("a")) {
            read.push(all.get(&key("a"), 9).unwrap());
        }
        assert_eq!(read, [b"bad".as_slice(), b"worse", b"good"]);
        assert_eq!(all.get(&key("a"), 9).unwrap(), b"bad", "from the start again");
        assert_eq!(all.get(&key("b"), 9).unwrap(), b"1", "another object is trusted");
    }

    struct Breaking;

    impl Read for Breaking {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let _ = buffer;
            Err(io::Error::other("broken"))
        }
    }

    #[test]
    fn a_stream_that_breaks_goes_on_elsewhere_at_its_byte() {
        let all = MirroredBackend::new(with(&[]), vec![with(&[("a", b"0123456789")])]);
        let broken: Reading<'_> = Box::new(io::Cursor::new(b"23").chain(Breaking));
        let mut text = String::new();
        all.body(&key("a"), 2, 8, (0, broken)).read_to_string(&mut text).unwrap();
        assert_eq!(text, "234567");
    }
}
