//! Doctor: checks inside the session that was logged in at MySQL or MariaDB.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::timeout;

use super::LinkProblem;
use super::report::{ChainLink, DoctorReport};
use super::session::{LINKS, compare_clock, role_of_server, tell_privileges};
use crate::clock::Clock;
use crate::identity::Grant;
use crate::mysql::own_session::{OwnSession, QueryError};
use crate::names::{DbUser, mysql_text, printable};

/// Account of the session, and the server's time in microseconds of Unix time.
const ACCOUNT: &str =
    "SELECT CURRENT_USER(), TIMESTAMPDIFF(MICROSECOND, '1970-01-01 00:00:00', UTC_TIMESTAMP(6))";

/// Statement that creates the account. Every account may see its own.
const CREATED: &str = "SHOW CREATE USER CURRENT_USER()";

const GRANTS: &str = "SHOW GRANTS";

/// Variables of the server; those that an engine lacks are left out of the answer. `innodb_read_only` is on at readers of
/// Aurora, `read_only` at replicas of RDS.
const VARIABLES: &str = "SHOW VARIABLES WHERE Variable_name IN ('version', 'version_comment', 'aurora_version', \
    'innodb_read_only', 'read_only', 'transaction_read_only', 'tx_read_only', 'require_secure_transport')";

const PLUGIN: &str = "AWSAuthenticationPlugin";

/// Answers of the server.
#[derive(Debug, Default)]
struct ServerFacts {
    account: String,
    micros: f64,
    created: String,
    grants: Vec<String>,
    variables: BTreeMap<String, String>,
}

