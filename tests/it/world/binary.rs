//! The binary as a process of its own, for what one process has but once: descriptors, memory, standard error.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use tempfile::TempDir;

use super::admin::{get, until};
use super::process::TestProcess;
use super::raw::PATIENCE;
use super::{ErrorFields, RawClient, World};

/// Receiver of a service's notifications, in the place of systemd.
pub(crate) struct NotifySocket(UnixDatagram);

impl NotifySocket {
    /// Listens at `path`, which is for the service's `NOTIFY_SOCKET`.
    pub(crate) fn at(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(socket)
    }

    /// The next notification.
    pub(crate) fn next(&self) -> String {
        let mut state = [0; 512];
        loop {
            match self.0.recv(&mut state) {
                Ok(read) => return String::from_utf8_lossy(&state[..read]).into_owned(),
                // A wait with a limit is not taken up again by the system when a child of another test has ended.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("the service says nothing: {error}"),
            }
        }
    }

    /// The port of its first listener, from what it says when it is ready.
    pub(crate) fn port(&self) -> u16 {
        let state = self.next();
        assert!(state.contains("READY=1"), "{state}");
        let behind = state.split("127.0.0.1:").nth(1).unwrap();
        behind.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
    }
}

/// The binary with a world's configuration. It does not outlive the test.
pub(crate) struct ProxyProcess {
    service: TestProcess,
    pub(crate) port: u16,
    folder: TempDir,
    notified: NotifySocket,
    admin: OnceLock<SocketAddr>,
}

/// The way in which a binary is started.
pub(crate) struct Launch {
    /// Lines behind the world's configuration.
    pub(crate) config: String,
    pub(crate) args: Vec<&'static str>,
    /// Standard error; the file `log` in the binary's folder when absent.
    pub(crate) stderr: Option<Stdio>,
    /// A shell command that runs the program in `"$@"`, in the binary's folder, with `exec`.
    pub(crate) shell: Option<String>,
}

impl Launch {
    /// As a service is started.
    pub(crate) fn usual() -> Self {
        Self { config: String::new(), args: Vec::new(), stderr: None, shell: None }
    }

    fn spawn(self, world: &World) -> (TestProcess, TempDir, NotifySocket) {
        let folder = TempDir::new().unwrap();
        let notified = NotifySocket::at(&folder.path().join("notify"));
        let config = folder.path().join("proxy.toml");
        let text = std::fs::read_to_string(world.config_file()).unwrap();
        std::fs::write(&config, format!("{text}\n{}", self.config)).unwrap();
        let program = env!("CARGO_BIN_EXE_pgpassport");
        let mut command = match self.shell {
            Some(shell) => {
                let mut command = Command::new("unshare");
                command.args(["--mount", "sh", "-c", &shell, "sh", program]);
                command
            }
            None => Command::new(program),
        };
        command.args(["serve", "--config"]).arg(&config).args(self.args);
        command.current_dir(folder.path()).env("NOTIFY_SOCKET", folder.path().join("notify"));
        let log = || File::create(folder.path().join("log")).unwrap().into();
        command.stderr(self.stderr.unwrap_or_else(log));
        (TestProcess::spawn(&mut command), folder, notified)
    }
}

impl ProxyProcess {
    /// Starts it, and waits until it says that it is ready.
    pub(crate) fn start(world: &World) -> Self {
        Self::launch(world, Launch::usual())
    }

    /// As [`ProxyProcess::start`], in the way of `launch`.
    pub(crate) fn launch(world: &World, launch: Launch) -> Self {
        let (service, folder, notified) = launch.spawn(world);
        Self { service, port: notified.port(), folder, notified, admin: OnceLock::new() }
    }

    /// The exit code of one that cannot start.
    pub(crate) async fn exit_code(world: &World, launch: Launch) -> Option<i32> {
        let (service, folder, notified) = launch.spawn(world);
        Self { service, port: 0, folder, notified, admin: OnceLock::new() }.ended().await
    }

    /// Its next notification of the service manager.
    pub(crate) fn tells(&self) -> String {
        self.notified.next()
    }

