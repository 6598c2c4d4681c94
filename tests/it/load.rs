//! Crowds: number of calls to AWS, waits, and logins that fail with a failing STS or issuer. With `--nocapture` each
//! says how long its logins took.
#![expect(clippy::print_stdout, reason = "what was measured")]

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use aws_emulator::{AnswerHold, Ca, HttpFault, KeyChoice, StsFault};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Mutex, MutexGuard};

use crate::world::admin::until;
use crate::world::raw::trusting;
use crate::world::scripted_server::{Script, ScriptedServer, welcome};
use crate::world::{ErrorFields, RawClient, World};

/// A thousand connections are four thousand descriptors of this process: two of the proxy, one of the client and
/// one of the server.
const LIMITS: &str = "max_client_conn = 2000\nlogin_timeout = \"2m\"\nclient_login_timeout = \"1m\"\n\
                      server_connect_timeout = \"1m\"";

/// Clients and server have threads of their own, as they have elsewhere: their work must not keep the proxy's control
/// plane waiting, which runs on the test's own.
fn outside() -> &'static Runtime {
    static OUTSIDE: OnceLock<Runtime> = OnceLock::new();
    OUTSIDE.get_or_init(|| Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap())
}

/// A world for many people, with a server that welcomes all of them. One crowd at a time: this is about what AWS sees,
/// and not about how many crowds a machine can bear.
async fn world(cluster: &str) -> (World, ScriptedServer, MutexGuard<'static, ()>) {
    static ALONE: Mutex<()> = Mutex::const_new(());
    let alone = ALONE.lock().await;
    rlimit::increase_nofile_limit(10_000).unwrap();
    let ca = Ca::new().unwrap();
    let authority = ca.clone();
    let start = async move { ScriptedServer::start(&authority, Script::AfterPassword(welcome())).await };
    let server = outside().spawn(start).await.unwrap();
    (World::builder().upstream(server.addr, &ca).limits(LIMITS).cluster(cluster).start().await, server, alone)
}

/// Tokens of `count` people. They are not planted as secrets: looking for each of them would take too long.
fn tokens(world: &World, count: usize) -> Vec<(String, String)> {
    let token = |number| {
        let user = format!("user{number}");
        let token = world.cloud.issuer.mint_with(world.claims(&user), &KeyChoice::Es256);
        (user, token)
    };
    (0..count).map(token).collect()
}

/// Logs everybody in at the same time, and gives how each one fared when all have. Those who are in stay in. Says how
/// long it took from the first connection on: all have come at once, and somebody has to be last.
async fn crowd(world: &World, people: Vec<(String, String)>) -> Vec<Result<RawClient, ErrorFields>> {
    let tls = Arc::new(trusting(world.listener_ca()));
    let (begun, size) = (Instant::now(), people.len());
    let logins: Vec<_> = people
        .into_iter()
        .map(|(user, token)| {
            let (port, tls) = (world.port, Arc::clone(&tls));
            outside().spawn(async move {
                let tcp = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                let client = RawClient::with(tcp, tls).await.in_crowd(size);
                let fared = client.login(&user, Some("app"), &token).await.map(|(client, _)| client);
                (fared, begun.elapsed())
            })
        })
        .collect();
    let (mut fared, mut took) = (Vec::new(), Vec::new());
    for login in logins {
        let (one, time) = login.await.unwrap();
        fared.push(one);
        took.push(time);
    }
    took.sort();
    let (half, most, last) = (took[size / 2], took[size * 99 / 100], took[size - 1]);
    let good = fared.iter().filter(|one| one.is_ok()).count();
    println!(
        "{good} of {size} logins at once let in; half in {half:.1?}, 99 % in {most:.1?}, the last in {last:.1?}"
    );
    fared
}

/// STS reads the issuer's keys at its first call. That it may be slow to do so is another test's matter.
async fn warm_up(world: &World) {
    all_in(&crowd(world, vec![("alice".to_owned(), world.token("alice"))]).await);
}

