//! A small HTTP/1.1 server over a directory that counts, and misbehaves where it is told to.
//!
//! `Server::of(dir)` is an honest static server with ranges. `misbehave` sets a function that is asked before
//! each answer. `Server::in_rounds(dir)` holds answers back until no further request comes, then lets all of
//! them go at once: [`Server::rounds`] is then the number of round trips that a client needed.

#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a helper of tests fails by panicking")]

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

/// What a client asked for.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    /// Without the leading `/`.
    pub path: String,
    pub headers: HashMap<String, String>,
    /// First and last byte of a single range.
    pub range: Option<(u64, u64)>,
    /// How often this path was asked for before.
    pub nth: usize,
}

/// How an answer goes wrong.
#[derive(Debug, Clone)]
pub enum Fault {
    /// It does not.
    None,
    /// A status with these headers and no body.
    Status(u16, Vec<(&'static str, String)>),
    /// The connection ends after so many bytes of the body.
    Cut(usize),
    /// The connection is reset after so many bytes of the body.
    Reset(usize),
    /// The connection is reset before any answer.
    Hangup,
    /// So many bytes of the body at a time, with a pause after each.
    Slow(usize, Duration),
    /// A `Content-Range` that begins so many bytes later; the body is what was asked for.
    WrongRange(u64),
    /// The whole object, with status 200, whatever range was asked for.
    IgnoreRange,
    /// The same without a length, in chunks.
    IgnoreRangeChunked,
    /// The whole object with status 200, and the connection ends after so many bytes of it.
    IgnoreRangeCut(usize),
    /// The right bytes, said to be compressed.
    Encoded,
    /// A body so many bytes shorter, with a matching length.
    Shorter(usize),
    /// The bit of a byte of the body turned.
    Flip(usize),
    /// The right status, and a body that never ends.
    Endless,
    /// Headers that never end.
    EndlessHeaders,
    /// No answer at all.
    Silent,
}

type Behaviour = dyn Fn(&Request) -> Fault + Send + Sync;

#[derive(Default)]
struct State {
    requests: Vec<Request>,
    bytes: u64,
    in_flight: usize,
    in_flight_max: usize,
    /// Connections, to be ended with the server. Removed when they end: a reset is one only if no other
    /// descriptor keeps the socket open.
    streams: HashMap<usize, TcpStream>,
    stopped: bool,
    /// Answers held back, and how many rounds were let go.
    held: usize,
    rounds: usize,
    quiet: usize,
}

struct Shared {
    dir: PathBuf,
    state: Mutex<State>,
    changed: Condvar,
    behaviour: Mutex<Arc<Behaviour>>,
    in_rounds: bool,
}

/// The server; ends when it is dropped.
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// Ticks of [`TICK`] without a new request after which a round is complete. Ticks and not time, because a
/// machine that stalls stalls the ticker too.
const QUIET_TICKS: usize = 25;
const TICK: Duration = Duration::from_millis(10);

impl Server {
    /// A server of the files below a directory.
    pub fn of(dir: &Path) -> Self {
        Self::start(dir, false, 0)
    }

    /// One that answers in rounds.
    pub fn in_rounds(dir: &Path) -> Self {
        Self::start(dir, true, 0)
    }

    /// One at the port of another that has ended.
    pub fn at(dir: &Path, port: u16) -> Self {
        Self::start(dir, false, port)
    }

    fn start(dir: &Path, in_rounds: bool, port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            dir: dir.to_owned(),
            state: Mutex::default(),
            changed: Condvar::new(),
            behaviour: Mutex::new(Arc::new(|_| Fault::None)),
            in_rounds,
        });
        let mut threads = Vec::new();
        let accepting = Arc::clone(&shared);
        threads.push(std::thread::spawn(move || accepting.accept(&listener)));
        if in_rounds {
            let ticking = Arc::clone(&shared);
            threads.push(std::thread::spawn(move || ticking.tick()));
        }
        Self { address, shared, threads }
    }

    /// Its address, as people write a store.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// What goes wrong from now on.
    pub fn misbehave(&self, behaviour: impl Fn(&Request) -> Fault + Send + Sync + 'static) {
        *self.shared.behaviour.lock().unwrap() = Arc::new(behaviour);
    }

