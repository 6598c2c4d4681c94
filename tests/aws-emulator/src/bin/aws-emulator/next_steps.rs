//! The commands that the demo leaves to its reader. The demo runs each of them before it prints them.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use aws_emulator::files::write_private;
use aws_emulator::{http, names};

use crate::demo::{DemoStage, fetch_token, target};
use crate::mysql;
use crate::screen::DemoScreen;

const LOGIN: &str = "pgpassport login --no-browser";
const AGENT: &str = "pgpassport connect --socket agent";
const WHO: &str = "select current_user;\n";

/// A command line of the demo's shell.
struct DemoStep {
    about: &'static str,
    line: String,
    /// Standard input of the trial run.
    input: &'static str,
    /// Text that its output must have.
    expected: &'static str,
}

impl DemoStep {
    fn new(
        about: &'static str,
        line: impl Into<String>,
        input: &'static str,
        expected: &'static str,
    ) -> Self {
        Self { about, line: line.into(), input, expected }
    }
}

/// The commands, for people and for operators.
pub(crate) struct NextSteps {
    people: Vec<DemoStep>,
    operators: Vec<DemoStep>,
    admin: SocketAddr,
}

impl NextSteps {
    /// Writes the files of the commands and runs each command once.
    pub(crate) fn tried(stage: &DemoStage, binary: &Path, screen: &DemoScreen) -> Result<Self, String> {
        write_files(stage, binary)?;
        let steps = Self { people: for_people(stage), operators: for_operators(), admin: stage.admin };
        screen.heading("the commands to paste, each run once");
        let agent = DemoAgent::start(stage)?;
        for step in steps.people.iter().chain(&steps.operators) {
            run(stage, step)?;
        }
        drop(agent);
        for page in steps.pages() {
            look_at(&page)?;
        }
        let count = steps.people.len() + steps.operators.len();
        screen.good(&format!("{count} commands and the agent work; so do metrics and status page"));
        Ok(steps)
    }

    /// Prints the commands.
    pub(crate) fn show(&self, stage: &DemoStage, screen: &DemoScreen) {
        screen.heading("Next steps, in another terminal");
        screen.line(&format!("  . {}", quoted(&stage.dir.path().join("env"))));
        screen.heading("Sign in as alice, bob, or mallory, and connect");
        show_line(screen, LOGIN, "prints the page; without the option, a browser opens");
        let (agent, rest): (Vec<_>, Vec<_>) =
            self.people.iter().partition(|step| step.line.contains("agent"));
        for step in rest {
            show_line(screen, &step.line, step.about);
        }
        show_line(
            screen,
            &format!("{AGENT} &"),
            "the agent: every tool connects to its socket without a token",
        );
        for step in agent {
            show_line(screen, &step.line, step.about);
        }
        screen.heading("Operate the proxy");
        show_line(screen, "tail -f proxy.log", "the log, with a line for each login and refusal");
        for step in &self.operators {
            if !step.line.starts_with("tail") {
                show_line(screen, &step.line, step.about);
            }
        }
        for (name, page) in ["status page", "metrics"].iter().zip(self.pages()) {
            screen.fact(name, &page);
        }
        screen.heading("Ctrl-C stops everything.");
    }

    /// The status page and the metrics.
    fn pages(&self) -> [String; 2] {
        ["", "metrics"].map(|path| format!("http://{}/{path}", self.admin))
    }
}

fn for_people(stage: &DemoStage) -> Vec<DemoStep> {
    let mut steps = vec![
        DemoStep::new("psql with a fresh token", "pgpassport psql", WHO, "alice"),
        DemoStep::new("a token in a file, good for 15 minutes", "pgpassport token > alice.jwt", "", ""),
        DemoStep::new(
            "psql by a service file",
            "PGPASSWORD=$(cat alice.jwt) PGSERVICEFILE=pg_service.conf psql service=alice",
            WHO,
            "alice",
        ),
    ];
    if let Some(line) = mysql::line(stage) {
        steps.push(DemoStep::new("the other engine", line, "select current_user();\n", "alice"));
    }
    let through_agent = format!("psql -h \"$PWD/agent\" {}", names::DATABASE);
    steps.push(DemoStep::new("psql through the agent", through_agent, WHO, "alice"));
    steps
}

