//! Templates filled with facts.

use super::Preset;
use super::facts::{CLIENT_DIRS, CODE_DIRS, Facts, PackageManager, STATIC_DIRS};
use crate::document::units::write_duration;
use crate::spec::Millis;

/// A port where nothing says which.
const PORT: u16 = 3_000;

/// The text of a recipe: `preset` filled with `facts`.
pub fn render(preset: Preset, facts: &Facts) -> String {
    let values = Values(facts);
    match preset {
        Preset::Next => fill(include_str!("templates/next.toml"), values.next()),
        Preset::NestPrisma => fill(include_str!("templates/nest-prisma.toml"), values.nest_prisma()),
        Preset::Koa => fill(include_str!("templates/koa.toml"), values.koa()),
        Preset::Node => fill(include_str!("templates/node.toml"), values.node()),
        Preset::StaticSite => fill(include_str!("templates/static.toml"), values.static_site()),
        Preset::Binary => fill(include_str!("templates/binary.toml"), values.binary()),
    }
}

type Filling = Vec<(&'static str, String)>;

/// Replaces each `{{key}}`; a line that is nothing but one with an empty value goes altogether.
fn fill(template: &str, values: Filling) -> String {
    let mut text = String::new();
    for line in template.lines() {
        let mut filled = line.to_owned();
        for (key, value) in &values {
            filled = filled.replace(&format!("{{{{{key}}}}}"), value);
        }
        if filled.is_empty() && !line.is_empty() {
            continue;
        }
        text.push_str(&filled);
        text.push('\n');
    }
    text
}

struct Values<'a>(&'a Facts);

/// Whether hosts need a local layer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Local {
    /// Always: it holds what makes the app work.
    Required,
    /// Where every environment has one here.
    AsFound,
}

