//! Real git servers in the test: a bare repository, people who push to it, and four ways to reach it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tempfile::TempDir;
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::port::Port;
use super::wait::wait_until;

/// Time for a server to answer.
const SERVER_LIMIT: Duration = Duration::from_secs(60);

/// A bare repository and a clone of it in which people work.
pub struct Forge {
    temporary: TempDir,
    dir: PathBuf,
}

impl Forge {
    /// An empty repository with one commit that has a state without apps.
    pub fn new() -> Self {
        let temporary = tempfile::Builder::new().prefix("landfall-forge-").tempdir().expect("a directory");
        let dir = temporary.path().canonicalize().expect("a real path");
        let forge = Self { temporary, dir };
        forge.run(&forge.dir, "git", &["init", "--quiet", "--bare", "-b", "main", "srv/state.git"]);
        forge.run(&forge.dir, "git", &["init", "--quiet", "-b", "main", "work"]);
        forge.run(&forge.bare(), "git", &["config", "http.receivepack", "true"]);
        forge.git(&["remote", "add", "origin", &forge.bare().to_string_lossy()]);
        forge.write(&elsewhere(0));
        forge.commit("Begin");
        forge.push();
        forge
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn bare(&self) -> PathBuf {
        self.dir.join("srv/state.git")
    }

    pub fn work(&self) -> PathBuf {
        self.dir.join("work")
    }

    pub fn url(&self) -> String {
        format!("file://{}", self.bare().display())
    }

    /// A program with an environment of the test's own.
    pub fn program(&self, dir: &Path, name: &str) -> Command {
        let mut command = Command::new(name);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").expect("PATH"))
            .env("HOME", &self.dir)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_AUTHOR_NAME", "Maria")
            .env("GIT_AUTHOR_EMAIL", "maria@acme.example")
            .env("GIT_COMMITTER_NAME", "Maria")
            .env("GIT_COMMITTER_EMAIL", "maria@acme.example")
            .current_dir(dir)
            .stdin(Stdio::null());
        command
    }

    #[track_caller]
    pub fn run(&self, dir: &Path, name: &str, arguments: &[&str]) -> String {
        let output = self.program(dir, name).args(arguments).output();
        said(
            name,
            arguments,
            output.unwrap_or_else(|error| panic!("{name} is needed for this test: {error}")),
        )
    }

    /// git in the clone.
    #[track_caller]
    pub fn git(&self, arguments: &[&str]) -> String {
        self.run(&self.work(), "git", arguments)
    }

    /// Writes the state file of the clone.
    pub fn write(&self, text: &str) {
        std::fs::write(self.work().join("deploy-state.json"), text).expect("a state file");
    }

    /// Writes a state that names one artifact.
    pub fn want(&self, app: &str, environment: &str, artifact: &str) {
        self.write(&wanting(app, environment, artifact, None));
    }

    /// The same with a serial.
    pub fn want_at(&self, app: &str, environment: &str, artifact: &str, serial: u64) {
        self.write(&wanting(app, environment, artifact, Some(serial)));
    }

    /// Commits everything, and gives the commit.
    #[track_caller]
    pub fn commit(&self, message: &str) -> String {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "-m", message]);
        self.head()
    }

    /// Commits everything, signed with this key.
    #[track_caller]
    pub fn commit_signed(&self, key: &Path, message: &str) -> String {
        self.git(&["add", "--all"]);
        let arguments = ["commit", "--quiet", "--allow-empty", "-S", "-m", message];
        self.git(&[&signing(key).each_ref().map(String::as_str)[..], &arguments].concat());
        self.head()
    }

    pub fn head(&self) -> String {
        self.git(&["rev-parse", "HEAD"])
    }

    #[track_caller]
    pub fn push(&self) {
        self.git(&["push", "--quiet", "--force", "origin", "HEAD:refs/heads/main"]);
    }

    /// A new ed25519 key; its public half is beside it.
    #[track_caller]
    pub fn key(&self, name: &str) -> PathBuf {
        let path = self.dir.join(name);
        let arguments = ["-q", "-t", "ed25519", "-N", "", "-C", name, "-f", &path.to_string_lossy()];
        self.run(&self.dir, "ssh-keygen", &arguments);
        path
    }

    /// The public half of a key, as a file of allowed signers has it.
    pub fn public(&self, key: &Path) -> String {
        let text = std::fs::read_to_string(key.with_extension("pub")).expect("a public key");
        text.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
    }

    /// `[state]` of a host.toml that has this address.
    pub fn state_of(&self, url: &str, more: &str) -> String {
        format!("[state]\ngit = {url:?}\npoll = \"5s\"\n{more}\n")
    }
}

