//! Output formats of a plan: text, JSON, AWS CLI, Terraform.

use std::fmt::Write as _;
use std::path::Path;

use clap::ValueEnum;
use serde_json::{Map, Value, json};

use super::placeholder::PROXY_ADDRESS;
use super::{
    IdpRecipe, PlanError, PolicyDocument, PolicyPlan, ProviderPlan, RolePlan, cloudformation, shell,
    terraform,
};
use crate::names::shell_word;

/// Output format of a plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum PlanFormat {
    /// Text with headings and notes.
    #[default]
    Text,
    /// The plan as a JSON object, for programs.
    Json,
    /// Lines for a shell with the AWS CLI.
    Cli,
    /// Terraform resources.
    Terraform,
    /// A `CloudFormation` template in JSON.
    #[value(name = "cloudformation")]
    CloudFormation,
}

/// A part of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PlanPart {
    /// The identity providers.
    Provider,
    /// Only the trust policy.
    Trust,
    /// Only the permission policy.
    Permission,
    /// The database users.
    Sql,
    /// The instructions for the identity provider.
    Claims,
}

/// Writes `plan`, made from configuration `file`; `only` leaves everything else out of the text form.
pub fn render(
    plan: &PolicyPlan,
    file: &Path,
    format: PlanFormat,
    only: Option<PlanPart>,
) -> Result<String, PlanError> {
    Ok(match (format, only) {
        (_, Some(part)) => one_part(plan, part),
        (PlanFormat::Text, None) => text(plan, file),
        (PlanFormat::Json, None) => object(plan),
        (PlanFormat::Cli, None) => shell::script(plan),
        (PlanFormat::Terraform, None) => terraform::file(plan),
        (PlanFormat::CloudFormation, None) => cloudformation::template(plan)?,
    })
}

fn one_part(plan: &PolicyPlan, part: PlanPart) -> String {
    let mut out = String::new();
    match part {
        PlanPart::Trust => out = documents(plan, |role| &role.trust),
        PlanPart::Permission => out = documents(plan, |role| &role.permission),
        PlanPart::Provider => plan.providers.iter().for_each(|one| provider(&mut out, one)),
        PlanPart::Sql => plan.databases.iter().for_each(|one| {
            let _ = writeln!(out, "{}", one.statements.join("\n"));
        }),
        PlanPart::Claims => plan.claims.iter().for_each(|one| recipe(&mut out, one)),
    }
    out
}

/// The document of the only role, or all of them by the ARNs of their roles.
fn documents(plan: &PolicyPlan, of: impl Fn(&RolePlan) -> &PolicyDocument) -> String {
    if let [role] = plan.roles.as_slice() {
        return of(role).json();
    }
    let mut all = Map::new();
    all.extend(plan.roles.iter().map(|role| (role.arn.as_str().to_owned(), json!(of(role)))));
    format!("{:#}", Value::Object(all))
}

fn text(plan: &PolicyPlan, file: &Path) -> String {
    let mut out = String::new();
    heading(&mut out, "1. Register the issuer in IAM");
    plan.providers.iter().for_each(|one| provider(&mut out, one));
    heading(&mut out, "2. Create the role");
    plan.roles.iter().for_each(|one| role(&mut out, one));
    heading(&mut out, "3. Create the database users");
    for database in &plan.databases {
        let _ = writeln!(out, "In cluster {}, as an administrator of the database:\n", database.cluster);
        indent(&mut out, &database.statements.join("\n"));
    }
    heading(&mut out, "4. Let tokens name the database user");
    plan.claims.iter().for_each(|one| recipe(&mut out, one));
    heading(&mut out, "5. Try it");
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@%:".contains(c);
    let word = |text: &str| if text.chars().all(plain) { text.to_owned() } else { shell_word(text) };
    let file = word(&file.display().to_string());
    let doctor = format!("    pgpassport doctor --config {file} --token-file token.txt");
    match plan.databases.as_slice() {
        [] | [_] => {
            let _ = writeln!(out, "{doctor}");
        }
        several => several.iter().for_each(|database| {
            let _ = writeln!(out, "{doctor} --cluster {}", word(&database.cluster));
        }),
    }
    out
}

