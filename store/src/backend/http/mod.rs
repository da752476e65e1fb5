//! A store behind an HTTP(S) server. Reading needs a static one: nothing but `GET`, `HEAD` and single ranges.
//! Writing (`write`) needs a server of `landfall serve`.
//!
//! What such servers get wrong is settled here, so that the rest of the crate sees whole objects, exact ranges
//! or an error: a `206` counts only with the right `Content-Range` and length (`range`), a `200` to a range is
//! read through to the bytes that were wanted, a body that is cut goes on where it was cut (`body`), a server
//! that is busy, silent or slow is left after a while (`patience`). Redirects are followed a few times and
//! never from https to http; the token never goes to another origin (`request`).

mod body;
mod effort;
mod patience;
mod range;
mod request;
mod write;

use std::io::{self, Read};
use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime};

use reqwest::header::{DATE, HeaderValue};
use reqwest::{Method, Url};

use self::body::Body;
use self::effort::Effort;
pub use self::patience::Patience;
use self::range::{Asked, content_range};
use self::request::Fault;
use super::runtime::Runtime;
use super::{Access, Backend, BackendError, Cost, Key, Listed, Opened, Upload, client};
use crate::layout;

/// Bytes of a token file: any token fits.
const TOKEN_BYTES_MAX: u64 = 8 << 10;

/// Objects below an address.
pub struct HttpBackend {
    runtime: &'static Runtime,
    client: reqwest::Client,
    base: Url,
    token: Option<HeaderValue>,
    patience: Patience,
    /// Whether the last range was answered with a whole object.
    ignores_ranges: AtomicBool,
}

impl HttpBackend {
    /// The store at an address. `token_file` names a file whose first line is sent as bearer token, to this
    /// address's origin only. Nothing is asked of the server yet.
    pub fn open(address: &str, token_file: Option<&Path>) -> Result<Self, BackendError> {
        let unusable = |why: String| BackendError::Setup { at: address.to_owned(), why };
        let base =
            Url::parse(address).map_err(|error| unusable(format!("its address is malformed: {error}")))?;
        let token = match token_file {
            Some(file) => {
                let read = read_token(file);
                Some(read.map_err(|error| unusable(format!("token file {}: {error}", file.display())))?)
            }
            None => None,
        };
        if token.is_some() && crosses_in_clear(&base) {
            tracing::warn!(
                store = address,
                "its token travels without TLS: whoever is in between can read and use it; use https"
            );
        }
        let client = client::shared().map_err(|error| unusable(error.to_string()))?;
        let runtime = Runtime::shared().map_err(|error| unusable(error.to_string()))?;
        Ok(Self {
            runtime,
            client,
            base,
            token,
            patience: Patience::default(),
            ignores_ranges: AtomicBool::new(false),
        })
    }

    /// The same with other bounds on waiting.
    #[must_use]
    pub const fn with_patience(mut self, patience: Patience) -> Self {
        self.patience = patience;
        self
    }

    /// The address, which has no credentials in it.
    fn shown(&self) -> String {
        self.base.as_str().trim_end_matches('/').to_owned()
    }

    fn error(&self, action: &'static str, key: &Key, fault: Fault) -> BackendError {
        let at = self.shown();
        match fault {
            Fault::Missing => BackendError::NotFound { key: key.clone(), at },
            Fault::Denied(why) => BackendError::Denied { action, key: key.clone(), at, why },
            Fault::Passing { why, after } => {
                BackendError::Unreachable { key: key.to_string(), at, why, retry_after: after }
            }
            Fault::Slow(why) => {
                BackendError::Unreachable { key: key.to_string(), at, why, retry_after: None }
            }
            Fault::Final(why) => {
                BackendError::Io { action, key: key.to_string(), at, source: io::Error::other(why) }
            }
        }
    }

    /// Asks until there is an answer; for requests without a body that matters.
    fn head(&self, method: &Method, key: &Key, range: Option<Asked>) -> Result<reqwest::Response, Fault> {
        let mut effort = Effort::new(self.patience.in_all(0));
        loop {
            let begun = Instant::now();
            let answered = self.runtime.run(self.ask(method.clone(), key, range));
            effort.waited += begun.elapsed();
            match answered {
                Ok(response) => return Ok(response),
                Err(fault) => effort.wait(fault, &self.patience)?,
            }
        }
    }

