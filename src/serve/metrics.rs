//! Numbers in the text format of Prometheus. The names are documented in `docs/operations.md`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hyper::{Method, StatusCode};

/// What became of an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Became {
    /// It is new.
    Stored,
    /// It was there.
    Existed,
    /// It was there and damaged; now it is whole.
    Healed,
    /// A mutable object has these bytes now.
    Replaced,
}

impl Became {
    const fn label(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Existed => "existed",
            Self::Healed => "healed",
            Self::Replaced => "replaced",
        }
    }
}

type Counts<K> = Mutex<BTreeMap<K, u64>>;

/// Everything that is counted. Labels have few values, so the tables stay small.
#[derive(Debug, Default)]
pub struct Metrics {
    requests: Counts<(&'static str, u16)>,
    refused: Counts<&'static str>,
    uploads: Counts<(&'static str, &'static str)>,
    sent: AtomicU64,
    received: AtomicU64,
    running: AtomicU64,
    connections: AtomicU64,
    turned_away: AtomicU64,
}

impl Metrics {
    /// A request began.
    pub fn begins(&self) {
        self.running.fetch_add(1, Relaxed);
    }

    /// Bytes of answers left.
    pub fn sent(&self, bytes: u64) {
        self.sent.fetch_add(bytes, Relaxed);
    }

    /// A request ended.
    pub fn ended(&self, method: &Method, status: StatusCode, reason: Option<&'static str>, received: u64) {
        self.running.fetch_sub(1, Relaxed);
        self.received.fetch_add(received, Relaxed);
        let method = match *method {
            Method::GET => "GET",
            Method::HEAD => "HEAD",
            Method::PUT => "PUT",
            Method::DELETE => "DELETE",
            _ => "other",
        };
        *table(&self.requests).entry((method, status.as_u16() / 100)).or_default() += 1;
        if let Some(reason) = reason {
            *table(&self.refused).entry(reason).or_default() += 1;
        }
    }

    /// An upload of this kind of object was taken.
    pub fn uploaded(&self, kind: &'static str, became: Became) {
        *table(&self.uploads).entry((kind, became.label())).or_default() += 1;
    }

    /// A connection was opened.
    pub fn connected(&self) {
        self.connections.fetch_add(1, Relaxed);
    }

    /// A connection was closed.
    pub fn disconnected(&self) {
        self.connections.fetch_sub(1, Relaxed);
    }

    /// A connection found no room.
    pub fn turned_away(&self) {
        self.turned_away.fetch_add(1, Relaxed);
    }

    /// Everything, for Prometheus. `disk`: bytes of the store's file system, and of those how many are free.
    pub fn text(&self, disk: Option<(u64, u64)>) -> String {
        let mut page = Page::default();
        let (version, one) = (env!("CARGO_PKG_VERSION"), 1);
        page.metric("landfall_build_info", "gauge", "The version of landfall that runs.");
        page.value("landfall_build_info", &format!("version=\"{version}\""), one);
        page.metric("landfall_http_requests_total", "counter", "Requests by method and class of status.");
        for ((method, class), count) in &*table(&self.requests) {
            page.value(
                "landfall_http_requests_total",
                &format!("method=\"{method}\",class=\"{class}xx\""),
                *count,
            );
        }
        page.metric("landfall_http_refused_total", "counter", "Requests that were refused, by reason.");
        for (reason, count) in &*table(&self.refused) {
            page.value("landfall_http_refused_total", &format!("reason=\"{reason}\""), *count);
        }
        page.metric(
            "landfall_store_uploads_total",
            "counter",
            "Objects taken, by kind and what became of them.",
        );
        for ((kind, became), count) in &*table(&self.uploads) {
            page.value(
                "landfall_store_uploads_total",
                &format!("kind=\"{kind}\",result=\"{became}\""),
                *count,
            );
        }
        for (name, kind, help, value) in [
            ("landfall_http_requests_running", "gauge", "Requests being answered.", &self.running),
            ("landfall_http_connections", "gauge", "Open connections.", &self.connections),
            (
                "landfall_http_connections_refused_total",
                "counter",
                "Connections without room.",
                &self.turned_away,
            ),
            ("landfall_http_sent_bytes_total", "counter", "Bytes of answers' bodies.", &self.sent),
            ("landfall_http_received_bytes_total", "counter", "Bytes of requests' bodies.", &self.received),
        ] {
            page.metric(name, kind, help);
            page.value(name, "", value.load(Relaxed));
        }
        if let Some((size, free)) = disk {
            page.metric("landfall_store_disk_bytes", "gauge", "Bytes of the store's file system.");
            page.value("landfall_store_disk_bytes", "", size);
            page.metric(
                "landfall_store_disk_free_bytes",
                "gauge",
                "Bytes of it that are free for the server.",
            );
            page.value("landfall_store_disk_free_bytes", "", free);
        }
        page.0
    }
}

/// A panic while a table was held left whole counts.
fn table<K>(counts: &Counts<K>) -> MutexGuard<'_, BTreeMap<K, u64>> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Default)]
struct Page(String);

impl Page {
    fn metric(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn value(&mut self, name: &str, labels: &str, value: u64) {
        let labels = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_every_count_under_its_documented_name() {
        let metrics = Metrics::default();
        metrics.begins();
        metrics.sent(10);
        metrics.ended(&Method::GET, StatusCode::PARTIAL_CONTENT, None, 0);
        metrics.begins();
        metrics.ended(&Method::PUT, StatusCode::UNAUTHORIZED, Some("TokenNeeded"), 7);
        metrics.uploaded("pack", Became::Stored);
        let text = metrics.text(Some((100, 40)));
        for line in [
            "landfall_http_requests_total{method=\"GET\",class=\"2xx\"} 1",
            "landfall_http_requests_total{method=\"PUT\",class=\"4xx\"} 1",
            "landfall_http_refused_total{reason=\"TokenNeeded\"} 1",
            "landfall_store_uploads_total{kind=\"pack\",result=\"stored\"} 1",
            "landfall_http_requests_running 0",
            "landfall_http_sent_bytes_total 10",
            "landfall_http_received_bytes_total 7",
            "landfall_store_disk_free_bytes 40",
        ] {
            assert!(text.lines().any(|own| own == line), "{line}\n{text}");
        }
        let names = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).count();
        assert_eq!(names, 11);
    }
}
