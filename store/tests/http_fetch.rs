//! Whole artifacts over HTTP: every content right or a clear error, nothing moved twice, in bounded memory.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::HashMap;
use std::io::{self, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::faulty_http::{Fault, Request, Server};
use common::{Contents, artifact, content, layer, noise, push_scanned, scanned, write};
use landfall_store::backend::{Backend, HttpBackend, MirroredBackend, Patience};
use landfall_store::blob::{BlobSink, BlobSource, Want};
use landfall_store::fetch::{self, FetchReport, Progress, Watch};
use landfall_store::push::{PushOptions, push};
use landfall_store::{ArtifactId, BlobId, Entry, EntryPath, Kind, Store, StoreError, Tree, refs};

fn patience() -> Patience {
    Patience { pause: Duration::from_millis(2), pause_max: Duration::from_millis(20), ..Patience::default() }
}

fn http(url: &str) -> Box<dyn Backend> {
    Box::new(HttpBackend::open(url, None).unwrap().with_patience(patience()))
}

fn over(server: &Server) -> Result<Store, StoreError> {
    Store::with_backend(http(&server.url()))
}

/// A store with an app of small files, one of several frames, and one that repeats.
fn store() -> (tempfile::TempDir, ArtifactId) {
    let source = tempfile::tempdir().unwrap();
    let small: Vec<_> = (0..60).map(|n| (format!("d/{n}"), noise(n, 60_000))).collect();
    write(
        source.path(),
        &small.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect::<Vec<_>>(),
    );
    write(source.path(), &[("huge", &noise(99, 9 << 20)), ("empty", "")]);
    let dir = tempfile::tempdir().unwrap();
    let report = push_scanned(&Store::create(dir.path()).unwrap(), "1.0.0", &scanned(source.path())).unwrap();
    (dir, report.artifact)
}

fn fetched(store: &Store, id: &ArtifactId, sink: &dyn BlobSink) -> Result<(Tree, FetchReport), StoreError> {
    let artifact = fetch::artifact(store, id)?;
    let tree = fetch::tree(store, &artifact.layers[0].tree)?;
    let report = fetch::blobs(store, &[&tree], sink, &Watch::NOBODY)?;
    Ok((tree, report))
}

fn complete(store: &Store, id: &ArtifactId) -> Result<(), StoreError> {
    let sink = Contents::default();
    let (tree, _) = fetched(store, id, &sink)?;
    assert!(sink.complete(&tree), "a fetch that says yes has everything");
    Ok(())
}

fn packs(dir: &Path) -> u64 {
    let files = common::files_below(&dir.join("packs"));
    let packs = files.iter().filter(|file| file.extension().is_some_and(|kind| kind == "lfp"));
    packs.map(|file| file.metadata().unwrap().len()).sum()
}

fn is_pack(request: &Request) -> bool {
    request.path.ends_with(".lfp")
}

#[test]
fn an_artifact_is_fetched_with_few_requests_of_which_eight_are_in_flight() {
    let (dir, id) = store();
    let server = Server::of(dir.path());
    complete(&over(&server).unwrap(), &id).unwrap();
    assert!(server.in_flight_max() <= 8, "{}", server.in_flight_max());
    assert!(server.requests().len() < 20, "{}", server.requests().len());
}

#[test]
fn a_server_that_ignores_ranges_sends_each_pack_once() {
    let (dir, id) = store();
    let server = Server::of(dir.path());
    for fault in [Fault::IgnoreRange, Fault::IgnoreRangeChunked] {
        server.forget();
        server.misbehave(move |_| fault.clone());
        complete(&over(&server).unwrap(), &id).unwrap();
        let requests = server.requests();
        let mut packs: Vec<_> = requests.iter().filter(|one| is_pack(one)).map(|one| &one.path).collect();
        let asked = packs.len();
        packs.dedup();
        assert_eq!(asked, packs.len(), "{packs:?}");
    }
    // Ranges everywhere but for packs: found out in the middle.
    server.forget();
    server.misbehave(|request| if is_pack(request) { Fault::IgnoreRange } else { Fault::None });
    complete(&over(&server).unwrap(), &id).unwrap();
    let sent = server.bytes();
    assert!(sent < 2 * packs(dir.path()), "{sent} bytes of {}", packs(dir.path()));
}

#[test]
fn whatever_a_server_does_to_packs_the_contents_are_right_or_it_is_an_error() {
    let (dir, id) = store();
    let server = Server::of(dir.path());
    let faults = [
        Fault::Cut(5000),
        Fault::Cut(2 << 20),
        Fault::Reset(100_000),
        Fault::WrongRange(1),
        Fault::Shorter(1),
        Fault::Shorter(1 << 20),
        Fault::Flip(0),
        Fault::Flip(70_000),
        Fault::Endless,
        Fault::Encoded,
        Fault::IgnoreRangeCut(3 << 20),
        Fault::Status(500, vec![]),
        Fault::Status(404, vec![]),
        Fault::Status(403, vec![]),
        Fault::Status(416, vec![]),
        Fault::Status(204, vec![]),
        Fault::Hangup,
    ];
    for fault in faults {
        // Each pack's first request: what passes does not hurt.
        let once = fault.clone();
        server.forget();
        server.misbehave(move |request| match is_pack(request) && request.nth == 0 {
            true => once.clone(),
            false => Fault::None,
        });
        let passing = complete(&over(&server).unwrap(), &id);
        let stays = matches!(fault, Fault::Encoded | Fault::Status(403 | 404 | 204, _));
        assert!(passing.is_ok() || stays, "{fault:?}: {passing:?}");
        // Every request: right bytes all the same, or an error that names the store or the content.
        let always = fault.clone();
        server.misbehave(move |request| if is_pack(request) { always.clone() } else { Fault::None });
        if let Err(error) = complete(&over(&server).unwrap(), &id) {
            let told = error.to_string();
            assert!(told.contains(&server.url()), "{fault:?}: {told}");
        }
    }
}

#[test]
fn a_bit_that_flips_once_in_any_object_is_read_again() {
    let (dir, id) = store();
    let server = Server::of(dir.path());
    for at in [0, 40, 333] {
        server.forget();
        server.misbehave(move |request| match request.nth == 0 && request.path != "landfall-store.json" {
            true => Fault::Flip(at),
            false => Fault::None,
        });
        complete(&over(&server).unwrap(), &id).unwrap();
    }
}

#[test]
fn a_fetch_that_was_stopped_goes_on_without_a_frame_twice() {
    let (dir, id) = store();
    let server = Server::of(dir.path());
    let store = over(&server).unwrap();
    let artifact = fetch::artifact(&store, &id).unwrap();
    let tree = fetch::tree(&store, &artifact.layers[0].tree).unwrap();
    let all = fetch::blobs(&store, &[&tree], &Contents::default(), &Watch::NOBODY).unwrap();

    let sink = Contents::default();
    let (moved, blobs) = (AtomicU64::new(0), AtomicU64::new(0));
    let watch = Watch {
        progress: &|progress: Progress| {
            moved.fetch_max(progress.moved, Ordering::SeqCst);
            blobs.fetch_max(progress.blobs, Ordering::SeqCst);
        },
        cancel: &|| blobs.load(Ordering::SeqCst) >= 2,
    };
    let stopped = fetch::blobs(&store, &[&tree], &sink, &watch);
    assert!(matches!(stopped, Err(StoreError::Cancelled)), "{stopped:?}");
    let kept = sink.len() as u64;
    assert!(kept >= 2 && kept < all.blobs, "{kept}");
    let rest = fetch::blobs(&store, &[&tree], &sink, &Watch::NOBODY).unwrap();
    assert!(sink.complete(&tree));
    assert_eq!(rest.blobs + kept, all.blobs, "no content twice");
}

#[test]
fn a_mirror_gives_what_the_store_cannot() {
    let (dir, id) = store();
    let good = Server::of(dir.path());
    let bad = Server::of(dir.path());
    let faults = [
        Fault::Status(503, vec![]),
        Fault::Status(404, vec![]),
        Fault::Cut(1000),
        Fault::Flip(20),
        Fault::Encoded,
        Fault::Hangup,
    ];
    for fault in faults {
        let told = format!("{fault:?}");
        bad.misbehave(move |_| fault.clone());
        let both = MirroredBackend::new(http(&bad.url()), vec![http(&good.url())]);
        let store = Store::with_backend(Box::new(both));
        // The store's own record is not named by its hash: a flipped one is told, and no mirror is asked.
        match store {
            Ok(store) => complete(&store, &id).unwrap_or_else(|error| panic!("{told}: {error}")),
            Err(StoreError::Record { .. }) if told.starts_with("Flip") => {}
            Err(error) => panic!("{told}: {error}"),
        }
    }
    // Only contents are wrong, at the store and at the first mirror.
    bad.misbehave(|request| if request.path == "landfall-store.json" { Fault::None } else { Fault::Flip(9) });
    let three = MirroredBackend::new(http(&bad.url()), vec![http(&bad.url()), http(&good.url())]);
    complete(&Store::with_backend(Box::new(three)).unwrap(), &id).unwrap();
}

#[test]
fn a_dead_store_is_told_by_its_address_and_delays_a_mirrored_fetch_once() {
    let (dir, id) = store();
    let good = Server::of(dir.path());
    let dead = Server::of(dir.path());
    let address = dead.url();
    drop(dead);
    let error = Store::with_backend(http(&address)).unwrap_err().to_string();
    assert!(error.contains(&address) && error.contains("cannot be reached"), "{error}");
    let both = MirroredBackend::new(http(&address), vec![http(&good.url())]);
    complete(&Store::with_backend(Box::new(both)).unwrap(), &id).unwrap();
}

#[test]
fn a_store_that_dies_in_the_middle_ends_the_fetch_at_once() {
    let (dir, id) = store();
    let server = Server::of(dir.path());
    server.misbehave(|request| if is_pack(request) { Fault::Hangup } else { Fault::None });
    let error = complete(&over(&server).unwrap(), &id).unwrap_err().to_string();
    assert!(error.contains("cannot be reached"), "{error}");
    let packs = server.requests().iter().filter(|request| is_pack(request)).count();
    assert!(packs <= 5 * 8, "each worker's tries, and no second round: {packs}");
}

/// A process of somebody else's program, ended with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn until_it_answers(port: u16) -> String {
    let begun = Instant::now();
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(60), "no answer on port {port}");
        std::thread::sleep(Duration::from_millis(20));
    }
    format!("http://127.0.0.1:{port}")
}

