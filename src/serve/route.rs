//! What a request is about, and whether its sender may. Pure.

use hyper::{Method, StatusCode};
use landfall_store::backend::Key;
use landfall_store::object::ObjectKind;
use landfall_store::reports::Document;

use super::answer::Refusal;
use super::tokens::{Caller, Rights};

const WHERE_TOKENS_GO: &str = "hosts: store_token_file in host.toml; elsewhere LANDFALL_STORE_TOKEN_FILE";

/// What a path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// Whether the server can do its work.
    Health,
    /// Numbers about it.
    Metrics,
    /// The objects below a directory of the store.
    List(Key),
    /// An object of the store, whether it exists or not.
    Object(ObjectKind),
    /// Nothing that could exist.
    Unknown,
}

/// What the server was started with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gates {
    /// Whether anybody may push.
    pub push: bool,
    /// Whether reading needs a token.
    pub read: bool,
    /// Whether any host may report.
    pub report: bool,
}

impl Gates {
    /// Whether there is a token that allows to read everything.
    const fn knows_readers(self) -> bool {
        self.push || self.read
    }
}

impl Route {
    /// Reads a path and its query. Of a key's characters only `+` is ever percent-encoded, by clients that fear
    /// for it; a path with another escape names nothing.
    pub fn of(path: &str, query: Option<&str>) -> Self {
        match (path, query) {
            ("/healthz", _) => Self::Health,
            ("/metrics", _) => Self::Metrics,
            ("/", Some(query)) => query
                .strip_prefix("list=")
                .map(|under| under.replace("%2F", "/").replace("%2f", "/"))
                .and_then(|under| Key::new(under.trim_end_matches('/')).ok())
                .map_or(Self::Unknown, Self::List),
            (path, _) => path
                .strip_prefix('/')
                .and_then(|path| Key::new(path.replace("%2B", "+")).ok())
                .and_then(|key| ObjectKind::of(&key))
                .map_or(Self::Unknown, Self::Object),
        }
    }

    /// The methods it knows, for `Allow`.
    const fn methods(&self) -> &'static str {
        match self {
            Self::Object(ObjectKind::Report(_)) => "GET, HEAD, PUT",
            Self::Object(_) => "GET, HEAD, PUT, DELETE",
            _ => "GET, HEAD",
        }
    }
}

/// Whether `caller` may do this. Nothing is looked up before, so a refusal says nothing of what exists.
pub fn authorize(gates: Gates, caller: &Caller, method: &Method, route: &Route) -> Result<(), Refusal> {
    if *route == Route::Health {
        return reads_only(method, route);
    }
    if *caller == Caller::Stranger {
        return Err(Refusal::new(
            StatusCode::UNAUTHORIZED,
            "UnknownToken",
            "this server does not know that token",
        )
        .hint("is it the token of another server, or one that was changed?"));
    }
    if gates.read && *caller == Caller::Anonymous {
        return Err(Refusal::new(
            StatusCode::UNAUTHORIZED,
            "TokenNeeded",
            "this server gives nothing without a token",
        )
        .hint(WHERE_TOKENS_GO));
    }
    match (method, route) {
        (&Method::PUT, Route::Object(ObjectKind::Report(document))) => {
            return may_report(gates, caller, document);
        }
        (&Method::PUT | &Method::DELETE, Route::Object(kind)) if !matches!(kind, ObjectKind::Report(_)) => {
            return may_write(gates, caller);
        }
        _ => reads_only(method, route)?,
    }
    match (caller, route) {
        (_, Route::List(_)) => may_list(gates, caller),
        (Caller::Known(rights), Route::Object(ObjectKind::Report(document)))
            if rights.reports_for(document.host()) =>
        {
            Ok(())
        }
        (_, Route::Object(ObjectKind::Report(_))) => may_read_private(gates, caller),
        // Whoever reports looks whether this is a store.
        (_, Route::Object(ObjectKind::Record)) => Ok(()),
        (Caller::Known(rights), _) if gates.read && !rights.reads() => Err(read_token_needed()),
        _ => Ok(()),
    }
}

fn reads_only(method: &Method, route: &Route) -> Result<(), Refusal> {
    match *method {
        Method::GET | Method::HEAD => Ok(()),
        _ => Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", "not with this method")
            .allow(route.methods())),
    }
}

fn may_write(gates: Gates, caller: &Caller) -> Result<(), Refusal> {
    match caller {
        _ if !gates.push => Err(Refusal::new(StatusCode::FORBIDDEN, "ReadOnly", "this server is read-only")
            .hint("start it with --push-token-file FILE to push to it")),
        Caller::Known(Rights { push: true, .. }) => Ok(()),
        Caller::Known(rights) => {
            let what = if rights.read { "read" } else { "report" };
            let why = format!("a {what} token does not allow to push");
            Err(Refusal::new(StatusCode::FORBIDDEN, "PushTokenNeeded", why))
        }
        _ => Err(Refusal::new(StatusCode::UNAUTHORIZED, "TokenNeeded", "pushing needs a token")
            .hint("LANDFALL_STORE_TOKEN_FILE or --token-file names the file that holds it")),
    }
}

