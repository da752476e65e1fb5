//! A load of requests at a steady rate, beside whatever a test does, and what became of each of them.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// Longer than any machine stands still.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// Connections that are kept open, each with one request at a time.
const KEPT: u32 = 10;

/// How connections are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connections {
    /// A new one for each request.
    Fresh,
    /// The same ones again and again; one that the server has closed in an orderly way is opened anew.
    Kept,
}

/// One request.
#[derive(Debug, Clone)]
pub struct Request {
    /// When it was sent, since the load began.
    pub at: Duration,
    pub took: Duration,
    /// The release that answered, by `"LANDFALL_RELEASE":"…"` in the answer; or what went wrong.
    pub outcome: Result<String, String>,
}

/// A load that is under way.
pub struct Load {
    began: Instant,
    over: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Request>>,
}

impl Load {
    /// Sends so many requests a second, whatever becomes of them.
    pub fn begin(port: u16, path: &'static str, a_second: u32, connections: Connections) -> Self {
        let (began, over) = (Instant::now(), Arc::new(AtomicBool::new(false)));
        let until = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let asked = Asked { port, path, began };
                match connections {
                    Connections::Fresh => fresh(asked, a_second, &until).await,
                    Connections::Kept => kept(asked, a_second, until).await,
                }
            })
        });
        Self { began, over, thread }
    }

    /// Now, as requests tell it.
    pub fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Sends no more, and waits for the answers under way.
    pub fn end(self) -> Vec<Request> {
        self.over.store(true, Ordering::Relaxed);
        let mut requests = self.thread.join().expect("the load");
        requests.sort_by_key(|request| request.at);
        requests
    }
}

#[derive(Clone, Copy)]
struct Asked {
    port: u16,
    path: &'static str,
    began: Instant,
}

/// Late ticks are made up for: the rate holds over any second in which the machine runs.
fn ticks(pause: Duration) -> tokio::time::Interval {
    let mut ticks = interval(pause);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    ticks
}

async fn fresh(asked: Asked, a_second: u32, over: &AtomicBool) -> Vec<Request> {
    let mut ticks = ticks(Duration::from_secs(1) / a_second);
    let mut under_way = JoinSet::new();
    while !over.load(Ordering::Relaxed) {
        ticks.tick().await;
        under_way.spawn(timed(asked.began, async move {
            let mut connection = connect(asked.port).await?;
            ask(&mut connection, asked, "close").await
        }));
    }
    under_way.join_all().await
}

async fn kept(asked: Asked, a_second: u32, over: Arc<AtomicBool>) -> Vec<Request> {
    let mut workers = JoinSet::new();
    for _ in 0..KEPT {
        workers.spawn(keep_asking(asked, Duration::from_secs(1) * KEPT / a_second, Arc::clone(&over)));
    }
    workers.join_all().await.concat()
}

async fn keep_asking(asked: Asked, pause: Duration, over: Arc<AtomicBool>) -> Vec<Request> {
    let (mut ticks, mut requests, mut open) = (ticks(pause), Vec::new(), None);
    while !over.load(Ordering::Relaxed) {
        ticks.tick().await;
        let connection = &mut open;
        let request = timed(asked.began, async move {
            // One that is known to be closed is no mistake of the server; one that breaks under a request is.
            let mut usable: SendRequest<Empty<Bytes>> = match connection.take() {
                Some(usable) if !SendRequest::is_closed(&usable) => usable,
                _ => connect(asked.port).await?,
            };
            let release = ask(&mut usable, asked, "keep-alive").await?;
            *connection = Some(usable);
            Ok(release)
        });
        requests.push(request.await);
    }
    requests
}

async fn timed(began: Instant, request: impl Future<Output = Result<String, String>>) -> Request {
    let at = began.elapsed();
    let late = |_| Err(format!("no answer within {ANSWER_LIMIT:?}"));
    let outcome = timeout(ANSWER_LIMIT, request).await.unwrap_or_else(late);
    Request { at, took: began.elapsed() - at, outcome }
}

async fn connect(port: u16) -> Result<SendRequest<Empty<Bytes>>, String> {
    let stream =
        TcpStream::connect(("127.0.0.1", port)).await.map_err(|error| format!("connect: {error}"))?;
    let (sender, connection) =
        handshake(TokioIo::new(stream)).await.map_err(|error| format!("connect: {error}"))?;
    tokio::spawn(async move {
        // What goes wrong shows in the request.
        drop(connection.await);
    });
    Ok(sender)
}

async fn ask(connection: &mut SendRequest<Empty<Bytes>>, asked: Asked, keep: &str) -> Result<String, String> {
    let request = hyper::Request::get(asked.path)
        .header("host", format!("127.0.0.1:{}", asked.port))
        .header("connection", keep)
        .body(Empty::new())
        .expect("a request of constants");
    connection.ready().await.map_err(|error| format!("{error:?}"))?;
    let answer = connection.send_request(request).await.map_err(|error| format!("{error:?}"))?;
    let status = answer.status();
    let body = answer.into_body().collect().await.map_err(|error| format!("{error:?}"))?.to_bytes();
    let body = String::from_utf8_lossy(&body);
    if status != 200 {
        return Err(format!("status {status}: {body}"));
    }
    let release = body.split_once("\"LANDFALL_RELEASE\":\"").and_then(|(_, rest)| rest.split_once('"'));
    release.map(|(release, _)| release.to_owned()).ok_or_else(|| format!("no release in {body}"))
}

/// Requests sent from one moment to another.
#[derive(Debug)]
pub struct Phase {
    pub name: &'static str,
    pub from: Duration,
    pub to: Duration,
}

impl Phase {
    pub fn of<'a>(&self, requests: &'a [Request]) -> Vec<&'a Request> {
        requests.iter().filter(|request| (self.from..self.to).contains(&request.at)).collect()
    }
}

/// What went wrong, in order.
pub fn failures(requests: &[Request]) -> Vec<(Duration, &String)> {
    requests.iter().filter_map(|request| Some((request.at, request.outcome.as_ref().err()?))).collect()
}

/// Requests, failures, p50 and p99 of each phase, as a table for people.
pub fn table(title: &str, requests: &[Request], phases: &[Phase]) -> String {
    let mut text =
        format!("{title}\n{:<34}{:>9}{:>9}{:>11}{:>11}\n", "", "requests", "failures", "p50", "p99");
    for phase in phases {
        let sent = phase.of(requests);
        let failed = sent.iter().filter(|request| request.outcome.is_err()).count();
        let mut took: Vec<Duration> = sent.iter().map(|request| request.took).collect();
        took.sort_unstable();
        let (p50, p99) = (percentile(&took, 50), percentile(&took, 99));
        writeln!(text, "{:<34}{:>9}{failed:>9}{p50:>11}{p99:>11}", phase.name, sent.len()).expect("a string");
    }
    text
}

/// In milliseconds.
fn percentile(sorted: &[Duration], percent: usize) -> String {
    let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(at).map_or("-".to_owned(), |took| format!("{:.1} ms", took.as_secs_f64() * 1_000.0))
}
