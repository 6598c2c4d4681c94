//! Closed lists of words that metrics have as labels and audit records as values.

use crate::words::word_enum;

word_enum! {
    /// Outcome of a connection.
    pub enum ConnectionOutcome {
        /// A session that ended in one of the usual ways.
        Session = "session",
        /// A connection to the console.
        Console = "console",
        /// A refused login.
        Refused = "refused",
        /// A cancel request.
        Cancel = "cancel",
        /// The client left to get a token.
        NoToken = "no_token",
        /// The client asked for the issuer only.
        Discovery = "discovery",
        /// The connection never spoke the listener's protocol.
        Dropped = "dropped",
        /// A health check of a load balancer.
        HealthCheck = "health_check",
        /// The server's connection broke, or the client left at the welcome.
        Lost = "lost",
        /// The connection's task panicked.
        Aborted = "aborted",
    }
}

word_enum! {
    /// End of a session.
    pub enum SessionEndReason {
        /// The client ended it.
        ClientLeft = "client_left",
        /// The client's connection broke.
        ClientLost = "client_lost",
        /// The server ended it with an error message.
        ServerEnded = "server_ended",
        /// The server's connection broke.
        ServerLost = "server_lost",
        /// `session.client_idle_timeout` passed.
        Idle = "idle",
        /// `session.idle_transaction_timeout` passed.
        IdleInTransaction = "idle_in_transaction",
        /// `session.max_lifetime`, or that of the person's group, is reached.
        Lifetime = "lifetime",
        /// The token expired.
        TokenExpired = "token_expired",
        /// `[denied]` withdraws the person's access.
        Withdrawn = "withdrawn",
        /// An operator ended it on the console.
        Killed = "killed",
        /// An operator drains the cluster.
        ClusterDrained = "cluster_drained",
        /// The service stops, and no transaction was open.
        Drained = "drained",
        /// The service stops and waits no longer.
        Stopped = "stopped",
    }
}

word_enum! {
    /// Reason of a connection that never spoke the listener's protocol.
    pub enum DropReason {
        /// Nothing was sent.
        Silent = "silent",
        /// The PROXY protocol header is missing, invalid or unexpected.
        ProxyHeader = "proxy_header",
        /// The first packet has an impossible length.
        Junk = "junk",
        /// Bytes in clear arrived ahead of the TLS handshake.
        PreTlsBytes = "pre_tls_bytes",
        /// Encryption was requested again and again.
        Repeated = "repeated",
        /// The TLS handshake failed.
        Tls = "tls",
        /// The TLS handshake took too long.
        TlsTimeout = "tls_timeout",
        /// No complete packet arrived in time.
        Timeout = "timeout",
        /// Direct TLS without the protocol's ALPN name.
        NoAlpn = "no_alpn",
        /// The limits of connections and of refusals are reached.
        Crowded = "crowded",
        /// The connection was evicted for another one.
        Evicted = "evicted",
        /// The socket failed.
        Io = "io",
    }
}

word_enum! {
    /// Result of a cancel request.
    pub enum CancelResult {
        /// A server got it.
        Forwarded = "forwarded",
        /// Its key is invalid or late, or it came too often.
        Ignored = "ignored",
        /// No server could be reached.
        Failed = "failed",
    }
}

word_enum! {
    /// Result of the cancel of a statement whose session the proxy has ended.
    pub(super) enum StatementCancelResult {
        /// The server got it.
        Sent = "sent",
        /// The server could not be reached in time, or the proxy has no way to cancel.
        Failed = "failed",
    }
}

word_enum! {
    /// Result of a login that took a measurable time.
    pub(super) enum LoginResult {
        /// The login became a session.
        Session = "session",
        /// The login was refused.
        Refused = "refused",
    }
}

word_enum! {
    /// Step from DNS lookup to a session on the database.
    pub enum UpstreamStep {
        /// DNS lookup.
        Name = "name",
        /// TCP connection.
        Tcp = "tcp",
        /// TLS handshake.
        Tls = "tls",
        /// Login.
        Login = "login",
    }
}

word_enum! {
    /// Direction of relayed bytes.
    pub(super) enum RelayedDirection {
        /// From client to server.
        ToServer = "to_server",
        /// From server to client.
        ToClient = "to_client",
    }
}

word_enum! {
    /// Result of a reload.
    pub(super) enum ReloadResult {
        /// The new configuration is in use.
        Applied = "applied",
        /// The former configuration stays in use.
        Refused = "refused",
    }
}

word_enum! {
    /// HTTPS page, as in the configuration.
    pub enum PageName {
        /// `[profiles]`
        Profiles = "profiles",
        /// `[sign_in]`
        SignIn = "sign_in",
    }
}

word_enum! {
    /// Outcome of a connection of an HTTPS page.
    pub enum PageOutcome {
        /// A request was answered.
        Answered = "answered",
        /// The connection was closed for a newer one.
        Evicted = "evicted",
        /// TLS or HTTP failed, or a limit of time or size was reached.
        Failed = "failed",
        /// A load balancer looked whether the page listens.
        HealthCheck = "health_check",
    }
}

word_enum! {
    /// Destination of lines, and their kind.
    pub(super) enum LogLabel {
        /// Log lines.
        Log = "log",
        /// Audit records.
        Audit = "audit",
    }
}

word_enum! {
    /// Result of fetching an issuer's keys.
    pub enum KeyFetchResult {
        /// A key set was fetched.
        Good = "good",
        /// The fetch failed.
        Failed = "failed",
    }
}

word_enum! {
    /// Reason why a token causes a fetch of its issuer's keys.
    pub enum RefetchReason {
        /// No key has the id in the token.
        UnknownKey = "unknown_key",
        /// The signature does not fit the key.
        BadSignature = "bad_signature",
    }
}
