//! Extended headers of the pax format, read strictly and written sparingly.

use super::names::Refusal;

/// What an extended header says about the next member.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Extended {
    pub path: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    pub size: Option<u64>,
}

/// Keys that say nothing a release keeps: times, owners, attributes, comments.
const IGNORED: &[&[u8]] =
    &[b"atime", b"ctime", b"mtime", b"uid", b"gid", b"uname", b"gname", b"comment", b"charset"];
/// Namespaces of attributes that a release does not keep.
const IGNORED_PREFIXES: &[&[u8]] =
    &[b"SCHILY.xattr.", b"SCHILY.acl.", b"LIBARCHIVE.", b"RHT.", b"APPLE.", b"MSWINDOWS."];
const IGNORED_SCHILY: &[&[u8]] =
    &[b"SCHILY.dev", b"SCHILY.ino", b"SCHILY.nlink", b"SCHILY.fflags", b"SCHILY.offset"];

/// Reads the records for one member.
pub(super) fn parse(mut records: &[u8]) -> Result<Extended, Refusal> {
    let mut extended = Extended::default();
    let mut seen: Vec<&[u8]> = Vec::new();
    while !records.is_empty() {
        let (key, value, rest) = record(records)?;
        if seen.contains(&key) && !is_ignored(key) {
            return Err(refuse(key, "stands in it twice"));
        }
        seen.push(key);
        match key {
            b"path" => extended.path = Some(value.to_owned()),
            b"linkpath" => extended.link = Some(value.to_owned()),
            b"size" => extended.size = Some(number(value).ok_or_else(|| refuse(key, "is no number"))?),
            b"hdrcharset" if matches!(value, b"BINARY" | b"ISO-IR 10646 2000 UTF-8") => {}
            key if is_ignored(key) => {}
            key => return Err(refuse(key, "is unknown")),
        }
        records = rest;
    }
    Ok(extended)
}

/// Checks the records for all members that follow: they may not say anything that matters.
pub(super) fn check_global(records: &[u8]) -> Result<(), Refusal> {
    match parse(records)? {
        said if said == Extended::default() => Ok(()),
        _ => Err(Refusal::Extended("names and sizes for all members at once are not possible".to_owned())),
    }
}

fn is_ignored(key: &[u8]) -> bool {
    IGNORED.contains(&key)
        || IGNORED_SCHILY.contains(&key)
        || IGNORED_PREFIXES.iter().any(|prefix| key.starts_with(prefix))
}

fn refuse(key: &[u8], why: &str) -> Refusal {
    Refusal::Extended(format!("`{}` {why}", crate::path::escape(key)))
}

/// A key, its value, and the records after it.
type Record<'a> = (&'a [u8], &'a [u8], &'a [u8]);

/// Splits `LENGTH KEY=VALUE\n`, where the length counts itself and the newline.
fn record(records: &[u8]) -> Result<Record<'_>, Refusal> {
    let malformed = || Refusal::Extended("it is malformed".to_owned());
    let space = records.iter().take(20).position(|byte| *byte == b' ').ok_or_else(malformed)?;
    if records[0] == b'0' {
        return Err(malformed());
    }
    let length = number(&records[..space]).and_then(|length| usize::try_from(length).ok());
    let length =
        length.filter(|length| (space + 1..=records.len()).contains(length)).ok_or_else(malformed)?;
    let (body, rest) =
        (records[space + 1..length].strip_suffix(b"\n").ok_or_else(malformed)?, &records[length..]);
    let equals = body.iter().position(|byte| *byte == b'=').filter(|at| *at > 0).ok_or_else(malformed)?;
    Ok((&body[..equals], &body[equals + 1..], rest))
}

fn number(digits: &[u8]) -> Option<u64> {
    let plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    if plain { std::str::from_utf8(digits).ok()?.parse().ok() } else { None }
}

/// One record, with the length that counts itself.
pub(super) fn write(key: &str, value: &[u8], out: &mut Vec<u8>) {
    let body = 1 + key.len() + 1 + value.len() + 1;
    let mut length = body + 1;
    while body + length.to_string().len() != length {
        length = body + length.to_string().len();
    }
    out.extend_from_slice(format!("{length} {key}=").as_bytes());
    out.extend_from_slice(value);
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_read_back_at_every_length() {
        for length in 1..1100 {
            let value = vec![b'v'; length];
            let mut records = Vec::new();
            write("path", &value, &mut records);
            assert_eq!(parse(&records).unwrap().path.as_deref(), Some(&value[..]));
        }
    }

    #[test]
    fn b08_a_malformed_or_unknown_record_is_an_error() {
        assert!(parse(b"9 path=a\n").is_ok() && parse(b"13 comment=x\n").is_ok());
        let lengths =
            ["8 path=a\n", "11 path=a\n", "09 path=a\n", "011 path=a\n", "+9 path=a\n", " 9 path=a\n"];
        let shapes = ["9 path=a", "path=a\n", "10 path=a\nx", "4 =\n", "5 =a\n", "7 path\n", "9 path=a\0"];
        let huge = ["99999999999999999999 path=a\n", "18446744073709551615 path=a\n"];
        for bad in lengths.iter().chain(&shapes).chain(&huge) {
            assert!(parse(bad.as_bytes()).is_err(), "{bad:?} was accepted");
        }
        for (key, value) in
            [("GNU.sparse.x", "1"), ("size", "-1"), ("size", ""), ("hdrcharset", "x"), ("PATH", "a")]
        {
            let mut records = Vec::new();
            write(key, value.as_bytes(), &mut records);
            assert!(parse(&records).is_err(), "{key}={value} was accepted");
        }
        assert!(parse(b"9 path=a\n9 path=b\n").is_err());
        assert!(check_global(b"10 path=aa\n").is_err());
    }
}
