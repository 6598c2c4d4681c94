//! Audit records in a file of their own: rotated, and when it cannot be written.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::Value;
use tokio::net::UnixDatagram;
use tokio::time::timeout;

use super::sinks::{can_mount, fill_pipe};
use super::{ADMIN, ask, parsed, reload};
use crate::world::World;
use crate::world::admin::{get, until};
use crate::world::binary::{Launch, ProxyProcess};
use crate::world::raw::PATIENCE;

/// Mounts a small file system in a namespace of the service's own.
const SMALL_DISK: &str = "mkdir disk && mount -t tmpfs -o size=64k none disk && exec \"$@\" 2>log";

/// A file of audit records that stops to take them, and takes them again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AuditSink {
    Disk,
    Device,
    Fifo,
}

struct Stage {
    sink: AuditSink,
    binary: ProxyProcess,
    /// The reading end of a FIFO, and what it has read.
    fifo: Option<(Arc<File>, Arc<Mutex<String>>)>,
}

impl AuditSink {
    const ALL: [Self; 3] = [Self::Disk, Self::Device, Self::Fifo];

    fn path(self) -> &'static str {
        if self == Self::Disk { "./disk/audit.json" } else { "./audit.json" }
    }

    fn start(self, world: &World, policy: &str) -> Option<Stage> {
        if self == Self::Disk && !can_mount() {
            eprintln!("skipped: a full disk needs the right to mount one");
            return None;
        }
        let config = format!("{ADMIN}\n[audit]\nto = \"{}\"\n{policy}", self.path());
        let shell = match self {
            Self::Disk => Some(SMALL_DISK),
            Self::Device => None,
            Self::Fifo => Some("mkfifo audit.json && exec \"$@\" 2>log <>audit.json"),
        };
        let binary = ProxyProcess::launch(
            world,
            Launch { config, shell: shell.map(str::to_owned), ..Launch::usual() },
        );
        let fifo = (self == Self::Fifo).then(|| {
            let both = File::options().read(true).write(true).open(binary.file("audit.json")).unwrap();
            (Arc::new(both), Arc::default())
        });
        Some(Stage { sink: self, binary, fifo })
    }
}

impl Stage {
    fn breaks(&self) {
        match (self.sink, &self.fifo) {
            (AuditSink::Disk, _) => {
                let mut filler = File::create(self.binary.file("disk/filler")).unwrap();
                while filler.write_all(&[0; 4_096]).is_ok() {}
            }
            (AuditSink::Device, _) => self.lead_to("/dev/full"),
            (AuditSink::Fifo, Some((fifo, _))) => fill_pipe(&**fifo),
            (AuditSink::Fifo, None) => unreachable!(),
        }
    }

    fn heals(&self) {
        match (self.sink, &self.fifo) {
            (AuditSink::Disk, _) => fs::remove_file(self.binary.file("disk/filler")).unwrap(),
            (AuditSink::Device, _) => self.lead_to("healed.json"),
            (AuditSink::Fifo, Some((fifo, read))) => {
                let (fifo, read) = (Arc::clone(fifo), Arc::clone(read));
                thread::spawn(move || {
                    let lines = BufReader::new(&*fifo).lines();
                    lines.for_each(|line| read.lock().unwrap().push_str(&(line.unwrap() + "\n")));
                });
            }
            (AuditSink::Fifo, None) => unreachable!(),
        }
    }

    /// Changes the file behind the name, as a rotation does.
    fn lead_to(&self, file: &str) {
        fs::remove_file(self.binary.file("audit.json")).unwrap();
        symlink(file, self.binary.file("audit.json")).unwrap();
        reload(&self.binary);
    }

    /// Records of sessions of `user` since the file was last broken.
    fn sessions(&self, user: &str) -> usize {
        let log = match (self.sink, &self.fifo) {
            (AuditSink::Disk, _) => fs::read_to_string(self.binary.file("disk/audit.json")).unwrap(),
            (AuditSink::Device, _) => fs::read_to_string(self.binary.file("healed.json")).unwrap_or_default(),
            (AuditSink::Fifo, Some((_, read))) => read.lock().unwrap().clone(),
            (AuditSink::Fifo, None) => unreachable!(),
        };
        let lines: String =
            log.lines().filter(|line| !line.starts_with('x')).map(|line| line.to_owned() + "\n").collect();
        let is_session = |line: &&Value| line["outcome"] == "session" && line["db_user"] == user;
        parsed(&lines).iter().filter(is_session).count()
    }

