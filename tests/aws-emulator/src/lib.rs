//! Strict stand-ins for an OpenID Connect issuer, AWS STS and the login check of RDS, and throw-away servers:
//! `PostgreSQL`, MySQL, and MariaDB.
//!
//! They check the proxy, so they share no code with it: the rules here were written from the specifications of AWS,
//! the JSON Web Token documents and LDAP. Everything listens on loopback, stops on drop, and can be observed and
//! made to fail by a test without a single sleep.
#![expect(
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "a stand-in that cannot work must stop the test"
)]

mod ber;
pub mod certs;
pub mod clock;
pub mod cloud;
mod encoding;
mod error;
mod fault;
pub mod files;
pub mod gate;
pub mod http;
pub mod interrupt;
pub mod issuer;
mod keeper;
mod keys;
pub mod mysql;
pub mod names;
pub mod policy;
pub mod postgres;
mod programs;
pub mod proxy;
pub mod sigv4;
pub mod sts;
mod sync;

pub use certs::Ca;
pub use clock::SettableClock;
pub use cloud::{Cloud, CloudDatabase, CloudMysql, CloudOptions, DatabaseOptions};
pub use encoding::percent_encode;
pub use error::EmulatorError;
pub use gate::{GateDecision, GateFault, GateOptions, GateRefusal, GateSocket, LoginGate};
pub use http::HttpFault;
pub use interrupt::Interrupt;
pub use issuer::{Issuer, IssuerOptions, IssuerPage, TokenClaims};
pub use keys::KeyChoice;
pub use mysql::{Mysql, MysqlEngine, MysqlOptions};
pub use policy::{PolicyTemplate, PolicyValues};
pub use postgres::{Postgres, PostgresOptions};
pub use proxy::ProxyProcess;
pub use sts::{
    CredentialStore, IamRole, OidcProvider, RoleSession, SourceIp, Sts, StsCall, StsFault, StsOptions,
};
pub use sync::AnswerHold;
