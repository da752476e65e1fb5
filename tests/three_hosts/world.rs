//! Machines in a network of their own: one with the state repository and the store, hosts with agents, a laptop.

use std::net::SocketAddrV4;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use tempfile::TempDir;

use super::support::authority::authority;
use super::support::git::{Forge, Ssh, sshd_at};
use super::support::host::Said;
use super::support::network::Network;
use super::support::store_server::{StoreServer, token_file};
use super::support::wait::{wait_for, wait_until};
use super::support::{Host, Source, http};

pub const LIMIT: Duration = Duration::from_secs(180);
/// With the state repository and the store.
const CENTRAL: &str = "central";
const LAPTOP: &str = "laptop";
/// The same on every host: each has a network of its own.
const APP_PORT: u16 = 8080;
const HOOK_PORT: u16 = 9000;
const HOOK_SECRET: &str = "hook-canary-2f61bb08c4";
const PUSH_TOKEN: &str = "push-canary-4b7d0c51a9e2f3688d";
const READ_TOKEN: &str = "read-canary-91c3aa0de4575f26b1";

/// Says what it is to whoever asks, if it has everything that it needs.
const APP: &str = r#"import http.server, os, sys
here = os.path.dirname(os.path.abspath(__file__))
for key in open(here + "/needs.txt").read().split():
    if key not in os.environ:
        sys.exit(key + " is not set")
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(open(here + "/version.txt", "rb").read())
    def log_message(self, *_):
        pass
http.server.HTTPServer(("", int(os.environ["PORT"])), Page).serve_forever()
"#;

const RECIPE: &str = r#"app = "web"
version = "1"

[[layer]]
name = "app"
files = [{ from = "app", to = "app" }]

[start]
manager = "direct"
run = ["python3", "-B", "app/main.py"]
stop = { signal = "SIGTERM", grace = "1s" }

[health]
http = "http://127.0.0.1:${PORT}/"
attempts = 60
interval = "1s"
timeout = "30s"
successes = 1
settle = "200ms"
"#;

pub struct World {
    pub hosts: Vec<Member>,
    pub laptop: PathBuf,
    // Before the network and the directory that they are in.
    _store: StoreServer,
    git: Ssh,
    forge: Forge,
    dir: TempDir,
    network: Network,
    store_url: String,
    /// From the call of the hook, and from the beginning of the command that commits and pushes, to the first stage.
    pub begun: Vec<(Duration, Duration)>,
}

pub struct Member {
    pub name: &'static str,
    environment: &'static str,
    host: Host,
}

impl World {
    /// Hosts in an environment each; `GREETING` is set on those that are named.
    pub fn new(hosts: &[(&'static str, &'static str)], greeted: &[&str]) -> Self {
        let names: Vec<&str> =
            [CENTRAL, LAPTOP].into_iter().chain(hosts.iter().map(|(name, _)| *name)).collect();
        let network = Network::new(&names);
        let forge = Forge::new();
        let dir = tempfile::Builder::new().prefix("landfall-fleet-").tempdir().unwrap();
        let operator = forge.key("operator");
        let signers = format!("maria@acme.example {}\n", forge.public(&operator));
        std::fs::write(dir.path().join("allowed_signers"), signers).unwrap();
        let (git, store) = {
            let _here = network.enter(CENTRAL);
            let address = network.address(CENTRAL);
            (sshd_at(&forge, address), store(dir.path(), &address.to_string(), hosts))
        };
        let mut world = Self {
            hosts: Vec::new(),
            laptop: dir.path().join("state"),
            store_url: store.url.clone(),
            _store: store,
            git,
            forge,
            dir,
            network,
            begun: Vec::new(),
        };
        world.furnish_laptop(&operator);
        for (name, environment) in hosts {
            let host = Host::new(environment, "");
            world.configure(&host, name, environment, greeted.contains(name));
            world.hosts.push(Member { name, environment, host });
        }
        world
    }

    fn furnish_laptop(&self, operator: &Path) {
        let _here = self.network.enter(LAPTOP);
        let dir = self.dir.path();
        token_file(dir, "push.token", PUSH_TOKEN);
        token_file(dir, "read.token", READ_TOKEN);
        let mine = format!(
            "host = \"laptop\"\nstore = {:?}\n\n[trust]\nallowed_signers = \"allowed_signers\"\n",
            self.store_url
        );
        std::fs::write(dir.join("laptop.toml"), mine).unwrap();
        let git = |arguments: &[&str]| {
            let output = self.at_laptop("git", dir).args(arguments).output().unwrap();
            Said::of(output).expect_code(0);
        };
        git(&["clone", "--quiet", &self.git.url, "state"]);
        let key = operator.to_string_lossy();
        for (name, value) in [
            ("user.email", "maria@acme.example"),
            ("gpg.format", "ssh"),
            ("user.signingkey", &key),
            ("commit.gpgsign", "true"),
        ] {
            git(&["-C", "state", "config", name, value]);
        }
    }

