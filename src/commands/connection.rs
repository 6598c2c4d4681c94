//! A connection to the proxy in the forms that tools read. Each holds the token, so none is an argument of a program.

mod mysql;

use std::path::{Path, PathBuf};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use zeroize::Zeroizing;

use crate::config::DatabaseProtocol;
use crate::login::{ClientToken, Profile, SignInError, TokenSource};
use crate::names::{conninfo_value, shell_word};

pub(super) use self::mysql::MysqlProgram;

/// All but the unreserved characters of RFC 3986, section 2.3.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Files with the system's authorities, in the order of OpenSSL's and Go's lists. libpq before 16 needs a file.
const BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Variables of libpq that would lead elsewhere, or add what does not fit a token.
const CLEARED: [&str; 9] = [
    "PGHOSTADDR",
    "PGSERVICE",
    "PGPASSFILE",
    "PGREQUIRESSL",
    "PGCHANNELBINDING",
    "PGSSLCRL",
    "PGSSLCRLDIR",
    "PGREQUIREAUTH",
    "PGREQUIREPEER",
];

/// Everything that a client needs.
pub(super) struct ConnectionSettings<'a> {
    protocol: DatabaseProtocol,
    host: &'a str,
    port: u16,
    user: String,
    database: Option<String>,
    authorities: Option<PathBuf>,
    token: ClientToken,
}

/// Percent-encoded text of a URL.
fn encoded(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

impl<'a> ConnectionSettings<'a> {
    /// For `database`, or the profile's first one.
    pub(super) fn new(
        source: &'a TokenSource,
        database: Option<&str>,
        token: ClientToken,
    ) -> Result<Self, SignInError> {
        let profile: &Profile = source.profile();
        let first = || profile.databases.first().map(|name| name.as_str().to_owned());
        Ok(Self {
            protocol: profile.protocol,
            host: profile.proxy.host(),
            port: profile.proxy.port(),
            user: source.user(&token)?,
            database: database.map(str::to_owned).or_else(first),
            authorities: profile.ca_file.clone(),
            token,
        })
    }

    /// File with the authorities of the proxy's certificate: the profile's, or the system's.
    fn bundle(&self) -> Option<PathBuf> {
        let system = || BUNDLES.into_iter().map(Path::new).find(|path| path.is_file()).map(Path::to_owned);
        self.authorities.clone().or_else(system)
    }

    /// `sslrootcert` of libpq.
    fn root_cert(&self) -> String {
        self.bundle().map_or_else(|| "system".to_owned(), |path| path.display().to_string())
    }

    /// Variables that the environment of a program must not have.
    pub(super) fn cleared(&self) -> &'static [&'static str] {
        match self.protocol {
            DatabaseProtocol::PostgreSql => &CLEARED,
            DatabaseProtocol::MySql => &mysql::CLEARED,
        }
    }

    fn parameters(&self) -> Vec<(&'static str, &'static str, Zeroizing<String>)> {
        let mut all = vec![
            ("PGHOST", "host", self.host.to_owned()),
            ("PGPORT", "port", self.port.to_string()),
            ("PGUSER", "user", self.user.clone()),
            ("PGPASSWORD", "password", self.token.expose().to_owned()),
            ("PGSSLMODE", "sslmode", "verify-full".to_owned()),
            ("PGSSLROOTCERT", "sslrootcert", self.root_cert()),
            ("PGGSSENCMODE", "gssencmode", "disable".to_owned()),
        ];
        all.extend(self.database.clone().map(|database| ("PGDATABASE", "dbname", database)));
        all.into_iter().map(|(variable, keyword, value)| (variable, keyword, Zeroizing::new(value))).collect()
    }

    /// Environment variables of libpq, or of MySQL's clients.
    pub(super) fn variables(&self) -> Vec<(&'static str, Zeroizing<String>)> {
        if self.protocol == DatabaseProtocol::MySql {
            return self.mysql_variables();
        }
        self.parameters().into_iter().map(|(variable, _, value)| (variable, value)).collect()
    }

    /// The token alone.
    pub(super) fn token(&self) -> Zeroizing<String> {
        Zeroizing::new(self.token.expose().to_owned())
    }

    /// A connection string of keywords and values.
    pub(super) fn conninfo(&self) -> Zeroizing<String> {
        let words = self
            .parameters()
            .into_iter()
            .map(|(_, keyword, value)| format!("{keyword}={}", conninfo_value(&value)));
        Zeroizing::new(words.collect::<Vec<_>>().join(" "))
    }

    /// A connection URI of libpq, or of MySQL Shell and sqlx.
    pub(super) fn url(&self) -> Zeroizing<String> {
        if self.protocol == DatabaseProtocol::MySql {
            return self.mysql_url();
        }
        Zeroizing::new(format!(
            "postgresql://{}:{}@{}:{}/{}?sslmode=verify-full&sslrootcert={}&gssencmode=disable",
            encoded(&self.user),
            encoded(self.token.expose()),
            self.host,
            self.port,
            encoded(self.database.as_deref().unwrap_or_default()),
            encoded(&self.root_cert()),
        ))
    }

    /// A URL of pgjdbc, or of MySQL Connector/J. Without a file the drivers take Java's authorities.
    pub(super) fn jdbc(&self) -> Zeroizing<String> {
        if self.protocol == DatabaseProtocol::MySql {
            return self.mysql_jdbc();
        }
        let trust = match &self.authorities {
            Some(path) => format!("sslrootcert={}", encoded(&path.display().to_string())),
            None => "sslfactory=org.postgresql.ssl.DefaultJavaSSLFactory".to_owned(),
        };
        Zeroizing::new(format!(
            "jdbc:postgresql://{}:{}/{}?user={}&password={}&sslmode=verify-full&{trust}",
            self.host,
            self.port,
            encoded(self.database.as_deref().unwrap_or_default()),
            encoded(&self.user),
            encoded(self.token.expose()),
        ))
    }

    /// A line of a passfile.
    pub(super) fn pgpass(&self) -> Zeroizing<String> {
        let escaped = |text: &str| text.replace('\\', r"\\").replace(':', r"\:");
        Zeroizing::new(format!(
            "{}:{}:*:{}:{}\n",
            self.host,
            self.port,
            escaped(&self.user),
            escaped(self.token.expose())
        ))
    }

    /// Lines for a POSIX shell.
    pub(super) fn env(&self) -> Zeroizing<String> {
        let lines = self
            .variables()
            .into_iter()
            .map(|(name, value)| format!("export {name}={}\n", shell_word(&value)));
        Zeroizing::new(lines.collect())
    }
}
