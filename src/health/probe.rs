//! One try of one check.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::attest::{Answerer, Holds, START_HEADER, holds, holds_soon, holds_within, objection};
use super::judge::Outcome;
use super::limits::{ACCEPT_WAIT, BODY_BYTES_MAX, HEAD_BYTES_MAX, HEADERS_MAX, NEXT_CONNECTION};
use crate::env::expand;
use crate::proc;
use crate::spec::{Check, HealthSpec};
use crate::start::{Account, Exit, ProcessId, RunAs};
use crate::step::{Attached, End, Job, OnAgentDeath, Runner};

/// Who may answer, and in which circumstances it is asked.
#[derive(Debug)]
pub(crate) struct Asking<'a> {
    /// Starts whose answers count; none: anybody's.
    pub(crate) answerers: Vec<Answerer>,
    /// Supervisors of older starts that accept from the same socket: what their processes answer says nothing.
    pub(crate) beside: Vec<ProcessId>,
    /// Supervisors of the starts themselves. pm2's daemon accepts for a cluster's workers and passes connections on,
    /// on a busy host some moments later.
    pub(crate) supervisors: Vec<ProcessId>,
    /// For `${KEY}` in checks and for commands.
    pub(crate) env: &'a BTreeMap<String, String>,
    pub(crate) release_dir: &'a Path,
    pub(crate) account: Option<&'a Account>,
    pub(crate) runner: &'a Runner,
}

impl Asking<'_> {
    /// Whether the connection came to an older start on the same socket.
    fn is_beside(&self, holds: &Holds) -> bool {
        let Holds::Stranger(holder) = holds else { return false };
        let below =
            |shim: &ProcessId| proc::descendants(shim.pid).iter().any(|stat| stat.id.pid == holder.pid);
        self.beside.iter().any(below)
    }
}

/// What one try saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tried {
    pub(super) outcome: Outcome,
    pub(super) status: Option<u16>,
    pub(super) body: Vec<u8>,
}

impl Tried {
    fn bad(why: String) -> Self {
        Self { outcome: Outcome::Bad(why), status: None, body: Vec::new() }
    }

    fn from(objection: Option<String>) -> Self {
        match objection {
            Some(why) => Self::bad(why),
            None => Self { outcome: Outcome::Good, ..Self::bad(String::new()) },
        }
    }
}

/// The port a check asks, if it asks one.
pub(super) fn port(spec: &HealthSpec, of: &Asking<'_>) -> Option<u16> {
    match &spec.check {
        Check::Http(url) => Some(target(&expand(url, of.env).ok()?.parse().ok()?).ok()?.1),
        Check::Tcp(address) => expand(address, of.env).ok()?.rsplit_once(':')?.1.parse().ok(),
        Check::Run(_) => None,
    }
}

/// Tries a check once, within its timeout.
pub(super) async fn try_once(spec: &HealthSpec, of: &Asking<'_>) -> Tried {
    let limit = spec.timeout.duration();
    let passed_over = Cell::new(0u32);
    let tried = async {
        loop {
            let tried = match &spec.check {
                Check::Http(url) => http(url, spec.body_contains.as_deref(), of).await,
                Check::Tcp(address) => tcp(address, limit, of).await,
                Check::Run(argv) => run(argv, spec, of).await,
            };
            match tried {
                Ok(Answered::Beside) => passed_over.update(|count| count + 1),
                Ok(Answered::Tried(tried)) => return tried,
                Err(why) => return Tried::bad(why),
            }
            sleep(NEXT_CONNECTION).await;
        }
    };
    match (timeout(limit, tried).await, passed_over.get()) {
        (Ok(tried), _) => tried,
        (Err(_), 0) => Tried::bad(format!("no answer within {limit:?}")),
        (Err(_), count) => Tried::bad(format!(
            "no answer of this start within {limit:?}: what serves beside it accepted {count} connections"
        )),
    }
}

