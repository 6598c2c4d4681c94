//! Bodies of answers: of another call, truncated, huge.

use aws_emulator::HttpFault;
use aws_emulator::sts::StsFault;

use super::tests::{TIMES, world};
use super::*;
use crate::config::test_fixture::cluster;

#[tokio::test(flavor = "multi_thread")]
async fn p11_what_cannot_be_believed_is_refused() {
    let world = world();
    let arn = "arn:aws:sts::123456789012:assumed-role/pgpassport-app";
    for (fault, what) in [
        (StsFault::WithoutCredentials, "no credentials"),
        (StsFault::OtherSubject("mallory".into()), "another subject"),
        (StsFault::OtherProvider("https://evil.example".into()), "another provider"),
        (StsFault::OtherRole(format!("{arn}/mallory-12345678")), "another role"),
        (StsFault::OtherRole(format!("{arn}-admin/alice-12345678")), "another role"),
        (StsFault::AlreadyExpired, "have expired"),
        (StsFault::Altered("<SecretAccessKey>", "<SecretAccessKey>a b".into()), "secret access key"),
        (
            StsFault::Altered("<SessionToken>", format!("<SessionToken>{}", "x".repeat(16_384))),
            "session token",
        ),
    ] {
        let error = world.failure(fault).await;
        assert!(matches!(error, StsError::BadResponse(fact) if fact.contains(what)), "{what}: {error}");
    }
}

/// The SDK's reader takes an answer that ends behind the credentials.
#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_answer_is_not_believed() {
    for end in [
        "",
        "<SessionToken>",
        "</SessionToken>",
        "</Expiration>",
        "</Credentials>",
        "</RequestId>",
        "</ResponseMetadata>",
    ] {
        let world = world();
        let error = world.failure(StsFault::TruncatedBehind(end)).await;
        assert!(
            matches!(&error, StsError::Unavailable(why) if why.contains("not an answer from STS")),
            "{end}: {error}"
        );
        assert_eq!(world.cloud.sts.count(), 3, "{end}: tried again");
    }
    for fault in
        [StsFault::Truncated, StsFault::Http(HttpFault::html(200)), StsFault::Http(HttpFault::html(503))]
    {
        let world = world();
        let error = world.failure(fault.clone()).await;
        assert!(
            matches!(&error, StsError::Unavailable(why) if why.contains("not an answer from STS")),
            "{fault:?}: {error}"
        );
    }
}

/// Sends `head` and then bytes until the other side has had enough; how many it took.
fn flooding(head: String) -> (String, std::thread::JoinHandle<usize>) {
    use std::io::{Read as _, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let flood = std::thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut request = [0; 16_384];
        let _ = client.read(&mut request).unwrap();
        client.write_all(head.as_bytes()).unwrap();
        let mut sent = 0;
        while let Ok(more) = client.write(&[b'<'; 16_384]) {
            sent += more;
        }
        sent
    });
    (url, flood)
}

/// An answer of a gigabyte costs what a good one does: it is not read to its end, announced or not.
#[tokio::test(flavor = "multi_thread")]
async fn a_huge_answer_is_not_read() {
    let world = world();
    for (head, what) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n", "longer than 65536 bytes"),
        ("HTTP/1.1 200 OK\r\n\r\n", "longer than 65536 bytes"),
        ("HTTP/1.1 403 Forbidden\r\n\r\n", "longer than 65536 bytes"),
        ("HTTP/1.1 200 OK\r\nX: ", ""), // a head without an end
    ] {
        let (url, flood) = flooding(head.to_owned());
        let sts =
            StsEndpoint::new(&cluster(&url), TIMES, Clock::system(), &Outgoing::system(), None).unwrap();
        let assume = world.assume_as(world.cloud.issuer.token("alice"));
        let (_, ended) = sts.attempt(&assume, &RetryBudget::new(Instant::now())).await;
        let error = StsError::from(ended.unwrap_err()).to_string();
        assert!(error.contains(what), "{head:?}: {error}");
        drop(sts);
        let sent = tokio::task::spawn_blocking(|| flood.join().unwrap()).await.unwrap();
        assert!(sent < 64 << 20, "{sent} bytes were taken");
    }
}
