//! The binary as a process of its own, for what one process has but once: descriptors and memory.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use tempfile::TempDir;

use super::raw::PATIENCE;
use super::{ErrorFields, RawClient, World};

/// Where a service says how it is, in the place of systemd.
pub(crate) struct Notified(UnixDatagram);

impl Notified {
    /// Listens at `path`, which is for the service's `NOTIFY_SOCKET`.
    pub(crate) fn at(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(socket)
    }

    /// What it says next.
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
        state.split("127.0.0.1:").nth(1).unwrap().trim().parse().unwrap()
    }
}

/// The binary with a world's configuration. It does not outlive the test.
pub(crate) struct Binary {
    service: Child,
    pub(crate) port: u16,
    folder: TempDir,
}

impl Drop for Binary {
    fn drop(&mut self) {
        let _ = self.service.kill();
        let _ = self.service.wait();
    }
}

impl Binary {
    /// Starts it, and waits until it says that it is ready.
    pub(crate) fn start(world: &World) -> Self {
        let folder = TempDir::new().unwrap();
        let notified = Notified::at(&folder.path().join("notify"));
        let service = Command::new(env!("CARGO_BIN_EXE_pgpassport"))
            .args(["serve", "--config"])
            .arg(world.config_file())
            .env("NOTIFY_SOCKET", folder.path().join("notify"))
            .stderr(std::fs::File::create(folder.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        Self { service, port: notified.port(), folder }
    }

    /// From now on it may open descriptors below this number.
    pub(crate) fn allow(&self, descriptors: usize) {
        let (pid, limit) = (format!("--pid={}", self.service.id()), format!("--nofile={descriptors}:"));
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
        PathBuf::from(format!("/proc/{}/{name}", self.service.id()))
    }

    /// Its resident memory in KiB.
    pub(crate) fn resident(&self) -> usize {
        let status = std::fs::read_to_string(self.proc("status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// How many lines of its log have `text`.
    pub(crate) fn logged(&self, text: &str) -> usize {
        let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap();
        log.lines().filter(|line| line.contains(text)).count()
    }

    pub(crate) fn runs(&mut self) -> bool {
        self.service.try_wait().unwrap().is_none()
    }

    /// A login of alice.
    pub(crate) async fn login(&self, world: &World) -> Result<RawClient, ErrorFields> {
        let client = RawClient::connect(self.port, world.listener_ca()).await;
        client.login("alice", Some("app"), &world.token("alice")).await.map(|(client, _)| client)
    }
}
