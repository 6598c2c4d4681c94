//! The binary in silent DNS, and without threads for look-ups. Both need a root user: for mounts of the process's own,
//! and because limits on threads are not for root.

use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};

use aws_emulator::{Ca, names};
use futures_util::future::join_all;

use crate::world::admin::{get, until};
use crate::world::binary::{Launch, ProxyProcess};
use crate::world::raw::query;
use crate::world::scripted_server::{Script, ScriptedServer, welcome};
use crate::world::{RawClient, World};

const ADMIN: &str = "[admin]\naddr = \"127.0.0.1:0\"\n";

/// A packet, and who waits for an answer to it.
type Question = (Vec<u8>, SocketAddr);

/// A name server on an address of loopback that takes questions and gives no answers until it is told to. Then no name
/// exists.
#[derive(Clone)]
struct NameServer {
    socket: Arc<UdpSocket>,
    /// Questions without an answer; `None` once it speaks.
    asked: Arc<Mutex<Option<Vec<Question>>>>,
}

impl NameServer {
    /// The port of DNS is fixed (RFC 1035, section 4.2.1); each server has an address of its own.
    fn start() -> Self {
        let id = std::process::id().to_be_bytes();
        let addresses = (1..=254).map(|last| [127, id[2] | 0x80, id[3], last]);
        let mut sockets =
            addresses.filter_map(|addr| UdpSocket::bind((std::net::Ipv4Addr::from(addr), 53)).ok());
        let socket = Arc::new(sockets.next().expect("an address for a name server; this takes a root user"));
        let server = Self { socket, asked: Arc::new(Mutex::new(Some(Vec::new()))) };
        let serving = server.clone();
        std::thread::spawn(move || serving.serve());
        server
    }

    fn serve(&self) {
        let mut packet = [0; 512];
        while let Ok((length, from)) = self.socket.recv_from(&mut packet) {
            match &mut *self.asked.lock().unwrap() {
                Some(asked) => asked.push((packet[..length].to_vec(), from)),
                None => self.deny(&packet[..length], from),
            }
        }
    }

    /// The question as an answer: NXDOMAIN (RFC 1035, section 4.1.1).
    fn deny(&self, question: &[u8], to: SocketAddr) {
        let mut answer = question.to_vec();
        (answer[2], answer[3]) = (0x81, 0x83);
        self.socket.send_to(&answer, to).unwrap();
    }

    fn speaks(&self) {
        for (question, from) in self.asked.lock().unwrap().take().unwrap_or_default() {
            self.deny(&question, from);
        }
    }

    /// Has the program use this server in place of the machine's.
    fn shell(&self) -> String {
        let addr = self.socket.local_addr().unwrap().ip();
        format!(
            "printf 'nameserver {addr}\\noptions timeout:30 attempts:3\\n' > resolv.conf && \
             printf 'hosts: files dns\\n' > nsswitch.conf && mount --bind resolv.conf /etc/resolv.conf && \
             mount --bind nsswitch.conf /etc/nsswitch.conf && exec \"$@\""
        )
    }
}