#[test]
fn nginx_serves_a_store() {
    let (dir, id) = store();
    let work = tempfile::tempdir().unwrap();
    let port = free_port();
    let (work, root) = (work.path(), dir.path());
    let user = if rustix::process::getuid().is_root() { "user root;" } else { "" };
    let conf = format!(
        "{user} daemon off; master_process off; pid {w}/pid; error_log {w}/error.log;\n\
         events {{}}\n\
         http {{ access_log off; client_body_temp_path {w}/b; proxy_temp_path {w}/p; fastcgi_temp_path {w}/f;\n\
         uwsgi_temp_path {w}/u; scgi_temp_path {w}/s;\n\
         server {{ listen 127.0.0.1:{port}; location /store/ {{ alias {r}/; }} }} }}\n",
        w = work.display(),
        r = root.display(),
    );
    std::fs::write(work.join("nginx.conf"), conf).unwrap();
    let mut nginx = Command::new("/usr/sbin/nginx");
    nginx.arg("-c").arg(work.join("nginx.conf")).arg("-e").arg(work.join("error.log"));
    let nginx = nginx.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let _nginx = Running(nginx.expect("nginx is installed: .ci/run does it (nginx-light)"));
    let store = Store::with_backend(http(&format!("{}/store/", until_it_answers(port)))).unwrap();
    complete(&store, &id).unwrap();
    assert!(store.location().ends_with("/store"), "{}", store.location());
}

