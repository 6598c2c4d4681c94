//! Parts that all clients share: issuer, STS, database, certificates and tokens; and those of each client: a proxy
//! on a port that stays. Changes when clients are given something else.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use aws_emulator::certs::CertFiles;
use aws_emulator::files::TempDir;
use aws_emulator::proxy::{ProxyConfig, ProxyDatabase};
use aws_emulator::{Ca, Cloud, ProxyProcess, names};
use tokio::net::TcpSocket;

use crate::MatrixOptions;
use crate::database::MatrixDatabase;
use crate::protocol::MatrixProtocol;
use crate::tokens;

/// The person whose tokens the clients have, and the database user.
pub(crate) const USER: &str = "alice";

/// All that runs, once for all clients.
pub(crate) struct MatrixWorld {
    pub(crate) protocol: MatrixProtocol,
    binary: PathBuf,
    /// The clients connect to the server itself.
    pub(crate) direct: bool,
    pub(crate) programs: PathBuf,
    pub(crate) tools: PathBuf,
    database: MatrixDatabase,
    cloud: Cloud,
    listen: CertFiles,
    /// A proxy whose certificate has another name. Many clients of MySQL take `localhost` for a Unix socket, so that `localhost`
    /// and `127.0.0.1` cannot be the two names.
    other: Option<ProxyProcess>,
    database_ca: PathBuf,
    tokens: Vec<(String, String)>,
    big_sha256: String,
    dir: TempDir,
}

impl MatrixWorld {
    pub(crate) fn start(options: &MatrixOptions, protocol: MatrixProtocol) -> Result<Self, String> {
        let text = |error: aws_emulator::EmulatorError| error.to_string();
        let absolute =
            |path: &Path| path.canonicalize().map_err(|error| format!("{}: {error}", path.display()));
        let dir = TempDir::new("client-matrix", 0o755).map_err(text)?;
        let database = MatrixDatabase::start(protocol).map_err(text)?;
        let cloud = database.cloud().map_err(text)?;
        let folder = |name: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            Ok::<_, String>(path)
        };
        let ca = if options.direct { database.ca().clone() } else { Ca::new().map_err(text)? };
        ca.write(&folder("ca")?).map_err(text)?;
        Ca::new().and_then(|other| other.write(&folder("other").unwrap_or_default())).map_err(text)?;
        // Not the name of `OTHER_HOST`, so that a client can be seen to insist on it.
        let listen = ca
            .server(protocol.listener_names())
            .and_then(|cert| cert.write(dir.path(), "proxy"))
            .map_err(text)?;
        let database_ca = database.ca().write(dir.path()).map_err(text)?;
        let tokens =
            if options.direct { tokens::of_iam(&cloud, &database)? } else { tokens::of_issuer(&cloud)? };
        let mut world = Self {
            protocol,
            binary: absolute(&options.proxy)?,
            direct: options.direct,
            programs: absolute(&options.programs)?,
            tools: absolute(&options.tools)?,
            big_sha256: database.big_sha256(),
            database,
            cloud,
            listen,
            database_ca,
            tokens,
            dir,
            other: None,
        };
        if protocol == MatrixProtocol::Mysql && !options.direct {
            world.other = Some(world.start_other(&ca)?);
        }
        Ok(world)
    }

    /// A proxy with a certificate of `ca` for another name.
    fn start_other(&self, ca: &Ca) -> Result<ProxyProcess, String> {
        let dir = self.dir.path().join("other-proxy");
        std::fs::create_dir(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        let certificate = ca.server(&["other.example"]).and_then(|cert| cert.write(&dir, "proxy"));
        let certificate = certificate.map_err(|error| error.to_string())?;
        let config = self.configure(([127, 0, 0, 1], 0).into(), &certificate, &dir)?;
        self.start_proxy(&config, &dir)
    }

    /// Host that leads a client to a certificate without this name. `127.1` is an address for the resolver and no address of a
    /// certificate.
    fn other_host(&self) -> &'static str {
        if self.protocol == MatrixProtocol::Mysql && self.direct { "127.1" } else { "127.0.0.1" }
    }

    /// The folder of the proxy's binary, where cargo puts the clients in Rust too.
    pub(crate) fn target(&self) -> &Path {
        self.binary.parent().unwrap_or(Path::new("."))
    }

    /// Writes the configuration of a proxy that listens on `listen`.
    fn configure(&self, listen: SocketAddr, certificate: &CertFiles, dir: &Path) -> Result<PathBuf, String> {
        let database = ProxyDatabase {
            listen,
            ca: &self.database_ca,
            server: self.database.upstream(),
            role_arn: names::ROLE_ARN,
        };
        let configuration = ProxyConfig {
            certificate,
            cloud: &self.cloud,
            databases: &[database],
            // Sessions are ended at once: what clients make of it is looked at, not how long it may take.
            more: "[limits]\nshutdown_timeout = \"0s\"\n\n[log]\nlevel = \"debug\"\n",
        };
        configuration.write(dir).map_err(|error| error.to_string())
    }

    fn start_proxy(&self, config: &Path, dir: &Path) -> Result<ProxyProcess, String> {
        ProxyProcess::start(&self.binary, config, dir, &|| Ok(())).map_err(|error| error.to_string())
    }

    /// Blocks until a session runs `sql`, and says whether one does.
    pub(crate) fn wait_for_query(&self, sql: &str) -> bool {
        self.database.wait_for_query(sql)
    }
}

