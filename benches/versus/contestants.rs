//! The contestants, each in front of the same PostgreSQL: nothing at all, the floor, HAProxy, PgBouncer, pgpassport.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use aws_emulator::{Ca, Cloud, CloudOptions, Database, DatabaseOptions, names};
use tempfile::TempDir;

/// The user with a password, for all but pgpassport.
pub(crate) const PASSWORD_USER: (&str, &str) = ("carol", "carol-password");

/// Longest wait for a contestant to listen.
const PATIENCE: Duration = Duration::from_secs(20);

/// One way to the database.
pub(crate) struct Contestant {
    pub(crate) name: &'static str,
    pub(crate) port: u16,
    pub(crate) user: &'static str,
    pub(crate) password: String,
    /// The certificate authority of whoever answers there.
    pub(crate) ca: PathBuf,
    /// Processes whose cost is counted; none for the direct way.
    pub(crate) pids: Vec<u32>,
    _running: Option<Running>,
}

/// A program that ends with its contestant.
struct Running(Child);

/// The database, the stand-ins and the folder of this run.
pub(crate) struct Ground {
    pub(crate) database: Database,
    pub(crate) cloud: Cloud,
    pub(crate) folder: TempDir,
    listener_ca: Ca,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Ground {
    pub(crate) fn new() -> Self {
        let change = |options: &mut aws_emulator::PostgresOptions| {
            options.max_connections = 700;
            options.settings.push(("shared_buffers".into(), "256MB".into()));
            options.settings.push(("max_wal_size".into(), "4GB".into()));
        };
        let database =
            Database::start(DatabaseOptions { change, ..DatabaseOptions::default() }).expect("PostgreSQL");
        let store = database.gate.store().clone();
        let cloud = Cloud::start(CloudOptions { store, ..CloudOptions::default() }).expect("the stand-ins");
        let folder = tempfile::Builder::new().prefix("versus").tempdir().expect("a folder");
        // PgBouncer does not run as root and has to read its files.
        fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .expect("chmod");
        Self { database, cloud, folder, listener_ca: Ca::new().expect("a certificate authority") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn server_port(&self) -> u16 {
        self.database.postgres.addr().port()
    }

    fn server_ca(&self) -> PathBuf {
        let folder = self.path("server-ca");
        fs::create_dir_all(&folder).expect("a folder");
        self.database.ca.write(&folder).expect("ca.pem")
    }

    fn contestant(&self, name: &'static str, port: u16, child: Option<Child>) -> Contestant {
        Contestant {
            name,
            port,
            user: PASSWORD_USER.0,
            password: PASSWORD_USER.1.to_owned(),
            ca: self.server_ca(),
            pids: child.iter().map(Child::id).collect(),
            _running: child.map(Running),
        }
    }

    pub(crate) fn direct(&self) -> Contestant {
        self.contestant("direct", self.server_port(), None)
    }

    pub(crate) fn floor(&self, source: &Path) -> Contestant {
        let binary = self.path("floor");
        let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
        let built = Command::new(compiler).arg("-O2").arg("-o").arg(&binary).arg(source).status();
        assert!(built.expect("a C compiler").success(), "the floor does not compile");
        let port = free_port();
        let mut command = Command::new(binary);
        command.args([port.to_string(), self.server_port().to_string()]);
        self.contestant("floor", port, Some(start(&mut command, port)))
    }

    pub(crate) fn haproxy(&self) -> Contestant {
        let port = free_port();
        let config = self.path("haproxy.cfg");
        let text = format!(
            "global\n  maxconn 2000\ndefaults\n  mode tcp\n  timeout connect 10s\n  timeout client 1h\n  timeout server 1h\n\
             listen pg\n  bind 127.0.0.1:{port}\n  server pg 127.0.0.1:{}\n",
            self.server_port()
        );
        fs::write(&config, text).expect("haproxy.cfg");
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(&config);
        self.contestant("HAProxy (TCP)", port, Some(start(&mut command, port)))
    }

    pub(crate) fn pgbouncer(&self) -> Contestant {
        let port = free_port();
        let folder = self.path("pgbouncer");
        fs::create_dir_all(&folder).expect("a folder");
        let files = self.listener_ca.server(&["localhost"]).expect("a certificate").write(&folder, "server");
        let files = files.expect("a certificate");
        let (user, password) = PASSWORD_USER;
        fs::write(folder.join("users.txt"), format!("\"{user}\" \"{password}\"\n")).expect("users.txt");
        let text = format!(
            "[databases]\n{database} = host=localhost port={server} dbname={database}\n[pgbouncer]\n\
             listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = plain\nauth_file = {folder}/users.txt\n\
             pool_mode = session\nmax_client_conn = 10000\ndefault_pool_size = 600\n\
             client_tls_sslmode = require\nclient_tls_cert_file = {cert}\nclient_tls_key_file = {key}\n\
             server_tls_sslmode = verify-full\nserver_tls_ca_file = {ca}\nlog_connections = 0\nlog_disconnections = 0\n\
             ignore_startup_parameters = extra_float_digits,options\n",
            database = names::DATABASE,
            server = self.server_port(),
            folder = folder.display(),
            cert = files.cert.display(),
            key = files.key.display(),
            ca = self.server_ca().display(),
        );
        fs::write(folder.join("pgbouncer.ini"), text).expect("pgbouncer.ini");
        let owned = Command::new("chown").args(["-R", "postgres"]).arg(&folder).status();
        assert!(owned.expect("chown").success(), "the folder cannot be given to postgres");
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "pgbouncer", "-q"]);
        command.arg(folder.join("pgbouncer.ini"));
        let child = start(&mut command, port);
        let listener_ca = self.listener_ca.write(&folder).expect("ca.pem");
        Contestant { ca: listener_ca, ..self.contestant("PgBouncer", port, Some(child)) }
    }

    /// `cluster` are more keys of its `[[cluster]]`, `cores` the processors it may use.
    pub(crate) fn pgpassport(
        &self,
        name: &'static str,
        binary: &Path,
        more: &str,
        cores: Option<&str>,
    ) -> Contestant {
        let folder = self.path(&name.replace(' ', "-"));
        fs::create_dir_all(&folder).expect("a folder");
        let files = self.listener_ca.server(&["localhost"]).expect("a certificate").write(&folder, "server");
        let files = files.expect("a certificate");
        let text = format!(
            "[listen]\naddr = \"127.0.0.1:0\"\ntls_cert_file = \"{}\"\ntls_key_file = \"{}\"\n[limits]\nmax_client_conn = 10000\n\
             [log]\nlevel = \"error\"\n[[issuer]]\nname = \"idp\"\nurl = \"{}\"\naudience = \"{}\"\nprivate_network = true\n\
             [[cluster]]\nname = \"app\"\nendpoint = \"{}\"\nhostaddr = \"{}\"\nregion = \"{}\"\nrole_arn = \"{}\"\n\
             ca_file = \"{}\"\nsts_endpoint_url = \"{}\"\n{more}\n",
            files.cert.display(),
            files.key.display(),
            self.cloud.issuer.url(),
            names::AUDIENCE,
            names::ENDPOINT,
            self.database.postgres.addr(),
            names::REGION,
            names::ROLE_ARN,
            self.server_ca().display(),
            self.cloud.sts.url(),
        );
        let config = folder.join("proxy.toml");
        fs::write(&config, text).expect("proxy.toml");
        let notify = folder.join("notify");
        let notices = UnixDatagram::bind(&notify).expect("a socket");
        notices.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut command = match cores {
            None => Command::new(binary),
            Some(cores) => {
                let mut command = Command::new("taskset");
                command.args(["-c", cores]).arg(binary);
                command
            }
        };
        command.args(["serve", "--config"]).arg(&config).env("NOTIFY_SOCKET", &notify);
        let log = fs::File::create(folder.join("log")).expect("a log file");
        let child = command.stdin(Stdio::null()).stderr(log).spawn().expect("pgpassport starts");
        let mut heard = String::new();
        let mut buffer = [0; 4096];
        let port = loop {
            let read = notices.recv(&mut buffer).expect("pgpassport says where it listens");
            heard += &String::from_utf8_lossy(&buffer[..read]);
            if let Some(addr) = heard.split("listening on ").nth(1) {
                let addr: SocketAddr =
                    addr.lines().next().unwrap_or_default().trim().parse().expect("an address");
                break addr.port();
            }
        };
        let listener_ca = self.listener_ca.write(&folder).expect("ca.pem");
        let now = pgpassport::clock::Clock::system().unix_seconds();
        let claims = self.cloud.issuer.default_claims("alice").set("exp", now + 6 * 3_600);
        let password = self.cloud.issuer.mint(claims);
        Contestant { ca: listener_ca, user: "alice", password, ..self.contestant(name, port, Some(child)) }
    }
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").port()
}

/// Starts a program and waits until its port answers.
fn start(command: &mut Command, port: u16) -> Child {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let began = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(child.try_wait().expect("its state").is_none(), "{command:?} has ended");
        assert!(began.elapsed() < PATIENCE, "{command:?} does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
    child
}
