//! What hosts leave: each its own, of a bounded size and number, whole at every moment.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::client::{Answer, ask};
use super::server::*;
use super::support::wait::wait_until;

const LIMIT: Duration = Duration::from_secs(60);
const EVERYTHING: [&str; 6] =
    ["--push-token-file", "PUSH", "--read-token-file", "READ", "--report-token-file", "REPORT"];
const REPORT: &str = "status/web-1/prod/host.json";
const HISTORY: &str = "status/web-1/prod/web/history-000000.ndjson";

fn get(server: &Served, key: &str, token: &str) -> Answer {
    server.get(&format!("/{key}"), &[("Authorization", &format!("Bearer {token}"))])
}

fn reason(answer: &Answer) -> (u16, String) {
    (answer.status, answer.json()["reason"].as_str().unwrap().to_owned())
}

#[test]
fn a_host_writes_its_own_reports_and_nothing_else_and_nobody_writes_them_for_it() {
    let server = Served::start(&EVERYTHING);
    for (key, text) in [(HISTORY, "{\"a\":1}\n"), (REPORT, "{\"b\":2}"), (REPORT, "{\"b\":3}")] {
        assert_eq!(server.put(key, WEB_1_TOKEN, &[], text.as_bytes()).status, 204, "{key}");
        assert_eq!(fs::read_to_string(server.store().join(key)).unwrap(), text);
        assert!(is_private(&server.store(), key), "other accounts of the machine read no reports");
    }
    let put = |key: &str, token: &str| reason(&server.put(key, token, &[], b"{}"));
    for (token, status, why) in [
        (WEB_2_TOKEN, 403, "OtherHost"),
        (PUSH_TOKEN, 403, "ReportTokenNeeded"),
        (READ_TOKEN, 403, "ReportTokenNeeded"),
        ("another-token-of-good-length", 401, "UnknownToken"),
    ] {
        assert_eq!(put(REPORT, token), (status, why.to_owned()));
        assert_eq!(put(HISTORY, token), (status, why.to_owned()));
    }
    assert_eq!(put("refs/web/1.json", WEB_1_TOKEN), (403, "PushTokenNeeded".to_owned()));
    assert_eq!(put("landfall-store.json", WEB_1_TOKEN), (403, "PushTokenNeeded".to_owned()));
    for key in ["status/web-1/notes.json", "status/web-1/prod/../../x", "status/web-1/prod/web/x.ndjson"] {
        assert_eq!(put(key, WEB_1_TOKEN), (405, "MethodNotAllowed".to_owned()), "{key}");
    }
    // What a host said stays said.
    for token in [WEB_1_TOKEN, PUSH_TOKEN, READ_TOKEN] {
        let bearer = format!("Bearer {token}");
        let removed = ask(server.at, "DELETE", &format!("/{REPORT}"), &[("Authorization", &bearer)], b"");
        assert_eq!((removed.status, removed.header("Allow")), (405, Some("GET, HEAD, PUT")));
    }
    assert_eq!(fs::read_to_string(server.store().join(REPORT)).unwrap(), "{\"b\":3}");
}

#[test]
fn a_report_is_read_by_its_host_and_by_whoever_reads_the_store_and_is_no_artifact() {
    let server = Served::start(&EVERYTHING);
    server.put(REPORT, WEB_1_TOKEN, &[], b"{}");
    let status = |token: &str| get(&server, REPORT, token).status;
    assert_eq!([WEB_1_TOKEN, READ_TOKEN, PUSH_TOKEN, WEB_2_TOKEN].map(status), [200, 200, 200, 403]);
    assert_eq!(server.get(&format!("/{REPORT}"), &[]).status, 401);
    let given = get(&server, REPORT, READ_TOKEN);
    assert_eq!(given.header("Cache-Control"), Some("no-store"));
    assert_eq!(
        get(&server, "landfall-store.json", WEB_1_TOKEN).status,
        200,
        "a host sees that it is a store"
    );
    let refused = reason(&get(&server, "?list=status", WEB_1_TOKEN));
    assert_eq!(refused, (403, "ReadTokenNeeded".to_owned()));
    assert_eq!(get(&server, "?list=status", READ_TOKEN).json()["items"][0]["key"], REPORT);

    // Where artifacts are for everybody, reports are not; where nobody may report, nobody does.
    let open = Served::start(&["--report-token-file", "REPORT"]);
    assert_eq!(open.put(REPORT, WEB_1_TOKEN, &[], b"{}").status, 204);
    assert_eq!(open.get("/landfall-store.json", &[]).status, 200);
    assert_eq!(open.get(&format!("/{REPORT}"), &[]).status, 403);
    assert_eq!(get(&open, REPORT, WEB_1_TOKEN).status, 200);
    assert_eq!(open.put("refs/web/1.json", WEB_1_TOKEN, &[], b"{}").status, 403);
    let closed = Served::start(&["--push-token-file", "PUSH"]);
    assert_eq!(reason(&closed.put(REPORT, PUSH_TOKEN, &[], b"{}")), (403, "NoReports".to_owned()));
}

