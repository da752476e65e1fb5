//! What is kept with an attempt that failed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::limits::{EVIDENCE_BODY_BYTES_MAX, EVIDENCE_LOG_BYTES_MAX, EVIDENCE_LOG_LINES_MAX};
use crate::proc::Holder;
use crate::start::Exit;

/// What was seen of a release that is not healthy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// The check that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<String>,
    /// How often it was tried.
    #[serde(default)]
    pub tries: u32,
    /// The status of the last answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The beginning of the last answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// How the process ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<Exit>,
    /// Who else holds the port that was asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub port_holders: Vec<Holder>,
    /// The last log lines of each process.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub logs: BTreeMap<String, Vec<String>>,
}

/// The beginning of an answer, as text.
pub(super) fn excerpt(body: &[u8]) -> Option<String> {
    let kept = &body[..body.len().min(EVIDENCE_BODY_BYTES_MAX)];
    (!kept.is_empty()).then(|| String::from_utf8_lossy(kept).into_owned())
}

/// The last lines of a log; an unreadable log has none.
pub(super) fn last_lines(path: &Path) -> Vec<String> {
    let bytes = last_bytes(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(EVIDENCE_LOG_LINES_MAX);
    lines[from..].iter().map(|line| (*line).to_owned()).collect()
}

fn last_bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let len = file.metadata()?.len();
    file.seek(SeekFrom::Start(len.saturating_sub(EVIDENCE_LOG_BYTES_MAX)))?;
    let mut bytes = Vec::new();
    file.take(EVIDENCE_LOG_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}
