//! Signature Version 4 in the query string, as the RDS login token uses it, written from the AWS specification.

use aws_lc_rs::{digest, hmac};

use crate::clock;
use crate::encoding::{hex, percent_decode, percent_encode};

/// The service name in the credential scope.
const SERVICE: &str = "rds-db";

/// A login token taken apart. Everything is decoded; `signature` is the one that came with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresignedRequest {
    /// The host as written in the token.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The `DBUser`.
    pub user: String,
    /// The access key id.
    pub access_key_id: String,
    /// The day in the credential scope, `yyyymmdd`.
    pub day: String,
    /// The Region in the credential scope.
    pub region: String,
    /// The service in the credential scope.
    pub service: String,
    /// When it was signed, in seconds since 1970.
    pub signed_at: i64,
    /// For how many seconds it is good.
    pub expires: i64,
    /// The session token, for temporary credentials.
    pub session_token: Option<String>,
    /// The signature.
    pub signature: String,
    /// All parameters but the signature, in the order of the token.
    parameters: Vec<(String, String)>,
}

/// The parameters a token may have, each at most once.
const PARAMETERS: [&str; 9] = [
    "Action",
    "DBUser",
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-SignedHeaders",
    "X-Amz-Security-Token",
    "X-Amz-Signature",
];

impl PresignedRequest {
    /// Takes a token apart. Anything unusual is an error that says what it was.
    pub fn parse(token: &str) -> Result<Self, &'static str> {
        let (authority, query) = token.split_once("/?").ok_or("no query")?;
        let (host, port) = authority.rsplit_once(':').ok_or("no port")?;
        if host.is_empty() || !host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte))
        {
            return Err("not a host name");
        }
        let port = canonical_number(port).and_then(|port| u16::try_from(port).ok()).ok_or("not a port")?;
        let mut parameters = Vec::new();
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').ok_or("a parameter without a value")?;
            if !PARAMETERS.contains(&name) {
                return Err("unknown parameter");
            }
            if parameters.iter().any(|(seen, _)| seen == name) {
                return Err("a parameter twice");
            }
            let decoded = percent_decode(value).ok_or("bad percent-encoding")?;
            // A raw `+`, `@` or `/` and a lower-case `%2f` are read differently by different readers.
            if percent_encode(&decoded) != value {
                return Err("not encoded as SigV4 encodes");
            }
            parameters.push((name.to_owned(), decoded));
        }
        let take = |name: &str| {
            let at = parameters.iter().position(|(seen, _)| seen == name);
            at.and_then(|at| parameters.get(at).cloned()).map(|(_, value)| value)
        };
        if take("Action").as_deref() != Some("connect") {
            return Err("the action is not connect");
        }
        if take("X-Amz-Algorithm").as_deref() != Some("AWS4-HMAC-SHA256") {
            return Err("unknown algorithm");
        }
        if take("X-Amz-SignedHeaders").as_deref() != Some("host") {
            return Err("the signed headers are not host alone");
        }
        let credential = take("X-Amz-Credential").ok_or("no credential")?;
        let [access_key_id, day, region, service, "aws4_request"] =
            *credential.split('/').collect::<Vec<_>>()
        else {
            return Err("malformed credential scope");
        };
        let date = take("X-Amz-Date").ok_or("no date")?;
        let expires = take("X-Amz-Expires").and_then(|text| canonical_number(&text));
        let parsed = Self {
            host: host.to_owned(),
            port,
            user: take("DBUser").filter(|user| !user.is_empty()).ok_or("no DBUser")?,
            access_key_id: access_key_id.to_owned(),
            day: day.to_owned(),
            region: region.to_owned(),
            service: service.to_owned(),
            signed_at: clock::parse_basic(&date).ok_or("malformed date")?,
            expires: expires.ok_or("malformed expiry")?,
            session_token: take("X-Amz-Security-Token"),
            signature: take("X-Amz-Signature").ok_or("no signature")?,
            parameters: Vec::new(),
        };
        if date.get(..8) != Some(day) {
            return Err("the date is not the day of the credential scope");
        }
        parameters.retain(|(name, _)| name != "X-Amz-Signature");
        Ok(Self { parameters, ..parsed })
    }

    /// True if the credential scope names the service of database logins.
    pub fn is_for_rds_db(&self) -> bool {
        self.service == SERVICE
    }

    /// The signature that this token must have if `secret` made it.
    pub fn expected_signature(&self, secret: &str) -> String {
        let mut query: Vec<String> = self
            .parameters
            .iter()
            .map(|(name, value)| format!("{}={}", percent_encode(name), percent_encode(value)))
            .collect();
        query.sort_unstable();
        let host = self.host.to_lowercase();
        // Port 443 is the scheme's own and not part of a Host header.
        let host = if self.port == 443 { host } else { format!("{host}:{}", self.port) };
        let nothing = sha256(b"");
        let request = format!("GET\n/\n{}\nhost:{host}\n\nhost\n{nothing}", query.join("&"));
        let scope = format!("{}/{}/{}/aws4_request", self.day, self.region, self.service);
        let to_sign = format!(
            "AWS4-HMAC-SHA256\n{}\n{scope}\n{}",
            clock::basic(self.signed_at),
            sha256(request.as_bytes())
        );
        let key = [&self.day, &self.region, &self.service, "aws4_request"]
            .into_iter()
            .fold(format!("AWS4{secret}").into_bytes(), |key, part| mac(&key, part.as_bytes()));
        hex(&mac(&key, to_sign.as_bytes()))
    }
}

/// A number as it is written without sign, leading zeros or anything else.
fn canonical_number(text: &str) -> Option<i64> {
    text.parse::<i64>().ok().filter(|number| number.to_string() == text && *number >= 0)
}

fn sha256(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

fn mac(key: &[u8], message: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message).as_ref().to_vec()
}

/// Request for a signed login token.
#[derive(Clone, Debug)]
pub struct TokenRequest<'a> {
    /// Host and port.
    pub endpoint: &'a str,
    /// The Region.
    pub region: &'a str,
    /// The database user.
    pub user: &'a str,
    /// The access key id.
    pub access_key_id: &'a str,
    /// The secret access key.
    pub secret: &'a str,
    /// The session token.
    pub session_token: Option<&'a str>,
    /// When it is signed, in seconds since 1970.
    pub at: i64,
}

/// Makes a login token, for tests of the gate. The signature comes from the same code that checks it, which the golden
/// vectors check in turn.
pub fn sign(wanted: &TokenRequest<'_>) -> String {
    let now = clock::basic(wanted.at);
    let day = now.get(..8).unwrap_or_default();
    let scope = format!("{}/{day}/{}/{SERVICE}/aws4_request", wanted.access_key_id, wanted.region);
    let mut unsigned = format!(
        "{}/?Action=connect&DBUser={}&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={}&X-Amz-Date={now}\
         &X-Amz-Expires=900&X-Amz-SignedHeaders=host",
        wanted.endpoint,
        percent_encode(wanted.user),
        percent_encode(&scope),
    );
    if let Some(token) = wanted.session_token {
        unsigned = format!("{unsigned}&X-Amz-Security-Token={}", percent_encode(token));
    }
    let draft = PresignedRequest::parse(&format!("{unsigned}&X-Amz-Signature=0")).expect("a token to sign");
    format!("{unsigned}&X-Amz-Signature={}", draft.expected_signature(wanted.secret))
}
