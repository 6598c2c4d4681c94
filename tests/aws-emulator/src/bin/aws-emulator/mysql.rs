//! The other port of the demo: alice and mallory with the command-line client of MySQL or MariaDB.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use aws_emulator::{CloudMysql, CredentialStore, EmulatorError, MysqlEngine, names};

use crate::demo::{DemoStage, fetch_token};
use crate::screen::DemoScreen;

/// The server of the other port.
pub(crate) struct DemoMysql {
    pub(crate) database: CloudMysql,
    pub(crate) ca: PathBuf,
}

impl DemoMysql {
    /// Starts the first engine that is installed. Without one, the demo says so and goes on.
    pub(crate) fn start(
        store: CredentialStore,
        dir: &Path,
        screen: &DemoScreen,
    ) -> Result<Option<Self>, EmulatorError> {
        let Some(engine) = MysqlEngine::ALL.into_iter().find(|engine| engine.is_installed()) else {
            screen.fact("MySQL", "not at hand, so that only PostgreSQL is shown (scripts/need-mysql)");
            return Ok(None);
        };
        let database = CloudMysql::start_with(store, engine, |_| {})?;
        let version = database.server.sql("select version()");
        let about = format!("{} (version {version}), IAM logins only, as on Aurora", database.server.addr());
        screen.fact(engine.name(), &about);
        let folder = dir.join("mysql");
        std::fs::create_dir(&folder)
            .map_err(|source| EmulatorError::Io { doing: "the demo".into(), source })?;
        Ok(Some(Self { ca: database.ca.write(&folder)?, database }))
    }
}

/// Logs alice in with a token of hers and shows mallory's refusal.
pub(crate) fn tell(stage: &DemoStage, screen: &DemoScreen) -> Result<(), String> {
    let Some((mysql, listener)) = of(stage) else { return Ok(()) };
    let server = &mysql.database.server;
    screen.heading(&format!("the same chain on the port of {}", server.engine().name()));
    let token = fetch_token(&stage.cloud.issuer, "alice")?;
    let rows =
        run(client(stage, mysql, listener).env("MYSQL_PWD", token).args(["-e", "select current_user()"]))?;
    let rows = rows.map_err(|message| format!("alice was refused: {message}"))?;
    let user = rows.trim_end();
    let decisions = mysql.database.gate.decisions();
    let decision =
        decisions.last().filter(|one| one.accepted()).ok_or("the login gate did not let anyone in")?;
    screen.fact("current_user()", user);
    screen.fact("IAM login token", &format!("{} characters, signed for that user", decision.password_length));
    if user != "alice@%" || decision.user != "alice" {
        return Err("alice is not logged in as alice".to_owned());
    }
    screen.good("the same person on both engines");
    let asked = mysql.database.gate.decisions().len();
    let token = fetch_token(&stage.cloud.issuer, "mallory")?;
    let outcome = run(client(stage, mysql, listener).env("MYSQL_PWD", token).args(["-e", "select 1"]))?;
    let Err(message) = outcome else { return Err("mallory was let in as alice".to_owned()) };
    for line in message.lines() {
        screen.line(&format!("  {line}"));
    }
    if !message.contains("ERROR 1045 (28000)") || mysql.database.gate.decisions().len() != asked {
        return Err("mallory got another error than a refusal by the proxy".to_owned());
    }
    screen.good("refused before the database was asked");
    Ok(())
}

/// A command line for the demo's folder: alice with the token in `alice.jwt`.
pub(crate) fn line(stage: &DemoStage) -> Option<String> {
    let (mysql, listener) = of(stage)?;
    let command = client(stage, mysql, listener);
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    let for_people = words.iter().filter(|word| !["--batch", "--skip-column-names"].contains(&word.as_ref()));
    let folder = format!("{}/", stage.dir.path().display());
    let line = for_people.map(AsRef::as_ref).collect::<Vec<&str>>().join(" ").replace(&folder, "");
    Some(format!("MYSQL_PWD=$(cat alice.jwt) {line}"))
}

/// The server and the proxy's second listener.
fn of(stage: &DemoStage) -> Option<(&DemoMysql, SocketAddr)> {
    stage.mysql.as_ref().zip(stage.proxy.addrs().get(1).copied())
}

/// The engine's client on its way to the proxy as alice.
fn client(stage: &DemoStage, mysql: &DemoMysql, listener: SocketAddr) -> Command {
    let mut client = mysql.database.server.client_to("localhost", listener.port(), &stage.ca, "alice");
    client.arg(names::DATABASE);
    client
}

/// Output of a client, or its error message.
fn run(client: &mut Command) -> Result<Result<String, String>, String> {
    let output = client.output().map_err(|error| format!("the client cannot be run: {error}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) })
}