/// A client's own part: its proxy, its port, its folder.
pub(crate) struct ClientEnvironment<'a> {
    world: &'a MatrixWorld,
    dir: PathBuf,
    addr: SocketAddr,
    /// None when the client connects to the server itself.
    front: Option<MatrixFront>,
}

/// A proxy that can be started again.
struct MatrixFront {
    config: PathBuf,
    proxy: Option<ProxyProcess>,
    /// Bound and never listening: nobody else is given the port while the proxy starts again.
    _reservation: TcpSocket,
}

impl<'a> ClientEnvironment<'a> {
    /// Starts a proxy for the client called `name`, unless clients connect to the server itself.
    pub(crate) fn start(world: &'a MatrixWorld, name: &str) -> Result<Self, String> {
        let dir = world.dir.path().join(name);
        std::fs::create_dir(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        if world.direct {
            return Ok(Self { world, dir, addr: world.database.addr(), front: None });
        }
        let (reservation, addr) = reserve_port().map_err(|error| format!("a free port: {error}"))?;
        let config = world.configure(addr, &world.listen, &dir)?;
        let proxy = world.start_proxy(&config, &dir)?;
        let front = MatrixFront { config, proxy: Some(proxy), _reservation: reservation };
        Ok(Self { world, dir, addr, front: Some(front) })
    }

    /// Stops the proxy as a service manager does, and starts it again on the same port. A server without a proxy ends the
    /// user's sessions.
    pub(crate) fn restart(&mut self) -> Result<(), String> {
        let Some(front) = &mut self.front else {
            self.world.database.end_sessions();
            return Ok(());
        };
        if let Some(proxy) = front.proxy.take() {
            proxy.drain().map_err(|error| error.to_string())?;
        }
        front.proxy = Some(self.world.start_proxy(&front.config, &self.dir)?);
        Ok(())
    }

    /// The world around it.
    pub(crate) fn world(&self) -> &MatrixWorld {
        self.world
    }

    /// A folder for the client's files.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The client's environment variables.
    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        let path = |path: &Path| path.display().to_string();
        let shared = self.world.dir.path();
        let mut told = vec![
            ("HOST", "localhost".to_owned()),
            // For clients of MySQL that take `localhost` for a Unix socket.
            ("ADDRESS", "127.0.0.1".to_owned()),
            // The server there has a certificate without such a name.
            ("OTHER_HOST", self.world.other_host().to_owned()),
            (
                "OTHER_PORT",
                self.world.other.as_ref().map_or(self.addr, ProxyProcess::addr).port().to_string(),
            ),
            ("PORT", self.addr.port().to_string()),
            ("USER", USER.to_owned()),
            ("DATABASE", names::DATABASE.to_owned()),
            ("CA", path(&shared.join("ca/ca.pem"))),
            ("OTHER_CA", path(&shared.join("other/ca.pem"))),
            ("BIG_SQL", self.world.database.big_sql()),
            ("BIG_SHA256", self.world.big_sha256.clone()),
            ("SLEEP_SQL", self.sleep_sql()),
            // What a refusal says; a server gives no reason.
            ("REASON", if self.world.direct { "Access denied" } else { "the token expired" }.to_owned()),
            ("DIR", path(&self.dir)),
            ("TOOLS", path(&self.world.tools)),
        ];
        let tokens = self.world.tokens.iter().map(|(name, token)| (name.as_str(), token.clone()));
        told.extend(tokens);
        told.into_iter().map(|(name, value)| (format!("MATRIX_{name}"), value)).collect()
    }

    /// The query that is to be cancelled; every client has its own.
    pub(crate) fn sleep_sql(&self) -> String {
        self.world.database.sleep_sql(self.addr.port())
    }

    /// Tokens in the proxy's log; there should be none.
    pub(crate) fn leaks(&self) -> Result<Vec<&str>, String> {
        if self.front.is_none() {
            return Ok(Vec::new());
        }
        let log = self.dir.join("proxy.log");
        let log = std::fs::read_to_string(&log).map_err(|error| format!("{}: {error}", log.display()))?;
        if !log.contains("audit") {
            return Err("the proxy's log has no audit record".to_owned());
        }
        let stands = |token: &str| token.split('.').skip(1).any(|part| log.contains(part));
        let leaked = self.world.tokens.iter().filter(|(_, token)| stands(token));
        Ok(leaked.map(|(name, _)| name.as_str()).collect())
    }
}

fn reserve_port() -> std::io::Result<(TcpSocket, SocketAddr)> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(([127, 0, 0, 1], 0).into())?;
    let addr = socket.local_addr()?;
    Ok((socket, addr))
}