    fn size_of(&self, key: &Key) -> Result<u64, Fault> {
        match self.head(&Method::HEAD, key, None) {
            Ok(response) if request::answer(&response).content_encoding.is_none() => {
                if let Some(length) = request::content_length(&response) {
                    return Ok(length);
                }
            }
            Ok(_) | Err(Fault::Final(_)) => {}
            Err(fault) => return Err(fault),
        }
        // Some servers know no HEAD, or send no length with it.
        let response = self.head(&Method::GET, key, Some(Asked { offset: 0, length: 1 }))?;
        let answer = request::answer(&response);
        let size = match (answer.status, answer.content_encoding) {
            (_, Some(_)) => None,
            (200, None) => answer.content_length,
            (206, None) => answer.content_range.and_then(content_range).and_then(|(_, _, size)| size),
            // An empty object has no first byte.
            _ => answer.content_range.filter(|range| range.trim() == "bytes */0").map(|_| 0),
        };
        size.ok_or_else(|| Fault::Final("it does not say how long the object is".to_owned()))
    }

    fn body(&self, key: &Key, asked: Asked, or_whole: bool) -> Result<(Body<'_>, bool), BackendError> {
        let opened = Body::open(self, key, asked, or_whole);
        opened.map_err(|fault| self.error("read", key, fault))
    }
}

/// Whether what is said leaves this machine so that others can read it.
fn crosses_in_clear(base: &Url) -> bool {
    let host = base.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let here = match host.parse::<IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    };
    base.scheme() == "http" && !here
}

/// The first line of a file as the value of an `Authorization` header.
fn read_token(file: &Path) -> io::Result<HeaderValue> {
    let mut text = String::new();
    std::fs::File::open(file)?.take(TOKEN_BYTES_MAX).read_to_string(&mut text)?;
    let token = text.lines().next().unwrap_or_default().trim();
    let invalid = |why| io::Error::new(io::ErrorKind::InvalidData, why);
    if token.is_empty() {
        return Err(invalid("it holds no token"));
    }
    let value = HeaderValue::from_str(&format!("Bearer {token}"));
    let mut value = value.map_err(|_| invalid("its token has characters that no header can carry"))?;
    value.set_sensitive(true);
    Ok(value)
}

impl Backend for HttpBackend {
    fn location(&self) -> String {
        self.shown()
    }

    fn cost(&self) -> Cost {
        // From a server that ignores ranges one stream brings everything of an object.
        let ignores_ranges = self.ignores_ranges.load(Ordering::Relaxed);
        Cost { per_object: if ignores_ranges { 1 } else { Cost::NETWORK.per_object }, ..Cost::NETWORK }
    }

    /// What the server's `Date` says.
    fn now(&self) -> Result<SystemTime, BackendError> {
        let key = layout::record();
        let answered = self
            .head(&Method::HEAD, &key, None)
            .map_err(|fault| self.error("ask the time of", &key, fault))?;
        let date =
            answered.headers().get(DATE).and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
        date.ok_or_else(|| self.error("ask the time of", &key, Fault::Final("it sends no Date".to_owned())))
    }

    fn size(&self, key: &Key) -> Result<Option<u64>, BackendError> {
        match self.size_of(key) {
            Ok(size) => Ok(Some(size)),
            Err(Fault::Missing) => Ok(None),
            Err(fault) => Err(self.error("look at", key, fault)),
        }
    }

    fn read(&self, key: &Key, offset: u64, length: u64) -> Result<Box<dyn Read + Send + '_>, BackendError> {
        Ok(Box::new(self.body(key, Asked { offset, length }, false)?.0))
    }

    fn open(&self, key: &Key, offset: u64, length: u64) -> Result<Opened<'_>, BackendError> {
        let (body, whole) = self.body(key, Asked { offset, length }, true)?;
        Ok(if whole { Opened::Whole(Box::new(body)) } else { Opened::Part(Box::new(body)) })
    }

    fn begin(&self, _under: Option<&Key>, access: Access) -> Result<Box<dyn Upload + '_>, BackendError> {
        Ok(Box::new(self.begin_upload(access)))
    }

    fn replace(&self, key: &Key, bytes: &[u8]) -> Result<(), BackendError> {
        self.overwrite(key, bytes)
    }

    fn list(&self, under: &Key) -> Result<Vec<Listed>, BackendError> {
        self.listed(under)
    }

    fn delete(&self, key: &Key) -> Result<(), BackendError> {
        self.remove(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_readable_on_the_way_without_tls_beyond_this_machine_only() {
        for (address, crosses) in [
            ("http://artifacts.internal:8080", true),
            ("http://10.0.0.7/store", true),
            ("http://[2001:db8::7]:8080", true),
            ("http://localhost.internal", true),
            ("https://artifacts.internal", false),
            ("http://127.0.0.1:8080", false),
            ("http://127.8.8.8", false),
            ("http://[::1]:8080/x", false),
            ("http://localhost:8080", false),
            ("http://store.localhost", false),
        ] {
            assert_eq!(crosses_in_clear(&Url::parse(address).unwrap()), crosses, "{address}");
        }
    }
}
