//! Replicas behind a balancer that follows `/readyz` are replaced one by one while clients log in: no login is refused,
//! and no session is cut.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::net::TcpStream;

use crate::world::admin::until;
use crate::world::binary::{Launch, ProxyProcess};
use crate::world::haproxy::HaProxy;
use crate::world::process::restarts;
use crate::world::raw::query;
use crate::world::{RawClient, World};

/// Clients that log in again and again.
const CLIENTS: usize = 4;

/// Replicas that are replaced, one after the other: each of the two once.
const RESTARTS: usize = 2;

/// Logins that each replica sees at least before the next one is replaced.
const LOGINS: usize = 20;

/// Logs in, asks and leaves; the error says what went wrong.
async fn visit(world: &World, port: u16, token: &str) -> Result<(), String> {
    let tcp = TcpStream::connect(("127.0.0.1", port)).await.map_err(|error| error.to_string())?;
    let client = RawClient::try_over(tcp, world.listener_ca())
        .await
        .map_err(|error| format!("cut in TLS: {error}"))?;
    let login = client.login("alice", Some("app"), token).await;
    let (mut client, _) = login.map_err(|error| format!("refused: {error:?}"))?;
    client.send(&query("select 1")).await;
    loop {
        match client.message().await {
            Some((b'Z', _)) => break,
            Some((b'E', body)) => return Err(format!("ended: {}", String::from_utf8_lossy(&body))),
            Some(_) => {}
            None => return Err("cut behind its login".to_owned()),
        }
    }
    client.send(b"X\0\0\0\x04").await;
    Ok(())
}

/// The two replicas of a balancer.
struct Replicas<'a> {
    world: &'a World,
    balancer: HaProxy,
    processes: Vec<ProxyProcess>,
}

impl<'a> Replicas<'a> {
    async fn start(world: &'a World) -> Self {
        let processes: Vec<_> = (0..2).map(|_| launch(world)).collect();
        let server = |(number, process): (usize, &ProxyProcess)| {
            let (port, admin) = (process.port, process.admin_addr().port());
            format!("  server s{number} 127.0.0.1:{port} send-proxy-v2 check port {admin}\n")
        };
        let servers: String = processes.iter().enumerate().map(server).collect();
        let backend = format!(
            "  option httpchk GET /readyz\n  http-check expect status 200\n\
             \x20 default-server inter 50ms fall 1 rise 1\n{servers}"
        );
        let balancer = HaProxy::start(&world.folder(), &backend);
        let replicas = Self { world, balancer, processes };
        until("HAProxy answers its commands", async || replicas.balancer.is_up()).await;
        for number in 0..2 {
            replicas.until_up(number).await;
        }
        replicas
    }

    async fn until_up(&self, number: usize) {
        until("the balancer takes the replica for well", async || {
            self.balancer.status(&format!("s{number}")).await == "UP"
        })
        .await;
    }

    /// Stops one replica as an orchestrator does, and starts another in its place.
    async fn replace(&mut self, number: usize) {
        let old = &mut self.processes[number];
        old.signal("TERM");
        assert_eq!(old.ended().await, Some(0));
        let server = format!("s{number}");
        assert!(
            self.balancer.status(&server).await.starts_with("DOWN"),
            "the balancer has not noticed in time"
        );
        let new = launch(self.world);
        let (port, admin) = (new.port, new.admin_addr().port());
        for change in [format!("addr 127.0.0.1 port {port}"), format!("check-port {admin}")] {
            self.balancer.command(&format!("set server replicas/{server} {change}")).await;
        }
        self.processes[number] = new;
        self.until_up(number).await;
    }
}

fn launch(world: &World) -> ProxyProcess {
    let config = "[admin]\naddr = \"127.0.0.1:0\"".to_owned();
    ProxyProcess::launch(world, Launch { config, ..Launch::usual() })
}

#[tokio::test(flavor = "multi_thread")]
async fn r25_rolling_restarts_behind_a_balancer_refuse_no_login_and_cut_no_session() {
    let limits = "shutdown_delay = \"3s\"\nmax_user_client_connections = 0";
    let listen = "proxy_protocol_from = [\"127.0.0.0/8\"]";
    let world = World::builder().listen(listen).limits(limits).start().await;
    let mut replicas = Replicas::start(&world).await;
    let port = replicas.balancer.addr.port();
    let (over, logins) = (AtomicBool::new(false), AtomicUsize::new(0));
    let token = world.token("alice");
    let client = async || {
        while !over.load(Ordering::Relaxed) {
            let visited = visit(&world, port, &token).await;
            assert_eq!(visited, Ok(()), "after {} logins", logins.load(Ordering::Relaxed));
            logins.fetch_add(1, Ordering::Relaxed);
        }
    };
    let some_more = async || {
        let enough = logins.load(Ordering::Relaxed) + LOGINS;
        until("clients log in", async || logins.load(Ordering::Relaxed) >= enough).await;
    };
    let clients = futures_util::future::join_all((0..CLIENTS).map(|_| client()));
    let restarting = async {
        for restart in 0..restarts(RESTARTS) {
            some_more().await;
            replicas.replace(restart % 2).await;
        }
        some_more().await;
        over.store(true, Ordering::Relaxed);
    };
    futures_util::future::join(clients, restarting).await;
}
