//! The filter on streams cut at every place.

use std::sync::Mutex;

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;
use crate::mysql::connection_ids::{ConnectionId, ServerConnection};
use crate::mysql::packet::packet;

fn scope() -> (KillScope, ConnectionId) {
    let (ids, server) = (Arc::new(ConnectionIds::default()), "10.0.0.1:3306".parse().unwrap());
    let id = ids.assign();
    id.serve(ServerConnection { server, number: 42 });
    (KillScope { ids, server, remote: None, replicas: true }, id)
}

/// The bytes that a server gets of `sent`, which arrives in pieces of these lengths, and whether a `COM_QUIT` was kept.
async fn passed(filter: CommandFilter, sent: &[u8], pieces: &[usize]) -> (Vec<u8>, bool) {
    let (mut theirs, ours) = duplex(1 << 25);
    let mut client = FilteredClient { stream: ours, filter };
    let mut out = Vec::new();
    let mut rest = sent;
    let mut pieces = pieces.iter().cycle();
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at((*pieces.next().unwrap()).min(rest.len()));
        rest = behind;
        theirs.write_all(piece).await.unwrap();
        read_what_is_there(&mut client, &mut out).await;
    }
    drop(theirs);
    client.read_to_end(&mut out).await.unwrap();
    (out, client.filter.quit)
}

/// As the relay does: with the space of a whole buffer, and not longer than there is something.
async fn read_what_is_there(client: &mut FilteredClient<DuplexStream>, out: &mut Vec<u8>) {
    std::future::poll_fn(|cx| {
        loop {
            let mut buffer = vec![0; 64 * 1024];
            let mut space = ReadBuf::new(&mut buffer);
            match Pin::new(&mut *client).poll_read(cx, &mut space) {
                Poll::Ready(Ok(())) if space.filled().is_empty() => return Poll::Ready(()),
                Poll::Ready(polled) => polled.unwrap(),
                Poll::Pending => return Poll::Ready(()),
            }
            out.extend_from_slice(space.filled());
        }
    })
    .await;
}

fn quiet(keep: bool) -> CommandFilter {
    CommandFilter::new(scope().0, FileTransfer::default(), keep)
}

/// Lengths into which the tests cut a stream.
const CUTS: [&[usize]; 6] = [&[100_000], &[1], &[2], &[3], &[5, 1, 7], &[64]];

#[tokio::test]
async fn a_kill_of_a_client_means_its_connection() {
    for cuts in CUTS {
        let (scope, id) = scope();
        let filter = CommandFilter::new(scope, FileTransfer::default(), false);
        let query = |number: &str| packet(0, format!("\x03KILL QUERY {number}").as_bytes());
        let kill = |number: u32| packet(0, &[&[PROCESS_KILL][..], &number.to_le_bytes()].concat());
        let (before, behind) = (packet(0, b"\x03select 1"), packet(0, b"\x0e"));
        let sent =
            [&before[..], &query(&id.number().to_string()), &behind, &kill(id.number()), &kill(7), &behind];
        let expected = [&before[..], &query("42"), &behind, &kill(42), &kill(7), &behind].concat();
        assert_eq!(passed(filter, &sent.concat(), cuts).await, (expected, false), "{cuts:?}");
        assert!(id.retire().is_err(), "it may have been killed");
    }
}

/// Another server, which carries out each `KILL` or refuses it, after a while.
#[derive(Debug)]
struct AnotherServer {
    accepts: bool,
    asked: Mutex<Vec<(Vec<u8>, KillTarget)>>,
}

impl RemoteKill for AnotherServer {
    fn kill(self: Arc<Self>, packet: Vec<u8>, target: KillTarget) -> KillErrand {
        self.asked.lock().unwrap().push((packet, target));
        Box::pin(async move {
            tokio::task::yield_now().await;
            self.accepts
        })
    }
}