    async fn writable(&self) -> bool {
        self.binary.metric("pgpassport_log_writable{sink=\"audit\"}").await == 1
    }

    /// Bob comes and goes until his records cannot be written; gives how often he was let in.
    async fn bob_comes_until_it_is_noticed(&self, world: &World) -> usize {
        let (mut sessions, token) = (0, world.token("bob"));
        until("what is wrong is noticed", async || {
            let writable = self.writable().await;
            if writable && let Ok(client) = self.binary.login_with(world, "bob", &token).await {
                drop(client);
                sessions += 1;
            }
            !writable
        })
        .await;
        sessions
    }
}

async fn world() -> World {
    World::builder().limits("shutdown_timeout = \"0s\"").start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_are_refused_while_their_records_cannot_be_written() {
    let world = world().await;
    for sink in AuditSink::ALL {
        let Some(mut stage) = sink.start(&world, "") else { continue };
        let mut live = stage.binary.login(&world).await.unwrap();
        ask(&mut live, "begin").await;
        stage.breaks();
        let bobs = stage.bob_comes_until_it_is_noticed(&world).await;
        let refused = stage.binary.login(&world).await.err().expect("a refusal");
        assert_eq!(refused.sqlstate(), "57P03", "{sink:?}: {refused:?}");
        assert_eq!(refused.message(), "cannot connect now: audit log unavailable");
        assert!(refused.detail().starts_with("Stage audit: "), "{refused:?}");
        let admin = stage.binary.admin_addr();
        assert_eq!(
            get(admin, "/readyz").await,
            (503, "audit records cannot be written\n".to_owned()),
            "{sink:?}"
        );
        assert_eq!(get(admin, "/livez").await.0, 200, "{sink:?}");
        // Sessions go on, and their records wait.
        ask(&mut live, "commit").await;
        drop(live);
        stage.heals();
        until("it recovers by itself", async || stage.writable().await).await;
        let mut again = stage.binary.login(&world).await.unwrap();
        ask(&mut again, "select 1").await;
        drop(again);
        until("no record is lost", async || (stage.sessions("alice"), stage.sessions("bob")) == (2, bobs))
            .await;
        assert_eq!(get(admin, "/readyz").await.0, 200, "{sink:?}");
        stage.binary.signal("TERM");
        assert_eq!(stage.binary.ended().await, Some(0), "{sink:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_go_on_without_records_where_the_operator_says_so() {
    let world = world().await;
    for sink in AuditSink::ALL {
        let Some(mut stage) = sink.start(&world, "when_unwritable = \"continue\"") else { continue };
        stage.breaks();
        stage.bob_comes_until_it_is_noticed(&world).await;
        let mut client = stage.binary.login(&world).await.unwrap();
        ask(&mut client, "select 1").await;
        assert_eq!(get(stage.binary.admin_addr(), "/readyz").await.0, 200, "{sink:?}");
        // The end does not wait for it.
        stage.binary.signal("TERM");
        assert_eq!(stage.binary.ended().await, Some(0), "{sink:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_refuses_logins_too_where_the_operator_says_so() {
    let world = world().await;
    let full = File::options().write(true).open("/dev/full").unwrap();
    let config = format!("{ADMIN}\n[audit]\nwhen_unwritable = \"refuse_logins\"");
    let binary =
        ProxyProcess::launch(&world, Launch { config, stderr: Some(full.into()), ..Launch::usual() });
    until("it is noticed", async || get(binary.admin_addr(), "/readyz").await.0 == 503).await;
    let refused = binary.login(&world).await.err().expect("a refusal");
    assert_eq!(refused.sqlstate(), "57P03", "{refused:?}");
}

fn records(file: PathBuf) -> Vec<Value> {
    let all = parsed(&fs::read_to_string(file).unwrap());
    all.into_iter().filter(|line| line["outcome"] == "session").collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_reopens_a_renamed_file_and_loses_no_record() {
    let world = world().await;
    let config = format!("{ADMIN}\n[audit]\nto = \"./audit.json\"");
    let mut binary = ProxyProcess::launch(&world, Launch { config, ..Launch::usual() });
    let file = |name| binary.file(name);
    let written = async |name: &'static str, count: usize| {
        drop(binary.login(&world).await.unwrap());
        until("a record", async || records(binary.file(name)).len() == count).await;
    };
    written("audit.json", 1).await;
    assert_eq!(fs::metadata(file("audit.json")).unwrap().mode() & 0o137, 0, "0640, or less by the umask");
    let first = &parsed(&fs::read_to_string(file("audit.json")).unwrap())[0];
    assert_eq!(first["message"], "audit log started", "{first}");
    // Until it is opened again it is the same file, whatever its name.
    fs::rename(file("audit.json"), file("audit.1")).unwrap();
    written("audit.1", 2).await;
    reload(&binary);
    written("audit.json", 1).await;
    // A file that cannot be opened is no configuration to be taken: all or nothing.
    fs::rename(file("audit.json"), file("audit.2")).unwrap();
    fs::create_dir(file("audit.json")).unwrap();
    binary.signal("HUP");
    assert!(binary.tells().contains("RELOADING=1"));
    assert!(binary.tells().contains("the last reload was refused"));
    written("audit.2", 2).await;
    assert_eq!(binary.logged("connection ended"), 0, "records are not in the log");
    binary.signal("TERM");
    assert_eq!(binary.ended().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_fails_if_the_file_cannot_be_opened_and_check_says_why() {
    let world = world().await;
    for (to, code) in [("/nowhere/audit.json", 78), ("/proc/self/audit.json", 1)] {
        let config = format!("[audit]\nto = \"{to}\"");
        let launch = Launch { config: config.clone(), ..Launch::usual() };
        assert_eq!(ProxyProcess::exit_code(&world, launch).await, Some(code), "{to}");
    }
    let config = world.folder().join("audited.toml");
    let text = fs::read_to_string(world.config_file()).unwrap();
    fs::write(&config, format!("{text}\n[audit]\nto = \"/nowhere/audit.json\"")).unwrap();
    let check =
        Command::new(env!("CARGO_BIN_EXE_pgpassport")).args(["check", "-c"]).arg(&config).output().unwrap();
    let said = String::from_utf8(check.stderr).unwrap();
    assert!(said.contains("audit.to: directory /nowhere does not exist"), "{said}");
}

/// The next record of this event at the daemon.
async fn heard(daemon: &UnixDatagram, event: &str) -> Value {
    loop {
        let mut bytes = vec![0; 64 << 10];
        let received = timeout(PATIENCE, daemon.recv(&mut bytes)).await.expect("a record").unwrap();
        let message = String::from_utf8(bytes[..received].to_vec()).unwrap();
        let (head, record) = message.split_once(": ").unwrap();
        assert!(head.starts_with("<86>pgpassport["), "{message}");
        let record: Value = serde_json::from_str(record).unwrap_or_else(|_| panic!("{message}"));
        if record["event"] == event {
            return record;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_go_to_the_socket_of_syslog_and_logins_wait_for_its_daemon() {
    let world = world().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let daemon = UnixDatagram::bind(&path).unwrap();
    let config = format!("{ADMIN}\n[audit]\nto = \"{}\"", path.display());
    let mut binary = ProxyProcess::launch(&world, Launch { config, ..Launch::usual() });
    drop(binary.login(&world).await.unwrap());
    assert_eq!(heard(&daemon, "session.start").await["db_user"], "alice");
    assert_eq!(heard(&daemon, "session.end").await["outcome"], "session");

    drop(daemon);
    fs::remove_file(&path).unwrap();
    let admin = binary.admin_addr();
    // The first record that cannot be sent tells it; it waits.
    let waiting = binary.login(&world).await.unwrap();
    until("it is noticed", async || get(admin, "/readyz").await.0 == 503).await;
    let refused = binary.login(&world).await.err().expect("a refusal");
    assert_eq!(refused.message(), "cannot connect now: audit log unavailable");
    let daemon = UnixDatagram::bind(&path).unwrap();
    assert_eq!(heard(&daemon, "session.start").await["db_user"], "alice");
    until("it works again", async || get(admin, "/readyz").await.0 == 200).await;
    drop(waiting);
    assert_eq!(heard(&daemon, "session.end").await["outcome"], "session");
    assert_eq!(binary.logged("connection ended"), 0, "records are not in the log");
    binary.signal("TERM");
    assert_eq!(binary.ended().await, Some(0));
}
