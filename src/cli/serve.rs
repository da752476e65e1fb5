//! `landfall serve`: a store over HTTP.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use super::Outcome;
use super::context::{Context, store_error};
use super::error::CliError;
use super::exit::Exit;
use crate::document::units;
use crate::serve::{Certificate, Ended, ServeError, Server, Settings, limits};

const EXAMPLES: &str = "\
Examples:
  landfall serve /srv/artifacts                     to this machine only, read-only
  landfall serve /srv/artifacts --listen 0.0.0.0:8443 \\
    --tls-cert cert.pem --tls-key key.pem \\
    --push-token-file push.token --read-token-file read.token \\
    --report-token-file report.tokens

Hosts: store = \"https://artifacts.internal:8443\" in host.toml.
Build machines: LANDFALL_STORE_TOKEN_FILE=push.token landfall push --all --to https://artifacts.internal:8443

A token file holds a token a line (`openssl rand -hex 32`); several lines are valid at once, so that a token can
be changed without a gap. In the file of --report-token-file the host's name stands before its token
(`web-1 4f1c…`; `*` for every host): with it the host writes its own reports below status/, and nothing else. A
token in several files allows what each of them says. Token and certificate files are read again when they
change.";

/// Serve a store over HTTP to hosts, and take pushes and hosts' reports.
///
/// Any static web server can serve a store to hosts; this one needs no configuration, and takes pushes. Without
/// options it is read-only and gives env layers, which hold secrets, to nobody. SIGTERM and SIGINT end it when
/// running requests are answered; a second one ends it at once.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Serve {
    /// The store's directory [default: the store of every command].
    #[arg(value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Address and port; port 0 takes a free one, which is printed.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// The tokens that allow to push, and to remove what is collected [default: nobody pushes].
    #[arg(long, value_name = "FILE")]
    pub push_token_file: Option<PathBuf>,
    /// The tokens that allow to read [default: everybody reads, except env layers and reports].
    #[arg(long, value_name = "FILE")]
    pub read_token_file: Option<PathBuf>,
    /// Hosts and their tokens, which allow each to leave its own reports [default: no host reports].
    #[arg(long, value_name = "FILE")]
    pub report_token_file: Option<PathBuf>,
    /// The certificate and its chain, PEM.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's private key, PEM.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Let tokens travel without TLS beyond this machine: only behind a proxy that ends TLS, on a network that
    /// nobody else is in.
    #[arg(long)]
    pub insecure_tokens_in_clear: bool,
    /// Connections at a time; others are told to come again.
    #[arg(long, value_name = "NUMBER", default_value_t = limits::CONNECTIONS)]
    pub max_connections: usize,
    /// Bytes of one upload, such as 4GiB. A file of a layer that is larger cannot be pushed.
    #[arg(long, value_name = "SIZE", value_parser = units::size, default_value = "16GiB")]
    pub max_upload: u64,
}

/// Runs the command.
pub fn run(args: &Serve, context: &Context) -> Outcome {
    let settings = settings(args, context)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|error| {
        CliError::new(Exit::Error, "Runtime", format!("the system gave no event queue: {error}"))
    })?;
    let ended = runtime.block_on(async {
        let server = Server::bind(&settings).await.map_err(serve_error)?;
        let url = server.url();
        context.report.say(format!("serving {}: {}", settings.dir.display(), said(&settings)));
        context.report.line(&url);
        Ok(server.run().await)
    })?;
    // Uploads whose connection is gone are given up: what they wrote has no key.
    runtime.shutdown_background();
    Ok(match ended {
        Ended::InOrder => Exit::Done,
        Ended::AtOnce => Exit::Interrupted,
    })
}

fn settings(args: &Serve, context: &Context) -> Result<Settings, CliError> {
    let dir = match &args.dir {
        Some(dir) => dir.clone(),
        None => {
            let store = context.store()?;
            store.dir().map(ToOwned::to_owned).ok_or_else(|| {
                CliError::new(
                    Exit::Usage,
                    "NotADirectory",
                    format!("{store} is not a directory: nothing to serve"),
                )
                .hint("give the store's directory: `landfall serve /srv/artifacts`")
            })?
        }
    };
    let certificate = args.tls_cert.clone().zip(args.tls_key.clone());
    Ok(Settings {
        dir,
        listen: args.listen,
        push_tokens: args.push_token_file.clone(),
        read_tokens: args.read_token_file.clone(),
        report_tokens: args.report_token_file.clone(),
        certificate: certificate.map(|(chain, key)| Certificate { chain, key }),
        tokens_in_clear: args.insecure_tokens_in_clear,
        connections: args.max_connections,
        upload_bytes: args.max_upload,
    })
}

fn said(settings: &Settings) -> String {
    let who = match (settings.push_tokens.is_some(), settings.read_tokens.is_some()) {
        (false, false) => "read-only, env layers to nobody (no --read-token-file)",
        (false, true) => "read-only, to holders of a read token",
        (true, false) => "to everybody except env layers; pushes with a token",
        (true, true) => "to holders of a token; pushes with a push token",
    };
    let reports = if settings.report_tokens.is_some() { "; reports of hosts with theirs" } else { "" };
    format!("{who}{reports}")
}

fn serve_error(error: ServeError) -> CliError {
    match error {
        ServeError::Store(error) => store_error(error),
        ServeError::File(_) => CliError::new(Exit::Invalid, "FileUnusable", error),
        ServeError::InClear(_) => CliError::new(Exit::Usage, "TokensInClear", error).hint(
            "give --tls-cert and --tls-key, or listen on 127.0.0.1 behind a proxy that ends TLS, or say \
             --insecure-tokens-in-clear",
        ),
        ServeError::ReadOnly(_) => CliError::new(Exit::Error, "StoreReadOnly", error).hint(
            "run the server as the user who owns the store's directory, or without --push-token-file and \
                   --report-token-file",
        ),
        ServeError::Listen { .. } => CliError::new(Exit::Error, "CannotListen", error),
        ServeError::Signals(_) => CliError::new(Exit::Error, "Signals", error),
    }
}