fn heading(out: &mut String, text: &str) {
    let gap = if out.is_empty() { "" } else { "\n" };
    let _ = writeln!(out, "{gap}{text}\n{}\n", "-".repeat(text.len()));
}

fn provider(out: &mut String, provider: &ProviderPlan) {
    if provider.built_in {
        let _ =
            writeln!(out, "{}: nothing to register, {} is built into IAM\n", provider.issuer, provider.arn);
    } else {
        let _ = writeln!(
            out,
            "{}, in account {}\n  provider URL  {}\n  audience      {}\n  becomes       {}\n",
            provider.issuer,
            provider.account,
            provider.url,
            provider.audiences.join("\n                "),
            provider.arn
        );
    }
    notes(out, &provider.notes);
}

fn role(out: &mut String, role: &RolePlan) {
    let _ = writeln!(out, "{} for cluster {}\n", role.arn.as_str(), role.clusters.join(", "));
    if let Some(seconds) = role.max_session_seconds {
        let _ = writeln!(out, "Maximum session duration: {seconds} seconds\n");
    }
    if let Some(restricted) = &role.restricted_trust {
        let _ = writeln!(
            out,
            "Trust policy for calls from the proxy alone; put the address under which STS sees the proxy in place of \
             {PROXY_ADDRESS},\nor name it with --source-ip (a VPC endpoint of STS with --source-vpce):\n"
        );
        indent(out, &restricted.json());
        let _ = writeln!(out, "Trust policy without that restriction (read the note below):\n");
    } else {
        let _ = writeln!(out, "Trust policy:\n");
    }
    indent(out, &role.trust.json());
    let _ = writeln!(out, "Permission policy:\n");
    indent(out, &role.permission.json());
    notes(out, &role.notes);
}

fn recipe(out: &mut String, recipe: &IdpRecipe) {
    let page = recipe.page.map(|page| format!(", docs/idp/{page}")).unwrap_or_default();
    let _ = writeln!(out, "{} ({}{page})\n", recipe.issuer, recipe.idp);
    for step in &recipe.steps {
        let _ = writeln!(out, "  - {step}");
    }
    out.push('\n');
    if let Some(snippet) = &recipe.snippet {
        indent(out, snippet);
    }
}

fn notes(out: &mut String, notes: &[String]) {
    for note in notes {
        let _ = writeln!(out, "Note: {note}");
    }
    if !notes.is_empty() {
        out.push('\n');
    }
}

fn indent(out: &mut String, text: &str) {
    for line in text.lines() {
        let _ = writeln!(out, "    {line}");
    }
    out.push('\n');
}

fn object(plan: &PolicyPlan) -> String {
    let providers: Vec<_> = plan
        .providers
        .iter()
        .map(|one| {
            json!({
                "issuer": one.issuer, "url": one.url, "arn": one.arn, "account": one.account,
                "audiences": one.audiences, "built_in": one.built_in, "notes": one.notes,
            })
        })
        .collect();
    let roles: Vec<_> = plan
        .roles
        .iter()
        .map(|one| {
            json!({
                "arn": one.arn.as_str(), "clusters": one.clusters, "trust_policy": one.trust,
                "restricted_trust_policy": one.restricted_trust,
                "permission_policy": one.permission, "max_session_duration": one.max_session_seconds,
                "notes": one.notes,
            })
        })
        .collect();
    let databases: Vec<_> = plan
        .databases
        .iter()
        .map(|one| json!({ "cluster": one.cluster, "host": one.host, "port": one.port, "sql": one.statements }))
        .collect();
    let claims: Vec<_> = plan
        .claims
        .iter()
        .map(
            |one| json!({ "issuer": one.issuer, "idp": one.idp, "steps": one.steps, "snippet": one.snippet }),
        )
        .collect();
    let whole = json!({ "providers": providers, "roles": roles, "databases": databases, "claims": claims });
    format!("{whole:#}")
}
