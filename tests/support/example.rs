//! An example of `examples/` as a developer has it: a copy to change and to pack with its own build.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::host::Said;
use super::{Host, tools};

/// A copy of an example.
pub struct Example(TempDir);

impl Example {
    /// A fresh copy of `examples/<name>`.
    pub fn of(name: &str) -> Self {
        let dir =
            tempfile::Builder::new().prefix("landfall-example-").tempdir().expect("a temporary directory");
        tools::copy(&tools::repository().join("examples").join(name), dir.path());
        Self(dir)
    }

    /// With the modules that its lockfile pins, those for development too, as `npm ci` leaves them. They come from a
    /// cache that is made once per lockfile.
    pub fn with_modules(self) -> Self {
        let lockfile = std::fs::read(self.path().join("package-lock.json")).expect("a lockfile");
        let key = blake3::hash(&lockfile).to_hex()[..16].to_owned();
        let installed = tools::cached("modules", &key, |dir| {
            for file in ["package.json", "package-lock.json"] {
                std::fs::copy(self.path().join(file), dir.join(file)).expect("a manifest");
            }
            tools::npm_ci(dir);
        });
        let modules = installed.join("node_modules");
        tools::run(self.path(), "cp", &["-a", &modules.to_string_lossy(), "."]);
        self
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Changes a text of a file.
    #[track_caller]
    pub fn edit(&self, file: &str, from: &str, to: &str) {
        let path = self.path().join(file);
        let text = std::fs::read_to_string(&path).expect("a file of the example");
        assert!(text.contains(from), "{file} has no {from:?}");
        std::fs::write(path, text.replace(from, to)).expect("a file of the example");
    }

    /// Adds a file.
    pub fn add(&self, file: &str, content: &[u8]) {
        std::fs::write(self.path().join(file), content).expect("a file of the example");
    }

    /// Builds and packs it on a host.
    #[track_caller]
    pub fn pack(&self, host: &Host, arguments: &[&str]) -> String {
        let path = self.path().to_string_lossy().into_owned();
        let mut command = host.landfall(&[&["pack", &path], arguments].concat());
        let said = Said::of(with_build_tools(&mut command).output().expect("the landfall program"));
        said.expect_code(0);
        said.out.trim().to_owned()
    }
}

/// What builds find beyond a host's own environment: npm's cache, so that only the first install of a machine asks the
/// registry, and the toolchain of Rust, which rustup keeps in the home directory.
fn with_build_tools(command: &mut Command) -> &mut Command {
    command.env("npm_config_cache", tools::dir().join("npm-cache")).env("npm_config_prefer_offline", "true");
    let home = std::env::var_os("HOME").unwrap_or_default();
    for (key, dir) in [("RUSTUP_HOME", ".rustup"), ("CARGO_HOME", ".cargo")] {
        let default = Path::new(&home).join(dir).into_os_string();
        command.env(key, std::env::var_os(key).unwrap_or(default));
    }
    command
}
