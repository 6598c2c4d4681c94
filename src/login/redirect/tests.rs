//! Redirects that fit, and those of which one part does not.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

const STATE: &str = "s-t-a-t-e";
const ISSUER: &str = "https://acme.com";

fn address(host: LoopbackHost, port: Option<u16>) -> RedirectAddress {
    RedirectAddress { host, port, path: "/callback".into() }
}

fn expected(iss_required: bool) -> ExpectedRedirect {
    ExpectedRedirect { state: STATE.into(), issuer: ISSUER.into(), iss_required }
}

/// The outcome of one request whose head is made of the redirect's host and port.
async fn outcome(iss_required: bool, head: impl Fn(&str) -> String) -> (Outcome, String) {
    let listener = RedirectListener::bind(&[address(LoopbackHost::V4, None)]).await.unwrap();
    let (addr, head) = (listener.addresses()[0], head(&listener.authority()));
    let sending = async {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    tokio::join!(listener.code(expected(iss_required)), sending)
}

fn get(target: &str) -> impl Fn(&str) -> String {
    move |host| format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

#[tokio::test]
async fn the_right_redirect_gives_its_code_and_a_page_without_scripts() {
    for (iss_required, target) in [
        (false, "/callback?code=c%2Fd&state=s-t-a-t-e"),
        (false, "/callback?session_state=x&state=s-t-a-t-e&code=c%2Fd&iss=https%3A%2F%2Facme.com"),
        (true, "/callback?code=c%2Fd&state=s-t-a-t-e&iss=https%3A%2F%2Facme.com"),
    ] {
        let (code, page) = outcome(iss_required, get(target)).await;
        assert_eq!(code.unwrap().expose(), "c/d");
        assert!(page.starts_with("HTTP/1.1 200") && page.contains("default-src 'none'"), "{page}");
        assert!(page.contains("no-store") && !page.contains("c/d") && !page.contains("c%2Fd"), "{page}");
    }
}

#[tokio::test]
async fn a_redirect_that_does_not_fit_in_every_part_ends_the_sign_in() {
    let good = "code=c&state=s-t-a-t-e&iss=https%3A%2F%2Facme.com";
    for (head, why) in [
        (get(&format!("/callback/?{good}"))("HOST"), "path"),
        (get(&format!("/Callback?{good}"))("HOST"), "path"),
        (get(&format!("/?{good}"))("HOST"), "path"),
        (get(&format!("http://evil.example/callback?{good}"))("HOST"), "path"),
        (get(&format!("/callback?{good}"))("evil.example"), "Host"),
        (get(&format!("/callback?{good}"))("localhost:1"), "Host"),
        (get(&format!("/callback?{good}"))("HOST\r\nHost: HOST"), "Host"),
        (format!("GET /callback?{good} HTTP/1.0\r\n\r\n"), "Host"),
        (get(&format!("/callback?{good}"))("HOST").replace("GET", "POST"), "method"),
        (get("/callback?code=c&state=wrong")("HOST"), "state"),
        (get("/callback?code=c")("HOST"), "state"),
        (get("/callback?code=c&state=s-t-a-t-e&state=s-t-a-t-e")("HOST"), "twice"),
        (get("/callback?code=c&code=d&state=s-t-a-t-e")("HOST"), "twice"),
        (get("/callback?code=c&state=s-t-a-t-e&iss=https%3A%2F%2Fevil.example")("HOST"), "iss"),
        (get("/callback?code=c&state=s-t-a-t-e")("HOST"), "no iss"),
        (get("/callback?state=s-t-a-t-e&iss=https%3A%2F%2Facme.com")("HOST"), "no code"),
        (get("/callback?code=&state=s-t-a-t-e&iss=https%3A%2F%2Facme.com")("HOST"), "no code"),
    ] {
        let (code, page) = outcome(true, |host| head.replace("HOST", host)).await;
        let Err(SignInError::Redirect(told)) = code else { panic!("{head}: {code:?}") };
        assert!(told.contains(why), "{head}: {told}");
        assert!(page.lines().next().unwrap().contains(" 400 "), "{head}: {page}");
    }
}

#[tokio::test]
async fn a_refusal_of_the_issuer_is_told_if_it_is_the_answer() {
    let refusal = "error=access_denied&error_description=not%0Aassigned";
    let (told, _) = outcome(false, get(&format!("/callback?{refusal}&state=s-t-a-t-e"))).await;
    let Err(SignInError::Refused(error)) = told else { panic!("{told:?}") };
    assert_eq!(error.to_string(), "access_denied: not\\nassigned");
    let (told, _) = outcome(false, get(&format!("/callback?{refusal}"))).await;
    assert!(matches!(told, Err(SignInError::Redirect(_))), "{told:?}");
}

#[tokio::test]
async fn a_taken_port_is_passed_over_and_localhost_is_both_addresses() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = taken.local_addr().unwrap().port();
    let addresses = [address(LoopbackHost::Localhost, Some(port)), address(LoopbackHost::Localhost, None)];
    let listener = RedirectListener::bind(&addresses).await.unwrap();
    assert!(listener.addresses().iter().all(|addr| addr.ip().is_loopback() && addr.port() == listener.port));
    assert!(listener.uri().starts_with("http://localhost:") && listener.port != port);
    let only = RedirectListener::bind(&addresses[..1]).await;
    assert!(matches!(only, Err(SignInError::NoPort(_))), "{only:?}");
}

#[tokio::test(start_paused = true)]
async fn the_wait_ends_after_three_minutes_and_silent_connections_do_not_end_it() {
    let listener = RedirectListener::bind(&[address(LoopbackHost::V4, None)]).await.unwrap();
    let addr = listener.addresses()[0];
    let begun = tokio::time::Instant::now();
    let _silent = [TcpStream::connect(addr).await.unwrap(), TcpStream::connect(addr).await.unwrap()];
    let ended = listener.code(expected(false)).await;
    assert!(matches!(ended, Err(SignInError::TimedOut(_))), "{ended:?}");
    assert!(begun.elapsed() >= MAX_WAIT);
}