#[test]
fn pythons_http_server_which_has_no_ranges_serves_a_store() {
    let (dir, id) = store();
    let port = free_port();
    let mut python = Command::new("python3");
    python
        .args(["-m", "http.server", "--bind", "127.0.0.1", &port.to_string(), "--directory"])
        .arg(dir.path());
    let _python =
        Running(python.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("python3 is installed"));
    complete(&Store::with_backend(http(&until_it_answers(port))).unwrap(), &id).unwrap();
}

/// A layer of 1 GiB that is nowhere on disk: one file of 512 MiB and 2,048 of 256 KiB, none compressible.
struct Generated(HashMap<BlobId, u64>);

impl Generated {
    fn layer() -> (Tree, Self) {
        let sizes = std::iter::once(512 << 20).chain(std::iter::repeat_n(256 << 10, 2048));
        let mut entries = Vec::new();
        let mut numbers = HashMap::new();
        for (number, size) in (0u64..).zip(sizes) {
            let mut hasher = blake3::Hasher::new();
            io::copy(&mut generated(number, size), &mut hasher).unwrap();
            let blob = BlobId(hasher.finalize().into());
            numbers.insert(blob, number);
            let path = EntryPath::new(format!("f{number}")).unwrap();
            entries.push(Entry { path, kind: Kind::File { size, blob, executable: false } });
        }
        (Tree::from_entries(entries).unwrap(), Self(numbers))
    }
}

