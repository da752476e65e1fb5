//! One app before its next deploy: what the state asks for, and whether this host can give it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use landfall_store::{Artifact, Kind, Name, Store};

use super::examine::{Finding, Patient};
use super::{programs, servers, systemd};
use crate::config::AppConfig;
use crate::diff::content;
use crate::env::{self, EnvError, EnvInput, Layer, LayerKind, Place};
use crate::health::holds_its_socket;
use crate::layout::AppDir;
use crate::preview::Documents;
use crate::proc;
use crate::processes::of_systemd;
use crate::release::spec_of;
use crate::spec::{
    Check, EnvSpec, HealthSpec, ManagerKind, ReleaseSpec, StartSpec, StepKind, StepSpec, applies,
};
use crate::start::Account;
use crate::state::Target;

const STATE: &str = "desired";
const ARTIFACT: &str = "artifact";
const ENV: &str = "env";
const PORT: &str = "port";
const HEALTH: &str = "health";
const MIGRATIONS: &str = "migrations";
const PM2: &str = "pm2";
const USER: &str = "account";

/// One app of a patient.
#[derive(Debug)]
pub struct App<'a> {
    /// Its host.
    pub patient: &'a Patient<'a>,
    /// Its name.
    pub name: &'a Name,
    /// Where its artifacts come from, if that can be read.
    pub store: Option<&'a Store>,
}

/// Apps that the state or host.toml names for this host.
pub fn all(patient: &Patient<'_>) -> BTreeSet<Name> {
    let config = &patient.host.config;
    let named = patient.state.into_iter().flat_map(|state| state.apps_in(patient.environment));
    let mut apps: BTreeSet<Name> = named.filter(|app| config.app(app).is_some()).cloned().collect();
    let configured = config.apps.iter().flatten().filter(|(_, config)| config.enabled);
    apps.extend(configured.map(|(app, _)| app.clone()));
    apps
}