impl Values<'_> {
    fn common(&self) -> Filling {
        let facts = self.0;
        let version = match &facts.version_file {
            Some(file) => format!("{{ file = {} }}", quoted(file)),
            None => quoted("0.1.0"),
        };
        vec![
            ("app", quoted(&facts.app)),
            ("version", version),
            ("env_layer", self.env_layer()),
            ("environments", self.environments()),
            ("local", self.local(Local::AsFound)),
            ("port", quoted(&facts.pm2.port.unwrap_or(PORT).to_string())),
        ]
    }

    fn env_layer(&self) -> String {
        let layer = "[[layer]]\nname = \"env\"\nkind = \"env\"                                  # a host fetches its own environment's only\n";
        if self.0.env_files.is_empty() { String::new() } else { layer.to_owned() }
    }

    /// Secrets are for the hosts that run something.
    fn env_layer_of(&self, role: &str) -> String {
        self.env_layer().replace("kind = ", &format!("roles = [{}]\nkind = ", quoted(role)))
    }

    fn environments(&self) -> String {
        let files = &self.0.env_files;
        if files.is_empty() {
            return String::new();
        }
        let names: Vec<String> = files.iter().map(|file| quoted(file.environment.as_str())).collect();
        let renamed: Vec<String> = files
            .iter()
            .filter(|file| file.file != file.environment.as_str())
            .map(|file| format!("{} = {}", file.environment, quoted(&file.file)))
            .collect();
        let list = format!("environments = [{}]", names.join(", "));
        match &renamed[..] {
            [] => list,
            renamed => format!("{list}\nnames = {{ {} }}", renamed.join(", ")),
        }
    }

    fn local(&self, local: Local) -> String {
        let files = &self.0.env_files;
        let required = local == Local::Required || files.iter().all(|file| file.local);
        match files.is_empty() {
            true => String::new(),
            false if required => "local = \"required\"".to_owned(),
            false => "local = \"optional\"".to_owned(),
        }
    }

    fn pm2(&self) -> Filling {
        let hints = &self.0.pm2;
        let memory = hints.memory_max.unwrap_or(768 << 20);
        vec![
            ("instances", hints.instances.unwrap_or(2).to_string()),
            ("grace", quoted(&write_duration(Millis(hints.kill_timeout_ms.unwrap_or(5_000))))),
            ("memory_max", quoted(&size(memory))),
        ]
    }

    fn next(&self) -> Filling {
        let mut assets = vec![(".next/static", ".next/static")];
        if self.0.has("public") {
            assets.push(("public", "public"));
        }
        [self.common(), self.pm2(), vec![("build", self.script("build")), ("static", files(&assets))]]
            .concat()
    }

    fn nest_prisma(&self) -> Filling {
        let facts = self.0;
        let schema = facts.first(&["prisma/schema", "prisma"]).unwrap_or("prisma");
        let entry = facts.entry.clone().filter(|entry| entry.starts_with("dist/"));
        // Before the first build, what pm2 starts tells where its output will be.
        let above = entry.as_deref().and_then(|entry| Some(entry.rsplit_once('/')?.0));
        let dist = facts.first(&["dist/backend", "dist"]).or(above).unwrap_or("dist");
        let entry = entry.clone().filter(|entry| entry.starts_with(dist));
        let script = if facts.scripts.contains_key("build:backend") { "build:backend" } else { "build" };
        let own = vec![
            ("build_dev", self.script_with(script, "--dev")),
            ("build_prod", self.script_with(script, "--prod")),
            ("dist", quoted(dist)),
            ("schema", quoted(schema)),
            ("manifest", self.manifest()),
            ("install", list(&self.install())),
            ("install_writes", self.install_writes()),
            ("generate", self.prisma(&["generate"], schema)),
            ("migrate", self.prisma(&["migrate", "deploy"], schema)),
            ("migrated", self.prisma(&["migrate", "status"], schema)),
            ("migrations", self.migrations(schema)),
            ("local", self.local(Local::Required)),
            ("entry", quoted(&entry.unwrap_or_else(|| format!("{dist}/main.js")))),
        ];
        [own, self.common(), self.pm2()].concat()
    }

    /// The production manifest under its real name, the lockfile, and what pm2 was told so far.
    fn manifest(&self) -> String {
        let facts = self.0;
        let package = facts.first(&["package.production.json"]).unwrap_or("package.json");
        let lockfile = facts.lockfile.as_deref().unwrap_or("package-lock.json");
        let mut entries = vec![(package, "package.json"), (lockfile, lockfile)];
        for optional in ["prisma.config.ts", "ecosystem.config.cjs"] {
            if facts.has(optional) {
                entries.push((optional, optional));
            }
        }
        files(&entries)
    }

    /// pnpm hard-links from its store unless told to copy, and a release must own its files.
    fn install(&self) -> Vec<&'static str> {
        let frozen = !self.0.production_differs;
        match self.0.package_manager {
            PackageManager::Pnpm => {
                let lock = if frozen { "--frozen-lockfile" } else { "--prefer-frozen-lockfile" };
                vec!["pnpm", "install", "--prod", lock, "--package-import-method", "copy"]
            }
            PackageManager::Yarn => vec!["yarn", "install", "--production", "--frozen-lockfile"],
            PackageManager::Npm if frozen => vec!["npm", "ci", "--omit=dev"],
            PackageManager::Npm => vec!["npm", "install", "--omit=dev"],
        }
    }

    /// A manifest for which the lockfile was not made has it written anew, of the versions that are in it.
    fn install_writes(&self) -> String {
        match (self.0.production_differs, &self.0.lockfile) {
            (true, Some(lockfile)) => format!("writes = [{}]", quoted(lockfile)),
            _ => String::new(),
        }
    }

    fn prisma(&self, verb: &[&str], schema: &str) -> String {
        let mut arguments = match self.0.package_manager {
            PackageManager::Npm => vec!["npx", "--no-install", "prisma"],
            PackageManager::Pnpm => vec!["pnpm", "exec", "prisma"],
            PackageManager::Yarn => vec!["yarn", "run", "prisma"],
        };
        arguments.extend(verb);
        let folder = format!("--schema={schema}");
        if schema != "prisma" {
            arguments.push(&folder);
        }
        list(&arguments)
    }

    /// Where Prisma keeps them: beside the schema. Before there is a first one, the recipe does not speak of it.
    fn migrations(&self, schema: &str) -> String {
        let dir = format!("{schema}/migrations");
        let line =
            || format!("migrations = {}                    # named in `plan` and `rollback`", quoted(&dir));
        if self.0.has(&dir) { line() } else { String::new() }
    }

    fn koa(&self) -> Filling {
        let (start, stop) = self.start_and_stop();
        let client = self.0.first(CLIENT_DIRS).unwrap_or("public");
        let own = vec![
            ("build", self.build_and_install()),
            ("code", self.code(Some(client))),
            ("client", files(&[(client, client)])),
            ("kept", quoted(client)),
            ("server_env_layer", self.env_layer_of("server")),
            ("start", start),
            ("stop", stop),
        ];
        [self.common(), own].concat()
    }

    /// npm's scripts where both are there and speak of the app itself; else the entry.
    fn start_and_stop(&self) -> (String, String) {
        let own = |name: &str| self.0.scripts.get(name).is_some_and(|line| needs_no_manager(line));
        match own("start") && own("stop") {
            true => (self.script("start"), format!("stop = {{ run = {} }}", self.script("stop"))),
            false => (self.start(), String::new()),
        }
    }

    fn node(&self) -> Filling {
        let own =
            vec![("build", self.build_and_install()), ("code", self.code(None)), ("start", self.start())];
        [self.common(), own].concat()
    }

    fn static_site(&self) -> Filling {
        let built = self.0.scripts.contains_key("build");
        let build = if built { format!("[build]\nrun = {}\n", self.script("build")) } else { String::new() };
        let site = match self.0.first(STATIC_DIRS) {
            Some(dir) => dir,
            None if self.0.has("index.html") => ".",
            None => "dist",
        };
        [self.common(), vec![("build_table", build), ("site", quoted(site))]].concat()
    }

    fn binary(&self) -> Filling {
        let app = &self.0.app;
        let cargo = self.0.has("Cargo.toml");
        let target = format!("bin/{app}");
        let (build, binary) = match cargo {
            true => (list(&["cargo", "build", "--release", "--locked"]), format!("target/release/{app}")),
            false => (
                list(&["go", "build", "-trimpath", "-o", &format!("build/{app}"), "."]),
                format!("build/{app}"),
            ),
        };
        let own = vec![
            ("build", build),
            ("binary", quoted(&binary)),
            ("target", quoted(&target)),
            ("program", quoted(&format!("./{target}"))),
        ];
        [self.common(), own].concat()
    }

    /// A script of package.json as its package manager runs it.
    fn script(&self, name: &str) -> String {
        list(&[self.0.package_manager.program(), "run", name])
    }

    /// npm alone needs `--` before what is meant for the script.
    fn script_with(&self, name: &str, argument: &str) -> String {
        match self.0.package_manager {
            PackageManager::Npm => list(&["npm", "run", name, "--", argument]),
            manager => list(&[manager.program(), "run", name, argument]),
        }
    }

    fn build_and_install(&self) -> String {
        let facts = self.0;
        let program = facts.package_manager.program();
        let build = if facts.scripts.contains_key("build") {
            format!("{program} run build && ")
        } else {
            String::new()
        };
        let lockfile = facts.lockfile.as_deref().unwrap_or_default();
        let manifests = format!("package.json {lockfile}");
        let install = match (facts.package_manager, facts.lockfile.is_some()) {
            (PackageManager::Pnpm, _) => "pnpm install --prod --frozen-lockfile --package-import-method copy",
            (PackageManager::Yarn, _) => "yarn install --production --frozen-lockfile",
            (PackageManager::Npm, true) => "npm ci --omit=dev",
            (PackageManager::Npm, false) => "npm install --omit=dev",
        };
        quoted(&format!(
            "{build}rm -rf pack && mkdir -p pack/node_modules && cp {} pack/ && cd pack && {install}",
            manifests.trim_end()
        ))
    }

    /// The directories of code that are there, the entry if it lies outside them, and package.json.
    fn code(&self, client: Option<&str>) -> String {
        let facts = self.0;
        let mut paths: Vec<&str> =
            CODE_DIRS.iter().copied().filter(|dir| facts.has(dir) && Some(*dir) != client).collect();
        let entry = facts.entry.as_deref().unwrap_or("server.js");
        if !paths.iter().any(|dir| entry.starts_with(&format!("{dir}/"))) {
            paths.push(entry);
        }
        paths.push("package.json");
        files(&paths.iter().map(|path| (*path, *path)).collect::<Vec<_>>())
    }

    fn start(&self) -> String {
        match (&self.0.entry, self.0.scripts.contains_key("start")) {
            (Some(entry), _) => list(&["node", entry]),
            (None, true) => list(&["npm", "run", "start"]),
            (None, false) => list(&["node", "server.js"]),
        }
    }
}

/// Whether a script's command is the app itself, not something that starts it, keeps it running and returns: a process
/// of landfall's stays in the foreground.
fn needs_no_manager(line: &str) -> bool {
    let managers = ["pm2", "forever", "nohup", "daemon", "systemctl"];
    !line.trim_end().ends_with('&') && !managers.iter().any(|word| line.contains(word))
}

/// A TOML string.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

fn list(items: &[&str]) -> String {
    let items: Vec<String> = items.iter().map(|item| quoted(item)).collect();
    format!("[{}]", items.join(", "))
}

fn files(entries: &[(&str, &str)]) -> String {
    let one = |(from, to): &(&str, &str)| format!("  {{ from = {}, to = {} }},\n", quoted(from), quoted(to));
    match entries {
        [(from, to)] => format!("[{{ from = {}, to = {} }}]", quoted(from), quoted(to)),
        many => format!("[\n{}]", many.iter().map(one).collect::<String>()),
    }
}

/// The largest unit that is exact.
fn size(bytes: u64) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"), (1, "B")];
    let (scale, unit) =
        units.into_iter().find(|(scale, _)| u64::is_multiple_of(bytes, *scale)).unwrap_or((1, "B"));
    format!("{}{unit}", bytes / scale)
}
