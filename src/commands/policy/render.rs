//! Output formats of a plan: text, JSON, AWS CLI, Terraform.

use std::fmt::Write as _;

use clap::ValueEnum;
use serde_json::json;

use super::{IdpRecipe, PlanError, PolicyPlan, ProviderPlan, RolePlan, shell, terraform};

/// Output format of a plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum PlanFormat {
    /// Text with headings and notes.
    #[default]
    Text,
    /// One JSON object, for programs.
    Json,
    /// Lines for a shell with the AWS CLI.
    Cli,
    /// Terraform resources.
    Terraform,
}

/// One part of a plan.
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

/// Writes `plan`. `only` selects one part of the text form.
pub fn render(plan: &PolicyPlan, format: PlanFormat, only: Option<PlanPart>) -> Result<String, PlanError> {
    Ok(match (format, only) {
        (_, Some(part)) => one_part(plan, part)?,
        (PlanFormat::Text, None) => text(plan),
        (PlanFormat::Json, None) => object(plan),
        (PlanFormat::Cli, None) => shell::script(plan),
        (PlanFormat::Terraform, None) => terraform::file(plan),
    })
}

fn one_part(plan: &PolicyPlan, part: PlanPart) -> Result<String, PlanError> {
    let role = || match plan.roles.as_slice() {
        [role] => Ok(role),
        several => Err(PlanError::SeveralRoles(several.len())),
    };
    let mut out = String::new();
    match part {
        PlanPart::Trust => out = role()?.trust.json(),
        PlanPart::Permission => out = role()?.permission.json(),
        PlanPart::Provider => plan.providers.iter().for_each(|one| provider(&mut out, one)),
        PlanPart::Sql => plan.databases.iter().for_each(|one| {
            let _ = writeln!(out, "{}", one.statements.join("\n"));
        }),
        PlanPart::Claims => plan.claims.iter().for_each(|one| recipe(&mut out, one)),
    }
    Ok(out)
}

fn text(plan: &PolicyPlan) -> String {
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
    out += "    pgpassport doctor --config proxy.toml --token-file token.txt\n";
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
    let _ = writeln!(out, "Trust policy:\n");
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