impl App<'_> {
    /// Everything that can be said.
    pub fn findings(&self) -> Vec<Finding> {
        let Some(target) = self.target() else {
            let environment = self.patient.environment;
            let what = format!("the state names no artifact for it in `{environment}`");
            let fix = format!("landfall deploy {} {environment} <version>", self.name);
            return vec![Finding::warning(STATE, what, fix)];
        };
        let documents = Documents { host: self.patient.host, store: self.store };
        let read = documents.artifact(&target.artifact).and_then(|artifact| {
            let trees = documents.trees(&artifact, self.patient.environment)?;
            Ok((artifact, trees))
        });
        let (artifact, trees) = match read {
            Ok(read) => read,
            Err(why) => {
                let fix = format!("on the build machine: landfall push {} --to STORE", target.artifact);
                return vec![Finding::problem(ARTIFACT, why, fix)];
            }
        };
        let spec = match spec_of(&artifact) {
            Ok(spec) => spec,
            Err(error) => {
                let what = format!("this landfall cannot read what it says of its release: {error}");
                return vec![Finding::problem(ARTIFACT, what, "install a newer landfall on this host")];
            }
        };
        let mut found =
            vec![Finding::good(ARTIFACT, format!("{} {}", spec.version, target.artifact.short()))];
        let tops = trees.iter().flat_map(|tree| tree.entries()).filter_map(|entry| {
            Some(String::from_utf8_lossy(entry.path.as_bytes()).split('/').next()?.to_owned())
        });
        found.extend(self.release(&spec, &artifact, &tops.collect()));
        found
    }

    fn target(&self) -> Option<Target> {
        let found = self.patient.state?.resolve(self.name, self.patient.environment).ok()?;
        found.target().cloned()
    }

    fn config(&self) -> AppConfig {
        self.patient.host.config.app(self.name).unwrap_or_default()
    }

    fn roles(&self) -> &[Name] {
        &self.patient.host.config.roles
    }

    /// Whether anything of it runs on a host of these roles.
    fn runs(&self, spec: &ReleaseSpec) -> bool {
        spec.start.iter().any(|start| applies(&start.roles, self.roles()))
    }

    fn release(&self, spec: &ReleaseSpec, artifact: &Artifact, packed: &BTreeSet<String>) -> Vec<Finding> {
        let account = self.patient.host.account(self.name, self.config().user.as_deref()).unwrap_or_default();
        let mut found = Vec::new();
        let clean = self.patient.host.clean_env(account.as_ref());
        let asked = env::asked_of(&spec.env, artifact, self.patient.environment, self.roles());
        let env = match self.env(&asked, artifact, &clean) {
            Ok(env) => {
                found.push(Finding::good(ENV, format!("{} required keys are set", asked.required.len())));
                env
            }
            Err(error) => {
                found.push(self.env_problem(&error));
                clean
            }
        };
        let migrates = self.patient.host.config.migrator;
        found.extend(programs::findings(
            &programs::Asked { spec, roles: self.roles(), migrates },
            &env,
            packed,
        ));
        found.extend(self.migrations(spec));
        found.extend(servers::findings(&env, &spec.env.required.iter().cloned().collect()));
        let dir =
            self.patient.host.root.app(self.name, self.patient.environment, self.config().dir.as_deref());
        found.extend(self.ports(spec, &env, &dir));
        found.extend(self.systemd(spec));
        found.extend(self.health(spec));
        found.extend(self.user(spec));
        found.extend(self.other_pm2(spec, account.as_ref()));
        found
    }

    /// The environment as the next deploy would resolve it.
    fn env(
        &self,
        asked: &EnvSpec,
        artifact: &Artifact,
        clean: &BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, String>, EnvError> {
        let config = self.config();
        let layer = |kind| self.layer(asked, artifact, config.env_dir.as_deref(), kind);
        let (base, local) = (layer(LayerKind::Base)?, layer(LayerKind::Local)?);
        let own =
            ["APP", "ENV", "RELEASE", "ARTIFACT"].map(|key| (format!("LANDFALL_{key}"), "x".to_owned()));
        let resolved = env::resolve(&EnvInput {
            place: Place::Host,
            spec: asked,
            environment: Some(self.patient.environment),
            clean,
            base: base.as_ref(),
            local: local.as_ref(),
            host: &config.env,
            landfall: &own.into(),
        })?;
        Ok(resolved.vars())
    }

    fn layer(
        &self,
        spec: &EnvSpec,
        artifact: &Artifact,
        env_dir: Option<&Path>,
        kind: LayerKind,
    ) -> Result<Option<Layer>, EnvError> {
        if spec.environments.is_empty() {
            return Ok(None);
        }
        let file = env::file_name(spec, self.patient.environment, kind);
        if let Some((layer, _)) = env::find_layer(None, env_dir, None, &file)? {
            return Ok(Some(layer));
        }
        let packed =
            artifact.layers_for(self.patient.environment, self.roles()).filter(|layer| layer.is_env());
        let trees = packed.filter_map(|layer| landfall_store::fetch::tree(self.store?, &layer.tree).ok());
        for tree in trees {
            let is_file =
                tree.get(file.as_bytes()).is_some_and(|entry| matches!(entry.kind, Kind::File { .. }));
            let bytes = self.store.filter(|_| is_file).and_then(|store| content(store, &tree, &file).ok()?);
            if let Some(bytes) = bytes {
                return env::parse_layer(Path::new(&file), bytes).map(Some);
            }
        }
        Ok(None)
    }

    fn env_problem(&self, error: &EnvError) -> Finding {
        let config = self.config();
        let dir = config.env_dir.map_or_else(
            || format!("set `env_dir` under [apps.{}] in host.toml and put the files there", self.name),
            |dir| format!("edit the files in {}", dir.display()),
        );
        let fix = error.hint().map_or_else(|| dir.clone(), |hint| format!("{dir}: {hint}"));
        Finding::problem(ENV, error.to_string(), fix)
    }

    /// Ports that the health checks ask, or the env names, and that somebody else holds.
    fn ports(&self, spec: &ReleaseSpec, env: &BTreeMap<String, String>, dir: &AppDir) -> Vec<Finding> {
        let checks = spec.health.iter().filter(|health| applies(&health.roles, self.roles()));
        let mut ports: BTreeSet<u16> = checks.filter_map(|health| port_of(health, env)).collect();
        let own = env.get("PORT").filter(|_| self.runs(spec));
        ports.extend(own.and_then(|port| port.parse::<u16>().ok()));
        let releases = dir.releases().canonicalize().unwrap_or_else(|_| dir.releases());
        let mut found = Vec::new();
        for port in ports {
            let held = proc::listeners(port).into_iter().find(|holder| {
                let own = holder.cwd.as_ref().is_some_and(|cwd| cwd.starts_with(&releases));
                let starts = self.starts(spec);
                let passed = starts.iter().any(|start| holds_its_socket(holder, start));
                !own && !passed && !holder.command.starts_with("PM2")
            });
            found.push(match held {
                Some(holder @ proc::Holder { pid, .. }) => Finding::problem(
                    PORT,
                    format!("port {port} is held by {holder}, which landfall did not start"),
                    of_systemd(self.name, pid).unwrap_or_else(|| {
                        format!(
                            "if that is the app: landfall adopt {} --pid {pid}; else stop it: kill {pid}",
                            self.name
                        )
                    }),
                ),
                None => Finding::good(PORT, format!("{port} is free or the app's own")),
            });
        }
        found
    }

    /// A host that leaves migrations to another one must be able to see that it has made them.
    fn migrations(&self, spec: &ReleaseSpec) -> Vec<Finding> {
        let steps = spec.steps.iter().filter(|step| applies(&step.roles, self.roles()));
        let blind = steps.filter(|step| step.kind == StepKind::Migrate && step.check.is_none());
        let told = |step: &StepSpec| {
            let what = format!(
                "host.toml says `migrator = false`, and step `{}` has no `check` that this host could wait for",
                step.name
            );
            let fix =
                "add `check = [...]` to the step in landfall.toml and pack again, or let this host migrate";
            Finding::problem(MIGRATIONS, what, fix)
        };
        if self.patient.host.config.migrator { Vec::new() } else { blind.map(told).collect() }
    }

    /// The processes that would run here, as host.toml has them.
    fn starts(&self, spec: &ReleaseSpec) -> Vec<StartSpec> {
        let here = spec.start.iter().filter(|start| applies(&start.roles, self.roles()));
        here.map(|start| self.config().start.apply(start)).collect()
    }

    /// Whether systemd can be asked to run what it should.
    fn systemd(&self, spec: &ReleaseSpec) -> Option<Finding> {
        let wanted = self.starts(spec).iter().any(|start| start.manager == ManagerKind::Systemd);
        wanted.then(|| systemd::finding(&systemd::look()))
    }

    fn health(&self, spec: &ReleaseSpec) -> Option<Finding> {
        let checks =
            spec.health.iter().any(|health| applies(&health.roles, self.roles()) && !health.advisory);
        (self.runs(spec) && !checks).then(|| {
            let what = "no health check: it counts as healthy when it runs for three seconds";
            Finding::warning(
                HEALTH,
                what,
                "add `[health]` to landfall.toml: http = \"http://127.0.0.1:${PORT}/health\"",
            )
        })
    }

    /// Apps of root are copies, and can change everything.
    fn user(&self, spec: &ReleaseSpec) -> Option<Finding> {
        let as_root = rustix::process::geteuid().is_root() && self.config().user.is_none();
        (as_root && self.runs(spec)).then(|| {
            let app = self.name;
            let what =
                "no `user` under [apps]: the app and its steps run as root, and each release is a full copy";
            let fix = format!(
                "sudo useradd --system --create-home {app}; then `user = \"{app}\"` under [apps.{app}]"
            );
            Finding::warning(USER, what, fix)
        })
    }

    /// A daemon of another `PM2_HOME` restarts what landfall stops.
    fn other_pm2(&self, spec: &ReleaseSpec, account: Option<&Account>) -> Vec<Finding> {
        let user = account.map_or_else(|| rustix::process::geteuid().as_raw(), |account| account.uid);
        let own = self.patient.host.root.pm2();
        let name = self.name.as_str();
        let mut found = Vec::new();
        for (pid, home) in pm2_daemons(user).into_iter().filter(|(_, home)| !home.starts_with(&own)) {
            let children = proc::children(pid).len();
            let what = format!(
                "a pm2 of its own runs {children} processes (pid {pid}, PM2_HOME {})",
                home.display()
            );
            let fix = format!(
                "if `{name}` is among them: landfall adopt {name} --pm2 {name} --pm2-home {home}; else PM2_HOME={home} pm2 kill",
                home = home.display()
            );
            found.extend(self.runs(spec).then(|| Finding::warning(PM2, what, fix)));
        }
        found
    }
}

