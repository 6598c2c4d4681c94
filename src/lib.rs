//! PostgreSQL proxy that turns an OIDC token into an AWS IAM database login.

pub mod cancel;
pub mod client;
pub mod clock;
pub mod config;
pub mod names;
pub mod refusal;
pub mod relay;
pub mod secret;
pub mod upstream;
pub mod wire;
