//! Servers that are too slow, too talkative or broken off, spoken byte by byte, and a proxy between us and a server.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hyper::Uri;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use super::*;
use crate::names::direct_hosts::DirectHosts;
use crate::net::egress::{Egress, EgressProxy};
use crate::net::outgoing::Outgoing;
use crate::net::resolver::Resolver;
use crate::net::test_tls::TestTls;

const LIMITS: HttpsLimits = HttpsLimits {
    body: 1_000,
    connect: Duration::from_secs(20),
    request: Duration::from_mins(1),
    connections: 2,
};

fn client() -> HttpsClient {
    Outgoing::system().client(None, true, LIMITS).unwrap()
}

/// Reads a request's head; how long it is.
async fn request(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// A server that says this to every request and closes.
async fn saying(answer: impl Into<Vec<u8>>) -> String {
    let answer = answer.into();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/x", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            request(&mut stream).await;
            let _ = stream.write_all(&answer).await; // the client may have had enough
            let _ = stream.shutdown().await;
        }
    });
    url
}

async fn ask(answer: impl Into<Vec<u8>>) -> Result<Answer, HttpsError> {
    client().get(&saying(answer).await, "application/json").await
}

#[tokio::test]
async fn a_whole_answer_is_given_with_its_headers() {
    let date = "Sun, 06 Nov 1994 08:49:37 GMT";
    let answer =
        ask(format!("HTTP/1.1 404 Not Found\r\nDate: {date}\r\nContent-Length: 2\r\n\r\nhi")).await.unwrap();
    assert_eq!(
        (answer.status.as_u16(), &*answer.body, answer.header(header::DATE)),
        (404, &b"hi"[..], Some(date))
    );
    let chunked =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n2;x=y\r\nbc\r\n0\r\nT: x\r\n\r\n";
    assert_eq!(&*ask(chunked).await.unwrap().body, b"abc");
    assert_eq!(&*ask("HTTP/1.0 200 OK\r\n\r\nto the end").await.unwrap().body, b"to the end");
}

#[tokio::test]
async fn a_body_of_the_limit_is_read_and_one_byte_more_is_not() {
    for (length, read) in [(1_000, true), (1_001, false)] {
        let body = "x".repeat(length);
        for answer in [
            format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}"),
            format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n"),
            format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{body}"),
            format!("HTTP/1.1 500 Oops\r\nContent-Length: {length}\r\n\r\n{body}"),
        ] {
            let result = ask(answer.clone()).await;
            let as_expected = if read {
                result.is_ok()
            } else {
                result.as_ref().err() == Some(&HttpsError::TooLong(1_000))
            };
            assert!(as_expected, "{length}: {}: {result:?}", &answer[..40]);
        }
    }
    // What is announced is believed: nothing of it is waited for.
    let announced = ask("HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n").await;
    assert_eq!(announced.unwrap_err(), HttpsError::TooLong(1_000));
}

#[tokio::test]
async fn an_answer_that_ends_early_is_none() {
    for answer in [
        "",
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n123456789",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "SSH-2.0-OpenSSH\r\n",
        "\u{16}\u{3}\u{1}",
    ] {
        let error = ask(answer).await.unwrap_err();
        assert!(matches!(error, HttpsError::Broken(_)), "{answer:?}: {error:?}");
    }
}

#[tokio::test]
async fn a_long_head_is_not_read() {
    for head in [
        format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(2 * MAX_HEAD_BYTES)),
        format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: x\r\n".repeat(101)),
    ] {
        let error = ask(head).await.unwrap_err();
        assert!(matches!(error, HttpsError::Broken(_)), "{error:?}");
    }
    let long =
        format!("HTTP/1.1 200 OK\r\nX: {}\r\nContent-Length: 0\r\n\r\n", "x".repeat(MAX_HEAD_BYTES / 2));
    ask(long).await.unwrap();
}

