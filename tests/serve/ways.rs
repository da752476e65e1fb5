//! The ways to a server: through TLS with an authority of one's own, through proxies, past mirrors that fail.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use super::server::*;
use super::support::authority::authority;
use super::support::{Host, Source};

/// The proxy knows where this is, and nobody else does.
const NAME: &str = "store.internal";

/// A forward proxy: whatever it is asked for, it goes to one server.
struct Proxy {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let all = Arc::clone(&asked);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let all = Arc::clone(&all);
                std::thread::spawn(move || pass_on(client, server, &all));
            }
        });
        Self { url, asked }
    }

    /// The first request of each connection, without its headers.
    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn pass_on(mut client: TcpStream, server: SocketAddr, all: &Mutex<Vec<String>>) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match client.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return,
        }
    }
    let line = String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned();
    let mut to = TcpStream::connect(server).unwrap();
    if line.starts_with("CONNECT") {
        client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
    } else {
        to.write_all(&head).unwrap();
    }
    all.lock().unwrap().push(line);
    let (mut back, mut from) = (client.try_clone().unwrap(), to.try_clone().unwrap());
    let answers = std::thread::spawn(move || {
        // Whoever goes first ends both.
        let _ = std::io::copy(&mut from, &mut back);
        let _ = back.shutdown(std::net::Shutdown::Both);
    });
    let _ = std::io::copy(&mut client, &mut to);
    let _ = to.shutdown(std::net::Shutdown::Both);
    answers.join().unwrap();
}

