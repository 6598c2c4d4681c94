//! Surprises of a scripted server: it fails to be reset, speaks while it is idle, reports changes that
//! a reset does not undo, and outlives the credentials that it was opened with.

use aws_emulator::Ca;

use super::scripted_server::{WarmServer, WarmSession};
use super::{HITS, KEPT, PoolGuest, closed};
use crate::world::World;
use crate::world::raw::message;
use crate::world::scripted_server::error;

const COMMANDS: [&str; 2] = ["DISCARD ALL", "RESET ROLE"];

async fn world(server: &WarmServer, ca: &Ca) -> World {
    World::builder().pool("").upstream(server.scripted.addr, ca).start().await
}

/// alice again, on this connection, whose server tells her `news` as she comes.
async fn again(world: &World, session: &mut WarmSession, news: &[u8]) -> PoolGuest {
    tokio::join!(PoolGuest::alice(world), session.is_checked(news)).0
}

/// A session at a server that answers as it should.
async fn visit(world: &World, server: &mut WarmServer) -> WarmSession {
    let guest = PoolGuest::alice(world).await;
    let mut session = server.session().await;
    let before = world.metric(KEPT).await;
    guest.leave().await;
    assert_eq!(session.answer_all(2).await, COMMANDS);
    world.metric_is(KEPT, before + 1.0).await;
    session
}

#[tokio::test(flavor = "multi_thread")]
async fn u4_a_server_that_is_not_reset_as_it_should_be_is_closed() {
    let ca = Ca::new().unwrap();
    let mut server = WarmServer::start(&ca).await;
    let world = world(&server, &ca).await;
    let discarded = message(b'C', b"DISCARD ALL\0");
    for (count, bad) in (1_u8..).zip([
        error("42501", "no"),
        [message(b'C', b"DISCARD\0"), message(b'Z', b"I")].concat(),
        [discarded.clone(), message(b'Z', b"T")].concat(),
        message(b'A', &vec![0; pgpassport::postgres::reset::MAX_RESET_BYTES]),
        [discarded.clone(), message(b'Z', b"I"), message(b'C', b"RESET\0"), message(b'Z', b"E")].concat(),
        b"C\0\0\0\x03".to_vec(),
    ]) {
        let guest = PoolGuest::alice(&world).await;
        let mut session = server.session().await;
        guest.leave().await;
        for command in COMMANDS {
            assert_eq!(session.receive().await, Some((b'Q', command.to_owned())));
        }
        session.try_send(&bad).await;
        world.metric_is(&closed("reset"), count.into()).await;
        // A goodbye; closing with bytes that were not read can overtake it.
        let last = session.receive().await;
        assert!(last.is_none_or(|(tag, _)| tag == b'X'), "{count}");
    }
    assert!(world.metric(KEPT).await < 0.5 && world.metric(HITS).await < 0.5);
}

#[tokio::test(flavor = "multi_thread")]
async fn u4_a_server_that_does_not_answer_is_closed_after_five_seconds() {
    let ca = Ca::new().unwrap();
    let mut server = WarmServer::start(&ca).await;
    let world = world(&server, &ca).await;
    let guest = PoolGuest::alice(&world).await;
    let mut session = server.session().await;
    guest.leave().await;
    for command in COMMANDS {
        assert_eq!(session.receive().await, Some((b'Q', command.to_owned())));
    }
    // Its client has been gone all the time.
    world.audit("end", "client_left").await;
    world.metric_is(&closed("reset"), 1.0).await;
    assert_eq!(session.receive().await, Some((b'X', String::new())));
}

