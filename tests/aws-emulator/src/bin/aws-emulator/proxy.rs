//! The product as a child process: its configuration, its readiness, its end.

use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use aws_emulator::certs::CertFiles;
use aws_emulator::files::write_public;
use aws_emulator::{Cloud, Database, names};

use crate::interrupt::Interrupt;

/// How long the proxy may take to become ready.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often its end is looked for while its readiness is waited for.
const GLANCE: Duration = Duration::from_millis(100);
/// How long it may take to stop.
const FAREWELL: Duration = Duration::from_secs(5);

/// A running proxy. It stops when it is dropped.
pub(crate) struct Proxy {
    child: Child,
    log: PathBuf,
    addr: SocketAddr,
}

impl Proxy {
    /// Starts the proxy and waits until it says that it is ready (the protocol of systemd's `sd_notify`).
    pub(crate) fn start(
        binary: &Path,
        config: &Path,
        dir: &Path,
        interrupt: &Interrupt,
    ) -> Result<Self, String> {
        let socket = dir.join("notify");
        let notices =
            UnixDatagram::bind(&socket).map_err(|error| format!("{}: {error}", socket.display()))?;
        notices.set_read_timeout(Some(GLANCE)).map_err(|error| format!("the notice socket: {error}"))?;
        let log = dir.join("proxy.log");
        let output = || -> Result<Stdio, String> {
            let file = File::options().create(true).append(true).open(&log);
            file.map(Stdio::from).map_err(|error| format!("{}: {error}", log.display()))
        };
        let child = Command::new(binary)
            .args(["serve", "--config"])
            .arg(config)
            .env("NOTIFY_SOCKET", &socket)
            .stdin(Stdio::null())
            .stdout(output()?)
            .stderr(output()?)
            // Ctrl-C in a terminal is for the demo, which then stops the proxy.
            .process_group(0)
            .spawn()
            .map_err(|error| format!("{} cannot be started: {error}", binary.display()))?;
        let mut proxy = Self { child, log, addr: SocketAddr::from(([127, 0, 0, 1], 0)) };
        proxy.addr = proxy.ready(&notices, interrupt)?;
        Ok(proxy)
    }

    /// Where it listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The last lines of its log.
    pub(crate) fn log_tail(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines.get(lines.len().saturating_sub(20)..).unwrap_or_default().join("\n")
    }

    fn ready(&mut self, notices: &UnixDatagram, interrupt: &Interrupt) -> Result<SocketAddr, String> {
        let began = Instant::now();
        let mut heard = String::new();
        let mut buffer = [0; 4096];
        while began.elapsed() < PATIENCE {
            interrupt.check()?;
            if let Ok(length) = notices.recv(&mut buffer) {
                heard += &String::from_utf8_lossy(buffer.get(..length).unwrap_or_default());
                heard.push('\n');
            }
            if heard.lines().any(|line| line == "READY=1") {
                let addr = heard
                    .lines()
                    .find_map(|line| line.strip_prefix("STATUS=listening on ")?.trim().parse().ok());
                return addr
                    .ok_or_else(|| format!("the proxy is ready but does not say where; it said: {heard}"));
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!(
                    "the proxy ended ({status}) instead of serving; its log:\n{}",
                    self.log_tail()
                ));
            }
        }
        Err(format!("the proxy was not ready after {} s; its log:\n{}", PATIENCE.as_secs(), self.log_tail()))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let (ended, end) = std::sync::mpsc::channel::<()>();
        let pid = self.child.id().to_string();
        // SIGQUIT ends open sessions too, with a goodbye; the proxy is made to end if it takes too long over that.
        let _ = Command::new("kill").args(["-QUIT", &pid]).stderr(Stdio::null()).status();
        let watch = std::thread::spawn(move || {
            if end.recv_timeout(FAREWELL) == Err(RecvTimeoutError::Timeout) {
                let _ = Command::new("kill").args(["-KILL", &pid]).stderr(Stdio::null()).status();
            }
        });
        let _ = self.child.wait();
        drop(ended);
        let _ = watch.join();
    }
}

/// Writes the proxy's configuration.
pub(crate) fn configure(
    dir: &Path,
    listen: &CertFiles,
    ca: &Path,
    cloud: &Cloud,
    database: &Database,
) -> Result<PathBuf, String> {
    let path = dir.join("proxy.toml");
    let text = format!(
        r#"[listen]
addr = "127.0.0.1:0"
tls_cert_file = "{cert}"
tls_key_file = "{key}"

[[issuer]]
name = "demo"
url = "{issuer}"
audience = ["{audience}"]
private_network = true

[[cluster]]
name = "{database}"
endpoint = "{endpoint}"
hostaddr = "{hostaddr}"
region = "{region}"
role_arn = "{role}"
resource_id = "{resource}"
ca_file = "{ca}"
sts_endpoint_url = "{sts}"
"#,
        cert = listen.cert.display(),
        key = listen.key.display(),
        issuer = cloud.issuer.url(),
        audience = names::AUDIENCE,
        database = names::DATABASE,
        endpoint = names::ENDPOINT,
        hostaddr = database.postgres.addr(),
        region = names::REGION,
        role = names::ROLE_ARN,
        resource = names::RESOURCE_ID,
        ca = ca.display(),
        sts = cloud.sts.url(),
    );
    write_public(&path, &text).map_err(|error| error.to_string())?;
    Ok(path)
}
