//! Output of `pgpassport check`: a summary for people, one JSON object for programs.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use serde::Serialize;

use super::CheckError;
use crate::config::problem::ConfigProblem;
use crate::config::{
    ClusterSettings, Config, DatabaseProtocol, IssuerSettings, KeySource, ListenSettings, PinMode,
};
use crate::names::RoleArn;

/// Summary of a configuration without problems.
pub fn summary(config: &Config) -> String {
    let accepted: Vec<_> = config.issuers.iter().flat_map(IssuerSettings::accepted).collect();
    let issuers: Vec<_> = accepted.iter().map(|accepted| accepted.issuer.as_str()).collect();
    let address = |listen: &ListenSettings| match listen.protocol {
        DatabaseProtocol::PostgreSql => listen.addr.to_string(),
        DatabaseProtocol::MySql => format!("{} (mysql)", listen.addr),
    };
    let addresses: Vec<_> = config.listeners.iter().map(address).collect();
    let clusters: String = config.clusters.iter().map(|cluster| describe(cluster, &config.issuers)).collect();
    let mut warnings = String::new();
    for KeySource { key, variable } in &config.sources {
        let _ = write!(warnings, "\n  {key} is from {variable}");
    }
    for text in &config.warnings {
        warnings.push_str("\nwarning: ");
        warnings.push_str(text);
    }
    format!(
        "{}: no problems found\n  listen   {}\n  issuer   {}{clusters}{warnings}",
        config.file.display(),
        addresses.join(", "),
        issuers.join(", "),
    )
}

fn describe(cluster: &ClusterSettings, issuers: &[IssuerSettings]) -> String {
    let pin = match cluster.pin {
        PinMode::SessionPolicy => "session policy",
        PinMode::SessionTag => "session tag",
        PinMode::Both => "session policy and session tag",
        PinMode::None => "the role's own policy only",
    };
    let roles: Vec<_> = cluster.roles.all().into_iter().map(RoleArn::as_str).collect();
    format!(
        "\n  cluster  {} at {} in {}\n  role     {}\n  user     from claim {}, pinned by {pin}",
        cluster.name,
        cluster.endpoint,
        cluster.region.as_str(),
        roles.join(", "),
        claims(cluster, issuers),
    )
}

/// The claims that name people of each issuer that the cluster admits, each with its issuers where there are several.
fn claims(cluster: &ClusterSettings, issuers: &[IssuerSettings]) -> String {
    let mut claims: Vec<(String, Vec<&str>)> = Vec::new();
    for issuer in issuers.iter().filter(|issuer| cluster.admits(issuer)) {
        let Some(rule) = cluster.user.of(&issuer.name) else { continue };
        let claim = rule.claim_for(issuer.user_claim.as_deref()).join(".");
        match claims.iter_mut().find(|(known, _)| *known == claim) {
            Some((_, names)) => names.push(&issuer.name),
            None => claims.push((claim, vec![&issuer.name])),
        }
    }
    let alone = claims.len() == 1;
    let shown = |(claim, names): &(String, Vec<&str>)| {
        if alone { claim.clone() } else { format!("{claim} ({})", names.join(", ")) }
    };
    claims.iter().map(shown).collect::<Vec<_>>().join(", ")
}

/// JSON form of a check.
#[derive(Serialize)]
struct CheckReport<'r> {
    ok: bool,
    file: String,
    problems: Vec<ProblemReport<'r>>,
    warnings: &'r [String],
    /// Variable of each key that one sets.
    from_environment: BTreeMap<&'r str, &'r str>,
}

/// JSON form of one problem. Line and column count from 1; a file that cannot be read has none.
#[derive(Serialize)]
struct ProblemReport<'r> {
    line: Option<usize>,
    column: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    variable: Option<&'r str>,
    key: &'r str,
    text: String,
}

impl<'r> From<&'r ConfigProblem> for ProblemReport<'r> {
    fn from(problem: &'r ConfigProblem) -> Self {
        let variable = problem.variable.as_deref();
        let (line, column) = match variable {
            Some(_) => (None, None),
            None => (Some(problem.line), Some(problem.column)),
        };
        Self { line, column, variable, key: &problem.key, text: problem.text.clone() }
    }
}

/// A JSON object: `ok`, `file`, `problems` with line, column, key and text, `warnings`, and `from_environment`.
pub fn json(path: &Path, result: &Result<Config, CheckError>) -> String {
    let (problems, warnings): (Vec<_>, &[String]) = match result {
        Ok(config) => (Vec::new(), &config.warnings),
        Err(CheckError::Problems(problems)) => (problems.list.iter().map(Into::into).collect(), &[]),
        Err(CheckError::Unreadable { source, .. }) => (
            vec![ProblemReport {
                line: None,
                column: None,
                variable: None,
                key: "",
                text: source.to_string(),
            }],
            &[],
        ),
    };
    let sources = result.iter().flat_map(|config| &config.sources);
    let from_environment = sources.map(|one| (one.key.as_str(), one.variable.as_str())).collect();
    let file = result.as_ref().map_or(path, |config| config.file.as_path()).display().to_string();
    let report = CheckReport { ok: result.is_ok(), file, problems, warnings, from_environment };
    serde_json::to_string(&report).unwrap_or_default() // texts and numbers always become JSON
}
