//! Repositories, servers and caches that do harm, or try to.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::io::Read;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use support::git::{Forge, Http, Manners, elsewhere, sshd};
use support::host::Said;
use support::{Host, Source};

/// A host whose state is at this address. Its state names no app, so that a reconciliation is one look.
fn host_of(forge: &Forge, url: &str, more: &str) -> Host {
    let host = Host::new("prod", "");
    host.write("host.toml", &format!("environment = \"prod\"\n\n{}", forge.state_of(url, more)));
    host
}

fn once(host: &Host) -> Said {
    Said::of(host.landfall_of_host_toml(&["watch", "--once", "-o", "json"]).output().unwrap())
}

#[track_caller]
fn reason(said: &Said) -> String {
    let error: Value = serde_json::from_str(said.out.trim()).unwrap_or_else(|_| panic!("{said:?}"));
    error["reason"].as_str().unwrap().to_owned()
}

#[track_caller]
fn fails(host: &Host, expected: &str) -> Said {
    let said = once(host);
    assert_eq!(said.code, Some(5), "{said:?}");
    assert_eq!(reason(&said), expected, "{said:?}");
    said
}

fn accepted(host: &Host) -> String {
    std::fs::read_to_string(host.root().join("accepted")).unwrap_or_default()
}

#[test]
fn b21_what_is_no_small_regular_file_is_not_read() {
    let forge = Forge::new();
    let host = host_of(&forge, &forge.url(), "");
    once(&host).expect_code(0);
    let file = forge.work().join("deploy-state.json");
    let first = forge.head();
    let with = |change: &dyn Fn()| {
        forge.git(&["reset", "--quiet", "--hard", &first]);
        forge.git(&["clean", "-fdxq"]);
        std::fs::remove_file(&file).unwrap();
        change();
        forge.commit("harm");
        forge.push();
    };
    let secret = forge.dir().join("secret");
    std::fs::write(&secret, elsewhere(1)).unwrap();
    with(&|| std::os::unix::fs::symlink(&secret, &file).unwrap());
    fails(&host, "FileRefused");
    with(&|| {
        std::fs::create_dir(&file).unwrap();
        std::fs::write(file.join("x"), "x").unwrap();
    });
    fails(&host, "FileRefused");
    with(&|| {
        forge.run(&forge.work(), "git", &["init", "--quiet", "deploy-state.json"]);
        forge.run(&file, "git", &["commit", "--quiet", "--allow-empty", "-m", "inner"]);
    });
    fails(&host, "FileRefused");
    std::fs::remove_dir_all(file.join(".git")).unwrap();
    std::fs::remove_dir(&file).unwrap();
    std::fs::write(&file, "x").unwrap();
    with(&|| std::fs::write(&file, vec![b' '; (1 << 20) + 1]).unwrap());
    fails(&host, "FileRefused");
    with(&|| std::fs::write(forge.work().join("README"), "gone").unwrap());
    fails(&host, "FileNotFound");
    // A file that may be executed, or has the line ends of another system, is a file.
    with(&|| {
        std::fs::write(&file, elsewhere(1).replace(',', ",\r\n")).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    });
    once(&host).expect_code(0);
    assert!(accepted(&host).contains("\\r\\n"), "the bytes are the blob's own");
}

