//! `pgpassport check`: validates the configuration and the files it names without starting the service.

mod files;
mod report;
#[cfg(test)]
mod tests;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

pub(super) use self::files::is_open_to_others;
pub use self::report::{json, summary};
use super::pages;
use crate::clock::Clock;
use crate::config::problem::ConfigProblem;
use crate::config::problems::ConfigProblems;
use crate::config::{
    ClusterSettings, Config, EgressSettings, Environment, NamedFile, NamedPrincipal, TrustAnchors, WHOLE_FILE,
};
use crate::net::allowed_peers;
use crate::rds_roots;

/// Standard input, which a dash means.
const STDIN: &str = "/dev/stdin";

/// Reason why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The file cannot be read.
    #[error("{}: {source}\nName the file with --config FILE.", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The file, or files that it names, have problems.
    #[error(transparent)]
    Problems(#[from] ConfigProblems),
}

/// The JSON Schema of the configuration, for editors.
pub fn schema() -> String {
    Config::schema()
}

/// Reads only the configuration. The error lists all problems.
pub fn read(path: &Path) -> Result<Config, String> {
    parse(path, |_, _| Vec::new()).map_err(|error| error.to_string())
}

/// As [`examine`], with all problems in one text.
pub fn load(path: &Path) -> Result<Config, String> {
    examine(path).map_err(|error| error.to_string())
}

/// Reads the configuration, looks into the files it names, and looks up the users and groups it names. Problems of all kinds
/// are found in one run.
pub fn examine(path: &Path) -> Result<Config, CheckError> {
    parse(path, outside_problems)
}

/// Problems of files, users, and groups that a configuration names, each at the place of the name.
pub(super) fn outside_problems(files: &[NamedFile], principals: &[NamedPrincipal]) -> Vec<ConfigProblem> {
    let mut problems = files::problems(files);
    let unknown = |principal: &NamedPrincipal| {
        allowed_peers::look_up(principal).err().map(|unknown| principal.problem(unknown))
    };
    problems.extend(principals.iter().filter_map(unknown));
    problems
}

type OutsideCheck = fn(&[NamedFile], &[NamedPrincipal]) -> Vec<ConfigProblem>;

fn parse(path: &Path, look: OutsideCheck) -> Result<Config, CheckError> {
    let environment = Environment::of(std::env::vars_os());
    let (path, text) = match &environment.whole_file {
        Some(text) => (Path::new(WHOLE_FILE), Ok(text.clone())),
        None if path == Path::new("-") => (Path::new(STDIN), fs::read_to_string(STDIN)),
        None => (path, fs::read_to_string(path)),
    };
    let text = text.map_err(|source| CheckError::Unreadable { path: path.to_owned(), source })?;
    let file = path.display().to_string();
    let mut config = match Config::from_toml_and(&text, path, &environment) {
        Ok(config) => config,
        Err(ConfigProblems { mut list, files, principals, .. }) => {
            list.extend(look(&files, &principals));
            return Err(ConfigProblems::new(file, list, files).into());
        }
    };
    let problems = look(&config.files, &config.principals);
    if !problems.is_empty() {
        return Err(ConfigProblems::new(file, problems, config.files).into());
    }
    let unread =
        unread_proxy(&config.egress, |name| std::env::var_os(name).is_some_and(|value| !value.is_empty()));
    config.warnings.extend(unread);
    let foreign = pages::warnings(&config);
    config.warnings.extend(foreign);
    config.warnings.extend(old_authorities(&config.clusters, Clock::system().now()));
    Ok(config)
}

/// Warnings about the authorities of RDS that ship with the program, each once.
fn old_authorities(clusters: &[ClusterSettings], now: SystemTime) -> Vec<String> {
    let with_bundle = clusters.iter().filter(|cluster| cluster.authorities == TrustAnchors::Rds);
    let warnings = with_bundle.filter_map(|cluster| rds_roots::warning(cluster.region.as_str(), now));
    let mut warnings: Vec<_> = warnings.collect();
    warnings.sort_unstable();
    warnings.dedup();
    warnings
}

/// Warning about a proxy that is set in the environment but not in `[egress]`.
fn unread_proxy(egress: &EgressSettings, is_set: impl Fn(&str) -> bool) -> Option<String> {
    let name =
        ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"].into_iter().find(|name| is_set(name))?;
    let text =
        format!("{name} is set but not used; to reach issuers and STS through a proxy, set [egress] proxy");
    egress.proxy.is_none().then_some(text)
}
