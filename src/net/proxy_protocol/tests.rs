//! Headers of balancers, honest and otherwise.

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::*;

const BALANCER: &str = "10.0.0.7:44000";

fn header(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let length = u16::try_from(block.len()).unwrap();
    [&SIGNATURE[..], &[command, family], &length.to_be_bytes(), block].concat()
}

/// Source 192.0.2.1:5000, destination 10.0.0.9:5432.
fn tcp4() -> Vec<u8> {
    vec![192, 0, 2, 1, 10, 0, 0, 9, 0x13, 0x88, 0x15, 0x38]
}

/// Source `[2001:db8::1]:5000`, destination `[fd00::9]:5432`.
fn tcp6() -> Vec<u8> {
    let addresses: [std::net::Ipv6Addr; 2] = ["2001:db8::1".parse().unwrap(), "fd00::9".parse().unwrap()];
    [&addresses[0].octets()[..], &addresses[1].octets(), &[0x13, 0x88, 0x15, 0x38]].concat()
}

/// What a peer at `peer` that sends `bytes` is taken for, and what is left of its bytes.
async fn taken(peer: &str, bytes: &[u8]) -> (Result<ClientOrigin, OriginError>, Vec<u8>) {
    let (mut ours, mut theirs) = duplex(4_096);
    theirs.write_all(bytes).await.unwrap();
    theirs.shutdown().await.unwrap();
    let networks = ["10.0.0.0/16".parse().unwrap(), "fd00::/8".parse().unwrap()];
    let peer: SocketAddr = peer.parse().unwrap();
    let origin = origin(&mut ours, peer.into(), &networks).await;
    let mut rest = Vec::new();
    ours.read_to_end(&mut rest).await.unwrap();
    (origin, rest)
}

