//! Encoding of refusals: the only writer of ERR packets. There is one line of text, because the protocol has no DETAIL
//! and no HINT.

use super::limits::MAX_ERROR_TEXT;
use super::packet::packet;
use super::question::TokenMethod;
use super::server_error::ERR;
use crate::names::{MAX_NAME_BYTES, SessionId, printable};
use crate::refusal::{Condition, Hint, Refusal};

/// Context of a refused login.
#[derive(Clone, Copy, Debug)]
pub struct RefusedLogin<'a> {
    /// User that the client requested.
    pub user: &'a str,
    /// Method by which the token was requested.
    pub token_method: TokenMethod,
}

/// Separates number and SQLSTATE in a [`Condition::ServerCode`] of MySQL.
pub(super) const OF_SERVER: char = '/';

/// The code of a server's error, for [`Condition::ServerCode`].
pub(super) fn server_code(errno: u16, sqlstate: &str) -> String {
    format!("{errno}{OF_SERVER}{sqlstate}")
}

/// Number and SQLSTATE of a condition (MySQL manual, "Server Error Message Reference"), chosen by how drivers react.
pub fn codes(condition: &Condition) -> (u16, &str) {
    match condition {
        Condition::TlsRequired => (3159, "HY000"), // ER_SECURE_TRANSPORT_REQUIRED
        Condition::AuthenticationFailed | Condition::PeerNotAllowed => (1045, "28000"), // ER_ACCESS_DENIED_ERROR
        Condition::AuthenticationTimedOut => (1159, "08S01"), // ER_NET_READ_INTERRUPTED
        Condition::CannotConnectNow(_) => (3168, "HY000"),    // ER_SERVER_ISNT_AVAILABLE
        Condition::TooManyConnections(_) => (1040, "08004"),  // ER_CON_COUNT_ERROR
        Condition::ProtocolViolation(_) => (1043, "08S01"),   // ER_HANDSHAKE_ERROR
        Condition::Unsupported(_) => (1251, "08004"),         // ER_NOT_SUPPORTED_AUTH_MODE
        // Pools of JDBC drop a connection on class 08.
        Condition::Terminating(_) => (1053, "08S01"), // ER_SERVER_SHUTDOWN
        Condition::IdleSession | Condition::IdleInTransaction => (4031, "HY000"), // ER_CLIENT_INTERACTION_TIMEOUT
        Condition::ServerLost => (1158, "08S01"),                                 // ER_NET_READ_ERROR
        Condition::Internal => (1105, "HY000"),                                   // ER_UNKNOWN_ERROR
        Condition::ServerCode(code) => code
            .split_once(OF_SERVER)
            .and_then(|(errno, state)| Some((errno.parse().ok()?, state)))
            .filter(|(_, state)| state.len() == 5)
            .unwrap_or((1105, "HY000")),
    }
}

/// First words: stable, the server's own if it has some.
fn first_words(condition: &Condition, login: RefusedLogin<'_>) -> String {
    match condition {
        Condition::PeerNotAllowed => "Access denied for this user of the machine".to_owned(),
        Condition::TlsRequired => "Connections using insecure transport are prohibited".to_owned(),
        Condition::AuthenticationFailed => {
            format!("Access denied for user '{}'", printable(login.user, MAX_NAME_BYTES))
        }
        Condition::AuthenticationTimedOut => "Got timeout reading communication packets".to_owned(),
        Condition::CannotConnectNow(what) => format!("Server isn't available: {what}"),
        Condition::TooManyConnections(scope) => format!("Too many connections for {scope}"),
        Condition::ProtocolViolation(what) => format!("Bad handshake: {what}"),
        Condition::Unsupported(what) => what.clone(),
        Condition::Terminating(reason) => format!("terminating connection due to {reason}"),
        Condition::IdleSession => {
            "The client was disconnected by the server because of inactivity".to_owned()
        }
        Condition::IdleInTransaction => {
            "The client was disconnected by the server because of inactivity in a transaction".to_owned()
        }
        Condition::ServerLost => "Got an error reading communication packets".to_owned(),
        Condition::Internal => "internal error in the proxy".to_owned(),
        Condition::ServerCode(_) => "the server refused".to_owned(),
    }
}

