//! The local agent, between real tools and the proxy.

mod cancels;
mod changes;
mod command;
mod drivers;
mod mysql;
mod mysql_tokens;
pub(super) mod refresh;
mod refusals;
mod refused_tokens;
mod sign_in;
mod strangers;
mod tools;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pgpassport::agent::local_password::LocalPassword;
use pgpassport::agent::sockets::{AgentSockets, MYSQL_SOCKET_NAME, SOCKET_NAME};
use pgpassport::agent::{Agent, NoToken, PersonalLogin, ProxyAddress, TokenProvider};
use pgpassport::config::DatabaseProtocol;
use pgpassport::names::Endpoint;
use pgpassport::net::resolver::Resolver;
use pgpassport::secret::Jwt;
use tempfile::TempDir;
use tokio::process::Command;
use tokio_postgres::error::DbError;
use tokio_postgres::{Client, Error, NoTls};
use tokio_util::sync::CancellationToken;

use crate::world::{World, database};

/// An agent in front of a world's proxy, with both kinds of socket.
pub(super) struct LocalAgent {
    folder: TempDir,
    pub(super) addr: SocketAddr,
    pub(super) password: String,
    /// Number of requests for a token.
    asked: Arc<AtomicUsize>,
    stop: CancellationToken,
}

impl LocalAgent {
    /// An agent that logs in with `token`.
    pub(super) async fn start(world: &World, token: &str) -> Self {
        let token = token.to_owned();
        let login = move || {
            Ok(PersonalLogin { token: Jwt::new(token.clone().into_bytes()), user: "token".to_owned() })
        };
        Self::start_with(world, "localhost", login).await
    }

    /// An agent whose proxy is called `host`, and whose tokens come from `login`.
    async fn start_with(
        world: &World,
        host: &str,
        login: impl Fn() -> Result<PersonalLogin, NoToken> + Send + Sync + 'static,
    ) -> Self {
        let ca = world.listener_ca().write(&world.folder()).unwrap();
        Self::trusting(world, host, &ca, login).await
    }

    async fn trusting(
        world: &World,
        host: &str,
        ca: &Path,
        login: impl Fn() -> Result<PersonalLogin, NoToken> + Send + Sync + 'static,
    ) -> Self {
        let here = SocketAddr::from(([127, 0, 0, 1], world.port));
        let resolver = Resolver::from_fn(move |_| Ok(vec![here]));
        Self::resolving(resolver, (world, host), ca, login).await
    }

    /// An agent for tools that speak MySQL.
    async fn trusting_for_mysql(
        world: &World,
        host: &str,
        ca: &Path,
        login: impl Fn() -> Result<PersonalLogin, NoToken> + Send + Sync + 'static,
    ) -> Self {
        let here = SocketAddr::from(([127, 0, 0, 1], world.port));
        let resolver = Resolver::from_fn(move |_| Ok(vec![here]));
        Self::speaking(DatabaseProtocol::MySql, resolver, (world, host), ca, login).await
    }

    async fn resolving(
        resolver: Resolver,
        (world, host): (&World, &str),
        ca: &Path,
        login: impl Fn() -> Result<PersonalLogin, NoToken> + Send + Sync + 'static,
    ) -> Self {
        Self::speaking(DatabaseProtocol::PostgreSql, resolver, (world, host), ca, login).await
    }

    async fn speaking(
        protocol: DatabaseProtocol,
        resolver: Resolver,
        (world, host): (&World, &str),
        ca: &Path,
        login: impl Fn() -> Result<PersonalLogin, NoToken> + Send + Sync + 'static,
    ) -> Self {
        let mysql = protocol == DatabaseProtocol::MySql;
        let folder = TempDir::new().unwrap();
        let endpoint = Endpoint::parse(&format!("{host}:{}", world.port)).unwrap();
        let proxy = if mysql { ProxyAddress::for_mysql } else { ProxyAddress::new };
        let proxy = proxy(endpoint, Some(ca), resolver).unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let (count, login) = (Arc::clone(&asked), Arc::new(login));
        let tokens = TokenProvider::from_fn(move || {
            count.fetch_add(1, Ordering::SeqCst);
            let login = Arc::clone(&login);
            async move { login() }
        });
        let password = LocalPassword::of(&folder.path().join("state"), "acme").unwrap();
        let agent = Agent::new("acme".to_owned(), proxy, tokens, vec!["app".to_owned()]);
        let agent = if mysql { agent.speaking_mysql() } else { agent }.with_password(&password);
        let mut sockets = AgentSockets::default();
        sockets
            .listen_unix(&folder.path().join("run"), if mysql { MYSQL_SOCKET_NAME } else { SOCKET_NAME })
            .unwrap();
        let addr = sockets.listen_tcp("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(agent.serve(sockets, stop.clone()));
        Self { folder, addr, password: password.expose().to_owned(), asked, stop }
    }

    /// The folder that stands for a host.
    fn socket(&self) -> PathBuf {
        self.folder.path().join("run")
    }

    /// psql's host, port and password for either kind of socket.
    fn places(&self) -> [(String, String, &str); 2] {
        [
            (self.socket().display().to_string(), "5432".to_owned(), ""),
            ("127.0.0.1".to_owned(), self.addr.port().to_string(), &self.password),
        ]
    }

    fn psql((host, port, password): &(String, String, &str), args: &[&str]) -> Command {
        let mut command = Command::from(database().postgres.psql());
        command
            .args(["-h", host, "-p", port, "-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=verbose"])
            .args(args)
            .env("PGPASSWORD", password)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Runs psql; gives what it printed, or what it complained of.
    async fn says(&self, place: &(String, String, &str), args: &[&str]) -> Result<String, String> {
        outcome(&Self::psql(place, args).output().await.unwrap())
    }

    /// A driver's connection over TCP.
    async fn connect(&self) -> Result<Client, Error> {
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(self.addr.port()).user("token").dbname("app").password(&self.password);
        let (client, connection) = config.connect(NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// The error that a driver gets over TCP.
    async fn refusal(&self) -> DbError {
        self.connect().await.unwrap_err().as_db_error().unwrap().clone()
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Drop for LocalAgent {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn outcome(output: &Output) -> Result<String, String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}
