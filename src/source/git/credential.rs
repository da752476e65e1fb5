//! A helper that git asks for a credential: `landfall git-credential <scheme://host> <file> get`.
//!
//! The secret travels down a pipe, never in an argument or an environment, and only to the one server that
//! host.toml names: git may be sent elsewhere, the token is not.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::ExitCode;

use crate::config::remote::Remote;

/// How this program is asked for it.
pub const SUBCOMMAND: &str = "git-credential";
/// Bytes of a token file, and of git's question.
const BYTES_MAX: u64 = 16 << 10;
/// The user where the file names none: forges that take tokens take any name with them.
const USER: &str = "git";

/// The value of `credential.helper`. The parts hold nothing a shell would take for more than a name (`config`).
pub(super) fn helper(remote: &Remote, file: &Path) -> String {
    // This very program, also after another one was installed in its place.
    let program = format!("/proc/{}/exe", std::process::id());
    let server = format!("{}://{}", remote.transport().name(), remote.host().unwrap_or_default());
    format!("!{program} {SUBCOMMAND} '{server}' '{}'", file.display())
}

/// Answers one question. Silence, and success, where there is nothing to say: git then reports that the server
/// asks for a credential.
pub fn main(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let mut next = || arguments.next().unwrap_or_default();
    let (server, file, action) = (next(), next(), next());
    let answered = match (server.to_str(), action.to_str()) {
        (Some(server), Some("get")) => answer(server, Path::new(&file)),
        // git also tells what became of it; nothing is stored or erased.
        _ => Ok(()),
    };
    match answered {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            drop(writeln!(io::stderr(), "token_file {}: {error}", Path::new(&file).display()));
            ExitCode::FAILURE
        }
    }
}

fn answer(server: &str, file: &Path) -> io::Result<()> {
    let mut question = String::new();
    io::stdin().take(BYTES_MAX).read_to_string(&mut question)?;
    if !is_about(server, &question) {
        return Ok(());
    }
    let mut text = String::new();
    std::fs::File::open(file)?.take(BYTES_MAX).read_to_string(&mut text)?;
    let Some((user, token)) = credential(&text) else {
        return Err(io::Error::other("it holds no token: one line, `token` or `user:token`"));
    };
    io::stdout().write_all(format!("username={user}\npassword={token}\n").as_bytes())
}

/// Whether git asks for this very server.
fn is_about(server: &str, question: &str) -> bool {
    let says = |key: &str| question.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    match (says("protocol"), says("host")) {
        (Some(protocol), Some(host)) => server == format!("{protocol}://{host}"),
        _ => false,
    }
}

/// User and token of the first line.
fn credential(text: &str) -> Option<(&str, &str)> {
    let line = text.lines().next()?.trim();
    let (user, token) = line.split_once(':').unwrap_or((USER, line));
    (!user.is_empty() && !token.is_empty()).then_some((user, token))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b27_a_token_is_for_the_one_server_it_was_given_for() {
        let server = "https://git.example.org";
        assert!(is_about(server, "protocol=https\nhost=git.example.org\n"));
        for other in [
            "protocol=http\nhost=git.example.org\n",
            "protocol=https\nhost=git.example.org:8443\n",
            "protocol=https\nhost=evil.example.org\n",
            "protocol=https\nhost=git.example.org.evil.net\n",
            "host=git.example.org\n",
            "",
        ] {
            assert!(!is_about(server, other), "{other:?}");
        }
    }

    #[test]
    fn a_token_stands_alone_or_behind_its_user() {
        assert_eq!(credential("abc\n"), Some(("git", "abc")));
        assert_eq!(credential("deploy-1:abc\r\n"), Some(("deploy-1", "abc")));
        assert_eq!(credential("\n"), None);
        assert_eq!(credential("user:\n"), None);
    }
}
