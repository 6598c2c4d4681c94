//! The LDAP that `PostgreSQL` speaks when it asks whether a password is good (RFC 4511, section 4.2).

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::ber;

/// The longest message that is read. `PostgreSQL` itself takes no password over 65,530 bytes.
const LONGEST: usize = 80_000;

const BIND_REQUEST: u8 = 0x60;
const BIND_RESPONSE: u8 = 0x61;
const SIMPLE: u8 = 0x80;
const INVALID_CREDENTIALS: u8 = 49;

/// A simple bind: whose, and with which password.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LdapBind {
    pub(super) message_id: Vec<u8>,
    pub(super) user: String,
    pub(super) password: String,
}

/// Reads the next bind. `None` ends the connection: unbind, end of stream, or something else than a bind.
pub(super) async fn read(stream: &mut TcpStream) -> Option<LdapBind> {
    let mut head = [0; 2];
    stream.read_exact(&mut head).await.ok()?;
    let [_, first] = head;
    let length = if first & 0x80 == 0 {
        usize::from(first)
    } else {
        let mut digits = vec![0; usize::from(first & 0x7f)];
        stream.read_exact(&mut digits).await.ok()?;
        ber::big_endian(&digits)?
    };
    if length > LONGEST {
        return None;
    }
    let mut message = vec![0; length];
    stream.read_exact(&mut message).await.ok()?;
    parse(&message)
}

fn parse(message: &[u8]) -> Option<LdapBind> {
    let (_, message_id, rest) = ber::element(message)?;
    let (BIND_REQUEST, body, _) = ber::element(rest)? else { return None };
    let (_, _version, rest) = ber::element(body)?;
    let (_, name, rest) = ber::element(rest)?;
    let (SIMPLE, password, _) = ber::element(rest)? else { return None };
    // The server wraps the user name without escaping it, so only these two ends are taken off.
    let name = std::str::from_utf8(name).ok()?;
    let user = name.strip_prefix(super::PREFIX)?.strip_suffix(super::SUFFIX)?;
    Some(LdapBind {
        message_id: message_id.to_vec(),
        user: user.to_owned(),
        password: String::from_utf8_lossy(password).into_owned(),
    })
}

/// Answers a bind; `refusal` is the diagnostic message.
pub(super) async fn reply(
    stream: &mut TcpStream,
    message_id: &[u8],
    refusal: Option<&str>,
) -> std::io::Result<()> {
    stream.write_all(&response(message_id, refusal)).await
}

fn response(message_id: &[u8], refusal: Option<&str>) -> Vec<u8> {
    let code = if refusal.is_some() { INVALID_CREDENTIALS } else { 0 };
    let result = [
        ber::encode(0x0a, &[code]),
        ber::encode(0x04, b""),
        ber::encode(0x04, refusal.unwrap_or("").as_bytes()),
    ];
    ber::encode(0x30, &[ber::encode(0x02, message_id), ber::encode(BIND_RESPONSE, &result.concat())].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(name: &str, kind: u8, password: &[u8]) -> Vec<u8> {
        let body =
            [ber::encode(2, &[3]), ber::encode(4, name.as_bytes()), ber::encode(kind, password)].concat();
        [ber::encode(2, &[1]), ber::encode(BIND_REQUEST, &body)].concat()
    }

    #[test]
    fn a_bind_is_read_with_names_that_look_like_ldap_syntax() {
        for user in ["alice", "a,b=c", "dn,dc=rds", "Jörg.Müller", ""] {
            let bind = parse(&request(&format!("cn={user},dc=rds"), SIMPLE, b"secret")).unwrap();
            assert_eq!((bind.user.as_str(), bind.password.as_str()), (user, "secret"));
        }
    }

    #[test]
    fn other_binds_are_not_read() {
        assert_eq!(parse(&request("cn=alice,dc=rds", 0xa3, b"secret")), None);
        assert_eq!(parse(&request("alice", SIMPLE, b"secret")), None);
        assert_eq!(parse(&[2, 1, 1, 0x42, 0]), None);
    }

    #[test]
    fn responses_have_the_bytes_of_rfc_4511() {
        assert_eq!(response(&[1], None), [0x30, 12, 2, 1, 1, 0x61, 7, 10, 1, 0, 4, 0, 4, 0]);
        assert_eq!(
            response(&[2], Some("no")),
            [0x30, 14, 2, 1, 2, 0x61, 9, 10, 1, 49, 4, 0, 4, 2, b'n', b'o']
        );
    }
}
