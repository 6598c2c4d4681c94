//! Limits of bytes and times below every protocol, with their sources.

use std::time::Duration;

/// Longest PROXY protocol header, extensions included: what the smallest TCP segment holds, 576 - 40
/// (HAProxy, doc/proxy-protocol.txt, section 2).
pub const MAX_PROXY_HEADER: usize = 536;

/// How long a connection may be silent before the kernel asks whether its peer is still there.
pub const KEEPALIVE_IDLE: Duration = Duration::from_mins(1);

/// Time between two such questions.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// Unanswered questions after which the peer counts as gone.
pub const KEEPALIVE_RETRIES: u32 = 3;

/// How long sent bytes may stay unacknowledged before the peer counts as gone.
pub const TCP_USER_TIMEOUT: Duration = Duration::from_secs(90);
