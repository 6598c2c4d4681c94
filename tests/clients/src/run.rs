//! Runs one client program: gives it its environment, does what it requests, and records its report.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use crate::clients::ClientProgram;
use crate::report::{ContractItem, MatrixReport};
use crate::world::{ClientEnvironment, MatrixWorld};

/// Time limit of a client for all its checks; the slowest needs a tenth of it.
const PATIENCE: Duration = Duration::from_mins(2);

/// Interval of checks for an interruption of the run.
const GLANCE: Duration = Duration::from_millis(100);

/// Runs a client to its end.
pub(crate) fn run(world: &MatrixWorld, client: &ClientProgram, stop: &AtomicBool) -> MatrixReport {
    let mut report = MatrixReport::new(world.protocol);
    if !stop.load(Ordering::Relaxed)
        && let Err(trouble) = attempt(world, client, stop, &mut report)
    {
        report.troubles.push(trouble);
    }
    report.close();
    report
}

fn attempt(
    world: &MatrixWorld,
    client: &ClientProgram,
    stop: &AtomicBool,
    report: &mut MatrixReport,
) -> Result<(), String> {
    let mut seat = ClientEnvironment::start(world, &client.folder())?;
    let errors = seat.dir().join("stderr");
    let mut child = spawn(world, client, &seat, File::create(&errors).map_err(|error| error.to_string())?)?;
    let pid = child.id();
    let (ended, end) = channel::<()>();
    let status = std::thread::scope(|scope| {
        scope.spawn(move || {
            let began = Instant::now();
            while end.recv_timeout(GLANCE) == Err(RecvTimeoutError::Timeout) {
                if began.elapsed() > PATIENCE || stop.load(Ordering::Relaxed) {
                    // The group: a program may have started others, which hold its output open.
                    let group = format!("-{pid}");
                    let _ = Command::new("kill").args(["-s", "KILL", "--", &group]).status();
                    return;
                }
            }
        });
        let told = converse(&mut child, &mut seat, report);
        let status = child.wait();
        drop(ended);
        told.and_then(|()| status.map_err(|error| error.to_string()))
    })?;
    if !status.success() {
        let said = std::fs::read_to_string(&errors).unwrap_or_default();
        let lines: Vec<&str> = said.lines().collect();
        let last = lines.get(lines.len().saturating_sub(12)..).unwrap_or_default().join("\n         ");
        report.troubles.push(format!("the program ended with {status}:\n         {last}"));
    }
    for token in seat.leaks()? {
        report.troubles.push(format!("the proxy's log holds a part of {token}"));
    }
    Ok(())
}

fn spawn(
    world: &MatrixWorld,
    client: &ClientProgram,
    seat: &ClientEnvironment<'_>,
    errors: File,
) -> Result<Child, String> {
    let words = client.words(world);
    let (program, arguments) = words.split_first().ok_or("a client without a program")?;
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ["PG", "MYSQL_", "MARIADB_", "LIBMYSQL_"].iter().any(|prefix| text.starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    command
        .args(arguments)
        .envs(seat.environment())
        // Nobody's own certificates, passwords and settings may play a part.
        .env("HOME", seat.dir())
        .env("LC_ALL", "C.UTF-8")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .current_dir(seat.dir())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(errors)
        .process_group(0)
        .spawn()
        .map_err(|error| format!("{program}: {error}"))
}

/// Reads the program's lines until its end, and answers its requests with a line.
fn converse(
    child: &mut Child,
    seat: &mut ClientEnvironment<'_>,
    report: &mut MatrixReport,
) -> Result<(), String> {
    let mut answers = child.stdin.take().ok_or("no standard input")?;
    let lines = child.stdout.take().ok_or("no standard output")?;
    for line in BufReader::new(lines).lines() {
        let line = line.map_err(|error| format!("reading the program's output: {error}"))?;
        let done = match report.take(&line) {
            ContractItem::Nothing => continue,
            ContractItem::Sleeping => {
                if !seat.world().wait_for_query(&seat.sleep_sql()) {
                    report.troubles.push("the query to be cancelled does not run".to_owned());
                }
                Ok(())
            }
            ContractItem::Restart => seat.restart(),
        };
        // A program that has ended is told nothing any more; its exit code says why.
        let _ = answers.write_all(b"done\n");
        done?;
    }
    Ok(())
}