    fn at_laptop(&self, program: &str, dir: &Path) -> Command {
        let ssh = format!(
            "ssh -F /dev/null -i {} -o IdentitiesOnly=yes -o UserKnownHostsFile={}",
            self.git.key.display(),
            self.git.known_hosts.display()
        );
        let mut command = self.forge.program(dir, program);
        command.env("GIT_SSH_COMMAND", ssh).env("SSL_CERT_FILE", self.dir.path().join("ca.pem"));
        command
    }

    fn configure(&self, host: &Host, name: &str, environment: &str, is_greeted: bool) {
        token_file(&host.dir, "read.token", READ_TOKEN);
        token_file(&host.dir, "report.token", &report_token(name));
        token_file(&host.dir, "hook.secret", HOOK_SECRET);
        std::fs::copy(self.dir.path().join("allowed_signers"), host.dir.join("allowed_signers")).unwrap();
        let greeting = if is_greeted { ", GREETING = \"hello\"" } else { "" };
        // One host looks by itself so rarely that whatever is quick is its hook.
        let poll = if name == "web-3" { "5s" } else { "1h" };
        let text = format!(
            "host = \"{name}\"\nenvironment = \"{environment}\"\nstore = {store:?}\nstore_token_file = \"read.token\"\n\n\
             [state]\ngit = {git:?}\nssh_key = {key:?}\nknown_hosts = {known_hosts:?}\npoll = \"{poll}\"\n\n\
             [trust]\nallowed_signers = \"allowed_signers\"\n\n\
             [webhook]\nlisten = \"{address}:{HOOK_PORT}\"\nsecret_file = \"hook.secret\"\n\n\
             [report]\nto = \"store\"\nevery = \"10s\"\ntoken_file = \"report.token\"\n\n\
             [apps.web]\nenv = {{ PORT = \"{APP_PORT}\"{greeting} }}\n",
            store = self.store_url,
            git = self.git.url,
            key = self.git.key,
            known_hosts = self.git.known_hosts,
            address = self.network.address(name),
        );
        host.write("host.toml", &text);
    }

    /// Starts every agent.
    pub fn start(&mut self) {
        let authorities = self.dir.path().join("ca.pem");
        for member in &mut self.hosts {
            let _here = self.network.enter(member.name);
            let mut command = member.host.landfall_of_host_toml(&["watch"]);
            command.env("SSL_CERT_FILE", &authorities);
            member.host.start_agent_as(command);
        }
    }

    /// `landfall …` on the laptop, which has a clone of the state and an address of the store.
    pub fn landfall(&self, token: &str, arguments: &[&str]) -> Said {
        let _here = self.network.enter(LAPTOP);
        let mut command = self.at_laptop(env!("CARGO_BIN_EXE_landfall"), &self.laptop);
        command.env("LANDFALL_STORE_TOKEN_FILE", self.dir.path().join(token));
        command
            .arg("--config")
            .arg(self.dir.path().join("laptop.toml"))
            .arg("--root")
            .arg(self.dir.path().join("root"));
        Said::of(command.args(arguments).output().unwrap())
    }

    /// The items of what a command says there.
    pub fn items(&self, arguments: &[&str]) -> Vec<Value> {
        let said = self.landfall("read.token", &[arguments, &["-o", "json"]].concat());
        said.expect_code(0);
        let list: Value = serde_json::from_str(&said.out).unwrap();
        list["items"].as_array().unwrap().clone()
    }

    /// Packs a version straight into the store, as a build machine does, and gives the artifact.
    pub fn pack(&self, version: &str, needs: &str) -> String {
        let source = Source::new(RECIPE)
            .with("app/main.py", APP.as_bytes())
            .with("app/version.txt", version.as_bytes())
            .with("app/needs.txt", needs.as_bytes());
        let source = source.path().to_string_lossy().into_owned();
        let said = self.landfall("push.token", &["pack", &source, "--version", version, "--no-build"]);
        said.expect_code(0);
        said.out.trim().to_owned()
    }