    /// Every request so far.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.lock().requests.clone()
    }

    /// Bytes of bodies so far.
    pub fn bytes(&self) -> u64 {
        self.shared.lock().bytes
    }

    /// The most requests that were answered at the same time.
    pub fn in_flight_max(&self) -> usize {
        self.shared.lock().in_flight_max
    }

    /// Round trips so far; counted only by a server [`in_rounds`](Self::in_rounds).
    pub fn rounds(&self) -> usize {
        self.shared.lock().rounds
    }

    /// Counts from zero again.
    pub fn forget(&self) {
        let mut state = self.shared.lock();
        state.requests.clear();
        (state.bytes, state.in_flight_max, state.rounds) = (0, state.in_flight, 0);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let streams = {
            let mut state = self.shared.lock();
            state.stopped = true;
            std::mem::take(&mut state.streams)
        };
        self.shared.changed.notify_all();
        for stream in streams.into_values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
        // Wakes the accepting thread, which then sees that it is over.
        let _ = TcpStream::connect(self.address);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        let mut threads = Vec::new();
        for number in 0.. {
            let Ok((stream, _)) = listener.accept() else { break };
            {
                let mut state = self.lock();
                if state.stopped {
                    break;
                }
                state.streams.insert(number, stream.try_clone().unwrap());
            }
            let shared = Arc::clone(self);
            threads.push(std::thread::spawn(move || {
                // A client that goes away in the middle is its own affair.
                let _ = shared.converse(&stream);
                shared.lock().streams.remove(&number);
            }));
        }
        for thread in threads {
            let _ = thread.join();
        }
    }

    fn tick(&self) {
        loop {
            std::thread::sleep(TICK);
            let mut state = self.lock();
            if state.stopped {
                return;
            }
            state.quiet += 1;
            if state.held > 0 && state.quiet >= QUIET_TICKS {
                state.rounds += 1;
                state.held = 0;
                self.changed.notify_all();
            }
        }
    }

    fn converse(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut reader = BufReader::new(stream.try_clone()?);
        while let Some(mut request) = read_request(&mut reader)? {
            let behaviour = Arc::clone(&self.behaviour.lock().unwrap());
            {
                let mut state = self.lock();
                request.nth = state.requests.iter().filter(|one| one.path == request.path).count();
                state.requests.push(request.clone());
                state.in_flight += 1;
                state.in_flight_max = state.in_flight_max.max(state.in_flight);
                state.quiet = 0;
                if self.in_rounds {
                    state.held += 1;
                    let round = state.rounds;
                    let going = |state: &mut State| state.rounds == round && !state.stopped;
                    drop(self.changed.wait_while(state, going).unwrap());
                }
            }
            let fault = behaviour(&request);
            let answered = self.answer(stream, &request, &fault);
            self.lock().in_flight -= 1;
            answered?;
        }
        Ok(())
    }

    fn answer(&self, mut stream: &TcpStream, request: &Request, fault: &Fault) -> io::Result<()> {
        match fault {
            Fault::Status(code, headers) => {
                let mut head = format!("HTTP/1.1 {code} Told\r\nContent-Length: 0\r\n");
                for (name, value) in headers {
                    head += &format!("{name}: {value}\r\n");
                }
                return stream.write_all(format!("{head}\r\n").as_bytes());
            }
            Fault::Hangup => return reset(stream),
            Fault::Silent => {
                drop(self.changed.wait_while(self.lock(), |state| !state.stopped).unwrap());
                return Err(io::Error::other("over"));
            }
            Fault::EndlessHeaders => {
                stream.write_all(b"HTTP/1.1 200 OK\r\n")?;
                for n in 0u64.. {
                    stream.write_all(format!("x-{n}: {}\r\n", "y".repeat(100)).as_bytes())?;
                }
            }
            _ => {}
        }
        if matches!(fault, Fault::None) && request.range.is_some() && request.method == "GET" {
            return self.honest(stream, request);
        }
        let Some(object) = self.object(&request.path) else {
            return stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
        };
        let whole =
            matches!(fault, Fault::IgnoreRange | Fault::IgnoreRangeChunked | Fault::IgnoreRangeCut(_));
        let (head, body) = match request.range.filter(|_| !whole) {
            Some((first, last)) => match ranged(&object, first, last, fault) {
                Some(part) => part,
                None => {
                    let head = format!(
                        "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Range: bytes */{}\r\n\
                         Content-Length: 0\r\n\r\n",
                        object.len()
                    );
                    return stream.write_all(head.as_bytes());
                }
            },
            None => ("HTTP/1.1 200 OK\r\n".to_owned(), object.as_slice()),
        };
        let date = "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
        let mut body = body.to_vec();
        if let Fault::Shorter(by) = fault {
            body.truncate(body.len().saturating_sub(*by));
        }
        if let Fault::Flip(at) = fault
            && let Some(byte) = body.get_mut(*at)
        {
            *byte ^= 1;
        }
        let encoding = if matches!(fault, Fault::Encoded) { "Content-Encoding: gzip\r\n" } else { "" };
        let chunked = matches!(fault, Fault::Endless | Fault::IgnoreRangeChunked);
        let length = match chunked {
            true => "Transfer-Encoding: chunked\r\n".to_owned(),
            false => format!("Content-Length: {}\r\n", body.len()),
        };
        stream.write_all(format!("{head}{date}{encoding}{length}\r\n").as_bytes())?;
        if request.method == "HEAD" {
            return Ok(());
        }
        match fault {
            Fault::Endless => loop {
                self.chunk(stream, &body)?;
                self.chunk(stream, &[b'z'; 1000])?;
            },
            Fault::IgnoreRangeChunked => {
                body.chunks(1000).try_for_each(|part| self.chunk(stream, part))?;
                stream.write_all(b"0\r\n\r\n")
            }
            Fault::Cut(after) | Fault::IgnoreRangeCut(after) => {
                self.send(stream, &body[..body.len().min(*after)])?;
                Err(io::Error::other("cut"))
            }
            Fault::Reset(after) => {
                self.send(stream, &body[..body.len().min(*after)])?;
                reset(stream)
            }
            Fault::Slow(bytes, pause) => body.chunks(*bytes).try_for_each(|part| {
                self.send(stream, part)?;
                self.pause(*pause)
            }),
            _ => self.send(stream, &body),
        }
    }

    /// A range straight from its file, so that large objects cost no memory.
    fn honest(&self, mut stream: &TcpStream, request: &Request) -> io::Result<()> {
        let Ok(file) = std::fs::File::open(self.file(&request.path)) else {
            return stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
        };
        let size = file.metadata()?.len();
        let (first, last) = request.range.unwrap();
        if first >= size {
            let head = format!(
                "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Range: bytes */{size}\r\nContent-Length: 0\r\n\r\n"
            );
            return stream.write_all(head.as_bytes());
        }
        let last = last.min(size - 1);
        let length = last - first + 1;
        let head = format!(
            "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {first}-{last}/{size}\r\n\
             Content-Length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes())?;
        let mut part = vec![0; 64 << 10];
        let mut at = first;
        while at <= last {
            let wanted = part.len().min((last - at + 1) as usize);
            let read = file.read_at(&mut part[..wanted], at)?;
            self.send(stream, &part[..read])?;
            at += read as u64;
        }
        Ok(())
    }

    fn file(&self, path: &str) -> PathBuf {
        assert!(!path.contains(".."), "a client asked for {path}");
        self.dir.join(path.replace("%2B", "+"))
    }

    fn object(&self, path: &str) -> Option<Vec<u8>> {
        std::fs::read(self.file(path)).ok()
    }

    fn send(&self, mut stream: &TcpStream, bytes: &[u8]) -> io::Result<()> {
        for part in bytes.chunks(64 << 10) {
            // Before it is sent: whoever has read it may ask for the count at once.
            self.lock().bytes += part.len() as u64;
            stream.write_all(part)?;
        }
        Ok(())
    }

    fn chunk(&self, mut stream: &TcpStream, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        stream.write_all(format!("{:x}\r\n", bytes.len()).as_bytes())?;
        self.send(stream, bytes)?;
        stream.write_all(b"\r\n")
    }

    fn pause(&self, pause: Duration) -> io::Result<()> {
        let state = self.changed.wait_timeout_while(self.lock(), pause, |state| !state.stopped).unwrap().0;
        if state.stopped { Err(io::Error::other("over")) } else { Ok(()) }
    }
}

fn ranged<'a>(object: &'a [u8], first: u64, last: u64, fault: &Fault) -> Option<(String, &'a [u8])> {
    let size = object.len() as u64;
    if first >= size {
        return None;
    }
    let last = last.min(size - 1);
    let shift = if let Fault::WrongRange(by) = fault { *by } else { 0 };
    let head = format!(
        "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {}-{}/{size}\r\n",
        first + shift,
        last + shift
    );
    Some((head, &object[first as usize..=last as usize]))
}

/// Ends a connection so that the other side meets a reset instead of an end.
fn reset(stream: &TcpStream) -> io::Result<()> {
    rustix::net::sockopt::set_socket_linger(stream.as_fd(), Some(Duration::ZERO))?;
    Err(io::Error::other("reset"))
}

fn read_request(reader: &mut BufReader<TcpStream>) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.by_ref().take(64 << 10).read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.by_ref().take(64 << 10).read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let range = headers.get("range").and_then(|text: &String| {
        let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
        Some((first.parse().ok()?, last.parse().ok()?))
    });
    let path = target.trim_start_matches('/').to_owned();
    Ok(Some(Request { method, path, headers, range, nth: 0 }))
}
