//! Helpers of the emulator's own tests: a bare HTTP client and tokens signed in the test.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use aws_emulator::sigv4::{TokenRequest, sign};
use aws_emulator::{Cloud, RoleSession, names, percent_encode};

/// An HTTP answer: status, headers and body as they came.
#[derive(Debug)]
pub(crate) struct StsReply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl StsReply {
    /// The text of the first XML element with this name.
    pub(crate) fn element(&self, name: &str) -> Option<&str> {
        self.body.split_once(&format!("<{name}>"))?.1.split_once(&format!("</{name}>")).map(|(text, _)| text)
    }

    /// Status and error code.
    pub(crate) fn error(&self) -> (u16, &str) {
        (self.status, self.element("Code").unwrap_or(""))
    }
}

/// Sends one request and reads until the server closes; `None` if it closes without an answer.
pub(crate) fn http(addr: SocketAddr, head: &str, body: &str) -> Option<StsReply> {
    let mut stream = TcpStream::connect(addr).unwrap();
    let length = body.len();
    write!(stream, "{head}\r\nHost: {addr}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}")
        .unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap_or_default();
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(StsReply { status, head: head.to_lowercase(), body: body.to_owned() })
}

/// Gets a page.
pub(crate) fn get(url: &str) -> StsReply {
    let (authority, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    http(authority.parse().unwrap(), &format!("GET /{path} HTTP/1.1"), "").unwrap()
}

/// Posts a form.
pub(crate) fn post(url: &str, fields: &[(&str, &str)]) -> StsReply {
    let (authority, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let pairs: Vec<String> =
        fields.iter().map(|(name, value)| format!("{name}={}", percent_encode(value))).collect();
    let head = format!("POST /{path} HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded");
    http(authority.parse().unwrap(), &head, &pairs.join("&")).unwrap()
}

/// A request to STS with good fields, some of them replaced; an empty value leaves the field out.
pub(crate) fn assume(cloud: &Cloud, token: &str, replaced: &[(&str, &str)]) -> StsReply {
    let mut fields = vec![
        ("Action", "AssumeRoleWithWebIdentity"),
        ("Version", "2011-06-15"),
        ("RoleArn", names::ROLE_ARN),
        ("RoleSessionName", "alice"),
        ("WebIdentityToken", token),
        ("DurationSeconds", "900"),
    ];
    fields.retain(|(name, _)| !replaced.iter().any(|(other, _)| other == name));
    fields.extend(replaced.iter().filter(|(_, value)| !value.is_empty()));
    post(&format!("{}/", cloud.sts.url()), &fields)
}

/// The session that STS opens for a token.
pub(crate) fn session(cloud: &Cloud, token: &str, replaced: &[(&str, &str)]) -> RoleSession {
    let reply = assume(cloud, token, replaced);
    let id = reply.element("AccessKeyId").unwrap_or_else(|| panic!("{}", reply.body));
    cloud.sts.store().get(id).unwrap()
}

/// A login token for the shared cluster, signed with a session's credentials.
pub(crate) fn login_token(session: &RoleSession, user: &str, at: i64) -> String {
    token_for(names::ENDPOINT, session, user, at)
}

/// A login token for an endpoint.
pub(crate) fn token_for(endpoint: &str, session: &RoleSession, user: &str, at: i64) -> String {
    sign(&TokenRequest {
        endpoint,
        region: names::REGION,
        user,
        access_key_id: &session.access_key_id,
        secret: &session.secret,
        session_token: Some(&session.session_token),
        at,
    })
}
