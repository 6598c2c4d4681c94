//! The product as a child process: its configuration, its readiness, its end.

use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use crate::certs::CertFiles;
use crate::files::write_public;
use crate::{Cloud, EmulatorError, Mysql, Postgres, names};

/// Time limit until the proxy is ready.
const PATIENCE: Duration = Duration::from_secs(20);
/// Interval of checks for its end while its readiness is awaited.
const GLANCE: Duration = Duration::from_millis(100);
/// Time limit of its stop.
const FAREWELL: Duration = Duration::from_secs(5);

/// A running proxy. It stops when it is dropped.
pub struct ProxyProcess {
    child: Child,
    log: PathBuf,
    addrs: Vec<SocketAddr>,
}

impl ProxyProcess {
    /// Starts the proxy and waits until it says that it is ready (the protocol of systemd's `sd_notify`). Its log is
    /// added to `proxy.log` in `dir`. `go_on` is asked now and then, and its error ends the wait.
    pub fn start(
        binary: &Path,
        config: &Path,
        dir: &Path,
        go_on: &dyn Fn() -> Result<(), String>,
    ) -> Result<Self, EmulatorError> {
        let socket = dir.join("notify");
        let notices = UnixDatagram::bind(&socket).map_err(EmulatorError::io(socket.display().to_string()))?;
        notices.set_read_timeout(Some(GLANCE)).map_err(EmulatorError::io("the notice socket"))?;
        let log = dir.join("proxy.log");
        let output = || -> Result<Stdio, EmulatorError> {
            let file = File::options().create(true).append(true).open(&log);
            file.map(Stdio::from).map_err(EmulatorError::io(log.display().to_string()))
        };
        let child = Command::new(binary)
            .args(["serve", "--config"])
            .arg(config)
            .env("NOTIFY_SOCKET", &socket)
            .stdin(Stdio::null())
            .stdout(output()?)
            .stderr(output()?)
            // Ctrl-C in a terminal is for the program that started the proxy, which then stops it.
            .process_group(0)
            .spawn()
            .map_err(EmulatorError::io(format!("starting {}", binary.display())))?;
        let mut proxy = Self { child, log, addrs: Vec::new() };
        let ready = proxy.ready(&notices, go_on);
        // The next proxy of this folder needs the name.
        let _ = std::fs::remove_file(&socket);
        proxy.addrs = ready.map_err(EmulatorError::Proxy)?;
        Ok(proxy)
    }

    /// Addresses of its listeners, in the order of the configuration.
    pub fn addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }

    /// Address of its first listener.
    pub fn addr(&self) -> SocketAddr {
        *self.addrs.first().expect("a proxy that is ready listens")
    }

    /// The last lines of its log.
    pub fn log_tail(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines.get(lines.len().saturating_sub(20)..).unwrap_or_default().join("\n")
    }

    /// Sends SIGTERM and waits until the proxy has ended by itself.
    pub fn drain(mut self) -> Result<(), EmulatorError> {
        let status = self.end("TERM");
        match status {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(EmulatorError::Proxy(format!("it ended with {status} after SIGTERM"))),
            Err(error) => Err(EmulatorError::io("waiting for the proxy's end")(error)),
        }
    }

    fn ready(
        &mut self,
        notices: &UnixDatagram,
        go_on: &dyn Fn() -> Result<(), String>,
    ) -> Result<Vec<SocketAddr>, String> {
        let began = Instant::now();
        let mut heard = String::new();
        let mut buffer = [0; 4096];
        while began.elapsed() < PATIENCE {
            go_on()?;
            if let Ok(length) = notices.recv(&mut buffer) {
                heard += &String::from_utf8_lossy(buffer.get(..length).unwrap_or_default());
                heard.push('\n');
            }
            if heard.lines().any(|line| line == "READY=1") {
                let text = heard.lines().find_map(|line| line.strip_prefix("STATUS=listening on "));
                let addrs = text.unwrap_or_default().split(", ").map(|addr| addr.trim().parse().ok());
                return addrs
                    .collect::<Option<Vec<_>>>()
                    .ok_or_else(|| format!("it is ready but does not say where; it said: {heard}"));
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("it ended ({status}) instead of serving; its log:\n{}", self.log_tail()));
            }
        }
        Err(format!("it was not ready after {} s; its log:\n{}", PATIENCE.as_secs(), self.log_tail()))
    }

    /// Sends a signal and waits; the proxy is made to end if it takes too long.
    fn end(&mut self, signal: &str) -> std::io::Result<std::process::ExitStatus> {
        if let Some(status) = self.child.try_wait()? {
            return Ok(status);
        }
        let (ended, end) = std::sync::mpsc::channel::<()>();
        let pid = self.child.id().to_string();
        let _ = Command::new("kill").args(["-s", signal, &pid]).stderr(Stdio::null()).status();
        let watch = std::thread::spawn(move || {
            if end.recv_timeout(FAREWELL) == Err(RecvTimeoutError::Timeout) {
                let _ = Command::new("kill").args(["-s", "KILL", &pid]).stderr(Stdio::null()).status();
            }
        });
        let status = self.child.wait();
        drop(ended);
        let _ = watch.join();
        status
    }
}

