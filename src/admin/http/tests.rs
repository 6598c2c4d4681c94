//! Slow peers, and the PROXY header before a request.

use tokio::io::{AsyncWriteExt, duplex};

use super::*;

const REQUEST: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";

/// A response larger than a slow reader's buffer.
fn large(_: &Request<Incoming>) -> Response<Full<Bytes>> {
    say(StatusCode::OK, TEXT, "x".repeat(100_000))
}

#[tokio::test(start_paused = true)]
async fn l6_a_slow_scraper_is_cut_after_ten_seconds() {
    let (ours, mut theirs) = duplex(1_024);
    let start = Instant::now();
    let serving = tokio::spawn(serve_connection(ours, large));
    theirs.write_all(REQUEST).await.unwrap();
    let mut read = 0;
    let mut byte = [0; 1];
    while theirs.read(&mut byte).await.unwrap() > 0 {
        read += 1;
        sleep(Duration::from_millis(50)).await;
    }
    serving.await.unwrap();
    assert!(read < 100_000, "all of it was read");
    assert!(start.elapsed() >= MAX_LIFE, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn l6_a_head_that_is_not_whole_within_a_second_is_cut() {
    let header = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
    let cut = REQUEST.get(..REQUEST.len() - 1).unwrap();
    for trickled in [&b""[..], b"G", cut, b"\r\n", &header[..13], header, &[header, &b"G"[..]].concat()] {
        let (ours, mut theirs) = duplex(1_024);
        let start = Instant::now();
        let serving = tokio::spawn(serve_connection(ours, large));
        for byte in trickled {
            sleep(Duration::from_millis(20)).await;
            theirs.write_all(&[*byte]).await.unwrap();
        }
        serving.await.unwrap();
        assert_eq!(start.elapsed(), MAX_HEAD_TIME, "{trickled:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_quick_one_gets_all_of_it_and_the_connection_ends() {
    let (ours, mut theirs) = duplex(1_024);
    tokio::spawn(serve_connection(ours, large));
    theirs.write_all(&[REQUEST, REQUEST].concat()).await.unwrap();
    let mut answer = Vec::new();
    theirs.read_to_end(&mut answer).await.unwrap();
    assert!(answer.len() > 100_000 && answer.len() < 101_000, "{}", answer.len());
}

/// The answer to `bytes`, which come one by one or all at once.
async fn answered(bytes: &[u8], one_by_one: bool) -> String {
    let (ours, mut theirs) = duplex(200_000);
    let serving = tokio::spawn(serve_connection(ours, |_| say(StatusCode::OK, TEXT, "here")));
    for piece in bytes.chunks(if one_by_one { 1 } else { bytes.len() }) {
        let _ = theirs.write_all(piece).await; // cut off before all of it is read
        yield_now().await;
    }
    theirs.shutdown().await.unwrap();
    let mut answer = Vec::new();
    theirs.read_to_end(&mut answer).await.unwrap();
    serving.await.unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_proxy_header_may_stand_before_the_request() {
    let header = |command: u8, family: u8, block: &[u8]| {
        let length = u16::try_from(block.len()).unwrap().to_be_bytes();
        [b"\r\n\r\n\0\r\nQUIT\n", &[command, family][..], &length, block].concat()
    };
    for good in [
        Vec::new(),
        header(0x20, 0, b""),
        header(0x20, 0x11, &[0; 12]),
        header(0x21, 0x11, &[7; 12]),
        header(0x21, 0x21, &[7; 36]),
        header(0x21, 0x31, &[7; 216]),
        header(0x21, 0x11, &[7; 520]), // with extensions, the longest
    ] {
        for one_by_one in [false, true] {
            let answer = answered(&[&good, REQUEST].concat(), one_by_one).await;
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{good:?}: {answer}");
        }
    }
    for bad in [
        header(0x22, 0x11, &[7; 12]),
        header(0x11, 0x11, &[7; 12]),
        header(0x21, 0x11, &[7; 521]),
        [header(0x20, 0, b""), header(0x20, 0, b"")].concat(),
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n".to_vec(),
    ] {
        let answer = answered(&[&bad, REQUEST].concat(), false).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{bad:?}: {answer}");
    }
    // Input that only begins like a header is a request (RFC 9112, section 2.2: empty lines are ignored).
    let answer = answered(&[b"\r\n", REQUEST].concat(), true).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
}
