//! The client's side: sign-in at an issuer, and the tokens that it gives. The proxy does not use this module.
//!
//! | module | job |
//! |---|---|
//! | [`profiles`] | `client.toml` and the profile of a command |
//! | [`published`] | profiles of an administrator, used once they are accepted |
//! | [`token_source`] | the token for a connection: from the cache, or by a refresh |
//! | [`cache`] | the tokens between two commands |
//! | [`sign_in`], [`redirect`] | authorization code with PKCE and a loopback redirect; device code |
//! | [`registration`], [`issuer_client`], [`way_out`] | a client of an issuer, its requests, and the proxy that they go through |
//! | [`tokens`], [`claims`] | tokens as types that cannot be printed; their claims |

pub mod cache;
pub mod claims;
pub mod error;
pub mod folders;
pub mod issuer_client;
pub mod profiles;
pub mod published;
pub mod redirect;
pub mod registration;
pub mod sign_in;
pub mod token_source;
pub mod tokens;
pub mod way_out;

pub use self::error::SignInError;
pub use self::token_source::TokenSource;
pub use self::tokens::ClientToken;
pub use crate::config::client::Profile;
