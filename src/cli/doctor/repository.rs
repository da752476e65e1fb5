//! Can the state repository be read, by every address that host.toml names?

use std::path::Path;

use super::examine::Finding;
use super::{STATE, judged};
use crate::cli::copy::Copy;
use crate::cli::io_runtime;
use crate::config::Repository;
use crate::host::Host;
use crate::source::git::GitSource;
use crate::state::DesiredState;
use crate::watch;

/// Tries each address by itself; the first that answers gives the state.
pub fn findings(repository: &Repository, host: &Host) -> (Option<DesiredState>, Vec<Finding>) {
    let mut found = files(repository);
    let mut state = None;
    for remote in &repository.remotes {
        let alone = Repository { remotes: vec![remote.clone()], ..repository.clone() };
        let (Ok(copy), Ok(runtime)) = (Copy::new(), io_runtime()) else {
            found.push(Finding::problem(
                STATE,
                "there is no room for a copy of the repository",
                "make room in TMPDIR",
            ));
            break;
        };
        let source = GitSource::new(alone, copy.cache());
        match runtime.block_on(source.found(None)) {
            Err(trouble) => found.push(Finding::problem(STATE, trouble.to_string(), trouble.fault.hint())),
            Ok(here) if state.is_some() => {
                found.push(Finding::good(STATE, format!("{} is at {}", source.place(), here.head.short())));
            }
            Ok(here) => {
                let good = format!("{} is at {}", source.place(), here.head.short());
                let (parsed, told) = judged(&here.bytes, source.path(), good);
                state = parsed;
                found.extend(told);
                found.extend(refused(host, &source));
            }
        }
    }
    (state, found)
}

/// Whether the agent would take what is there now.
fn refused(host: &Host, source: &GitSource) -> Option<Finding> {
    let (copy, runtime) = (Copy::new().ok()?, io_runtime().ok()?);
    let source = crate::source::Source::Git(GitSource::new(source.repository().clone(), copy.cache()));
    let problem = runtime.block_on(watch::newest(&source, host)).err()?;
    let wrong = problem.wrong();
    Some(Finding::problem(STATE, wrong.message, wrong.hint))
}

/// The files that reaching it needs.
fn files(repository: &Repository) -> Vec<Finding> {
    let access = &repository.access;
    let private = [("ssh_key", &access.ssh_key), ("token_file", &access.token_file)];
    let private = private.into_iter().filter_map(|(key, path)| secret(key, path.as_deref()?));
    let hosts = access.known_hosts.as_deref().and_then(|path| match std::fs::metadata(path) {
        Ok(_) => None,
        Err(error) => {
            let what = format!("known_hosts {}: {error}", path.display());
            Some(Finding::problem(
                STATE,
                what,
                "ssh-keyscan HOST > it, and compare with the server's own word",
            ))
        }
    });
    private.chain(hosts).collect()
}

fn secret(key: &str, path: &Path) -> Option<Finding> {
    use std::os::unix::fs::PermissionsExt;
    let open = std::fs::File::open(path).and_then(|file| file.metadata());
    match open {
        Err(error) => {
            let what = format!("{key} {}: {error}", path.display());
            Some(Finding::problem(STATE, what, "run it as the account of the agent, or correct the path"))
        }
        Ok(facts) if facts.permissions().mode() & 0o077 != 0 => {
            let what = format!("{key} {}: others than the agent may read it", path.display());
            Some(Finding::problem(STATE, what, format!("chmod 600 {}", path.display())))
        }
        Ok(_) => None,
    }
}
