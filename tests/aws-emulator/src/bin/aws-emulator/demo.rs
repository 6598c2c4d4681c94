//! `aws-emulator demo`: the story a newcomer is told, each step really done and checked.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Instant;

use aws_emulator::files::TempDir;
use aws_emulator::proxy::{ProxyConfig, ProxyDatabase, ProxyUpstream};
use aws_emulator::{
    Cloud, CloudDatabase, CloudOptions, DatabaseOptions, Interrupt, Issuer, IssuerOptions, IssuerPage,
    ProxyProcess, http, names,
};

use crate::mysql::{self, DemoMysql};
use crate::next_steps::NextSteps;
use crate::screen::DemoScreen;
use crate::sign_in;

/// Options of the demo.
#[derive(clap::Args)]
pub(crate) struct DemoOptions {
    /// Check that everything works and end, instead of leaving it running.
    #[arg(long)]
    once: bool,
    /// The pgpassport binary.
    #[arg(long, value_name = "FILE")]
    proxy: PathBuf,
}

/// The users of the token endpoint. mallory has a token but nothing to look for in the database.
const USERS: [&str; 3] = ["alice", "bob", "mallory"];

fn secret(user: &str) -> String {
    format!("{user}-secret")
}

/// Everything that runs. Fields are dropped in this order: first who asks, then who answers, then the files.
pub(crate) struct DemoStage {
    pub(crate) proxy: ProxyProcess,
    pub(crate) cloud: Cloud,
    pub(crate) database: CloudDatabase,
    pub(crate) mysql: Option<DemoMysql>,
    pub(crate) ca: PathBuf,
    /// Status page and metrics of the proxy.
    pub(crate) admin: SocketAddr,
    pub(crate) dir: TempDir,
}

/// Runs the demo.
pub(crate) fn run(options: &DemoOptions) -> Result<(), String> {
    let began = Instant::now();
    let screen = DemoScreen::new();
    let interrupt = Interrupt::listen()?;
    screen
        .heading("pgpassport, on this machine only: AWS and the issuer are emulated, the databases are real");
    let stage = set_up(&options.proxy, &screen, &interrupt)?;
    let told = tell(&stage, &screen, &interrupt)
        .and_then(|()| interrupt.check())
        .and_then(|()| mysql::tell(&stage, &screen))
        .and_then(|()| interrupt.check())
        .and_then(|()| sign_in::tell(&stage, &options.proxy, &screen))
        .and_then(|()| interrupt.check())
        .and_then(|()| NextSteps::tried(&stage, &options.proxy, &screen));
    let steps = told
        .map_err(|problem| format!("{problem}\nthe end of the proxy's log:\n{}", stage.proxy.log_tail()))?;
    screen.heading(&format!("All as it must be, {:.1} s.", began.elapsed().as_secs_f32()));
    if !options.once {
        steps.show(&stage, &screen);
        interrupt.wait();
        screen.line("\nStopping; the folder goes too.");
    }
    Ok(())
}

fn set_up(binary: &Path, screen: &DemoScreen, interrupt: &Interrupt) -> Result<DemoStage, String> {
    let text = |error: aws_emulator::EmulatorError| error.to_string();
    let dir = TempDir::new("pgpassport-demo", 0o700).map_err(text)?;
    let database = CloudDatabase::start(DatabaseOptions::default()).map_err(text)?;
    interrupt.check()?;
    let clients = USERS.map(|user| (user.to_owned(), secret(user))).into();
    let issuer = IssuerOptions { clients, ..IssuerOptions::default() };
    let store = database.gate.store().clone();
    let cloud = Cloud::start(CloudOptions { issuer, store, ..CloudOptions::default() }).map_err(text)?;
    screen.fact("OIDC issuer", &cloud.issuer.url());
    screen.fact("AWS STS", &cloud.sts.url());
    let version = database.postgres.sql("select split_part(current_setting('server_version'), ' ', 1)");
    screen.fact(
        "PostgreSQL",
        &format!("{} (version {version}), IAM logins only, as on Aurora", database.postgres.addr()),
    );
    let mysql = DemoMysql::start(database.gate.store().clone(), dir.path(), screen).map_err(text)?;
    interrupt.check()?;
    let ca = database.ca.write(dir.path()).map_err(text)?;
    let listen = database.ca.server(&["localhost", "127.0.0.1"]).map_err(text)?;
    let listen = listen.write(dir.path(), "proxy").map_err(text)?;
    let mut databases = vec![ProxyDatabase {
        listen: ([127, 0, 0, 1], 0).into(),
        ca: &ca,
        server: ProxyUpstream::Postgres(&database.postgres),
        role_arn: names::ROLE_ARN,
    }];
    if let Some(mysql) = &mysql {
        cloud.add_mysql_role().map_err(text)?;
        databases.push(ProxyDatabase {
            listen: ([127, 0, 0, 1], 0).into(),
            ca: &mysql.ca,
            server: ProxyUpstream::Mysql(&mysql.database.server),
            role_arn: names::MYSQL_ROLE_ARN,
        });
    }
    let admin = free_address().map_err(|error| format!("no free port: {error}"))?;
    let more = format!("[admin]\naddr = \"{admin}\"\n");
    let config = ProxyConfig { certificate: &listen, cloud: &cloud, databases: &databases, more: &more };
    let config = config.write(dir.path()).map_err(text)?;
    let proxy = ProxyProcess::start(binary, &config, dir.path(), &|| interrupt.check()).map_err(text)?;
    let listeners: Vec<String> = proxy.addrs().iter().map(ToString::to_string).collect();
    screen.fact("pgpassport", &listeners.join(", "));
    Ok(DemoStage { proxy, cloud, database, mysql, ca, admin, dir })
}

