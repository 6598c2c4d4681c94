//! The gate of a cluster: who waits, who is refused, and what is forgotten.

use tokio::task::yield_now;
use tokio::time::advance;

use super::*;

const GRACE: Duration = Duration::from_secs(30);

fn status(gate: &ClusterGate) -> (String, usize, usize) {
    let status = gate.status();
    (status.to_string(), status.inside, status.waiting)
}

/// Starts a login that waits at most for [`GRACE`].
fn login(
    gate: &Arc<ClusterGate>,
    stop: &CancellationToken,
) -> tokio::task::JoinHandle<Result<GatePass, ClusterClosed>> {
    let (gate, stop) = (Arc::clone(gate), stop.clone());
    tokio::spawn(async move { gate.pass(Instant::now() + GRACE, &stop).await })
}

#[tokio::test(start_paused = true)]
async fn logins_wait_while_it_is_paused_and_no_longer_than_their_deadline() {
    let (gates, stop) = (ClusterGates::default(), CancellationToken::new());
    let gate = gates.of("app");
    let first = login(&gate, &stop).await.unwrap().unwrap();
    gate.pause();
    let (early, late) = (login(&gate, &stop), login(&gate, &stop));
    yield_now().await;
    assert_eq!(status(&gate), ("paused".to_owned(), 1, 2));
    late.abort();
    assert!(late.await.unwrap_err().is_cancelled());
    assert_eq!(status(&gate), ("paused".to_owned(), 1, 1), "one that has left waits no longer");
    assert!(!gate.resume().is_open());
    let second = early.await.unwrap().unwrap();
    assert_eq!(status(&gate), ("open".to_owned(), 2, 0));
    drop((first, second));

    gate.pause();
    let waiting = login(&gate, &stop);
    yield_now().await;
    advance(GRACE).await;
    let closed = waiting.await.unwrap().unwrap_err();
    assert_eq!(closed, ClusterClosed::Paused("app".to_owned()));
    assert_eq!(closed.to_string(), "cluster app is paused by an operator");
    let waiting = login(&gate, &stop);
    yield_now().await;
    stop.cancel();
    assert_eq!(waiting.await.unwrap().unwrap_err(), closed, "the service stops");
    assert_eq!(status(&gate), ("paused".to_owned(), 0, 0));
}

#[tokio::test(start_paused = true)]
async fn logins_are_refused_while_it_is_drained_unless_it_is_paused_too() {
    let (gates, stop) = (ClusterGates::default(), CancellationToken::new());
    let gate = gates.of("app");
    gate.drain(GRACE);
    let closed = login(&gate, &stop).await.unwrap().unwrap_err();
    assert_eq!(closed, ClusterClosed::Drained("app".to_owned()));
    gate.pause();
    let waiting = login(&gate, &stop);
    yield_now().await;
    assert_eq!(status(&gate), ("paused, draining".to_owned(), 0, 1));
    gate.resume();
    let pass = waiting.await.unwrap().unwrap();
    assert!(pass.is_open());
    gate.drain(GRACE);
    assert!(!pass.is_open(), "its connection is not kept");
}

#[tokio::test(start_paused = true)]
async fn a_pause_waits_for_the_last_session() {
    let (gates, stop) = (ClusterGates::default(), CancellationToken::new());
    let gate = gates.of("app");
    let passes = [login(&gate, &stop).await, login(&gate, &stop).await];
    gate.pause();
    let emptied = tokio::spawn({
        let gate = Arc::clone(&gate);
        async move { gate.emptied().await }
    });
    for pass in passes {
        yield_now().await;
        assert!(!emptied.is_finished());
        drop(pass);
    }
    emptied.await.unwrap();
}

/// A cluster that a reload removes and the next one adds is as closed as it was; names that are gone are forgotten.
#[tokio::test]
async fn a_closed_gate_outlives_its_configuration() {
    let (gates, stop) = (ClusterGates::default(), CancellationToken::new());
    gates.of("paused").pause();
    drop(gates.of("open"));
    let pass = gates.of("in use").pass(Instant::now() + GRACE, &stop).await.unwrap();
    drop(gates.of("next"));
    assert!(!gates.of("paused").status().is_open() && gates.find("in use").is_some());
    assert!(gates.find("open").is_none());
    drop(pass);
    gates.find("paused").unwrap().resume();
    drop(gates.of("next"));
    assert!(gates.find("paused").is_none() && gates.find("in use").is_none());
}
