//! What a host that runs for years must not collect.

mod support;

use std::time::Duration;

use support::{Host, Source};

const LIMIT: Duration = Duration::from_secs(60);
/// More than stay of the healthy ones.
const BAD_VERSIONS: usize = 8;
const UNHEALTHY: &str = r#"app = "web"
version = "1"

[[layer]]
name = "app"
files = [{ from = "app", to = "app" }]

[start]
run = ["sleep", "100000"]
stop = { signal = "SIGTERM", grace = "1s" }

[health]
run = ["false"]
attempts = 1
interval = "50ms"
"#;

#[test]
fn bad_versions_in_a_row_do_not_fill_the_disk() {
    let mut host = Host::new("prod", "");
    host.start_agent();
    let good = host.pack_next(Source::sleeper("good").path());
    host.want("web", &good);
    assert_eq!(host.wait_for_attempt("web", 0, LIMIT)["result"], "Healthy");
    let in_service = host.current("web", "prod");
    for number in 1..=BAD_VERSIONS {
        let bad = Source::new(UNHEALTHY).with("app/version.txt", number.to_string().as_bytes());
        host.want("web", &host.pack_next(bad.path()));
        assert_eq!(host.wait_for_attempt("web", number, LIMIT)["result"], "Reverted");
    }
    // The last bad one is what the state asks for; the others go as soon as their successor has failed.
    let names = || {
        let releases = std::fs::read_dir(host.app("web", "prod").join("releases")).expect("releases");
        let names =
            releases.map(|release| release.expect("a release").file_name().into_string().expect("UTF-8"));
        names.filter(|name| !name.starts_with('.')).count()
    };
    support::wait::wait_until("the failed ones are gone", LIMIT, || names() == 2);
    assert_eq!(host.current("web", "prod"), in_service);
}
