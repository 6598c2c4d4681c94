//! Both ways to sign in, and what ends a sign-in.

use aws_emulator::{HttpFault, IssuerPage};

use super::{LoginInProgress, Person, asked, browse, ended, issuer, redirect_of, script};
use crate::world::admin::until;

#[tokio::test]
async fn a_person_signs_in_with_a_browser_and_is_told_how_to_connect() {
    let issuer = issuer();
    let person = Person::at(&issuer, "databases = [\"orders\"]");
    let browser = script(&person, "browser", "echo \"$@\" > \"$HOME/opened\"");
    let mut command = person.command(&["login"]);
    command.env("BROWSER", &browser);
    let mut login = LoginInProgress::start(command);
    let page = login.line_with("http").await;
    let redirect = redirect_of(&page, "alice").await;
    assert!(redirect.starts_with("http://127.0.0.1:"), "{redirect}");
    browse("GET", &redirect, None, "").await;
    let ended = login.end().await;
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), ""), "{}", ended.stderr);
    assert!(ended.stderr.contains("Signed in as alice@example.com (profile test)."), "{}", ended.stderr);
    assert!(ended.stderr.contains("Connect: pgpassport psql orders"), "{}", ended.stderr);
    let opened = || std::fs::read_to_string(person.path("opened")).unwrap_or_default();
    until("a browser opens the page", async || opened().trim_end() == page).await;
    for part in ["code_challenge_method=S256", "&state=", "&nonce=", "response_type=code"] {
        assert!(page.contains(part), "{page}");
    }
    // The listener is gone.
    let authority = redirect.strip_prefix("http://").unwrap().split('/').next().unwrap();
    assert!(tokio::net::TcpStream::connect(authority).await.is_err(), "it still listens");
}

#[tokio::test]
async fn a_redirect_that_is_changed_in_any_part_ends_the_sign_in_without_tokens() {
    let issuer = issuer();
    let person = Person::at(&issuer, "");
    for (change, told) in [
        ("state", "state is another one"),
        ("iss", "iss is another issuer"),
        ("no iss", "it has no iss"),
        ("path", "path is another one"),
        ("host", "Host is another one"),
        ("method", "method is not GET"),
        ("twice", "a parameter is there twice"),
    ] {
        let (login, page) = person.begin_login().await;
        let good = redirect_of(&page, "alice").await;
        let (before_iss, _) = good.split_once("&iss=").unwrap();
        let (method, host) =
            (if change == "method" { "POST" } else { "GET" }, (change == "host").then_some("evil.example"));
        let url = match change {
            "state" => good.replace("&state=", "&state=x"),
            "iss" => format!("{before_iss}&iss=https%3A%2F%2Fevil.example"),
            "no iss" => before_iss.to_owned(),
            "path" => good.replace("/callback", "/callback/x"),
            "twice" => format!("{good}&code=x"),
            _ => good.clone(),
        };
        let answer = browse(method, &url, host, "").await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{change}: {answer}");
        let ended = login.end().await;
        assert_eq!(ended.code, Some(1), "{change}: {}", ended.stderr);
        assert!(
            ended.stderr.contains(told) && ended.stderr.contains("pgpassport login"),
            "{change}: {}",
            ended.stderr
        );
    }
    assert_eq!(asked(&issuer), 0, "a code was exchanged");
    assert!(!person.record().exists());
}

#[tokio::test]
async fn the_page_asks_for_what_the_profile_prompts() {
    let issuer = issuer();
    for (more, sent) in [("", None), ("prompt = \"login consent\"", Some("&prompt=login+consent"))] {
        let (mut login, page) = Person::at(&issuer, more).begin_login().await;
        assert_eq!(page.find("&prompt=").map(|at| &page[at..]), sent);
        login.kill();
    }
}

#[tokio::test]
async fn a_refusal_of_the_issuer_is_told() {
    let issuer = issuer();
    let person = Person::at(&issuer, "");
    let (login, page) = person.begin_login().await;
    browse("GET", &redirect_of(&page, "").await, None, "").await;
    let ended = login.end().await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("access_denied: not assigned"), "{}", ended.stderr);
    assert!(ended.stderr.contains("administrators of the issuer"), "{}", ended.stderr);
}

