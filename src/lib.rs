//! PostgreSQL proxy that turns an OIDC token into an AWS IAM database login.

pub mod app;
pub mod auth;
pub mod aws;
pub mod cancel;
pub mod cli;
pub mod client;
pub mod clock;
pub mod commands;
pub mod config;
pub mod explain;
pub mod lifecycle;
pub mod names;
pub mod outcome;
pub mod refusal;
pub mod relay;
pub mod secret;
pub mod server;
pub mod session;
pub mod telemetry;
pub mod upstream;
pub mod wire;
