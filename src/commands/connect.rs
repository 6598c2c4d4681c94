//! `pgpassport connect`: the local agent of a profile, in the foreground or in the background.

use std::io::{self, IsTerminal, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use nix::unistd::{dup2_stderr, dup2_stdout, setsid};
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::agent_tokens::AgentTokens;
use super::client::{self, ProfileArgs, told};
use crate::agent::local_password::LocalPassword;
use crate::agent::sockets::{AgentSockets, MYSQL_SOCKET_NAME, SOCKET_NAME};
use crate::agent::{Agent, ProxyAddress};
use crate::config::DatabaseProtocol;
use crate::lifecycle;
use crate::login::Profile;
use crate::login::folders::ClientFolders;
use crate::net::resolver::Resolver;

/// Longest wait for a request to the issuer that is under way when the agent ends.
const SETTLE_TIME: Duration = Duration::from_secs(10);

/// The agent of one profile.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line")]
pub struct ConnectArgs {
    #[command(flatten)]
    profile: ProfileArgs,
    /// Listen on this loopback address, and ask for the local password there [without a value: 127.0.0.1 and the
    /// profile's `agent_port`].
    #[arg(long, value_name = "ADDR:PORT", num_args = 0..=1)]
    #[expect(clippy::option_option, reason = "clap: absent, without a value, with one")]
    listen: Option<Option<SocketAddr>>,
    /// Listen on a Unix socket in this folder, or in one of the agent's own; the default without --listen.
    #[arg(long, value_name = "FOLDER", num_args = 0..=1)]
    #[expect(clippy::option_option, reason = "clap: absent, without a value, with one")]
    socket: Option<Option<PathBuf>>,
    /// Open a browser to sign in when a tool connects and nobody is signed in. The tool waits for it.
    #[arg(long)]
    interactive: bool,
    /// Return as soon as the agent listens; it goes on without the terminal.
    #[arg(long)]
    background: bool,
    /// Print the local password of the profile and end.
    #[arg(long, conflicts_with_all = ["listen", "socket", "interactive", "background"])]
    show_password: bool,
    /// The process that --background has started.
    #[arg(long, hide = true, conflicts_with = "background")]
    detached: bool,
}

impl ConnectArgs {
    /// Runs the agent until a signal ends it.
    pub fn run(self) -> anyhow::Result<()> {
        let folders = ClientFolders::of_environment().map_err(told)?;
        let profile = self.profile.select(&folders).map_err(told)?;
        if self.show_password {
            let password = local_password(&folders, &profile)?;
            return Ok(writeln!(io::stdout(), "{}", password.expose())?);
        }
        if self.background {
            return self.detach(&profile);
        }
        if self.detached {
            setsid().context("no session of its own")?;
        }
        let runtime = Builder::new_current_thread().max_blocking_threads(1).enable_all().build()?;
        runtime.block_on(self.serve(&folders, profile))
    }

    async fn serve(self, folders: &ClientFolders, profile: Profile) -> anyhow::Result<()> {
        let stop = CancellationToken::new();
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let (endpoint, ca_file) = (profile.proxy.clone(), profile.ca_file.as_deref());
        let proxy = match profile.protocol {
            DatabaseProtocol::PostgreSql => ProxyAddress::new(endpoint, ca_file, Resolver::system()),
            DatabaseProtocol::MySql => ProxyAddress::for_mysql(endpoint, ca_file, Resolver::system()),
        };
        let proxy = proxy.with_context(|| format!("profile {}", profile.name))?;
        let tokens = client::open(profile.clone(), folders).map_err(told)?;
        let tokens = AgentTokens::new(tokens, self.interactive);
        let databases = profile.databases.iter().map(|name| name.as_str().to_owned()).collect();
        let agent = Agent::new(profile.name.clone(), proxy, tokens.provider(), databases);
        let agent = match profile.protocol {
            DatabaseProtocol::PostgreSql => agent,
            DatabaseProtocol::MySql => agent.speaking_mysql(),
        };
        let password = local_password(folders, &profile)?;
        let agent = agent.with_password(&password);

        let (sockets, welcome) = self.listen(folders, &profile, &password).await?;
        drop(password);
        let _ = io::stdout().write_all(welcome.concat().as_bytes()); // a closed pipe is no reason to end
        lifecycle::ready("listening");
        if self.detached {
            leave_terminal()?;
        }
        let serving = agent.serve(sockets, stop.clone());
        tokio::select! {
            () = serving => {}
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        let _ = timeout(SETTLE_TIME, tokens.settled()).await; // after that the sign-in may be lost
        Ok(())
    }

    /// Listens, and says where.
    async fn listen(
        &self,
        folders: &ClientFolders,
        profile: &Profile,
        password: &LocalPassword,
    ) -> anyhow::Result<(AgentSockets, Vec<String>)> {
        let mut sockets = AgentSockets::default();
        let mut welcome =
            vec![format!("pgpassport agent of profile {}, proxy {}\n", profile.name, profile.proxy)];
        let database = profile.databases.first().map_or("DATABASE", |name| name.as_str());
        if let Some(folder) = self.socket.clone().or(self.listen.is_none().then_some(None)) {
            let folder = folder.unwrap_or_else(|| folders.runtime.join(format!("agent-{}", profile.name)));
            let folder = std::path::absolute(folder)?;
            welcome.push(match profile.protocol {
                DatabaseProtocol::PostgreSql => {
                    let folder = sockets.listen_unix(&folder, SOCKET_NAME)?;
                    format!("  psql     psql -h {} {database}\n", folder.display())
                }
                DatabaseProtocol::MySql => {
                    let path = sockets.listen_unix(&folder, MYSQL_SOCKET_NAME)?.join(MYSQL_SOCKET_NAME);
                    format!("  mysql    mysql --no-defaults -S {} {database}\n", path.display())
                }
            });
        }
        if let Some(addr) = self.listen {
            let fixed = || SocketAddr::from((Ipv4Addr::LOCALHOST, profile.agent_port));
            let addr = sockets.listen_tcp(addr.unwrap_or_else(fixed)).await?;
            welcome.push(format!(
                "  tools    host {}, port {}, database {database}, user token, without SSL\n",
                addr.ip(),
                addr.port()
            ));
            // A log of the service manager is no place for it.
            welcome.push(if io::stdout().is_terminal() {
                format!("  password {}\n", password.expose())
            } else {
                format!("  password `pgpassport connect --show-password --profile {}`\n", profile.name)
            });
        }
        Ok((sockets, welcome))
    }

    /// Starts the same command as a process of its own, and waits until it listens or fails.
    fn detach(&self, profile: &Profile) -> anyhow::Result<()> {
        let mut agent = Command::new(std::env::current_exe().context("the program's own path")?);
        agent.args(["connect", "--detached", "--profile", &profile.name]);
        match self.listen {
            None => {}
            Some(None) => {
                agent.arg("--listen");
            }
            Some(Some(addr)) => {
                agent.arg(format!("--listen={addr}"));
            }
        }
        if self.interactive {
            agent.arg("--interactive");
        }
        match &self.socket {
            None => {}
            Some(None) => {
                agent.arg("--socket");
            }
            Some(Some(folder)) => {
                agent.arg("--socket").arg(std::path::absolute(folder)?);
            }
        }
        agent.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).current_dir("/");
        let mut agent = agent.spawn().context("the agent cannot be started")?;
        let (mut welcome, mut complaint) = (String::new(), String::new());
        // Both end when the agent leaves the terminal, or dies.
        agent.stdout.take().context("no output")?.read_to_string(&mut welcome)?;
        agent.stderr.take().context("no output")?.read_to_string(&mut complaint)?;
        if !complaint.is_empty() || welcome.is_empty() {
            let status = agent.wait()?;
            let complaint = complaint.trim_end();
            let complaint = complaint.strip_prefix("pgpassport: ").unwrap_or(complaint);
            bail!("the agent has not started ({status}): {complaint}");
        }
        writeln!(io::stdout(), "{welcome}  end      kill {}", agent.id())?;
        Ok(())
    }
}

/// Further words have no reader.
fn leave_terminal() -> anyhow::Result<()> {
    let nowhere = std::fs::OpenOptions::new().write(true).open("/dev/null")?;
    dup2_stdout(&nowhere)?;
    dup2_stderr(&nowhere)?;
    Ok(())
}

/// Kept beside client.toml, since folders for sockets and caches are emptied by the system.
fn local_password(folders: &ClientFolders, profile: &Profile) -> anyhow::Result<LocalPassword> {
    Ok(LocalPassword::of(&folders.config.join("agent"), &profile.name)?)
}
