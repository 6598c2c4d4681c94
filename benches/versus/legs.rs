//! A cold login when STS or the server is far away: relays that hold back what passes, and what a login takes then.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::time::sleep;

use crate::ground::{BenchGround, BenchServer, Kind, StartOptions};
use crate::sessions::{LoginRoute, runtime};

/// Distance of the far database.
pub(crate) const FAR: Duration = Duration::from_millis(100);

/// Seconds that logins took, one figure a round.
#[derive(Default)]
pub(crate) struct LoginTimes {
    pub(crate) near: Vec<f64>,
    pub(crate) sts_far: Vec<f64>,
    pub(crate) server_far: Vec<f64>,
    pub(crate) both_far: Vec<f64>,
}

/// Bytes delayed by [`FAR`].
#[derive(Clone, Copy)]
enum HeldPhase {
    /// Everything a client says until the server can be reached: one delay a connection.
    Opening,
    /// Each answer: one delay a request.
    Answers,
}

/// A TCP relay that can be told to hold things back.
struct DelayRelay {
    addr: SocketAddr,
    far: Arc<AtomicBool>,
}

impl DelayRelay {
    fn start(runtime: &Runtime, to: SocketAddr, held: HeldPhase) -> Self {
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
        let addr = listener.local_addr().expect("its address");
        let far = Arc::new(AtomicBool::new(false));
        let is_far = Arc::clone(&far);
        runtime.spawn(async move {
            loop {
                if let Ok((client, _)) = listener.accept().await {
                    let is_far = Arc::clone(&is_far);
                    tokio::spawn(async move { drop(carry(client, to, held, &is_far).await) }); // who leaves, leaves
                }
            }
        });
        Self { addr, far }
    }
}

async fn carry(client: TcpStream, to: SocketAddr, held: HeldPhase, is_far: &AtomicBool) -> io::Result<()> {
    if matches!(held, HeldPhase::Opening) && is_far.load(Ordering::Relaxed) {
        sleep(FAR).await;
    }
    let server = TcpStream::connect(to).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let up = async {
        tokio::io::copy(&mut from_client, &mut to_server).await?;
        to_server.shutdown().await
    };
    let down = async {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let read = from_server.read(&mut buffer).await?;
            if read == 0 {
                return to_client.shutdown().await;
            }
            if matches!(held, HeldPhase::Answers) && is_far.load(Ordering::Relaxed) {
                sleep(FAR).await;
            }
            to_client.write_all(&buffer[..read]).await?;
        }
    };
    tokio::try_join!(up, down).map(drop)
}

/// Logs in `rounds` times each way, with a new token every time, so that STS is asked every time.
pub(crate) fn measure(ground: &BenchGround, rounds: usize) -> LoginTimes {
    let relays = runtime();
    let sts = DelayRelay::start(&relays, ground.cloud.sts.addr(), HeldPhase::Answers);
    let server = DelayRelay::start(&relays, ground.server.addr, HeldPhase::Opening);
    let behind = BenchServer { addr: server.addr, ..ground.server.clone() };
    let special = StartOptions { sts: Some(sts.addr), ..StartOptions::default() };
    let contestant = ground.contestant(Kind::Pgpassport, &behind, special);
    let (way, clients) = (LoginRoute::to(&contestant), runtime());
    let login = |sts_far: bool, server_far: bool| {
        sts.far.store(sts_far, Ordering::Relaxed);
        server.far.store(server_far, Ordering::Relaxed);
        let way = way.clone().with_password(&ground.token());
        let began = Instant::now();
        clients.block_on(way.log_in()).expect("a login");
        began.elapsed().as_secs_f64()
    };
    login(false, false); // fetches the issuer's keys and connects to STS
    let mut logins = LoginTimes::default();
    for _ in 0..rounds {
        logins.near.push(login(false, false));
        logins.sts_far.push(login(true, false));
        logins.server_far.push(login(false, true));
        logins.both_far.push(login(true, true));
    }
    logins
}
