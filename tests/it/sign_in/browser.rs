//! Both sign-ins in a real browser: `pgpassport login`, and the sign-in page of the proxy.

use std::path::PathBuf;

use serde_json::json;

use super::page::{url, with_mysql_page, with_page};
use super::session::person_in_browser;
use crate::mysql;
use crate::world::World;
use crate::world::web_driver::Browser;

/// Folder for screenshots: `PICTURES=folder`.
fn pictures() -> Option<PathBuf> {
    std::env::var_os("PICTURES").map(PathBuf::from)
}

/// True if an element is as wide as it should be: nothing is cut off at the right.
const FITS: &str = "document.documentElement.scrollWidth <= document.documentElement.clientWidth";

async fn look(browser: &Browser, name: &str) {
    for (kind, width, scheme) in [("light", 1_000, "light"), ("dark", 1_000, "dark"), ("phone", 360, "light")]
    {
        browser.look(width, scheme).await;
        assert_eq!(browser.value(FITS).await, json!(true), "{name} {kind} is too wide");
        if let Some(folder) = pictures() {
            browser.picture(&folder, &format!("{name}-{kind}")).await;
        }
    }
    browser.look(1_000, "light").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn chromium_signs_a_person_in_at_the_page_and_for_the_command() {
    let world = with_page(World::builder(), "").await;
    let browser = Browser::start().await;
    browser.open(&format!("{}/", url(&world))).await;
    look(&browser, "welcome").await;
    browser.click("a.button").await;
    browser.shows("h1", "Stand-in issuer").await;
    browser.click("#go").await;
    browser.shows("h1", "You are signed in").await;
    let place = browser.url().await;
    assert!(place.starts_with(&format!("{}/callback?", url(&world))), "{place}");
    look(&browser, "signed-in").await;

    let token = browser.value("document.getElementById('token').value").await.as_str().unwrap().to_owned();
    world.plant(token.clone());
    assert!(!browser.text("main").await.contains(&token), "it is shown without a question");
    drop(world.connect("alice", &token).await.unwrap());
    assert!(browser.text("#left").await.contains("min "), "the script does not run");
    assert_eq!(browser.label("#copy").await, "Copy the token");
    let origin =
        json!({ "permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"], "origin": url(&world) });
    browser.devtools("Browser.grantPermissions", origin).await;
    browser.click("#copy").await;
    browser.shows("#said", "Copied").await;
    let read = "navigator.clipboard.readText()";
    assert_eq!(browser.value(read).await, json!(token));
    let storage = "[document.cookie, localStorage.length, sessionStorage.length, document.querySelectorAll('[src]').length]";
    assert_eq!(browser.value(storage).await, json!(["", 0, 0, 0]));

    // Without scripts, all but the button is there.
    browser.devtools("Emulation.setScriptExecutionDisabled", json!({ "value": true })).await;
    browser.open(&format!("{}/start", url(&world))).await;
    browser.click("#go").await;
    browser.shows("#left", "Good for ").await;
    browser.click("section.card summary").await;
    assert_eq!(browser.label("#token").await, "Token");
    assert!(browser.text("main").await.contains("database user alice"));
    // Its redirect is spent.
    browser.open(&browser.url().await).await;
    browser.shows("h1", "Not signed in").await;
    look(&browser, "not-signed-in").await;
    browser.devtools("Emulation.setScriptExecutionDisabled", json!({ "value": false })).await;

    let (person, login, page) = person_in_browser(&world).await;
    browser.open(&page).await;
    browser.click("#go").await;
    browser.shows("h1", "Sign-in received").await;
    look(&browser, "command").await;
    let ended = login.end().await;
    assert!(ended.code == Some(0) && ended.stderr.contains("alice"), "{}", ended.stderr);
    world.plant(person.run(&["token"]).await.stdout);

    let kept = browser.quit().await;
    assert!(kept.len() > 10_000, "the profile of the browser is empty");
    for part in token.split('.').skip(1) {
        let found = kept.windows(part.len()).any(|bytes| bytes == part.as_bytes());
        assert!(!found, "the browser keeps the token on disk");
    }
}

/// The lines for tools of MySQL, which are longer than psql's.
#[tokio::test(flavor = "multi_thread")]
async fn chromium_shows_the_settings_for_mysql() {
    let databases = mysql::databases().await;
    let Some(database) = databases.first() else { return };
    let world = with_mysql_page(database).await;
    let browser = Browser::start().await;
    browser.open(&format!("{}/start", url(&world))).await;
    browser.click("#go").await;
    browser.shows("h1", "You are signed in").await;
    browser.shows("section:not(.card) h2", "Database app (MySQL)").await;
    browser.devtools("Runtime.evaluate", json!({
        "expression": "document.querySelectorAll('section:not(.card) details').forEach(tool => tool.open = true)"
    })).await;
    look(&browser, "signed-in-mysql").await;
    let text = browser.text("main").await;
    let host = format!("--host=localhost --port={} --user=alice --database=app", world.port);
    for line in [
        &host,
        "mysql --no-defaults --enable-cleartext-plugin",
        "pymysql.connect(",
        "jdbc:mariadb://localhost:",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let token = browser.value("document.getElementById('token').value").await.as_str().unwrap().to_owned();
    world.plant(token);
    browser.quit().await;
}
