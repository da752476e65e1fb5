//! The whole text, so that a change of it is a decision.

use super::*;
use crate::spec::{ManagerKind, StopSpec};
use crate::start::Account;

const PLAIN: &str = include_str!("plain.service");
const NOTIFY: &str = include_str!("notify@.service");
const SOCKET: &str = include_str!("notify.socket");

fn launch() -> Launch {
    let dir = PathBuf::from("/var/lib/landfall/apps/web/prod");
    let env = [("PATH", "/usr/bin:/bin"), ("PORT", "3100"), ("TOKEN", "secret"), ("LANDFALL_START", "5eed")];
    Launch {
        slot: Slot {
            app: "web".parse().unwrap(),
            environment: "prod".parse().unwrap(),
            process: "main".parse().unwrap(),
            run_dir: dir.join("run"),
            logs_dir: dir.join("logs"),
            releases_dir: dir.join("releases"),
            current: dir.join("current"),
            account: Some(Account { name: "web".to_owned(), uid: 998, gid: 997, home: "/home/web".into() }),
        },
        spec: StartSpec {
            name: "main".parse().unwrap(),
            manager: ManagerKind::Systemd,
            command: Command::Run(
                ["node", "dist/main.js", "--token=${TOKEN}", "100%"].map(Into::into).to_vec(),
            ),
            instances: 1,
            roles: Vec::new(),
            stop: StopSpec { signal: "SIGTERM".to_owned(), grace: Millis(5_000), command: None },
            memory_max: None,
            mode: None,
            ready: false,
            listen_timeout: None,
            restart_delay: None,
            node_args: Vec::new(),
            socket: None,
        },
        release_dir: dir.join("releases/1.2.0-5af3359d7dee"),
        env: env.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        start_id: "5eed".to_owned(),
    }
}

fn host() -> Host {
    Host {
        program: "/usr/bin/node".into(),
        stop_program: None,
        env_file: "/var/lib/landfall/apps/web/prod/run/systemd/main/5eed.env".into(),
        inherited: BTreeSet::from(["LANG".to_owned(), "PATH".to_owned(), "PROXY".to_owned()]),
    }
}

#[test]
fn a_plain_process_is_one_unit() {
    let units = units(&launch(), &host()).unwrap();
    assert_eq!(units.services, ["landfall-web..prod..main.service"]);
    assert_eq!(units.files, [("landfall-web..prod..main.service".to_owned(), PLAIN.to_owned())]);
    assert_eq!(units.socket, None);
    assert!(!PLAIN.contains("secret"));
}

#[test]
fn instances_are_of_one_template_and_share_a_socket() {
    let mut launch = launch();
    launch.slot.account = None;
    launch.spec = StartSpec {
        command: Command::Shell("exec ./bin/server \"$PORT\"".to_owned()),
        instances: 2,
        stop: StopSpec {
            signal: "SIGINT".to_owned(),
            grace: Millis(1_500),
            command: Some(Command::Run(vec!["./bin/drain".to_owned()])),
        },
        memory_max: Some(512 << 20),
        ready: true,
        listen_timeout: Some(Millis(20_000)),
        restart_delay: Some(Millis(250)),
        socket: Some("127.0.0.1:${PORT}".to_owned()),
        ..launch.spec
    };
    let stop_program = Some(launch.release_dir.join("bin/drain"));
    let host = Host { program: "/bin/sh".into(), stop_program, ..host() };
    let units = units(&launch, &host).unwrap();
    assert_eq!(units.services, ["landfall-web..prod..main@1.service", "landfall-web..prod..main@2.service"]);
    assert_eq!(units.socket.as_deref(), Some("landfall-web..prod..main.socket"));
    let files = [("landfall-web..prod..main@.service", NOTIFY), ("landfall-web..prod..main.socket", SOCKET)];
    assert_eq!(units.files, files.map(|(name, text)| (name.to_owned(), text.to_owned())));
}

#[test]
fn no_two_slots_share_a_unit() {
    let named = |app: &str, environment: &str, process: &str| {
        let part = |name: &str| name.parse().unwrap();
        name(&Slot {
            app: part(app),
            environment: part(environment),
            process: part(process),
            ..launch().slot
        })
    };
    assert_ne!(named("a.b", "c", "main"), named("a", "b.c", "main"));
    assert_ne!(named("a-b", "c", "main"), named("a", "b-c", "main"));
}

#[test]
fn what_an_app_writes_stays_writable_and_what_lies_in_tmp_visible() {
    let at = |releases: &str| {
        let slot = Slot { releases_dir: releases.into(), ..launch().slot };
        units(&Launch { slot, ..launch() }, &host()).unwrap().files.remove(0).1
    };
    assert!(at("/usr/local/web/releases").contains("\nReadWritePaths=-/usr/local/web\n"));
    assert!(!at("/srv/web/releases").contains("ReadWritePaths"));
    assert!(at("/srv/web/releases").contains("\nPrivateTmp=yes\n"));
    assert!(!at("/tmp/web/releases").contains("PrivateTmp"));
}

#[test]
fn what_no_unit_can_say_is_refused() {
    let why = |launch: &Launch| units(launch, &host()).unwrap_err();
    let mut odd = launch();
    odd.env.insert("a.b".to_owned(), String::new());
    assert!(why(&odd).contains("`a.b`"));
    let socket = StartSpec { socket: Some("${TOKEN}".to_owned()), ..launch().spec };
    assert!(why(&Launch { spec: socket, ..launch() }).contains("not an address"));
    let broken = Launch { release_dir: "/srv/a\nUser=root".into(), ..launch() };
    assert!(why(&broken).contains("no systemd unit can name the path"));
}
