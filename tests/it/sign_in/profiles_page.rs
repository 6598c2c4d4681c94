//! `[profiles]`: the proxy publishes the profiles that people sign in with.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Ended, LoginInProgress, Person, browse, ended, redirect_of};
use crate::world::World;
use crate::world::admin::until;
use crate::world::raw::trusting;

const PAGE: &str = "[profiles]\naddr = \"127.0.0.1:0\"\ntls_cert_file = \"@cert@\"\ntls_key_file = \"@key@\"\n\
                    client_file = \"@folder@/client.toml\"";

/// A world that publishes one profile for itself.
async fn publishing() -> World {
    let builder = World::builder().pages(PAGE).service_with(|service| {
        let config = &service.config;
        let file = &config.profiles.as_ref().unwrap().client_file;
        let ca = file.with_file_name("ca.pem");
        let text = format!(
            "[[profile]]\nname = \"test\"\nissuer = \"{}\"\nprivate_network = true\nclient_id = \"pgpassport\"\n\
             proxy = \"localhost:{}\"\ndatabases = [\"app\"]\nca_file = \"{}\"\n",
            config.issuers[0].issuer.as_str(),
            service.sockets[0].addr().unwrap().tcp().unwrap().port(),
            ca.display()
        );
        std::fs::write(file, text).unwrap();
    });
    builder.start().await
}

fn authority(world: &World) -> PathBuf {
    world.folder().join("ca.pem")
}

fn url(world: &World) -> String {
    format!("https://localhost:{}", world.profiles_port.unwrap())
}

async fn login(world: &World, person: &Person, args: &[&str]) -> Ended {
    let mut command = person.command(args);
    command.env("SSL_CERT_FILE", authority(world));
    let mut login = LoginInProgress::start(command);
    let page = login.line_with("/authorize?").await;
    browse("GET", &redirect_of(&page, "alice").await, None, "").await;
    login.end().await
}

async fn connect(world: &World) -> TlsStream<TcpStream> {
    let tls = TlsConnector::from(Arc::new(trusting(world.listener_ca())));
    let tcp = TcpStream::connect(("127.0.0.1", world.profiles_port.unwrap())).await.unwrap();
    tls.connect(ServerName::try_from("localhost").unwrap(), tcp).await.unwrap()
}

async fn ask(world: &World, request: &str) -> String {
    let mut tls = connect(world).await;
    let _ = tls.write_all(request.as_bytes()).await; // cut off before all of it is read
    let mut answer = Vec::new();
    let _ = tls.read_to_end(&mut answer).await; // an answer may end with a reset
    String::from_utf8(answer).unwrap()
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

async fn document(world: &World) -> String {
    ask(world, &get("/.well-known/pgpassport")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_needs_only_the_address_of_the_proxy() {
    let world = publishing().await;
    let person = Person::with_profile("");
    let args = ["login", "--no-browser", "--accept-profiles", &url(&world)];
    let signed_in = login(&world, &person, &args).await;
    assert_eq!(signed_in.code, Some(0), "{}", signed_in.stderr);
    world.plant(person.run(&["token"]).await.stdout);
    let ended = person.run(&["psql", "--", "-XAtc", "select current_user, current_database()"]).await;
    world.hear(ended.stderr.as_bytes());
    assert_eq!(ended.stdout, "alice|app\n", "{}", ended.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_changes_the_profiles_and_a_bad_file_changes_nothing() {
    let world = publishing().await;
    let person = Person::with_profile("");
    login(&world, &person, &["login", "--no-browser", "--accept-profiles", &url(&world)]).await;
    let file = world.folder().join("client.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("\"app\"", "\"other\"")).unwrap();
    assert!(document(&world).await.contains("\"app\""), "nobody has asked for a reload");
    assert!(world.reloaded().await);
    let shown = document(&world).await;
    assert!(shown.contains("\"other\"") && shown.contains("BEGIN CERTIFICATE"), "{shown}");
    assert!(!shown.contains("PRIVATE"), "{shown}");
    let mut command = person.command(&["login", "--no-browser"]);
    command.env("SSL_CERT_FILE", authority(&world));
    let changed = ended(command).await;
    assert!(changed.code == Some(1) && changed.stderr.contains("have changed"), "{}", changed.stderr);
    std::fs::write(&file, "[[profile]]").unwrap();
    assert!(!world.reloaded().await);
    assert!(document(&world).await.contains("\"other\""));
    world.log_line("client.toml").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_answers_one_short_request_and_a_flood_of_it_reaches_no_session() {
    let world = publishing().await;
    let head = document(&world).await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    for header in
        ["content-type: application/json\r\n", "cache-control: no-store", "nosniff", "connection: close"]
    {
        assert!(head.to_ascii_lowercase().contains(header), "{header}: {head}");
    }
    for (request, status) in [
        (get("/"), "404"),
        (get("/.well-known/../.well-known/pgpassport"), "404"),
        (get("/.well-known/pgpassport").replace("GET", "POST"), "405"),
        (get("/.well-known/pgpassport").replace("GET", "HEAD"), "200"),
        (format!("{}X: {}\r\n\r\n", get("/").trim_end_matches("\r\n"), "x".repeat(20_000)), "431"),
        ("junk\r\n\r\n".to_owned(), "400"),
    ] {
        let answer = ask(&world, &request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{status} {request:.60}: {answer}");
    }
    // More silent connections than there are places.
    let mut silent = Vec::new();
    for _ in 0..pgpassport::sign_in::web::MAX_CONNECTIONS + 10 {
        silent.push(TcpStream::connect(("127.0.0.1", world.profiles_port.unwrap())).await.unwrap());
    }
    drop(world.connect("alice", &world.token("alice")).await.unwrap());
    assert!(document(&world).await.starts_with("HTTP/1.1 200 OK\r\n"));
    let evicted = "pgpassport_page_connections_total{page=\"profiles\",outcome=\"evicted\"}";
    until("evictions are counted", async || world.metric(evicted).await >= 10.0).await;
    let answered = "pgpassport_page_connections_total{page=\"profiles\",outcome=\"answered\"}";
    until("answers are counted", async || world.metric(answered).await >= 6.0).await; // behind the last byte
}