#[tokio::test]
async fn a_compressed_answer_is_not_unpacked_and_none_is_asked_for() {
    for encoding in ["gzip", "br", "identity, gzip"] {
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Encoding: {encoding}\r\nContent-Length: 2\r\n\r\n\u{1f}\u{8}"
        );
        assert_eq!(ask(answer).await.unwrap_err(), HttpsError::Compressed, "{encoding}");
    }
    ask("HTTP/1.1 200 OK\r\nContent-Encoding: identity\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/x", listener.local_addr().unwrap());
    let (result, head) = tokio::join!(async { client().get(&url, "text/xml").await }, async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let head = request(&mut stream).await.to_lowercase();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        head
    });
    result.unwrap();
    for header in ["accept-encoding: identity\r\n", "accept: text/xml\r\n", "user-agent: pgpassport/"] {
        assert!(head.contains(header), "{head}");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let asked = Arc::new(AtomicUsize::new(0));
    let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = elsewhere.local_addr().unwrap();
    let count = Arc::clone(&asked);
    tokio::spawn(async move {
        while elsewhere.accept().await.is_ok() {
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    for status in ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"] {
        let answer =
            ask(format!("HTTP/1.1 {status}\r\nLocation: http://{to}/\r\nContent-Length: 0\r\n\r\n")).await;
        assert_eq!(answer.unwrap().status.as_str(), &status[..3]);
    }
    assert_eq!(asked.load(Ordering::Relaxed), 0);
}

/// A byte now and then, provisional answers without end, or nothing: the request ends all the same.
#[tokio::test]
async fn a_slow_answer_ends_with_the_time_for_the_request() {
    for drip in ["HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n", "HTTP/1.1 100 Continue\r\n\r\n", ""] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/x", listener.local_addr().unwrap());
        let client = client();
        let mut asking = Box::pin(client.get(&url, "text/xml"));
        let mut stream = tokio::select! {
            result = &mut asking => panic!("{result:?}"),
            accepted = listener.accept() => accepted.unwrap().0,
        };
        tokio::select! {
            result = &mut asking => panic!("{result:?}"),
            _ = request(&mut stream) => {}
        }
        stream.write_all(drip.as_bytes()).await.unwrap();
        tokio::time::pause();
        let begun = Instant::now();
        let piece = if drip.contains("100") { drip } else { "x" };
        let dripping = async {
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                if !drip.is_empty() && stream.write_all(piece.as_bytes()).await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        let result = tokio::select! {
            result = &mut asking => result,
            () = dripping => unreachable!(),
        };
        assert_eq!(result.unwrap_err(), HttpsError::TimedOut(LIMITS.request), "{drip:?}");
        assert!(begun.elapsed() < LIMITS.request + Duration::from_secs(1), "{:?}", begun.elapsed());
        tokio::time::resume();
    }
}

#[tokio::test]
async fn requests_at_the_same_time_are_counted_and_one_more_waits() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/x", listener.local_addr().unwrap());
    let client = Arc::new(client());
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let (client, url) = (Arc::clone(&client), url.clone());
        asking.spawn(async move { client.get(&url, "text/xml").await });
    }
    let mut open = Vec::new();
    for _ in 0..2 {
        let (mut stream, _) = listener.accept().await.unwrap();
        request(&mut stream).await;
        open.push(stream);
    }
    assert_eq!(client.permits.available_permits(), 0);
    let answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    open.remove(0).write_all(answer).await.unwrap();
    let (mut third, _) = listener.accept().await.unwrap();
    request(&mut third).await;
    for mut stream in [open.remove(0), third] {
        stream.write_all(answer).await.unwrap();
    }
    while let Some(result) = asking.join_next().await {
        result.unwrap().unwrap();
    }
}

#[tokio::test]
async fn p5_a_forbidden_address_is_not_asked() {
    for url in ["http://169.254.169.254/", "http://[fd00:ec2::254]/", "http://0.0.0.0/"] {
        assert_eq!(client().get(url, "text/xml").await.unwrap_err(), HttpsError::Address, "{url}");
        assert_eq!(client().reach(url).await.unwrap_err(), HttpsError::Address, "{url}");
        assert_eq!(client().certificates(url).await.unwrap_err(), HttpsError::Address, "{url}");
    }
    let public = Outgoing::system().client(None, false, LIMITS).unwrap();
    assert_eq!(public.get("http://127.0.0.1:1/", "text/xml").await.unwrap_err(), HttpsError::Address);
    let metadata = Resolver::from_fn(|_| Ok(vec![(Ipv4Addr::new(169, 254, 169, 254), 0).into()]));
    let tricked = Outgoing::new(metadata, Egress::default()).client(None, true, LIMITS).unwrap();
    let error = tricked.get("http://idp.example/", "text/xml").await.unwrap_err();
    assert!(matches!(&error, HttpsError::Broken(why) if why.contains("private_network")), "{error}");
}

/// A TLS server for `localhost`, its certificate, and a proxy in front of it that writes down what it is asked.
struct BehindProxy {
    ca_file: tempfile::NamedTempFile,
    server: SocketAddr,
    proxy: SocketAddr,
    heads: tokio::sync::mpsc::UnboundedReceiver<String>,
}

