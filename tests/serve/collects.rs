//! Collection and proof of a store from another machine: through the server, with the token that pushes.

use std::fs;
use std::process::Output;
use std::time::Duration;

use super::server::*;

/// Makes everything in the store half a year older.
fn age(server: &Served) {
    for key in objects(&server.store()) {
        let file = fs::File::options().write(true).open(server.store().join(key)).unwrap();
        let modified = file.metadata().unwrap().modified().unwrap();
        file.set_modified(modified - Duration::from_secs(180 * 24 * 3600)).unwrap();
    }
}

fn ask(server: &Served, token: &str, arguments: &[&str]) -> Output {
    let mut command = landfall();
    command.args(["--store", &server.url, "--store-token-file", token]).args(arguments);
    command.current_dir(server.dir.path()).output().unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn count(output: &Output, fate: &str) -> usize {
    assert!(output.status.success(), "{}", said(output));
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    told["items"].as_array().unwrap().iter().filter(|item| item["fate"] == fate).count()
}

#[test]
fn a_store_is_collected_and_proved_through_its_server_and_reports_of_hosts_stay() {
    let dir = tempfile::tempdir().unwrap();
    for version in ["1.0.0", "2.0.0", "3.0.0"] {
        pack(&dir.path().join("store"), version, 20_000);
    }
    let options = ["--push-token-file", "PUSH", "--read-token-file", "READ", "--report-token-file", "REPORT"];
    let server = Served::of(dir, &options);
    let report = "status/web-1/prod/host.json";
    assert_eq!(server.put(report, WEB_1_TOKEN, &[], b"{}").status, 204);
    age(&server);
    let gc = ["store", "gc", "--no-state", "--keep-versions", "1", "--keep", "0s", "-o", "json"];
    let before = objects(&server.store());

    // Whoever may only read, or only report, removes nothing and is told so.
    for token in ["read", "web-1"] {
        token_file(server.dir.path(), "web-1", WEB_1_TOKEN);
        let refused = ask(&server, token, &gc);
        assert_eq!(refused.status.code(), Some(6), "{}", said(&refused));
        assert!(!said(&refused).contains("canary"), "{}", said(&refused));
    }
    assert_eq!(objects(&server.store()), before);

    let condemned = count(&ask(&server, "push", &gc), "Condemn");
    assert!(condemned >= 8, "{condemned}");
    assert_eq!(count(&ask(&server, "push", &gc), "Remove"), 0, "not before the grace is over");
    age(&server);
    assert_eq!(count(&ask(&server, "push", &gc), "Remove"), condemned);
    let left = objects(&server.store());
    assert!(left.len() + condemned <= before.len() && left.contains(&report.to_owned()), "{left:?}");
    let listed = ask(&server, "read", &["ls"]);
    assert!(said(&listed).contains("3.0.0") && !said(&listed).contains("1.0.0"), "{}", said(&listed));

    let whole = ask(&server, "read", &["store", "verify"]);
    assert!(whole.status.success(), "{}", said(&whole));
    let pack = server.store().join(object(&server.store(), "packs/", ".lfp"));
    let mut bytes = fs::read(&pack).unwrap();
    bytes[10] ^= 1;
    fs::write(&pack, bytes).unwrap();
    let damaged = ask(&server, "read", &["store", "verify"]);
    assert_eq!(damaged.status.code(), Some(6), "{}", said(&damaged));
    assert!(said(&damaged).contains("packs/"), "{}", said(&damaged));
}