fn port_of(health: &HealthSpec, env: &BTreeMap<String, String>) -> Option<u16> {
    match env::expand_check(&health.check, env).ok()? {
        Check::Http(url) => {
            let authority = url.split_once("://")?.1.split(['/', '?']).next()?.to_owned();
            authority.rsplit_once(':')?.1.parse().ok()
        }
        Check::Tcp(address) => address.rsplit_once(':')?.1.parse().ok(),
        Check::Run(_) => None,
    }
}

/// The daemons of an account: pm2 writes its home into its own title, `PM2 v6.0.8: God Daemon (/home/web/.pm2)`.
fn pm2_daemons(user: u32) -> Vec<(u32, std::path::PathBuf)> {
    let live = proc::all().into_iter().filter(|stat| stat.is_live());
    let of_user = live.filter(|stat| proc::user(stat.id.pid) == Some(user));
    of_user.filter_map(|stat| Some((stat.id.pid, daemon_home(&title(stat.id.pid)?)?))).collect()
}

fn title(pid: u32) -> Option<String> {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    Some(String::from_utf8_lossy(&line).replace('\0', " "))
}

fn daemon_home(title: &str) -> Option<std::path::PathBuf> {
    let home = title.trim().strip_prefix("PM2 v")?.split_once("God Daemon (")?.1;
    home.strip_suffix(')').map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pm2_daemon_is_known_by_its_title() {
        let home = |title| daemon_home(title).map(|home| home.display().to_string());
        assert_eq!(home("PM2 v6.0.8: God Daemon (/home/web/.pm2) ").as_deref(), Some("/home/web/.pm2"));
        assert_eq!(home("node server.js"), None);
    }

    #[test]
    fn the_port_of_a_check_is_read_after_expansion() {
        let env = BTreeMap::from([("PORT".to_owned(), "3100".to_owned())]);
        let health = |check| HealthSpec { check, ..spec() };
        assert_eq!(
            port_of(&health(Check::Http("http://127.0.0.1:${PORT}/health".to_owned())), &env),
            Some(3100)
        );
        assert_eq!(port_of(&health(Check::Tcp("[::1]:${PORT}".to_owned())), &env), Some(3100));
        assert_eq!(port_of(&health(Check::Http("http://127.0.0.1:${NONE}/".to_owned())), &env), None);
        assert_eq!(port_of(&health(Check::Run(vec!["true".to_owned()])), &env), None);
    }

    fn spec() -> HealthSpec {
        serde_json::from_value(serde_json::json!({
            "name": "main", "check": {"run": ["true"]}, "attempts": 1, "interval": 1, "timeout": 1,
            "successes": 1, "settle": 1
        }))
        .unwrap()
    }
}
