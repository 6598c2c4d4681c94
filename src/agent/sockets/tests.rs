//! The folder, the lock and the address.

use tempfile::tempdir;

use super::*;

#[tokio::test]
async fn one_agent_listens_in_a_folder_and_replaces_a_dead_one() {
    let folder = tempdir().unwrap();
    let folder = folder.path().join("run");
    let mut one = AgentSockets::default();
    one.listen_unix(&folder, SOCKET_NAME).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&folder), mode(&folder.join(SOCKET_NAME))), (0o700, 0o600));
    let error = AgentSockets::default().listen_unix(&folder, SOCKET_NAME).unwrap_err();
    assert!(matches!(error, SocketError::Running(_)), "{error}");
    drop(one);
    assert!(!folder.join(SOCKET_NAME).exists(), "removed at the end");
    // A killed agent leaves its socket behind.
    drop(std::os::unix::net::UnixListener::bind(folder.join(SOCKET_NAME)).unwrap());
    AgentSockets::default().listen_unix(&folder, SOCKET_NAME).unwrap();
}

#[tokio::test]
async fn a_folder_that_others_can_enter_is_refused() {
    let folder = tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let error = AgentSockets::default().listen_unix(folder.path(), SOCKET_NAME).unwrap_err();
    assert!(error.to_string().contains("mode is 0755"), "{error}");
    let long = folder.path().join("x".repeat(120));
    let error = AgentSockets::default().listen_unix(&long, SOCKET_NAME).unwrap_err();
    assert!(matches!(error, SocketError::LongPath(_)), "{error}");
}

#[tokio::test]
async fn only_loopback_is_listened_on() {
    for addr in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0", "[::ffff:127.0.0.1]:0"] {
        let error = AgentSockets::default().listen_tcp(addr.parse().unwrap()).await.unwrap_err();
        assert!(matches!(error, SocketError::NotLoopback(_)), "{error}");
    }
    let addr = AgentSockets::default().listen_tcp("127.0.0.1:0".parse().unwrap()).await.unwrap();
    assert!(addr.ip().is_loopback() && addr.port() > 0);
}
