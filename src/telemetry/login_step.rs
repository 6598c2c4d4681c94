//! Steps of a login, as metrics and the status page name them.

/// Step of a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginStep {
    /// From the accepted connection to the startup packet, with the TLS handshake.
    Startup,
    /// The client's token.
    Token,
    /// Verification of the token, with the wait for keys.
    Verification,
    /// A connection of the pool, and its check.
    Pool,
    /// DNS, TCP and TLS to the server.
    Connect,
    /// Role credentials, from STS or remembered. Runs at the same time as [`Self::Connect`].
    Sts,
    /// The cluster's login queue.
    Queue,
    /// The login at the server.
    ServerLogin,
    /// The welcome to the client.
    Welcome,
}

impl LoginStep {
    /// All steps, in their order.
    pub const ALL: [Self; 9] = [
        Self::Startup,
        Self::Token,
        Self::Verification,
        Self::Pool,
        Self::Connect,
        Self::Sts,
        Self::Queue,
        Self::ServerLogin,
        Self::Welcome,
    ];

    /// Stable word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Startup => "startup",
            Self::Token => "token",
            Self::Verification => "verification",
            Self::Pool => "pool",
            Self::Connect => "connect",
            Self::Sts => "sts",
            Self::Queue => "queue",
            Self::ServerLogin => "server_login",
            Self::Welcome => "welcome",
        }
    }
}
