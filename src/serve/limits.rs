//! Every bound of the server, each with its reason.

use std::time::Duration;

/// Connections at a time where nobody says otherwise: a host has at most 8, so 64 hosts fetch at once.
pub const CONNECTIONS: usize = 512;
/// Connections beyond those that are still told to come again later, before one is just closed.
pub const TURNED_AWAY: usize = 64;
/// Uploads at a time: each has a thread and a file.
pub const UPLOADS: usize = 16;
/// Uploads that are proved at a time: the proof of one may take some hundred MiB of memory.
pub const PROOFS: usize = 2;
/// Bytes of one upload where nobody says otherwise. A pack has 32 MiB, or one file of a layer.
pub const UPLOAD_BYTES: u64 = 16 << 30;
/// Bytes that an upload leaves free on the disk: so much is needed to collect, and to log that it is full.
pub const SPARE_BYTES: u64 = 64 << 20;
/// Bytes of a request's head.
pub const HEAD_BYTES: usize = 16 << 10;
/// Header lines of a request.
pub const HEADERS: usize = 64;
/// Bytes that are buffered for one connection.
pub const BUFFER_BYTES: usize = 64 << 10;
/// Time for a request's head, and for which a connection may rest between two: longer than clients keep one.
pub const HEAD_TIME: Duration = Duration::from_secs(60);
/// Time for TLS to agree on a key.
pub const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// Time for a request and its answer, beside that for their bytes.
pub const REQUEST_TIME: Duration = Duration::from_secs(120);
/// Bytes a second that a peer must take or send: whoever is slower gives up his place and comes again.
pub const SLOWEST_BYTES_A_SECOND: u64 = 64 << 10;
/// Time for telling a connection that there is no room.
pub const TURNING_AWAY_TIME: Duration = Duration::from_secs(5);
/// Time that running requests have to end when the server stops.
pub const STOP_TIME: Duration = Duration::from_secs(30);
/// Seconds after which a client that was turned away may come again.
pub const RETRY_AFTER_SECONDS: u64 = 5;
/// Bytes read from a file at a time.
pub const CHUNK_BYTES: usize = 256 << 10;
/// Parts of an upload between the network and its file.
pub const CHUNKS_AHEAD: usize = 4;
/// Bytes of a refused upload that are read all the same, so that its sender comes to read the answer.
pub const DRAINED_BYTES: u64 = 64 << 20;
/// Bytes of a token file.
pub const TOKEN_FILE_BYTES: u64 = 64 << 10;
/// Tokens of one file: two are needed to change one without a gap.
pub const TOKENS: usize = 64;
/// Bytes of the file with the hosts' tokens.
pub const HOST_TOKEN_FILE_BYTES: u64 = 1 << 20;
/// Hosts' tokens: more hosts than one store is for.
pub const HOST_TOKENS: usize = 8192;
/// Reports that are taken at a time, beside the uploads of pushes: neither keeps the other out.
pub const REPORTS: usize = 16;
/// Documents of one host: a hundred apps with ten thousand attempts each.
pub const REPORTS_OF_HOST: usize = 5_000;
/// Bytes of them: four thousand documents of histories, which have about 256 KiB each.
pub const REPORT_BYTES_OF_HOST: u64 = 1 << 30;
/// Documents of all hosts, where one token may name any.
pub const REPORTS_OF_ALL: usize = 200_000;
/// Characters of a token: fewer can be guessed.
pub const TOKEN_CHARS_MIN: usize = 20;
/// How often files given on the command line are looked at, at most.
pub const LOOK_AGAIN: Duration = Duration::from_secs(1);
