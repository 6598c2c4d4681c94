//! SQL statements that let people log in, for an administrator of the database.

use crate::config::{ClusterSettings, EndpointKind, NamePattern};
use crate::names::{DbUser, sql_identifier, sql_literal};

/// Statements for `users` of `cluster`, or for an example user.
pub(super) fn statements(cluster: &ClusterSettings, users: &[DbUser]) -> Vec<String> {
    let names = if users.is_empty() { vec!["alice"] } else { users.iter().map(DbUser::as_str).collect() };
    let mut statements = Vec::new();
    for user in names.into_iter().map(sql_identifier) {
        if cluster.kind == EndpointKind::Dsql {
            statements.push(format!("CREATE ROLE {user} WITH LOGIN;"));
            let roles = cluster.roles.all();
            let roles =
                roles.iter().map(|role| format!("AWS IAM GRANT {user} TO {};", sql_literal(role.as_str())));
            statements.extend(roles);
            continue; // it has one database
        }
        statements.push(format!("CREATE USER {user};"));
        statements.push(format!("GRANT rds_iam TO {user};"));
        let databases = databases(cluster);
        statements
            .extend(databases.iter().map(|name| format!("GRANT CONNECT ON DATABASE {name} TO {user};")));
    }
    statements
}

fn databases(cluster: &ClusterSettings) -> Vec<String> {
    let exact = cluster.route.databases.iter().flatten().filter_map(|pattern| match pattern {
        NamePattern::Exact(name) => {
            Some(cluster.route.aliases.get(name).map_or(name.as_str(), |real| real.as_str()))
        }
        NamePattern::Prefix(_) => None,
    });
    exact.map(sql_identifier).collect()
}
