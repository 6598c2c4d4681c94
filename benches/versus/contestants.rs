//! The contestants, each in front of the same server: nothing at all, the floor, HAProxy, PgBouncer or MySQL Router,
//! pgpassport. How each of them is configured.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use aws_emulator::names;

use crate::ground::{
    BenchGround, BenchServer, Contestant, Engine, Kind, MOST_SESSIONS, PATIENCE, RunningProgram,
    StartOptions, command, free_port, start,
};

/// MySQL Router's plugins, as its package has them.
const ROUTER_PLUGINS: &str = ".tools/mysql-router/root/usr/lib/mysqlrouter/plugin";

/// The user with a password, for all but pgpassport.
const PASSWORD_USER: (&str, &str) = ("carol", "carol-password");

impl BenchGround {
    /// Everyone of `kinds`, in front of `server`.
    pub(crate) fn contestants(&self, kinds: &[Kind], server: &BenchServer) -> Vec<Contestant> {
        kinds.iter().map(|kind| self.contestant(*kind, server, StartOptions::default())).collect()
    }

    pub(crate) fn contestant(
        &self,
        kind: Kind,
        server: &BenchServer,
        special: StartOptions<'_>,
    ) -> Contestant {
        match kind {
            Kind::Direct => led_by(kind, server.addr.port(), server, None),
            Kind::Floor => self.floor(server, special),
            Kind::Haproxy => self.haproxy(server, special),
            Kind::Pgbouncer => self.pgbouncer(server, special),
            Kind::Router => self.router(server, special),
            Kind::Pgpassport => {
                self.pgpassport(kind, &self.root.join("target/release/pgpassport"), server, special)
            }
            Kind::Former => {
                let former = self.former.as_ref().expect("--former");
                self.pgpassport(kind, former, server, special)
            }
        }
    }

    fn floor(&self, server: &BenchServer, special: StartOptions<'_>) -> Contestant {
        let binary = self.folder.path().join("floor");
        if !binary.exists() {
            let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
            let source = self.root.join("benches/floor.c");
            let built = Command::new(compiler).arg("-O2").arg("-o").arg(&binary).arg(source).status();
            assert!(built.expect("a C compiler").success(), "the floor does not compile");
        }
        let port = free_port();
        let mut command = command(special.before, &binary.display().to_string());
        command.args([port.to_string(), server.addr.port().to_string()]);
        led_by(Kind::Floor, port, server, Some(start(&mut command, port)))
    }

    fn haproxy(&self, server: &BenchServer, special: StartOptions<'_>) -> Contestant {
        let port = free_port();
        let config = self.own_folder(Kind::Haproxy).join("haproxy.cfg");
        let text = format!(
            "global\n  maxconn {MOST_SESSIONS}\ndefaults\n  mode tcp\n  timeout connect 10s\n  timeout client 1h\n  \
             timeout server 1h\nlisten database\n  bind 127.0.0.1:{port}\n  server database {}\n",
            server.addr
        );
        fs::write(&config, &text).expect("haproxy.cfg");
        self.remember(server.engine, Kind::Haproxy, &text);
        let mut command = command(special.before, "haproxy");
        command.arg("-db").arg("-f").arg(&config);
        led_by(Kind::Haproxy, port, server, Some(start(&mut command, port)))
    }

    fn pgbouncer(&self, server: &BenchServer, special: StartOptions<'_>) -> Contestant {
        let port = free_port();
        let folder = self.own_folder(Kind::Pgbouncer);
        let files = self.listener_ca.server(&["localhost"]).expect("a certificate").write(&folder, "server");
        let files = files.expect("a certificate");
        let (user, password) = PASSWORD_USER;
        fs::write(folder.join("users.txt"), format!("\"{user}\" \"{password}\"\n")).expect("users.txt");
        let text = format!(
            "[databases]\n{database} = host=localhost port={server} dbname={database}\n[pgbouncer]\n\
             listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = plain\n\
             auth_file = {folder}/users.txt\npool_mode = session\nmax_client_conn = {MOST_SESSIONS}\n\
             default_pool_size = {MOST_SESSIONS}\nclient_tls_sslmode = require\nclient_tls_cert_file = {cert}\n\
             client_tls_key_file = {key}\nserver_tls_sslmode = verify-full\nserver_tls_ca_file = {ca}\n\
             log_connections = 0\nlog_disconnections = 0\nignore_startup_parameters = extra_float_digits,options\n",
            database = names::DATABASE,
            server = server.addr.port(),
            folder = folder.display(),
            cert = files.cert.display(),
            key = files.key.display(),
            ca = server.ca_file.display(),
        );
        fs::write(folder.join("pgbouncer.ini"), &text).expect("pgbouncer.ini");
        self.remember(server.engine, Kind::Pgbouncer, &text);
        let listener_ca = self.listener_ca.write(&folder).expect("ca.pem");
        let owned = Command::new("chown").args(["-R", "postgres"]).arg(&folder).status();
        assert!(owned.expect("chown").success(), "the folder cannot be given to postgres");
        let as_postgres = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"];
        let mut command = command(&[&as_postgres[..], special.before].concat(), "pgbouncer");
        command.arg("-q").arg(folder.join("pgbouncer.ini")).current_dir(&folder);
        let child = start(&mut command, port);
        Contestant { ca: listener_ca, ..led_by(Kind::Pgbouncer, port, server, Some(child)) }
    }

