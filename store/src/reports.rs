//! Small documents that hosts leave beside the artifacts: what runs on them, and what they have tried. What they
//! say is opaque to the store; whoever reads one checks it. Whose each is, its place says.
//!
//! They are no part of any artifact, collection passes them by, and only their hosts replace them.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;

use crate::backend::Key;
use crate::error::StoreError;
use crate::layout;
use crate::name::Name;
use crate::store::Store;

/// Bytes of one document: the statuses of hundreds of apps, or hundreds of attempts.
pub const REPORT_BYTES_MAX: u64 = 4 << 20;

/// One document. It is named by names alone, so it cannot leave its host's place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Document {
    /// What a host says of itself in an environment.
    Host {
        /// The host.
        host: Name,
        /// The environment.
        environment: Name,
    },
    /// A part of the history of an app there, counted from 0.
    History {
        /// The host.
        host: Name,
        /// The environment.
        environment: Name,
        /// The app.
        app: Name,
        /// Which part.
        number: u32,
    },
}

impl Document {
    /// What a key below `status/` names; `None`: no document.
    pub fn of(key: &Key) -> Option<Self> {
        let found = Self::read(key)?;
        // One key for each document.
        (found.key() == *key).then_some(found)
    }

    fn read(key: &Key) -> Option<Self> {
        let parts: Vec<&str> = key.as_str().split('/').collect();
        match parts.as_slice() {
            [_, host, environment, _] => {
                Some(Self::Host { host: host.parse().ok()?, environment: environment.parse().ok()? })
            }
            [_, host, environment, app, part] => Some(Self::History {
                host: host.parse().ok()?,
                environment: environment.parse().ok()?,
                app: app.parse().ok()?,
                number: part.strip_prefix("history-")?.strip_suffix(".ndjson")?.parse().ok()?,
            }),
            _ => None,
        }
    }

    /// Its key.
    pub fn key(&self) -> Key {
        match self {
            Self::Host { host, environment } => layout::report(host, environment),
            Self::History { host, environment, app, number } => {
                layout::reported_history(host, environment, app, *number)
            }
        }
    }

    /// Whose it is.
    pub const fn host(&self) -> &Name {
        match self {
            Self::Host { host, .. } | Self::History { host, .. } => host,
        }
    }

    /// Whether bytes have its form: an object of JSON, or one a line.
    pub(crate) fn check(&self, bytes: &[u8]) -> Result<(), String> {
        let object = |text: &[u8]| {
            let read = serde_json::from_slice::<BTreeMap<String, IgnoredAny>>(text);
            read.map(drop).map_err(|error| error.to_string())
        };
        match self {
            Self::Host { .. } => object(bytes),
            Self::History { .. } => bytes.split_inclusive(|byte| *byte == b'\n').try_for_each(|line| {
                let line = line.strip_suffix(b"\n").ok_or("their last line has no end")?;
                object(line)
            }),
        }
    }
}

/// Writes a document, in place of an older one. Durable when it returns.
pub fn put(store: &Store, document: &Document, bytes: &[u8]) -> Result<(), StoreError> {
    Ok(store.backend().replace(&document.key(), bytes)?)
}

/// Reads a document; `None`: there is none.
pub fn get(store: &Store, document: &Document) -> Result<Option<Vec<u8>>, StoreError> {
    Ok(store.backend().find(&document.key(), REPORT_BYTES_MAX)?)
}

/// Every document there is, in order of its key.
pub fn list(store: &Store) -> Result<Vec<Document>, StoreError> {
    let listed = store.backend().list(&layout::reports())?;
    Ok(listed.iter().filter_map(|item| Document::of(&item.key)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn host() -> Document {
        Document::Host { host: name("web-1"), environment: name("prod") }
    }

    fn history(number: u32) -> Document {
        Document::History { host: name("web-1"), environment: name("prod"), app: name("web"), number }
    }

    #[test]
    fn a_report_is_replaced_whole_and_listed() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::create(dir.path()).unwrap();
        assert_eq!(get(&store, &host()).unwrap(), None);
        put(&store, &host(), b"one").unwrap();
        put(&store, &host(), b"two").unwrap();
        put(&store, &history(0), b"").unwrap();
        assert_eq!(get(&store, &host()).unwrap().unwrap(), b"two");
        std::fs::write(dir.path().join("status/web-1/prod/notes.txt"), "none of the store's").unwrap();
        assert_eq!(list(&store).unwrap(), [host(), history(0)]);
    }

    #[test]
    fn a_document_has_one_key_and_a_key_that_is_none_names_nothing() {
        for document in [host(), history(0), history(1_234_567)] {
            assert_eq!(Document::of(&document.key()), Some(document));
        }
        for bad in [
            "status",
            "status/web-1",
            "status/web-1/prod",
            "status/web-1/host.json",
            "status/web-1/prod/other.json",
            "status/WEB-1/prod/host.json",
            "status/web-1/prod/web/history-0.ndjson",
            "status/web-1/prod/web/history-00000a.ndjson",
            "status/web-1/prod/web/history-+00001.ndjson",
            "status/web-1/prod/web/x/history-000000.ndjson",
            "packs/web-1/prod/host.json",
        ] {
            assert_eq!(Document::of(&Key::new(bad).unwrap()), None, "{bad}");
        }
    }

    #[test]
    fn a_document_is_json_and_nothing_else() {
        for (document, text, fits) in [
            (host(), "{\"a\": [1]}", true),
            (host(), "[]", false),
            (host(), "<html>", false),
            (host(), "", false),
            (history(0), "", true),
            (history(0), "{\"a\":1}\n{}\n", true),
            (history(0), "{\"a\":1}\n{}", false),
            (history(0), "{\"a\":1}\n\n", false),
            (history(0), "#!/bin/sh\n", false),
        ] {
            assert_eq!(document.check(text.as_bytes()).is_ok(), fits, "{text:?}");
        }
    }
}
