//! Methods of requesting the token from a client.

use std::sync::Arc;

use super::oauthbearer::Discovery;

/// Method of requesting the token. The protocol allows a server only one.
#[derive(Clone, Debug)]
pub enum TokenMethod {
    /// Cleartext password.
    Password,
    /// SASL OAUTHBEARER. Clients without a token are told the issuer.
    OAuthBearer(Arc<Discovery>),
}
