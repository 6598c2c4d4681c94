//! Steps of a login, as metrics and the status page name them.

use crate::words::word_enum;

word_enum! {
    /// Step of a login.
    pub enum LoginStep {
        /// From the accepted connection to the startup packet, with the TLS handshake.
        Startup = "startup",
        /// The client's token.
        Token = "token",
        /// Verification of the token, with the wait for keys.
        Verification = "verification",
        /// A connection of the pool, and its check.
        Pool = "pool",
        /// DNS, TCP and TLS to the server.
        Connect = "connect",
        /// Role credentials, from STS or remembered. Runs at the same time as [`Self::Connect`].
        Sts = "sts",
        /// The cluster's login queue.
        Queue = "queue",
        /// The login at the server.
        ServerLogin = "server_login",
        /// The welcome to the client.
        Welcome = "welcome",
    }
}
