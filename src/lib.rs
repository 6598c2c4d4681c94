//! Proxy for PostgreSQL and MySQL that turns an OIDC token into an AWS IAM database login.
//!
//! # The path of a connection
//!
//! ```text
//! accept -> negotiate (direct TLS | SSLRequest | GSSENCRequest | CancelRequest) -> startup
//!   -> ask (cleartext password | OAUTHBEARER) -> verify (JWT) -> authorise (database user = grant)
//!   -> a warm connection of the same person, or
//!      [dial upstream: TCP + TLS]  in parallel with  [federate: STS] -> sign: IAM token -> log in upstream
//!   -> welcome the client -> relay -> end (one audit record)
//! ```
//!
//! [`session`] shows it from top to bottom, for any [`protocol::Protocol`]. Each step takes the result of the step
//! before: [`protocol::Protocol::Client`] yields a [`secret::Jwt`], [`identity::Verifier`] turns it into
//! [`identity::VerifiedClaims`], [`identity::AccessPolicy`] into an [`identity::Grant`],
//! [`aws::federation::Federation`] into role credentials and a [`secret::IamToken`], and
//! [`protocol::Protocol::log_in`] opens a session as the granted user.
//!
//! # Modules
//!
//! | module | job | may know |
//! |---|---|---|
//! | [`secret`], [`names`], [`refusal`], [`clock`], `sync`, `words` | values that all modules share | each other |
//! | [`rds_roots`] | certificate authorities of RDS, as data | nothing |
//! | [`config`] | `proxy.toml` as checked settings | names, secret, `rds_roots` |
//! | [`net`] | sockets, TLS, name resolution, dialing, PROXY protocol; no protocol on top | config, the grant, `rds_roots` |
//! | [`identity`] | token to grant: verification, key sets, access policy, database user; no wire | config, net |
//! | [`aws`] | STS, role credentials, session policy, IAM token | the grant, config, net |
//! | [`protocol`] | the seam: the traits that a wire protocol implements for session, pool and relay | net, the grant |
//! | [`postgres`] | PostgreSQL on the wire: both logins, reset, transaction tracker, cancel keys | protocol, net, the grant |
//! | [`mysql`] | MySQL on the wire: both logins, session tracker, KILL | protocol, net, the grant |
//! | [`pool`] | idle server connections of any protocol, each for one person | protocol, the grant, config |
//! | [`relay`] | both directions of a session of any protocol, time limits, last error | protocol, net, config |
//! | [`session`] | the order of the steps for any protocol; outcome, explanation, permits, login rate, registry | every step, no protocol |
//! | [`accept`], [`lifecycle`] | listening sockets, worker threads, signals | session, net, telemetry |
//! | [`telemetry`] | log lines, the audit record, metrics, traces; written, never read | clock, names, refusal, config, net |
//! | [`sign_in`] | pages over HTTPS: published profiles, and a sign-in for browsers | accept, session, identity, login, net, telemetry |
//! | [`admin`] | health, metrics, and the status page over HTTP | session, accept, telemetry |
//! | [`console`] | commands for operators through a PostgreSQL client | session, accept, telemetry, postgres, identity |
//! | [`agent`] | the local agent of `connect`: tools on the person's machine, one login at the proxy for each of their connections | net, secret, names, refusal, mysql |
//! | [`supervisor`] | owner of every task that lives as long as the process | names |
//! | [`login`] | the client's side: sign-in at an issuer, cached tokens; not used by a session | config, net, names, secret |
//! | [`core_dumps`] | keeping the process's memory off disks | nothing |
//! | [`app`], [`commands`], [`cli`] | building the parts, running them | all |
//!
//! Each session runs on one worker thread and never leaves it. Fetching keys and calling STS run on a
//! separate runtime. `tests/it/architecture.rs` checks the table.
//!
//! # Invariants
//!
//! 1. No token is read outside TLS, except at a Unix socket, and from loopback if the configuration allows it
//!    (`c2_a_login_in_clear_is_refused_before_any_question`). A connection through a load balancer never
//!    counts as loopback (`c10_…`).
//! 2. Before the claims of a client are verified, nothing is dialed for it and no AWS call is made. Before a grant exists,
//!    nothing is sent to the upstream (`c9_a_forged_token_opens_no_connection`).
//! 3. A token without `exp`, `iat`, `iss`, `aud` or the user claim is refused (`j5_…`, `j6_…`).
//! 4. Each step sees only the secrets that it consumes. No secret can be printed. Secrets are zeroized after
//!    use (`l1_…`, `l2_…`).
//! 5. A peer gets nothing echoed except the names it requested, escaped and cut. Claims are repeated only
//!    after the signature holds (`c11_…`, `j15_…`).
//! 6. Every read, wait, queue, map and log line that an untrusted peer can grow has a limit (`c4_…`, `p3_…`).
//! 7. After the welcome, bytes are copied. The proxy adds messages only between two messages of the server:
//!    one last error and, if configured, one notice (`u8_…`, `r4_…`). Of a MySQL client it replaces the id in a `KILL`
//!    and refuses `COM_CHANGE_USER` (`every_other_byte_passes`).
//! 8. A session leaves one audit record when it starts and one when it ends (`l8_…`). Failed connections leave as many as
//!    their rate allows; the rest are counted. Nothing waits for a log that cannot be written
//!    (`a_log_that_…`).
//! 9. Upstream connections always use verified TLS (`p1_…`).
//! 10. No global mutable state (a thread keeps empty spare buffers), one clock, one place that exits
//!     (`each_capability_is_used_in_one_place`).
//! 11. A pooled connection serves only the cluster, database, database user, issuer and subject it was opened
//!     for, and only after a reset. No cancel key reaches a later session (`u4_…`).
//! 12. Cancels with a valid key are never limited by those with invalid keys
//!     (`a_hundred_sessions_are_cancelled_at_once_behind_wrong_and_late_cancels`).
//! 13. User, database and cluster are decided in one place, and the server is asked for exactly what was
//!     granted (`u1_what_was_granted_is_what_the_server_is_asked_for`).
//! 14. A missing or malformed claim never lifts a restriction: rules grant, or the login is refused
//!     (`a_restriction_does_not_fall_away_with_its_claim`).
//! 15. Every task that lives as long as the process is supervised. Nothing waits forever for a failing task,
//!     and `/livez` and the watchdog report all of them (`every_spawned_task_has_an_owner`,
//!     `key_refresher_…`, `a_task_that_…`).
//! 16. One address cannot starve others: at the limit of unauthenticated connections, the longest silent one
//!     of the address that holds most is closed
//!     (`c7_a_thousand_connections_of_one_address_keep_no_other_address_out`).

pub mod accept;
pub mod admin;
pub mod agent;
pub mod app;
pub mod aws;
pub mod cli;
pub mod clock;
pub mod commands;
pub mod config;
pub mod console;
pub mod core_dumps;
pub mod identity;
pub mod lifecycle;
pub mod login;
pub mod mysql;
pub mod names;
pub mod net;
pub mod pool;
pub mod postgres;
pub mod protocol;
pub mod rds_roots;
pub mod refusal;
pub mod relay;
pub mod secret;
pub mod session;
pub mod sign_in;
pub mod supervisor;
mod sync;
pub mod telemetry;
mod words;