/// Copies all of a store into a new directory: everything is fetched.
fn copy(server: &Served, url: &str, environment: &[(&str, &str)]) -> (Output, tempfile::TempDir) {
    let to = tempfile::tempdir().unwrap();
    let mut command: Command = landfall();
    for name in ["http_proxy", "https_proxy", "no_proxy", "all_proxy", "SSL_CERT_FILE"] {
        command.env_remove(name).env_remove(name.to_uppercase());
    }
    command
        .args(["--store", url, "--store-token-file", "push", "push", "--all", "--to"])
        .arg(to.path().join("copy"))
        .current_dir(server.dir.path())
        .envs(environment.iter().copied());
    (command.output().unwrap(), to)
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn packed(options: &[&str]) -> Served {
    let dir = tempfile::tempdir().unwrap();
    pack(&dir.path().join("store"), "1.0.0", 50_000);
    authority(dir.path(), &[NAME, "127.0.0.1"]);
    Served::of(dir, options)
}

#[test]
fn a_store_is_fetched_through_tls_with_an_authority_of_ones_own_and_no_other() {
    let server = packed(&["--tls-cert", "cert.pem", "--tls-key", "key.pem", "--push-token-file", "PUSH"]);
    let (copied, to) = copy(&server, &server.url, &[("SSL_CERT_FILE", "ca.pem")]);
    assert!(copied.status.success(), "{}", said(&copied));
    assert!(!said(&copied).contains("without TLS"), "{}", said(&copied));
    let packs = |of: &std::path::Path| {
        objects(of).into_iter().filter(|key| key.starts_with("packs/")).collect::<Vec<_>>()
    };
    assert_eq!(packs(&to.path().join("copy")), packs(&server.store()));

    let requests = || server.log().matches("method=").count();
    let before = requests();
    let stranger = tempfile::tempdir().unwrap();
    authority(stranger.path(), &[NAME]);
    let other = stranger.path().join("ca.pem");
    let (refused, to) = copy(&server, &server.url, &[("SSL_CERT_FILE", other.to_str().unwrap())]);
    assert_eq!(refused.status.code(), Some(6), "{}", said(&refused));
    let why = said(&refused);
    assert!(why.contains("certificate") && why.contains("SSL_CERT_FILE"), "{why}");
    assert!(!why.contains("canary"), "{why}");
    assert!(!to.path().join("copy/packs").exists());
    assert_eq!(requests(), before, "no request, so no token, reaches a server that is not believed");
}

#[test]
fn a_store_is_fetched_through_the_proxy_that_the_environment_names() {
    let server = packed(&["--push-token-file", "PUSH"]);
    let proxy = Proxy::to(server.at);
    let url = format!("http://{NAME}:8080");
    let (copied, _to) = copy(&server, &url, &[("http_proxy", &proxy.url)]);
    assert!(copied.status.success(), "{}", said(&copied));
    let asked = proxy.asked();
    assert!(!asked.is_empty());
    assert!(asked.iter().all(|line| line.starts_with(&format!("GET {url}/"))), "{asked:?}");
    // The proxy could read the token, and so could whoever is behind it.
    assert!(said(&copied).contains("its token travels without TLS"), "{}", said(&copied));
    assert!(!said(&copied).contains("canary"), "{}", said(&copied));
}

#[test]
fn what_no_proxy_names_is_asked_directly() {
    let server = packed(&["--push-token-file", "PUSH"]);
    let proxy = Proxy::to(server.at);
    let through = [("http_proxy", proxy.url.as_str())];
    let (copied, _to) = copy(&server, &server.url, &[&through[..], &[("no_proxy", "127.0.0.0/8")]].concat());
    assert!(copied.status.success(), "{}", said(&copied));
    assert_eq!(proxy.asked(), Vec::<String>::new());
    assert!(!said(&copied).contains("without TLS"), "the loopback is nobody else's: {}", said(&copied));
    let (copied, _to) = copy(&server, &server.url, &through);
    assert!(copied.status.success() && !proxy.asked().is_empty(), "{}", said(&copied));
}

#[test]
fn tls_goes_through_a_proxy_from_one_end_to_the_other() {
    let server = packed(&["--tls-cert", "cert.pem", "--tls-key", "key.pem", "--push-token-file", "PUSH"]);
    let proxy = Proxy::to(server.at);
    let environment = [("https_proxy", proxy.url.as_str()), ("SSL_CERT_FILE", "ca.pem")];
    let (copied, _to) = copy(&server, &format!("https://{NAME}:8443"), &environment);
    assert!(copied.status.success(), "{}", said(&copied));
    let asked = proxy.asked();
    assert!(!asked.is_empty());
    assert!(asked.iter().all(|line| line.starts_with(&format!("CONNECT {NAME}:8443"))), "{asked:?}");
}

#[test]
fn a_host_asks_its_mirrors_in_order_for_what_the_one_before_cannot_give() {
    let host = Host::new("prod", "");
    let artifact = host.pack_next(Source::sleeper("one").path());
    let stores: Vec<Served> = (0..4).map(|_| Served::start(&["--read-token-file", "READ"])).collect();
    let url = |at: usize| stores[at].url.clone();
    for whole in [2, 3] {
        let to = stores[whole].store();
        host.run(&["push", "--all", "--to", to.to_str().unwrap()]).expect_code(0);
    }
    let urls: Vec<String> = (0..4).map(url).collect();
    let mut stores: Vec<Option<Served>> = stores.into_iter().map(Some).collect();
    // The first lacks it, the second is gone, the third has it, and the fourth is not needed.
    drop(stores[1].take().unwrap().kill());
    token_file(&host.dir, "read.token", READ_TOKEN);
    let text = format!(
        "host = \"web-1\"\nenvironment = \"prod\"\nstore = {:?}\nstore_mirrors = {:?}\n\
         store_token_file = \"read.token\"\n\n[state]\nfile = {:?}\n",
        urls[0],
        &urls[1..],
        host.state(),
    );
    host.write("host.toml", &text);
    host.want("web", &artifact);
    host.run(&["watch", "--once"]).expect_code(0);
    assert_eq!(host.attempts("web")[0]["result"], "Healthy");
    let log = |at: usize| stores[at].as_ref().unwrap().log();
    let key = format!("artifacts/{}/{}.json", &artifact[3..5], &artifact[3..]);
    assert!(log(0).contains(&format!("path=\"/{key}\" status=404")), "{}", log(0));
    assert!(log(2).contains(&format!("path=\"/{key}\" status=206")), "{}", log(2));
    assert!(log(2).contains(".lfp\" status=206"), "{}", log(2));
    // Hints are in none of them; of all that the third has, the fourth gave nothing.
    assert!(!log(3).contains("status=20"), "{}", log(3));
}
