//! Names with many addresses, dead ones among them.

use tokio::net::{TcpListener, TcpSocket};

use super::*;

fn v4(n: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, n], 5432))
}

fn v6(n: u16) -> SocketAddr {
    SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, n], 5432))
}

#[test]
fn r28_at_most_eight_addresses_and_the_families_take_turns() {
    let many: Vec<_> = (1..=50).map(v4).collect();
    assert_eq!(Vec::from(in_turn(many.clone())), many[..8]);
    // Fifty that may all be dead do not hide the one behind them.
    let dead_first: Vec<_> = (1..=50).map(v6).chain([v4(1)]).collect();
    assert_eq!(in_turn(dead_first), [v6(1), v4(1), v6(2), v6(3), v6(4), v6(5), v6(6), v6(7)]);
    assert_eq!(in_turn(vec![v4(1), v4(2), v6(1)]), [v4(1), v6(1), v4(2)]);
    assert_eq!(in_turn(vec![v4(1)]), [v4(1)]);
    assert_eq!(in_turn((1..=7).map(v4).chain((1..=7).map(v6)).collect()).len(), 8);
}

#[tokio::test]
async fn r28_names_that_do_not_resolve_say_why() {
    let problem = |resolver: Resolver| async move {
        let deadline = Instant::now() + Duration::from_secs(10);
        resolve(&resolver, ("db.example", 5432), deadline).await.unwrap_err().to_string()
    };
    let nobody = problem(Resolver::from_fn(|_| Ok(vec![]))).await;
    assert_eq!(nobody, "db.example cannot be resolved: the name has no address");
    let failing = Resolver::from_fn(|_| Err(std::io::Error::other("SERVFAIL")));
    assert_eq!(problem(failing).await, "db.example cannot be resolved: SERVFAIL");
    let (_open, gate) = std::sync::mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    tokio::time::pause(); // from here on, time is what the timers say
    let begun = Instant::now();
    let silent = problem(Resolver::from_fn(move |_| {
        let _ = gate.lock().unwrap().recv();
        Ok(vec![])
    }))
    .await;
    assert_eq!(silent, "db.example cannot be resolved: no answer from DNS in time");
    assert_eq!(begun.elapsed().as_secs(), 10);
}

/// An address that takes no connection and refuses none: its queue is full.
async fn black_hole() -> (SocketAddr, Vec<TcpStream>, TcpListener) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let addr = listener.local_addr().unwrap();
    let mut queued = Vec::new();
    // Linux holds one or two more than it is told to.
    while let Ok(stream) = timeout(Duration::from_millis(200), TcpStream::connect(addr)).await {
        queued.push(stream.unwrap());
    }
    (addr, queued, listener)
}

fn refusing() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

#[tokio::test]
async fn r28_a_dead_address_does_not_keep_the_next_one_waiting() {
    let (dead, _queued, _listener) = black_hole().await;
    let alive = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = alive.local_addr().unwrap();
    let mut addresses = VecDeque::from([dead, refusing(), addr]);
    let (_, reached) = race(&mut addresses, soon(), |_, _| {}).await.unwrap();
    assert_eq!(reached, addr);
    // It was under way when the other one won, and may be tried again: it has not been waited for.
    assert_eq!(addresses, [dead]);
}

#[tokio::test]
async fn r1_refusals_follow_each_other_at_once_and_the_last_one_is_told() {
    let (first, second) = (refusing(), refusing());
    let error = race(&mut VecDeque::from([first, second]), soon(), |_, _| {}).await.unwrap_err();
    assert!(matches!(error, DialError::Connect { addr, .. } if addr == second), "{error}");
}

#[tokio::test]
async fn r2_one_dead_address_is_given_up() {
    let (dead, _queued, _listener) = black_hole().await;
    tokio::time::pause(); // from here on, time is what the timers say
    let begun = Instant::now();
    let error = race(&mut VecDeque::from([dead]), soon(), |_, _| {}).await.unwrap_err();
    assert!(matches!(error, DialError::TimedOut), "{error}");
    let waited = begun.elapsed().as_millis();
    assert!((3_000..=3_001).contains(&waited), "{waited} ms");
    let deadline = Instant::now() + Duration::from_millis(10);
    let error = race(&mut VecDeque::from([dead, dead]), deadline, |_, _| {}).await.unwrap_err();
    assert!(matches!(error, DialError::TimedOut), "{error}");
}
