//! Outgoing HTTPS with bounds: which addresses may be asked, by which way, for how long and how much. No issuer, no AWS and
//! no PostgreSQL here.

mod connect;
pub mod egress;
pub mod guard;
pub mod https;
pub mod outgoing;
pub mod peer_clocks;
