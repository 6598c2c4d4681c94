//! Tests of the question and its answer.

use std::net::TcpListener;

use super::*;

fn question(addr: SocketAddr, ready: bool) -> HealthArgs {
    HealthArgs { ready, addr: Some(addr), timeout: Duration::from_millis(300) }
}

#[test]
fn a_wildcard_address_is_asked_over_loopback() {
    for (listened, asked) in [
        ("0.0.0.0:9127", "127.0.0.1:9127"),
        ("[::]:9127", "[::1]:9127"),
        ("192.0.2.1:9127", "192.0.2.1:9127"),
    ] {
        assert_eq!(reachable(listened.parse().unwrap()), asked.parse().unwrap());
    }
}

#[test]
fn what_is_no_answer_of_ours_is_told_apart() {
    assert_eq!(
        parse("HTTP/1.1 503 Service Unavailable\r\na: b\r\n\r\nstopping\n"),
        Some((503, "stopping\n"))
    );
    for other in ["", "SSH-2.0-x\r\n\r\n", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 \r\n\r\n"] {
        assert_eq!(parse(other), None, "{other:?}");
    }
}

#[test]
fn silence_and_closed_ports_are_no_answer() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = silent.local_addr().unwrap();
    let error = question(addr, true).ask(Path::new("unread")).unwrap_err();
    assert_eq!(error.to_string(), format!("{addr}: no answer in time"));
    assert!(!error.is_of_the_configuration());
    drop(silent);
    let error = question(addr, false).ask(Path::new("unread")).unwrap_err();
    assert!(matches!(error, HealthError::Unreachable { .. }), "{error}");
}