fn all_in(fared: &[Result<RawClient, ErrorFields>]) {
    if let Some(error) = fared.iter().find_map(|one| one.as_ref().err()) {
        panic!(
            "{} of {} were refused, as in {error:?}",
            fared.iter().filter(|one| one.is_err()).count(),
            fared.len()
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r24_a_thousand_logins_of_one_user_make_one_sts_call() {
    let (world, server, _alone) = world("").await;
    let token = world.token("alice");
    let fared = crowd(&world, vec![("alice".to_owned(), token); 1_000]).await;
    all_in(&fared);
    println!("1,000 logins of one user made {} call", world.cloud.sts.count());
    assert_eq!(world.cloud.sts.count(), 1);
    server.clients(1_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r24_a_thousand_users_make_a_thousand_sts_calls() {
    let (world, _server, _alone) = world("").await;
    warm_up(&world).await;
    let people = tokens(&world, 1_000);
    let fared = crowd(&world, people.clone()).await;
    // On a busy machine a call can wait for longer than one may take. It is made again; and a client that is refused for good,
    // by a code that makes pools come again, comes again.
    let late = |one: &Result<RawClient, ErrorFields>| {
        one.as_ref().err().map(|refused| refused.sqlstate().to_owned())
    };
    let late: Vec<_> = fared.iter().zip(people).filter_map(|(one, who)| Some((late(one)?, who))).collect();
    assert!(late.len() < 50 && late.iter().all(|(sqlstate, _)| sqlstate == "57P03"), "{late:?}");
    let late: Vec<_> = late.into_iter().map(|(_, who)| who).collect();
    if !late.is_empty() {
        all_in(&crowd(&world, late).await);
    }
    let again = world.metric("pgpassport_sts_tries_total{endpoint=\"127.0.0.1\",outcome=\"failing\"}").await;
    world.metric_is("pgpassport_sts_tries_total{endpoint=\"127.0.0.1\",outcome=\"granted\"}", 1_001.0).await;
    let calls = world.cloud.sts.count() - 1;
    println!("1,000 users made {calls} calls, {again:.0} of them again");
    // Some of those that were made again have never arrived.
    let most = 1_000 + format!("{again:.0}").parse::<usize>().unwrap();
    assert!((1_000..=most).contains(&calls), "{calls} calls, {again} again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r14_half_of_all_sts_calls_throttled_costs_no_login() {
    let (world, _server, _alone) = world("").await;
    warm_up(&world).await;
    world.cloud.sts.fail_half(StsFault::throttling());
    // A few at a time: on a busy machine the calls of 200 at once wait for longer than one may take.
    for few in tokens(&world, 200).chunks(20) {
        all_in(&crowd(&world, few.to_vec()).await);
    }
    let calls = world.cloud.sts.calls();
    let throttled = calls.iter().filter(|call| call.code == "Throttling").count();
    // A call that waited for too long all the same is made again, and may have arrived.
    let again = world.metric("pgpassport_sts_tries_total{endpoint=\"127.0.0.1\",outcome=\"failing\"}").await;
    let most = 1 + 200 + throttled + format!("{again:.0}").parse::<usize>().unwrap();
    assert!((1 + 200 + throttled..=most).contains(&calls.len()), "{} calls, {again} again", calls.len());
    assert!(throttled > 100, "{throttled}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r14_an_outage_of_sts_costs_few_calls_and_no_session() {
    let (world, server, _alone) = world("").await;
    let mut sessions = crowd(&world, tokens(&world, 1)).await;
    world.cloud.sts.fail(StsFault::internal_failure());
    let fared = crowd(&world, tokens(&world, 1_000)).await;
    // The tokens are new ones, so that even the first of them needs STS.
    for refused in &fared {
        let refused = refused.as_ref().err().expect("nobody is let in");
        assert_eq!(refused.sqlstate(), "57P03");
        assert_eq!(refused.message(), "cannot connect now: AWS STS unavailable");
    }
    let calls = world.cloud.sts.count();
    println!("1,000 logins while STS was down made {calls} calls");
    assert!(calls <= 300, "{calls} calls");
    world.log_line("AWS STS is failing; calls are paused").await;
    assert!(world.metric("pgpassport_sts_paused{endpoint=\"127.0.0.1\"}").await > 0.5);
    let mut alive = sessions.remove(0).ok().unwrap();
    alive.send(b"still there").await;
    let hears = async || String::from_utf8_lossy(&server.heard()).contains("still there");
    until("the session of before goes on", hears).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r24_the_queue_of_logins_is_bounded_and_says_so() {
    let (world, _server, _alone) = world("max_logins_per_second = 1").await;
    let known = ("alice".to_owned(), world.token("alice"));
    all_in(&crowd(&world, vec![known.clone()]).await);
    // All arrive at the queue together, so that nobody's turn has passed when the last one comes.
    let hold = AnswerHold::new();
    world.cloud.sts.fail(HttpFault::Hold(hold.clone()));
    let people = tokens(&world, 14);
    let (fared, ()) = tokio::join!(crowd(&world, people), async {
        hold.arrived(14).await;
        hold.release();
        let waiting = async || world.metric("pgpassport_logins_queued").await > 4.5;
        until("logins wait for their turn", waiting).await;
    });
    let refused: Vec<_> = fared.iter().filter_map(|one| one.as_ref().err()).collect();
    assert!(!refused.is_empty() && refused.len() <= 4, "{refused:?}");
    for refused in refused {
        assert_eq!(refused.sqlstate(), "53300");
        assert_eq!(refused.message(), "too many connections for cluster \"app\"");
        assert!(
            refused.detail().starts_with("Stage limits: new logins are let in at 1 a second"),
            "{refused:?}"
        );
        assert!(refused.hint().contains("cluster.max_logins_per_second"), "{refused:?}");
    }
    // Who uses a token again is not counted, however full the queue is.
    all_in(&crowd(&world, vec![known; 40]).await);
}