#[tokio::test]
async fn an_answer_for_another_sign_in_or_client_is_not_taken() {
    let issuer = issuer();
    let person = Person::at(&issuer, "");
    let access = issuer.token("alice");
    let id = || issuer.default_claims("alice").set("aud", "pgpassport");
    for (id_token, told) in [
        (Some(id().set("nonce", "of another sign-in")), "nonce"),
        (Some(id()), "nonce"),
        (Some(id().set("aud", "another-client")), "another client"),
        (Some(id().set("azp", "another-client")), "another client"),
        (Some(id().set("iss", "https://evil.example")), "another issuer"),
        (None, "no ID token"),
    ] {
        let (login, page) = person.begin_login().await;
        let id_token = id_token.map(|claims| issuer.mint(claims));
        let answer = serde_json::json!({ "access_token": access, "id_token": id_token, "expires_in": 900 });
        issuer.fail_times(IssuerPage::Token, 1, HttpFault::json(answer.to_string()));
        browse("GET", &redirect_of(&page, "alice").await, None, "").await;
        let ended = login.end().await;
        assert_eq!(ended.code, Some(1), "{told}");
        assert!(ended.stderr.contains(told), "{told}: {}", ended.stderr);
        assert!(!person.record().exists(), "{told}");
    }
}

#[tokio::test]
async fn an_issuer_that_is_another_one_or_has_no_pkce_is_not_used() {
    let issuer = issuer();
    let person = Person::at(&issuer, "");
    let document = |name: &str, methods: &str, token: &str| {
        format!(
            "{{\"issuer\":\"{name}\",\"authorization_endpoint\":\"{0}/authorize\",\"token_endpoint\":\"{token}\",\
             \"code_challenge_methods_supported\":[\"{methods}\"]}}",
            issuer.url()
        )
    };
    let token = format!("{}/token", issuer.url());
    for (document, told) in [
        (document("https://evil.example", "S256", &token), "is that of https://evil.example"),
        (document(&issuer.url(), "plain", &token), "no PKCE with S256"),
        (document(&issuer.url(), "S256", "file:///etc/passwd"), "it is not https"),
        (document(&issuer.url(), "S256", "https://u:p@x/"), "a user, a password"),
    ] {
        issuer.fail_times(IssuerPage::Discovery, 1, HttpFault::json(document));
        let ended = person.run(&["login", "--no-browser"]).await;
        assert_eq!(ended.code, Some(1), "{told}");
        assert!(ended.stderr.contains(told), "{told}: {}", ended.stderr);
    }
}

#[tokio::test]
async fn a_person_signs_in_with_a_device_code() {
    let issuer = issuer();
    let person = Person::at(&issuer, "");
    for (user, code) in [("bob", Some(0)), ("", Some(1))] {
        let mut login = LoginInProgress::start(person.command(&["login", "--device"]));
        let line = login.line_with("type the code").await;
        let words: Vec<_> = line.split(' ').collect();
        let (page, user_code) = (words[1], words.last().unwrap());
        assert_eq!(page, format!("{}/device", issuer.url()));
        let about = login.line_with("scopes").await;
        assert!(about.contains("openid offline_access") && about.contains("localhost:1"), "{about}");
        assert!(about.contains(&issuer.url()), "{about}");
        browse("POST", page, None, &format!("user_code={user_code}&user={user}")).await;
        let ended = login.end().await;
        assert_eq!(ended.code, code, "{}", ended.stderr);
        let told = if user.is_empty() { "access_denied" } else { "Signed in as bob@example.com" };
        assert!(ended.stderr.contains(told), "{}", ended.stderr);
    }
    assert!(person.run(&["whoami"]).await.stdout.contains("bob@example.com"), "the refusal signed bob out");
}

#[tokio::test]
async fn device_codes_can_be_turned_off() {
    let issuer = issuer();
    let person = Person::at(&issuer, "device = false");
    let ended = person.run(&["login", "--device"]).await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("turned off in this profile"), "{}", ended.stderr);
    assert_eq!(issuer.count(IssuerPage::DeviceCode), 0);
}

#[tokio::test]
async fn a_taken_port_leads_to_the_next_registered_address() {
    let issuer = issuer();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let redirects =
        format!("redirect = [\"http://localhost:{port}/callback\", \"http://localhost/callback\"]");
    let person = Person::at(&issuer, &redirects);
    assert_eq!(person.login("alice").await.code, Some(0));
    let only = Person::at(&issuer, &format!("redirect = \"http://localhost:{port}/callback\""));
    let ended = ended(only.command(&["login", "--no-browser"])).await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains(&format!("port {port}")), "{}", ended.stderr);
}