    fn router(&self, server: &BenchServer, special: StartOptions<'_>) -> Contestant {
        let port = free_port();
        let folder = self.own_folder(Kind::Router);
        let files = self.listener_ca.server(&["localhost"]).expect("a certificate").write(&folder, "server");
        let files = files.expect("a certificate");
        let text = format!(
            "[DEFAULT]\nlogging_folder = {folder}\nruntime_folder = {folder}\ndata_folder = {folder}\n\
             plugin_folder = {plugins}\nmax_total_connections = {MOST_SESSIONS}\n[logger]\nlevel = ERROR\n\
             [routing:mysql]\nbind_address = 127.0.0.1\nbind_port = {port}\n\
             destinations = localhost:{server}\nrouting_strategy = first-available\nprotocol = classic\n\
             max_connections = {MOST_SESSIONS}\nclient_ssl_mode = REQUIRED\nclient_ssl_cert = {cert}\n\
             client_ssl_key = {key}\nserver_ssl_mode = REQUIRED\nserver_ssl_verify = VERIFY_IDENTITY\n\
             server_ssl_ca = {ca}\n",
            folder = folder.display(),
            plugins = self.root.join(ROUTER_PLUGINS).display(),
            server = server.addr.port(),
            cert = files.cert.display(),
            key = files.key.display(),
            ca = server.ca_file.display(),
        );
        let config = folder.join("mysqlrouter.conf");
        fs::write(&config, &text).expect("mysqlrouter.conf");
        self.remember(server.engine, Kind::Router, &text);
        let mut command = command(special.before, &self.router_program().display().to_string());
        command.arg("-c").arg(&config);
        let child = start(&mut command, port);
        let ca = self.listener_ca.write(&folder).expect("ca.pem");
        Contestant { ca, ..led_by(Kind::Router, port, server, Some(child)) }
    }

    /// MySQL Router, which `scripts/need-mysql-router` unpacks.
    pub(crate) fn router_program(&self) -> PathBuf {
        self.root.join(".tools/mysql-router/bin/mysqlrouter")
    }

    fn pgpassport(
        &self,
        kind: Kind,
        binary: &Path,
        server: &BenchServer,
        special: StartOptions<'_>,
    ) -> Contestant {
        let folder = self.own_folder(kind);
        let files = self.listener_ca.server(&["localhost"]).expect("a certificate").write(&folder, "server");
        let files = files.expect("a certificate");
        let (listen, cluster, endpoint, role) = match server.engine {
            Engine::Postgres => ("", "", names::ENDPOINT, names::ROLE_ARN),
            Engine::Mysql => {
                let (listen, cluster) = ("protocol = \"mysql\"\n", "engine = \"mysql\"\n");
                (listen, cluster, names::MYSQL_ENDPOINT, names::MYSQL_ROLE_ARN)
            }
        };
        let text = format!(
            "[listen]\naddr = \"127.0.0.1:0\"\n{listen}tls_cert_file = \"{}\"\ntls_key_file = \"{}\"\n[limits]\n\
             max_client_conn = {MOST_SESSIONS}\nmax_user_client_connections = 0\n[log]\nlevel = \"error\"\n[[issuer]]\nname = \"idp\"\nurl = \"{}\"\n\
             audience = \"{}\"\nprivate_network = true\n[[cluster]]\nname = \"app\"\n{cluster}endpoint = \"{endpoint}\"\n\
             hostaddr = \"{}\"\nregion = \"{}\"\nrole_arn = \"{role}\"\nca_file = \"{}\"\nsts_endpoint_url = \"{}\"\n{}\n",
            files.cert.display(),
            files.key.display(),
            self.cloud.issuer.url(),
            names::AUDIENCE,
            server.addr,
            names::REGION,
            server.ca_file.display(),
            special.sts.map_or_else(|| self.cloud.sts.url(), |sts| format!("http://{sts}")),
            special.more,
        );
        let config = folder.join("proxy.toml");
        fs::write(&config, &text).expect("proxy.toml");
        if kind == Kind::Pgpassport {
            self.remember(server.engine, kind, &text);
        }
        let notify = folder.join("notify");
        let notices = UnixDatagram::bind(&notify).expect("a socket");
        notices.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut command = command(special.before, &binary.display().to_string());
        command.args(["serve", "--config"]).arg(&config).env("NOTIFY_SOCKET", &notify);
        let log = fs::File::create(folder.join("log")).expect("a log file");
        let child = command.stdin(Stdio::null()).stderr(log).spawn().expect("pgpassport starts");
        let running = RunningProgram(child);
        let port = listens_on(&notices);
        let listener_ca = self.listener_ca.write(&folder).expect("ca.pem");
        Contestant {
            kind,
            port,
            user: "alice",
            password: self.token(),
            ca: listener_ca,
            pids: vec![running.0.id()],
            running: Some(running),
        }
    }
}

/// Logs in with a password, and sees the certificate of the server itself.
fn led_by(kind: Kind, port: u16, server: &BenchServer, child: Option<Child>) -> Contestant {
    Contestant {
        kind,
        port,
        user: PASSWORD_USER.0,
        password: PASSWORD_USER.1.to_owned(),
        ca: server.ca_file.clone(),
        pids: child.iter().map(Child::id).collect(),
        running: child.map(RunningProgram),
    }
}

/// Waits for the notice in which pgpassport says where it listens.
fn listens_on(notices: &UnixDatagram) -> u16 {
    let mut heard = String::new();
    let mut buffer = [0; 4096];
    loop {
        let read = notices.recv(&mut buffer).expect("pgpassport says where it listens");
        heard += &String::from_utf8_lossy(&buffer[..read]);
        if let Some(addr) = heard.split("listening on ").nth(1) {
            let addr = addr.lines().next().unwrap_or_default().trim();
            return addr.parse::<SocketAddr>().expect("an address").port();
        }
    }
}
