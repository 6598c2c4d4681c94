//! The bounds of the resolver, with sources of addresses that block for as long as a test wants.

use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::{Receiver, Sender, channel};

use hyper_util::client::legacy::connect::dns::Name;
use tokio::task::JoinHandle;
use tower_service::Service;

use super::*;
use crate::sync::lock;

const ADDR: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1)), 0);

/// A source that keeps look-ups of names that begin with `silent` until it is told to answer, and answers others at
/// once; names that begin with `nothing` do not resolve.
struct Dns {
    begun: Arc<Mutex<Vec<String>>>,
    gate: Arc<(Mutex<bool>, std::sync::Condvar)>,
}

impl Dns {
    fn start() -> (Self, Resolver) {
        let dns = Self { begun: Arc::default(), gate: Arc::default() };
        let (begun, gate) = (Arc::clone(&dns.begun), Arc::clone(&dns.gate));
        let resolver = Resolver::from_fn(move |host| {
            begun.lock().unwrap().push(host.to_owned());
            if host.starts_with("silent") {
                let (open, opened) = &*gate;
                let open = lock(open);
                drop(opened.wait_while(open, |open| !*open).unwrap());
            }
            if host.starts_with("nothing") { Err(io::Error::other("SERVFAIL")) } else { Ok(vec![ADDR]) }
        });
        (dns, resolver)
    }

    /// Answers all that are silent.
    fn speak(&self) {
        *self.gate.0.lock().unwrap() = true;
        self.gate.1.notify_all();
    }

    /// Look-ups of this name so far.
    fn count(&self, name: &str) -> usize {
        self.begun.lock().unwrap().iter().filter(|begun| *begun == name).count()
    }
}

fn ask(resolver: &Resolver, name: &str) -> JoinHandle<Result<Vec<SocketAddr>, ResolveError>> {
    let (resolver, name) = (resolver.clone(), name.to_owned());
    tokio::spawn(async move { resolver.look_up(&name, 5432).await })
}

