//! The one error that starting a stand-in can give: changes when a new thing can keep one from starting.

use std::io;

/// Why a stand-in could not be started or set up.
#[derive(Debug, thiserror::Error)]
pub enum EmulatorError {
    /// The operating system refused something.
    #[error("{doing}: {source}")]
    Io {
        /// The action that failed.
        doing: String,
        /// Error of the operating system.
        source: io::Error,
    },
    /// A certificate could not be made.
    #[error("certificate for {names}: {source}")]
    Certificate {
        /// The names it was for.
        names: String,
        /// Error of the certificate library.
        source: rcgen::Error,
    },
    /// A key could not be made.
    #[error("the cryptography library could not make a key")]
    Key,
    /// A policy document that AWS would not take, or that uses a part of the language not written here.
    #[error("policy document: {0}")]
    Policy(String),
    /// `PostgreSQL` is missing or did what it should not.
    #[error("PostgreSQL: {0}")]
    Postgres(String),
    /// MySQL or MariaDB is missing or did what it should not.
    #[error("{engine}: {problem}")]
    Mysql {
        /// The engine.
        engine: &'static str,
        /// Description of the problem.
        problem: String,
    },
    /// A program failed.
    #[error("{program} failed: {said}")]
    Program {
        /// The program.
        program: String,
        /// Its standard error.
        said: String,
    },
    /// The proxy did not start or did not end as it should.
    #[error("the proxy: {0}")]
    Proxy(String),
}

impl EmulatorError {
    /// An I/O error together with what was being done.
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }
}
