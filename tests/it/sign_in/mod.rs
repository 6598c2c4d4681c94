//! People who sign in: the binary in a home folder of its own, the stand-in issuer, and a browser that is a few requests.

mod browser;
mod cache;
mod crashes;
mod flows;
mod mysql;
mod oidc_provider;
mod output;
mod page;
mod page_listener;
mod profiles_page;
mod published;
mod refresh;
pub(super) mod session;

use std::path::{Path, PathBuf};
use std::process::Stdio;

use aws_emulator::{Issuer, IssuerOptions, IssuerPage, percent_encode};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStderr, Command};

/// A person with a home folder and one profile.
pub(super) struct Person {
    home: TempDir,
}

/// Result of a command.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) code: Option<i32>,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

/// A `pgpassport login` that waits for its person.
pub(super) struct LoginInProgress {
    child: Child,
    lines: BufReader<ChildStderr>,
    said: String,
}

pub(super) fn issuer() -> Issuer {
    Issuer::start(IssuerOptions::default()).unwrap()
}

/// A profile at `issuer`; `more` are lines of it.
fn profile(issuer: &Issuer, proxy: &str, more: &str) -> String {
    format!(
        "[[profile]]\nname = \"test\"\nissuer = \"{}\"\nprivate_network = true\nclient_id = \"pgpassport\"\n\
         proxy = \"{proxy}\"\n{more}\n",
        issuer.url()
    )
}

impl Person {
    /// With a profile for `issuer` and a proxy that is not there.
    pub(super) fn at(issuer: &Issuer, more: &str) -> Self {
        Self::with_profile(&profile(issuer, "localhost:1", more))
    }

    pub(super) fn with_profile(client_toml: &str) -> Self {
        let person = Self { home: TempDir::new().unwrap() };
        let folder = person.path(".config/pgpassport");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("client.toml"), client_toml).unwrap();
        person
    }

    pub(super) fn path(&self, below_home: &str) -> PathBuf {
        self.home.path().join(below_home)
    }

    /// The file with the cached tokens.
    pub(super) fn record(&self) -> PathBuf {
        self.path(".cache/pgpassport/test.json")
    }

    pub(super) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pgpassport"));
        command.args(args).env("HOME", self.home.path()).stdin(Stdio::null()).kill_on_drop(true);
        for name in ["XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR", "PGPASSPORT_PROFILE", "BROWSER"]
        {
            command.env_remove(name);
        }
        for name in ["https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY", "DISPLAY", "WAYLAND_DISPLAY"] {
            command.env_remove(name);
        }
        command
    }

    /// Runs a command to its end.
    pub(super) async fn run(&self, args: &[&str]) -> Ended {
        ended(self.command(args)).await
    }

    /// Begins a sign-in without a browser, up to the page that it prints.
    pub(super) async fn begin_login(&self) -> (LoginInProgress, String) {
        let mut login = LoginInProgress::start(self.command(&["login", "--no-browser"]));
        let page = login.line_with("http").await;
        (login, page)
    }

    /// Signs `user` in.
    pub(super) async fn login(&self, user: &str) -> Ended {
        let (login, page) = self.begin_login().await;
        let redirect = redirect_of(&page, user).await;
        let answer = browse("GET", &redirect, None, "").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let ended = login.end().await;
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        ended
    }
}

impl LoginInProgress {
    pub(super) fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap());
        Self { child, lines, said: String::new() }
    }

    /// The next line that has `text`.
    pub(super) async fn line_with(&mut self, text: &str) -> String {
        loop {
            let mut line = String::new();
            assert!(
                self.lines.read_line(&mut line).await.unwrap() > 0,
                "no line with {text} in {}",
                self.said
            );
            self.said += &line;
            if line.contains(text) {
                return line.trim_end().to_owned();
            }
        }
    }

    pub(super) fn kill(&mut self) {
        self.child.start_kill().unwrap();
    }

    pub(super) async fn end(mut self) -> Ended {
        self.lines.read_to_string(&mut self.said).await.unwrap();
        let output = self.child.wait_with_output().await.unwrap();
        let stdout = String::from_utf8(output.stdout).unwrap();
        Ended { code: output.status.code(), stdout, stderr: self.said }
    }
}

pub(super) async fn ended(mut command: Command) -> Ended {
    let output = command.output().await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// The redirect that a browser gets when `user` signs in at `page`; nobody is a refusal.
pub(super) async fn redirect_of(page: &str, user: &str) -> String {
    let answer = browse("POST", page, None, &format!("user={}", percent_encode(user))).await;
    let place = answer.lines().find_map(|line| line.strip_prefix("location: "));
    place.unwrap_or_else(|| panic!("no redirect: {answer}")).trim_end().to_owned()
}

/// A request as a browser sends it; `host` replaces the header of that name.
pub(super) async fn browse(method: &str, url: &str, host: Option<&str>, form: &str) -> String {
    let (authority, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut stream = TcpStream::connect(authority).await.unwrap();
    let head = format!(
        "{method} /{path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\n\r\n{form}",
        host.unwrap_or(authority),
        form.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// Every file below a folder, with its content.
pub(super) fn files(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
                found.push((path, text));
            }
        }
    }
    found
}

/// A program of a test, in the folder `bin` of a person's home.
pub(super) fn script(person: &Person, name: &str, text: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let folder = person.path("bin");
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    path
}

/// Number of token requests by programs of people.
pub(super) fn asked(issuer: &Issuer) -> usize {
    issuer.count(IssuerPage::Token)
}