/// Waits until the resolver is so.
async fn until(resolver: &Resolver, done: impl Fn(&ResolverStatus) -> bool) -> ResolverStatus {
    loop {
        let status = resolver.status();
        if done(&status) {
            return status;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn seven_hundred_callers_of_one_name_share_one_look_up() {
    let (dns, resolver) = Dns::start();
    let callers: Vec<_> = (0..700).map(|_| ask(&resolver, "silent.example")).collect();
    let status = until(&resolver, |status| status.waiting == 700 && status.in_flight == 1).await;
    assert_eq!((status.in_flight, status.queued), (1, 0));
    dns.speak();
    for caller in callers {
        assert_eq!(caller.await.unwrap().unwrap(), [SocketAddr::new(ADDR.ip(), 5432)]);
    }
    assert_eq!(dns.count("silent.example"), 1);
    // Nothing is remembered.
    ask(&resolver, "silent.example").await.unwrap().unwrap();
    assert_eq!(dns.count("silent.example"), 2);
    let status = resolver.status();
    assert_eq!((status.waiting, status.in_flight, status.durations.count), (0, 0, 2));
}

#[tokio::test]
async fn callers_who_leave_leave_no_look_up_behind_but_the_one_in_progress() {
    let (dns, resolver) = Dns::start();
    for _ in 0..700 {
        let caller = ask(&resolver, "silent.example");
        until(&resolver, |status| status.waiting == 1 && status.in_flight == 1).await;
        caller.abort();
        assert!(caller.await.unwrap_err().is_cancelled());
    }
    assert_eq!((dns.count("silent.example"), resolver.status().waiting), (1, 0));
    dns.speak();
}

#[tokio::test]
async fn dead_names_leave_threads_for_names_that_resolve_and_all_get_their_turn() {
    let (dns, resolver) = Dns::start();
    ask(&resolver, "good.example").await.unwrap().unwrap();
    let dead: Vec<_> = (0..100).map(|n| ask(&resolver, &format!("silent{n}.example"))).collect();
    let status = until(&resolver, |status| status.waiting == 100 && status.in_flight == 24).await;
    assert_eq!((status.in_flight, status.queued), (MAX_UNPROVEN_LOOKUPS, 76));
    // A name that resolved before does not wait behind them.
    ask(&resolver, "good.example").await.unwrap().unwrap();
    // An unknown one does, and is told so if there is no end.
    let unknown = ask(&resolver, "new.example");
    until(&resolver, |status| status.queued == 77).await;
    dns.speak();
    for caller in dead.into_iter().chain([unknown]) {
        caller.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn no_more_than_32_look_ups_are_in_progress_whatever_is_asked_for() {
    let (dns, resolver) = Dns::start();
    dns.speak();
    let names: Vec<_> = (0..40).map(|n| format!("silent{n}.example")).collect();
    for name in &names {
        ask(&resolver, name).await.unwrap().unwrap();
    }
    // All of them resolved before; now DNS is silent.
    *dns.gate.0.lock().unwrap() = false;
    let callers: Vec<_> = names.iter().map(|name| ask(&resolver, name)).collect();
    let status =
        until(&resolver, |status| status.waiting == 40 && status.in_flight + status.queued == 40).await;
    until(&resolver, |status| status.in_flight == MAX_LOOKUPS).await;
    assert!(status.in_flight <= MAX_LOOKUPS);
    dns.speak();
    for caller in callers {
        caller.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn the_queue_of_names_is_bounded_and_those_nobody_waits_for_make_room() {
    let (dns, resolver) = Dns::start();
    let most = MAX_UNPROVEN_LOOKUPS + MAX_QUEUED_NAMES;
    let mut callers = Vec::new();
    for n in 0..most {
        callers.push(ask(&resolver, &format!("silent{n}.example")));
        if n + 1 == MAX_UNPROVEN_LOOKUPS {
            until(&resolver, |status| status.in_flight == MAX_UNPROVEN_LOOKUPS).await; // and the rest is queued
        }
    }
    until(&resolver, |status| status.waiting == most && status.queued == MAX_QUEUED_NAMES).await;
    let refused = resolver.look_up("one.more.example", 0).await.unwrap_err();
    assert!(matches!(refused, ResolveError::Busy), "{refused}");
    assert_eq!(resolver.status().refused, 1);
    for caller in &callers {
        caller.abort();
    }
    until(&resolver, |status| status.waiting == 0).await;
    let one_more = ask(&resolver, "one.more.example");
    until(&resolver, |status| status.waiting == 1 && status.queued == 1).await;
    dns.speak();
    one_more.await.unwrap().unwrap();
    assert_eq!(dns.begun.lock().unwrap().len(), MAX_UNPROVEN_LOOKUPS + 1, "nobody is asked for the others");
}

/// Paused time passes while nothing but the silent look-up is left to do.
#[tokio::test(start_paused = true)]
async fn a_wait_ends() {
    let (dns, resolver) = Dns::start();
    let begun = tokio::time::Instant::now();
    let error = resolver.look_up("silent.example", 0).await.unwrap_err();
    assert!(matches!(error, ResolveError::TimedOut), "{error}");
    assert_eq!((begun.elapsed(), resolver.status().timed_out), (MAX_WAIT, 1));
    dns.speak();
}

#[tokio::test]
async fn a_look_up_that_panics_is_an_error_for_all_who_wait() {
    let (go, gone): (Sender<()>, Receiver<()>) = channel();
    let gone = Mutex::new(gone);
    let count = AtomicUsize::new(0);
    let resolver = Resolver::from_fn(move |_| {
        assert!(count.fetch_add(1, Ordering::Relaxed) > 0 || gone.lock().unwrap().recv().is_err());
        Ok(vec![ADDR])
    });
    let callers: Vec<_> = (0..10).map(|_| ask(&resolver, "db.example")).collect();
    until(&resolver, |status| status.waiting == 10).await;
    go.send(()).unwrap();
    for caller in callers {
        let error = caller.await.unwrap().unwrap_err();
        assert!(matches!(error, ResolveError::GivenUp), "{error}");
    }
    ask(&resolver, "db.example").await.unwrap().unwrap();
}

/// As if a minute had passed after each question.
#[tokio::test]
async fn a_look_up_that_never_ends_is_tried_again_twice() {
    let (open, gate) = channel::<()>();
    let gate = Mutex::new(gate);
    let stuck = move |_: &str| {
        let _ = gate.lock().unwrap().recv();
        Ok(vec![ADDR])
    };
    let deps = LookupDeps { lost_after: Duration::ZERO, ..LookupDeps::of(Arc::new(stuck)) };
    let resolver = Resolver(Lookups::new(deps));
    let mut callers = Vec::new();
    for n in 1..=3 {
        callers.push(ask(&resolver, "db.example"));
        until(&resolver, |status| status.in_flight == n).await;
    }
    for caller in callers.drain(..2) {
        assert!(matches!(caller.await.unwrap(), Err(ResolveError::GivenUp)));
    }
    callers.push(ask(&resolver, "db.example"));
    let status = until(&resolver, |status| status.waiting == 2).await;
    assert_eq!((status.in_flight, status.queued), (3, 0), "a fourth caller waits for the third look-up");
    drop(open);
    for caller in callers {
        caller.await.unwrap().unwrap();
    }
    until(&resolver, |status| status.in_flight == 0).await;
}

#[tokio::test]
async fn a_lookup_without_a_free_thread_is_an_error() {
    let refuse = |_| Err(io::Error::from_raw_os_error(11)); // EAGAIN
    let deps = LookupDeps { spawn: refuse, ..LookupDeps::of(Arc::new(|_: &str| Ok(vec![ADDR]))) };
    let resolver = Resolver(Lookups::new(deps));
    for _ in 0..3 {
        let error = resolver.look_up("db.example", 0).await.unwrap_err();
        assert!(matches!(error, ResolveError::NoThread(_)), "{error}");
    }
    let status = resolver.status();
    assert_eq!((status.refused, status.queued, status.in_flight), (3, 0, 0));
}

#[tokio::test]
async fn failures_are_told_in_the_systems_words() {
    let (_, resolver) = Dns::start();
    let error = resolver.look_up("nothing.example", 0).await.unwrap_err();
    assert_eq!(error.to_string(), "SERVFAIL");
    let nobody = Resolver::from_fn(|_| Ok(vec![]));
    assert!(matches!(nobody.look_up("db.example", 0).await, Err(ResolveError::NoAddress)));
    assert_eq!((resolver.status().failed, nobody.status().failed), (1, 1));
}

#[tokio::test]
async fn addresses_are_their_own_answer_and_localhost_is_in_the_hosts_file() {
    let system = Resolver::system();
    for literal in ["127.0.0.1", "::1", "2001:db8::7"] {
        let found = system.look_up(literal, 7).await.unwrap();
        assert_eq!(found, [SocketAddr::new(literal.parse().unwrap(), 7)]);
    }
    assert_eq!(system.status().durations.count, 0);
    let found = system.look_up("localhost", 5432).await.unwrap();
    assert!(found.iter().all(|addr| addr.ip().is_loopback() && addr.port() == 5432), "{found:?}");
    let name: Name = "localhost".parse().unwrap();
    let mut service = system.clone();
    assert!(service.call(name).await.unwrap().all(|addr| addr.ip().is_loopback()));
}
