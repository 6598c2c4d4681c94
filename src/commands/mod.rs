//! The subcommands.

mod accept_profiles;
mod agent_tokens;
pub mod check;
pub mod client;
pub mod connect;
mod connection;
pub mod doctor;
pub mod exec;
mod file_watch;
pub mod health;
pub mod login;
pub mod logout;
pub mod manual;
pub mod mysql;
pub mod pages;
pub mod policy;
pub mod profiles;
pub mod psql;
pub mod reload;
pub mod serve;
pub mod token;
pub mod top;
pub mod whoami;
