//! A new process takes over from an old one, and nobody is refused in between.

use std::collections::VecDeque;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use pgpassport::accept::listening_socket::ListeningSocket;
use tempfile::TempDir;

use crate::world::binary::NotifySocket;
use crate::world::process::{TestProcess, restarts};
use crate::world::raw::query;
use crate::world::{RawClient, World};

/// Replacements of a process whose successor waits for its end, which takes a second.
const RESTARTS: usize = 3;

/// Replacements where both processes run for a while.
const OVERLAPPING_RESTARTS: usize = 8;

/// Processes that may be about to end at the same time.
const AT_ONCE: usize = 32;

/// Logins that each process sees before it is replaced.
const LOGINS: usize = 5;

/// Takes the place of the service manager.
struct ServiceManager {
    config: PathBuf,
    folder: TempDir,
    /// Listening socket, as a socket unit holds it.
    socket: Option<TcpListener>,
    started: AtomicUsize,
}

/// A running binary.
struct ManagedService(TestProcess);

impl ManagedService {
    fn end(self) {
        self.stop();
        self.ended();
    }

    fn stop(&self) {
        self.0.signal("TERM");
    }

    fn ended(mut self) {
        assert_eq!(self.0.exit_code(), Some(0));
    }
}

impl ServiceManager {
    fn new(config: PathBuf, socket: Option<TcpListener>) -> Self {
        Self { config, folder: tempfile::tempdir().unwrap(), socket, started: AtomicUsize::new(0) }
    }

    /// Starts the binary and waits until it says that it is ready.
    fn start(&self) -> ManagedService {
        let path = self.folder.path().join(self.started.fetch_add(1, Ordering::Relaxed).to_string());
        let notified = NotifySocket::at(&path);
        let mut command = Command::new("sh");
        command.args(["-c", "exec 3<&0 0</dev/null; LISTEN_PID=$$ exec \"$@\"", "sh"]);
        if let Some(socket) = &self.socket {
            command.stdin(OwnedFd::from(socket.try_clone().unwrap())).env("LISTEN_FDS", "1");
        } else {
            command.stdin(Stdio::null());
        }
        let child = command
            .args([env!("CARGO_BIN_EXE_pgpassport"), "serve", "--log-level", "error", "--config"])
            .arg(&self.config)
            .env("NOTIFY_SOCKET", &path)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let service = ManagedService(TestProcess(child));
        assert!(notified.next().contains("READY=1"));
        service
    }
}

/// Logins so far, to be waited for.
#[derive(Default)]
struct LoginCounter(Mutex<usize>, Condvar);

impl LoginCounter {
    fn one_more(&self) {
        *self.0.lock().unwrap() += 1;
        self.1.notify_all();
    }

    fn wait_for_some_more(&self) {
        let mut count = self.0.lock().unwrap();
        let enough = *count + LOGINS;
        while *count < enough {
            let waited = self.1.wait_timeout(count, Duration::from_mins(1)).unwrap();
            assert!(!waited.1.timed_out(), "nobody comes any more");
            count = waited.0;
        }
    }
}

/// Three clients log in, ask, and leave, again and again, while `restart` goes on; every error ends the test.
async fn clients_come_and_go<T: Send + 'static>(
    world: &World,
    port: u16,
    restart: impl FnOnce(&LoginCounter) -> T + Send + 'static,
) -> T {
    let (over, logins) = (AtomicBool::new(false), Arc::new(LoginCounter::default()));
    let token = world.token("alice");
    let client = async || {
        while !over.load(Ordering::Relaxed) {
            let client = RawClient::connect(port, world.listener_ca()).await;
            let (mut client, _) = client.login("alice", Some("app"), &token).await.expect("let in");
            client.send(&query("select 1")).await;
            while client.message().await.expect("an answer").0 != b'Z' {}
            client.send(b"X\0\0\0\x04").await;
            logins.one_more();
        }
    };
    let clients = futures_util::future::join_all((0..3).map(|_| client()));
    let restarting = async {
        let seen = Arc::clone(&logins);
        let last = tokio::task::spawn_blocking(move || restart(&seen)).await.unwrap();
        over.store(true, Ordering::Relaxed);
        last
    };
    futures_util::future::join(clients, restarting).await.1
}

/// The service manager holds the socket; one process ends and the next one begins, as `systemctl restart` does it.
#[tokio::test(flavor = "multi_thread")]
async fn r25_a_restart_with_a_handed_over_socket_refuses_nobody() {
    let world = World::start().await;
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    let manager = ServiceManager::new(world.config_file(), Some(socket));
    // The manager and its socket stay until the last client has gone.
    let (_manager, last) = clients_come_and_go(&world, port, move |logins| {
        let mut service = manager.start();
        for _ in 0..restarts(RESTARTS) {
            logins.wait_for_some_more();
            service.end();
            service = manager.start();
        }
        logins.wait_for_some_more();
        (manager, service)
    })
    .await;
    last.end();
}

/// The next process listens on the same port before the old one ends.
#[tokio::test(flavor = "multi_thread")]
async fn r25_a_restart_on_a_shared_port_refuses_nobody() {
    let world = World::start().await;
    // Keeps the port for the processes of this user; it does not listen, so no client comes here.
    let kept = tokio::net::TcpSocket::new_v4().unwrap();
    kept.set_reuseport(true).unwrap();
    kept.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = kept.local_addr().unwrap().port();
    let text = std::fs::read_to_string(world.config_file()).unwrap();
    let shared = format!("addr = \"127.0.0.1:{port}\"\nreuse_port = true");
    let config = world.folder().join("shared.toml");
    std::fs::write(&config, text.replacen("addr = \"127.0.0.1:0\"", &shared, 1)).unwrap();
    let manager = ServiceManager::new(config, None);
    let mut service = manager.start();
    let last = clients_come_and_go(&world, port, move |logins| {
        let mut stopping = VecDeque::new();
        for _ in 0..restarts(OVERLAPPING_RESTARTS) {
            logins.wait_for_some_more();
            let next = manager.start();
            service.stop();
            stopping.push_back(service);
            service = next;
            if stopping.len() > AT_ONCE {
                stopping.pop_front().into_iter().for_each(ManagedService::ended);
            }
        }
        logins.wait_for_some_more();
        stopping.into_iter().for_each(ManagedService::ended);
        service
    })
    .await;
    last.end();
}

/// Two services on one port by mistake are noticed.
#[tokio::test]
async fn a_port_is_not_shared_unless_both_say_so() {
    let first = ListeningSocket::bind("127.0.0.1:0".parse().unwrap(), false).unwrap();
    let addr = first.addr().unwrap().tcp().unwrap();
    assert!(ListeningSocket::bind(addr, false).is_err() && ListeningSocket::bind(addr, true).is_err());
    let shared = ListeningSocket::bind("127.0.0.1:0".parse().unwrap(), true).unwrap();
    let addr = shared.addr().unwrap().tcp().unwrap();
    assert!(ListeningSocket::bind(addr, false).is_err());
    assert!(ListeningSocket::bind(addr, true).is_ok());
}