/// Everything a repository can bring that a checkout, a hook or a filter would run.
#[test]
fn b20_hooks_submodules_filters_and_attributes_of_a_repository_do_nothing() {
    let forge = Forge::new();
    let marker = forge.dir().join("ran");
    let touch = format!("touch {}", marker.display());
    let hooks = forge.bare().join("hooks");
    std::fs::create_dir_all(&hooks).unwrap();
    for dir in [hooks, forge.work().join("hooks")] {
        std::fs::create_dir_all(&dir).unwrap();
        for name in
            ["post-checkout", "post-merge", "reference-transaction", "pre-auto-gc", "post-upload-pack"]
        {
            let hook = dir.join(name);
            std::fs::write(&hook, format!("#!/bin/sh\n{touch}\n")).unwrap();
            std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
    }
    let work = forge.work();
    std::fs::write(work.join(".gitattributes"), "* filter=evil diff=evil\n").unwrap();
    std::fs::write(
        work.join(".gitmodules"),
        format!("[submodule \"x\"]\n\tpath = x\n\turl = ext::sh -c {touch:?}\n"),
    )
    .unwrap();
    std::fs::create_dir_all(work.join("git-config")).unwrap();
    std::fs::write(work.join("config"), format!("[core]\n\tfsmonitor = {touch}\n\tsshCommand = {touch}\n"))
        .unwrap();
    forge.commit("evil");
    // An account's own configuration, and what is in the agent's environment, count for nothing.
    let host = host_of(&forge, &forge.url(), "");
    let config = format!(
        "[core]\n\tfsmonitor = {touch}\n\thooksPath = {}\n[credential]\n\thelper = !{touch}\n[protocol]\n\tallow = always\n",
        forge.work().join("hooks").display()
    );
    std::fs::write(host.dir.join("home/.gitconfig"), config).unwrap();
    forge.git(&["push", "--quiet", "--force", "--no-verify", "origin", "HEAD:refs/heads/main"]);
    std::fs::remove_file(&marker).ok();
    let mut command = host.landfall_of_host_toml(&["watch", "--once"]);
    command.env("GIT_EXTERNAL_DIFF", &touch).env("GIT_SSH_COMMAND", &touch).env("GIT_ASKPASS", &touch);
    command.env("GIT_DIR", "/nowhere").env("GIT_CONFIG_COUNT", "1").env("GIT_CONFIG_KEY_0", "core.fsmonitor");
    command
        .env("GIT_CONFIG_VALUE_0", &touch)
        .env("GIT_EXEC_PATH", "/nowhere")
        .env("GIT_TRACE", "/dev/stderr");
    Said::of(command.output().unwrap()).expect_code(0);
    assert!(!marker.exists(), "something of the repository was run");
    // What no git should ever be sent is not even stored.
    let evil = format!("[submodule \"x\"]\n\tpath = x\n\turl = x\n\tupdate = !{touch}\n");
    std::fs::write(work.join(".gitmodules"), evil).unwrap();
    forge.commit("worse");
    forge.git(&["push", "--quiet", "--force", "--no-verify", "origin", "HEAD:refs/heads/main"]);
    std::fs::remove_file(&marker).ok();
    assert!(fails(&host, "GitOperationFailed").out.contains("disallowed submodule update"));
    forge.git(&["push", "--quiet", "--force", "--no-verify", "origin", "HEAD~1:refs/heads/main"]);
    std::fs::remove_file(&marker).ok();
    once(&host).expect_code(0);
    assert!(!marker.exists(), "something of the repository was run");
    let cache = host.root().join("cache/state.git");
    assert!(
        !cache.join("hooks").exists() && !cache.join("index").exists() && !cache.join("modules").exists()
    );
    let refs = Command::new("git")
        .arg("--git-dir")
        .arg(&cache)
        .args(["for-each-ref", "--format=%(refname)"])
        .output();
    assert_eq!(String::from_utf8_lossy(&refs.unwrap().stdout).trim(), "refs/landfall/head");
}

#[test]
fn a_gibibyte_in_the_repository_is_not_fetched_where_the_server_can_leave_it_out() {
    let forge = Forge::new();
    forge.run(&forge.bare(), "git", &["config", "uploadpack.allowFilter", "true"]);
    // Sparse on disk, a few megabytes compressed, and written where the server has it: nobody pushes it.
    let blob = forge.dir().join("huge");
    std::fs::File::create(&blob).unwrap().set_len(1 << 30).unwrap();
    let options = ["-c", "core.bigFileThreshold=1m", "-c", "core.compression=1"];
    let write = ["hash-object", "-w", "--no-filters", "--", &blob.to_string_lossy()];
    let id = forge.run(&forge.bare(), "git", &[&options[..], &write].concat());
    std::fs::remove_file(&blob).unwrap();
    let alternates = forge.work().join(".git/objects/info/alternates");
    std::fs::write(alternates, format!("{}\n", forge.bare().join("objects").display())).unwrap();
    forge.git(&["update-index", "--add", "--cacheinfo", &format!("100644,{id},huge")]);
    forge.git(&["commit", "--quiet", "-m", "a gibibyte"]);
    forge.git(&["push", "--quiet", "origin", "HEAD:refs/heads/main"]);
    let host = host_of(&forge, &forge.url(), "");
    once(&host).expect_code(0);
    let kib = Command::new("du").arg("-sk").arg(host.root().join("cache/state.git")).output().unwrap();
    let kib: u64 = String::from_utf8_lossy(&kib.stdout).split_whitespace().next().unwrap().parse().unwrap();
    assert!(kib < 1_024, "{kib} KiB");
}

#[test]
fn a_lock_a_corrupt_object_or_another_repository_in_the_cache_is_thrown_away_and_fetched_again() {
    let forge = Forge::new();
    let host = host_of(&forge, &forge.url(), "");
    once(&host).expect_code(0);
    let cache = host.root().join("cache/state.git");
    let pack = |cache: &Path| {
        let files =
            std::fs::read_dir(cache.join("objects/pack")).unwrap().flatten().map(|entry| entry.path());
        files.into_iter().find(|path| path.extension().is_some_and(|end| end == "pack")).unwrap()
    };
    let write = |path: &Path, bytes: &[u8]| {
        std::fs::remove_file(path).ok();
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    };
    type Damage<'a> = (&'a str, &'a dyn Fn());
    let damages: [Damage<'_>; 9] = [
        ("a lock on the ref", &|| write(&cache.join("refs/landfall/head.lock"), b"")),
        ("a lock on the configuration", &|| write(&cache.join("config.lock"), b"")),
        ("a lock on shallow", &|| write(&cache.join("shallow.lock"), b"")),
        ("a configuration that is none", &|| write(&cache.join("config"), b"[core\n")),
        ("a HEAD that is none", &|| write(&cache.join("HEAD"), b"")),
        ("a pack of zeros", &|| write(&pack(&cache), &[0; 100])),
        ("a pack cut short", &|| {
            let bytes = std::fs::read(pack(&cache)).unwrap();
            write(&pack(&cache), &bytes[..bytes.len() / 2]);
        }),
        ("a ref to nowhere", &|| {
            write(&cache.join("refs/landfall/head"), b"1234567890123456789012345678901234567890\n")
        }),
        ("no objects at all", &|| std::fs::remove_dir_all(cache.join("objects")).unwrap()),
    ];
    for (number, (what, damage)) in damages.iter().enumerate() {
        damage();
        forge.write(&elsewhere(number as u64 + 1));
        let head = forge.commit(what);
        forge.push();
        let said = once(&host);
        assert_eq!(said.code, Some(0), "{what}: {said:?}");
        assert!(accepted(&host).contains(&head), "{what}");
    }
}

/// B23: a git that is killed leaves locks; the next look succeeds all the same.
#[test]
fn b23_git_killed_at_fifty_moments_never_blocks_the_next_look() {
    let forge = Forge::new();
    let programs = tempfile::tempdir().unwrap();
    let delay = programs.path().join("delay");
    let real = String::from_utf8(Command::new("sh").args(["-c", "command -v git"]).output().unwrap().stdout)
        .unwrap();
    let wrapper = programs.path().join("git");
    // `timeout` kills what it started, as a watchdog or an operator would.
    let script = format!(
        "#!/bin/sh\nif [ -s {0} ]; then exec timeout -s KILL \"$(cat {0})\" {1} \"$@\"; fi\nexec {1} \"$@\"\n",
        delay.display(),
        real.trim()
    );
    std::fs::write(&wrapper, script).unwrap();
    std::fs::set_permissions(&wrapper, std::fs::Permissions::from_mode(0o755)).unwrap();
    let host = host_of(&forge, &forge.url(), "").with_programs(programs.path().to_owned());
    once(&host).expect_code(0);
    let mut killed = 0;
    for moment in 0..50_u32 {
        forge.write(&elsewhere(u64::from(moment) + 1));
        let head = forge.commit("next");
        forge.push();
        // From one millisecond, when git has hardly begun, to a quarter of a second, most of them early.
        let after = Duration::from_micros(1_000 + 100 * u64::from(moment * moment));
        std::fs::write(&delay, format!("{:.4}", after.as_secs_f64())).unwrap();
        killed += u32::from(once(&host).code != Some(0));
        std::fs::write(&delay, "").unwrap();
        let said = once(&host);
        assert_eq!(said.code, Some(0), "after a kill at {after:?}: {said:?}");
        assert!(accepted(&host).contains(&head));
    }
    println!("50 moments, {killed} looks failed");
    assert!(killed >= 3, "only {killed} of 50 kills hit");
}

#[test]
fn a_deleted_branch_a_missing_repository_and_a_server_that_is_gone_are_told_apart() {
    let forge = Forge::new();
    let host = host_of(&forge, &forge.url(), "");
    once(&host).expect_code(0);
    forge.run(&forge.bare(), "git", &["update-ref", "-d", "refs/heads/main"]);
    fails(&host, "RefNotFound");
    let nowhere = host_of(&forge, "file:///nowhere/state.git", "");
    fails(&nowhere, "RefNotFound");
    // A port that nobody listens on.
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let gone = host_of(&forge, &format!("http://127.0.0.1:{port}/state.git"), "insecure_transport = true");
    fails(&gone, "Unreachable");
}

#[test]
fn nobody_is_ever_asked_for_a_password() {
    let forge = Forge::new();
    let asking = Manners { asks_for: Some("Basic never".to_owned()), ..Manners::default() };
    let http = Http::serve(forge.dir().join("srv"), asking);
    let host = host_of(&forge, &http.url(), "insecure_transport = true");
    fails(&host, "AuthenticationFailed");
    let ssh = sshd(&forge);
    // Another key than the one that may come in.
    let stranger = forge.key("stranger");
    let access = format!("ssh_key = {stranger:?}\nknown_hosts = {:?}", ssh.known_hosts);
    fails(&host_of(&forge, &ssh.url, &access), "AuthenticationFailed");
    // A server that nobody knows, or that is another one now.
    let unknown = forge.dir().join("no_hosts");
    for text in
        [String::new(), format!("[127.0.0.1]:{} {}\n", ssh.server.port.number, forge.public(&stranger))]
    {
        std::fs::write(&unknown, text).unwrap();
        let access = format!("ssh_key = {:?}\nknown_hosts = {unknown:?}", ssh.key);
        fails(&host_of(&forge, &ssh.url, &access), "HostKeyUnknown");
    }
}

/// B27 and P22: a token goes to the server it is for and to nobody else, and is seen nowhere.
#[test]
fn a_token_is_used_kept_secret_and_never_follows_a_redirect() {
    let forge = Forge::new();
    let token = "canary-7f3a9c2e51d0";
    // user:token, as the header has it.
    let basic = "Basic ZGVwbG95OmNhbmFyeS03ZjNhOWMyZTUxZDA=";
    let root = forge.dir().join("srv");
    let http = Http::serve(root.clone(), Manners { asks_for: Some(basic.to_owned()), ..Manners::default() });
    let token_file = forge.dir().join("token");
    std::fs::write(&token_file, format!("deploy:{token}\n")).unwrap();
    let access = format!("insecure_transport = true\ntoken_file = {token_file:?}");
    let host = host_of(&forge, &http.url(), &access);
    let said = once(&host);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(http.authorizations.lock().unwrap().iter().any(|told| told == basic));
    let elsewhere =
        Http::serve(root.clone(), Manners { asks_for: Some(basic.to_owned()), ..Manners::default() });
    let to = format!("http://127.0.0.1:{}", elsewhere.port);
    let sending = Http::serve(root, Manners { redirects_to: Some(to), ..Manners::default() });
    let other = host_of(&forge, &sending.url(), &access);
    let failed = once(&other);
    assert_eq!(failed.code, Some(5), "{failed:?}");
    assert!(elsewhere.authorizations.lock().unwrap().is_empty(), "the token followed a redirect");
    // A wrong token: the server refuses, and no message has it.
    std::fs::write(&token_file, format!("deploy:{token}-wrong\n")).unwrap();
    let refused = fails(&host, "AuthenticationFailed");
    for said in [&said, &failed, &refused] {
        assert!(!said.out.contains(token) && !said.err.contains(token), "{said:?}");
    }
    let found =
        Command::new("grep").arg("-rl").arg(token).arg(host.root()).stdout(Stdio::piped()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "", "the token lies in the root");
}

#[test]
fn the_first_remote_that_can_be_read_is_believed() {
    let forge = Forge::new();
    let more = format!("mirrors = [\"file:///nowhere/too.git\", {:?}]", forge.url());
    let host = host_of(&forge, "file:///nowhere/state.git", &more);
    once(&host).expect_code(0);
    assert!(accepted(&host).contains(&forge.head()));
    let none = host_of(&forge, "file:///nowhere/state.git", "mirrors = [\"file:///nowhere/too.git\"]");
    let said = fails(&none, "RefNotFound");
    assert!(said.out.contains("file:///nowhere/state.git"), "the first one's trouble is told: {said:?}");
}

#[test]
fn repositories_with_sha_256_ids_are_read_too() {
    let forge = Forge::new();
    let bare = forge.dir().join("srv/sha256.git");
    forge.run(
        forge.dir(),
        "git",
        &["init", "--quiet", "--bare", "-b", "main", "--object-format=sha256", &bare.to_string_lossy()],
    );
    let work = forge.dir().join("work256");
    forge.run(
        forge.dir(),
        "git",
        &["init", "--quiet", "-b", "main", "--object-format=sha256", &work.to_string_lossy()],
    );
    std::fs::copy(forge.work().join("deploy-state.json"), work.join("deploy-state.json")).unwrap();
    let key = forge.key("operator");
    forge.run(&work, "git", &["add", "."]);
    let options = support::git::signing(&key);
    let options = options.each_ref().map(String::as_str);
    forge.run(&work, "git", &[&options[..], &["commit", "--quiet", "-S", "-m", "Begin"]].concat());
    forge.run(&work, "git", &["push", "--quiet", &bare.to_string_lossy(), "main"]);
    let host = host_of(&forge, &format!("file://{}", bare.display()), "");
    host.write("allowed_signers", &format!("operator {}\n", forge.public(&key)));
    let toml = std::fs::read_to_string(host.dir.join("host.toml")).unwrap();
    host.write("host.toml", &format!("{toml}\n[trust]\nallowed_signers = \"allowed_signers\"\n"));
    once(&host).expect_code(0);
    let head = forge.run(&work, "git", &["rev-parse", "HEAD"]);
    assert!(head.len() == 64 && accepted(&host).contains(&head));
}

#[test]
fn commands_that_look_ask_the_repository_themselves_and_leave_no_copy() {
    let forge = Forge::new();
    let host = host_of(&forge, &forge.url(), "");
    let artifact = host.pack_next(Source::sleeper("one").path());
    forge.want("web", "prod", &artifact);
    forge.commit("deploy");
    forge.push();
    let copies = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let mut command = host.landfall_of_host_toml(arguments);
        Said::of(command.env("TMPDIR", copies.path()).output().unwrap())
    };
    run(&["plan", "-o", "json"]).expect_code(1);
    run(&["state", "lint"]).expect_code(0);
    let resolved = run(&["state", "resolve", "--app", "web", "--env", "prod", "-o", "json"]);
    assert!(resolved.expect_code(0).out.contains(&artifact));
    let doctor = run(&["doctor", "-o", "json"]);
    assert!(doctor.out.contains(&forge.head()[..12]), "{doctor:?}");
    assert_eq!(std::fs::read_dir(copies.path()).unwrap().count(), 0, "a copy was left");
    assert!(!host.root().join("cache/state.git").exists() && !host.root().join("accepted").exists());
    // Commands that edit say where to do that.
    let said = run(&["deploy", "web", "prod", &artifact]);
    assert!(said.err.contains("clone the state repository"), "{said:?}");
}