#[tokio::test]
async fn a_kill_for_another_server_is_answered_by_the_sessions_own() {
    for (cuts, accepts) in CUTS.into_iter().flat_map(|cuts| [(cuts, true), (cuts, false)]) {
        let other = Arc::new(AnotherServer { accepts, asked: Mutex::default() });
        let (scope, id) = scope();
        let there = ServerConnection { server: "10.0.0.2:3306".parse().unwrap(), number: 43 };
        id.serve(there);
        let scope = KillScope { remote: Some(Arc::<AnotherServer>::clone(&other)), ..scope };
        let filter = CommandFilter::new(scope, FileTransfer::default(), false);
        let kill = packet(0, format!("\x03KILL QUERY {}", id.number()).as_bytes());
        let gone = packet(0, b"\x03kill 1073741824");
        let (before, behind) = (packet(0, b"\x03select 1"), packet(0, b"\x03select 2"));
        let sent = [&before[..], &kill, &behind, &gone, &behind, &kill].concat();
        let ping = packet(0, b"\x0e");
        let [kill_2, gone_2] = if accepts { [&ping, &ping] } else { [&kill, &gone] };
        let expected = [&before[..], kill_2, &behind, gone_2, &behind, kill_2].concat();
        assert_eq!(passed(filter, &sent, cuts).await, (expected, false), "{cuts:?}");
        let unknown = (gone, KillTarget::Unknown(0x4000_0000));
        let elsewhere = (kill, KillTarget::Elsewhere(there));
        assert_eq!(*other.asked.lock().unwrap(), [elsewhere.clone(), unknown, elsewhere], "{cuts:?}");
        assert!(id.retire().is_err(), "it may have been killed");
    }
}

