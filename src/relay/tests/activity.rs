//! The live view of a session, as the registry shows it.

use super::*;

#[tokio::test(start_paused = true)]
async fn the_live_view_follows_state_and_bytes() {
    let mut ends = start(1 << 16);
    let view = Arc::clone(&ends.seen.activity);
    assert_eq!((view.state(), view.work()), (SessionState::Busy, SessionWork::default()), "not begun");
    let query = message(b'Q', b"begin\0");
    let mut work = SessionWork::default();
    for (status, state) in [
        (b'T', SessionState::InTransaction),
        (b'E', SessionState::InFailedTransaction),
        (b'I', SessionState::Idle),
    ] {
        ends.client.write_all(&query).await.unwrap();
        ends.server.read_exact(&mut vec![0; query.len()]).await.unwrap();
        work.to_server += query.len() as u64;
        assert_eq!((view.state(), view.work()), (SessionState::Busy, work));
        let answer = [message(b'C', b"BEGIN\0"), message(b'Z', &[status])].concat();
        ends.server.write_all(&answer).await.unwrap();
        ends.client.read_exact(&mut vec![0; answer.len()]).await.unwrap();
        work.to_client += answer.len() as u64;
        work.counts.queries += 1;
        assert_eq!((view.state(), view.work().counts.queries), (state, work.counts.queries));
        work.counts.transactions += u64::from(status == b'I');
        assert_eq!(view.work(), work);
    }
    // The last bytes count too.
    ends.client.write_all(TERMINATE).await.unwrap();
    drop(ends.client);
    assert_eq!(read_all(&mut ends.server).await, TERMINATE);
    drop(ends.server);
    let report = ends.relay.await.unwrap();
    work.to_server += TERMINATE.len() as u64;
    assert_eq!((view.work(), report.to_server, report.to_client), (work, work.to_server, work.to_client));
}