/// Options that make git sign with a key.
pub fn signing(key: &Path) -> [String; 4] {
    [
        "-c".to_owned(),
        "gpg.format=ssh".to_owned(),
        "-c".to_owned(),
        format!("user.signingkey={}", key.display()),
    ]
}

/// A state that asks nothing of a host in `prod`: there, a reconciliation is one look.
pub fn elsewhere(serial: u64) -> String {
    wanting("web", "elsewhere", &format!("b3:{}", "0".repeat(64)), Some(serial))
}

/// A state that names one artifact.
pub fn wanting(app: &str, environment: &str, artifact: &str, serial: Option<u64>) -> String {
    let target = serde_json::json!({"target": {"artifact": artifact}});
    let apps = serde_json::json!({app: {"environments": {environment: target}}});
    let mut state = serde_json::json!({"apiVersion": "landfall/v1", "apps": apps});
    if let Some(serial) = serial {
        state["serial"] = serial.into();
    }
    state.to_string()
}

#[track_caller]
fn said(name: &str, arguments: &[&str], output: Output) -> String {
    assert!(
        output.status.success(),
        "{name} {arguments:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A server that is a process of its own, ended with the test.
pub struct Server {
    pub port: Port,
    child: Child,
}

impl Drop for Server {
    fn drop(&mut self) {
        // A daemon's children are in its group.
        let group = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process_group(group, rustix::process::Signal::KILL).ok();
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn serve(command: &mut Command, address: Ipv4Addr, port: Port) -> Server {
    use std::os::unix::process::CommandExt;
    let child = command.process_group(0).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let server = Server { port, child: child.expect("a server") };
    let at = (address, server.port.number);
    wait_until("the server answers", SERVER_LIMIT, || TcpStream::connect(at).is_ok());
    server
}

/// `git daemon` over the forge's repositories.
pub fn daemon(forge: &Forge) -> Server {
    let port = Port::free();
    let mut command = forge.program(forge.dir(), "git");
    command.args(["daemon", "--reuseaddr", "--export-all", "--listen=127.0.0.1"]);
    command
        .arg(format!("--port={}", port.number))
        .arg(format!("--base-path={}", forge.dir().join("srv").display()));
    command.arg(forge.dir().join("srv"));
    serve(&mut command, Ipv4Addr::LOCALHOST, port)
}

/// An ssh server for this account, with the key that may come in and the known hosts that name it.
pub struct Ssh {
    pub server: Server,
    pub key: PathBuf,
    pub known_hosts: PathBuf,
    pub url: String,
}

/// A local sshd.
pub fn sshd(forge: &Forge) -> Ssh {
    sshd_at(forge, Ipv4Addr::LOCALHOST)
}

/// An sshd at an address of the network that this thread is in.
pub fn sshd_at(forge: &Forge, address: Ipv4Addr) -> Ssh {
    let port = Port::free();
    let (host_key, key) = (forge.key("host_key"), forge.key("deploy_key"));
    let dir = forge.dir();
    let authorized = dir.join("authorized_keys");
    std::fs::write(&authorized, format!("{}\n", forge.public(&key))).expect("authorized_keys");
    let known_hosts = dir.join("known_hosts");
    let line = format!("[{address}]:{} {}\n", port.number, forge.public(&host_key));
    std::fs::write(&known_hosts, line).expect("known_hosts");
    let config = dir.join("sshd_config");
    let text = format!(
        "Port {}\nListenAddress {address}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile {}\nUsePAM no\nStrictModes no\n\
         PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\nSetEnv PATH={}\n",
        port.number,
        host_key.display(),
        authorized.display(),
        dir.join("sshd.pid").display(),
        std::env::var("PATH").expect("PATH"),
    );
    std::fs::write(&config, text).expect("sshd_config");
    // Where sshd puts its unprivileged half; the package makes it, a container may lack it.
    std::fs::create_dir_all("/run/sshd").ok();
    let program =
        ["/usr/sbin/sshd", "/usr/local/sbin/sshd"].into_iter().find(|path| Path::new(path).exists());
    let mut command = Command::new(program.expect("openssh-server is needed for this test"));
    command.arg("-D").arg("-e").arg("-f").arg(&config).stdin(Stdio::null());
    let server = serve(&mut command, address, port);
    let user = forge.run(dir, "id", &["-un"]);
    let url = format!("ssh://{user}@{address}:{}{}", server.port.number, forge.bare().display());
    Ssh { server, key, known_hosts, url }
}

/// What the http server does besides serving.
#[derive(Debug, Clone, Default)]
pub struct Manners {
    /// The `Authorization` it asks for.
    pub asks_for: Option<String>,
    /// Where it sends everybody instead.
    pub redirects_to: Option<String>,
    /// It takes the request and never answers.
    pub hangs: bool,
}

/// A certificate authority of the test's own.
pub struct Authority {
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    /// Its own certificate, as machines that believe it have it.
    pub pem: String,
}

impl Authority {
    pub fn new() -> Self {
        use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate for a name or an address, and its key; `until`: the year in which it ends.
    pub fn certify(&self, name: &str, until: i32) -> (String, String) {
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).expect("a name");
        params.not_before = rcgen::date_time_ymd(2000, 1, 1);
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        let pem = params.signed_by(&key, &self.issuer).expect("a certificate").pem();
        (pem, key.serialize_pem())
    }
}

/// A little web server in this process, with git's own `http-backend` behind it.
pub struct Http {
    pub port: u16,
    pub requests: Arc<AtomicUsize>,
    pub authorizations: Arc<std::sync::Mutex<Vec<String>>>,
    ended: Arc<AtomicBool>,
    tls: bool,
}

/// A connection, in clear or not.
trait Talk: Read + Write {}
impl<T: Read + Write> Talk for T {}

/// A conversation behind TLS.
fn in_tls(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    answer: impl FnOnce(&mut dyn Talk) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let connection = ServerConnection::new(config).map_err(std::io::Error::other)?;
    let mut stream = StreamOwned::new(connection, stream);
    answer(&mut stream)?;
    // Without this word the end of an answer looks cut.
    stream.conn.send_close_notify();
    stream.flush()
}

impl Drop for Http {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // Wakes the listener.
        TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).ok();
    }
}

impl Http {
    pub fn serve(root: PathBuf, manners: Manners) -> Self {
        Self::listen(root, manners, None)
    }

    /// The same behind TLS, with a certificate and its key in PEM.
    pub fn serve_tls(root: PathBuf, certificate: &str, key: &str) -> Self {
        use tokio_rustls::rustls::pki_types::pem::PemObject;
        use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
        let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).expect("a certificate");
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
        let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key);
        Self::listen(root, Manners::default(), Some(Arc::new(config.expect("a key that fits"))))
    }

    fn listen(root: PathBuf, manners: Manners, tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let ended = Arc::new(AtomicBool::new(false));
        let requests = Arc::new(AtomicUsize::new(0));
        let authorizations = Arc::new(std::sync::Mutex::new(Vec::new()));
        let server = Self {
            port,
            requests: requests.clone(),
            authorizations: authorizations.clone(),
            ended: ended.clone(),
            tls: tls.is_some(),
        };
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                let (root, manners, tls) = (root.clone(), manners.clone(), tls.clone());
                let (requests, authorizations, ended) =
                    (requests.clone(), authorizations.clone(), ended.clone());
                std::thread::spawn(move || {
                    requests.fetch_add(1, Ordering::Relaxed);
                    if manners.hangs {
                        while !ended.load(Ordering::Relaxed) {
                            std::thread::sleep(Duration::from_millis(50));
                        }
                        return;
                    }
                    stream.set_read_timeout(Some(SERVER_LIMIT)).ok();
                    let answer = |stream: &mut dyn Talk| answer(stream, &root, &manners, &authorizations);
                    match tls {
                        None => answer(&mut { stream }).ok(),
                        Some(tls) => in_tls(stream, tls, answer).ok(),
                    };
                });
            }
        });
        server
    }

    pub fn url(&self) -> String {
        format!("http{}://127.0.0.1:{}/state.git", if self.tls { "s" } else { "" }, self.port)
    }
}

