//! The end of the demo: alice signs in with `pgpassport login`, and psql needs no token of hers any more.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use aws_emulator::{http, names};

use crate::demo::DemoStage;
use crate::screen::DemoScreen;

/// Signs alice in, with requests in the place of a browser, and asks the database who she is.
pub(crate) fn tell(stage: &DemoStage, binary: &Path, screen: &DemoScreen) -> Result<(), String> {
    screen.heading("alice signs in once, and psql gets its tokens by itself");
    write_profile(stage)?;
    let said = log_in(stage, binary)?;
    screen.fact(
        "pgpassport login",
        said.lines().find(|line| line.starts_with("Signed in")).unwrap_or_default(),
    );
    let args = ["psql", names::DATABASE, "--", "-XAt", "-c", "select current_user"];
    let output = client(stage, binary, &args).output().map_err(|error| error.to_string())?;
    let user = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    screen.fact("pgpassport psql", &format!("current_user is {user}"));
    if user != "alice" {
        return Err(format!("pgpassport psql failed: {}", String::from_utf8_lossy(&output.stderr)));
    }
    screen.good("no token in any hand, argument, or tool");
    Ok(())
}

fn folders(stage: &DemoStage) -> (PathBuf, PathBuf) {
    (stage.dir.path().join("config"), stage.dir.path().join("cache"))
}

fn write_profile(stage: &DemoStage) -> Result<(), String> {
    let folder = folders(stage).0.join("pgpassport");
    let profile = format!(
        "[[profile]]\nname = \"demo\"\nissuer = \"{}\"\nprivate_network = true\nclient_id = \"pgpassport\"\n\
         proxy = \"localhost:{}\"\nca_file = \"{}\"\ndatabases = [\"{}\"]\n",
        stage.cloud.issuer.url(),
        stage.proxy.addr().port(),
        stage.ca.display(),
        names::DATABASE
    );
    let written =
        std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(folder.join("client.toml"), profile));
    written.map_err(|error| format!("{}: {error}", folder.display()))
}

/// The binary with alice's folders, and psql where the demo found it.
fn client(stage: &DemoStage, binary: &Path, args: &[&str]) -> Command {
    let (config, cache) = folders(stage);
    let psql = stage.database.postgres.psql();
    let found = Path::new(psql.get_program()).parent().map(Path::to_owned).unwrap_or_default();
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new(binary);
    command.args(args).env("XDG_CONFIG_HOME", config).env("XDG_CACHE_HOME", cache).stdin(Stdio::null());
    command.env("PATH", format!("{}:{path}", found.display())).env_remove("PGPASSPORT_PROFILE");
    command
}

/// Runs `pgpassport login`; its words.
fn log_in(stage: &DemoStage, binary: &Path) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("pgpassport login cannot be run: {error}");
    let mut login = client(stage, binary, &["login", "--no-browser"]);
    let mut login = login.stderr(Stdio::piped()).spawn().map_err(failed)?;
    let mut lines = BufReader::new(login.stderr.take().ok_or("no standard error")?);
    let mut said = String::new();
    let page = loop {
        let from = said.len();
        if lines.read_line(&mut said).map_err(failed)? == 0 {
            return Err(format!("pgpassport login printed no page: {said}"));
        }
        if let Some(page) = said.get(from..).filter(|line| line.starts_with("http")) {
            break page.trim_end().to_owned();
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let status = runtime.block_on(http::browse_sign_in(&page, "alice"));
    lines.read_to_string(&mut said).map_err(failed)?;
    let ended = login.wait().map_err(failed)?;
    if status != Some(200) || !ended.success() {
        return Err(format!("pgpassport login failed: {said}"));
    }
    Ok(said)
}