async fn behind_proxy(says: &'static str) -> BehindProxy {
    let tls = TestTls::new("idp.example");
    let ca_file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(ca_file.path(), &tls.pem).unwrap();
    let acceptor = tls.acceptor();
    let origin = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = origin.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (tcp, _) = origin.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(tcp).await else { continue };
            let mut asked = [0; 4_096];
            let _ = stream.read(&mut asked).await;
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi")
                .await;
            let _ = stream.shutdown().await;
        }
    });
    let between = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = between.local_addr().unwrap();
    let (told, heads) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (mut client, _) = between.accept().await.unwrap();
            told.send(request(&mut client).await).unwrap();
            client.write_all(says.as_bytes()).await.unwrap();
            if says.contains(" 200 ") {
                tokio::spawn(async move {
                    let mut origin = TcpStream::connect(server).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut origin).await;
                });
            }
        }
    });
    BehindProxy { ca_file, server, proxy, heads }
}

impl BehindProxy {
    fn client(&self, credentials: Option<&str>, direct: &[&str]) -> HttpsClient {
        let uri = Uri::try_from(format!("http://{}", self.proxy)).unwrap();
        let mut proxy = EgressProxy { uri, authorization: None };
        if let Some(credentials) = credentials {
            proxy = proxy.with_credentials(credentials).unwrap();
        }
        let direct = direct.iter().map(|text| DirectHosts::parse(text).unwrap()).collect();
        // The name is not known here: only the proxy may look for it. Directly it is the server's address.
        let server = self.server;
        let resolver = Resolver::from_fn(move |name| match name {
            "direct.idp.example" | "idp.example" => Ok(vec![server]),
            _ => Err(std::io::Error::other("nobody knows")),
        });
        let outgoing = Outgoing::new(resolver, Egress::through(proxy, direct));
        outgoing.client(Some(self.ca_file.path()), false, LIMITS).unwrap()
    }
}

#[tokio::test]
async fn https_goes_through_the_proxy_as_it_is() {
    let mut world = behind_proxy("HTTP/1.1 200 Connection established\r\n\r\n").await;
    let client = world.client(Some("us:er"), &[]);
    let answer = client.get("https://idp.example/x", "text/xml").await.unwrap();
    assert_eq!(&*answer.body, b"hi");
    let head = world.heads.recv().await.unwrap();
    assert!(head.starts_with("CONNECT idp.example:443 HTTP/1.1\r\n"), "{head}");
    assert!(head.to_lowercase().contains("proxy-authorization: basic dxm6zxi=\r\n"), "{head}");
    assert!(
        !head.contains("/x") && !head.to_lowercase().contains("accept"),
        "the proxy sees no request: {head}"
    );
    let reached = client.reach("https://idp.example/x").await.unwrap();
    assert_eq!(reached, Reached { addr: world.proxy, through_proxy: true });
    assert_eq!(client.certificates("https://idp.example/x").await.unwrap().len(), 1);
}

#[tokio::test]
async fn no_proxy_is_direct_and_guarded_as_ever() {
    let world = behind_proxy("HTTP/1.1 200 Connection established\r\n\r\n").await;
    let direct = world.client(None, &["idp.example"]);
    let error = direct.get("https://idp.example/", "text/xml").await.unwrap_err();
    assert!(matches!(&error, HttpsError::Broken(why) if why.contains("private_network")), "{error}");
    let mut world = world;
    assert!(world.heads.try_recv().is_err(), "the proxy was not asked");
}

#[tokio::test]
async fn a_proxy_that_does_not_connect_is_named() {
    for says in [
        "HTTP/1.1 403 Forbidden\r\n\r\n",
        "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n",
        "HTTP/1.1 302 Found\r\nLocation: https://login.example/\r\n\r\n",
        "nonsense\r\n\r\n",
    ] {
        let world = behind_proxy(says).await;
        let error = world.client(None, &[]).get("https://idp.example/", "text/xml").await.unwrap_err();
        let named = format!("through the proxy http://{}", world.proxy);
        assert!(matches!(&error, HttpsError::Broken(why) if why.contains(&named)), "{says}: {error}");
    }
}

/// The proxy may lead anywhere: who is there has to show the certificate all the same.
#[tokio::test]
async fn behind_a_proxy_certificates_are_verified() {
    let world = behind_proxy("HTTP/1.1 200 OK\r\n\r\n").await;
    let error = world.client(None, &[]).get("https://other.example/", "text/xml").await.unwrap_err();
    assert!(matches!(&error, HttpsError::Broken(why) if why.contains("certificate")), "{error}");
}
