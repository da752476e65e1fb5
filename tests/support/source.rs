//! An app's repository in a temporary directory, small enough to read in the test.

use std::path::Path;

use tempfile::TempDir;

/// Runs until it is stopped, is well at once, and needs no program that is not on every machine.
pub const SLEEPER: &str = r#"app = "web"
version = "1"

[[layer]]
name = "app"
files = [{ from = "app", to = "app" }]

[start]
manager = "direct"
run = ["sleep", "100000"]
stop = { signal = "SIGTERM", grace = "1s" }

[health]
run = ["true"]
attempts = 3
interval = "100ms"
successes = 1
settle = "100ms"
timeout = "60s"
"#;

/// A directory with a recipe.
#[derive(Debug)]
pub struct Source(TempDir);

impl Source {
    pub fn new(recipe: &str) -> Self {
        let dir =
            tempfile::Builder::new().prefix("landfall-source-").tempdir().expect("a temporary directory");
        Self(dir).with("landfall.toml", recipe.as_bytes())
    }

    /// The sleeper, with one file that tells its versions apart.
    pub fn sleeper(content: &str) -> Self {
        Self::new(SLEEPER).with("app/version.txt", content.as_bytes())
    }

    /// The sleeper with more in its recipe.
    pub fn sleeper_and(recipe: &str) -> Self {
        Self::new(&format!("{SLEEPER}\n{recipe}")).with("app/version.txt", b"more")
    }

    /// A program that only lives, in so many processes of real pm2.
    pub fn under_pm2(content: &str, instances: u32, mode: &str) -> Self {
        let recipe = format!(
            r#"app = "web"
version = "1"

[[layer]]
name = "app"
files = [{{ from = "app", to = "app" }}]

[start]
manager = "pm2"
run = ["node", "app/main.js"]
mode = "{mode}"
instances = {instances}
listen_timeout = "500ms"
stop = {{ signal = "SIGTERM", grace = "1s" }}

[preflight]
enabled = false

[health]
run = ["true"]
attempts = 10
interval = "500ms"
successes = 1
settle = "100ms"
"#
        );
        let program = "if (process.env.BROKEN && require('fs').existsSync(process.env.BROKEN)) process.exit(3);\nsetInterval(() => {}, 1000);\nprocess.on('SIGTERM', () => process.exit(0));\n";
        Self::new(&recipe).with("app/main.js", program.as_bytes()).with("app/version.txt", content.as_bytes())
    }

    /// Adds a file.
    pub fn with(self, name: &str, content: &[u8]) -> Self {
        let path = self.0.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a file in a directory")).expect("a directory");
        std::fs::write(path, content).expect("a file");
        self
    }

    /// Does anything else to the directory.
    pub fn and(self, change: impl FnOnce(&Path)) -> Self {
        change(self.0.path());
        self
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }
}