/// A loopback address with a port that is free now.
fn free_address() -> std::io::Result<SocketAddr> {
    TcpListener::bind(("127.0.0.1", 0))?.local_addr()
}

fn tell(stage: &DemoStage, screen: &DemoScreen, interrupt: &Interrupt) -> Result<(), String> {
    screen.heading("alice gets a token from the issuer and gives it to psql as the password");
    let token = fetch_token(&stage.cloud.issuer, "alice")?;
    screen.fact(
        "token",
        &format!("{} characters, from {}", token.len(), stage.cloud.issuer.page_url(IssuerPage::Token)),
    );
    welcome(stage, &token, screen)?;
    interrupt.check()?;
    screen.heading("mallory has a good token too, and asks to be alice");
    refusal(stage, screen)
}

fn welcome(stage: &DemoStage, token: &str, screen: &DemoScreen) -> Result<(), String> {
    let sql =
        "select current_user, session_user, version, cipher from pg_stat_ssl where pid = pg_backend_pid()";
    let output = psql(stage, "alice", token, sql)?;
    let rows = output.map_err(|message| format!("alice was refused: {message}"))?;
    let columns: Vec<&str> = rows.trim_end().split('|').collect();
    let [current, session, version, cipher] = columns.as_slice() else {
        return Err(format!("psql printed something unexpected: {rows}"));
    };
    let decisions = stage.database.gate.decisions();
    let decision =
        decisions.last().filter(|one| one.accepted()).ok_or("the login gate did not let anyone in")?;
    let calls = stage.cloud.sts.calls();
    let call = calls.last().filter(|one| one.granted()).ok_or("STS did not give any credentials")?;
    screen.fact("current_user", current);
    screen.fact("session_user", session);
    screen.fact("upstream TLS", &format!("{version}, {cipher}"));
    screen.fact("derived user", &decision.user);
    screen.fact("IAM login token", &format!("{} characters, signed for that user", decision.password_length));
    screen.fact("AWS role session", &format!("{}/{}", names::ROLE_NAME, call.session_name));
    if [*current, *session, decision.user.as_str()] != ["alice"; 3] || !version.starts_with("TLSv1.") {
        return Err("alice is not logged in as alice over TLS".to_owned());
    }
    if decision.session_name.as_ref() != Some(&call.session_name) {
        return Err("the login does not come from alice's role session".to_owned());
    }
    screen.good("the database knows who she is, and so does CloudTrail");
    Ok(())
}

fn refusal(stage: &DemoStage, screen: &DemoScreen) -> Result<(), String> {
    let asked = stage.cloud.sts.count();
    let token = fetch_token(&stage.cloud.issuer, "mallory")?;
    let Err(message) = psql(stage, "alice", &token, "select current_user")? else {
        return Err("mallory was let in as alice".to_owned());
    };
    for line in message.lines() {
        screen.line(&format!("  {line}"));
    }
    // psql prints no SQLSTATE for a refused login, so its text has to do: PostgreSQL's own for 28P01.
    if !message.contains("FATAL:  password authentication failed for user \"alice\"") {
        return Err("mallory got another error than a refused login".to_owned());
    }
    // Who stops short of STS has no credentials, and without them there is nothing to show the database.
    if stage.cloud.sts.count() != asked {
        return Err("mallory was refused, but only after the proxy had asked STS for her".to_owned());
    }
    screen.good("refused before AWS or the database were asked");
    Ok(())
}

/// Asks the token endpoint as a user's program does.
pub(crate) fn fetch_token(issuer: &Issuer, user: &str) -> Result<String, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("no runtime: {error}"))?;
    let secret = secret(user);
    let fields = [("grant_type", "client_credentials"), ("client_id", user), ("client_secret", &secret)];
    let reply = runtime.block_on(http::post_form(&issuer.page_url(IssuerPage::Token), &fields));
    let (status, body) = reply.ok_or("the token endpoint did not answer")?;
    let token = serde_json::from_str::<serde_json::Value>(&body).ok();
    let token = token.and_then(|answer| answer.get("access_token")?.as_str().map(str::to_owned));
    token.ok_or_else(|| format!("no token for {user}: status {status}"))
}

/// Environment of psql for the proxy.
pub(crate) fn target(stage: &DemoStage, user: &str) -> String {
    format!(
        "host=localhost port={} user={user} dbname={} sslmode=verify-full sslrootcert={}",
        stage.proxy.addr().port(),
        names::DATABASE,
        stage.ca.display(),
    )
}

/// Runs psql through the proxy: what it printed, or its error message.
fn psql(stage: &DemoStage, user: &str, token: &str, sql: &str) -> Result<Result<String, String>, String> {
    let mut command = stage.database.postgres.psql();
    command.env("PGPASSWORD", token).env("PGCONNECT_TIMEOUT", "10").args([&target(stage, user), "-c", sql]);
    let output = command.output().map_err(|error| format!("psql cannot be run: {error}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) })
}
