//! Limits on bytes, messages and time that a peer controls before the relay starts, with their sources.

use std::time::Duration;

use crate::identity::MAX_TOKEN_BYTES;
use crate::refusal::MAX_TEXT;

/// Longest length field of a StartupMessage: `MAX_STARTUP_PACKET_LENGTH` (10,000) and the field itself
/// (PostgreSQL, src/include/libpq/pqcomm.h).
pub const MAX_STARTUP_LENGTH: usize = 10_004;

/// Most name-value pairs in a StartupMessage. PostgreSQL has no such limit; real clients send under 15.
pub const MAX_STARTUP_PARAMETERS: usize = 64;

/// Valid length fields of a CancelRequest: code, process id, and a key of 4 to 256 bytes (PostgreSQL 18
/// protocol, `CancelRequest`).
pub const CANCEL_LENGTHS: std::ops::RangeInclusive<usize> = 16..=268;

/// Longest body of a password message: `PG_MAX_AUTH_TOKEN_LENGTH` (PostgreSQL, src/include/libpq/auth.h).
pub const MAX_PASSWORD_BODY: usize = 65_535;

/// Longest body of a SASL response: `PG_MAX_SASL_MESSAGE_LENGTH` (PostgreSQL, src/backend/libpq/auth-sasl.c).
pub const MAX_SASL_BODY: usize = 65_535;
const _: () = assert!(MAX_SASL_BODY > MAX_TOKEN_BYTES && MAX_PASSWORD_BODY > MAX_TOKEN_BYTES);

/// Longest Authentication message that the proxy writes, including the tag: libpq accepts no longer ones
/// during login (fe-connect.c, "message contents do not agree with length" above 2,000).
pub const MAX_AUTHENTICATION_MESSAGE: usize = 2_000;

/// Longest message from the upstream before its ReadyForQuery. libpq accepts at most 30,000 bytes for message
/// types that are not marked as long (`VALID_LONG_MESSAGE_TYPE`, fe-protocol3.c).
pub const MAX_LOGIN_MESSAGE: usize = 30_000;

/// Most messages from the upstream before its ReadyForQuery; PostgreSQL sends about 15.
pub const MAX_LOGIN_MESSAGES: usize = 1_000;

/// Most bytes from the upstream before its ReadyForQuery.
pub const MAX_LOGIN_BYTES: usize = 1 << 20;
const _: () = assert!(MAX_LOGIN_MESSAGE <= MAX_LOGIN_BYTES);

/// Longest ErrorResponse that the proxy writes: libpq ignores the text of longer ones during login
/// (`MAX_ERRLEN`, fe-connect.c).
pub const MAX_ERROR_RESPONSE: usize = 30_000;
const _: () = assert!(5 * MAX_TEXT < MAX_ERROR_RESPONSE); // message, DETAIL, HINT, note, and the names around them

/// Longest time for a refused client to read its refusal.
pub const REFUSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Longest time for forwarding a cancel.
pub const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);
