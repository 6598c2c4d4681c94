//! Every refusal, text by text: code, first words, stage; and that the words help the person who reads them.

use std::io;
use std::net::SocketAddr;

use super::*;
use crate::aws::sts::StsError;
use crate::identity::pasted::PastedText;
use crate::identity::{AlgorithmFault, ClaimFault, DeriveError, PolicyError, TokenFault};
use crate::names::{DbUser, NameError, SessionId};
use crate::net::dial::DialError;
use crate::postgres::client::TokenError;
use crate::postgres::error_response::{self, RefusedLogin, sqlstate};
use crate::postgres::message::WireError;
use crate::postgres::password::PasswordError;
use crate::postgres::server_login::{LoginStep, ServerError, UpstreamLoginError};
use crate::postgres::startup::StartupError;
use crate::postgres::token_method::TokenMethod;
use crate::session::login_rate::QueueFull;
use crate::session::permits::{AdmissionError, LimitReached, LimitScope};
use crate::session::registry::AccessWithdrawn;

mod closed;
mod oauthbearer;
mod of_postgres;

fn addr() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 5432))
}

fn connect_error() -> DialError {
    DialError::Connect { addr: addr(), error: io::ErrorKind::ConnectionRefused.into() }
}

fn refused_at(step: LoginStep, sqlstate: &str) -> LoginError {
    LoginError::from(UpstreamLoginError::Refused(Box::new(ServerError {
        sqlstate: sqlstate.into(),
        message: "its words".into(),
        detail: "more".into(),
        hint: Some("do".into()),
        other: vec![(b'R', "InitPostgres".into())],
        step,
    })))
}

fn sts_refused(code: &str) -> LoginError {
    LoginError::Sts(StsError::Refused { code: code.into(), message: "arn:aws:secret".into() })
}

fn token(fault: TokenFault) -> LoginError {
    LoginError::Verify(fault.into())
}

fn claims(fault: ClaimFault) -> LoginError {
    LoginError::Verify(fault.into())
}

fn user(name: &str) -> DbUser {
    DbUser::parse(name).unwrap()
}

fn full(of: LimitScope) -> LoginError {
    AdmissionError::LimitReached(LimitReached { scope: of, max: 7 }).into()
}

