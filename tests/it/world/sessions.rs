//! Sessions of alice with the shared server, their processes there, and their ends.

use std::fmt::Display;

use tokio::io::AsyncReadExt;
use tokio::time::timeout;

use super::admin::until;
use super::raw::PATIENCE;
use super::{ErrorFields, RawClient, World, database};

pub(crate) async fn log_in(world: &World) -> RawClient {
    let token = world.token("alice");
    world.raw().await.login("alice", Some("app"), &token).await.unwrap().0
}

/// A session with the real server, and its process there.
pub(crate) async fn log_in_with_pid(world: &World) -> (RawClient, i32) {
    let token = world.token("alice");
    let (client, said) = world.raw().await.login("alice", Some("app"), &token).await.unwrap();
    let pid = process_id(&said);
    (client, pid)
}

/// The server's process, as a login's messages tell it.
pub(crate) fn process_id(said: &[(u8, Vec<u8>)]) -> i32 {
    let (_, key) = said.iter().find(|(tag, _)| *tag == b'K').unwrap();
    i32::from_be_bytes(key[..4].try_into().unwrap())
}

/// The answer to a query of the server's superuser.
pub(crate) async fn sql(sql: impl Into<String>) -> String {
    let sql = sql.into();
    tokio::task::spawn_blocking(move || database().postgres.sql(&sql)).await.unwrap()
}

/// Waits until the answer to the superuser's query is `wanted`.
pub(crate) async fn until_sql(query: &str, wanted: &str) {
    until(&format!("{query} gives {wanted}"), async || sql(query).await.trim() == wanted).await;
}

/// Waits until the server's process is gone.
pub(crate) async fn until_gone(pid: impl Display) {
    until_sql(&format!("select count(*) from pg_stat_activity where pid = {pid}"), "0").await;
}

/// Everything that the client receives until its connection ends.
pub(crate) async fn read_all(client: &mut RawClient) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A cut connection has no close_notify.
    let _ =
        timeout(PATIENCE, client.stream.read_to_end(&mut bytes)).await.expect("the connection does not end");
    bytes
}

/// The ErrorResponse in `bytes`, which hold no other message.
pub(crate) fn only_error(bytes: &[u8]) -> ErrorFields {
    assert_eq!(bytes.first(), Some(&b'E'), "{bytes:?}");
    let length = u32::from_be_bytes(bytes[1..5].try_into().unwrap()) as usize;
    assert_eq!(bytes.len(), length + 1, "{bytes:?}");
    ErrorFields::parse(&bytes[5..])
}