#[test]
fn a_report_is_small_is_json_and_a_host_leaves_only_so_many() {
    let server = Served::start(&EVERYTHING);
    let put = |key: &str, body: &[u8]| server.put(key, WEB_1_TOKEN, &[], body).status;
    let largest = landfall_store::reports::REPORT_BYTES_MAX;
    let of = |bytes: u64| format!("{{\"a\":\"{}\"}}", "x".repeat(usize::try_from(bytes).unwrap() - 8));
    assert_eq!(put(REPORT, of(largest).as_bytes()), 204);
    assert_eq!(put(REPORT, of(largest + 1).as_bytes()), 413);
    for trash in [&b"<html>"[..], b"", b"[1]", b"\xff"] {
        assert_eq!(put(REPORT, trash), 422);
    }
    assert_eq!(put(HISTORY, b"{}\nno json\n"), 422);
    assert_eq!(fs::metadata(server.store().join(REPORT)).unwrap().len(), largest, "it is what it was");

    // As if it had reported for years.
    let dir = server.store().join("status/web-1/prod/web");
    fs::create_dir_all(&dir).unwrap();
    for number in 0..4_999 {
        fs::write(dir.join(format!("history-{number:06}.ndjson")), "").unwrap();
    }
    let refused = server.put("status/web-1/prod/web/history-004999.ndjson", WEB_1_TOKEN, &[], b"");
    assert_eq!(reason(&refused), (507, "ReportsFull".to_owned()));
    assert_eq!(put(REPORT, b"{}"), 204, "what is there is still replaced");
    let other = server.put("status/web-2/prod/host.json", WEB_2_TOKEN, &[], b"{}");
    assert_eq!(other.status, 204, "another host has its own share");
}

#[test]
fn a_report_that_is_replaced_is_the_old_one_or_the_new_one_to_every_reader() {
    let server = Served::start(&EVERYTHING);
    let documents = ["a", "b"].map(|letter| format!("{{\"x\":\"{}\"}}", letter.repeat(300_000)));
    server.put(REPORT, WEB_1_TOKEN, &[], documents[0].as_bytes());
    let ended = AtomicBool::new(false);
    let read = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut read = 0;
                    while !ended.load(Ordering::Relaxed) || read == 0 {
                        let body = get(&server, REPORT, READ_TOKEN).body;
                        assert!(documents.iter().any(|own| own.as_bytes() == body), "{} bytes", body.len());
                        read += 1;
                    }
                    read
                })
            })
            .collect();
        for round in 0..100 {
            let taken = server.put(REPORT, WEB_1_TOKEN, &[], documents[round % 2].as_bytes());
            assert_eq!(taken.status, 204);
        }
        ended.store(true, Ordering::Relaxed);
        readers.into_iter().map(|reader| reader.join().unwrap()).sum::<u32>()
    });
    assert!(read >= 4);
}

#[test]
fn a_hosts_token_is_changed_without_a_restart_is_never_logged_and_reports_are_counted() {
    let server = Served::start(&[&EVERYTHING[..], &["-v"]].concat());
    let next = "next-canary-of-a-good-length-too";
    assert_eq!(server.put(REPORT, WEB_1_TOKEN, &[], b"{}").status, 204);
    assert_eq!(server.put(REPORT, WEB_2_TOKEN, &[], b"{}").status, 403);
    token_file(server.dir.path(), "report", &format!("web-1 {next}"));
    wait_until("the new token", LIMIT, || server.put(REPORT, next, &[], b"{}").status == 204);
    assert_eq!(server.put(REPORT, WEB_1_TOKEN, &[], b"{}").status, 401);
    token_file(server.dir.path(), "report", &format!("web-1 {next}\n{WEB_1_TOKEN}"));
    wait_until("the complaint", LIMIT, || {
        server.put(REPORT, next, &[], b"{}");
        server.log().contains("line 2 is not a host and its token")
    });
    let metrics = String::from_utf8(get(&server, "metrics", READ_TOKEN).body).unwrap();
    let counted = "landfall_store_uploads_total{kind=\"report\",result=\"replaced\"}";
    assert!(metrics.contains(counted), "{metrics}");
    assert!(metrics.contains("landfall_http_refused_total{reason=\"OtherHost\"} 1"), "{metrics}");
    let said = format!("{}{metrics}", server.log());
    assert!(said.contains("status/web-1/prod/host.json") && !said.contains("canary"), "{said}");
}