#[tokio::test]
async fn servers_that_do_not_know_the_ids_of_other_replicas_are_not_asked() {
    let other = Arc::new(AnotherServer { accepts: true, asked: Mutex::default() });
    let scope = KillScope { remote: Some(Arc::<AnotherServer>::clone(&other)), replicas: false, ..scope().0 };
    let filter = CommandFilter::new(scope, FileTransfer::default(), false);
    let gone = packet(0, b"\x03kill 1073741824");
    assert_eq!(passed(filter, &gone, &[100]).await, (gone, false));
    assert!(other.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_change_of_the_user_becomes_an_unknown_command() {
    for cuts in CUTS {
        let (query, ping) = (packet(0, b"\x03select 1"), packet(0, b"\x0e"));
        let change = packet(0, b"\x11root\0\x14aaaaaaaaaaaaaaaaaaaa\0mysql\0\x2d\0mysql_clear_password\0");
        let sent = [&query[..], &change, &ping, &packet(0, b"\x11"), &query].concat();
        let expected = [&query[..], b"\x01\0\0\0\0", &ping, b"\x01\0\0\0\0", &query].concat();
        assert_eq!(passed(quiet(false), &sent, cuts).await, (expected, false), "{cuts:?}");
    }
    let long =
        [&[0xff, 0xff, 0xff, 0, CHANGE_USER][..], &vec![b'x'; MAX_PAYLOAD - 1], &packet(1, b"rest")].concat();
    let sent = [&long[..], &packet(0, b"\x0e")].concat();
    assert_eq!(passed(quiet(false), &sent, &[65_536]).await.0, b"\x01\0\0\0\0\x01\0\0\0\x0e");
}

#[tokio::test]
async fn data_of_a_file_is_never_a_command() {
    for cuts in CUTS {
        let (scope, id) = scope();
        let transfer = FileTransfer::default();
        transfer.begin();
        let filter = CommandFilter::new(scope, transfer.clone(), true);
        let kill = packet(0, format!("\x03KILL {}", id.number()).as_bytes());
        let data = [&kill[..], &packet(1, b"\x11root"), &packet(255, b"\x01"), &packet(0, b"\x01")].concat();
        let sent = [&data[..], &packet(1, b""), &kill].concat();
        let expected = [&data[..], &packet(1, b""), &packet(0, b"\x03KILL 42")].concat();
        assert_eq!(passed(filter, &sent, cuts).await, (expected, false), "{cuts:?}");
        assert!(!transfer.is_open());
    }
}

#[tokio::test]
async fn the_rest_of_a_long_statement_is_no_command() {
    let kill = |number: u32| format!("\x03KILL {number}").into_bytes();
    let (scope, id) = scope();
    let first = [&[0xff, 0xff, 0xff, 0, QUERY][..], &vec![b'x'; MAX_PAYLOAD - 1]].concat();
    let sent = [&first[..], &packet(1, &kill(id.number())), &packet(0, &kill(id.number()))].concat();
    let expected = [&first[..], &packet(1, &kill(id.number())), &packet(0, &kill(42))].concat();
    for cuts in [&[65_536][..], &[16_777_219, 1], &[1_000_003]] {
        let filter = CommandFilter::new(scope.clone(), FileTransfer::default(), false);
        assert!(passed(filter, &sent, cuts).await.0 == expected, "{cuts:?}");
    }
}

#[tokio::test]
async fn a_quit_is_withheld_where_the_server_is_kept() {
    let sent = [packet(0, b"\x0e"), packet(0, b"\x01")].concat();
    for cuts in CUTS {
        assert_eq!(passed(quiet(true), &sent, cuts).await, (packet(0, b"\x0e"), true), "{cuts:?}");
        assert_eq!(passed(quiet(false), &sent, cuts).await, (sent.clone(), false), "{cuts:?}");
    }
}

#[tokio::test]
async fn the_end_of_a_buffer_is_no_end_of_the_client() {
    let (mut theirs, ours) = duplex(1 << 16);
    let mut client = FilteredClient { stream: ours, filter: quiet(false) };
    let kill = packet(0, b"\x03KILL QUERY 1073741825");
    theirs.write_all(&kill[..20]).await.unwrap();
    let mut buffer = [0; 64];
    std::future::poll_fn(|cx| {
        let mut space = ReadBuf::new(&mut buffer);
        assert!(Pin::new(&mut client).poll_read(cx, &mut space).is_pending() && space.filled().is_empty());
        let mut little = [0; 10];
        let mut space = ReadBuf::new(&mut little);
        assert!(Pin::new(&mut client).poll_read(cx, &mut space).is_pending() && space.filled().is_empty());
        Poll::Ready(())
    })
    .await;
    theirs.write_all(&kill[20..]).await.unwrap();
    let read = client.read(&mut buffer).await.unwrap();
    assert_eq!(buffer[..read], kill);
}

#[tokio::test]
async fn a_client_that_ends_within_a_packet_passes_as_it_is() {
    for cut in
        [&b"\x01"[..], b"\x01\0\0\0", b"\x0f\0\0\0\x03KILL", b"\x05\0\0\0\x0c\x01", b"\x20\0\0\0\x16sel"]
    {
        assert_eq!(passed(quiet(true), cut, &[100]).await, (cut.to_vec(), false), "{cut:?}");
    }
}

proptest! {
    #[test]
    fn every_other_byte_passes(
        bodies in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..90)), 1..9),
        cuts in prop::collection::vec(1_usize..40, 1..9),
    ) {
        let stream: Vec<u8> = bodies
            .iter()
            .filter(|(kind, _)| !matches!(*kind, CHANGE_USER | QUIT))
            .flat_map(|(kind, body)| packet(0, &[&[*kind][..], body].concat()))
            .collect();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (out, quit) = runtime.block_on(passed(quiet(true), &stream, &cuts));
        prop_assert!(out == stream && !quit);
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), cuts in prop::collection::vec(1_usize..9, 1..9)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (out, _) = runtime.block_on(passed(quiet(true), &bytes, &cuts));
        prop_assert!(out.len() <= bytes.len());
    }
}
