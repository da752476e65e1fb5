//! One GET on a connection of its own: never a pooled one, which would hide a replaced server.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Longer than any page here takes, short enough to end a test that hangs.
const LIMIT: Duration = Duration::from_secs(60);

/// What a server answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {}", self.body))
    }
}

/// Asks a local server for a path.
pub fn get(port: u16, path: &str) -> Result<Answer, String> {
    get_from(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port), path)
}

/// Asks a server for a path.
pub fn get_from(server: SocketAddrV4, path: &str) -> Result<Answer, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        tokio::time::timeout(LIMIT, ask(server, path))
            .await
            .map_err(|_| format!("no answer within {LIMIT:?}"))?
    })
}

async fn ask(server: SocketAddrV4, path: &str) -> Result<Answer, String> {
    let stream = TcpStream::connect(server).await.map_err(|error| error.to_string())?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    let request = hyper::Request::get(path)
        .header("host", server.to_string())
        .header("connection", "close")
        .body(Empty::<Bytes>::new())
        .expect("a request of constants");
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
        Ok(Answer { status, body: String::from_utf8_lossy(&body).into_owned() })
    };
    // A server may end the connection before or after its answer is read: only the answer counts.
    let (answer, _) = tokio::join!(exchange, connection);
    answer
}
