//! What a directory tells about the app in it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};

use landfall_store::Name;

use super::PresetError;
use super::ecosystem::Pm2Hints;

/// Directories that hold a finished site, best first.
pub(super) const STATIC_DIRS: &[&str] = &["dist", "build", "out", "public", "_site"];
/// Directories that hold the code of a Node server.
pub(super) const CODE_DIRS: &[&str] = &[
    "dist",
    "server",
    "app",
    "src",
    "lib",
    "config",
    "bin",
    "routes",
    "controllers",
    "middleware",
    "middlewares",
    "services",
    "models",
    "views",
];
/// Directories that hold what browsers fetch.
pub(super) const CLIENT_DIRS: &[&str] = &["client/dist", "public", "static", "assets"];
/// Files that start a Node server where nothing says which, best first.
const ENTRIES: &[&str] =
    &["server.js", "app.js", "index.js", "main.js", "dist/main.js", "dist/index.js", "src/index.js"];
const OTHERS: &[&str] = &[
    "package.json",
    "package.production.json",
    "Cargo.toml",
    "go.mod",
    "VERSION",
    "index.html",
    "ecosystem.config.cjs",
    "ecosystem.config.js",
    "prisma",
    "prisma/schema",
    "prisma/migrations",
    "prisma/schema/migrations",
    "prisma.config.ts",
    "dist/backend",
    "nx.json",
];
/// What a lockfile is made of: it fits a manifest that has all of these alike.
const PACKAGES: [&str; 3] = ["dependencies", "devDependencies", "optionalDependencies"];
/// Bytes of a manifest that is looked into.
const MANIFEST_BYTES_MAX: u64 = 1 << 20;

/// The Node package managers, with the lockfile that gives them away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PackageManager {
    /// npm, also where no lockfile says otherwise.
    #[default]
    Npm,
    /// pnpm.
    Pnpm,
    /// Yarn.
    Yarn,
}

impl PackageManager {
    /// Each with its lockfile.
    pub const LOCKFILES: [(&'static str, Self); 3] =
        [("pnpm-lock.yaml", Self::Pnpm), ("yarn.lock", Self::Yarn), ("package-lock.json", Self::Npm)];

    /// Its program.
    pub const fn program(self) -> &'static str {
        match self {
            Self::Npm => "npm",
            Self::Pnpm => "pnpm",
            Self::Yarn => "yarn",
        }
    }
}

/// A base env file that was found: `.env.production` is the environment `prod`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvFile {
    /// The environment.
    pub environment: Name,
    /// What follows `.env.`.
    pub file: String,
    /// Its `.local` file is there too.
    pub local: bool,
}

/// Everything that was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// A name for the app.
    pub app: String,
    /// A file that holds the version.
    pub version_file: Option<String>,
    /// Who installs its dependencies.
    pub package_manager: PackageManager,
    /// The lockfile.
    pub lockfile: Option<String>,
    /// Names of all dependencies.
    pub dependencies: BTreeSet<String>,
    /// Scripts of package.json.
    pub scripts: BTreeMap<String, String>,
    /// The file that starts it.
    pub entry: Option<String>,
    /// Base env files, in order of their names.
    pub env_files: Vec<EnvFile>,
    /// What its pm2 configuration says.
    pub pm2: Pm2Hints,
    /// package.production.json asks for other packages than package.json, for which the lockfile was made.
    pub production_differs: bool,
    present: BTreeSet<String>,
}

impl Facts {
    /// Looks at a directory. Files that are not there are facts, files that cannot be read are errors.
    pub fn of(dir: &Path) -> Result<Self, PresetError> {
        let mut facts = Self { present: present(dir), env_files: env_files(dir)?, ..Self::default() };
        facts.app = name_of(&dir.canonicalize().unwrap_or_else(|_| dir.to_owned()).to_string_lossy());
        facts.version_file = facts.first(&["package.json", "Cargo.toml", "VERSION"]).map(str::to_owned);
        facts.read_lockfile();
        facts.read_pm2(dir)?;
        facts.read_package(dir)?;
        facts.read_crate(dir)?;
        facts.entry = facts.find_entry();
        Ok(facts)
    }

    /// Whether a path that presets care about is there.
    pub fn has(&self, path: &str) -> bool {
        self.present.contains(path)
    }

