//! `[sign_in]`: the page where people sign in with a browser and get settings and a token; here without a browser.

use std::sync::Arc;

use aws_emulator::{CloudMysql, MysqlEngine};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::mysql::path_of;
use super::{redirect_of, script};
use crate::mysql;
use crate::world::raw::trusting;
use crate::world::{World, WorldBuilder};

const PAGE: &str = "[sign_in]\naddr = \"127.0.0.1:0\"\ntls_cert_file = \"@cert@\"\ntls_key_file = \"@key@\"\n\
                    url = \"https://localhost\"\nclient_id = \"sign-in-page\"\n\
                    client_secret_file = \"@folder@/client.secret\"\ndatabases = [\"app\"]\n\
                    ca_file = \"@folder@/ca.pem\"\n";

#[test]
fn no_part_of_a_session_knows_the_pages() {
    for (file, code) in crate::architecture::sources() {
        let builds = ["commands/", "lib.rs", "sign_in/"].iter().any(|part| file.starts_with(part));
        assert!(builds || !code.contains("crate::sign_in"), "src/{file} uses the pages");
    }
}

/// Has characters that a header has to encode.
const SECRET: &str = "p/s+s:word";

/// A world with a sign-in page, which its issuer knows, for a listener of PostgreSQL.
pub(super) async fn with_page(builder: WorldBuilder, more: &str) -> World {
    with_page_for(builder, &format!("proxy = \"localhost:1\"\n{more}")).await
}

/// The same for a world whose listener is one of MySQL.
pub(super) async fn with_mysql_page(database: &CloudMysql) -> World {
    with_page_for(mysql::builder(database), "mysql_proxy = \"localhost:1\"\n").await
}

async fn with_page_for(builder: WorldBuilder, keys: &str) -> World {
    let builder = builder.pages(&format!("{PAGE}{keys}")).service_with(|service| {
        let page = service.config.sign_in.as_mut().unwrap();
        let port = service.pages.sign_in.as_ref().unwrap().local_addr().unwrap().port();
        page.url = format!("https://localhost:{port}");
        let port = service.sockets[0].addr().unwrap().tcp().unwrap().port();
        page.proxies[0].proxy = pgpassport::names::Endpoint::parse(&format!("localhost:{port}")).unwrap();
        std::fs::write(page.client_secret_file.as_ref().unwrap(), format!("{SECRET}\n")).unwrap();
    });
    let world = builder.start().await;
    world.cloud.issuer.register_web_client("sign-in-page", &format!("{}/callback", url(&world)), SECRET);
    world
}

pub(super) fn url(world: &World) -> String {
    format!("https://localhost:{}", world.sign_in_port.unwrap())
}

/// A GET request, as a browser with `cookie` sends it.
async fn get(world: &World, path: &str, cookie: &str) -> String {
    let tls = TlsConnector::from(Arc::new(trusting(world.listener_ca())));
    let tcp = TcpStream::connect(("127.0.0.1", world.sign_in_port.unwrap())).await.unwrap();
    let mut tls = tls.connect(ServerName::try_from("localhost").unwrap(), tcp).await.unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nCookie: a=b; {cookie}; c=d\r\n\r\n");
    tls.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = tls.read_to_end(&mut answer).await; // an answer may end with a reset
    String::from_utf8(answer).unwrap()
}

fn header<'a>(answer: &'a str, name: &str) -> &'a str {
    let head = answer.split("\r\n\r\n").next().unwrap();
    let line = head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    line.unwrap_or_else(|| panic!("no {name} in {head}"))
}

/// The page of the issuer, and the cookie of the sign-in.
async fn start(world: &World) -> (String, String) {
    let answer = get(world, "/start", "").await;
    assert!(answer.starts_with("HTTP/1.1 303 "), "{answer}");
    let cookie = header(&answer, "set-cookie");
    for part in ["__Host-", "; Path=/", "; Secure", "; HttpOnly", "; SameSite=Lax", "; Max-Age=600"] {
        assert!(cookie.contains(part), "{part}: {cookie}");
    }
    (header(&answer, "location").to_owned(), cookie.split(';').next().unwrap().to_owned())
}

