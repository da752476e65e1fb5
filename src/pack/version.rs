//! The version of a pack: what was asked for, else what the recipe points at.

use std::path::Path;
use std::process::{Command, Stdio};

use landfall_store::Version;

use super::PackError;
use crate::recipe::VersionSource;

/// Finds it.
pub(super) fn find(
    dir: &Path,
    source: &VersionSource,
    asked: Option<&Version>,
) -> Result<Version, PackError> {
    match (asked, source) {
        (Some(version), _) | (None, VersionSource::Fixed(version)) => Ok(version.clone()),
        (None, VersionSource::File(file)) => {
            let path = dir.join(file);
            let text = std::fs::read_to_string(&path)
                .map_err(|source| PackError::VersionFile { path: path.clone(), source })?;
            Ok(VersionSource::in_file(&path, &text)?)
        }
        (None, VersionSource::Command(arguments)) => printed(dir, arguments),
    }
}

fn printed(dir: &Path, arguments: &[String]) -> Result<Version, PackError> {
    let command = arguments.join(" ");
    let (program, rest) = arguments.split_first().expect("a recipe's command names its program");
    let output = Command::new(program)
        .args(rest)
        .current_dir(dir)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|source| PackError::VersionNotStarted { command: command.clone(), source })?;
    if !output.status.success() {
        return Err(PackError::VersionFailed { command, status: output.status });
    }
    Ok(VersionSource::in_output(&command, &String::from_utf8_lossy(&output.stdout))?)
}
