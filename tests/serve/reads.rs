//! What the server gives, and to whom.

use std::fs;

use super::server::*;

fn packed(options: &[&str]) -> Served {
    let dir = tempfile::tempdir().unwrap();
    pack(&dir.path().join("store"), "1.0.0", 300_000);
    Served::of(dir, options)
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

#[test]
fn an_object_is_given_whole_and_in_single_ranges() {
    let server = packed(&[]);
    let key = object(&server.store(), "packs/", ".idx").replace(".idx", ".lfp");
    let bytes = fs::read(server.store().join(&key)).unwrap();
    let (path, size) = (format!("/{key}"), bytes.len());
    let range = |range: &str| server.get(&path, &[("Range", range)]);

    let whole = server.get(&path, &[]);
    assert_eq!((whole.status, &whole.body), (200, &bytes));
    assert_eq!(whole.header("Content-Length"), Some(size.to_string().as_str()));
    assert_eq!(whole.header("Accept-Ranges"), Some("bytes"));
    assert_eq!(whole.header("Content-Encoding"), None);

    let part = range("bytes=10-29");
    assert_eq!((part.status, part.body.as_slice()), (206, &bytes[10..30]));
    assert_eq!(part.header("Content-Range"), Some(format!("bytes 10-29/{size}").as_str()));
    assert_eq!(range("bytes=-5").body, &bytes[size - 5..]);
    assert_eq!(range(&format!("bytes={}-", size - 1)).body, &bytes[size - 1..]);
    let beyond = range(&format!("bytes={size}-"));
    assert_eq!(
        (beyond.status, beyond.header("Content-Range")),
        (416, Some(format!("bytes */{size}").as_str()))
    );
    assert_eq!(range("bytes=0-1,5-6").status, 200, "several ranges are answered with everything");
    assert_eq!(range("lines=1-2").status, 200);

    let tag = whole.header("ETag").unwrap();
    let part = |validator: &str| server.get(&path, &[("Range", "bytes=0-3"), ("If-Range", validator)]).status;
    assert_eq!((part(tag), part(whole.header("Last-Modified").unwrap()), part("\"other\"")), (206, 206, 200));

    let head = super::client::ask(server.at, "HEAD", &path, &[("Range", "bytes=0-3")], b"");
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("Content-Length"), Some(size.to_string().as_str()));
}

#[test]
fn caches_are_told_what_never_changes_and_what_to_ask_for_again() {
    let server = packed(&[]);
    for key in objects(&server.store()).iter().filter(|key| !is_private(&server.store(), key)) {
        let answer = server.get(&format!("/{key}"), &[]);
        assert_eq!(answer.status, 200, "{key}");
        let immutable = !["landfall-store", "loc/", "refs/"].iter().any(|begin| key.starts_with(begin));
        let expected = if immutable { "public, max-age=31536000, immutable" } else { "no-cache" };
        assert_eq!(answer.header("Cache-Control"), Some(expected), "{key}");
        let tag = answer.header("ETag").unwrap();
        let again = server.get(&format!("/{key}"), &[("If-None-Match", tag)]);
        assert_eq!((again.status, again.body.len()), (304, 0), "{key}");
        assert_eq!(again.header("ETag"), Some(tag));
    }
    let key = object(&server.store(), "refs/", ".json");
    let tag = server.get(&format!("/{key}"), &[]).header("ETag").unwrap().to_owned();
    let path = server.store().join(&key);
    let text = fs::read_to_string(&path).unwrap().replace("\"seq\":1", "\"seq\":2");
    fs::write(&path, text).unwrap();
    assert_eq!(
        server.get(&format!("/{key}"), &[("If-None-Match", &tag)]).status,
        200,
        "its bytes are others now"
    );
    let missing = server.get("/refs/web/9.json", &[]);
    assert_eq!((missing.status, missing.header("Cache-Control")), (404, Some("no-store")));
}

#[test]
fn what_is_no_object_of_a_store_does_not_exist() {
    let server = packed(&[]);
    fs::write(server.store().join(".hidden"), "x").unwrap();
    fs::write(server.store().join("backup.tar"), "x").unwrap();
    fs::write(server.store().join("packs/.new-1-2-3"), "x").unwrap();
    std::os::unix::fs::symlink("/etc", server.store().join("refs/etc")).unwrap();
    for path in [
        "/",
        "/.hidden",
        "/backup.tar",
        "/packs",
        "/packs/",
        "/packs/.new-1-2-3",
        "/refs/etc/hostname",
        "/../log",
        "/%2e%2e/log",
        "/packs/../landfall-store.json",
        "//landfall-store.json",
        "/landfall-store.json/",
        "/landfall-store.json%00",
        "/?list=..",
    ] {
        let answer = server.get(path, &[]);
        assert_eq!((answer.status, answer.json()["reason"].as_str()), (404, Some("NotFound")), "{path}");
    }
}

#[test]
fn an_env_layer_is_given_to_nobody_without_a_token() {
    let open = packed(&[]);
    let private: Vec<_> =
        objects(&open.store()).into_iter().filter(|key| is_private(&open.store(), key)).collect();
    assert!(private.len() >= 2, "a tree and a pack: {private:?}");
    let pushed = packed(&["--push-token-file", "PUSH"]);
    for key in &private {
        let refused = open.get(&format!("/{key}"), &[]);
        assert_eq!((refused.status, refused.json()["reason"].as_str()), (403, Some("Private")), "{key}");
        assert!(refused.json()["hint"].as_str().unwrap().contains("--read-token-file"));
        assert_eq!(pushed.get(&format!("/{key}"), &[]).status, 401, "{key}");
        let given = pushed.get(&format!("/{key}"), &[("Authorization", &bearer(PUSH_TOKEN))]);
        assert_eq!(given.body, fs::read(pushed.store().join(key)).unwrap());
        assert_eq!(given.header("Cache-Control"), Some("private, max-age=31536000, immutable"));
    }
}

