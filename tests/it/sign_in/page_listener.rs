//! The listeners of the pages: their certificates, and load balancers in front of them.

use std::sync::{Arc, Mutex};

use aws_emulator::Ca;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::balancer::{PROXY, header};
use crate::world::World;
use crate::world::admin::until;
use crate::world::raw::trusting;

/// A page with a certificate of its own.
const PAGE: &str = "[profiles]\naddr = \"127.0.0.1:0\"\ntls_cert_file = \"@folder@/page.crt\"\n\
                    tls_key_file = \"@folder@/page.key\"\nclient_file = \"@folder@/client.toml\"\n";

/// A world whose page has a certificate of `ca`.
async fn world_with_page(ca: &Arc<Ca>, more: &str) -> World {
    let ca = Mutex::new(Arc::clone(ca));
    let builder = World::builder().reload("interval = \"1s\"").pages(&format!("{PAGE}{more}"));
    let builder = builder.service_with(move |service| {
        let file = &service.config.profiles.as_ref().unwrap().client_file;
        std::fs::write(file, "").unwrap();
        let page = ca.lock().unwrap().server(&["localhost"]).unwrap();
        page.write(file.parent().unwrap(), "page").unwrap();
    });
    builder.start().await
}

/// The page, asked by a client that trusts `ca` and that sends `before` ahead of TLS.
async fn ask(world: &World, ca: &Ca, before: &[u8]) -> std::io::Result<String> {
    let mut tcp = TcpStream::connect(("127.0.0.1", world.profiles_port.unwrap())).await?;
    tcp.write_all(before).await?;
    ask_over(tcp, ca).await
}

async fn ask_over(tcp: TcpStream, ca: &Ca) -> std::io::Result<String> {
    let tls = TlsConnector::from(Arc::new(trusting(ca)));
    let mut tls = tls.connect(ServerName::try_from("localhost").unwrap(), tcp).await?;
    tls.write_all(b"GET /.well-known/pgpassport HTTP/1.1\r\nHost: localhost\r\n\r\n").await?;
    let mut answer = Vec::new();
    let _ = tls.read_to_end(&mut answer).await; // an answer may end with a reset
    Ok(String::from_utf8(answer).unwrap())
}

fn outcomes(outcome: &str) -> String {
    format!("pgpassport_page_connections_total{{page=\"profiles\",outcome=\"{outcome}\"}}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_of_a_page_is_taken_without_a_signal_and_its_end_is_measured() {
    let (ca, successor) = (Arc::new(Ca::new().unwrap()), Ca::new().unwrap());
    let world = world_with_page(&ca, "").await;
    assert!(ask(&world, &ca, b"").await.unwrap().starts_with("HTTP/1.1 200 "));
    let expiry = "pgpassport_certificate_expiry_timestamp_seconds{listener=\"[profiles]\"}";
    let end = world.metric(expiry).await;
    assert!(end > 1.0e9, "{end}");
    successor.server(&["localhost"]).unwrap().write(&world.folder(), "page").unwrap();
    until("the new certificate is used", async || ask(&world, &successor, b"").await.is_ok()).await;
    assert!(ask(&world, &ca, b"").await.is_err(), "the old certificate is used");
    // One that has expired replaces the good one, and the metric tells.
    successor.expired(&["localhost"]).unwrap().write(&world.folder(), "page").unwrap();
    until("the metric tells the end", async || world.metric(expiry).await < end).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_behind_a_load_balancer_reads_its_header() {
    let ca = Arc::new(Ca::new().unwrap());
    let world = world_with_page(&ca, "proxy_protocol_from = [\"127.0.0.0/8\"]\n").await;
    let answer = ask(&world, &ca, &header(PROXY, [192, 0, 2, 1])).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(ask(&world, &ca, b"").await.is_err(), "a peer in these networks needs a header");
    world.metric_is(&outcomes("failed"), 1.0).await;
    // Health checks: a header of the command LOCAL, and no byte at all.
    let mut check = TcpStream::connect(("127.0.0.1", world.profiles_port.unwrap())).await.unwrap();
    check.write_all(&header(0x20, [0; 4])).await.unwrap();
    drop(check);
    world.metric_is(&outcomes("health_check"), 1.0).await;
    drop(TcpStream::connect(("127.0.0.1", world.profiles_port.unwrap())).await.unwrap());
    world.metric_is(&outcomes("health_check"), 2.0).await;
    world.metric_is(&outcomes("failed"), 1.0).await;
    assert!(ask(&world, &ca, &header(PROXY, [192, 0, 2, 1])).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_from_elsewhere_is_no_tls() {
    let ca = Arc::new(Ca::new().unwrap());
    let world = world_with_page(&ca, "").await;
    assert!(ask(&world, &ca, &header(PROXY, [192, 0, 2, 1])).await.is_err());
    world.metric_is(&outcomes("failed"), 1.0).await;
}

/// The places of a page are for the client in the header, and not for the balancer.
#[tokio::test(flavor = "multi_thread")]
async fn silent_clients_of_one_address_lose_their_places_and_not_those_of_others() {
    let ca = Arc::new(Ca::new().unwrap());
    let world = world_with_page(&ca, "proxy_protocol_from = [\"127.0.0.0/8\"]\n").await;
    let connect = async |client: [u8; 4]| {
        let mut tcp = TcpStream::connect(("127.0.0.1", world.profiles_port.unwrap())).await.unwrap();
        tcp.write_all(&header(PROXY, client)).await.unwrap();
        tcp
    };
    let other = connect([192, 0, 2, 2]).await; // the oldest of all
    let mut silent = Vec::new();
    for _ in 0..pgpassport::sign_in::web::MAX_CONNECTIONS + 4 {
        silent.push(connect([192, 0, 2, 1]).await);
    }
    until("silent ones are evicted", async || world.metric(&outcomes("evicted")).await >= 5.0).await;
    let answer =
        ask_over(other, &ca).await.expect("the oldest one lost its place, and its address holds no other");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}