/// Has the binary look the endpoint up, which the proxy in this process need not.
fn without_hostaddr(world: &World) {
    let config = std::fs::read_to_string(world.config_file()).unwrap();
    let line = config.lines().find(|line| line.trim_start().starts_with("hostaddr = ")).unwrap();
    world.edit(line, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn seven_hundred_logins_in_silent_dns_cost_one_thread() {
    const LOGINS: usize = 700;
    let limits = "max_client_conn = 2000\nmax_logins = 1500\nmax_user_client_connections = 0\n\
                  server_connect_timeout = \"1m\"";
    let world = World::builder().limits(limits).start().await;
    without_hostaddr(&world);
    let dns = NameServer::start();
    let launch = Launch { config: ADMIN.to_owned(), shell: Some(dns.shell()), ..Launch::usual() };
    let binary = Arc::new(ProxyProcess::launch(&world, launch));
    let before = binary.threads();
    let (token, ca, port) = (world.token("alice"), world.listener_ca().clone(), binary.port);
    let login = || {
        let (token, ca) = (token.clone(), ca.clone());
        tokio::spawn(async move {
            RawClient::connect(port, &ca).await.login("alice", Some(names::DATABASE), &token).await.err()
        })
    };
    let waiting: Vec<_> = (0..LOGINS).map(|_| login()).collect();
    until("all logins wait for DNS", async || binary.metric("pgpassport_dns_waiting").await >= LOGINS).await;
    assert_eq!(binary.threads(), before + 1, "{before} threads were there before");
    for (series, value) in [
        ("pgpassport_dns_lookups_in_flight", 1),
        ("pgpassport_dns_names_queued", 0),
        ("pgpassport_dns_refused_total", 0),
        ("pgpassport_threads", before + 1),
    ] {
        assert_eq!(binary.metric(series).await, value, "{series}");
    }
    assert_eq!(get(binary.admin_addr(), "/livez").await.0, 200);
    dns.speaks();
    for refusal in join_all(waiting).await {
        let refusal = refusal.unwrap().expect("nobody is there to log in to");
        assert_eq!(refusal.sqlstate(), "57P03");
        assert!(refusal.detail().contains("the name of the database does not resolve"), "{refusal:?}");
    }
    assert_eq!(binary.metric("pgpassport_dns_waiting").await, 0);
    assert!(binary.metric("pgpassport_dns_lookup_seconds_count").await > 0);
    assert!(binary.metric("pgpassport_dns_lookups_failed_total").await > 0);
}

/// An ordinary user, who has no other processes that matter: its limit on threads is set below what it has.
const USER: u32 = 65_534;

#[tokio::test(flavor = "multi_thread")]
async fn without_free_threads_logins_and_reloads_are_refused_and_sessions_go_on() {
    let ca = Ca::new().unwrap();
    let server =
        ScriptedServer::with_cert(&ca.server(&["localhost"]).unwrap(), Script::AfterPassword(welcome()))
            .await;
    let endpoint = format!("localhost:{}", server.addr.port());
    let world = World::builder().endpoint(&endpoint).upstream(server.addr, &ca).start().await;
    without_hostaddr(&world);
    let shell = format!(
        "cp \"$1\" pgpassport && shift && chown -R {USER}:{USER} . {} && \
         exec setpriv --reuid={USER} --regid={USER} --clear-groups ./pgpassport \"$@\"",
        world.folder().display()
    );
    let mut binary = ProxyProcess::launch(&world, Launch { shell: Some(shell), ..Launch::usual() });
    let before = binary.threads();
    binary.allow_threads(USER, 1);
    let refusal = binary.login(&world).await.err().expect("no thread for the DNS lookup");
    assert_eq!(refusal.sqlstate(), "57P03");
    until("the reason is logged", async || binary.logged("no thread for the DNS lookup") > 0).await;
    binary.signal("HUP");
    until("the reload is refused", async || binary.logged("no thread for the reload") == 1).await;
    assert!(binary.runs());
    binary.allow_threads(USER, 1_000);
    let mut session = binary.login(&world).await.expect("a thread for the look-up");
    // The thread of the look-up is idle and does the next ones, until it ends.
    binary.allow_threads(USER, 1);
    drop(binary.login(&world).await.expect("a thread is left"));
    until("the idle thread has ended", async || binary.threads() == before).await;
    assert!(binary.login(&world).await.is_err());
    session.send(&query("select 1")).await;
    server.clients(2).await;
    binary.signal("HUP");
    until("the reload is refused", async || binary.logged("no thread for the reload") == 2).await;
    binary.allow_threads(USER, 1_000);
    drop(binary.login(&world).await.expect("a thread for the look-up"));
    binary.signal("HUP");
    until("the reload is taken", async || binary.logged("configuration reloaded") == 1).await;
    assert_eq!(binary.logged("panic"), 0);
}

/// With each number of threads that is too small for a start: an error, an exit code that asks for another try, and no
/// panic.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_without_enough_threads_is_an_error() {
    let world = World::start().await;
    let needed = {
        let binary = ProxyProcess::launch(&world, Launch::usual());
        binary.threads()
    };
    assert!(needed > 3, "{needed} threads");
    for threads in 1..needed {
        let (log, user) = (world.folder().join("log"), USER - 1);
        let shell = format!(
            "cp \"$1\" pgpassport && shift && chown -R {user}:{user} . {} && exec prlimit --nproc={threads}: \
             setpriv --reuid={user} --regid={user} --clear-groups ./pgpassport \"$@\"",
            world.folder().display()
        );
        let stderr = Some(std::fs::File::create(&log).unwrap().into());
        let code =
            ProxyProcess::exit_code(&world, Launch { shell: Some(shell), stderr, ..Launch::usual() }).await;
        let said = std::fs::read_to_string(&log).unwrap();
        assert_eq!(code, Some(1), "{threads} threads: {said}");
        assert!(
            ["cannot start", "cannot be started"].iter().any(|words| said.contains(words)),
            "{threads} threads: {said}"
        );
        assert!(!said.contains("panic"), "{threads} threads: {said}");
    }
}
