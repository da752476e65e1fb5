//! Small records with a seal: `<64 hex> landfall <kind> <format>\n<json>\n`.
//!
//! The seal is BLAKE3 in key-derivation mode over the first line's rest and the JSON, so a changed, cut,
//! grown or swapped file (another kind) never reads as a record.

use std::path::Path;

use landfall_store::Digest;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::RecordError;
use crate::disk::Disk;

const CONTEXT: &str = "landfall 2026-11-20 sealed record v1";
const FORMAT: u32 = 1;
/// Bytes of a sealed record: conditions, journals and quarantines stay far below.
const SEALED_BYTES_MAX: u64 = 16 << 20;

/// A record type and the word that stands in its files.
pub trait Sealed: Serialize + DeserializeOwned {
    /// One word, unique among record types.
    const KIND: &'static str;
}

/// Writes a record, durably.
pub fn write<T: Sealed>(disk: &dyn Disk, path: &Path, record: &T) -> Result<(), RecordError> {
    disk.replace(path, encode(record).as_bytes()).map_err(RecordError::io(path))
}

/// Reads a record; `None` if it was never written.
pub fn read<T: Sealed>(disk: &dyn Disk, path: &Path) -> Result<Option<T>, RecordError> {
    match disk.read(path, SEALED_BYTES_MAX).map_err(RecordError::io(path))? {
        None => Ok(None),
        Some(bytes) => decode(path, &bytes).map(Some),
    }
}

fn encode<T: Sealed>(record: &T) -> String {
    let json = serde_json::to_string(record).expect("records hold only what JSON can say");
    let body = format!("landfall {} {FORMAT}\n{json}\n", T::KIND);
    format!("{} {body}", seal(&body))
}

fn decode<T: Sealed>(path: &Path, bytes: &[u8]) -> Result<T, RecordError> {
    let damaged = |why: &str| RecordError::Damaged { path: path.to_owned(), why: why.to_owned() };
    let text = std::str::from_utf8(bytes).map_err(|_| damaged("it is not text"))?;
    let (claimed, body) = text.split_once(' ').ok_or_else(|| damaged("it has no seal"))?;
    if claimed != seal(body).to_string() {
        return Err(damaged("its checksum does not fit its content"));
    }
    let (head, json) = body.split_once('\n').ok_or_else(|| damaged("it has no content"))?;
    let (kind, format) = head
        .strip_prefix("landfall ")
        .and_then(|head| head.rsplit_once(' '))
        .ok_or_else(|| damaged("its first line is not landfall's"))?;
    if kind != T::KIND {
        return Err(damaged(&format!("it is a `{kind}`, not a `{}`", T::KIND)));
    }
    match format.parse::<u32>() {
        Ok(FORMAT) => {}
        Ok(found) if found > FORMAT => {
            return Err(RecordError::Newer { path: path.to_owned(), found, known: FORMAT });
        }
        _ => return Err(damaged("its format number is unknown")),
    }
    serde_json::from_str(json).map_err(|error| damaged(&error.to_string()))
}

fn seal(body: &str) -> Digest {
    Digest::derived(CONTEXT, body.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;

    #[derive(Debug, PartialEq, Serialize, serde::Deserialize)]
    struct Note(String);
    impl Sealed for Note {
        const KIND: &'static str = "note";
    }
    #[derive(Debug, PartialEq, Serialize, serde::Deserialize)]
    struct Other(String);
    impl Sealed for Other {
        const KIND: &'static str = "other";
    }

    #[test]
    fn a_record_reads_back_and_a_missing_one_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("note");
        assert_eq!(read::<Note>(&RealDisk, &path).unwrap(), None);
        write(&RealDisk, &path, &Note("a".into())).unwrap();
        assert_eq!(read::<Note>(&RealDisk, &path).unwrap(), Some(Note("a".into())));
    }

    #[test]
    fn every_flipped_bit_cut_and_added_byte_is_noticed() {
        let good = encode(&Note("text of some length".into())).into_bytes();
        let path = Path::new("note");
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                assert!(decode::<Note>(path, &bad).is_err(), "byte {at} bit {bit}");
            }
            assert!(decode::<Note>(path, &good[..at]).is_err(), "cut at {at}");
        }
        assert!(decode::<Note>(path, &[&good[..], b" "].concat()).is_err());
    }

    #[test]
    fn a_record_of_another_kind_or_of_a_newer_landfall_is_refused() {
        let path = Path::new("note");
        assert!(decode::<Other>(path, encode(&Note("a".into())).as_bytes()).is_err());
        let body = "landfall note 2\n\"a\"\n";
        let newer = format!("{} {body}", seal(body));
        assert!(matches!(
            decode::<Note>(path, newer.as_bytes()),
            Err(RecordError::Newer { found: 2, known: 1, .. })
        ));
    }
}
