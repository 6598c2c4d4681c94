//! A plan as commands for a POSIX shell with the AWS CLI and psql.

use std::fmt::Write as _;

use super::{DatabasePlan, PolicyPlan, ProviderPlan, RolePlan};
use crate::names::{conninfo_value, shell_word, visible};

/// Name of the role's inline policy.
pub(super) const POLICY_NAME: &str = "pgpassport-connect";

pub(super) fn script(plan: &PolicyPlan) -> String {
    let mut out = String::from("#!/bin/sh\nset -eu\n");
    for provider in &plan.providers {
        register(&mut out, provider);
    }
    for role in &plan.roles {
        create(&mut out, role);
    }
    for database in &plan.databases {
        users(&mut out, database);
    }
    out
}

fn register(out: &mut String, provider: &ProviderPlan) {
    comment(out, &format!("Issuer {}, in account {}", provider.issuer, provider.account));
    provider.notes.iter().for_each(|note| remark(out, note));
    if provider.built_in {
        remark(out, "Nothing to register: built into IAM.");
        return;
    }
    let audiences: Vec<_> = provider.audiences.iter().map(|one| shell_word(one)).collect();
    let _ = writeln!(
        out,
        "aws iam create-open-id-connect-provider --url {} --client-id-list {}",
        shell_word(&provider.url),
        audiences.join(" "),
    );
    remark(out, &format!("Its ARN must be {}", provider.arn));
}

fn create(out: &mut String, role: &RolePlan) {
    comment(out, &format!("Role for cluster {}", role.clusters.join(", ")));
    role.notes.iter().for_each(|note| remark(out, note));
    let (path, name) = role.arn.path_and_name();
    let name = shell_word(name);
    let mut flags = String::new();
    if path != "/" {
        let _ = write!(flags, " --path {}", shell_word(path));
    }
    if let Some(seconds) = role.max_session_seconds {
        let _ = write!(flags, " --max-session-duration {seconds}");
    }
    let _ = writeln!(
        out,
        "aws iam create-role --role-name {name}{flags} --assume-role-policy-document {}",
        shell_word(&role.trust.json())
    );
    let _ = writeln!(
        out,
        "aws iam put-role-policy --role-name {name} --policy-name {POLICY_NAME} --policy-document {}",
        shell_word(&role.permission.json())
    );
}

fn users(out: &mut String, database: &DatabasePlan) {
    comment(
        out,
        &format!("Users of cluster {}; psql asks for the password of an administrator", database.cluster),
    );
    let (host, port) = (conninfo_value(&database.host), database.port);
    let connection = format!("host={host} port={port} dbname=postgres user=ADMINISTRATOR");
    let _ =
        writeln!(out, "psql {} <<'SQL'\n{}\nSQL", shell_word(&connection), database.statements.join("\n"));
}

fn comment(out: &mut String, text: &str) {
    out.push('\n');
    remark(out, text);
}

fn remark(out: &mut String, text: &str) {
    let _ = writeln!(out, "# {}", visible(text, usize::MAX));
}