#[test]
fn a_server_with_read_tokens_says_nothing_of_what_exists() {
    let server = packed(&["--read-token-file", "READ"]);
    let mut answers = Vec::new();
    for path in
        objects(&server.store()).into_iter().chain(["refs/web/9.json".to_owned(), "nothing".to_owned()])
    {
        let anonymous = server.get(&format!("/{path}"), &[]);
        let stranger =
            server.get(&format!("/{path}"), &[("Authorization", &bearer("some-other-token-of-good-length"))]);
        assert_eq!((anonymous.status, stranger.status), (401, 401), "{path}");
        assert!(anonymous.header("WWW-Authenticate").unwrap().starts_with("Bearer"));
        answers.push((anonymous.body, stranger.body));
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "one answer for everything");
    let key = object(&server.store(), "artifacts/", ".json");
    let given = server.get(&format!("/{key}"), &[("Authorization", &bearer(READ_TOKEN))]);
    assert_eq!(given.body, fs::read(server.store().join(key)).unwrap());
    assert_eq!(server.get("/healthz", &[]).status, 200, "whether it lives is no secret");
    assert_eq!(server.get("/metrics", &[]).status, 401);
}

#[test]
fn a_list_has_every_object_and_needs_a_token() {
    let server = packed(&["--push-token-file", "PUSH", "--read-token-file", "READ"]);
    for token in [PUSH_TOKEN, READ_TOKEN] {
        let list = server.get("/?list=packs", &[("Authorization", &bearer(token))]).json();
        let keys = list["items"].as_array().unwrap().iter().map(|item| item["key"].as_str().unwrap());
        let packs: Vec<_> =
            objects(&server.store()).into_iter().filter(|key| key.starts_with("packs/")).collect();
        assert_eq!(keys.collect::<Vec<_>>(), packs);
    }
    assert_eq!(packed(&[]).get("/?list=packs", &[]).json()["reason"], "NoTokens");
}

#[test]
fn tokens_are_changed_without_a_restart_and_without_a_gap() {
    let server = packed(&["--read-token-file", "READ"]);
    let next = "next-token-of-a-good-length-too";
    let status =
        |token: &str| server.get("/landfall-store.json", &[("Authorization", &bearer(token))]).status;
    assert_eq!((status(READ_TOKEN), status(next)), (200, 401));
    let both = format!("{READ_TOKEN}\n{next}\n");
    token_file(server.dir.path(), "read", &both);
    super::support::wait::wait_until("the new token", LIMIT, || status(next) == 200);
    assert_eq!(status(READ_TOKEN), 200);
    token_file(server.dir.path(), "read", next);
    super::support::wait::wait_until("the end of the old one", LIMIT, || status(READ_TOKEN) == 401);
    assert_eq!(status(next), 200);
    token_file(server.dir.path(), "read", "");
    super::support::wait::wait_until("the complaint", LIMIT, || {
        status(next);
        server.log().contains("what was read before stays in force")
    });
    assert_eq!(status(next), 200, "a file without a token changes nothing");
}

#[test]
fn a_hundred_readers_at_once_get_the_right_bytes() {
    let server = packed(&[]);
    let key = object(&server.store(), "packs/", ".idx").replace(".idx", ".lfp");
    let bytes = fs::read(server.store().join(&key)).unwrap();
    std::thread::scope(|scope| {
        for reader in 0..100usize {
            let (server, bytes, key) = (&server, &bytes, &key);
            scope.spawn(move || {
                let first = reader * 1000;
                let range = format!("bytes={first}-{}", first + 49_999);
                let part = server.get(&format!("/{key}"), &[("Range", &range)]);
                assert_eq!(part.body, &bytes[first..first + 50_000]);
                assert_eq!(&server.get(&format!("/{key}"), &[]).body, bytes);
            });
        }
    });
    let metrics = String::from_utf8(server.get("/metrics", &[]).body).unwrap();
    assert!(
        metrics.contains("landfall_http_requests_total{method=\"GET\",class=\"2xx\"} 200\n"),
        "{metrics}"
    );
}

#[test]
fn health_says_whether_the_store_can_be_read() {
    let server = packed(&[]);
    let health = server.get("/healthz", &[]);
    assert_eq!((health.status, health.json()["healthy"].as_bool()), (200, Some(true)));
    fs::write(server.store().join("landfall-store.json"), "{").unwrap();
    let health = server.get("/healthz", &[]);
    assert_eq!((health.status, health.json()["reason"].as_str()), (503, Some("StoreUnreadable")));
    assert!(health.header("Retry-After").is_some());
}

#[test]
fn no_token_is_ever_in_the_log() {
    let server = packed(&["--push-token-file", "PUSH", "--read-token-file", "READ", "-v"]);
    let stranger = "stranger-canary-0c4418e7d35b";
    for token in [PUSH_TOKEN, READ_TOKEN, stranger] {
        server.get("/landfall-store.json", &[("Authorization", &bearer(token))]);
        server.get("/nothing", &[("Authorization", &bearer(token))]);
        server.put("refs/web/1.json", token, &[], b"{");
    }
    let metrics = server.get("/metrics", &[("Authorization", &bearer(READ_TOKEN))]);
    let said = format!("{}{}", server.log(), String::from_utf8_lossy(&metrics.body));
    assert!(said.contains("path=\"/landfall-store.json\" status=200"), "{said}");
    assert!(!said.contains("canary"), "{said}");
}

const LIMIT: std::time::Duration = std::time::Duration::from_secs(60);