#[tokio::test(flavor = "multi_thread")]
async fn u4_a_server_that_speaks_while_it_is_idle_is_closed() {
    let ca = Ca::new().unwrap();
    let mut server = WarmServer::start(&ca).await;
    let world = world(&server, &ca).await;
    for (count, said) in (1_u8..).zip([
        message(b'N', b"SNOTICE\0\0"),
        message(b'A', b"\0\0\0\x01news\0\0"),
        message(b'S', b"TimeZone\0UTC\0"),
        error("57P01", "bye"),
        b"N".to_vec(),
    ]) {
        let mut session = visit(&world, &mut server).await;
        session.send(&said).await;
        // Found by the next one, or by the look that is taken once a second.
        let next = PoolGuest::alice(&world).await;
        assert!(next.greeting.iter().all(|(tag, _)| b"RSK".contains(tag)), "{:?}", next.greeting);
        world.metric_is(&closed("server"), count.into()).await;
        assert_eq!(server.scripted.count(), 2 * usize::from(count), "it was used again");
        drop((next, server.session().await));
        world.metric_is(&closed("reset"), count.into()).await; // gone before it could be
    }
    assert!(world.metric(HITS).await < 0.5);
}

#[tokio::test(flavor = "multi_thread")]
async fn u4_the_next_greeting_tells_what_has_changed_for_good() {
    let ca = Ca::new().unwrap();
    let mut server = WarmServer::start(&ca).await;
    let world = world(&server, &ca).await;
    let mut guest = PoolGuest::alice(&world).await;
    assert_eq!(guest.parameters(), ["server_version=16.3\0"]);
    let mut session = server.session().await;
    // An upgrade in the middle of a session, say; a reset does not bring it back, and so tells nothing.
    session.send(&message(b'S', b"server_version\x0017.1\0")).await;
    assert_eq!(guest.client.message().await.unwrap().0, b'S');
    session.shows.insert("server_version".to_owned(), "17.1".to_owned());
    guest.leave().await;
    assert_eq!(session.answer_all(3).await, [COMMANDS[0], COMMANDS[1], "SHOW \"server_version\""]);
    world.metric_is(KEPT, 1.0).await;
    let next = again(&world, &mut session, b"").await;
    assert_eq!(next.parameters(), ["server_version=17.1\0"]);
    world.metric_is(HITS, 1.0).await;
    // What it tells during the reset counts too.
    next.leave().await;
    assert_eq!(session.receive().await.unwrap().1, COMMANDS[0]);
    let discarded = [message(b'C', b"DISCARD ALL\0"), message(b'S', b"new\0x\0"), message(b'Z', b"I")];
    session.send(&discarded.concat()).await;
    assert_eq!(session.answer_all(1).await, [COMMANDS[1]]);
    world.metric_is(KEPT, 2.0).await;
    let next = again(&world, &mut session, b"").await;
    assert_eq!(next.parameters(), ["server_version=17.1\0", "new=x\0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn u4_the_greeting_tells_what_has_changed_while_the_connection_was_idle() {
    let ca = Ca::new().unwrap();
    let mut server = WarmServer::start(&ca).await;
    let world = world(&server, &ca).await;
    let mut session = visit(&world, &mut server).await;
    let news = [message(b'S', b"in_hot_standby\0on\0"), message(b'S', b"server_version\x0017.1\0")];
    let next = again(&world, &mut session, &news.concat()).await;
    assert_eq!(next.parameters(), ["server_version=17.1\0", "in_hot_standby=on\0"]);
    world.metric_is(HITS, 1.0).await;
    assert_eq!(server.scripted.count(), 1, "no new login");
}

#[tokio::test(flavor = "multi_thread")]
async fn u4_a_server_that_is_not_idle_when_it_is_asked_is_closed_and_the_login_is_a_new_one() {
    let ca = Ca::new().unwrap();
    let mut server = WarmServer::start(&ca).await;
    let world = world(&server, &ca).await;
    for (count, bad) in (1_u8..).zip([
        error("57P01", "terminating connection due to administrator command"),
        message(b'Z', b"T"),
        message(b'C', b"SELECT 1\0"),
        message(b'A', &vec![0; pgpassport::postgres::reset::MAX_RESET_BYTES]),
        b"Z\0\0\0\x03".to_vec(),
    ]) {
        let mut session = visit(&world, &mut server).await;
        let asked = async {
            assert_eq!(session.receive().await, Some((b'S', String::new())));
            session.try_send(&bad).await;
        };
        let (next, ()) = tokio::join!(PoolGuest::alice(&world), asked);
        assert_eq!(next.parameters(), ["server_version=16.3\0"]);
        world.metric_is(&closed("check"), count.into()).await;
        assert_eq!(server.scripted.count(), 2 * usize::from(count), "it was used again");
        drop((next, server.session().await));
        world.metric_is(&closed("reset"), count.into()).await;
    }
    assert!(world.metric(HITS).await < 0.5);
}

/// A machine that vanished without a word costs one login a second, and none of those behind it.
#[tokio::test(flavor = "multi_thread")]
async fn u4_an_unresponsive_server_loses_all_its_kept_connections() {
    let ca = Ca::new().unwrap();
    let mut server = WarmServer::start(&ca).await;
    let world = world(&server, &ca).await;
    let guests =
        [PoolGuest::alice(&world).await, PoolGuest::alice(&world).await, PoolGuest::alice(&world).await];
    let mut sessions = [server.session().await, server.session().await, server.session().await];
    for (guest, session) in guests.into_iter().zip(&mut sessions) {
        guest.leave().await;
        session.answer_all(2).await;
    }
    world.metric_is(KEPT, 3.0).await;
    let next = PoolGuest::alice(&world).await;
    assert_eq!(next.parameters(), ["server_version=16.3\0"]);
    world.metric_is(&closed("check"), 3.0).await;
    let mut asked = 0;
    for session in &mut sessions {
        let first = session.receive().await.unwrap();
        asked += usize::from(first.0 == b'S');
        assert!(first.0 == b'S' || first.0 == b'X', "{first:?}");
    }
    assert_eq!((asked, server.scripted.count()), (1, 4), "one was asked, and then came a new login");
    assert!(world.metric(HITS).await < 0.5);
}

#[tokio::test(flavor = "multi_thread")]
async fn u4_no_connection_outlives_the_credentials_it_was_opened_with() {
    let ca = Ca::new().unwrap();
    let mut server = WarmServer::start(&ca).await;
    let world = World::builder().pool("").upstream(server.scripted.addr, &ca).one_clock().start().await;
    let mut session = visit(&world, &mut server).await;
    // They are good for 900 seconds.
    world.cloud.clock.advance(840);
    let next = again(&world, &mut session, b"").await;
    world.metric_is(HITS, 1.0).await;
    next.leave().await;
    session.answer_all(2).await;
    world.metric_is(KEPT, 2.0).await;
    world.cloud.clock.advance(60);
    world.metric_is(&closed("credentials"), 1.0).await;
    assert_eq!(session.receive().await, Some((b'X', String::new())));
    // Nor is one kept whose credentials have expired meanwhile.
    let guest = PoolGuest::alice(&world).await;
    let mut session = server.session().await;
    world.cloud.clock.advance(900);
    guest.leave().await;
    world.metric_is(&closed("credentials"), 2.0).await;
    assert_eq!(session.receive().await, Some((b'X', String::new())));
    assert!(world.metric(HITS).await < 1.5);
}

#[tokio::test(flavor = "multi_thread")]
async fn u4_a_drain_terminates_every_kept_connection() {
    let ca = Ca::new().unwrap();
    let mut server = WarmServer::start(&ca).await;
    let world = world(&server, &ca).await;
    let mut idle = visit(&world, &mut server).await;
    let pairs = [("user", "alice"), ("database", "app"), ("application_name", "other")];
    let guest = PoolGuest::come(&world, &world.token("alice"), &pairs).await;
    let mut resetting = server.session().await;
    guest.leave().await;
    assert_eq!(resetting.receive().await.unwrap().1, COMMANDS[0]);
    world.stopping.drain.cancel();
    assert_eq!(idle.receive().await, Some((b'X', String::new())));
    assert_eq!(idle.receive().await, None);
    while let Some((tag, _)) = resetting.receive().await {
        assert!(b"QX".contains(&tag));
    }
    // Not the metrics: a proxy that has said all its goodbyes answers nobody any more.
}
