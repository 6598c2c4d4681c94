//! `connect --interactive`: a tool that connects while nobody is signed in opens a browser, once.

use std::fs;

use tokio::process::Child;
use tokio::task::JoinSet;

use super::refresh::{connect, start};
use crate::sign_in::session::signed_out;
use crate::sign_in::{Person, browse, redirect_of, script};
use crate::world::World;
use crate::world::admin::until;

/// An agent that opens a browser, which notes the page. Its socket's folder.
async fn interactive(person: &Person) -> (Child, std::path::PathBuf) {
    let browser = script(person, "browser", "echo \"$1\" >> \"$HOME/opened\"");
    let mut command = person.command(&["connect", "--interactive"]);
    command.env("BROWSER", browser);
    start(person, command).await
}

/// The pages that the browser has opened.
fn opened(person: &Person) -> Vec<String> {
    let pages = fs::read_to_string(person.path("opened")).unwrap_or_default();
    // A line without its end is still being written.
    pages.split_inclusive('\n').filter_map(|page| page.strip_suffix('\n')).map(str::to_owned).collect()
}

async fn page(person: &Person, number: usize) -> String {
    until("a browser opens", async || opened(person).len() == number).await;
    opened(person).pop().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn many_waiting_tools_open_one_browser_and_connect_after_one_sign_in() {
    let world = World::start().await;
    for cache in ["file", "none"] {
        let person = signed_out(&world, &format!("cache = \"{cache}\""));
        let (_agent, folder) = interactive(&person).await;
        assert!(opened(&person).is_empty(), "nobody has connected yet");
        let mut tools = JoinSet::new();
        for _ in 0..8 {
            tools.spawn(connect(folder.clone()));
        }
        let page = page(&person, 1).await;
        browse("GET", &redirect_of(&page, "alice").await, None, "").await;
        let clients = tools.join_all().await.into_iter().collect::<Result<Vec<_>, _>>().unwrap();
        let user: String = clients[7].query_one("select current_user::text", &[]).await.unwrap().get(0);
        assert_eq!((&*user, clients.len(), opened(&person).len()), ("alice", 8, 1), "{cache}");
        connect(folder).await.unwrap();
        assert_eq!((opened(&person).len(), person.record().exists()), (1, cache == "file"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_in_that_fails_is_told_and_no_second_browser_opens() {
    let world = World::start().await;
    let person = signed_out(&world, "");
    let (_agent, folder) = interactive(&person).await;
    let waiting = tokio::spawn(connect(folder.clone()));
    let first = page(&person, 1).await;
    browse("GET", &redirect_of(&first, "").await, None, "").await;
    let (first, later) = (waiting.await.unwrap(), connect(folder.clone()).await);
    for (refused, browser) in [(first, true), (later, false)] {
        let error = refused.unwrap_err();
        let error = error.as_db_error().unwrap();
        let detail = error.detail().unwrap();
        assert!(detail.starts_with("No token: profile \"test\" is signed out"), "{detail}");
        assert_eq!(detail.contains("the sign-in in the browser has failed"), browser, "{detail}");
        assert_eq!(error.hint(), Some("Run `pgpassport login --profile test` in a terminal."));
    }
    assert_eq!(opened(&person).len(), 1, "a tool that tries again and again would open many");
    // A sign-in in a terminal serves as well, and the next end of it opens a browser again.
    person.login("alice").await;
    connect(folder.clone()).await.unwrap();
    assert_eq!(person.run(&["logout"]).await.code, Some(0));
    let tool = tokio::spawn(connect(folder));
    let second = page(&person, 2).await;
    browse("GET", &redirect_of(&second, "alice").await, None, "").await;
    tool.await.unwrap().unwrap();
}
