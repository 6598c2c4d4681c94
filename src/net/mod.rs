//! Outgoing connections that are not a database's: which addresses may be asked, and HTTPS with bounds. No issuer, no AWS
//! and no PostgreSQL here.

pub mod guard;
