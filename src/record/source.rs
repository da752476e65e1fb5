//! What the agent last knew of a repository with desired state: for commands that only look, and after a restart.
//!
//! Nothing is decided by it. The time of the file is that of the last contact, so that an agent at rest writes
//! nothing.

use std::fs::File;
use std::time::SystemTime;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::RecordError;
use super::sealed::{self, Sealed};
use crate::disk::RealDisk;
use crate::layout::Root;

/// How a repository was last found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceRecord {
    /// Where it is, for people.
    pub place: String,
    /// The remote that answered last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<String>,
    /// The branch's newest commit, as far as it was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<String>,
    /// What is wrong, while something is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wrong: Option<Wrong>,
    /// When a remote last answered, as far as this record was written for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contact: Option<Timestamp>,
}

/// What is wrong with a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wrong {
    /// Of which kind.
    pub kind: WrongKind,
    /// One word for machines.
    pub reason: String,
    /// What happened, to which thing, why.
    pub message: String,
    /// What to do.
    pub hint: String,
}

/// Kinds of trouble with a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum WrongKind {
    /// It cannot be had.
    Unreachable,
    /// It was had, and is not to be trusted.
    Refused,
    /// It was had, and is no state.
    Invalid,
}

impl Sealed for SourceRecord {
    const KIND: &'static str = "source";
}

impl SourceRecord {
    /// What was last known, with the last contact as the file's time has it.
    pub fn read(root: &Root) -> Result<Option<Self>, RecordError> {
        let Some(record) = sealed::read::<Self>(&RealDisk, &root.source())? else { return Ok(None) };
        let answers = record.wrong.as_ref().is_none_or(|wrong| wrong.kind != WrongKind::Unreachable);
        let touched = std::fs::metadata(root.source()).and_then(|facts| facts.modified()).ok();
        let touched = touched.filter(|_| answers).and_then(|time| Timestamp::try_from(time).ok());
        Ok(Some(Self { contact: touched.or(record.contact), ..record }))
    }

    /// Notes it, if it is not what is on record already.
    pub fn note(&self, root: &Root) -> Result<(), RecordError> {
        let old = sealed::read::<Self>(&RealDisk, &root.source()).ok().flatten();
        let news = |old: Self| Self { contact: None, ..old } != Self { contact: None, ..self.clone() };
        if old.is_none_or(news) { sealed::write(&RealDisk, &root.source(), self) } else { Ok(()) }
    }

    /// Notes that a remote has just answered.
    pub fn touch(root: &Root) -> std::io::Result<()> {
        File::options().write(true).open(root.source())?.set_modified(SystemTime::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_contact_without_news_changes_only_the_file_s_time() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::new(dir.path()).unwrap();
        let record = SourceRecord { place: "p".into(), remote: None, head: None, wrong: None, contact: None };
        record.note(&root).unwrap();
        let bytes = std::fs::read(root.source()).unwrap();
        let long_ago = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(60);
        File::options().write(true).open(root.source()).unwrap().set_modified(long_ago).unwrap();
        record.note(&root).unwrap();
        let minute: Timestamp = "1970-01-01T00:01:00Z".parse().unwrap();
        assert_eq!(SourceRecord::read(&root).unwrap().unwrap().contact, Some(minute));
        SourceRecord::touch(&root).unwrap();
        assert!(SourceRecord::read(&root).unwrap().unwrap().contact.unwrap() > minute);
        assert_eq!(std::fs::read(root.source()).unwrap(), bytes);
        // What cannot be reached was not in contact, whatever touched the file.
        let wrong =
            Wrong { kind: WrongKind::Unreachable, reason: "r".into(), message: "m".into(), hint: "h".into() };
        SourceRecord { wrong: Some(wrong), contact: Some(minute), ..record }.note(&root).unwrap();
        assert_eq!(SourceRecord::read(&root).unwrap().unwrap().contact, Some(minute));
    }
}
