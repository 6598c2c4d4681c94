//! A plan as Terraform resources of the AWS provider.

use std::fmt::Write as _;

use super::shell::POLICY_NAME;
use super::{PolicyPlan, ProviderPlan, RolePlan};
use crate::names::visible;

pub(super) fn file(plan: &PolicyPlan) -> String {
    let mut out = String::new();
    for provider in &plan.providers {
        register(&mut out, provider);
    }
    for role in &plan.roles {
        create(&mut out, role);
    }
    for database in &plan.databases {
        remark(&mut out, &format!("In cluster {}, as an administrator of the database:", database.cluster));
        database.statements.iter().for_each(|line| remark(&mut out, line));
        out.push('\n');
    }
    out
}

fn register(out: &mut String, provider: &ProviderPlan) {
    provider.notes.iter().for_each(|note| remark(out, note));
    if provider.built_in {
        remark(out, &format!("{}: nothing to register, built into IAM", provider.arn));
        out.push('\n');
        return;
    }
    let audiences: Vec<_> = provider.audiences.iter().map(|one| quoted(one)).collect();
    remark(out, &format!("In account {}; its ARN must be {}", provider.account, provider.arn));
    let _ = writeln!(
        out,
        "resource \"aws_iam_openid_connect_provider\" \"{}\" {{\n  \
         url            = {}\n  client_id_list = [{}]\n}}\n",
        identifier(&format!("{}_{}", provider.issuer, provider.account)),
        quoted(&provider.url),
        audiences.join(", ")
    );
}

fn create(out: &mut String, role: &RolePlan) {
    role.notes.iter().for_each(|note| remark(out, note));
    let (path, name) = role.arn.path_and_name();
    // Two accounts can have roles of the same name.
    let id = identifier(&format!("{name}_{}", role.arn.account()));
    remark(out, &format!("In account {}", role.arn.account()));
    let _ = writeln!(out, "resource \"aws_iam_role\" \"{id}\" {{\n  name = {}", quoted(name));
    if path != "/" {
        let _ = writeln!(out, "  path = {}", quoted(path));
    }
    if let Some(seconds) = role.max_session_seconds {
        let _ = writeln!(out, "  max_session_duration = {seconds}");
    }
    let _ = writeln!(out, "\n  assume_role_policy = {}}}\n", document(&role.trust.json()));
    let _ = writeln!(
        out,
        "resource \"aws_iam_role_policy\" \"{id}\" {{\n  name = \"{POLICY_NAME}\"\n  role = aws_iam_role.{id}.id\n\n  \
         policy = {}}}\n",
        document(&role.permission.json())
    );
}

/// A heredoc, in which quotes need no escaping but templates do.
fn document(json: &str) -> String {
    format!("<<-JSON\n    {}\n  JSON\n", escaped(json).replace('\n', "\n    "))
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", escaped(&text.replace('\\', r"\\").replace('"', "\\\"")))
}

/// Escapes templates. `${` and `%{` begin a template unless the sign is doubled. A further sign in front
/// would be ambiguous, so it is written as a Unicode escape, which both JSON and Terraform strings allow.
fn escaped(text: &str) -> String {
    let clear = text.replace("$${", r"\u0024${").replace("%%{", r"\u0025%{");
    clear.replace("${", "$${").replace("%{", "%%{")
}

fn identifier(text: &str) -> String {
    let legal = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    let name: String = text.chars().map(legal).collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) { format!("_{name}") } else { name }
}

fn remark(out: &mut String, text: &str) {
    let _ = writeln!(out, "# {}", visible(text, usize::MAX));
}