    /// The first of these that is there.
    pub fn first<'a>(&self, paths: &[&'a str]) -> Option<&'a str> {
        paths.iter().copied().find(|path| self.has(path))
    }

    fn read_lockfile(&mut self) {
        let found = PackageManager::LOCKFILES.iter().find(|(file, _)| self.present.contains(*file));
        if let Some((file, manager)) = found {
            (self.lockfile, self.package_manager) = (Some((*file).to_owned()), *manager);
        }
    }

    fn read_pm2(&mut self, dir: &Path) -> Result<(), PresetError> {
        if let Some(file) = self.first(&["ecosystem.config.cjs", "ecosystem.config.js"]) {
            self.pm2 = Pm2Hints::of(&read(&dir.join(file))?.unwrap_or_default());
        }
        Ok(())
    }

    fn read_package(&mut self, dir: &Path) -> Result<(), PresetError> {
        let path = dir.join("package.json");
        let Some(text) = read(&path)? else {
            return Ok(());
        };
        let package = manifest(path, &text)?;
        for key in ["dependencies", "devDependencies"] {
            let names = package[key].as_object().into_iter().flat_map(|names| names.keys().cloned());
            self.dependencies.extend(names);
        }
        for (name, line) in package["scripts"].as_object().into_iter().flatten() {
            self.scripts.insert(name.clone(), line.as_str().unwrap_or_default().to_owned());
        }
        if let Some(name) = package["name"].as_str() {
            self.app = name_of(name);
        }
        if package["version"].as_str().is_none() {
            self.version_file = None;
        }
        let main = package["main"].as_str().map(|main| main.trim_start_matches("./").to_owned());
        self.entry = main.filter(|main| plain(main) && dir.join(main).is_file());
        let production = dir.join("package.production.json");
        if let Some(text) = read(&production)? {
            let other = manifest(production, &text)?;
            self.production_differs = PACKAGES.iter().any(|key| other[*key] != package[*key]);
        }
        Ok(())
    }

    fn read_crate(&mut self, dir: &Path) -> Result<(), PresetError> {
        let path = dir.join("Cargo.toml");
        let Some(text) = read(&path)? else {
            return Ok(());
        };
        let manifest: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            PresetError::Malformed { path, why: error.message().to_owned() }
        })?;
        let package = manifest.get("package");
        match package.and_then(|package| package.get("name")?.as_str()) {
            Some(name) if !self.has("package.json") => self.app = name_of(name),
            _ => {}
        }
        let version = package.and_then(|package| package.get("version")?.as_str());
        if version.is_none() && self.version_file.as_deref() == Some("Cargo.toml") {
            self.version_file = None;
        }
        Ok(())
    }

    /// What pm2 starts, else what `npm start` starts, else `main`, else a file with a usual name.
    fn find_entry(&self) -> Option<String> {
        let script = self.pm2.script.clone().filter(|script| plain(script) && script.ends_with("js"));
        let start = self.scripts.get("start").and_then(|line| entry_of(line));
        let usual = || self.first(ENTRIES).map(str::to_owned);
        script.or(start).or_else(|| self.entry.clone()).or_else(usual)
    }
}

fn manifest(path: PathBuf, text: &str) -> Result<serde_json::Value, PresetError> {
    serde_json::from_str(text.trim_start_matches('\u{feff}'))
        .map_err(|error| PresetError::Malformed { path, why: error.to_string() })
}

/// `server.js` of `node server.js`, `NODE_ENV=production node ./server.js`, `pm2 start server.js`.
fn entry_of(line: &str) -> Option<String> {
    let starts = line.contains("node ") || line.contains("pm2 start");
    let file = line.split_whitespace().find(|word| {
        [".js", ".cjs", ".mjs"].iter().any(|end| word.ends_with(end)) && !word.contains("ecosystem")
    })?;
    let file = file.trim_start_matches("./");
    (starts && plain(file)).then(|| file.to_owned())
}

/// A relative path as a recipe takes it.
fn plain(path: &str) -> bool {
    !path.starts_with('/') && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

fn present(dir: &Path) -> BTreeSet<String> {
    let lockfiles = PackageManager::LOCKFILES.iter().map(|(file, _)| file);
    [OTHERS, STATIC_DIRS, CODE_DIRS, CLIENT_DIRS, ENTRIES]
        .into_iter()
        .flatten()
        .chain(lockfiles)
        .filter(|path| dir.join(path).exists())
        .map(|path| (*path).to_owned())
        .collect()
}

fn env_files(dir: &Path) -> Result<Vec<EnvFile>, PresetError> {
    let unreadable = |source| PresetError::Unreadable { path: dir.to_owned(), source };
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(dir).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name();
        if let Some(mut file) = name.to_str().and_then(env_file) {
            file.local = dir.join(format!(".env.{}.local", file.file)).exists();
            files.insert(file.environment.clone(), file);
        }
    }
    Ok(files.into_values().collect())
}

fn env_file(name: &str) -> Option<EnvFile> {
    let file = name.strip_prefix(".env.")?;
    let is_other = |part: &str| {
        ["local", "example", "sample", "template", "dist", "defaults", "test", "vault", "bak"].contains(&part)
    };
    if file.split('.').any(is_other) {
        return None;
    }
    let environment = match file {
        "production" => "prod",
        "development" => "dev",
        other => other,
    };
    Some(EnvFile { environment: environment.parse().ok()?, file: file.to_owned(), local: false })
}

/// A name made of a package's or directory's own: `@acme/Web_App` gives `web_app`.
fn name_of(text: &str) -> String {
    let last = text.rsplit(['/', '\\']).find(|part| !part.is_empty()).unwrap_or_default();
    let kept: String = last
        .to_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') { c } else { '-' })
        .take(63)
        .collect();
    let trimmed = kept.trim_matches(['-', '_']);
    if trimmed.is_empty() { "app".to_owned() } else { trimmed.to_owned() }
}

/// The text of a file that may be missing; of one that is too long, its beginning is not read either.
fn read(path: &Path) -> Result<Option<String>, PresetError> {
    let unreadable = |source| PresetError::Unreadable { path: path.to_owned(), source };
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(unreadable(source)),
    };
    let mut text = String::new();
    file.take(MANIFEST_BYTES_MAX + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > MANIFEST_BYTES_MAX {
        let why = format!("longer than {MANIFEST_BYTES_MAX} bytes");
        return Err(PresetError::Malformed { path: path.to_owned(), why });
    }
    Ok(Some(text))
}
