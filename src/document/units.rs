//! How durations and sizes are written in every file: `500ms`, `2s`, `5m`, `72h`; `64KiB`, `2GiB`.

use crate::spec::Millis;

/// Why a text is not a duration or a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// No unit, an unknown unit, or digits missing.
    #[error("`{text}` is not a {kind}: write {examples}")]
    Malformed {
        /// What was written.
        text: String,
        /// `duration` or `size`.
        kind: &'static str,
        /// How it is written.
        examples: &'static str,
    },
    /// More than a year, or more bytes than any disk has.
    #[error("`{text}` is too large a {kind}: at most {most}")]
    TooLarge {
        /// What was written.
        text: String,
        /// `duration` or `size`.
        kind: &'static str,
        /// The bound.
        most: &'static str,
    },
}

/// Milliseconds of a year: longer is a mistake, and sums of it never overflow.
const DURATION_MS_MAX: u64 = 8_760 * 3_600_000;
/// Bytes of 4 PiB: what canonical JSON can hold exactly (2^53) is more.
const SIZE_BYTES_MAX: u64 = 4 << 50;

const DURATIONS: [(&str, u64); 4] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];
const SIZES: [(&str, u64); 5] =
    [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40), ("B", 1)];

/// Reads `500ms`, `2s`, `5m` or `72h`.
pub fn duration(text: &str) -> Result<Millis, UnitError> {
    let (kind, examples) = ("duration", "`500ms`, `2s`, `5m` or `72h`");
    match scaled(text, &DURATIONS) {
        None => Err(UnitError::Malformed { text: text.to_owned(), kind, examples }),
        Some(value) if value <= DURATION_MS_MAX => Ok(Millis(value)),
        Some(_) => Err(UnitError::TooLarge { text: text.to_owned(), kind, most: "8760h" }),
    }
}

/// Reads `512B`, `64KiB`, `768MiB`, `2GiB` or `1TiB` into bytes.
pub fn size(text: &str) -> Result<u64, UnitError> {
    let (kind, examples) = ("size", "`64KiB`, `768MiB` or `2GiB`");
    match scaled(text, &SIZES) {
        None => Err(UnitError::Malformed { text: text.to_owned(), kind, examples }),
        Some(value) if value <= SIZE_BYTES_MAX => Ok(value),
        Some(_) => Err(UnitError::TooLarge { text: text.to_owned(), kind, most: "4096TiB" }),
    }
}

/// A duration as [`duration`] reads it, in the largest unit that is exact.
pub fn write_duration(span: Millis) -> String {
    let (unit, scale) = DURATIONS
        .iter()
        .rev()
        .find(|(_, scale)| span.0 != 0 && span.0.is_multiple_of(*scale))
        .unwrap_or(&DURATIONS[0]);
    format!("{}{unit}", span.0 / scale)
}

/// `None`: malformed. A product beyond 64 bits saturates, so that it is too large and not malformed.
fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let (_, scale) = units.iter().find(|(name, _)| *name == unit)?;
    match number.parse::<u64>() {
        Ok(value) => Some(value.saturating_mul(*scale)),
        Err(_) if number.is_empty() => None,
        Err(_) => Some(u64::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_are_read_as_the_contract_writes_them() {
        for (text, ms) in [("500ms", 500), ("2s", 2_000), ("5m", 300_000), ("72h", 259_200_000)] {
            assert_eq!(duration(text), Ok(Millis(ms)));
            assert_eq!(duration(&write_duration(Millis(ms))), Ok(Millis(ms)));
        }
        assert_eq!(size("64KiB"), Ok(65_536));
        assert_eq!(size("2GiB"), Ok(2 << 30));
    }

    #[test]
    fn numbers_without_a_unit_and_other_units_are_refused() {
        for bad in ["", "2", "s", "2 s", "2S", "1.5s", "-1s", "2d", "１s"] {
            assert!(matches!(duration(bad), Err(UnitError::Malformed { .. })), "{bad}");
        }
        for bad in ["", "64", "64KB", "64K", "1.5GiB"] {
            assert!(matches!(size(bad), Err(UnitError::Malformed { .. })), "{bad}");
        }
        for big in ["99999999999999999999h", "8761h"] {
            assert!(matches!(duration(big), Err(UnitError::TooLarge { .. })), "{big}");
        }
    }
}