/// SQLSTATE, first words, stage, and a part of DETAIL or HINT.
type Row = (LoginError, &'static str, &'static str, Stage, &'static str);

const FAILED: &str = "password authentication failed for user \"al\"";
const NOW: &str = "cannot connect now: ";

#[test]
fn the_table_of_refusals_by_limits() {
    let (alice, app) = (LimitScope::User(user("alice")), LimitScope::Cluster("app".into()));
    let rows: Vec<Row> = vec![
        (full(LimitScope::Clients), "53300", "too many connections for the proxy", Stage::Limits, "is 7"),
        (
            full(LimitScope::Logins),
            "53300",
            "too many connections for the proxy",
            Stage::Limits,
            "progress is 7",
        ),
        (full(LimitScope::Address), "53300", "too many connections for your address", Stage::Limits, "is 7"),
        (full(alice), "53300", "too many connections for user \"alice\"", Stage::Limits, "is 7"),
        (full(app), "53300", "too many connections for cluster \"app\"", Stage::Limits, "is 7"),
        (AccessWithdrawn.into(), "28P01", FAILED, Stage::Authorization, "is withdrawn"),
        (
            AdmissionError::Descriptors.into(),
            "53300",
            "too many connections for the proxy",
            Stage::Limits,
            "run out of file descriptors",
        ),
    ];
    check(&rows);
}

#[test]
fn the_table_of_refusals_before_the_token_is_believed() {
    use TokenFault as F;
    let idp = || "idp".to_owned();
    let rows: Vec<Row> = vec![
        (StartupError::TlsRequired.into(), "28000", "connection requires TLS", Stage::Startup, "verify-full"),
        (
            StartupError::Protocol { major: 2, minor: 0 }.into(),
            "0A000",
            "unsupported frontend protocol 2.0: server supports 3.0 to 3.2",
            Stage::Startup,
            "driver",
        ),
        (
            StartupError::Layout("it is too short").into(),
            "08P01",
            "invalid startup packet layout: it is too short",
            Stage::Startup,
            "protocol",
        ),
        (StartupError::Replication.into(), "0A000", "replication connections", Stage::Startup, "IAM"),
        (
            LoginError::ClientTimedOut,
            "57014",
            "canceling authentication",
            Stage::Token,
            "client_login_timeout",
        ),
        (TokenError::from(PasswordError::Empty).into(), "28P01", FAILED, Stage::Token, "is empty"),
        (
            TokenError::from(PasswordError::Malformed).into(),
            "08P01",
            "invalid password packet",
            Stage::Startup,
            "protocol",
        ),
        (
            TokenError::from(PasswordError::Wire(WireError::Length { tag: 'p', length: 9 })).into(),
            "28P01",
            FAILED,
            Stage::Token,
            "longer than any token",
        ),
        (
            TokenError::from(PasswordError::Wire(WireError::Unexpected('Q'))).into(),
            "08P01",
            "expected password",
            Stage::Startup,
            "",
        ),
        (token(F::NotAJwt { parts: 1 }), "28P01", FAILED, Stage::Token, "like an opaque token"),
        (token(F::NotAJwt { parts: 2 }), "28P01", FAILED, Stage::Token, "it has 2 parts"),
        (token(F::Pasted(PastedText::Bearer)), "28P01", FAILED, Stage::Token, "begins with the word Bearer"),
        (token(F::TooLong { bytes: 20_001 }), "28P01", FAILED, Stage::Token, "20001 bytes"),
        (token(F::Encrypted), "28P01", FAILED, Stage::Token, "encrypted"),
        (token(F::BadEncoding { part: "header" }), "28P01", FAILED, Stage::Token, "damaged"),
        (token(F::Algorithm(AlgorithmFault::Unsigned)), "28P01", FAILED, Stage::Token, "RS256"),
        (token(F::TokenType), "28P01", FAILED, Stage::Token, "typ"),
        (token(F::UnknownIssuer), "28P01", FAILED, Stage::Token, "issuer (iss)"),
        (token(F::BadSignature), "28P01", FAILED, Stage::Token, "could not be verified"),
        (token(F::KeyUnknown { issuer: idp() }), "28P01", FAILED, Stage::Token, "could not be verified"),
        (
            token(F::KeysUnavailable { issuer: idp() }),
            "57P03",
            "cannot connect now: issuer keys unavailable",
            Stage::Keys,
            "Nothing is wrong with your token",
        ),
    ];
    check(&rows);
}

#[test]
fn the_table_of_refusals_of_a_genuine_token() {
    use ClaimFault as F;
    let text = |t: &str| t.to_owned();
    let rows: Vec<Row> = vec![
        (claims(F::Expired { seconds_ago: 720 }), "28P01", FAILED, Stage::Token, "expired 12 minutes ago"),
        (claims(F::Expired { seconds_ago: 1 }), "28P01", FAILED, Stage::Token, "expired 1 second ago"),
        (claims(F::NotYetValid { in_seconds: 7_200 }), "28P01", FAILED, Stage::Token, "in 2 hours"),
        (
            claims(F::IssuedInFuture { in_seconds: 90 }),
            "28P01",
            FAILED,
            Stage::Token,
            "90 seconds in the future",
        ),
        (
            claims(F::LifetimeTooLong { seconds: 200_000, max_seconds: 86_400 }),
            "28P01",
            FAILED,
            Stage::Token,
            "for 2 days",
        ),
        (
            claims(F::Audience { expected: text("\"a\""), got: text("\"b\"") }),
            "28P01",
            FAILED,
            Stage::Token,
            "audience is \"b\", expected \"a\"",
        ),
        (claims(F::MissingClaim("exp")), "28P01", FAILED, Stage::Token, "no claim \"exp\""),
        (claims(F::BadClaim("iat")), "28P01", FAILED, Stage::Token, "\"iat\" is malformed"),
    ];
    check(&rows);
}

#[test]
fn the_table_of_refusals_of_a_genuine_token_for_somebody_else() {
    let text = |t: &str| t.to_owned();
    let rows: Vec<Row> = vec![
        (
            PolicyError::UserMismatch { asked: text("al"), derived: user("bo") }.into(),
            "28P01",
            FAILED,
            Stage::Authorization,
            "user=bo",
        ),
        (
            PolicyError::Derive(DeriveError::Denied { name: text("root") }).into(),
            "28P01",
            FAILED,
            Stage::Authorization,
            "nobody may log in as \"root\"",
        ),
        (
            PolicyError::Derive(DeriveError::Name { name: text("x"), error: NameError::TooLong(64) }).into(),
            "28P01",
            FAILED,
            Stage::Authorization,
            "64 bytes",
        ),
        (
            PolicyError::Database(NameError::TooLong(64)).into(),
            "28P01",
            FAILED,
            Stage::Authorization,
            "database",
        ),
        (
            PolicyError::TagMissing { derived: text("al") }.into(),
            "28P01",
            FAILED,
            Stage::Authorization,
            "tag",
        ),
        (
            PolicyError::TagMismatch { tag: text("bo"), derived: text("al") }.into(),
            "28P01",
            FAILED,
            Stage::Authorization,
            "is \"bo\"",
        ),
    ];
    check(&rows);
}

#[test]
fn the_table_of_refusals_by_policy() {
    let rows: Vec<Row> = vec![
        (
            PolicyError::NoCluster { database: "db".into(), overage: false }.into(),
            "28P01",
            FAILED,
            Stage::Authorization,
            "\"db\" is not served here, or not to you",
        ),
        (
            PolicyError::NotAllowed { database: "db".into(), why: "idp".into(), overage: false }.into(),
            "28P01",
            FAILED,
            Stage::Authorization,
            "\"db\" is not served here, or not to you",
        ),
        (
            PolicyError::ForbiddenSetting { name: "role".into() }.into(),
            "28P01",
            FAILED,
            Stage::Authorization,
            "PGOPTIONS",
        ),
        (
            claims(ClaimFault::Required { claim: "scope".into(), expected: "\"db\"".into(), doubt: None }),
            "28P01",
            FAILED,
            Stage::Token,
            "what is required: \"db\"",
        ),
        (
            QueueFull { cluster: "app".into(), per_second: 200 }.into(),
            "53300",
            "too many connections for cluster \"app\"",
            Stage::Limits,
            "cluster.max_logins_per_second",
        ),
    ];
    check(&rows);
}

#[test]
fn the_table_of_refusals_of_aws_and_the_database() {
    let refused = |sqlstate| refused_at(LoginStep::Token, sqlstate);
    let authenticated = |sqlstate| refused_at(LoginStep::Authenticated, sqlstate);
    let rows: Vec<Row> = vec![
        (sts_refused("AccessDenied"), "28P01", FAILED, Stage::Sts, "sts:TagSession"),
        (sts_refused("ExpiredTokenException"), "28P01", FAILED, Stage::Sts, "fresh token"),
        (sts_refused("InvalidIdentityToken"), "28P01", FAILED, Stage::Sts, "azp"),
        (sts_refused("New"), "28P01", FAILED, Stage::Sts, "the operator"),
        (StsError::Unavailable("x".into()).into(), "57P03", NOW, Stage::Sts, "Try again"),
        (StsError::BadResponse("x").into(), "57P03", NOW, Stage::Sts, "the operator"),
        (connect_error().into(), "57P03", NOW, Stage::UpstreamConnect, "Try again"),
        (DialError::TimedOut.into(), "57P03", NOW, Stage::UpstreamConnect, "Try again"),
        (DialError::NoTls(addr()).into(), "57P03", NOW, Stage::UpstreamTls, "the operator"),
        (
            UpstreamLoginError::NotIam { asked: "SCRAM", user: user("bo") }.into(),
            "28P01",
            FAILED,
            Stage::UpstreamLogin,
            "GRANT rds_iam TO \"bo\"",
        ),
        (refused("28000"), "28P01", FAILED, Stage::UpstreamLogin, "iam-db-auth-error"),
        (refused("28P01"), "28P01", FAILED, Stage::UpstreamLogin, "rds-db:connect"),
        (refused_at(LoginStep::Startup, "28000"), "28P01", FAILED, Stage::UpstreamLogin, "before it asked"),
        (authenticated("28000"), "28P01", "its words", Stage::UpstreamLogin, "more"),
        (authenticated("42501"), "42501", "its words", Stage::UpstreamLogin, "more"),
        (authenticated("55000"), "55000", "its words", Stage::UpstreamLogin, "do"),
        (authenticated("XX000"), "57P03", NOW, Stage::UpstreamLogin, "then failed: its words"),
        (authenticated(""), "57P03", NOW, Stage::UpstreamLogin, "then failed: its words"),
        (refused("3D000"), "3D000", "its words", Stage::UpstreamLogin, "more"),
        (refused("53300"), "53300", "its words", Stage::UpstreamLogin, "do"),
        (refused("57P03"), "57P03", "its words", Stage::UpstreamLogin, "more"),
        (refused("XX000"), "57P03", NOW, Stage::UpstreamLogin, "Try again"),
        (refused("58030"), "57P03", NOW, Stage::UpstreamLogin, "Try again"),
        (refused(""), "57P03", NOW, Stage::UpstreamLogin, "Try again"),
        (UpstreamLoginError::TooMuch.into(), "57P03", NOW, Stage::UpstreamLogin, "Try again"),
        (LoginError::ServerSilent(addr()), "57P03", NOW, Stage::UpstreamLogin, "in time"),
        (
            LoginError::TimedOut(Stage::Sts),
            "57P03",
            "cannot connect now: the login took",
            Stage::Sts,
            "in time",
        ),
    ];
    check(&rows);
}

/// SQLSTATE, message, and both DETAIL and HINT as a client with this method reads them.
fn shown(why: &LoginError, token_method: &TokenMethod) -> (String, String, String) {
    let login = RefusedLogin { user: "al", token_method };
    let bytes = error_response::encode(&explain(why), login, SessionId::random());
    let text = String::from_utf8(bytes[5..].to_vec()).unwrap();
    let field = |code: char| {
        let field = text.split('\0').find_map(|field| field.strip_prefix(code));
        field.unwrap_or_default().to_owned()
    };
    (field('C'), field('M'), format!("{} {}", field('D'), field('H')))
}

fn check(rows: &[Row]) {
    for (why, sqlstate, first_words, stage, helpful) in rows {
        let refusal = explain(why);
        let (code, message, rest) = shown(why, &TokenMethod::Password);
        assert_eq!(code, *sqlstate, "{why}");
        assert!(message.starts_with(first_words), "{why}: {message}");
        assert_eq!(refusal.stage, *stage, "{why}");
        assert!(rest.contains(helpful), "{why}: {rest}");
        // P9: what AWS or the network said is for the log.
        for secret in ["arn:aws:secret", "10.0.0.1", "idp"] {
            assert!(!format!("{refusal:?}").contains(secret), "{why}: {refusal:?}");
        }
    }
}

#[test]
fn nothing_but_tls_is_28000() {
    // A driver that sees it over TLS connects again in clear.
    let whys = [
        refused_at(LoginStep::Token, "28000"),
        refused_at(LoginStep::Startup, "28000"),
        refused_at(LoginStep::Authenticated, "28000"),
        token(TokenFault::BadSignature),
        sts_refused("AccessDenied"),
        LoginError::from(UpstreamLoginError::NotIam { asked: "MD5", user: user("al") }),
    ];
    for why in whys {
        assert_ne!(sqlstate(&explain(&why).condition), "28000", "{why}");
    }
}

/// Texts for pasting are quoted for the place that they are pasted into, whatever a person is called.
#[test]
fn text_to_paste_grants_nothing_else() {
    let name = "x\";GRANT rds_superuser TO \"y";
    let why = LoginError::from(UpstreamLoginError::NotIam { asked: "SCRAM", user: user(name) });
    let hint = shown(&why, &TokenMethod::Password).2;
    let sql = "CREATE USER \"x\"\";GRANT rds_superuser TO \"\"y\"; GRANT rds_iam TO \"x\"\";GRANT rds_superuser TO \"\"y\";";
    assert!(hint.contains(sql), "{hint}");
    let why = PolicyError::UserMismatch { asked: "al".into(), derived: user("x host=evil") };
    let hint = shown(&why.into(), &TokenMethod::Password).2;
    assert!(hint.contains("Put user='x host=evil' into"), "{hint}");
}