async fn error(bytes: &[u8]) -> HeaderError {
    match taken(BALANCER, bytes).await.0 {
        Err(OriginError::Header(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn c10_the_address_in_the_header_is_the_clients() {
    for (family, block, client) in [(TCP4, tcp4(), "192.0.2.1:5000"), (TCP6, tcp6(), "[2001:db8::1]:5000")] {
        for extensions in [&[][..], &[0xea, 0, 3, 1, b'v', b'p']] {
            let header = header(PROXY, family, &[&block, extensions].concat());
            for balancer in [BALANCER, "[::ffff:10.0.0.7]:44000"] {
                let (origin, rest) = taken(balancer, &[&header[..], b"behind"].concat()).await;
                let expected = ClientOrigin::Proxied {
                    client: client.parse().unwrap(),
                    balancer: BALANCER.parse().unwrap(),
                };
                assert_eq!(origin.unwrap(), expected);
                assert_eq!(rest, b"behind", "read to its last byte and no further");
            }
        }
    }
}

#[tokio::test]
async fn c10_from_other_networks_nothing_is_read() {
    let bytes = header(PROXY, TCP4, &tcp4());
    for peer in ["10.1.0.1:1", "192.0.2.9:1", "127.0.0.1:1", "[fc00::1]:1", "[::ffff:11.0.0.1]:1"] {
        let (origin, rest) = taken(peer, &bytes).await;
        let Ok(ClientOrigin::Direct(ClientAddr::Tcp(client))) = origin else { panic!("{peer}: {origin:?}") };
        assert_eq!(client.ip(), peer.parse::<SocketAddr>().unwrap().ip().to_canonical());
        assert_eq!(rest, bytes, "{peer}");
    }
}

#[tokio::test]
async fn c10_a_balancer_has_to_send_a_header() {
    for bytes in [
        &b"\0\0\0\x08\x04\xd2\x16\x2f"[..],
        b"PROXY TCP4 192.0.2.1 10.0.0.9 5000 5432\r\n",
        b"\x16\x03\x01",
        b"\r\n\r\n\0\r\nQUIT\r",
    ] {
        // The far end stays open and waits: what cannot be a header is not waited for to become one.
        let (mut ours, mut theirs) = duplex(64);
        theirs.write_all(bytes).await.unwrap();
        let origin =
            origin(&mut ours, ClientAddr::Tcp(BALANCER.parse().unwrap()), &["10.0.0.0/8".parse().unwrap()])
                .await;
        assert!(matches!(origin, Err(OriginError::Header(HeaderError::Signature))), "{bytes:?}: {origin:?}");
    }
    let cut = header(PROXY, TCP4, &tcp4());
    for end in [1, 12, 15, 16, 27] {
        assert!(matches!(taken(BALANCER, &cut[..end]).await.0, Err(OriginError::Io(_))), "{end}");
    }
    assert!(matches!(taken(BALANCER, b"").await.0, Err(OriginError::Silent)));
}

#[tokio::test]
async fn c10_versions_commands_and_families_that_name_no_client_are_refused() {
    for command in [0x00, 0x11, 0x22, 0x2f, 0x30, 0xff] {
        assert_eq!(error(&header(command, TCP4, &tcp4())).await, HeaderError::Command(command));
    }
    for family in [0x00, 0x01, 0x10, 0x12, 0x20, 0x22, 0x31, 0xff] {
        assert_eq!(error(&header(PROXY, family, &[0; 216])).await, HeaderError::Family(family));
    }
    assert_eq!(error(&header(PROXY, TCP4, &tcp4()[..11])).await, HeaderError::Length(11));
    assert_eq!(error(&header(PROXY, TCP6, &tcp6()[..35])).await, HeaderError::Length(35));
}

#[tokio::test]
async fn c10_a_header_of_536_bytes_passes_and_one_of_537_does_not() {
    for (command, family) in [(PROXY, TCP4), (PROXY, TCP6), (LOCAL, 0)] {
        let mut block = if family == TCP4 { tcp4() } else { tcp6() };
        block.resize(536 - 16, 0);
        let longest = header(command, family, &block);
        assert_eq!(longest.len(), 536);
        assert!(taken(BALANCER, &longest).await.0.is_ok());
        block.push(0);
        assert_eq!(error(&header(command, family, &block)).await, HeaderError::Length(521));
    }
    // Judged by what it announces, before the rest has come.
    let announced = [&SIGNATURE[..], &[PROXY, TCP4, 0xff, 0xff]].concat();
    assert_eq!(error(&announced).await, HeaderError::Length(0xffff));
}

#[tokio::test]
async fn c10_local_keeps_the_real_peer_and_ignores_the_rest() {
    for (family, block) in [(0, vec![]), (TCP4, tcp4()), (0xff, vec![7; 100])] {
        let (origin, rest) = taken(BALANCER, &[header(LOCAL, family, &block), b"x".to_vec()].concat()).await;
        assert_eq!(origin.unwrap(), ClientOrigin::Balancer(BALANCER.parse().unwrap()));
        assert_eq!(rest, b"x");
    }
}

#[test]
fn c10_what_comes_through_a_balancer_is_never_loopback() {
    let (here, there): (SocketAddr, SocketAddr) =
        ("127.0.0.1:1".parse().unwrap(), "192.0.2.1:1".parse().unwrap());
    assert!(ClientOrigin::Direct(here.into()).is_loopback());
    assert!(ClientOrigin::Direct(canonical("[::ffff:127.0.0.1]:1".parse().unwrap()).into()).is_loopback());
    for origin in [
        ClientOrigin::Direct(there.into()),
        ClientOrigin::Balancer(here),
        ClientOrigin::Proxied { client: here, balancer: here },
        ClientOrigin::Proxied { client: here, balancer: there },
        ClientOrigin::Proxied { client: there, balancer: here },
    ] {
        assert!(!origin.is_loopback(), "{origin:?}");
    }
}

proptest! {
    #[test]
    fn c10_any_bytes_are_a_header_or_refused(
        mut fixed in any::<[u8; FIXED]>(),
        signed in any::<bool>(),
        block in prop::collection::vec(any::<u8>(), 0..600),
        family in prop_oneof![Just(TCP4), Just(TCP6)],
    ) {
        if signed {
            fixed[..12].copy_from_slice(&SIGNATURE);
        }
        if let Ok((_, _, length)) = parse_fixed(fixed) {
            prop_assert!(signed && length <= 520);
        }
        let least = if family == TCP4 { 12 } else { 36 };
        prop_assert_eq!(source(family, &block).is_ok(), block.len() >= least);
    }

    #[test]
    fn c10_addresses_come_through_as_they_are(ip in any::<IpAddr>(), port in any::<u16>(), more in 0_usize..100) {
        let (family, mut block) = match ip {
            IpAddr::V4(ip) => (TCP4, [&ip.octets()[..], &[0; 4], &port.to_be_bytes(), &[0; 2]].concat()),
            IpAddr::V6(ip) => (TCP6, [&ip.octets()[..], &[0; 16], &port.to_be_bytes(), &[0; 2]].concat()),
        };
        block.resize(block.len() + more, 0xff);
        prop_assert_eq!(source(family, &block), Ok(SocketAddr::new(ip, port)));
    }
}