fn may_report(gates: Gates, caller: &Caller, document: &Document) -> Result<(), Refusal> {
    let host = document.host();
    match caller {
        _ if !gates.report => {
            Err(Refusal::new(StatusCode::FORBIDDEN, "NoReports", "this server takes no reports of hosts")
                .hint("start it with --report-token-file FILE"))
        }
        Caller::Known(rights) if rights.reports_for(host) => Ok(()),
        Caller::Known(Rights { report: Some(_), .. }) => Err(Refusal::new(
            StatusCode::FORBIDDEN,
            "OtherHost",
            format!("this token is for the reports of another host than {host}"),
        )),
        Caller::Known(_) => Err(Refusal::new(
            StatusCode::FORBIDDEN,
            "ReportTokenNeeded",
            format!("this token does not allow to report for {host}"),
        )
        .hint("a line with the host's name and token in the file of --report-token-file does")),
        _ => Err(Refusal::new(StatusCode::UNAUTHORIZED, "TokenNeeded", "reporting needs a token")
            .hint("token_file under [report] in host.toml names the file that holds it")),
    }
}

fn may_list(gates: Gates, caller: &Caller) -> Result<(), Refusal> {
    match caller {
        Caller::Known(rights) if rights.reads() => Ok(()),
        Caller::Known(_) => Err(read_token_needed()),
        _ if !gates.knows_readers() => Err(Refusal::new(
            StatusCode::FORBIDDEN,
            "NoTokens",
            "listing needs a token, and this server has none",
        )
        .hint("start it with --read-token-file FILE")),
        _ => Err(Refusal::new(StatusCode::UNAUTHORIZED, "TokenNeeded", "listing needs a token")),
    }
}

fn read_token_needed() -> Refusal {
    Refusal::new(
        StatusCode::FORBIDDEN,
        "ReadTokenNeeded",
        "a host's report token allows to report, not to read",
    )
    .hint("a line with it in the file of --read-token-file allows both")
}

