//! What a request is about, and whether its sender may. Pure.

use hyper::{Method, StatusCode};
use landfall_store::backend::Key;
use landfall_store::object::ObjectKind;

use super::answer::Refusal;
use super::tokens::{Caller, Role};

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
            Self::Object(_) => "GET, HEAD, PUT, DELETE",
            _ => "GET, HEAD",
        }
    }
}

/// Whether `caller` may do this. Nothing is looked up before, so a refusal says nothing of what exists.
pub fn authorize(gates: Gates, caller: Caller, method: &Method, route: &Route) -> Result<(), Refusal> {
    if *route == Route::Health {
        return reads_only(method, route);
    }
    if caller == Caller::Stranger {
        return Err(Refusal::new(
            StatusCode::UNAUTHORIZED,
            "UnknownToken",
            "this server does not know that token",
        )
        .hint("is it the token of another server, or one that was changed?"));
    }
    if gates.read && caller == Caller::Anonymous {
        return Err(Refusal::new(
            StatusCode::UNAUTHORIZED,
            "TokenNeeded",
            "this server gives nothing without a token",
        )
        .hint("hosts: store_token_file in host.toml; elsewhere LANDFALL_STORE_TOKEN_FILE"));
    }
    match (method, route) {
        (&Method::PUT | &Method::DELETE, Route::Object(_)) => may_write(gates, caller),
        (_, Route::List(_)) => reads_only(method, route).and_then(|()| may_list(gates, caller)),
        _ => reads_only(method, route),
    }
}

fn reads_only(method: &Method, route: &Route) -> Result<(), Refusal> {
    match *method {
        Method::GET | Method::HEAD => Ok(()),
        _ => Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", "not with this method")
            .allow(route.methods())),
    }
}

fn may_write(gates: Gates, caller: Caller) -> Result<(), Refusal> {
    match caller {
        _ if !gates.push => Err(Refusal::new(StatusCode::FORBIDDEN, "ReadOnly", "this server is read-only")
            .hint("start it with --push-token-file FILE to push to it")),
        Caller::Known(Role::Pusher) => Ok(()),
        Caller::Known(Role::Reader) => {
            Err(Refusal::new(StatusCode::FORBIDDEN, "PushTokenNeeded", "a read token does not allow to push"))
        }
        _ => Err(Refusal::new(StatusCode::UNAUTHORIZED, "TokenNeeded", "pushing needs a token")
            .hint("LANDFALL_STORE_TOKEN_FILE or --token-file names the file that holds it")),
    }
}

fn may_list(gates: Gates, caller: Caller) -> Result<(), Refusal> {
    match caller {
        Caller::Known(_) => Ok(()),
        _ if !gates.push && !gates.read => Err(Refusal::new(
            StatusCode::FORBIDDEN,
            "NoTokens",
            "listing needs a token, and this server has none",
        )
        .hint("start it with --read-token-file FILE")),
        _ => Err(Refusal::new(StatusCode::UNAUTHORIZED, "TokenNeeded", "listing needs a token")),
    }
}

/// Whether `caller` may read what only the store's owner may.
pub fn may_read_private(gates: Gates, caller: Caller) -> Result<(), Refusal> {
    const WHY: &str = "env layers hold secrets: they are given to holders of a token only";
    match caller {
        Caller::Known(_) => Ok(()),
        _ if !gates.push && !gates.read => Err(Refusal::new(StatusCode::FORBIDDEN, "Private", WHY)
            .hint("start the server with --read-token-file FILE, and give hosts the token")),
        _ => Err(Refusal::new(StatusCode::UNAUTHORIZED, "Private", WHY)
            .hint("hosts: store_token_file in host.toml; elsewhere LANDFALL_STORE_TOKEN_FILE")),
    }
}

#[cfg(test)]
mod tests {
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

    /// Who may do what, in each way a server can be started.
    #[test]
    fn each_caller_may_do_exactly_what_the_table_says() {
        use Caller::{Anonymous, Known, Stranger};
        let list = Route::of("/", Some("list=packs"));
        let open = Gates { push: false, read: false };
        let pushed = Gates { push: true, read: false };
        let closed = Gates { push: true, read: true };
        let (reader, pusher) = (Known(Role::Reader), Known(Role::Pusher));
        for (gates, caller, reads, lists, writes, private) in [
            (open, Anonymous, 0, 403, 403, 403),
            (open, Stranger, 401, 401, 401, 403),
            (pushed, Anonymous, 0, 401, 401, 401),
            (pushed, Stranger, 401, 401, 401, 401),
            (pushed, pusher, 0, 0, 0, 0),
            (closed, Anonymous, 401, 401, 401, 401),
            (closed, Stranger, 401, 401, 401, 401),
            (closed, reader, 0, 0, 403, 0),
            (closed, pusher, 0, 0, 0, 0),
        ] {
            let status =
                |result: Result<(), Refusal>| result.err().map_or(0, |refusal| refusal.status().as_u16());
            let asked = |method: Method, route: &Route| status(authorize(gates, caller, &method, route));
            let all = (
                asked(Method::GET, &pack()),
                asked(Method::GET, &list),
                asked(Method::PUT, &pack()),
                status(may_read_private(gates, caller)),
            );
            assert_eq!(all, (reads, lists, writes, private), "{gates:?} {caller:?}");
            assert_eq!(asked(Method::DELETE, &pack()), writes);
            assert_eq!(asked(Method::GET, &Route::Unknown), reads, "no hint about what exists");
            assert_eq!(asked(Method::GET, &Route::Health), 0);
        }
    }

    #[test]
    fn other_methods_are_refused_everywhere() {
        let gates = Gates { push: true, read: false };
        for route in [pack(), Route::Health, Route::Metrics, Route::Unknown] {
            for method in [Method::POST, Method::PATCH, Method::OPTIONS, Method::TRACE, Method::CONNECT] {
                let refused = authorize(gates, Caller::Known(Role::Pusher), &method, &route).unwrap_err();
                assert_eq!(refused.status(), StatusCode::METHOD_NOT_ALLOWED);
            }
        }
        assert!(authorize(gates, Caller::Known(Role::Pusher), &Method::PUT, &Route::Metrics).is_err());
    }
}
