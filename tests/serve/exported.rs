//! A store that was pushed to a directory, served to a host by something that knows nothing of landfall.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use super::server::*;

/// Python's file server knows no ranges; what it gives is taken all the same.
#[test]
fn an_exported_store_is_deployed_from_a_static_server() {
    let dir = tempfile::tempdir().unwrap();
    let (store, exported) = (dir.path().join("store"), dir.path().join("exported"));
    pack(&store, "1.0.0", 300_000);
    let pushed = landfall()
        .args(["--store", store.to_str().unwrap(), "push", "--all", "--to", exported.to_str().unwrap()])
        .output()
        .unwrap();
    assert!(pushed.status.success(), "{pushed:?}");
    for key in objects(&exported) {
        let mode = exported.join(&key).metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, if is_private(&store, &key) { 0o600 } else { 0o644 }, "{key}");
    }
    let mut server = Command::new("python3")
        .args(["-u", "-m", "http.server", "--bind", "127.0.0.1", "0", "--directory"])
        .arg(&exported)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let port = line.split(" port ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
    let root = dir.path().join("root");
    let released = landfall()
        .args(["--store", &format!("http://127.0.0.1:{port}"), "--root", root.to_str().unwrap()])
        .args(["release", "--app", "web", "1.0.0", "--env", "prod", "--skip-pm2"])
        .current_dir(dir.path())
        .output();
    server.kill().unwrap();
    server.wait().unwrap();
    let released = released.unwrap();
    assert!(released.status.success(), "{}", String::from_utf8_lossy(&released.stderr));
    let own = root.join("apps/web/prod/current/app/common.bin");
    assert_eq!(std::fs::read(own).unwrap(), noise(0, 200_000));
    let secrets = std::fs::read_to_string(root.join("apps/web/prod/current/.env.prod")).unwrap();
    assert!(secrets.contains("canary-1.0.0"));
}