/// Who a connection came to.
enum Answered {
    /// Somebody whose answer counts, or says what is wrong.
    Tried(Tried),
    /// The older start on the same socket: another connection may come to the new one.
    Beside,
}

async fn http(url: &str, wanted: Option<&str>, of: &Asking<'_>) -> Result<Answered, String> {
    let expanded = expand(url, of.env).map_err(|error| error.to_string())?;
    let uri: Uri = expanded.parse().map_err(|error| format!("`{url}`: {error}"))?;
    let (host, port) = target(&uri).map_err(|why| format!("`{url}`: {why}"))?;
    let stream = connect(&host, port).await?;
    let ends = ends(&stream)?;
    let early = holds_soon(&of.answerers, &of.supervisors, ends.0, ends.1).await;
    if of.is_beside(&early) {
        return Ok(Answered::Beside);
    }
    let late = Cell::new(false);
    let tried = ask(stream, &uri, async |answer| {
        let attested = attest(of, answer, early.clone(), ends);
        // Answered, and yet only the one who passes it on is seen with it: whoever answered has closed already.
        late.set(attested.as_ref().is_err_and(|holds| of.is_beside(holds) || *holds == Holds::NotAccepted));
        judged(answer, wanted, attested.err().and_then(|holds| objection(&holds))).await
    })
    .await?;
    Ok(if late.get() { Answered::Beside } else { Answered::Tried(tried) })
}

fn target(uri: &Uri) -> Result<(String, u16), String> {
    if uri.scheme_str() != Some("http") {
        return Err("only http:// is probed; put TLS in front of the app".to_owned());
    }
    let host = uri.host().ok_or("has no host")?;
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    Ok((bare.to_owned(), uri.port_u16().unwrap_or(80)))
}

async fn connect(host: &str, port: u16) -> Result<TcpStream, String> {
    let connected = TcpStream::connect((host, port)).await;
    connected.map_err(|error| format!("cannot connect to {host}:{port}: {error}"))
}

fn ends(stream: &TcpStream) -> Result<(SocketAddr, SocketAddr), String> {
    let ends = stream.local_addr().and_then(|own| Ok((own, stream.peer_addr()?)));
    ends.map_err(|error| format!("the connection was lost: {error}"))
}

/// Sends the request and hands over the answer while the connection is still open.
async fn ask(
    stream: TcpStream,
    uri: &Uri,
    answered: impl AsyncFnOnce(&mut Response<Incoming>) -> Tried,
) -> Result<Tried, String> {
    let lost = |error: hyper::Error| format!("no HTTP answer: {error}");
    let mut builder = http1::Builder::new();
    builder.max_headers(HEADERS_MAX).max_buf_size(HEAD_BYTES_MAX);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(lost)?;
    let talk = async {
        let mut answer = sender.send_request(request(uri)?).await.map_err(lost)?;
        Ok(answered(&mut answer).await)
    };
    // The connection is driven beside the conversation, and outlives it.
    let drive = async {
        let _ = connection.await;
        std::future::pending::<()>().await
    };
    tokio::select! {
        tried = talk => tried,
        () = drive => Err("the connection was closed".to_owned()),
    }
}

fn request(uri: &Uri) -> Result<Request<Empty<Bytes>>, String> {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let host = uri.authority().map_or("", |authority| authority.as_str());
    let request = Request::get(path).header("host", host).header("user-agent", "landfall");
    let request = request.header("accept", "*/*").body(Empty::new());
    request.map_err(|error| error.to_string())
}

/// By header, else by who holds the other end, now or when it was accepted. An error: who holds it, as far as that
/// is seen.
fn attest(
    of: &Asking<'_>,
    answer: &Response<Incoming>,
    early: Holds,
    ends: (SocketAddr, SocketAddr),
) -> Result<(), Holds> {
    let named = answer.headers().get(START_HEADER);
    let by_header = |start: &Answerer| {
        !start.start_id.is_empty() && named.is_some_and(|named| named == start.start_id.as_str())
    };
    if of.answerers.is_empty() || of.answerers.iter().any(by_header) {
        return Ok(());
    }
    let seen = match early {
        Holds::NotAccepted | Holds::Unseen => holds(&of.answerers, &of.supervisors, ends.0, ends.1),
        seen @ (Holds::ThisStart | Holds::Stranger(_)) => seen,
    };
    if seen == Holds::ThisStart { Ok(()) } else { Err(seen) }
}

