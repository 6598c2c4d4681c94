//! SQL statements that let people log in, for an administrator of the database.

use crate::config::{ClusterSettings, DatabaseProtocol, EndpointKind, NamePattern};
use crate::names::{DbUser, mysql_grant_database, mysql_text, sql_identifier, sql_literal};

/// Statements for `users` of `cluster`, or for an example user.
pub(super) fn statements(cluster: &ClusterSettings, users: &[DbUser]) -> Vec<String> {
    if cluster.engine == DatabaseProtocol::MySql {
        return mysql("CREATE USER", cluster, users);
    }
    write(cluster, users, |_, create| format!("{create};"))
}

/// As [`statements`], for the engine's command-line client; users that exist are not created again, and the first error ends the run.
pub(super) fn repeatable(cluster: &ClusterSettings, users: &[DbUser]) -> Vec<String> {
    if cluster.engine == DatabaseProtocol::MySql {
        return mysql("CREATE USER IF NOT EXISTS", cluster, users);
    }
    let unless_it_exists = |user: &str, create: &str| {
        let (create, user) = (sql_literal(create), sql_literal(user));
        format!(
            "SELECT {create} WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = {user}) \\gexec"
        )
    };
    let mut lines = vec!["\\set ON_ERROR_STOP on".to_owned()];
    lines.extend(write(cluster, users, unless_it_exists));
    lines
}

/// Statements for MySQL (Aurora user guide, "Creating a database account using IAM authentication"). The host part is any,
/// because the server sees the proxy's address. A login that names a database needs a privilege in it.
fn mysql(create: &str, cluster: &ClusterSettings, users: &[DbUser]) -> Vec<String> {
    let names = if users.is_empty() { vec!["alice"] } else { users.iter().map(DbUser::as_str).collect() };
    let mut statements = Vec::new();
    for name in names {
        let user = format!("{}@'%'", mysql_text(name));
        statements
            .push(format!("{create} {user} IDENTIFIED WITH AWSAuthenticationPlugin AS 'RDS' REQUIRE SSL;"));
        let grant = |database| format!("GRANT SELECT ON {}.* TO {user};", mysql_grant_database(database));
        statements.extend(exact_databases(cluster).map(grant));
    }
    statements
}

/// Statements; `create` takes a user's name and the command that creates it.
fn write(cluster: &ClusterSettings, users: &[DbUser], create: impl Fn(&str, &str) -> String) -> Vec<String> {
    let names = if users.is_empty() { vec!["alice"] } else { users.iter().map(DbUser::as_str).collect() };
    let mut statements = Vec::new();
    for name in names {
        let user = sql_identifier(name);
        if cluster.kind == EndpointKind::Dsql {
            statements.push(create(name, &format!("CREATE ROLE {user} WITH LOGIN")));
            let roles = cluster.roles.all();
            let roles =
                roles.iter().map(|role| format!("AWS IAM GRANT {user} TO {};", sql_literal(role.as_str())));
            statements.extend(roles);
            continue; // it has one database
        }
        statements.push(create(name, &format!("CREATE USER {user}")));
        statements.push(format!("GRANT rds_iam TO {user};"));
        let databases = databases(cluster);
        statements
            .extend(databases.iter().map(|name| format!("GRANT CONNECT ON DATABASE {name} TO {user};")));
    }
    statements
}

fn databases(cluster: &ClusterSettings) -> Vec<String> {
    exact_databases(cluster).map(sql_identifier).collect()
}

/// Names of the cluster's databases, as the server has them.
fn exact_databases(cluster: &ClusterSettings) -> impl Iterator<Item = &str> {
    cluster.route.databases.iter().flatten().filter_map(|pattern| match pattern {
        NamePattern::Exact(name) => {
            Some(cluster.route.aliases.get(name).map_or(name.as_str(), |real| real.as_str()))
        }
        NamePattern::Prefix(_) => None,
    })
}