/// Whether `caller` may read what only the store's owner may.
pub fn may_read_private(gates: Gates, caller: &Caller) -> Result<(), Refusal> {
    const WHY: &str = "env layers and reports of hosts are given to holders of a token only";
    match caller {
        Caller::Known(rights) if rights.reads() => Ok(()),
        Caller::Known(_) => Err(read_token_needed()),
        _ if !gates.knows_readers() => Err(Refusal::new(StatusCode::FORBIDDEN, "Private", WHY)
            .hint("start the server with --read-token-file FILE, and give hosts the token")),
        _ => Err(Refusal::new(StatusCode::UNAUTHORIZED, "Private", WHY).hint(WHERE_TOKENS_GO)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tokens::Whose;
    use super::*;

    const HEX: &str = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";

    fn pack() -> Route {
        Route::of(&format!("/packs/af/{HEX}.lfp"), None)
    }

    #[test]
    fn paths_of_objects_are_known_and_no_others() {
        assert!(matches!(pack(), Route::Object(ObjectKind::Pack(_))));
        assert_eq!(Route::of("/refs/web/1%2Bb.json", None), Route::of("/refs/web/1+b.json", None));
        assert!(matches!(Route::of("/refs/web/1.4.0.json", None), Route::Object(ObjectKind::Reference(..))));
        assert_eq!(Route::of("/", Some("list=refs%2Fweb")), Route::List(Key::new("refs/web").unwrap()));
        assert_eq!(Route::of("/healthz", Some("x")), Route::Health);
        for bad in [
            "/",
            "//landfall-store.json",
            "/../etc/passwd",
            "/packs/../landfall-store.json",
            "/packs/%2e%2e/x",
            "/.git/config",
            "/packs/.new-1-2-3",
            "/backup.tar",
            "/packs/af",
            "/refs/web",
            "landfall-store.json",
            &format!("/packs/ff/{HEX}.lfp"),
            &format!("/packs/af/{}.lfp", HEX.to_uppercase()),
            &format!("/packs/af/x/{HEX}.lfp"),
        ] {
            assert_eq!(Route::of(bad, None), Route::Unknown, "{bad}");
        }
        for bad in ["", "list=", "list=..", "list=/etc", "list=a&list=b", "LIST=a"] {
            assert_eq!(Route::of("/", Some(bad)), Route::Unknown, "{bad}");
        }
    }

    fn status(result: Result<(), Refusal>) -> u16 {
        result.err().map_or(0, |refusal| refusal.status().as_u16())
    }

    fn host(name: &str) -> Caller {
        let report = Some(Whose::Host(name.parse().unwrap()));
        Caller::Known(Rights { report, ..Rights::default() })
    }

    const fn reader() -> Caller {
        Caller::Known(Rights { read: true, push: false, report: None })
    }

    const fn pusher() -> Caller {
        Caller::Known(Rights { read: false, push: true, report: None })
    }

    /// Who may do what, in each way a server can be started.
    #[test]
    fn each_caller_may_do_exactly_what_the_table_says() {
        use Caller::{Anonymous, Stranger};
        let list = Route::of("/", Some("list=packs"));
        let gates = |push, read| Gates { push, read, report: false };
        let (open, pushed, closed) = (gates(false, false), gates(true, false), gates(true, true));
        for (gates, caller, reads, lists, writes, private) in [
            (open, Anonymous, 0, 403, 403, 403),
            (open, Stranger, 401, 401, 401, 403),
            (pushed, Anonymous, 0, 401, 401, 401),
            (pushed, Stranger, 401, 401, 401, 401),
            (pushed, pusher(), 0, 0, 0, 0),
            (closed, Anonymous, 401, 401, 401, 401),
            (closed, Stranger, 401, 401, 401, 401),
            (closed, reader(), 0, 0, 403, 0),
            (closed, pusher(), 0, 0, 0, 0),
            // Of artifacts a host's report token allows what no token does.
            (open, host("web-1"), 0, 403, 403, 403),
            (pushed, host("web-1"), 0, 403, 403, 403),
            (closed, host("web-1"), 403, 403, 403, 403),
        ] {
            let asked = |method: Method, route: &Route| status(authorize(gates, &caller, &method, route));
            let all = (
                asked(Method::GET, &pack()),
                asked(Method::GET, &list),
                asked(Method::PUT, &pack()),
                status(may_read_private(gates, &caller)),
            );
            assert_eq!(all, (reads, lists, writes, private), "{gates:?} {caller:?}");
            assert_eq!(asked(Method::DELETE, &pack()), writes);
            assert_eq!(asked(Method::GET, &Route::Unknown), reads, "no hint about what exists");
            assert_eq!(asked(Method::GET, &Route::Health), 0);
        }
    }

    #[test]
    fn a_report_is_written_by_its_host_alone_and_read_by_whoever_reads_everything() {
        use Caller::{Anonymous, Stranger};
        let report = Route::of("/status/web-1/prod/host.json", None);
        let history = Route::of("/status/web-1/prod/web/history-000000.ndjson", None);
        let any = Caller::Known(Rights { report: Some(Whose::Any), ..Rights::default() });
        let gates = |push, read, report| Gates { push, read, report };
        for (gates, caller, reads, writes) in [
            (gates(true, true, true), Anonymous, 401, 401),
            (gates(true, true, true), Stranger, 401, 401),
            (gates(true, true, true), reader(), 0, 403),
            (gates(true, true, true), pusher(), 0, 403),
            (gates(true, true, true), host("web-1"), 0, 0),
            (gates(true, true, true), host("web-2"), 403, 403),
            (gates(true, true, true), any.clone(), 0, 0),
            (gates(false, false, true), Anonymous, 403, 401),
            (gates(false, false, true), host("web-1"), 0, 0),
            (gates(true, false, true), Anonymous, 401, 401),
            (gates(true, true, false), pusher(), 0, 403),
            (gates(false, false, false), Anonymous, 403, 403),
        ] {
            for route in [&report, &history] {
                let asked = |method: Method| status(authorize(gates, &caller, &method, route));
                assert_eq!((asked(Method::GET), asked(Method::PUT)), (reads, writes), "{gates:?} {caller:?}");
                assert!(asked(Method::DELETE) > 400, "what a host said is removed by nobody");
            }
        }
        let record = Route::of("/landfall-store.json", None);
        assert!(authorize(gates(true, true, true), &host("web-1"), &Method::GET, &record).is_ok());
    }

    #[test]
    fn other_methods_are_refused_everywhere() {
        let gates = Gates { push: true, read: false, report: true };
        for route in [pack(), Route::Health, Route::Metrics, Route::Unknown] {
            for method in [Method::POST, Method::PATCH, Method::OPTIONS, Method::TRACE, Method::CONNECT] {
                let refused = authorize(gates, &pusher(), &method, &route).unwrap_err();
                assert_eq!(refused.status(), StatusCode::METHOD_NOT_ALLOWED);
            }
        }
        assert!(authorize(gates, &pusher(), &Method::PUT, &Route::Metrics).is_err());
    }
}
