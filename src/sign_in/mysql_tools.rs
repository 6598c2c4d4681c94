//! Settings for tools of MySQL and MariaDB, ready to paste. The token is in none of them.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::access::DatabaseAccess;
use super::tools::{CA_FILE, ToolSettings, database, powershell_word, python_text};
use crate::names::shell_word;

/// Files with the system's authorities: `mysql` looks for none by itself, and Windows has no such file.
const MACOS_AUTHORITIES: &str = "/etc/ssl/cert.pem";
const LINUX_AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Settings for one database of MySQL. `own_ca` is true if the proxy's certificate is not of a public authority.
pub(super) fn of(access: &DatabaseAccess, own_ca: bool) -> Vec<ToolSettings> {
    let token = "the token as the password";
    let root = if own_ca { format!(" and the downloaded {CA_FILE} as the CA file") } else { String::new() };
    let tool = |name, how: String, paste| ToolSettings { name, how, paste };
    let (mariadb, connector) = (mariadb_jdbc(access, own_ca), mysql_jdbc(access));
    let authorities = if own_ca {
        format!(" Java verifies with its own authorities: import {CA_FILE} into its trust store.")
    } else {
        String::new()
    };
    vec![
        tool(
            "mysql",
            "Copy the token, then run the line for your system. The prompt for a password cuts a token."
                .to_owned(),
            lines(access, own_ca, &["--enable-cleartext-plugin", "--ssl-mode=VERIFY_IDENTITY"], "mysql"),
        ),
        tool(
            "mariadb",
            "Copy the token, then run the line for your system. The prompt for a password cuts a token."
                .to_owned(),
            lines(access, own_ca, &["--ssl-verify-server-cert"], "mariadb"),
        ),
        tool(
            "DBeaver, DataGrip, IntelliJ IDEA",
            format!(
                "New connection, MariaDB, by URL: this URL, your user name, and {token}. The driver of MariaDB is for both \
                 servers. Do not save the password: it changes with each sign-in."
            ),
            vec![(None, mariadb.clone())],
        ),
        tool(
            "MySQL Workbench",
            format!(
                "New connection: the fields above. On the tab SSL: Require and Verify Identity{root}. On the tab Advanced: Enable \
                 Cleartext Authentication Plugin. Password: the token."
            ),
            Vec::new(),
        ),
        tool("JDBC URL (MariaDB Connector/J)", format!("Property password: {token}."), vec![(None, mariadb)]),
        tool(
            "JDBC URL (MySQL Connector/J)",
            format!("Property password: {token}.{authorities}"),
            vec![(None, connector)],
        ),
        tool(
            "Python (PyMySQL)",
            "Copy the token into the prompt; it is not shown.".to_owned(),
            vec![(None, pymysql(access, own_ca))],
        ),
    ]
}

/// The lines of a command-line client, each for one system.
fn lines(
    access: &DatabaseAccess,
    own_ca: bool,
    verify: &[&str],
    program: &str,
) -> Vec<(Option<&'static str>, String)> {
    let words = |authorities: &str, word: fn(&str) -> String| {
        let place = [
            format!("--ssl-ca={authorities}"),
            "--protocol=tcp".to_owned(),
            format!("--host={}", access.host),
            format!("--port={}", access.port),
            format!("--user={}", access.user),
            format!("--database={}", database(access)),
        ];
        let place = place.iter().map(|text| if is_plain(text) { text.clone() } else { word(text) });
        verify.iter().map(|text| (*text).to_owned()).chain(place).collect::<Vec<_>>().join(" ")
    };
    let at = |system| if own_ca { CA_FILE } else { system };
    let unix = |clipboard: &str, authorities| {
        format!("MYSQL_PWD=\"$({clipboard})\" {program} --no-defaults {}", words(at(authorities), shell_word))
    };
    vec![
        (Some("macOS"), unix("pbpaste", MACOS_AUTHORITIES)),
        (Some("Linux with Wayland"), unix("wl-paste -n", LINUX_AUTHORITIES)),
        (Some("Linux with X11"), unix("xclip -o -selection clipboard", LINUX_AUTHORITIES)),
        (
            Some("Windows PowerShell"),
            format!(
                "$env:MYSQL_PWD = Get-Clipboard; {program} --no-defaults {}",
                words(at("C:\\path\\to\\authorities.pem"), powershell_word)
            ),
        ),
    ]
}