impl BlobSource for Generated {
    fn open(&self, blob: &BlobId, size: u64) -> io::Result<Box<dyn Read + '_>> {
        Ok(Box::new(generated(self.0[blob], size)))
    }
}

fn generated(number: u64, size: u64) -> impl Read {
    blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof().take(size)
}

/// Keeps nothing, and proves everything.
struct Proving;

impl BlobSink for Proving {
    fn has(&self, _: &Want) -> io::Result<bool> {
        Ok(false)
    }

    fn put(&self, want: &Want, content: &mut dyn Read) -> io::Result<()> {
        let mut hasher = blake3::Hasher::new();
        let size = io::copy(content, &mut hasher)?;
        let right = size == want.size && BlobId(hasher.finalize().into()) == want.blob;
        if right { Ok(()) } else { Err(io::Error::new(io::ErrorKind::InvalidData, "other bytes")) }
    }
}

const CHILD: &str = "LANDFALL_TEST_FETCH";

#[test]
fn a_layer_of_a_gibibyte_is_fetched_in_64_mib() {
    let (tree, source) = Generated::layer();
    let dir = tempfile::tempdir().unwrap();
    let artifact = artifact("1.0.0", vec![layer("app", None, &tree)]);
    let store = Store::create(dir.path()).unwrap();
    let pushed = push(&store, &artifact, &[content(&tree, &source)], &PushOptions::default()).unwrap();
    assert!(packs(dir.path()) > 1 << 30, "it does not compress");
    let server = Server::of(dir.path());
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "in_a_process_of_its_own", "--nocapture"]);
    child.env(CHILD, format!("{} {}", server.url(), pushed.artifact));
    let output = child.output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    let peak = told.lines().find_map(|line| line.split_once("VmHWM:")?.1.trim().strip_suffix(" kB"));
    let peak: u64 = peak.unwrap_or_else(|| panic!("no peak in {told}")).trim().parse().unwrap();
    println!("peak memory of a fetch of 1 GiB: {peak} KiB\n{told}");
    assert!(peak < 64 << 10, "{peak} KiB");
}

/// What the test above starts; nothing on its own.
#[test]
fn in_a_process_of_its_own() {
    let Ok(told) = std::env::var(CHILD) else { return };
    let (url, id) = told.split_once(' ').unwrap();
    fetched(&Store::with_backend(http(url)).unwrap(), &id.parse().unwrap(), &Proving).unwrap();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    for line in status.lines().filter(|line| line.starts_with("VmHWM") || line.starts_with("Rss")) {
        println!("{line}");
    }
}

#[test]
fn a_server_that_cannot_list_finds_full_ids_and_versions_of_an_app() {
    let (dir, id) = store();
    let server = Server::of(dir.path());
    let store = over(&server).unwrap();
    let web = "web".parse().unwrap();
    assert_eq!(refs::resolve(&store, Some(&web), "1.0.0").unwrap(), id);
    assert_eq!(refs::resolve(&store, None, &id.to_string()).unwrap(), id);
    for (app, text) in [(None, "1.0.0"), (Some(&web), &id.to_string()[..12])] {
        let unlisted = refs::resolve(&store, app, text);
        assert!(matches!(unlisted, Err(StoreError::Unlisted { .. })), "{text}: {unlisted:?}");
    }
    let unknown = refs::resolve(&store, Some(&web), "9.9.9");
    assert!(matches!(unknown, Err(StoreError::UnknownArtifact { .. })), "{unknown:?}");
}
