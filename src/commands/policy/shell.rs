//! A plan as commands for a POSIX shell with the AWS CLI and psql.

use std::fmt::Write as _;

use super::{DatabasePlan, Placeholder, PolicyPlan, ProviderPlan, RolePlan};
use crate::config::DatabaseProtocol;
use crate::names::{conninfo_value, shell_word, visible};

/// Name of the role's inline policy.
pub(super) const POLICY_NAME: &str = "pgpassport-connect";

pub(super) fn script(plan: &PolicyPlan) -> String {
    let mut out =
        String::from("#!/bin/sh\n# Can be run again: what exists is brought up to date.\nset -eu\n");
    for placeholder in &plan.placeholders {
        let (cluster, command) = (&placeholder.cluster, placeholder.command);
        insist(
            &mut out,
            &placeholder.variable,
            &format!("the resource id of cluster {cluster}, from: aws rds {command}"),
        );
    }
    if !plan.databases.is_empty() {
        insist(&mut out, "ADMINISTRATOR", "a database user that may create users");
    }
    for provider in &plan.providers {
        register(&mut out, provider);
    }
    for role in &plan.roles {
        create(&mut out, role, &plan.placeholders);
    }
    for database in &plan.databases {
        users(&mut out, database);
    }
    out
}

/// Ends the script unless the variable is set.
fn insist(out: &mut String, variable: &str, meaning: &str) {
    // Quotes and braces would end the message.
    let meaning = meaning.replace(['"', '\'', '`', '$', '}', '{', '\\'], "");
    let _ = writeln!(out, ": \"${{{variable}:?set it to {meaning}}}\"");
}

fn register(out: &mut String, provider: &ProviderPlan) {
    comment(out, &format!("Issuer {}, in account {}", provider.issuer, provider.account));
    provider.notes.iter().for_each(|note| remark(out, note));
    if provider.built_in {
        remark(out, "Nothing to register: built into IAM.");
        return;
    }
    let audiences: Vec<_> = provider.audiences.iter().map(|one| shell_word(one)).collect();
    remark(out, &format!("Its ARN must be {}", provider.arn));
    let arn = shell_word(&provider.arn);
    let _ = writeln!(
        out,
        "if aws iam get-open-id-connect-provider --open-id-connect-provider-arn {arn} >/dev/null 2>&1; then"
    );
    for audience in &audiences {
        let _ = writeln!(
            out,
            "  aws iam add-client-id-to-open-id-connect-provider --open-id-connect-provider-arn {arn} --client-id {audience}"
        );
    }
    let _ = writeln!(
        out,
        "else\n  aws iam create-open-id-connect-provider --url {} --client-id-list {}\nfi",
        shell_word(&provider.url),
        audiences.join(" "),
    );
}

fn create(out: &mut String, role: &RolePlan, placeholders: &[Placeholder]) {
    comment(out, &format!("Role for cluster {}", role.clusters.join(", ")));
    role.notes.iter().for_each(|note| remark(out, note));
    let (path, name) = role.arn.path_and_name();
    let name = shell_word(name);
    let mut flags = String::new();
    if path != "/" {
        let _ = write!(flags, " --path {}", shell_word(path));
    }
    let _ = writeln!(out, "trust={}", shell_word(&role.trust.json()));
    let _ = writeln!(out, "if aws iam get-role --role-name {name} >/dev/null 2>&1; then");
    let _ =
        writeln!(out, "  aws iam update-assume-role-policy --role-name {name} --policy-document \"$trust\"");
    if let Some(seconds) = role.max_session_seconds {
        let _ = writeln!(out, "  aws iam update-role --role-name {name} --max-session-duration {seconds}");
        let _ = write!(flags, " --max-session-duration {seconds}");
    }
    let _ = writeln!(
        out,
        "else\n  aws iam create-role --role-name {name}{flags} --assume-role-policy-document \"$trust\"\nfi"
    );
    let mut permission = shell_word(&role.permission.json());
    for one in placeholders {
        let variable = format!("'\"${}\"'/", one.variable);
        permission = permission.replace(&format!("{}/", one.text), &variable);
    }
    let _ = writeln!(
        out,
        "aws iam put-role-policy --role-name {name} --policy-name {POLICY_NAME} --policy-document {permission}"
    );
}

fn users(out: &mut String, database: &DatabasePlan) {
    let (client, command) = match database.engine {
        DatabaseProtocol::PostgreSql => {
            let (host, port) = (conninfo_value(&database.host), database.port);
            let connection = format!("host={host} port={port} dbname=postgres");
            ("psql", format!("psql -U \"$ADMINISTRATOR\" -d {}", shell_word(&connection)))
        }
        DatabaseProtocol::MySql => {
            let (host, port) = (shell_word(&database.host), database.port);
            (
                "mysql",
                format!("mysql -u \"$ADMINISTRATOR\" -p -h {host} -P {port} --ssl-mode=VERIFY_IDENTITY"),
            )
        }
    };
    let cluster = &database.cluster;
    comment(out, &format!("Users of cluster {cluster}; {client} asks for the password of an administrator"));
    let _ = writeln!(out, "{command} <<'SQL'\n{}\nSQL", database.repeatable.join("\n"));
}

fn comment(out: &mut String, text: &str) {
    out.push('\n');
    remark(out, text);
}

fn remark(out: &mut String, text: &str) {
    let _ = writeln!(out, "# {}", visible(text, usize::MAX));
}
