//! `/livez` with tasks that keep failing, threads that do not answer, and sessions that panic.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use pgpassport::clock::Clock;
use pgpassport::supervisor::{Failpoints, TaskKind};

use super::{SOON, answers, restarts, session, up};
use crate::world::World;
use crate::world::admin::until;

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_keeps_failing_is_named_until_it_works_again() {
    let failpoints = Failpoints::enabled();
    let ordered = failpoints.clone();
    let world = World::builder()
        .service_with(move |service| {
            let rules = &mut service.outside.tasks;
            (rules.first_pause, rules.longest_pause) = (Duration::from_millis(1), Duration::from_millis(10));
            (rules.stable_after, rules.failpoints) = (SOON, ordered.clone());
        })
        .start()
        .await;
    until("keys", async || world.get("/readyz").await.0 == 200).await;
    for (kind, name) in [(TaskKind::KeyRefresher, "key_refresher idp"), (TaskKind::Acceptor, "acceptor")] {
        failpoints.order(kind, u32::MAX);
        let said = format!("{name} keeps failing: ");
        until("it is not alive", async || {
            let (status, text) = world.get("/livez").await;
            assert_eq!(status == 503, text.contains(&said), "{status}: {text}");
            status == 503
        })
        .await;
        assert!(world.metric(&restarts(kind)).await > 4.5);
        world.log_line(&format!("task is not working\",\"task\":\"{name}\"")).await;
        failpoints.order(kind, 0);
        until("it is alive", async || world.get("/livez").await.0 == 200).await;
        world.metric_is(&up(kind), 1.0).await;
        world.log_line(&format!("task works again\",\"task\":\"{name}\"")).await;
    }
    drop(session(&world).await);
}

/// Stops the session thread that asks for the time next, until it is released.
#[derive(Clone, Default)]
struct Trap(Arc<(Mutex<State>, Condvar)>);

#[derive(Default, PartialEq)]
enum State {
    #[default]
    Away,
    Set,
    Caught,
}

impl Trap {
    fn becomes(&self, state: State) {
        *self.0.0.lock().unwrap() = state;
        self.0.1.notify_all();
    }

    fn is_shut(&self) -> bool {
        *self.0.0.lock().unwrap() == State::Caught
    }

    fn clock(&self) -> Clock {
        let trap = self.clone();
        Clock::from_fn(move || {
            if on_a_session_thread() {
                let (state, changed) = &*trap.0;
                let mut state = state.lock().unwrap();
                if *state == State::Set {
                    *state = State::Caught;
                    drop(changed.wait_while(state, |state| *state == State::Caught).unwrap());
                }
            }
            Clock::system().now()
        })
    }
}

fn on_a_session_thread() -> bool {
    std::thread::current().name().is_some_and(|name| name.starts_with("sessions-"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_thread_that_does_not_answer_is_named_and_gets_no_new_sessions() {
    let trap = Trap::default();
    let clock = trap.clock();
    let world = World::builder()
        .service_with(move |service| {
            service.outside.clock = clock.clone();
            service.outside.tasks.stuck_after = Duration::from_millis(500);
        })
        .start()
        .await;
    trap.becomes(State::Set);
    let token = world.token("alice");
    let client = world.raw().await;
    let stuck = tokio::spawn(async move { client.login("alice", Some("app"), &token).await });
    until("a thread is caught", async || trap.is_shut()).await;
    until("it is not alive", async || {
        let (status, text) = world.get("/livez").await;
        assert_eq!(status == 503, text.contains("session_thread "), "{status}: {text}");
        status == 503 && text.contains("has not answered for ")
    })
    .await;
    world.metric_is(&up(TaskKind::SessionThread), 0.0).await;
    world.log_line("task is not working\",\"task\":\"session_thread ").await;
    if std::thread::available_parallelism().unwrap().get() > 1 {
        for _ in 0..5 {
            answers(&mut session(&world).await).await;
        }
    }
    trap.becomes(State::Away);
    let (mut client, _) = stuck.await.unwrap().expect("it goes on where it was");
    answers(&mut client).await;
    until("it is alive", async || world.get("/livez").await.0 == 200).await;
    world.metric_is(&up(TaskKind::SessionThread), 1.0).await;
    assert!(world.metric(&restarts(TaskKind::SessionThread)).await < 0.5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_panics_ends_and_the_others_do_not_notice() {
    let panics = Arc::new(AtomicUsize::new(0));
    let left = Arc::clone(&panics);
    let world = World::builder()
        .service_with(move |service| {
            let left = Arc::clone(&left);
            service.outside.clock = Clock::from_fn(move || {
                let one_less = |left: usize| left.checked_sub(1);
                if on_a_session_thread()
                    && left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok()
                {
                    panic!("as a test has ordered");
                }
                Clock::system().now()
            });
        })
        .start()
        .await;
    let mut others = Vec::new();
    for _ in 0..4 {
        let mut other = session(&world).await;
        answers(&mut other).await; // from here on it looks at no clock for a while
        others.push(other);
    }
    for n in 1..=3 {
        panics.store(1, Ordering::Relaxed);
        let lost = world.connect("alice", &world.token("alice")).await;
        assert!(lost.is_err_and(|error| error.as_db_error().is_none()), "a closed connection");
        world.metric_is("pgpassport_connections_total{outcome=\"aborted\"}", f64::from(n)).await;
    }
    assert_eq!(world.audit("outcome", "aborted").await["asked_user"], "alice");
    for client in &mut others {
        answers(client).await;
    }
    answers(&mut session(&world).await).await;
    drop(others);
    world.metric_is("pgpassport_cl_active", 0.0).await;
    world.metric_is("pgpassport_cl_waiting", 0.0).await;
    assert_eq!(world.get("/livez").await.0, 200);
}