fn for_operators() -> Vec<DemoStep> {
    let doctor =
        format!("pgpassport doctor --config proxy.toml --cluster {} --token-file alice.jwt", names::DATABASE);
    vec![
        DemoStep::new("the log", "tail -n 5 proxy.log", "", "alice"),
        DemoStep::new("each step of a login, tested", doctor, "", ""),
        DemoStep::new(
            "the setup for AWS, database, and issuer",
            "pgpassport policy --config proxy.toml",
            "",
            "AssumeRole",
        ),
    ]
}

/// Writes alice's token, the service file, and the file with the shell's environment.
fn write_files(stage: &DemoStage, binary: &Path) -> Result<(), String> {
    let (folder, failed) = (stage.dir.path(), |error: std::io::Error| error.to_string());
    let token = fetch_token(&stage.cloud.issuer, "alice")?;
    write_private(&folder.join("alice.jwt"), &token).map_err(|error| error.to_string())?;
    let service = target(stage, "alice").replace(' ', "\n");
    std::fs::write(folder.join("pg_service.conf"), format!("[alice]\n{service}\n")).map_err(failed)?;
    let binary = std::path::absolute(binary).map_err(failed)?;
    let psql = stage.database.postgres.psql();
    let programs = [binary.as_path(), Path::new(psql.get_program())];
    let mut path = String::new();
    for program in programs.iter().filter_map(|program| program.parent()).filter(|dir| dir.is_absolute()) {
        let _ = write!(path, "{}:", quoted(program)); // a String takes everything
    }
    let env = format!(
        "cd {folder}\nexport PATH={path}\"$PATH\"\n\
         export XDG_CONFIG_HOME=\"$PWD/config\" XDG_CACHE_HOME=\"$PWD/cache\"\n",
        folder = quoted(folder),
    );
    std::fs::write(folder.join("env"), env).map_err(failed)
}

/// A path as a word of the shell.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte);
    if text.bytes().all(plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

/// A shell that has read the demo's environment and runs `line`.
fn shell(stage: &DemoStage, line: &str) -> Command {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!(". {}\n{line}", quoted(&stage.dir.path().join("env"))));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            shell.env_remove(name);
        }
    }
    // Settings in the reader's home folder play no part in the trial run.
    shell.env("HOME", stage.dir.path()).env("PGCONNECT_TIMEOUT", "10");
    shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    shell
}

/// Runs a command line, which must succeed and print the expected text.
fn run(stage: &DemoStage, step: &DemoStep) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("`{}` cannot be run: {error}", step.line);
    let mut child = shell(stage, &step.line).stdin(Stdio::piped()).spawn().map_err(failed)?;
    if let Some(mut input) = child.stdin.take() {
        let _ = input.write_all(step.input.as_bytes()); // a command that has ended already tells why below
    }
    let output = child.wait_with_output().map_err(failed)?;
    let printed = String::from_utf8_lossy(&output.stdout);
    if output.status.success() && printed.contains(step.expected) {
        return Ok(());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(format!("`{}` ended with {}:\n{printed}{errors}", step.line, output.status))
}

/// Gets a page of the admin address.
fn look_at(page: &str) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("no runtime: {error}"))?;
    runtime
        .block_on(http::get(page))
        .map(|_| ())
        .ok_or_else(|| format!("{page} did not answer with status 200"))
}

fn show_line(screen: &DemoScreen, line: &str, about: &str) {
    screen.line(&format!("  {line}\n      {about}"));
}

/// The running agent of the trial run.
struct DemoAgent(Child);

impl DemoAgent {
    /// Starts the agent and waits until it says where it listens.
    fn start(stage: &DemoStage) -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("`{AGENT}` cannot be run: {error}");
        let mut child =
            shell(stage, &format!("exec {AGENT}")).stderr(Stdio::inherit()).spawn().map_err(failed)?;
        let output = child.stdout.take();
        let agent = Self(child);
        let lines = BufReader::new(output.ok_or("no standard output")?).lines();
        let listens = lines.map_while(Result::ok).any(|line| line.contains("psql -h"));
        if listens { Ok(agent) } else { Err(format!("`{AGENT}` ended before it listened")) }
    }
}

impl Drop for DemoAgent {
    fn drop(&mut self) {
        // SIGTERM, so that the agent removes its socket.
        let ended = Command::new("kill").arg(self.0.id().to_string()).stderr(Stdio::null()).status();
        if !ended.is_ok_and(|status| status.success()) {
            let _ = self.0.kill();
        }
        let _ = self.0.wait();
    }
}
