//! Byte and time limits below all protocols, with their sources.

use std::time::Duration;

/// Longest PROXY protocol header, extensions included: what the smallest TCP segment holds, 576 - 40
/// (HAProxy, doc/proxy-protocol.txt, section 2).
pub const MAX_PROXY_HEADER: usize = 536;

/// Idle time after which the kernel probes the peer of a connection.
pub const KEEPALIVE_IDLE: Duration = Duration::from_mins(1);

/// Time between two probes.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// Unanswered probes after which the connection is closed.
pub const KEEPALIVE_RETRIES: u32 = 3;

/// Longest time for which sent bytes may stay unacknowledged before the connection is closed.
pub const TCP_USER_TIMEOUT: Duration = Duration::from_secs(90);