/// The path and query of the redirect after `user` has signed in.
async fn callback(world: &World, page: &str, user: &str) -> String {
    let redirect = redirect_of(page, user).await;
    redirect.strip_prefix(&url(world)).unwrap_or_else(|| panic!("{redirect}")).to_owned()
}

async fn signed_in(world: &World, user: &str) -> String {
    let (page, cookie) = start(world).await;
    get(world, &callback(world, &page, user).await, &cookie).await
}

fn token(page: &str) -> String {
    let field = page.split("<textarea id=\"token\"").nth(1).unwrap_or_else(|| panic!("no token in {page}"));
    field.split('>').nth(1).unwrap().split('<').next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_signs_in_and_the_token_opens_the_database_that_the_page_names() {
    let world = with_page(World::builder(), "").await;
    let welcome = get(&world, "/", "").await;
    assert!(welcome.starts_with("HTTP/1.1 200 ") && welcome.contains("href=\"/start\""), "{welcome}");
    let page = signed_in(&world, "alice").await;
    assert!(page.starts_with("HTTP/1.1 200 "), "{page}");
    let token = world.plant(token(&page));
    for text in [
        "Signed in as <strong>alice</strong>",
        "<h2>Database app</h2>",
        "database user <strong>alice</strong>",
    ] {
        assert!(page.contains(text), "{text}: {page}");
    }
    let (head, body) = page.split_once("\r\n\r\n").unwrap();
    assert!(!head.contains(&token) && !head.contains("eyJ"), "{head}");
    assert!(header(&page, "set-cookie").contains("Max-Age=0"), "{head}");
    assert!(header(&page, "content-security-policy").starts_with("default-src 'none'; "), "{head}");
    assert_eq!(
        (header(&page, "cache-control"), header(&page, "referrer-policy")),
        ("no-store", "no-referrer")
    );
    assert_eq!(body.matches(&token).count(), 1, "the token stands in one field");
    // The line to paste, with the token where the clipboard would be.
    let line = body.split("wl-paste -n)&quot; psql &#39;").nth(1).unwrap().split("&#39;").next().unwrap();
    let line = line.replace("pgpassport-ca.pem", &world.folder().join("pasted.pem").display().to_string());
    let authorities = get(&world, "/pgpassport-ca.pem", "").await;
    std::fs::write(world.folder().join("pasted.pem"), authorities.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    let output = tokio::process::Command::new("psql")
        .args([&line, "-XAtc", "select current_user, current_database()"])
        .env("PGPASSWORD", &token)
        .output()
        .await
        .unwrap();
    world.hear(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "alice|app\n", "{line} {output:?}");
}

/// The line for the shell, as a person pastes it, with a clipboard that holds the token.
#[tokio::test(flavor = "multi_thread")]
async fn the_line_for_mysql_opens_the_database_that_the_page_names() {
    for database in mysql::databases().await {
        let world = with_mysql_page(database).await;
        let page = signed_in(&world, "alice").await;
        let token = world.plant(token(&page));
        for text in
            ["<h2>Database app (MySQL)</h2>", "database user <strong>alice</strong>", "VERIFY_IDENTITY"]
        {
            assert!(page.contains(text), "{text}: {page}");
        }
        assert!(!page.contains("psql"), "{page}");
        let program = match database.server.engine() {
            MysqlEngine::Mysql => "mysql",
            MysqlEngine::MariaDb => "mariadb",
        };
        let before = format!("<pre>MYSQL_PWD=&quot;$(wl-paste -n)&quot; {program} --no-defaults ");
        let line = page.split(&before).nth(1).unwrap_or_else(|| panic!("no {program} in {page}"));
        let line = line.split("</pre>").next().unwrap().replace("&#39;", "'");
        let authorities = get(&world, "/pgpassport-ca.pem", "").await;
        let person = super::Person::with_profile("");
        std::fs::write(person.path("pgpassport-ca.pem"), authorities.split("\r\n\r\n").nth(1).unwrap())
            .unwrap();
        let paste = script(&person, "wl-paste", "printf %s \"$TOKEN\"");
        let sql = "select current_user(), database()";
        let line = format!("MYSQL_PWD=\"$(wl-paste -n)\" {program} --no-defaults {line} -BNe '{sql}'");
        let path = format!("{}:{}", paste.parent().unwrap().display(), path_of(database.server.engine()));
        let mut shell = tokio::process::Command::new("sh");
        shell.args(["-c", &line]).current_dir(person.path("")).env("PATH", path).env("TOKEN", &token);
        let output = shell.output().await.unwrap();
        world.hear(&output.stderr);
        assert_eq!(String::from_utf8_lossy(&output.stdout), "alice@%\tapp\n", "{line} {output:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_without_its_own_sign_in_brings_no_token() {
    let world = with_page(World::builder(), "").await;
    let (page, cookie) = start(&world).await;
    let (_, other) = start(&world).await;
    let good = callback(&world, &page, "alice").await;
    let name = cookie.split('=').next().unwrap();
    for (path, cookie) in [
        (&*good, ""),
        (&good, &*format!("{name}=x")),
        (&good, &other),
        (&good.replace("state=", "state=x"), &cookie),
        (&good.replace("iss=", "iss=x"), &cookie),
        (&good.replace("&iss=", "&x="), &cookie),
        (&good.replace("code=", "code=x&code="), &cookie),
        (&good.replace("code=", "code=x"), &cookie),
        ("/callback", &cookie),
    ] {
        let answer = get(&world, path, cookie).await;
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("Not signed in"), "{path}: {answer}");
        assert!(!answer.contains("<textarea"), "{path}: {answer}");
        assert!(header(&answer, "set-cookie").contains("Max-Age=0"), "{path}: {answer}");
    }
    // A refusal of the issuer is told, without its markup.
    let (page, cookie) = start(&world).await;
    let refused = get(&world, &callback(&world, &page, "").await, &cookie).await;
    assert!(refused.contains("access_denied: not assigned") && refused.contains("for access"), "{refused}");
    // A code is good once.
    let (page, cookie) = start(&world).await;
    let good = callback(&world, &page, "alice").await;
    let first = get(&world, &good, &cookie).await;
    world.plant(token(&first));
    let second = get(&world, &good, &cookie).await;
    assert!(second.starts_with("HTTP/1.1 400 ") && second.contains("invalid_grant"), "{second}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_policy_of_the_proxy_decides_who_sees_what() {
    let builder = World::builder().cluster("allow = { claim = \"sub\", any = [\"carol\", \"postgres\"] }");
    let world = with_page(builder, "[denied]\nsubjects = [\"carol\"]\n").await;
    for (user, text) in [
        ("mallory", "Ask the administrators of your databases for access."),
        ("postgres", "nobody may log in as"),
    ] {
        let page = signed_in(&world, user).await.replace("Nobody", "nobody");
        assert!(page.starts_with("HTTP/1.1 200 ") && page.contains(text), "{user}: {page}");
        assert!(!page.contains("<textarea") && !page.contains("Database app"), "{user}: {page}");
    }
    let withdrawn = signed_in(&world, "carol").await;
    assert!(withdrawn.starts_with("HTTP/1.1 400 ") && !withdrawn.contains("<textarea"), "{withdrawn}");
    assert!(withdrawn.contains("withdrawn"), "{withdrawn}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_id_token_of_the_page_itself_is_no_token_for_the_proxy() {
    let world = with_page(World::builder(), "token = \"id\"\n").await;
    let page = signed_in(&world, "alice").await;
    // Its audience is the page, and the proxy wants its own.
    assert!(page.starts_with("HTTP/1.1 400 ") && page.contains("audience"), "{page}");
    world.cloud.issuer.go_down();
    // An issuer that does not answer is the person's message, and the page stays.
    let (page, cookie) = start(&world).await;
    world.cloud.issuer.heal();
    let redirect = callback(&world, &page, "alice").await;
    world.cloud.issuer.go_down();
    let answer = get(&world, &redirect, &cookie).await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("Try again in a moment"), "{answer}");
    assert!(get(&world, "/", "").await.starts_with("HTTP/1.1 200 "));
}