/// Text of a remedy for MySQL's drivers.
pub fn hint(hint: &Hint, token_method: TokenMethod) -> &str {
    match (hint, token_method) {
        (Hint::Text(text), _) => text,
        (Hint::UseTls, _) => {
            "Connect with --ssl-mode=VERIFY_IDENTITY (mysql), --ssl-verify-server-cert (mariadb), or \
             sslMode=VERIFY_IDENTITY (Connector/J)."
        }
        (Hint::SendToken | Hint::SendJwt, TokenMethod::Password) => {
            "Send the JWT of your identity provider as the password, whole: the prompt of mysql and mariadb cuts it at \
             79 bytes, so use MYSQL_PWD or an option file."
        }
        (Hint::SendToken | Hint::SendJwt, TokenMethod::OpenId) => {
            "Send the JWT of your identity provider by the plugin (mysql: \
             --authentication-openid-connect-client-id-token-file)."
        }
    }
}

/// ERR packet for a refusal of `login`. The text ends with the session id, so that the operator finds the log line.
pub fn encode(refusal: &Refusal, login: RefusedLogin<'_>, session: SessionId, sequence: u8) -> Vec<u8> {
    let (errno, sqlstate) = codes(&refusal.condition);
    packet(sequence, &payload(errno, sqlstate, &text(refusal, login, session)))
}

/// As [`encode`], in place of a greeting. Without flags that both sides know, the packet has no SQLSTATE.
pub fn before_greeting(refusal: &Refusal, login: RefusedLogin<'_>, session: SessionId) -> Vec<u8> {
    let (errno, _) = codes(&refusal.condition);
    let mut payload = vec![ERR];
    payload.extend_from_slice(&errno.to_le_bytes());
    payload.extend_from_slice(text(refusal, login, session).as_bytes());
    packet(0, &payload)
}

fn text(refusal: &Refusal, login: RefusedLogin<'_>, session: SessionId) -> String {
    let stage = refusal.stage.word();
    let detail = refusal.detail.trim_end_matches('.');
    let mut words = match &refusal.words {
        Some(server) if detail.is_empty() => format!("{}. Stage {stage}.", server.message),
        Some(server) => format!("{}. Stage {stage}: {detail}.", server.message),
        None => format!("{}: stage {stage}: {detail}.", first_words(&refusal.condition, login)),
    };
    let remedy = refusal.hint.as_ref().map(|remedy| hint(remedy, login.token_method));
    for more in remedy.into_iter().chain(refusal.note.as_deref()) {
        words.push(' ');
        words.push_str(more);
    }
    one_line(&words, &format!(" Session {session}."))
}

/// Payload of an ERR packet. The text is made one line and cut to [`MAX_ERROR_TEXT`].
pub fn payload(errno: u16, sqlstate: &str, text: &str) -> Vec<u8> {
    let mut payload = vec![ERR];
    payload.extend_from_slice(&errno.to_le_bytes());
    payload.push(b'#');
    payload.extend_from_slice(sqlstate.as_bytes());
    payload.extend_from_slice(one_line(text, "").as_bytes());
    payload
}

/// ERR packet that ends a session. It refuses no login, so it names no user.
pub fn last_words(refusal: &Refusal, session: SessionId, sequence: u8) -> Vec<u8> {
    encode(refusal, RefusedLogin { user: "", token_method: TokenMethod::Password }, session, sequence)
}