/// True for a text that shells take as one word without quotes.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-=./:_".contains(&byte))
}

fn place_of_jdbc(access: &DatabaseAccess) -> String {
    let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    format!("{}:{}/{}?user={}", access.host, access.port, encoded(database(access)), encoded(&access.user))
}

fn mariadb_jdbc(access: &DatabaseAccess, own_ca: bool) -> String {
    let file = if own_ca { format!("&serverSslCert={CA_FILE}") } else { String::new() };
    format!("jdbc:mariadb://{}&sslMode=verify-full{file}", place_of_jdbc(access))
}

/// The driver reads no PEM file.
fn mysql_jdbc(access: &DatabaseAccess) -> String {
    format!("jdbc:mysql://{}&sslMode=VERIFY_IDENTITY", place_of_jdbc(access))
}

fn pymysql(access: &DatabaseAccess, own_ca: bool) -> String {
    let file = if own_ca { format!("cafile={}", python_text(CA_FILE)) } else { String::new() };
    format!(
        "import getpass, pymysql, ssl\nconnection = pymysql.connect(host={}, port={}, user={}, database={}, \
         ssl=ssl.create_default_context({file}), password=getpass.getpass(\"Token: \"))",
        python_text(&access.host),
        access.port,
        python_text(&access.user),
        python_text(database(access))
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DatabaseProtocol;

    fn access(user: &str, database: &str) -> DatabaseAccess {
        DatabaseAccess {
            protocol: DatabaseProtocol::MySql,
            host: "db.acme.com".into(),
            port: 3306,
            database: Some(database.to_owned()),
            user: user.into(),
            cluster: "shop".into(),
            read_only: false,
        }
    }

    fn pasted(settings: &[ToolSettings], name: &str) -> Vec<String> {
        let tool = settings.iter().find(|tool| tool.name == name).unwrap();
        tool.paste.iter().map(|(_, text)| text.clone()).collect()
    }

    #[test]
    fn names_stay_inside_their_quotes_in_each_tool() {
        let odd = of(&access("o'n\"eil\\l", "a b&c}"), true);
        let mysql = pasted(&odd, "mysql");
        assert_eq!(
            mysql[0],
            "MYSQL_PWD=\"$(pbpaste)\" mysql --no-defaults --enable-cleartext-plugin --ssl-mode=VERIFY_IDENTITY \
             --ssl-ca=pgpassport-ca.pem --protocol=tcp --host=db.acme.com --port=3306 '--user=o'\\''n\"eil\\l' \
             '--database=a b&c}'"
        );
        assert!(mysql[3].contains("'--user=o''n\"eil\\l' '--database=a b&c}'"), "{}", mysql[3]);
        assert_eq!(
            pasted(&odd, "JDBC URL (MariaDB Connector/J)")[0],
            "jdbc:mariadb://db.acme.com:3306/a%20b%26c%7D?user=o%27n%22eil%5Cl&sslMode=verify-full&\
             serverSslCert=pgpassport-ca.pem"
        );
        assert!(pasted(&odd, "Python (PyMySQL)")[0].contains(r#"user="o'n\"eil\\l", database="a b&c}""#));
    }

    #[test]
    fn a_certificate_of_a_public_authority_is_verified_with_the_systems_authorities() {
        let plain = of(&access("alice", "shop"), false);
        assert!(pasted(&plain, "mysql")[0].contains("--ssl-ca=/etc/ssl/cert.pem"));
        assert!(pasted(&plain, "mariadb")[1].contains("--ssl-ca=/etc/ssl/certs/ca-certificates.crt"));
        assert!(pasted(&plain, "Python (PyMySQL)")[0].contains("ssl=ssl.create_default_context(), "));
        let every = plain.iter().flat_map(|tool| &tool.paste);
        assert!(every.into_iter().all(|(_, text)| !text.contains(CA_FILE)));
    }
}
