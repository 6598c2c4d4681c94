//! The live view of a session, as the registry shows it.

use super::*;

#[tokio::test(start_paused = true)]
async fn the_live_view_follows_state_and_bytes() {
    let mut ends = start(1 << 16);
    let view = Arc::clone(&ends.seen.activity);
    assert_eq!((view.state(), view.bytes()), (SessionState::Busy, (0, 0)), "the relay has not begun");
    let query = message(b'Q', b"begin\0");
    let (mut sent, mut received) = (0, 0);
    for (status, state) in [
        (b'T', SessionState::InTransaction),
        (b'E', SessionState::InFailedTransaction),
        (b'I', SessionState::Idle),
    ] {
        ends.client.write_all(&query).await.unwrap();
        ends.server.read_exact(&mut vec![0; query.len()]).await.unwrap();
        sent += query.len() as u64;
        assert_eq!((view.state(), view.bytes()), (SessionState::Busy, (sent, received)));
        let answer = [message(b'C', b"BEGIN\0"), message(b'Z', &[status])].concat();
        ends.server.write_all(&answer).await.unwrap();
        ends.client.read_exact(&mut vec![0; answer.len()]).await.unwrap();
        received += answer.len() as u64;
        assert_eq!((view.state(), view.bytes()), (state, (sent, received)));
    }
}