    pub(crate) fn signal(&self, name: &str) {
        self.service.signal(name);
    }

    /// Its exit code, once it has ended; `None` when a signal has killed it.
    pub(crate) async fn ended(&mut self) -> Option<i32> {
        until("the process ends", async || !self.runs()).await;
        self.service.exit_code()
    }

    /// A file of its folder, as the process sees it: it may have mounts of its own.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        let folder = self.folder.path().strip_prefix("/").unwrap();
        self.proc("root").join(folder).join(name)
    }

    /// Address of health and metrics: the other one of the ports that it listens on.
    pub(crate) fn admin_addr(&self) -> SocketAddr {
        *self.admin.get_or_init(|| self.find_admin_addr())
    }

    fn find_admin_addr(&self) -> SocketAddr {
        let sockets: BTreeSet<String> = std::fs::read_dir(self.proc("fd"))
            .unwrap()
            .filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok())
            .filter_map(|to| Some(to.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
            .collect();
        let table = std::fs::read_to_string(self.proc("net/tcp")).unwrap();
        let listening =
            table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).filter(|fields| {
                fields.get(3) == Some(&"0A") && fields.get(9).is_some_and(|inode| sockets.contains(*inode))
            });
        let ports =
            listening.map(|fields| u16::from_str_radix(fields[1].split_once(':').unwrap().1, 16).unwrap());
        let port = ports.into_iter().find(|port| *port != self.port).expect("a port of [admin]");
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    /// The value of one series, as it stands in the text before it.
    pub(crate) async fn metric(&self, series: &str) -> usize {
        let (_, text) = get(self.admin_addr(), "/metrics").await;
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no series {series} in\n{text}")).parse().unwrap()
    }

    /// From now on it may open descriptors below this number.
    pub(crate) fn allow(&self, descriptors: usize) {
        let (pid, limit) = (format!("--pid={}", self.service.0.id()), format!("--nofile={descriptors}:"));
        assert!(Command::new("prlimit").args([pid, limit]).status().unwrap().success());
    }

    /// From now on it may open so many more.
    pub(crate) fn allow_more(&self, descriptors: usize) {
        let open = std::fs::read_dir(self.proc("fd")).unwrap();
        let open: BTreeSet<usize> =
            open.map(|fd| fd.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect();
        let free = (0_usize..).filter(|number| !open.contains(number)).nth(descriptors - 1);
        self.allow(free.unwrap() + 1);
    }

    fn proc(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.service.0.id()))
    }

    /// From now on it, which runs as `user`, gets new threads while that user has fewer than this.
    pub(crate) fn allow_threads(&self, user: u32, threads: usize) {
        let (pid, limit) = (format!("--pid={}", self.service.0.id()), format!("--nproc={threads}:"));
        let mut command = Command::new("setpriv");
        command
            .args([format!("--reuid={user}"), format!("--regid={user}")])
            .args(["--clear-groups", "prlimit"]);
        assert!(command.args([pid, limit]).status().unwrap().success());
    }

    /// Number of its threads.
    pub(crate) fn threads(&self) -> usize {
        std::fs::read_dir(self.proc("task")).unwrap().count()
    }

    /// Its resident memory in KiB.
    pub(crate) fn resident(&self) -> usize {
        let status = std::fs::read_to_string(self.proc("status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Its log, also when it has ended.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// Number of lines with `text` in its log.
    pub(crate) fn logged(&self, text: &str) -> usize {
        self.log().lines().filter(|line| line.contains(text)).count()
    }

    pub(crate) fn runs(&mut self) -> bool {
        self.service.is_running()
    }

    /// A login of alice.
    pub(crate) async fn login(&self, world: &World) -> Result<RawClient, ErrorFields> {
        self.login_with(world, "alice", &world.token("alice")).await
    }

    /// A login with a token.
    pub(crate) async fn login_with(
        &self,
        world: &World,
        user: &str,
        token: &str,
    ) -> Result<RawClient, ErrorFields> {
        let client = RawClient::connect(self.port, world.listener_ca()).await;
        client.login(user, Some("app"), token).await.map(|(client, _)| client)
    }
}
