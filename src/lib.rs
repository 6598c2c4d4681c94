//! PostgreSQL proxy that turns an OIDC token into an AWS IAM database login.
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
//! [`session`] shows it from top to bottom; each step takes what the step before has proved:
//! [`postgres::client::PendingLogin`] is asked for a [`secret::Jwt`], [`identity::Verifier`] makes
//! [`identity::VerifiedClaims`] of it, [`identity::AccessPolicy`] a [`identity::Grant`],
//! [`aws::federation::Federation`] role credentials and a [`secret::IamToken`], and [`postgres::server_login`] a
//! session of the granted user.
//!
//! # Modules
//!
//! | module | job | may know |
//! |---|---|---|
//! | [`secret`], [`names`], [`refusal`], [`clock`] | values that all modules share | each other |
//! | [`config`] | `proxy.toml` as checked settings | names, secret |
//! | [`net`] | sockets, TLS, name resolution, dialing, PROXY protocol; no protocol on top | config, the grant |
//! | [`identity`] | token to grant: verification, key sets, access policy, database user; no wire | config, net |
//! | [`aws`] | STS, role credentials, session policy, IAM token | the grant, config, net |
//! | [`postgres`] | PostgreSQL on the wire: both logins, reset, transaction tracker, cancel keys | net, the grant |
//! | [`pool`] | idle server connections, each for one person | postgres, the grant, config |
//! | [`relay`] | both directions of a session, time limits, last error | postgres, net, config |
//! | [`session`] | the order of the steps; outcome, explanation, permits, login rate, registry | every step |
//! | [`accept`], [`lifecycle`] | listening sockets, worker threads, signals | session |
//! | [`telemetry`] | log lines, the audit record, metrics; written, never read | names, config, net |
//! | [`admin`] | health and metrics over HTTP | session, accept, telemetry |
//! | [`agent`] | the local agent of `connect`: tools on the person's machine, one login at the proxy for each of their connections | net, secret, names |
//! | [`supervisor`] | owner of every task that lives as long as the process | names |
//! | [`login`] | the client's side: sign-in at an issuer, cached tokens; not used by the proxy | config, net, names, secret |
//! | [`core_dumps`] | keeping the process's memory off disks | nothing |
//! | [`app`], [`commands`], [`cli`] | building the parts, running them | all |
//!
//! Sessions live on one current-thread runtime per core and never leave it; fetching keys and calling STS
//! happen on a runtime of their own. `tests/it/architecture.rs` keeps the table true.
//!
//! # Invariants
//!
//! 1. No token is read outside TLS, except from loopback when the configuration says so
//!    (`c2_a_login_in_clear_is_refused_before_any_question`); a balancer's word is never loopback (`c10_…`).
//! 2. Nothing is dialled and no AWS call is made before the claims are verified; nothing reaches the upstream
//!    before a grant exists (`c9_nobody_is_dialled_for_a_forged_token`).
//! 3. A token without `exp`, `iat`, `iss`, `aud` or the user claim is refused (`j5_…`, `j6_…`).
//! 4. No step sees a secret it does not spend; no secret can be printed; it is overwritten when spent
//!    (`l1_…`, `l2_…`).
//! 5. Nothing a peer sent is echoed to it but the names it asked for, escaped and cut; what a token says is
//!    repeated only once its signature holds (`c11_…`, `j15_…`).
//! 6. No read, wait, queue, map or log line that a stranger can grow is without a limit (`c4_…`, `p3_…`).
//! 7. After the welcome bytes are copied; words of ours are said only between two messages of the server, and are
//!    one last error and, where configured, one notice (`u8_…`, `r4_…`).
//! 8. A session leaves one audit record when it ends, whatever happened (`l8_…`); connections that fail leave as many as
//!    their rate allows, and the rest is counted. Nothing waits for a log that cannot be written (`a_log_that_…`).
//! 9. There is no plaintext upstream and no unverified one (`p1_…`).
//! 10. No global mutable state (a thread keeps spare buffers, which are empty), one clock, one place that exits
//!     (`one_place_for_each_power`).
//! 11. A connection to the server that is kept serves only the cluster, database, database user, issuer and subject
//!     it was opened for, and only after it was reset; no cancel key reaches a later session (`u4_…`).
//! 12. A right cancel key is never limited as a stranger's
//!     (`a_hundred_sessions_are_cancelled_at_once_behind_wrong_and_late_cancels`).
//! 13. User, database and cluster are decided in one place, and what was granted is what the server is asked for
//!     (`u1_what_was_granted_is_what_the_server_is_asked_for`).
//! 14. A restriction never falls away because a claim is missing or malformed: rules grant, or the login is refused
//!     (`a_restriction_does_not_fall_away_with_its_claim`).
//! 15. Every task that lives as long as the process is supervised, nothing waits for ever for one that fails, and `/livez`
//!     and the watchdog answer for all of them (`whatever_is_spawned_has_an_owner`, `key_refresher_…`, `a_task_that_…`).
//! 16. One address cannot starve others: when the places of unverified connections are taken, the longest silent one of the
//!     address that holds most makes room (`c7_a_thousand_connections_of_one_address_keep_no_other_address_out`).

pub mod accept;
pub mod admin;
pub mod agent;
pub mod app;
pub mod aws;
pub mod cli;
pub mod clock;
pub mod commands;
pub mod config;
pub mod core_dumps;
pub mod identity;
pub mod lifecycle;
pub mod login;
pub mod names;
pub mod net;
pub mod pool;
pub mod postgres;
pub mod protocol;
pub mod refusal;
pub mod relay;
pub mod secret;
pub mod session;
pub mod supervisor;
pub mod telemetry;
