//! What an archive is called: `<app>-v<version>-<MM-DD-HH-mm>.tgz`. Pure.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use landfall_store::{Name, Version};

/// Month, day, hour and minute: `11-20-14-05`. Names the archive only; no artifact holds a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp(String);

/// Why a text is no such time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a time: MM-DD-HH-mm, for example 11-20-14-05")]
pub struct StampError(String);

impl Stamp {
    /// This minute, on this machine's clock and in its time zone.
    pub fn now() -> Self {
        Self(jiff::Zoned::now().strftime("%m-%d-%H-%M").to_string())
    }
}

impl FromStr for Stamp {
    type Err = StampError;

    fn from_str(text: &str) -> Result<Self, StampError> {
        let ranges = [1..=12, 1..=31, 0..=23, 0..=59];
        let parts: Vec<&str> = text.split('-').collect();
        let fits = |(part, range): (&&str, std::ops::RangeInclusive<u8>)| {
            let digits = part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
            digits && part.parse().is_ok_and(|number| range.contains(&number))
        };
        if parts.len() == ranges.len() && parts.iter().zip(ranges).all(fits) {
            Ok(Self(text.to_owned()))
        } else {
            Err(StampError(text.to_owned()))
        }
    }
}

/// Where an archive goes: the path itself, or a name in it if it is a directory.
pub fn destination(path: &Path, app: &Name, version: &Version, stamp: &Stamp) -> PathBuf {
    let is_directory = path.is_dir() || path.as_os_str().as_encoded_bytes().ends_with(b"/");
    if is_directory { path.join(format!("{app}-v{version}-{}.tgz", stamp.0)) } else { path.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_month_a_day_an_hour_and_a_minute_are_a_time() {
        for good in ["11-20-14-05", "01-01-00-00", "12-31-23-59"] {
            assert!(good.parse::<Stamp>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "11-20-14",
            "13-01-00-00",
            "1-20-14-05",
            "11-20-24-00",
            "11-20-14-05-06",
            "../../x-y",
            "+1-20-14-05",
        ] {
            assert!(bad.parse::<Stamp>().is_err(), "{bad}");
        }
        assert!(Stamp::now().0.parse::<Stamp>().is_ok());
    }

    #[test]
    fn a_directory_gets_the_usual_name_and_a_path_is_kept() {
        let (app, version) = ("backend".parse().unwrap(), "1.2.0".parse().unwrap());
        let stamp = "11-20-14-05".parse().unwrap();
        let named = |path: &str| destination(Path::new(path), &app, &version, &stamp);
        assert_eq!(named("out/"), Path::new("out/backend-v1.2.0-11-20-14-05.tgz"));
        assert_eq!(named("/"), Path::new("/backend-v1.2.0-11-20-14-05.tgz"));
        assert_eq!(named("out/x.tar.zst"), Path::new("out/x.tar.zst"));
    }
}
