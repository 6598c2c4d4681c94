//! The frame tracker between a real driver and a real server, at whatever places their bytes are cut.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::{SinkExt, TryStreamExt};
use pgpassport::postgres::tracker::{CopyMode, SessionState, SessionTracker, Tracker};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::world::admin::until;
use crate::world::database;

/// A recording pass-through between a real client and the server.
struct WireTap {
    port: u16,
    tracker: Arc<Mutex<Option<Tracker>>>,
}

impl WireTap {
    async fn start() -> Self {
        let server = tokio::task::spawn_blocking(database).await.unwrap().postgres.addr();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let tracker = Arc::new(Mutex::new(None::<Tracker>));
        let shared = Arc::clone(&tracker);
        tokio::spawn(async move {
            let (client, _) = listener.accept().await.unwrap();
            let server = TcpStream::connect(server).await.unwrap();
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_server, mut to_server) = server.into_split();
            let up = Arc::clone(&shared);
            tokio::spawn(async move {
                let mut bytes = [0; 1_000];
                while let Ok(read @ 1..) = from_client.read(&mut bytes).await {
                    if let Some(tracker) = up.lock().unwrap().as_mut() {
                        tracker.to_server(&bytes[..read]);
                    }
                    to_server.write_all(&bytes[..read]).await.unwrap();
                }
            });
            let mut bytes = [0; 1_000];
            while let Ok(read @ 1..) = from_server.read(&mut bytes).await {
                {
                    let mut tracker = shared.lock().unwrap();
                    match tracker.as_mut() {
                        Some(tracker) => tracker.to_client(&bytes[..read]),
                        // The login ends with its first ReadyForQuery, and the client waits for it.
                        None if bytes[..read].ends_with(b"Z\0\0\0\x05I") => {
                            *tracker = Some(Tracker::new(b'I'));
                        }
                        None => {}
                    }
                }
                to_client.write_all(&bytes[..read]).await.unwrap();
            }
        });
        Self { port, tracker }
    }

    fn standing(&self) -> SessionState {
        self.tracker.lock().unwrap().as_ref().unwrap().state()
    }

    /// Until the session stands like this: an error is told before the ReadyForQuery behind it. The limit is
    /// for a broken build.
    async fn until(&self, standing: SessionState) {
        until(&format!("the state is {standing:?}"), async || self.standing() == standing).await;
    }

    fn copying(&self) -> Option<CopyMode> {
        self.tracker.lock().unwrap().as_ref().unwrap().copying()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tracker_follows_a_real_client() {
    let wire = WireTap::start().await;
    let mut config = tokio_postgres::Config::new();
    config.host("127.0.0.1").port(wire.port).user("carol").password("carol-password").dbname("app");
    let (mut client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    assert_eq!(wire.standing(), SessionState::Idle);
    client.batch_execute("create temp table t (n int); listen tracker").await.unwrap();
    assert_eq!(wire.standing(), SessionState::Idle);
    let statement = client.prepare("select n from t where n = $1").await.unwrap();
    assert_eq!(wire.standing(), SessionState::Idle);
    // Pipelined, with a failure among them.
    let (a, b, c, d) = tokio::join!(
        client.query(&statement, &[&1_i32]),
        client.query("select 1/0", &[]),
        client.simple_query("notify tracker, 'x'"),
        client.query(&statement, &[&2_i32]),
    );
    assert!(a.is_ok() && b.is_err() && c.is_ok() && d.is_ok());
    // Statements that are dropped are closed in the background; the next answer comes behind that.
    client.simple_query("select 1").await.unwrap();
    assert_eq!(wire.standing(), SessionState::Idle);
    let transaction = client.transaction().await.unwrap();
    assert_eq!(wire.standing(), SessionState::InTransaction);
    transaction.simple_query("select 1/0").await.unwrap_err();
    wire.until(SessionState::InFailedTransaction).await;
    transaction.rollback().await.unwrap();
    assert_eq!(wire.standing(), SessionState::Idle);

    let mut sink = Box::pin(client.copy_in::<_, Bytes>("copy t from stdin").await.unwrap());
    sink.send(Bytes::from_static(b"1\n2\n")).await.unwrap();
    assert_eq!((wire.standing(), wire.copying()), (SessionState::Busy, Some(CopyMode::In)));
    assert_eq!(sink.as_mut().finish().await.unwrap(), 2);
    client.simple_query("select 1").await.unwrap();
    assert_eq!((wire.standing(), wire.copying()), (SessionState::Idle, None));
    let rows = client.copy_out("copy t to stdout").await.unwrap();
    assert_eq!(rows.try_collect::<Vec<_>>().await.unwrap().concat(), b"1\n2\n");
    client.batch_execute("select 1").await.unwrap();
    assert_eq!((wire.standing(), wire.copying()), (SessionState::Idle, None));

    // A COPY that fails leaves a Sync in doubt; the next answer settles it.
    let mut sink = Box::pin(client.copy_in::<_, Bytes>("copy t from stdin").await.unwrap());
    sink.send(Bytes::from_static(b"x\n")).await.unwrap();
    sink.as_mut().finish().await.unwrap_err();
    client.simple_query("select 7").await.unwrap();
    assert_eq!(wire.standing(), SessionState::Idle);
}
