//! Profiles that an administrator publishes: printed, fetched, shown, accepted, changed.

use std::sync::{Arc, Mutex};

use aws_emulator::{Ca, Issuer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::{Ended, LoginInProgress, Person, browse, ended, issuer, profile, redirect_of};
use crate::world::tls_front::TlsFront;

/// A web server with one document, over https.
struct Publisher {
    front: TlsFront,
    document: Arc<Mutex<String>>,
    ca: std::path::PathBuf,
    _folder: tempfile::TempDir,
}

impl Publisher {
    async fn start(document: String) -> Self {
        let (folder, authority) = (tempfile::TempDir::new().unwrap(), Ca::new().unwrap());
        let ca = authority.write(folder.path()).unwrap();
        let document = Arc::new(Mutex::new(document));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let shown = Arc::clone(&document);
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                let asked = head.starts_with(b"GET /.well-known/pgpassport HTTP/1.1\r\n");
                let body = if asked { shown.lock().unwrap().clone() } else { String::new() };
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                );
                let _ = stream.write_all(answer.as_bytes()).await; // a client may have had enough
            }
        });
        let front = TlsFront::start(&authority.server(&["localhost"]).unwrap(), addr).await;
        Self { front, document, ca, _folder: folder }
    }

    fn change(&self, from: &str, to: &str) {
        let mut document = self.document.lock().unwrap();
        assert!(document.contains(from), "{document}");
        *document = document.replace(from, to);
    }

    async fn run(&self, person: &Person, args: &[&str]) -> Ended {
        let mut command = person.command(args);
        command.env("SSL_CERT_FILE", &self.ca);
        ended(command).await
    }

    async fn login(&self, person: &Person, args: &[&str]) -> Ended {
        let mut command = person.command(args);
        command.env("SSL_CERT_FILE", &self.ca);
        let mut login = LoginInProgress::start(command);
        let page = login.line_with("/authorize?").await;
        browse("GET", &redirect_of(&page, "alice").await, None, "").await;
        login.end().await
    }
}

/// The document as the command prints it.
async fn printed(issuer: &Issuer) -> String {
    let administrator =
        Person::at(issuer, "databases = [\"orders\"]\nca_file = \"ca.pem\"\ncache = \"none\"");
    let folder = administrator.path(".config/pgpassport");
    std::fs::write(folder.join("ca.pem"), Ca::new().unwrap().pem()).unwrap();
    let file = folder.join("client.toml");
    let printed = administrator.run(&["profiles", "--publish", file.to_str().unwrap()]).await;
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    assert!(
        printed.stdout.contains("BEGIN CERTIFICATE") && !printed.stdout.contains("cache"),
        "{}",
        printed.stdout
    );
    printed.stdout
}

#[tokio::test]
async fn published_profiles_are_used_once_accepted_and_a_change_is_accepted_again() {
    let issuer = issuer();
    let publisher = Publisher::start(printed(&issuer).await).await;
    let person = Person::with_profile("");
    let url = publisher.front.url();
    // Nobody is there to accept them.
    let shown = publisher.run(&person, &["login", "--no-browser", &url]).await;
    assert_eq!(shown.code, Some(1), "{}", shown.stderr);
    for text in ["are new on this machine", &issuer.url(), "localhost:1", "orders", "are not accepted"] {
        assert!(shown.stderr.contains(text), "{text}: {}", shown.stderr);
    }
    assert!(person.run(&["profiles"]).await.stdout.is_empty(), "they are used without a yes");
    let login = publisher.login(&person, &["login", "--no-browser", "--accept-profiles", &url]).await;
    assert_eq!(login.code, Some(0), "{}", login.stderr);
    assert!(login.stderr.contains("Connect: pgpassport psql --profile test orders"), "{}", login.stderr);
    assert_eq!(person.run(&["token"]).await.code, Some(0));
    let info = person.run(&["token", "--format", "conninfo"]).await.stdout;
    let file = info.split("sslrootcert=").nth(1).unwrap().split(' ').next().unwrap();
    assert!(std::fs::read_to_string(file).unwrap().contains("BEGIN CERTIFICATE"), "{info}");
    // The same again needs no question.
    assert_eq!(publisher.login(&person, &["login", "--no-browser"]).await.code, Some(0));
    publisher.change("localhost:1", "evil.example:5432");
    let changed = publisher.run(&person, &["login", "--no-browser"]).await;
    assert_eq!(changed.code, Some(1));
    for text in ["have changed", "+ ", "evil.example:5432", "- ", "localhost:1"] {
        assert!(changed.stderr.contains(text), "{text}: {}", changed.stderr);
    }
    assert!(person.run(&["profiles"]).await.stdout.contains("localhost:1\t"), "the change is used");
    let accepted = publisher.login(&person, &["login", "--no-browser", "--accept-profiles"]).await;
    assert_eq!(accepted.code, Some(0), "{}", accepted.stderr);
    assert!(person.run(&["profiles"]).await.stdout.contains("evil.example:5432\t"));
}

#[tokio::test]
async fn a_document_with_more_than_an_administrator_decides_is_refused() {
    let issuer = issuer();
    let good = printed(&issuer).await;
    let publisher = Publisher::start(good.clone()).await;
    let person = Person::with_profile(&profile(&issuer, "localhost:1", ""));
    for (from, to) in [
        ("\"client_id\"", "\"cache\": \"helper:evil\", \"client_id\""),
        ("\"client_id\"", "\"ca_file\": \"/etc/passwd\", \"client_id\""),
        ("\"name\": \"test\"", "\"name\": \"../test\""),
        ("http://127.0.0.1/callback", "http://evil.example/callback"),
        ("\"version\": 1", "\"version\": 2"),
        ("\"issuer\": \"http://127.0.0.1", "\"issuer\": \"http://evil.example"),
        ("{", "["),
    ] {
        publisher.document.lock().unwrap().clone_from(&good);
        publisher.change(from, to);
        let ended = publisher
            .run(&person, &["login", "--no-browser", "--accept-profiles", &publisher.front.url()])
            .await;
        assert_eq!(ended.code, Some(1), "{to}: {}", ended.stderr);
        assert!(!person.path(".config/pgpassport/published").exists(), "{to}");
    }
    for url in ["http://localhost", "https://localhost/x", "https://u@localhost", "localhost"] {
        let ended = publisher.run(&person, &["login", "--accept-profiles", url]).await;
        assert!(ended.stderr.contains("is not an address such as"), "{url}: {}", ended.stderr);
    }
    // A server that nobody vouches for.
    let ended = person.run(&["login", "--accept-profiles", &publisher.front.url()]).await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("cannot be asked"), "{}", ended.stderr);
}