    /// Edits the state on the laptop and pushes it; the git server's hook then calls the hosts of an environment.
    pub fn change(&mut self, environment: &str, arguments: &[&str]) {
        let reached = |member: &&Member| member.environment == environment && member.name != "web-3";
        let known: Vec<_> =
            self.hosts.iter().filter(reached).map(|member| (member.name, member.attempts_begun())).collect();
        let began = Instant::now();
        self.landfall("read.token", &[arguments, &["--push"]].concat()).expect_code(0);
        let mut waiting = Vec::new();
        for (name, known) in known {
            let called = Instant::now();
            self.call_hook(name);
            waiting.push((name, known, called));
        }
        let mut begun = Vec::new();
        wait_until("every host begins to reconcile", LIMIT, || {
            let is_at_it =
                |(name, known, _): &(&str, usize, Instant)| self.member(name).attempts_begun() > *known;
            let (at_it, not_yet): (Vec<_>, Vec<_>) =
                std::mem::take(&mut waiting).into_iter().partition(is_at_it);
            begun.extend(at_it.into_iter().map(|(_, _, called)| (called.elapsed(), began.elapsed())));
            waiting = not_yet;
            waiting.is_empty()
        });
        self.begun.extend(begun);
    }

    fn call_hook(&self, name: &str) {
        use std::io::{Read, Write};
        let body = br#"{"ref": "refs/heads/main"}"#;
        let _here = self.network.enter(CENTRAL);
        let mut stream = std::net::TcpStream::connect((self.network.address(name), HOOK_PORT)).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let head = format!(
            "POST /hooks/git HTTP/1.1\r\nHost: {name}\r\nX-Hub-Signature-256: {}\r\nContent-Length: {}\r\n\r\n",
            signature(body),
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer, *b"HTTP/1.1 202", "{name}");
    }

    pub fn member(&self, name: &str) -> &Member {
        self.hosts.iter().find(|member| member.name == name).unwrap()
    }

    /// What an app answers to the laptop; nothing: it cannot be reached.
    pub fn served_by(&self, name: &str) -> Option<String> {
        let _here = self.network.enter(LAPTOP);
        page(self.network.address(name))
    }

    /// What it answers to its own machine.
    pub fn served_within(&self, name: &str) -> Option<String> {
        let _here = self.network.enter(name);
        page(std::net::Ipv4Addr::LOCALHOST)
    }

    /// Waits until a host has ended an attempt for a version, and gives it.
    pub fn attempt(&self, name: &str, version: &str) -> Value {
        let host = &self.member(name).host;
        let ended =
            || host.attempts("web").into_iter().rev().find(|entry| entry["target"]["version"] == version);
        wait_for(&format!("{name} has tried {version}"), LIMIT, ended)
    }

    pub fn cut(&self, name: &str) {
        self.network.cut(name);
    }

    pub fn mend(&self, name: &str) {
        self.network.mend(name);
    }

    /// Everything that agents and servers have logged.
    pub fn logs(&self) -> String {
        let server = std::fs::read_to_string(self.dir.path().join("serve.log")).unwrap();
        self.hosts.iter().map(|member| member.host.agent_log()).fold(server, |all, log| all + &log)
    }
}

impl Member {
    fn attempts_begun(&self) -> usize {
        self.host.agent_log().matches("Fetching attempt=").count()
    }
}

fn page(address: std::net::Ipv4Addr) -> Option<String> {
    http::get_from(SocketAddrV4::new(address, APP_PORT), "/").ok().map(|answer| answer.body)
}

fn report_token(host: &str) -> String {
    format!("report-canary-of-{host}-57c21e90fd34")
}

/// `landfall serve` with TLS, and with every kind of token.
fn store(dir: &Path, address: &str, hosts: &[(&str, &str)]) -> StoreServer {
    authority(dir, &[address]);
    std::fs::set_permissions(dir.join("key.pem"), std::fs::Permissions::from_mode(0o600)).unwrap();
    token_file(dir, "push", PUSH_TOKEN);
    token_file(dir, "read", READ_TOKEN);
    let tokens: String = hosts.iter().map(|(host, _)| format!("{host} {}\n", report_token(host))).collect();
    token_file(dir, "report", &tokens);
    let mut command = Command::new(env!("CARGO_BIN_EXE_landfall"));
    command.args(["serve", "artifacts", "--listen", &format!("{address}:0"), "--tls-cert", "cert.pem"]);
    command.args(["--tls-key", "key.pem", "--push-token-file", "push", "--read-token-file", "read"]);
    command.args(["--report-token-file", "report"]).current_dir(dir);
    StoreServer::start(&mut command, &dir.join("serve.log"))
}

fn signature(body: &[u8]) -> String {
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(HOOK_SECRET.as_bytes()).unwrap();
    mac.update(body);
    let hex: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={hex}")
}
