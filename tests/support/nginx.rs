//! A real nginx with a configuration of the test's own, on the loopback. It ends with the value that started it.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::port::Port;
use super::wait;

const START_LIMIT: Duration = Duration::from_secs(60);

/// A running server.
pub struct Nginx {
    child: Child,
    dir: TempDir,
    ports: Vec<Port>,
}

/// What it sent for one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// The port that was asked.
    pub port: u16,
    /// Bytes of the body.
    pub bytes: u64,
    /// The path that was asked for.
    pub path: String,
}

impl Nginx {
    /// Serves on so many free ports with the same body of a `server { … }` block.
    pub fn serving(ports: usize, server: &str) -> Self {
        let dir =
            tempfile::Builder::new().prefix("landfall-nginx-").tempdir().expect("a temporary directory");
        let ports: Vec<Port> = (0..ports).map(|_| Port::free()).collect();
        let listen: String =
            ports.iter().map(|port| format!("listen 127.0.0.1:{};\n", port.number)).collect();
        let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
        let conf = format!(
            "{user} daemon off; master_process off; pid {w}/pid; error_log {w}/error.log;\nevents {{}}\n\
             http {{ log_format sent '$server_port $body_bytes_sent $uri'; access_log {w}/access.log sent;\n\
             client_body_temp_path {w}/b; proxy_temp_path {w}/p; fastcgi_temp_path {w}/f;\n\
             uwsgi_temp_path {w}/u; scgi_temp_path {w}/s;\nserver {{ {listen}{server} }} }}\n",
            w = dir.path().display(),
        );
        let file = dir.path().join("nginx.conf");
        std::fs::write(&file, conf).expect("nginx.conf");
        let mut nginx = Command::new("/usr/sbin/nginx");
        nginx.arg("-c").arg(&file).arg("-e").arg(dir.path().join("error.log"));
        let child = nginx.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = child.expect("nginx is needed for this test (nginx-light)");
        let mut server = Self { child, dir, ports };
        server.wait_until_it_listens();
        server
    }

    fn wait_until_it_listens(&mut self) {
        let port = self.port(0);
        wait::wait_until("nginx listens", START_LIMIT, || {
            let ended = self.child.try_wait().expect("wait");
            assert!(ended.is_none(), "nginx ended: {}", self.text("error.log"));
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
    }

    /// One of its ports.
    pub fn port(&self, index: usize) -> u16 {
        self.ports[index].number
    }

    /// Everything that it has answered so far.
    pub fn sent(&self) -> Vec<Sent> {
        self.text("access.log").lines().map(sent).collect()
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

fn sent(line: &str) -> Sent {
    let mut parts = line.splitn(3, ' ');
    let mut next = || parts.next().expect("a line of the log format above");
    let (port, bytes) = (next().parse().expect("a port"), next().parse().expect("a number"));
    Sent { port, bytes, path: next().to_owned() }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
