//! Canonical JSON: RFC 8785 restricted to integers |n| < 2^53.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// 2^53, where JSON readers stop agreeing on integers.
const INTEGER_LIMIT: u64 = 1 << 53;

/// Why JSON is not canonical.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// Not JSON of the expected shape.
    #[error("{0}")]
    Malformed(#[from] serde_json::Error),
    /// A number outside the shared range, or not an integer.
    #[error("the number {0} is not an integer between -2^53 and 2^53")]
    Number(serde_json::Number),
    /// The same value could be written differently.
    #[error("the JSON is not in canonical form (keys sorted, no white space, nothing twice)")]
    NotCanonical,
}

/// The canonical bytes of a value, without a trailing newline.
pub fn encode(value: &impl Serialize) -> Result<Vec<u8>, JsonError> {
    let mut out = Vec::new();
    write(&serde_json::to_value(value)?, &mut out)?;
    Ok(out)
}

/// Reads a value from canonical bytes; any other spelling of it is an error.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, JsonError> {
    let value: Value = serde_json::from_slice(bytes)?;
    let mut canonical = Vec::with_capacity(bytes.len());
    write(&value, &mut canonical)?;
    if canonical != bytes {
        return Err(JsonError::NotCanonical);
    }
    Ok(serde_json::from_value(value)?)
}

fn write(value: &Value, out: &mut Vec<u8>) -> Result<(), JsonError> {
    match value {
        Value::Null | Value::Bool(_) | Value::String(_) => serde_json::to_writer(out, value)?,
        Value::Number(number) => write_number(number, out)?,
        Value::Array(items) => {
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write(item, out)?;
            }
            out.push(b']');
        }
        Value::Object(map) => {
            // RFC 8785 sorts by UTF-16 code units, which differs from UTF-8 order beyond the BMP.
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort_by(|a, b| a.encode_utf16().cmp(b.encode_utf16()));
            out.push(b'{');
            for (index, key) in keys.into_iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                serde_json::to_writer(&mut *out, key)?;
                out.push(b':');
                write(&map[key], out)?;
            }
            out.push(b'}');
        }
    }
    Ok(())
}

fn write_number(number: &serde_json::Number, out: &mut Vec<u8>) -> Result<(), JsonError> {
    let magnitude = number.as_u64().or_else(|| number.as_i64().map(i64::unsigned_abs));
    match magnitude {
        Some(n) if n < INTEGER_LIMIT => {
            out.extend_from_slice(number.to_string().as_bytes());
            Ok(())
        }
        _ => Err(JsonError::Number(number.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_sorted_and_nothing_is_left_to_choice() {
        let value = serde_json::json!({"b": [1, -2, true, null], "a": "ü\n\u{1f}"});
        assert_eq!(encode(&value).unwrap(), "{\"a\":\"ü\\n\\u001f\",\"b\":[1,-2,true,null]}".as_bytes());
    }

    #[test]
    fn other_spellings_floats_and_duplicates_are_refused() {
        for bad in [
            "{\"a\": 1}",
            "{\"b\":1,\"a\":1}",
            "{\"a\":1,\"a\":1}",
            "1.5",
            "1e3",
            "9007199254740992",
            "{}\n",
            "-0",
        ] {
            assert!(decode::<Value>(bad.as_bytes()).is_err(), "{bad} was accepted");
        }
        assert!(decode::<Value>(b"{\"a\":9007199254740991}").is_ok());
    }
}