async fn judged(answer: &mut Response<Incoming>, wanted: Option<&str>, stranger: Option<String>) -> Tried {
    let status = answer.status();
    let body = read(answer.body_mut()).await;
    let poor = match status.as_u16() {
        200..=299 => lacks(&body, wanted),
        300..=399 => Some(format!("answered {status}: redirects are not followed")),
        _ => Some(format!("answered {status}")),
    };
    Tried { status: Some(status.as_u16()), body, ..Tried::from(stranger.or(poor)) }
}

fn lacks(body: &[u8], wanted: Option<&str>) -> Option<String> {
    let wanted = wanted.filter(|text| !text.is_empty())?;
    let holds = body.windows(wanted.len()).any(|window| window == wanted.as_bytes());
    (!holds).then(|| format!("the answer does not hold `{wanted}`"))
}

/// What of the body comes, up to the limit; one that breaks off is judged by what came.
async fn read(body: &mut Incoming) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        if let Some(data) = frame.data_ref() {
            bytes.extend_from_slice(data);
        }
        if bytes.len() >= BODY_BYTES_MAX {
            bytes.truncate(BODY_BYTES_MAX);
            break;
        }
    }
    bytes
}

async fn tcp(address: &str, limit: Duration, of: &Asking<'_>) -> Result<Answered, String> {
    let expanded = expand(address, of.env).map_err(|error| error.to_string())?;
    let parts = expanded.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    let (host, port) = parts.ok_or_else(|| format!("`{address}` is not host:port"))?;
    let stream = connect(host.trim_matches(['[', ']']), port).await?;
    let ends = ends(&stream)?;
    let starts = &of.answerers;
    if starts.is_empty() {
        return Ok(Answered::Tried(Tried::from(None)));
    }
    // A little less than the whole, so that the answer says more than "no answer".
    let looking = limit - ACCEPT_WAIT.min(limit / 4);
    let holds = holds_within(starts, &of.supervisors, ends.0, ends.1, looking).await;
    Ok(if of.is_beside(&holds) { Answered::Beside } else { Answered::Tried(Tried::from(objection(&holds))) })
}

async fn run(argv: &[String], spec: &HealthSpec, of: &Asking<'_>) -> Result<Answered, String> {
    let argv: Result<_, _> = argv.iter().map(|part| expand(part, of.env)).collect();
    let job = Job {
        argv: argv.map_err(|error| error.to_string())?,
        dir: of.release_dir.to_owned(),
        env: of.env.clone(),
        run_as: of.account.map(RunAs::from),
        timeout: Some(spec.timeout),
        stop_signal: "SIGKILL".to_owned(),
        grace: crate::spec::Millis(0),
        log: None,
        on_agent_death: OnAgentDeath::End,
        listen: None,
    };
    let mut attached = Attached::begin(of.runner, &job).await.map_err(|error| error.to_string())?;
    let report = attached.wait().await.map_err(|error| error.to_string())?;
    let body = report.tail.join("\n").into_bytes();
    let objection = match report.end {
        End::Exited(Exit::Code(0)) => None,
        End::Exited(Exit::Code(code)) => Some(format!("the check exited with {code}")),
        End::Exited(Exit::Signal(signal)) => Some(format!("the check was ended by signal {signal}")),
        End::TimedOut | End::Stopped => Some("the check did not end in time".to_owned()),
        End::NotStarted(why) => Some(why),
    };
    Ok(Answered::Tried(Tried { body, ..Tried::from(objection) }))
}
