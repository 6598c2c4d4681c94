//! Settings for the tools that people use, ready to paste. The token is in none of them.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::access::DatabaseAccess;
use crate::names::{conninfo_value, shell_word};

/// Name of the downloaded file with the authorities of the proxy's certificate.
pub(super) const CA_FILE: &str = "pgpassport-ca.pem";

/// Name of a database that the configuration does not name.
const ANY_DATABASE: &str = "DATABASE";

/// Settings of a tool: the texts to paste, and the place for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ToolSettings {
    pub(super) name: &'static str,
    /// Instruction to the person, a sentence.
    pub(super) how: String,
    /// Texts to paste, each with the system that it is for, where there are several.
    pub(super) paste: Vec<(Option<&'static str>, String)>,
}

/// Settings for one database of PostgreSQL. `own_ca` is true if the proxy's certificate is not of a public authority.
pub(super) fn of(access: &DatabaseAccess, own_ca: bool) -> Vec<ToolSettings> {
    let conninfo = conninfo(access, own_ca);
    let jdbc = jdbc(access, own_ca);
    let token = "the token as the password";
    let root =
        if own_ca { format!(" and the downloaded {CA_FILE} as the root certificate") } else { String::new() };
    let tool = |name, how: String, paste| ToolSettings { name, how, paste };
    vec![
        tool(
            "psql",
            "Copy the token, then run the line for your system.".to_owned(),
            vec![
                (Some("macOS"), format!("PGPASSWORD=\"$(pbpaste)\" psql {}", shell_word(&conninfo))),
                (
                    Some("Linux with Wayland"),
                    format!("PGPASSWORD=\"$(wl-paste -n)\" psql {}", shell_word(&conninfo)),
                ),
                (
                    Some("Linux with X11"),
                    format!("PGPASSWORD=\"$(xclip -o -selection clipboard)\" psql {}", shell_word(&conninfo)),
                ),
                (
                    Some("Windows PowerShell"),
                    format!("$env:PGPASSWORD = Get-Clipboard; psql {}", powershell_word(&conninfo)),
                ),
            ],
        ),
        tool(
            "DBeaver",
            format!(
                "New connection, PostgreSQL, Connect by URL: this URL, your user name, and {token}. Do not save the \
                 password: it changes with each sign-in."
            ),
            vec![(None, jdbc.clone())],
        ),
        tool(
            "DataGrip, IntelliJ IDEA",
            format!(
                "New data source, PostgreSQL: this URL, authentication User & Password, Save: Never, and {token}."
            ),
            vec![(None, jdbc.clone())],
        ),
        tool("JDBC URL", format!("Property password: {token}."), vec![(None, jdbc)]),
        tool(
            "pgAdmin",
            format!(
                "Register, Server: the fields above on the tab Connection. On the tab Parameters: SSL mode verify-full{root}. Password: {token}."
            ),
            Vec::new(),
        ),
        tool(
            "Tableau, Power BI, Excel",
            format!(
                "Connector PostgreSQL: the fields above, SSL required, and {token}. Schedules need a service's own identity."
            ),
            Vec::new(),
        ),
        tool(
            "Python (psycopg)",
            "Copy the token into the prompt; it is not shown.".to_owned(),
            vec![(
                None,
                format!(
                    "import getpass, psycopg\nconnection = psycopg.connect({}, password=getpass.getpass(\"Token: \"))",
                    python_text(&conninfo)
                ),
            )],
        ),
        tool("ODBC", format!("Field Pwd: {token}."), vec![(None, odbc(access))]),
    ]
}

/// Name of the database, or the word that stands for it.
pub(super) fn database(access: &DatabaseAccess) -> &str {
    access.database.as_deref().unwrap_or(ANY_DATABASE)
}

fn conninfo(access: &DatabaseAccess, own_ca: bool) -> String {
    format!(
        "host={} port={} dbname={} user={} sslmode=verify-full sslrootcert={}",
        conninfo_value(&access.host),
        access.port,
        conninfo_value(database(access)),
        conninfo_value(&access.user),
        if own_ca { CA_FILE } else { "system" }
    )
}

fn jdbc(access: &DatabaseAccess, own_ca: bool) -> String {
    let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let root = if own_ca {
        format!("sslrootcert={CA_FILE}")
    } else {
        "sslfactory=org.postgresql.ssl.DefaultJavaSSLFactory".to_owned()
    };
    format!(
        "jdbc:postgresql://{}:{}/{}?user={}&sslmode=verify-full&{root}",
        access.host,
        access.port,
        encoded(database(access)),
        encoded(&access.user)
    )
}

fn odbc(access: &DatabaseAccess) -> String {
    let braced = |text: &str| format!("{{{}}}", text.replace('}', "}}"));
    format!(
        "Driver={{PostgreSQL Unicode}};Server={};Port={};Database={};Uid={};SSLmode=verify-full;",
        access.host,
        access.port,
        braced(database(access)),
        braced(&access.user)
    )
}

/// A text in Python's quotes. Names hold no control characters.
pub(super) fn python_text(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// A word of PowerShell in single quotes.
pub(super) fn powershell_word(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DatabaseProtocol;

    fn access(user: &str, database: Option<&str>) -> DatabaseAccess {
        DatabaseAccess {
            protocol: DatabaseProtocol::PostgreSql,
            host: "db.acme.com".into(),
            port: 5432,
            database: database.map(str::to_owned),
            user: user.into(),
            cluster: "orders".into(),
            read_only: false,
        }
    }

    fn pasted(settings: &[ToolSettings], name: &str) -> Vec<String> {
        let tool = settings.iter().find(|tool| tool.name == name).unwrap();
        tool.paste.iter().map(|(_, text)| text.clone()).collect()
    }

    #[test]
    fn names_stay_inside_their_quotes_in_each_tool() {
        let odd = of(&access("o'n\"eil\\l $(x)", Some("a b&c}")), true);
        let info = r#"host=db.acme.com port=5432 dbname='a b&c}' user='o\'n"eil\\l $(x)' sslmode=verify-full sslrootcert=pgpassport-ca.pem"#;
        let psql = pasted(&odd, "psql");
        assert_eq!(psql[0], format!("PGPASSWORD=\"$(pbpaste)\" psql {}", shell_word(info)));
        assert_eq!(psql[3], format!("$env:PGPASSWORD = Get-Clipboard; psql '{}'", info.replace('\'', "''")));
        assert_eq!(
            pasted(&odd, "JDBC URL")[0],
            "jdbc:postgresql://db.acme.com:5432/a%20b%26c%7D?user=o%27n%22eil%5Cl%20%24%28x%29&sslmode=verify-full&\
             sslrootcert=pgpassport-ca.pem"
        );
        assert!(pasted(&odd, "Python (psycopg)")[0].contains(r#"user='o\\'n\"eil\\\\l $(x)'"#));
        assert!(pasted(&odd, "ODBC")[0].contains("Database={a b&c}}};"));
        let plain = of(&access("alice", None), false);
        assert!(pasted(&plain, "psql")[1].ends_with(
            "psql 'host=db.acme.com port=5432 dbname=DATABASE user=alice sslmode=verify-full sslrootcert=system'"
        ));
        assert!(pasted(&plain, "DBeaver")[0].contains("DefaultJavaSSLFactory"));
    }
}
