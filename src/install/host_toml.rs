//! A first host.toml from what was typed, and whether one that is there agrees with it.

use std::path::{Path, PathBuf};

use landfall_store::Name;
use landfall_store::location::StoreLocation;

use crate::config::{HostConfig, StateLocation};

/// What was said about this host on the command line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    /// `--environment`.
    pub environment: Option<Name>,
    /// `--store`.
    pub store: Option<StoreLocation>,
    /// `--state`, absolute.
    pub state: Option<PathBuf>,
}

impl Said {
    /// The text of a first host.toml; or the option that must be given for one.
    pub fn text(&self) -> Result<String, &'static str> {
        let environment = self.environment.as_ref().ok_or("--environment")?;
        let state = self.state.as_ref().ok_or("--state")?;
        let mut document = toml::Table::new();
        document.insert("environment".to_owned(), environment.to_string().into());
        if let Some(store) = &self.store {
            document.insert("store".to_owned(), shown(store).into());
        }
        let file = state.to_string_lossy().into_owned();
        document
            .insert("state".to_owned(), toml::Table::from_iter([("file".to_owned(), file.into())]).into());
        Ok(format!("{HEAD}{document}{TAIL}"))
    }

    /// What a host.toml says otherwise, in words.
    pub fn contradictions(&self, config: &HostConfig) -> Vec<String> {
        let mut found = Vec::new();
        let mut compare = |key: &str, asked: Option<String>, has: Option<String>| {
            if let Some(asked) = asked
                && has.as_ref() != Some(&asked)
            {
                let has = has.map_or_else(|| "nothing".to_owned(), |has| format!("`{has}`"));
                found.push(format!("{key} is {has} there and `{asked}` was asked for"));
            }
        };
        let text = |name: &Name| name.to_string();
        compare("environment", self.environment.as_ref().map(text), config.environment.as_ref().map(text));
        compare("store", self.store.as_ref().map(shown), config.store.as_ref().map(shown));
        let state = config.state.as_ref().map(|state| match &state.location {
            StateLocation::File(path) => path.to_string_lossy().into_owned(),
            StateLocation::Git { .. } => "a repository".to_owned(),
        });
        compare(
            "state.file",
            self.state.as_deref().map(|path: &Path| path.to_string_lossy().into_owned()),
            state,
        );
        found
    }
}

fn shown(store: &StoreLocation) -> String {
    match store {
        StoreLocation::Dir(dir) => dir.to_string_lossy().into_owned(),
        other => format!("{other}"),
    }
}

const HEAD: &str = "\
# What this host is, and what it allows. `landfall install` wrote it once and leaves it alone from then on.
# Everybody on this host may read it: secrets of apps belong in the files of an `env_dir`.
";

const TAIL: &str = "
# No [apps] table: every app of the environment is for this host, and runs as landfall's own account.
# Better is one table for each app, with an account of its own:
#
# [apps.web]
# user = \"web\"
# env_dir = \"/etc/landfall/env/web\"
";

#[cfg(test)]
mod tests {
    use super::*;

    fn said() -> Said {
        Said {
            environment: Some("prod".parse().unwrap()),
            store: Some(StoreLocation::Dir("/srv/artifacts".into())),
            state: Some("/srv/state \"1\"/deploy-state.json".into()),
        }
    }

    #[test]
    fn what_is_written_reads_back_as_what_was_said() {
        let text = said().text().unwrap();
        let config = HostConfig::parse(&text, Path::new("/etc/landfall/host.toml"), "web-1").unwrap();
        assert_eq!(said().contradictions(&config), [] as [&str; 0]);
        assert_eq!(config.apps, None);
    }

    #[test]
    fn a_host_without_environment_or_state_is_not_guessed() {
        assert_eq!(Said { environment: None, ..said() }.text(), Err("--environment"));
        assert_eq!(Said { state: None, ..said() }.text(), Err("--state"));
    }

    #[test]
    fn a_host_toml_that_says_otherwise_is_named_key_by_key() {
        let text = "environment = \"staging\"\nstore = \"/srv/artifacts\"\n";
        let config = HostConfig::parse(text, Path::new("/etc/landfall/host.toml"), "web-1").unwrap();
        let found = said().contradictions(&config);
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(found[0], "environment is `staging` there and `prod` was asked for");
        assert!(found[1].starts_with("state.file is nothing there"), "{found:?}");
        assert_eq!(Said::default().contradictions(&config), [] as [&str; 0]);
    }
}
