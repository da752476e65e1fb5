//! Two servers and a static host of the Koa app, with the store and the web server that they use.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde_json::Value;

use crate::support::example::Example;
use crate::support::host::Said;
use crate::support::nginx::{Nginx, Sent};
use crate::support::port::Port;
use crate::support::{Host, http, tools, wait};
use crate::{APP, LIMIT};

/// Two servers, a host of files with a web server, and the store they all fetch from.
pub struct Fleet {
    pub app: Example,
    pub hosts: [Host; 3],
    ports: [Port; 2],
    store: Nginx,
    site: Nginx,
    _dir: tempfile::TempDir,
    store_dir: PathBuf,
}

pub const SERVERS: std::ops::Range<usize> = 0..2;
pub const STATIC: usize = 2;

impl Fleet {
    /// Everything is there, agents included, and nothing is deployed.
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("landfall-store-").tempdir().unwrap();
        let store_dir = dir.path().join("store");
        std::fs::create_dir(&store_dir).unwrap();
        let store = Nginx::serving(3, &format!("root {};", store_dir.display()));
        let ports = [Port::free(), Port::free()];
        let hosts = [(); 3].map(|()| Host::new("prod", ""));
        let site = Nginx::serving(1, &site_of(&hosts[STATIC]));
        let mut fleet = Self {
            app: Example::of("koa-static").with_modules(),
            hosts,
            ports,
            store,
            site,
            _dir: dir,
            store_dir,
        };
        (0..3).for_each(|index| fleet.configure(index));
        for host in &mut fleet.hosts {
            let command = host.landfall_of_host_toml(&["watch"]);
            host.start_agent_as(command);
            host.wait_for_agent();
        }
        fleet
    }

    /// A host's own file: its part, its address of the store, and the one state of all.
    fn configure(&self, index: usize) {
        let host = &self.hosts[index];
        let (role, apps) = match index {
            STATIC => ("static", String::new()),
            server => ("server", self.server(server)),
        };
        let toml = format!(
            "host = \"host-{index}\"\nenvironment = \"prod\"\nroles = [\"{role}\"]\nstore = \"http://127.0.0.1:{}\"\n\n\
             [state]\nfile = {:?}\n\n{apps}",
            self.store.port(index),
            self.hosts[0].state(),
        );
        host.write("host.toml", &toml);
    }

    /// Servers run the app as an account of its own, where the test may do that.
    fn server(&self, index: usize) -> String {
        let user = if rustix::process::geteuid().is_root() { "user = \"nobody\"\n" } else { "" };
        std::fs::set_permissions(&self.hosts[index].dir, std::fs::Permissions::from_mode(0o711)).unwrap();
        format!(
            "[apps.{APP}]\n{user}env = {{ PORT = \"{}\", ASSETS_URL = \"http://127.0.0.1:{}\" }}\n",
            self.ports[index].number,
            self.site.port(0)
        )
    }

    /// Builds and packs the app as it is now, for every environment, into the store that the hosts read.
    pub fn pack(&self, version: &str) -> String {
        release(&self.app, version);
        let store = self.store_dir.to_string_lossy().into_owned();
        self.app.pack(&self.hosts[0], &["--store", &store])
    }

    /// Runs an order on the first server, and waits until every host has come to its end with this artifact.
    #[track_caller]
    pub fn order(&self, order: &[&str], artifact: &str, code: i32) {
        let known: Vec<usize> = self.hosts.iter().map(|host| host.attempts(APP).len()).collect();
        self.hosts[0].run(&[order, &["--wait"]].concat()).expect_code(code);
        for (index, known) in known.into_iter().enumerate() {
            let ended = self.hosts[index].wait_for_attempt(APP, known, LIMIT);
            assert_eq!(ended["target"]["artifact"], artifact, "{ended:#}");
            wait::wait_until("the attempt is put away", LIMIT, || self.status(index)["operation"] == "Idle");
        }
    }

    #[track_caller]
    pub fn deploy(&self, artifact: &str, code: i32) {
        self.order(&["deploy", APP, "prod", artifact], artifact, code);
    }

    /// The page of a server, and the paths of the assets that it names.
    #[track_caller]
    fn page(&self, server: usize) -> Page {
        Page::of(&http::get(self.ports[server].number, "/").expect("the page").body)
    }

    /// A file of the site, as a browser asks for it.
    pub fn asset(&self, path: &str) -> http::Answer {
        http::get(self.site.port(0), path).expect("the static host answers")
    }

    /// Every server answers with this version, and the site has what its page names.
    #[track_caller]
    pub fn assert_serves(&self, version: &str) -> Page {
        for server in SERVERS {
            let page = self.page(server);
            assert!(page.text.contains(&format!("version {version}, prod")), "{server}: {}", page.text);
            self.assert_reachable(&page);
        }
        self.page(0)
    }

    #[track_caller]
    pub fn assert_reachable(&self, page: &Page) {
        assert_eq!(page.assets.len(), 2, "{}", page.text);
        for path in &page.assets {
            let answer = self.asset(path);
            assert_eq!(answer.status, 200, "{path}");
        }
    }

    pub fn json(&self, index: usize, arguments: &[&str]) -> Value {
        let said = self.run(index, &[arguments, &["-o", "json"]].concat(), 0);
        serde_json::from_str(&said.out).unwrap()
    }

    pub fn status(&self, index: usize) -> Value {
        self.json(index, &["status", APP])["items"][0].clone()
    }

    /// A command on a host, with the state that all have; it must end with this code.
    #[track_caller]
    pub fn run(&self, index: usize, arguments: &[&str], code: i32) -> Said {
        let said = Said::of(self.hosts[index].landfall_of_host_toml(arguments).output().unwrap());
        said.expect_code(code);
        said
    }

    /// What the store's server sent to a host.
    pub fn sent_to(&self, index: usize) -> Vec<Sent> {
        let port = self.store.port(index);
        self.store.sent().into_iter().filter(|sent| sent.port == port).collect()
    }
}

pub struct Page {
    pub text: String,
    pub assets: Vec<String>,
}

impl Page {
    fn of(text: &str) -> Self {
        let named = text.split('"').filter_map(|part| part.find("/assets/").map(|at| part[at..].to_owned()));
        Self { text: text.to_owned(), assets: named.collect() }
    }
}

/// What `docs/guides/koa.md` says to put into nginx: the release first, then what earlier ones had.
fn site_of(host: &Host) -> String {
    let dir = host.app(APP, "prod");
    format!(
        "location / {{ root {0}/current/client/dist; try_files $uri @earlier; }}\n\
         location @earlier {{ root {0}/assets/client/dist; try_files $uri =404; }}",
        dir.display()
    )
}

/// Makes this the version of package.json.
pub fn release(app: &Example, version: &str) {
    tools::run(app.path(), "npm", &["pkg", "set", &format!("version={version}")]);
}
