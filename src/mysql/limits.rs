//! Limits on bytes and counts that a peer controls before the relay starts, with their sources.

use std::time::Duration;

use crate::identity::MAX_TOKEN_BYTES;

/// Longest payload of a physical packet. A payload of this length continues in the next packet (MySQL Internals,
/// "Protocol Basics").
pub const MAX_PAYLOAD: usize = 0xff_ffff;

/// Longest payload of a client's `HandshakeResponse`, which may contain a token. Real ones without a token have under
/// 1,000 bytes.
pub const MAX_RESPONSE: usize = 128 * 1024;

/// Longest payload of a client's answer to an `AuthSwitchRequest`. STS accepts tokens of up to 20,000 bytes.
pub const MAX_ANSWER: usize = 65_535;
const _: () = assert!(MAX_ANSWER > MAX_TOKEN_BYTES + 16 && MAX_RESPONSE > MAX_ANSWER);

/// Longest user or database name that a client may request, in bytes. MySQL's user names have 32 characters, database
/// names 64.
pub const MAX_REQUESTED_NAME: usize = 1_024;

/// Longest name of an authentication plugin, in bytes. The longest real one has 35.
pub const MAX_PLUGIN_NAME: usize = 128;

/// Most connection attributes of a client, in bytes: names, values, and their lengths.
/// `performance_schema_session_connect_attrs_size` is at most 64 KiB (MySQL manual, "Performance Schema System
/// Variables").
pub const MAX_ATTRIBUTE_BYTES: usize = 65_536;

/// Most connection attributes of a client. Real clients send under 15.
pub const MAX_ATTRIBUTES: usize = 128;

/// Longest payload of a server's greeting, which is not protected by TLS. Real ones have under 150 bytes.
pub const MAX_GREETING: usize = 1_024;

/// Longest version text in a server's greeting. MySQL cuts its own at 60 (`SERVER_VERSION_LENGTH`, `mysql_com.h`).
pub const MAX_VERSION: usize = 128;

/// Longest payload of a server's packet before its OK.
pub const MAX_LOGIN_PACKET: usize = 64 * 1024;

/// Longest text of an ERR packet that the proxy writes: libmysqlclient, libmariadb and mysqlnd keep 511 bytes
/// (`MYSQL_ERRMSG_SIZE`, `mysql_com.h`).
pub const MAX_ERROR_TEXT: usize = 500;

/// Longest `KILL` statement that the proxy reads, in bytes. Longer ones are passed on unread.
pub const MAX_KILL: usize = 64;

/// Longest time of a `KILL` that takes a login of its own, with its wait for a place.
pub const KILL_TIMEOUT: Duration = Duration::from_secs(5);

/// Most servers that are asked for the session of another replica's client. A cluster has at most 8 addresses of its name
/// and 16 remembered ones.
pub const MAX_KILL_SERVERS: usize = 24;

/// Most packets in the answer to a question of the proxy's own.
pub const MAX_ANSWER_PACKETS: usize = 16;

/// Longest time for the TLS handshake, as part of the client's login time.
pub const TLS_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest time for a refused client to read its refusal.
pub const REFUSE_TIMEOUT: Duration = Duration::from_secs(2);
