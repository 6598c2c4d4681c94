//! The subcommands.

pub mod check;
pub mod connect;
pub mod doctor;
pub mod health;
pub mod policy;
pub mod reload;
pub mod serve;
