//! A connection to a MySQL listener of the proxy: variables, URLs, and the command line of its clients.

use std::ffi::OsString;

use anyhow::Context;
use zeroize::Zeroizing;

use super::{ConnectionSettings, encoded};

/// Variables that would lead to a server of this machine, or select other groups of an option file.
pub(super) const CLEARED: [&str; 2] = ["MYSQL_UNIX_PORT", "MYSQL_GROUP_SUFFIX"];

/// Kind of a command-line client, which decides its options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::commands) enum MysqlProgram {
    /// `mysql` of MySQL.
    MySql,
    /// `mariadb`, which is also installed as `mysql`.
    MariaDb,
}

impl ConnectionSettings<'_> {
    /// Environment variables. libmysqlclient and libmariadb read host, port, password, and the permission to send a
    /// password in clear; the others are for programs.
    pub(super) fn mysql_variables(&self) -> Vec<(&'static str, Zeroizing<String>)> {
        let mut all = vec![
            ("MYSQL_HOST", self.host.to_owned()),
            ("MYSQL_TCP_PORT", self.port.to_string()),
            ("MYSQL_USER", self.user.clone()),
            ("MYSQL_PWD", self.token.expose().to_owned()),
            ("LIBMYSQL_ENABLE_CLEARTEXT_PLUGIN", "1".to_owned()),
        ];
        all.extend(self.bundle().map(|path| ("MYSQL_SSL_CA", path.display().to_string())));
        all.extend(self.database.clone().map(|database| ("MYSQL_DATABASE", database)));
        all.into_iter().map(|(variable, value)| (variable, Zeroizing::new(value))).collect()
    }

    /// A URI of MySQL Shell and sqlx.
    pub(super) fn mysql_url(&self) -> Zeroizing<String> {
        let bundle = self.bundle().map(|path| format!("&ssl-ca={}", encoded(&path.display().to_string())));
        Zeroizing::new(format!(
            "mysql://{}?ssl-mode=VERIFY_IDENTITY{}",
            self.authority_of_url(),
            bundle.unwrap_or_default()
        ))
    }

    /// A URL of MySQL Connector/J, which verifies by Java's authorities: it reads no PEM file.
    pub(super) fn mysql_jdbc(&self) -> Zeroizing<String> {
        let Self { host, port, .. } = self;
        Zeroizing::new(format!(
            "jdbc:mysql://{host}:{port}/{}&sslMode=VERIFY_IDENTITY",
            self.query_of_jdbc().as_str()
        ))
    }

    /// A URL of MariaDB Connector/J.
    pub(in crate::commands) fn mariadb_jdbc(&self) -> Zeroizing<String> {
        let Self { host, port, .. } = self;
        let file = self.authorities.as_ref().map(|path| encoded(&path.display().to_string()));
        let file = file.map(|path| format!("&serverSslCert={path}")).unwrap_or_default();
        Zeroizing::new(format!(
            "jdbc:mariadb://{host}:{port}/{}&sslMode=verify-full{file}",
            self.query_of_jdbc().as_str()
        ))
    }

    fn authority_of_url(&self) -> String {
        let (user, token) = (encoded(&self.user), encoded(self.token.expose()));
        let database = encoded(self.database.as_deref().unwrap_or_default());
        format!("{user}:{token}@{}:{}/{database}", self.host, self.port)
    }

    fn query_of_jdbc(&self) -> Zeroizing<String> {
        let database = encoded(self.database.as_deref().unwrap_or_default());
        let (user, token) = (encoded(&self.user), encoded(self.token.expose()));
        Zeroizing::new(format!("{database}?user={user}&password={token}"))
    }

    /// Arguments of a command-line client. The token is none of them: the client reads it from `MYSQL_PWD`. A password of an
    /// option file would take its place, so no option file is read unless the first of `args` names one.
    pub(in crate::commands) fn mysql_arguments(
        &self,
        program: MysqlProgram,
        args: &[OsString],
    ) -> anyhow::Result<Vec<OsString>> {
        let bundle = self.bundle().context(
            "the system has no file with certificate authorities in a known place; set ca_file in the profile",
        )?;
        let names_files = |arg: &&OsString| {
            let text = arg.to_string_lossy();
            text.starts_with("--defaults-") || text == "--no-defaults"
        };
        let (files, rest) = match args.split_first().filter(|(first, _)| names_files(first)) {
            Some((first, rest)) => (first.clone(), rest),
            None => (OsString::from("--no-defaults"), args),
        };
        let verify: &[&str] = match program {
            MysqlProgram::MySql => &["--ssl-mode=VERIFY_IDENTITY", "--enable-cleartext-plugin"],
            MysqlProgram::MariaDb => &["--ssl-verify-server-cert"],
        };
        let mut all = vec![files];
        all.extend(verify.iter().map(OsString::from));
        let mut ca = OsString::from("--ssl-ca=");
        ca.push(bundle);
        all.push(ca);
        let place = [
            "--protocol=tcp".to_owned(),
            format!("--host={}", self.host),
            format!("--port={}", self.port),
            format!("--user={}", self.user),
        ];
        all.extend(place.map(OsString::from));
        all.extend(self.database.as_ref().map(|name| OsString::from(format!("--database={name}"))));
        all.extend(rest.iter().cloned());
        Ok(all)
    }
}
