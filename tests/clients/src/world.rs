//! What all clients share: issuer, STS, database, certificates and tokens; and what each has of its own: a proxy
//! on a port that stays. Changes when clients are given something else.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use aws_emulator::certs::CertFiles;
use aws_emulator::files::TempDir;
use aws_emulator::proxy::ProxyConfig;
use aws_emulator::{Ca, Cloud, CloudDatabase, DatabaseOptions, Issuer, KeyChoice, ProxyProcess, names};
use serde_json::{Value, json};
use tokio::net::TcpSocket;

/// The person whose tokens the clients have, and the database user.
pub(crate) const USER: &str = "alice";

/// Rows of 1,024 characters that are 50 MiB together.
const BIG_SQL: &str = "select repeat(md5(i::text), 32) as line from generate_series(1, 51200) i order by i";

/// How long tokens are: what identity providers send, and the sizes around which clients have limits (odbc.ini, a
/// service file, a terminal's line). The proxy takes 20,000 bytes.
const TOKENS: [usize; 9] = [800, 990, 991, 1_012, 1_013, 3_000, 4_095, 4_096, 16_000];

/// Says whether a session sleeps in a query that contains a text; gives up after 20 seconds.
const WAIT_FOR_QUERY: &str =
    "create procedure wait_for_query(text, inout sleeps boolean) language plpgsql as $body$
begin
  for round in 1..2000 loop
    perform pg_stat_clear_snapshot();
    sleeps := exists (select from pg_stat_activity where state = 'active' and wait_event = 'PgSleep'
                     and position($1 in query) > 0 and pid <> pg_backend_pid());
    exit when sleeps;
    perform pg_sleep(0.01);
  end loop;
end $body$";

/// All that runs, once for all clients.
pub(crate) struct MatrixWorld {
    binary: PathBuf,
    pub(crate) programs: PathBuf,
    pub(crate) tools: PathBuf,
    database: CloudDatabase,
    cloud: Cloud,
    listen: CertFiles,
    database_ca: PathBuf,
    tokens: Vec<(String, String)>,
    big_sha256: String,
    dir: TempDir,
}

impl MatrixWorld {
    pub(crate) fn start(binary: &Path, programs: &Path, tools: &Path) -> Result<Self, String> {
        let text = |error: aws_emulator::EmulatorError| error.to_string();
        let absolute =
            |path: &Path| path.canonicalize().map_err(|error| format!("{}: {error}", path.display()));
        let dir = TempDir::new("client-matrix", 0o755).map_err(text)?;
        let database = CloudDatabase::start(DatabaseOptions::default()).map_err(text)?;
        let cloud = Cloud::on(&database).map_err(text)?;
        let folder = |name: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            Ok::<_, String>(path)
        };
        let ca = Ca::new().map_err(text)?;
        ca.write(&folder("ca")?).map_err(text)?;
        Ca::new().and_then(|other| other.write(&folder("other").unwrap_or_default())).map_err(text)?;
        // One name only, so that a client can be seen to insist on it.
        let listen =
            ca.server(&["localhost"]).and_then(|cert| cert.write(dir.path(), "proxy")).map_err(text)?;
        let database_ca = database.ca.write(dir.path()).map_err(text)?;
        database.postgres.sql(&format!("grant create on database {} to {USER}", names::DATABASE));
        database.postgres.sql(WAIT_FOR_QUERY);
        let big_sha256 = database.postgres.sql(&format!(
            "select encode(sha256(string_agg(line, '')::bytea), 'hex') from ({BIG_SQL}) all_lines"
        ));
        let tokens = tokens(&cloud)?;
        Ok(Self {
            binary: absolute(binary)?,
            programs: absolute(programs)?,
            tools: absolute(tools)?,
            big_sha256: big_sha256.trim().to_owned(),
            database,
            cloud,
            listen,
            database_ca,
            tokens,
            dir,
        })
    }

    /// The folder of the proxy's binary, where cargo puts the clients in Rust too.
    pub(crate) fn target(&self) -> &Path {
        self.binary.parent().unwrap_or(Path::new("."))
    }

    /// Blocks until a session runs `sql`, and says whether one does.
    pub(crate) fn wait_for_query(&self, sql: &str) -> bool {
        let found = self.database.postgres.sql(&format!("call wait_for_query('{sql}', null)"));
        found.contains('t')
    }
}

/// One client's own part: its proxy, its port, its folder.
pub(crate) struct ClientEnvironment<'a> {
    world: &'a MatrixWorld,
    dir: PathBuf,
    addr: SocketAddr,
    config: PathBuf,
    proxy: Option<ProxyProcess>,
    /// Bound and never listening: nobody else is given the port while the proxy starts again.
    _reservation: TcpSocket,
}

