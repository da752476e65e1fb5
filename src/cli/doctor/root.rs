//! The directory that everything is kept in, and the accounts that apps run as.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::examine::Finding;
use crate::host::Host;

const ROOT: &str = "root";
const ACCOUNT: &str = "account";

/// Who and where.
pub fn findings(host: &Host) -> Vec<Finding> {
    let path = host.root.path();
    let own = rustix::process::geteuid().as_raw();
    let mut found = match std::fs::symlink_metadata(path) {
        Ok(facts) => owner_and_mode(path, &facts, own),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => vec![can_be_made(path)],
        Err(error) => {
            let what = format!("{} cannot be looked at: {error}", path.display());
            vec![Finding::problem(ROOT, what, "run it as the account of the agent, or name another --root")]
        }
    };
    found.extend(accounts(host, own));
    found
}

/// Only landfall's own account may write here: whoever can, decides what runs.
fn owner_and_mode(path: &Path, facts: &Metadata, own: u32) -> Vec<Finding> {
    let shown = path.display();
    if !facts.is_dir() {
        let fix = format!("move it away: mv {shown} {shown}.old");
        return vec![Finding::problem(ROOT, format!("{shown} is no directory"), fix)];
    }
    let mut found = Vec::new();
    if facts.uid() != own {
        let what = format!("{shown} belongs to user {}, and this is user {own}", facts.uid());
        found.push(Finding::problem(ROOT, what, "run it as the account of the agent (sudo landfall doctor)"));
    }
    if facts.mode() & 0o022 != 0 {
        let what = format!(
            "{shown} can be written by others (mode {:o}): they decide what runs",
            facts.mode() & 0o777
        );
        found.push(Finding::problem(ROOT, what, format!("chmod go-w {shown}")));
    }
    if found.is_empty() {
        found.push(Finding::good(ROOT, format!("{shown} is landfall's own")));
    }
    found
}

fn can_be_made(path: &Path) -> Finding {
    let shown = path.display();
    let Some(parent) = path.ancestors().skip(1).find(|dir| dir.is_dir()) else {
        return Finding::problem(ROOT, format!("{shown} cannot be made"), format!("mkdir -p {shown}"));
    };
    match rustix::fs::access(parent, rustix::fs::Access::WRITE_OK) {
        Ok(()) => Finding::good(ROOT, format!("{shown} is not there yet; the agent makes it")),
        Err(_) => {
            let what = format!("{shown} is not there, and {} cannot be written", parent.display());
            Finding::problem(ROOT, what, format!("sudo install -d -m 755 -o $(id -un) {shown}"))
        }
    }
}

/// Every configured account exists and can be become.
fn accounts(host: &Host, own: u32) -> Vec<Finding> {
    let Some(apps) = &host.config.apps else { return Vec::new() };
    let mut found = Vec::new();
    for (app, config) in apps.iter().filter(|(_, config)| config.enabled) {
        let Some(user) = config.user.as_deref() else { continue };
        let finding = match host.account(app, Some(user)) {
            Err(_) | Ok(None) => Finding::problem(
                ACCOUNT,
                format!("there is no user `{user}` on this host"),
                format!("sudo useradd --system --create-home {user}"),
            ),
            Ok(Some(account)) if own != 0 && account.uid != own => Finding::problem(
                ACCOUNT,
                format!("only root can start an app as `{user}`, and this is user {own}"),
                format!("run the agent as root, or take `user` out of [apps.{app}] in host.toml"),
            ),
            Ok(Some(account)) if account.uid == 0 => Finding::warning(
                ACCOUNT,
                "the app runs as root: it can change landfall and every other app",
                format!(
                    "sudo useradd --system --create-home {app}; then `user = \"{app}\"` under [apps.{app}]"
                ),
            ),
            Ok(Some(_)) => Finding::good(ACCOUNT, format!("runs as `{user}`")),
        };
        found.push(finding.of(app));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::examine::Level;
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_root_that_others_can_write_or_that_is_somebody_elses_is_a_problem() {
        let dir = tempfile::tempdir().unwrap();
        let own = rustix::process::geteuid().as_raw();
        let judge = |mode, as_user| {
            std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(mode)).unwrap();
            owner_and_mode(dir.path(), &std::fs::metadata(dir.path()).unwrap(), as_user)
        };
        assert_eq!(judge(0o755, own)[0].level, Level::Good);
        assert!(judge(0o775, own)[0].fix.as_ref().unwrap().starts_with("chmod go-w "));
        assert!(judge(0o755, own + 1)[0].message.contains("belongs to user"));
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(
            owner_and_mode(&file, &std::fs::metadata(&file).unwrap(), own)[0]
                .message
                .contains("no directory")
        );
    }
}