pub(super) async fn examine(
    mut session: OwnSession,
    grant: &Grant,
    clock: &Clock,
    patience: Duration,
    report: &mut DoctorReport<'_>,
) {
    let problem = match timeout(patience, look(&mut session)).await {
        Ok(Ok(facts)) => {
            tell(&facts, grant.db_user(), clock, report);
            let _ = timeout(patience, session.quit()).await; // the report is complete
            return;
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => "no answer in time".to_owned(),
    };
    let remedy = "The login works, but a simple query does not; check the server's log.";
    report.fail(ChainLink::CurrentUser, LinkProblem::new(printable(&problem, 512), remedy));
    report.skip_all(&LINKS[1..], "not tried: the session did not answer");
}

async fn look(session: &mut OwnSession) -> Result<ServerFacts, QueryError> {
    let text = |row: Vec<Option<String>>| row.into_iter().map(Option::unwrap_or_default);
    let mut account = session.rows(ACCOUNT).await?.into_iter().flat_map(text);
    let mut facts = ServerFacts {
        account: account.next().unwrap_or_default(),
        micros: account.next().and_then(|micros| micros.parse().ok()).unwrap_or_default(),
        ..ServerFacts::default()
    };
    facts.created = session.rows(CREATED).await?.into_iter().flat_map(text).collect();
    facts.grants = session.rows(GRANTS).await?.into_iter().flat_map(text).collect();
    for row in session.rows(VARIABLES).await? {
        let mut row = text(row);
        facts.variables.insert(row.next().unwrap_or_default(), row.next().unwrap_or_default());
    }
    Ok(facts)
}

fn tell(facts: &ServerFacts, user: &DbUser, clock: &Clock, report: &mut DoctorReport<'_>) {
    let account = printable(&facts.account, 160);
    if facts.account.rsplit_once('@').is_some_and(|(name, _)| name == user.as_str()) {
        report.ok(ChainLink::CurrentUser, format!("\"{account}\""));
    } else {
        let remedy = "Check for proxy users (GRANT PROXY) and accounts without a name: the session's user is not the user in \
                      the audit record.";
        let found = format!("current_user() is \"{account}\"");
        report.fail(ChainLink::CurrentUser, LinkProblem::new(found, remedy));
    }
    let variable = |name: &str| facts.variables.get(name).map_or("", String::as_str);
    let is_on = |name: &str| !matches!(variable(name), "" | "OFF" | "0");
    plugin(&facts.created, is_on("require_secure_transport"), user, report);
    tell_privileges(&extra_privileges(&facts.grants), report);
    let (version, comment) = (variable("version"), variable("version_comment"));
    let aurora = facts.variables.get("aurora_version").map(|aurora| format!(", Aurora {aurora}"));
    let version = format!("{version} ({comment}){}", aurora.unwrap_or_default());
    report.ok(ChainLink::ServerVersion, printable(&version, 128));
    compare_clock(facts.micros / 1e6, clock, report);
    let reader = is_on("innodb_read_only") || is_on("read_only");
    role_of_server(reader, is_on("transaction_read_only") || is_on("tx_read_only"), report);
}

/// The account's plugin, and whether it demands TLS.
fn plugin(created: &str, tls_everywhere: bool, user: &DbUser, report: &mut DoctorReport<'_>) {
    let link = ChainLink::RdsIam;
    let user = format!("{}@'%'", mysql_text(user.as_str()));
    if !created.contains(PLUGIN) {
        let found = format!("the account does not use {PLUGIN}");
        let remedy = format!("ALTER USER {user} IDENTIFIED WITH {PLUGIN} AS 'RDS' REQUIRE SSL;");
        return report.warn(link, LinkProblem::new(found, remedy));
    }
    let demands_tls = created.contains(" REQUIRE ") && !created.contains(" REQUIRE NONE");
    if demands_tls || tls_everywhere {
        return report.ok(link, format!("the account uses {PLUGIN} and requires TLS"));
    }
    let found = format!("the account uses {PLUGIN} and does not require TLS");
    let remedy = format!(
        "ALTER USER {user} REQUIRE SSL; or require_secure_transport = ON for the cluster: a client that connects directly \
         could send its token in clear."
    );
    report.warn(link, LinkProblem::new(found, remedy));
}

/// Privileges that reach beyond databases of the user's own, from the lines of `SHOW GRANTS`: global ones, those on
/// the system's tables, roles of RDS, and the right to pass privileges on.
fn extra_privileges(grants: &[String]) -> Vec<String> {
    let mut more = Vec::new();
    for line in grants {
        let Some(granted) = line.strip_prefix("GRANT ") else { continue };
        let system =
            ["`mysql`.", "\"mysql\".", "mysql."].iter().any(|name| granted.contains(&format!(" ON {name}")));
        match granted.split_once(" ON ") {
            Some((privileges, object)) if object.starts_with("*.* ") && privileges != "USAGE" => {
                more.push(format!("allowed {privileges} in every database"));
            }
            Some((privileges, _)) if system => {
                more.push(format!("allowed {privileges} in the system's database"));
            }
            None if granted.contains("rds_") => {
                more.push(granted.split(" TO ").next().unwrap_or_default().to_owned());
            }
            _ => {}
        }
        if granted.contains(" WITH GRANT OPTION") {
            more.push("allowed to grant its privileges".to_owned());
        }
    }
    more
}

#[cfg(test)]
mod tests {
    use super::super::{Finding, LinkState};
    use super::*;

    fn told(change: impl Fn(&mut ServerFacts)) -> Vec<Finding> {
        let now = Clock::system().now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        let variables =
            [("version", "8.0.39"), ("version_comment", "Source distribution"), ("read_only", "OFF")];
        let mut facts = ServerFacts {
            account: "alice@%".to_owned(),
            micros: now * 1e6,
            created: "CREATE USER `alice`@`%` IDENTIFIED WITH 'AWSAuthenticationPlugin' AS 'RDS' REQUIRE SSL"
                .to_owned(),
            grants: vec![
                "GRANT USAGE ON *.* TO `alice`@`%`".to_owned(),
                "GRANT ALL PRIVILEGES ON `app`.* TO `alice`@`%`".to_owned(),
            ],
            variables: variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        };
        change(&mut facts);
        let mut tell_each = |_: &Finding| {};
        let mut report = DoctorReport::new(&mut tell_each);
        tell(&facts, &DbUser::parse("alice").unwrap(), &Clock::system(), &mut report);
        report.findings().to_vec()
    }

    fn of(findings: &[Finding], link: ChainLink) -> (LinkState, String) {
        let finding = findings.iter().find(|finding| finding.link == link).unwrap();
        (finding.state, finding.found.clone())
    }

    #[test]
    fn an_ordinary_account_is_well() {
        let findings = told(|_| {});
        assert_eq!(findings.iter().map(|finding| finding.link).collect::<Vec<_>>(), LINKS);
        assert!(findings.iter().all(|finding| finding.state == LinkState::Ok), "{findings:#?}");
        assert_eq!(of(&findings, ChainLink::ServerVersion).1, "8.0.39 (Source distribution)");
        let aurora = told(|facts| {
            facts.variables.insert("aurora_version".to_owned(), "3.08.0".to_owned());
        });
        assert_eq!(of(&aurora, ChainLink::ServerVersion).1, "8.0.39 (Source distribution), Aurora 3.08.0");
    }

    #[test]
    fn another_account_is_a_fault() {
        for account in ["bob@%", "Alice@%", "@%", "", "alice"] {
            let findings = told(|facts| account.clone_into(&mut facts.account));
            assert_eq!(of(&findings, ChainLink::CurrentUser).0, LinkState::Failed, "{account}");
        }
    }

    #[test]
    fn readers_are_told_from_writers() {
        for (variable, value, said) in [
            ("innodb_read_only", "ON", "a reader: writes are refused"),
            ("read_only", "ON", "a reader: writes are refused"),
            ("transaction_read_only", "ON", "a writer, in a session that begins read-only"),
            ("tx_read_only", "1", "a writer, in a session that begins read-only"),
            ("innodb_read_only", "OFF", "a writer"),
        ] {
            let findings = told(|facts| {
                facts.variables.insert(variable.to_owned(), value.to_owned());
            });
            assert_eq!(of(&findings, ChainLink::Writer).1, said, "{variable}");
        }
    }

    #[test]
    fn the_plugin_and_tls_are_looked_at() {
        let other = told(|facts| facts.created = "CREATE USER `alice`@`%` IDENTIFIED WITH 'x'".to_owned());
        assert_eq!(of(&other, ChainLink::RdsIam).0, LinkState::Warning);
        let without = |text: &str| told(|facts| facts.created = facts.created.replace(" REQUIRE SSL", text));
        for form in ["", " REQUIRE NONE"] {
            assert_eq!(of(&without(form), ChainLink::RdsIam).0, LinkState::Warning, "{form}");
        }
        let everywhere = told(|facts| {
            facts.created = facts.created.replace(" REQUIRE SSL", " REQUIRE NONE");
            facts.variables.insert("require_secure_transport".to_owned(), "ON".to_owned());
        });
        assert_eq!(of(&everywhere, ChainLink::RdsIam).0, LinkState::Ok);
    }

    #[test]
    fn privileges_beyond_the_own_databases_are_named() {
        let extra = |line: &str| extra_privileges(&[line.to_owned()]);
        assert_eq!(
            extra("GRANT SELECT, SUPER ON *.* TO `alice`@`%` REQUIRE SSL WITH GRANT OPTION"),
            ["allowed SELECT, SUPER in every database", "allowed to grant its privileges"]
        );
        assert_eq!(
            extra("GRANT SELECT ON `mysql`.`user` TO `alice`@`%`"),
            ["allowed SELECT in the system's database"]
        );
        assert_eq!(extra("GRANT `rds_superuser_role`@`%` TO `alice`@`%`"), ["`rds_superuser_role`@`%`"]);
        for ordinary in [
            "GRANT USAGE ON *.* TO \"alice\"@\"%\" REQUIRE SSL",
            "GRANT `readers`@`%` TO `alice`@`%`",
            "GRANT EXECUTE ON PROCEDURE `app`.`mysql.x` TO `alice`@`%`",
            "SET DEFAULT ROLE `readers` FOR `alice`@`%`",
        ] {
            assert_eq!(extra(ordinary), [""; 0], "{ordinary}");
        }
    }
}