#[test]
fn a_repository_that_outgrows_its_bound_is_refused_leaves_nothing_and_is_read_again_once_it_is_small() {
    let forge = Forge::new();
    let host = host_of(&forge, &forge.url(), "");
    let bounded = || {
        let mut command = host.landfall_of_host_toml(&["watch", "--once", "-o", "json"]);
        Said::of(command.env("LANDFALL_CACHE_BYTES", "2000000").output().unwrap())
    };
    bounded().expect_code(0);
    // The server of this test leaves nothing out, whatever it is asked to.
    let mut noise = vec![0; 8 << 20];
    std::fs::File::open("/dev/urandom").unwrap().read_exact(&mut noise).unwrap();
    std::fs::write(forge.work().join("noise"), &noise).unwrap();
    let small = forge.head();
    forge.commit("large");
    forge.push();
    for _ in 0..2 {
        let said = bounded();
        said.expect_code(5);
        assert_eq!(reason(&said), "TooLarge");
        let kib = Command::new("du").arg("-sk").arg(host.root().join("cache")).output().unwrap();
        let kib = String::from_utf8_lossy(&kib.stdout).into_owned();
        let kib: u64 = kib.split_whitespace().next().map_or(0, |kib| kib.parse().unwrap());
        assert!(kib < 2_000, "{kib} KiB are left");
    }
    // Taken out of the branch again, the very next look works.
    forge.git(&["reset", "--quiet", "--hard", &small]);
    forge.write(&support::git::elsewhere(1));
    forge.commit("small again");
    forge.push();
    bounded().expect_code(0);
    assert!(accepted(&host).contains(&forge.head()));
}