struct Request {
    method: String,
    path: String,
    query: String,
    headers: Vec<(String, String)>,
}

impl Request {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

fn hear(reader: &mut impl BufRead) -> std::io::Result<Request> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let (path, query) = (path.to_owned(), query.to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.trim_end().split_once(':') {
            Some((key, value)) => headers.push((key.to_lowercase(), value.trim().to_owned())),
            None => return Ok(Request { method, path, query, headers }),
        }
    }
}

fn body(reader: &mut impl BufRead, request: &Request) -> std::io::Result<Vec<u8>> {
    let mut body = Vec::new();
    if request.header("transfer-encoding").is_some_and(|value| value.contains("chunked")) {
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let length = usize::from_str_radix(line.trim(), 16).map_err(std::io::Error::other)?;
            let mut chunk = vec![0; length + 2];
            reader.read_exact(&mut chunk)?;
            if length == 0 {
                return Ok(body);
            }
            body.extend_from_slice(&chunk[..length]);
        }
    }
    let length = request.header("content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
    body.resize(length, 0);
    reader.read_exact(&mut body)?;
    Ok(body)
}

fn answer(
    out: &mut dyn Talk,
    root: &Path,
    manners: &Manners,
    authorizations: &std::sync::Mutex<Vec<String>>,
) -> std::io::Result<()> {
    // One question a connection: nothing is buffered beyond it.
    let mut reader = BufReader::new(&mut *out);
    let request = hear(&mut reader)?;
    let body = body(&mut reader, &request)?;
    if let Some(told) = request.header("authorization") {
        authorizations.lock().expect("no panic").push(told.to_owned());
    }
    if let Some(elsewhere) = &manners.redirects_to {
        let target = format!("{elsewhere}{}?{}", request.path, request.query);
        return write!(
            out,
            "HTTP/1.1 302 Found\r\nLocation: {target}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
    }
    if manners.asks_for.as_deref().is_some_and(|wanted| request.header("authorization") != Some(wanted)) {
        return write!(
            out,
            "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"git\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
    }
    let exec_path = Command::new("git").arg("--exec-path").output()?.stdout;
    let backend = Path::new(String::from_utf8_lossy(&exec_path).trim()).join("git-http-backend");
    let mut child = Command::new(backend)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").expect("PATH"))
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("HOME", root)
        .env("REQUEST_METHOD", &request.method)
        .env("PATH_INFO", &request.path)
        .env("QUERY_STRING", &request.query)
        .env("CONTENT_TYPE", request.header("content-type").unwrap_or_default())
        .env("CONTENT_LENGTH", body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", request.header("content-encoding").unwrap_or_default())
        .env("GIT_PROTOCOL", request.header("git-protocol").unwrap_or_default())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut stdin = child.stdin.take().expect("a pipe");
    let feeding = std::thread::spawn(move || stdin.write_all(&body).ok());
    let mut said = Vec::new();
    child.stdout.take().expect("a pipe").read_to_end(&mut said)?;
    child.wait()?;
    feeding.join().ok();
    let end = said.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(said.len().saturating_sub(4));
    let head = String::from_utf8_lossy(&said[..end]).into_owned();
    let status = head.lines().find_map(|line| line.strip_prefix("Status: ")).unwrap_or("200 OK").to_owned();
    let headers: String =
        head.lines().filter(|line| !line.starts_with("Status: ")).map(|line| format!("{line}\r\n")).collect();
    let content = &said[(end + 4).min(said.len())..];
    write!(
        out,
        "HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n",
        content.len()
    )?;
    out.write_all(content)
}
