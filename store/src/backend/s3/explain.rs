//! What a server's refusal means, and what to set.

use std::error::Error;
use std::io;

use super::wire::Heard;
use crate::backend::{BackendError, Key};

/// Bytes of a server's own words that a message repeats.
const WORDS_BYTES_MAX: usize = 200;

/// Everything a message needs to know about the place.
pub(super) struct Place<'a> {
    pub(super) at: String,
    pub(super) bucket: &'a str,
    pub(super) endpoint: &'a str,
    pub(super) heard: &'a Heard,
}

/// An error of `object_store` as one of a backend.
pub(super) fn explain(
    place: &Place<'_>,
    action: &'static str,
    key: &Key,
    error: object_store::Error,
) -> BackendError {
    let (told, at) = (whole(&error), place.at.clone());
    if let Some(why) = set_up(place, &told) {
        return BackendError::Setup { at, why };
    }
    let key_named = key.clone();
    match error {
        object_store::Error::NotFound { .. } => BackendError::NotFound { key: key_named, at },
        object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
            let why =
                format!("{}; the bucket's policy or that of these credentials must allow it", words(&told));
            BackendError::Denied { action, key: key_named, at, why }
        }
        _ => {
            let why = match told.split_once("(Connect): ") {
                Some((_, cause)) => format!("{} cannot be reached: {}", place.endpoint, brief(cause)),
                None => words(&told),
            };
            BackendError::Io { action, key: key.to_string(), at, source: io::Error::other(why) }
        }
    }
}

/// Whether it is worth asking again in a way that is answered with words.
pub(super) fn is_wordless_refusal(error: &object_store::Error) -> bool {
    !matches!(error, object_store::Error::NotFound { .. })
        && code(&whole(error)).is_none()
        && whole(error).contains("non-2xx status code: 4")
}

/// Whether a range began behind the object's end.
pub(super) fn is_past_the_end(error: &object_store::Error) -> bool {
    let told = whole(error);
    told.contains("status code: 416") || code(&told) == Some("InvalidRange")
}

/// Whether the bucket is missing, where only the object was asked for.
pub(super) fn is_missing_bucket(error: &object_store::Error) -> bool {
    code(&whole(error)) == Some("NoSuchBucket")
}

/// A mistake in what the user set, and its correction.
fn set_up(place: &Place<'_>, told: &str) -> Option<String> {
    let Place { bucket, endpoint, heard, .. } = place;
    let redirected = told.contains("redirect without LOCATION") || told.contains("status code: 301");
    let why = match code(told) {
        Some("InvalidAccessKeyId" | "NotSignedUp" | "UnrecognizedClientException") => {
            format!("{endpoint} does not know this access key: check AWS_ACCESS_KEY_ID, or the profile's")
        }
        Some("SignatureDoesNotMatch") => {
            "the secret is not that of the access key: check AWS_SECRET_ACCESS_KEY, or the profile's".to_owned()
        }
        Some("ExpiredToken" | "InvalidToken" | "TokenRefreshRequired" | "ExpiredTokenException") => {
            "the temporary credentials have expired or their token is wrong: renew them, with AWS_SESSION_TOKEN"
                .to_owned()
        }
        Some("RequestTimeTooSkewed") => match heard.date() {
            Some(date) => format!("this machine's clock is {} off the server's: set it", difference(date)),
            None => "this machine's clock is wrong: set it".to_owned(),
        },
        Some("NoSuchBucket") => {
            format!("there is no bucket `{bucket}` at {endpoint}: create it, or correct the address")
        }
        Some("AuthorizationHeaderMalformed" | "PermanentRedirect" | "IllegalLocationConstraintException") => {
            other_region(heard)
        }
        None if redirected => other_region(heard),
        None if told.contains(super::settings::HOW_TO_GIVE_CREDENTIALS) => {
            format!("no credentials: {}", super::settings::HOW_TO_GIVE_CREDENTIALS)
        }
        None if told.contains("InvalidContentType") => {
            format!("{endpoint} does not speak TLS: if it is trusted and near, give it as http:// in AWS_ENDPOINT_URL")
        }
        _ => return None,
    };
    Some(why)
}

fn other_region(heard: &Heard) -> String {
    match heard.region() {
        Some(region) => format!("the bucket is in another region: set AWS_REGION={region}"),
        None => "the bucket is in another region: set AWS_REGION to it".to_owned(),
    }
}

fn difference(date: std::time::SystemTime) -> String {
    let now = std::time::SystemTime::now();
    let seconds = now.duration_since(date).unwrap_or_else(|error| error.duration()).as_secs();
    if seconds < 120 { format!("{seconds} s") } else { format!("{} min", seconds / 60) }
}

/// An error with all that caused it, in one text.
fn whole(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let own = cause.to_string();
        if !text.contains(&own) {
            text.push_str(": ");
            text.push_str(&own);
        }
        next = cause.source();
    }
    text
}

/// The code of an S3 error document.
fn code(told: &str) -> Option<&str> {
    between(told, "<Code>", "</Code>")
}

fn between<'t>(text: &'t str, open: &str, close: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(open)?;
    rest.split_once(close).map(|(inner, _)| inner)
}

/// What is worth repeating of an error: the server's code and message, else the innermost cause.
fn words(told: &str) -> String {
    let said = match (code(told), between(told, "<Message>", "</Message>")) {
        (Some(code), Some(message)) if !message.is_empty() => format!("{code}: {message}"),
        (Some(code), _) => code.to_owned(),
        (None, _) => match told.split_once("status code: ") {
            Some((_, status)) => status.trim_end_matches([':', ' ']).to_owned(),
            None => told.rsplit_once(" - ").map_or(told, |(_, cause)| cause).to_owned(),
        },
    };
    brief(&said)
}

/// A server's or a system's words, on one line and short.
fn brief(said: &str) -> String {
    let tame: String = said.chars().map(|sign| if sign.is_control() { ' ' } else { sign }).collect();
    let end = tame.char_indices().map(|(at, _)| at).find(|at| *at >= WORDS_BYTES_MAX).unwrap_or(tame.len());
    tame[..end].to_owned()
}
