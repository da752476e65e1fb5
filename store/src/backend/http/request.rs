//! One request: its address, where it may be redirected to, and what its answer's status means.

use std::error::Error;
use std::time::{Duration, SystemTime};

use reqwest::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, HeaderMap, HeaderName,
    LOCATION, RANGE, RETRY_AFTER,
};
use reqwest::{Method, Response, StatusCode, Url};

use super::HttpBackend;
use super::patience::retry_after;
use super::range::{Answer, Asked};
use super::write::refusal;
use crate::backend::Key;

/// Redirects that are followed, one after the other.
const REDIRECTS_MAX: usize = 5;

/// Why there is no usable answer.
#[derive(Debug)]
pub(super) enum Fault {
    /// Another try may help, not before the time the server asked for.
    Passing { why: String, after: Option<Duration> },
    /// The server took too long. Another connection may be better, a third will not.
    Slow(String),
    /// There is no such object.
    Missing,
    /// Other credentials are needed.
    Denied(String),
    /// Another try is of no use.
    Final(String),
}

impl Fault {
    pub(super) fn passing(why: impl Into<String>) -> Self {
        Self::Passing { why: why.into(), after: None }
    }
}

impl HttpBackend {
    /// Asks for an object and gives the answer if it is a 200, 206 or 416.
    pub(super) async fn ask(
        &self,
        method: Method,
        key: &Key,
        range: Option<Asked>,
    ) -> Result<Response, Fault> {
        let mut url = self.url(key);
        for _ in 0..=REDIRECTS_MAX {
            let mut request = self.client.request(method.clone(), url.clone());
            request = request.header(ACCEPT_ENCODING, "identity");
            if let Some(token) = &self.token
                && url.origin() == self.base.origin()
            {
                request = request.header(AUTHORIZATION, token.clone());
            }
            if let Some(Asked { offset, length }) = range {
                let last = offset.saturating_add(length) - 1;
                request = request.header(RANGE, format!("bytes={offset}-{last}"));
            }
            let response = match tokio::time::timeout(self.patience.answer, request.send()).await {
                Ok(answered) => answered.map_err(|error| unanswered(&error))?,
                Err(_) => {
                    return Err(Fault::Slow(format!("no answer in {:?}", self.patience.answer)));
                }
            };
            match redirect(&url, response.status(), response.headers())? {
                Some(next) => url = next,
                // A server of `landfall serve` says why.
                None if matches!(response.status().as_u16(), 401 | 403) => {
                    let denied = Fault::Denied(response.status().to_string());
                    return Err(refusal(response).await.unwrap_or(denied));
                }
                None => return sorted(response),
            }
        }
        Err(Fault::Final(format!("more than {REDIRECTS_MAX} redirects")))
    }

    /// Where an object is.
    pub(super) fn url(&self, key: &Key) -> Url {
        let mut url = self.base.clone();
        // Of a key's characters only `+` means something else to some servers: a space.
        let path = format!("{}/{}", url.path().trim_end_matches('/'), key.as_str().replace('+', "%2B"));
        url.set_path(&path);
        url
    }
}

/// Where a redirect leads, if the answer is one and may be followed.
fn redirect(from: &Url, status: StatusCode, headers: &HeaderMap) -> Result<Option<Url>, Fault> {
    if !matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let location = text(headers, LOCATION).and_then(|location| from.join(location).ok());
    let Some(mut to) = location else {
        return Err(Fault::Final(format!("{status} to nowhere")));
    };
    match (from.scheme(), to.scheme()) {
        ("https", "http") => return Err(Fault::Final("a redirect from https to http".to_owned())),
        (_, "http" | "https") => {}
        (_, other) => return Err(Fault::Final(format!("a redirect to {other}:"))),
    }
    // A redirect's own credentials would travel on under our name.
    if !to.username().is_empty() || to.password().is_some() {
        to.set_username("").and_then(|()| to.set_password(None)).unwrap_or_default();
    }
    Ok(Some(to))
}

/// Sorts an answer by its status.
fn sorted(response: Response) -> Result<Response, Fault> {
    let status = response.status();
    let after = asked_pause(&response);
    match status.as_u16() {
        200 | 206 | 416 => Ok(response),
        404 | 410 => Err(Fault::Missing),
        407 => Err(Fault::Denied("the proxy asks for a password: it goes into HTTPS_PROXY".to_owned())),
        408 | 425 | 429 | 500..=599 => Err(Fault::Passing { why: status.to_string(), after }),
        _ => Err(Fault::Final(format!("it answered {status}"))),
    }
}

/// After how long the server wants to be asked again.
pub(super) fn asked_pause(response: &Response) -> Option<Duration> {
    text(response.headers(), RETRY_AFTER).and_then(|value| retry_after(value, SystemTime::now()))
}

/// Why a request has no answer, from the innermost cause outwards, without the address.
pub(super) fn unanswered(error: &reqwest::Error) -> Fault {
    let why = told(error);
    if why.contains("invalid peer certificate") {
        let hint = "if its authority is your own, name its certificate's file in SSL_CERT_FILE";
        return Fault::Final(format!("{why}; {hint}"));
    }
    Fault::passing(why)
}

/// An error's causes, without the outermost, which repeats the address.
pub(super) fn told(error: &reqwest::Error) -> String {
    let mut causes = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        causes.push(cause.to_string());
        next = cause.source();
    }
    match causes.len() {
        0 => "the request failed".to_owned(),
        1 => causes.remove(0),
        // Two are enough to tell what was done and what came of it.
        count => causes.split_off(count - 2).join(": "),
    }
}

/// The parts of an answer that say what its body is.
pub(super) fn answer(response: &Response) -> Answer<'_> {
    let headers = response.headers();
    Answer {
        status: response.status().as_u16(),
        content_range: text(headers, CONTENT_RANGE),
        content_length: content_length(response),
        content_encoding: text(headers, CONTENT_ENCODING),
    }
}

/// The length an answer announces; also of the answer to a `HEAD`.
pub(super) fn content_length(response: &Response) -> Option<u64> {
    text(response.headers(), CONTENT_LENGTH)?.trim().parse().ok()
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}
