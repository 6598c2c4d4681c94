//! Bulk transfers, by the timers' clock and over real sockets.

use std::cell::RefCell;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::advance;

use super::{carry, message, plain};
use crate::net::buffers::BUFFER_BYTES;
use crate::relay::low_water::{AFTER, AT_LEAST, PATIENCE};
use crate::relay::*;

/// A transfer, and what the kernel was asked for.
struct Watched {
    bulk: LowWaterMark,
    asked: RefCell<Vec<(FlowDirection, usize)>>,
}

impl Watched {
    fn new() -> Self {
        Self { bulk: LowWaterMark::new(), asked: RefCell::default() }
    }

    /// What the kernel is asked for when so many bytes have gone to the server and to the client.
    fn carried(&mut self, up: u64, down: u64) -> Vec<(FlowDirection, usize)> {
        let asked = |way, bytes| self.asked.borrow_mut().push((way, bytes));
        self.bulk.poll(&mut Context::from_waker(Waker::noop()), (up, down), asked);
        self.asked.take()
    }
}

const LEAST: u64 = AT_LEAST as u64;

#[tokio::test(start_paused = true)]
async fn a_bulk_transfer_is_gathered_until_the_other_side_sends() {
    for (way, other) in
        [(FlowDirection::Client, FlowDirection::Server), (FlowDirection::Server, FlowDirection::Client)]
    {
        let mut watched = Watched::new();
        let mut carried = |to: FlowDirection, bytes| match to {
            FlowDirection::Server => watched.carried(bytes, 0),
            FlowDirection::Client => watched.carried(0, bytes),
        };
        assert_eq!(carried(way, AFTER - 1), [], "one byte is missing");
        assert_eq!(carried(other, 1), []);
        assert_eq!(carried(way, AFTER - 1), [], "it begins again behind an answer");
        assert_eq!(carried(way, 1), [(way, AT_LEAST)]);
        assert_eq!(carried(way, 2 * AFTER), [], "asked once");
        assert_eq!(carried(other, 1), [(way, 1)]);
        assert_eq!(carried(way, AFTER), [(way, AT_LEAST)]);
        assert_eq!(watched.carried(1, 1), [(way, 1)]);
        assert_eq!(watched.carried(2 * AFTER, 2 * AFTER), [], "a talk is no bulk transfer");
    }
}

#[tokio::test(start_paused = true)]
async fn what_comes_too_slowly_is_not_gathered() {
    let mut watched = Watched::new();
    assert_eq!(watched.carried(0, AFTER), [(FlowDirection::Client, AT_LEAST)]);
    for _ in 0..10 {
        assert_eq!(watched.carried(0, LEAST), [], "as much as was asked for");
        advance(PATIENCE + Duration::from_millis(1)).await;
        assert_eq!(watched.carried(0, 0), []);
    }
    assert_eq!(watched.carried(0, LEAST - 1), []);
    advance(PATIENCE + Duration::from_millis(1)).await;
    assert_eq!(watched.carried(0, 0), [(FlowDirection::Client, 1)]);
    assert_eq!(watched.carried(0, AFTER - 1), [], "it begins again");
    assert_eq!(watched.carried(0, 1), [(FlowDirection::Client, AT_LEAST)]);
}

async fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (ours, theirs) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    (ours.unwrap(), theirs.unwrap().0)
}

/// Longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(30);

/// Sends all of `bytes` and waits until all of it has come out on the other side.
async fn pass(from: &mut TcpStream, to: &mut TcpStream, bytes: &[u8]) {
    let mut got = vec![0; bytes.len()];
    let both = async { tokio::try_join!(from.write_all(bytes), to.read_exact(&mut got)) };
    timeout(LIMIT, both).await.expect("some of it is kept").unwrap();
    assert!(got == bytes);
}

#[tokio::test]
async fn the_last_bytes_of_a_bulk_transfer_arrive() {
    let ((mut client, near_client), (mut server, near_server)) = (connection().await, connection().await);
    let _relay =
        carry(near_client, near_server, plain(), Clock::system(), Default::default(), Arc::default());
    let rows = message(b'D', &[b'x'; 1_000]).repeat(3_000);
    for tail in [1, 10, AT_LEAST - 1, AT_LEAST, AT_LEAST + 1] {
        let bulk = &rows[..2 * 16 * AT_LEAST + tail];
        pass(&mut server, &mut client, bulk).await;
        pass(&mut server, &mut client, b"x").await;
        pass(&mut client, &mut server, bulk).await;
        pass(&mut client, &mut server, b"x").await;
    }
}

/// The end of the message that is under way is waited for, and whoever gets the connection next waits for each byte.
#[tokio::test]
async fn a_bulk_transfer_that_is_ended_is_gathered_no_more() {
    let ((mut client, near_client), (mut server, near_server)) = (connection().await, connection().await);
    let same_socket = near_server.as_fd().try_clone_to_owned().unwrap();
    let now = CancellationToken::new();
    let stop = (CancellationToken::new(), now.clone());
    let relay = carry(near_client, near_server, plain(), Clock::system(), stop, Arc::default());
    let row = message(b'D', &vec![b'x'; 2 * 1024 * 1024]);
    pass(&mut server, &mut client, &row[..row.len() - 10]).await;
    now.cancel();
    pass(&mut server, &mut client, &row[row.len() - 10..]).await;
    drop(client);
    let carried = timeout(LIMIT, relay).await.expect("it has ended").unwrap();
    assert!(matches!(carried.end, RelayEnd::Ended { told: true, .. }), "{carried:?}");
    assert_eq!(socket::wakes_at(&same_socket).unwrap(), 1);
}

#[tokio::test]
async fn the_low_water_mark_is_set_on_the_senders_socket() {
    let ((client, _far_client), (server, _far_server)) = (connection().await, connection().await);
    let both = || [&client, &server].map(|tcp| socket::wakes_at(tcp).unwrap());
    wake_at(FlowDirection::Server, AT_LEAST, &client, &server);
    assert_eq!(both(), [AT_LEAST, 1]);
    wake_at(FlowDirection::Client, 2, &client, &server);
    wake_at(FlowDirection::Server, 1, &client, &server);
    assert_eq!(both(), [1, 2]);
}

/// A transfer without end, and a socket on the same thread whose bytes the kernel tells of.
#[tokio::test]
async fn other_tasks_run_after_each_turn() {
    const TIMES: u64 = 20;
    let ((mut ours, mut theirs), carried) = (connection().await, Arc::new(AtomicU64::new(0)));
    let (mut from, mut to, counted) = (tokio::io::repeat(b'x'), tokio::io::sink(), Arc::clone(&carried));
    let mut direction = Direction::new();
    tokio::spawn(poll_fn(move |cx| {
        let count = |bytes: &[u8]| {
            counted.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        };
        direction.poll(cx, &mut from, &mut to, count)
    }));
    for _ in 0..TIMES {
        theirs.write_all(b"x").await.unwrap();
        // With room for more than there is: a read that was filled would not wait for the kernel the next time.
        assert_eq!(ours.read(&mut [0; 2]).await.unwrap(), 1);
    }
    let turns = carried.load(Ordering::Relaxed) / BUFFER_BYTES as u64;
    // Turns of two buffers would carry twice as many.
    assert!((1..=TIMES * 3 / 2).contains(&turns), "{turns} turns while {TIMES} bytes were heard of");
}