/// The words without control characters, cut so that they and `end` fit.
fn one_line(words: &str, end: &str) -> String {
    let words: String = words.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if words.len() + end.len() <= MAX_ERROR_TEXT {
        return words + end;
    }
    let mut cut = MAX_ERROR_TEXT.saturating_sub(end.len() + '…'.len_utf8());
    while !words.is_char_boundary(cut) {
        cut -= 1;
    }
    format!("{}…{end}", words.get(..cut).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mysql::server_error::{LoginStep, ServerError};
    use crate::refusal::{ServerWords, Stage};

    const LOGIN: RefusedLogin<'_> = RefusedLogin { user: "alice", token_method: TokenMethod::Password };

    fn session() -> SessionId {
        SessionId::parse("5c2f0a9be1d3477a").unwrap()
    }

    fn shown(refusal: &Refusal, login: RefusedLogin<'_>) -> String {
        let packet = encode(refusal, login, session(), 5);
        assert_eq!((usize::from(packet[0]) | usize::from(packet[1]) << 8, packet[3]), (packet.len() - 4, 5));
        ServerError::parse(&packet[4..], LoginStep::Token).unwrap().to_string()
    }

    #[test]
    fn a_refusal_is_one_line_with_all_that_a_person_needs() {
        let refusal = Refusal::authentication(Stage::Token, "the token expired 12 minutes ago")
            .hint("Get a fresh token and connect again.");
        assert_eq!(
            shown(&refusal, LOGIN),
            "1045 (28000): Access denied for user 'alice': stage token: the token expired 12 minutes ago. Get a fresh \
             token and connect again. Session 5c2f0a9be1d3477a."
        );
        let words = ServerWords { message: "Unknown database 'x'".into(), other: vec![] };
        let verbatim = Refusal::verbatim(Condition::ServerCode(server_code(1049, "42000")), words, "", None);
        assert_eq!(
            shown(&verbatim, LOGIN),
            "1049 (42000): Unknown database 'x'. Stage upstream_login. Session 5c2f0a9be1d3477a."
        );
    }

    #[test]
    fn each_condition_has_the_code_of_the_server() {
        let of = |condition| shown(&Refusal { condition, ..Refusal::internal(Stage::Session) }, LOGIN);
        for (condition, begin) in [
            (Condition::TlsRequired, "3159 (HY000): Connections using insecure transport are prohibited: "),
            (Condition::AuthenticationFailed, "1045 (28000): Access denied for user 'alice': "),
            (Condition::AuthenticationTimedOut, "1159 (08S01): Got timeout reading communication packets: "),
            (Condition::CannotConnectNow("x"), "3168 (HY000): Server isn't available: x: "),
            (
                Condition::TooManyConnections("the proxy".into()),
                "1040 (08004): Too many connections for the proxy: ",
            ),
            (Condition::ProtocolViolation("x".into()), "1043 (08S01): Bad handshake: x: "),
            (Condition::Unsupported("x".into()), "1251 (08004): x: "),
            (Condition::Terminating("x"), "1053 (08S01): terminating connection due to x: "),
            (
                Condition::IdleSession,
                "4031 (HY000): The client was disconnected by the server because of inactivity: ",
            ),
            (Condition::IdleInTransaction, "4031 (HY000): The client was disconnected"),
            (Condition::ServerLost, "1158 (08S01): Got an error reading communication packets: "),
            (Condition::Internal, "1105 (HY000): internal error in the proxy: "),
            (Condition::ServerCode("1226/42000".into()), "1226 (42000): the server refused: "),
            (Condition::ServerCode("57P03".into()), "1105 (HY000): the server refused: "),
        ] {
            assert!(of(condition.clone()).starts_with(begin), "{}", of(condition));
        }
    }

    #[test]
    fn remedies_are_those_of_the_method() {
        let refusal = Refusal::authentication(Stage::Token, "x").hint(Hint::SendToken);
        assert!(shown(&refusal, LOGIN).contains("79 bytes"));
        let openid = RefusedLogin { token_method: TokenMethod::OpenId, ..LOGIN };
        assert!(shown(&refusal, openid).contains("id-token-file"));
        assert!(shown(&Refusal::tls_required(), LOGIN).contains("--ssl-mode=VERIFY_IDENTITY"));
    }

    proptest! {
        #[test]
        fn any_text_becomes_one_line_of_500_bytes_with_the_session(
            user in ".{0,90}", detail in ".{0,600}", hint in ".{0,600}", note in ".{0,600}",
        ) {
            let refusal = Refusal::authentication(Stage::Token, &detail).hint(hint).note(&note);
            let packet = encode(&refusal, RefusedLogin { user: &user, ..LOGIN }, session(), 3);
            let text = std::str::from_utf8(&packet[4 + 9..]).unwrap();
            prop_assert!(text.len() <= MAX_ERROR_TEXT, "{}", text.len());
            prop_assert!(text.ends_with(" Session 5c2f0a9be1d3477a."));
            prop_assert!(!text.chars().any(char::is_control));
            prop_assert!(text.starts_with("Access denied for user '"));
        }
    }
}