impl Drop for ProxyProcess {
    fn drop(&mut self) {
        // SIGQUIT ends open sessions too, with a goodbye.
        let _ = self.end("QUIT");
    }
}

/// Parts of a proxy's configuration.
pub struct ProxyConfig<'a> {
    /// Its certificate.
    pub certificate: &'a CertFiles,
    /// Issuer and STS.
    pub cloud: &'a Cloud,
    /// The databases.
    pub databases: &'a [ProxyDatabase<'a>],
    /// More sections, as text.
    pub more: &'a str,
}

/// A database and the listener through which clients reach it.
pub struct ProxyDatabase<'a> {
    /// Address of the proxy's listener; port 0 for a free one.
    pub listen: SocketAddr,
    /// The file with the authority of the database's certificate.
    pub ca: &'a Path,
    /// The server.
    pub server: ProxyUpstream<'a>,
    /// The ARN of the role that may log in there.
    pub role_arn: &'a str,
}

/// A server of either protocol.
#[derive(Clone, Copy)]
pub enum ProxyUpstream<'a> {
    /// PostgreSQL.
    Postgres(&'a Postgres),
    /// MySQL or MariaDB.
    Mysql(&'a Mysql),
}

impl ProxyConfig<'_> {
    /// Writes it as `proxy.toml` into `dir`.
    pub fn write(&self, dir: &Path) -> Result<PathBuf, EmulatorError> {
        let path = dir.join("proxy.toml");
        write_public(&path, &self.text())?;
        Ok(path)
    }

    fn text(&self) -> String {
        let mut text = format!(
            r#"[[issuer]]
name = "demo"
url = "{issuer}"
audience = ["{audience}"]
private_network = true

"#,
            issuer = self.cloud.issuer.url(),
            audience = names::AUDIENCE,
        );
        for database in self.databases {
            text += &self.listener(database);
            text += &self.cluster(database);
        }
        text + self.more
    }

    fn listener(&self, database: &ProxyDatabase<'_>) -> String {
        format!(
            "[[listen]]\n{protocol}addr = \"{listen}\"\ntls_cert_file = \"{cert}\"\ntls_key_file = \"{key}\"\n\n",
            protocol = match database.server {
                ProxyUpstream::Postgres(_) => "",
                ProxyUpstream::Mysql(_) => "protocol = \"mysql\"\n",
            },
            listen = database.listen,
            cert = self.certificate.cert.display(),
            key = self.certificate.key.display(),
        )
    }

    fn cluster(&self, database: &ProxyDatabase<'_>) -> String {
        let (name, engine, endpoint, resource, hostaddr) = match database.server {
            ProxyUpstream::Postgres(server) => {
                (names::DATABASE, "", names::ENDPOINT, names::RESOURCE_ID, server.addr())
            }
            ProxyUpstream::Mysql(server) => (
                "shop",
                "engine = \"mysql\"\n",
                names::MYSQL_ENDPOINT,
                names::MYSQL_RESOURCE_ID,
                server.addr(),
            ),
        };
        format!(
            r#"[[cluster]]
name = "{name}"
{engine}endpoint = "{endpoint}"
hostaddr = "{hostaddr}"
region = "{region}"
role_arn = "{role}"
resource_id = "{resource}"
ca_file = "{ca}"
sts_endpoint_url = "{sts}"

"#,
            region = names::REGION,
            role = database.role_arn,
            ca = database.ca.display(),
            sts = self.cloud.sts.url(),
        )
    }
}
