//! Drivers of other languages, which `make clients` installs. A test that needs one says so and passes without it.

use std::path::{Path, PathBuf};

use tokio::process::Command;

fn installed(paths: &[&str]) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let found = paths.iter().map(|path| root.join(path)).find(|path| path.exists());
    if found.is_none() {
        eprintln!("skipped: {} is not installed (make clients)", paths[0]);
    }
    found
}

/// Python with the drivers, `SQLAlchemy` and Django.
pub(crate) fn python() -> Option<Command> {
    installed(&[".tools/clients/venv/bin/python"]).map(Command::new)
}

/// node, for programs in `folder`.
pub(crate) fn node(folder: &Path) -> Option<Command> {
    let modules = installed(&[".tools/clients/node/node_modules"])?;
    std::os::unix::fs::symlink(modules, folder.join("node_modules")).unwrap();
    Some(Command::new("node"))
}

/// The class path of pgjdbc.
pub(crate) fn pgjdbc() -> Option<String> {
    let jar = installed(&[
        ".tools/clients/trixie/usr/share/java/postgresql.jar",
        ".tools/clients/jdbc/usr/share/java/postgresql.jar",
        "/usr/share/java/postgresql.jar",
    ])?;
    Some(jar.display().to_string())
}

/// The class path of `HikariCP`, which the distribution has.
pub(crate) fn hikaricp() -> Option<String> {
    let pool = installed(&["/usr/share/java/HikariCP.jar"])?;
    Some(format!("{}:/usr/share/java/slf4j-api.jar", pool.display()))
}

/// Go with pgx, which the distribution has.
pub(crate) fn go() -> Option<Command> {
    installed(&["/usr/share/gocode/src/github.com/jackc/pgx/v4/pgxpool"])?;
    let cache = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/clients/go-cache");
    let mut go = Command::new("go");
    go.env("GO111MODULE", "off")
        .env("CGO_ENABLED", "0")
        .env("GOPATH", "/usr/share/gocode")
        .env("GOCACHE", cache);
    Some(go)
}

/// Ruby with Active Record and the driver pg, which the distribution has.
pub(crate) fn rails() -> Option<Command> {
    installed(&["/usr/share/doc/ruby-activerecord"]).map(|_| Command::new("ruby"))
}

/// The class path of MariaDB Connector/J.
pub(crate) fn mariadb_jdbc() -> Option<String> {
    let jar = installed(&["/usr/share/java/mariadb-java-client.jar"])?;
    Some(format!("{}:/usr/share/java/slf4j-api.jar", jar.display()))
}

/// Output of a program; panics if the program fails.
pub(crate) async fn printed(program: &mut Command) -> String {
    let output = program.kill_on_drop(true).output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}
