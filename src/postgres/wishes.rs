//! The wishes of a login, as the pool compares them: the startup packet, with the `application_name` apart where it can be
//! set later.

use super::server_login::{LoginParameters, packet_of};
use super::startup::StartupParams;
use crate::identity::Grant;
use crate::protocol::LoginWishes;

/// Longest name that PostgreSQL takes without a change (`NAMEDATALEN` - 1).
const MAX_APPLICATION_NAME: usize = 63;

/// The fixed wishes are the startup packet: protocol version and all parameters, in their order, forced settings included;
/// without the `application_name` if it is set at each checkout.
pub(super) fn of(grant: &Grant, startup: &StartupParams) -> LoginWishes {
    let name = application_name(startup);
    let packet = packet_of(LoginParameters::of(grant, startup), startup.protocol(), |parameter| {
        name.is_none() || parameter != b"application_name"
    });
    LoginWishes { fixed: packet.to_vec(), name }
}

/// The client's `application_name`, if the server takes it as it is: printable ASCII, not too long, and given once.
/// Any other is changed by the server at login, by rules that differ between its releases.
fn application_name(startup: &StartupParams) -> Option<String> {
    let is_name = |name: &[u8]| name.eq_ignore_ascii_case(b"application_name");
    let mut given = startup.others().iter().filter(|(name, _)| is_name(name));
    let (name, value) = given.next()?;
    let plain = value.len() <= MAX_APPLICATION_NAME && value.iter().all(|byte| matches!(byte, b' '..=b'~'));
    let shared = plain && name == b"application_name" && given.next().is_none();
    shared.then(|| String::from_utf8_lossy(value).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn u4_only_a_name_that_the_server_takes_as_it_is_is_shared() {
        let of = |pairs: &[(&str, &[u8])]| {
            let mut packet = vec![0, 3, 0, 0];
            for (name, value) in [&[("user", &b"alice"[..])], pairs].concat() {
                packet.extend([name.as_bytes(), b"\0", value, b"\0"].concat());
            }
            packet.push(0);
            application_name(&StartupParams::parse(&packet).unwrap())
        };
        let (longest, longer) = ("x".repeat(63), "x".repeat(64));
        for shared in ["", "psql", "it's a \"name\" \\ ~", &longest] {
            assert_eq!(of(&[("application_name", shared.as_bytes())]).as_deref(), Some(shared));
        }
        for whole in ["Büro".as_bytes(), b"tab\t", b"\x7f", b"\xff", longer.as_bytes()] {
            assert_eq!(of(&[("application_name", whole)]), None, "{whole:?}");
        }
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[("Application_Name", b"a")]), None);
        assert_eq!(of(&[("application_name", b"a"), ("APPLICATION_NAME", b"b")]), None);
    }
}