impl<'a> ClientEnvironment<'a> {
    /// Starts a proxy for the client called `name`.
    pub(crate) fn start(world: &'a MatrixWorld, name: &str) -> Result<Self, String> {
        let dir = world.dir.path().join(name);
        std::fs::create_dir(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        let (reservation, addr) = reserve_port().map_err(|error| format!("a free port: {error}"))?;
        let configuration = ProxyConfig {
            listen: addr,
            certificate: &world.listen,
            database_ca: &world.database_ca,
            cloud: &world.cloud,
            database: &world.database,
            // Sessions are ended at once: what clients make of it is looked at, not how long it may take.
            more: "[limits]\nshutdown_timeout = \"0s\"\n\n[log]\nlevel = \"debug\"\n",
        };
        let config = configuration.write(&dir).map_err(|error| error.to_string())?;
        let mut seat = Self { world, dir, addr, config, proxy: None, _reservation: reservation };
        seat.up()?;
        Ok(seat)
    }

    fn up(&mut self) -> Result<(), String> {
        let proxy = ProxyProcess::start(&self.world.binary, &self.config, &self.dir, &|| Ok(()));
        self.proxy = Some(proxy.map_err(|error| error.to_string())?);
        Ok(())
    }

    /// Stops the proxy as a service manager does, and starts it again on the same port.
    pub(crate) fn restart(&mut self) -> Result<(), String> {
        if let Some(proxy) = self.proxy.take() {
            proxy.drain().map_err(|error| error.to_string())?;
        }
        self.up()
    }

    /// The world around it.
    pub(crate) fn world(&self) -> &MatrixWorld {
        self.world
    }

    /// A folder for the client's files.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// What the client is told, as environment variables.
    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        let path = |path: &Path| path.display().to_string();
        let shared = self.world.dir.path();
        let mut told = vec![
            ("HOST", "localhost".to_owned()),
            // Leads to the same proxy; its certificate has no such name.
            ("OTHER_HOST", "127.0.0.1".to_owned()),
            ("PORT", self.addr.port().to_string()),
            ("USER", USER.to_owned()),
            ("DATABASE", names::DATABASE.to_owned()),
            ("CA", path(&shared.join("ca/ca.pem"))),
            ("OTHER_CA", path(&shared.join("other/ca.pem"))),
            ("BIG_SQL", BIG_SQL.to_owned()),
            ("BIG_SHA256", self.world.big_sha256.clone()),
            ("SLEEP_SQL", self.sleep_sql()),
            ("DIR", path(&self.dir)),
            ("TOOLS", path(&self.world.tools)),
        ];
        let tokens = self.world.tokens.iter().map(|(name, token)| (name.as_str(), token.clone()));
        told.extend(tokens);
        told.into_iter().map(|(name, value)| (format!("MATRIX_{name}"), value)).collect()
    }

    /// The query that is to be cancelled; every client has its own. It sleeps for longer than a client may run, so that
    /// a program cannot mistake its end for a cancel.
    pub(crate) fn sleep_sql(&self) -> String {
        format!("select pg_sleep(600) /* {} */", self.addr.port())
    }

    /// What of the tokens stands in the proxy's log; nothing should.
    pub(crate) fn leaks(&self) -> Result<Vec<&str>, String> {
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

/// Tokens by their name in the contract.
fn tokens(cloud: &Cloud) -> Result<Vec<(String, String)>, String> {
    let mut tokens = Vec::new();
    for size in TOKENS {
        tokens.push((format!("JWT_{size}"), token_of(&cloud.issuer, size)?));
    }
    let now = cloud.clock.unix();
    let claims = cloud.issuer.default_claims(USER);
    let expired = claims.set("iat", now - 1_200).set("nbf", now - 1_200).set("exp", now - 600);
    tokens.push(("JWT_EXPIRED".to_owned(), cloud.issuer.mint(expired)));
    Ok(tokens)
}

/// A token of exactly `size` bytes. No part in base64 has a length of 4n + 1, so the header is lengthened too.
fn token_of(issuer: &Issuer, size: usize) -> Result<String, String> {
    let kid = issuer.kid(&KeyChoice::Rs256);
    let sign = |header_pad: usize, claim_pad: usize| {
        let header = json!({ "alg": "RS256", "typ": "JWT", "kid": kid, "pad": "x".repeat(header_pad) });
        let claims = Value::from(issuer.default_claims(USER).padded(claim_pad));
        issuer.sign(&header.to_string(), claims.to_string().as_bytes(), &KeyChoice::Rs256)
    };
    for header_pad in 0..3 {
        let missing = size.saturating_sub(sign(header_pad, 0).len()) * 3 / 4;
        for claim_pad in missing.saturating_sub(2)..=missing + 2 {
            let token = sign(header_pad, claim_pad);
            if token.len() == size {
                return Ok(token);
            }
        }
    }
    Err(format!("a token cannot be {size} bytes long"))
}

fn reserve_port() -> std::io::Result<(TcpSocket, SocketAddr)> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(([127, 0, 0, 1], 0).into())?;
    let addr = socket.local_addr()?;
    Ok((socket, addr))
}
