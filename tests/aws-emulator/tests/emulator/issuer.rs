//! The issuer's pages, keys and faults.

use aws_emulator::{
    AnswerHold, Cloud, CloudOptions, HttpFault, Issuer, IssuerOptions, IssuerPage, KeyChoice,
};
use serde_json::{Value, json};

use crate::support::{assume, get, http, post};

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn with_clients() -> Issuer {
    let clients = [("alice".to_owned(), "s3cret".to_owned())].into();
    Issuer::start(IssuerOptions { clients, mint_endpoint: true, ..IssuerOptions::default() }).unwrap()
}

fn cloud() -> Cloud {
    Cloud::start(CloudOptions::default()).unwrap()
}

#[test]
fn discovery_leads_to_the_keys() {
    for prefix in ["", "/oauth2/default", "/"] {
        let options = IssuerOptions { path_prefix: prefix.to_owned(), ..IssuerOptions::default() };
        let issuer = Issuer::start(options).unwrap();
        assert!(issuer.url().ends_with(prefix), "{}", issuer.url());
        let document =
            get(&format!("{}/.well-known/openid-configuration", issuer.url().trim_end_matches('/')));
        let document = json_of(&document.body);
        assert_eq!(document["issuer"], issuer.url());
        let keys = get(document["jwks_uri"].as_str().unwrap());
        assert!(keys.head.contains("content-type: application/json"));
        assert_eq!(json_of(&keys.body), issuer.jwks());
        let kinds: Vec<_> =
            issuer.jwks()["keys"].as_array().unwrap().iter().map(|key| key["alg"].clone()).collect();
        assert_eq!(kinds, ["RS256", "ES256"]);
        assert_eq!((issuer.count(IssuerPage::Discovery), issuer.count(IssuerPage::Jwks)), (1, 1));
    }
}

#[test]
fn the_token_endpoint_knows_its_clients() {
    let issuer = with_clients();
    let url = issuer.page_url(IssuerPage::Token);
    let fields = [("grant_type", "client_credentials"), ("client_id", "alice"), ("client_secret", "s3cret")];
    let reply = post(&url, &fields);
    assert_eq!(reply.status, 200, "{}", reply.body);
    assert_eq!(json_of(&reply.body)["token_type"], "Bearer");
    let wrong = [fields[0], fields[1], ("client_secret", "x")];
    assert_eq!(post(&url, &wrong).status, 401);
    assert_eq!(post(&url, &[fields[0], ("client_id", "bob"), fields[2]]).status, 401);
    assert_eq!(post(&url, &fields[1..]).status, 400);
    assert_eq!(get(&url).status, 405);
}

#[test]
fn anyone_can_mint_only_where_that_was_asked_for() {
    let body = json!({ "claims": { "sub": "eve", "email": null }, "alg": "ES256" }).to_string();
    let head = "POST /mint HTTP/1.1";
    let issuer = with_clients();
    let reply = http(issuer.addr(), head, &body).unwrap();
    assert_eq!(reply.body.split('.').count(), 3, "{}", reply.body);
    let careful = Issuer::start(IssuerOptions::default()).unwrap();
    assert_eq!(http(careful.addr(), head, &body).unwrap().status, 404);
}

#[test]
fn tokens_reach_a_wanted_size() {
    let issuer = Issuer::start(IssuerOptions::default()).unwrap();
    for length in [1000, 1001, 1002, 1003, 4095, 16_000] {
        let token = issuer.mint_sized(issuer.default_claims("alice"), length);
        assert!((length..length + 3).contains(&token.len()), "{} for {length}", token.len());
    }
}

#[test]
fn rotation_drops_or_keeps_the_old_keys() {
    let cloud = cloud();
    let old = cloud.issuer.token("alice");
    let old_kid = cloud.issuer.kid(&KeyChoice::Rs256);
    cloud.issuer.rotate(true).unwrap();
    assert_eq!(cloud.issuer.jwks()["keys"].as_array().unwrap().len(), 4);
    assert_eq!(assume(&cloud, &old, &[]).status, 200);
    assert_eq!(assume(&cloud, &cloud.issuer.token("alice"), &[]).status, 200);
    cloud.issuer.rotate(false).unwrap();
    assert!(!cloud.issuer.jwks().to_string().contains(&old_kid));
    cloud.sts.forget_keys();
    assert_eq!(assume(&cloud, &old, &[]).error(), (400, "InvalidIdentityToken"));
    assert_eq!(assume(&cloud, &cloud.issuer.token("alice"), &[]).status, 200);
}

#[test]
fn faults_are_shown_and_taken_away() {
    let issuer = Issuer::start(IssuerOptions::default()).unwrap();
    let ask = || http(issuer.addr(), "GET /jwks HTTP/1.1", "");
    issuer.fail_times(IssuerPage::Jwks, 1, HttpFault::Close);
    assert!(ask().is_none());
    issuer.fail_times(IssuerPage::Jwks, 1, HttpFault::status(500));
    assert_eq!(ask().unwrap().status, 500);
    issuer.fail_times(IssuerPage::Jwks, 1, HttpFault::html(200));
    assert!(ask().unwrap().head.contains("text/html"));
    issuer.fail_times(IssuerPage::Jwks, 1, HttpFault::oversize(3_000_000));
    assert!(ask().unwrap().body.len() > 3_000_000);
    issuer.fail_times(IssuerPage::Jwks, 1, HttpFault::Redirect("http://127.0.0.1:1/".to_owned()));
    let redirect = ask().unwrap();
    assert!(redirect.status == 302 && redirect.head.contains("location: http://127.0.0.1:1/"));
    issuer.fail(IssuerPage::Jwks, HttpFault::json("{\"keys\":[]}"));
    assert_eq!(ask().unwrap().body, "{\"keys\":[]}");
    issuer.heal();
    assert_eq!(json_of(&ask().unwrap().body), issuer.jwks());
    issuer.go_down();
    assert!(ask().is_none());
    issuer.set_cache_control(Some("max-age=7"));
    issuer.heal();
    assert!(ask().unwrap().head.contains("cache-control: max-age=7"));
}

#[tokio::test]
async fn a_held_answer_comes_when_the_test_lets_it() {
    let issuer = Issuer::start(IssuerOptions::default()).unwrap();
    let hold = AnswerHold::new();
    issuer.fail(IssuerPage::Jwks, HttpFault::Hold(hold.clone()));
    let addr = issuer.addr();
    let waiting = tokio::task::spawn_blocking(move || http(addr, "GET /jwks HTTP/1.1", ""));
    hold.arrived(1).await;
    issuer.reaches(IssuerPage::Jwks, 1).await;
    assert!(!waiting.is_finished());
    hold.release();
    assert_eq!(waiting.await.unwrap().unwrap().status, 200);
}

#[test]
fn a_dropped_issuer_is_gone() {
    let issuer = Issuer::start(IssuerOptions::default()).unwrap();
    let hold = AnswerHold::new();
    issuer.fail(IssuerPage::Jwks, HttpFault::Hold(hold));
    let addr = issuer.addr();
    let mut open = std::net::TcpStream::connect(addr).unwrap();
    std::io::Write::write_all(&mut open, b"GET /jwks HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    drop(issuer);
    // The open connection ends, and with it the wait for an answer.
    let mut answer = Vec::new();
    std::io::Read::read_to_end(&mut open, &mut answer).unwrap_or_default();
    assert!(answer.is_empty());
}
