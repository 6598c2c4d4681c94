//! STS on the wire: the XML of its answers and errors.

use std::fmt::Write as _;

use crate::clock;
use crate::encoding::random_text;
use crate::http::{Answer, answer};

const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";

/// An error as STS reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ApiError {
    pub(super) status: u16,
    pub(super) code: String,
    pub(super) message: String,
}

impl ApiError {
    pub(super) fn new(status: u16, code: &str, message: impl Into<String>) -> Self {
        Self { status, code: code.to_owned(), message: message.into() }
    }

    pub(super) fn invalid_token(message: impl Into<String>) -> Self {
        Self::new(400, "InvalidIdentityToken", message)
    }

    pub(super) fn validation(message: impl Into<String>) -> Self {
        Self::new(400, "ValidationError", message)
    }

    pub(super) fn denied(action: &str) -> Self {
        Self::new(403, "AccessDenied", format!("Not authorized to perform {action}"))
    }

    pub(super) fn answer(&self) -> Answer {
        let kind = if self.status >= 500 { "Receiver" } else { "Sender" };
        let body = format!(
            "<ErrorResponse xmlns=\"{NAMESPACE}\">\n  <Error>\n    <Type>{kind}</Type>\n    <Code>{}</Code>\n    \
             <Message>{}</Message>\n  </Error>\n  <RequestId>{}</RequestId>\n</ErrorResponse>\n",
            escape(&self.code),
            escape(&self.message),
            request_id(),
        );
        xml(self.status, body)
    }
}

/// Contents of a good answer.
#[derive(Clone, Debug)]
pub(super) struct AssumedRole {
    pub(super) access_key_id: String,
    pub(super) secret: String,
    pub(super) session_token: String,
    pub(super) expiration: i64,
    pub(super) subject: String,
    pub(super) provider: String,
    pub(super) audience: String,
    pub(super) arn: String,
    pub(super) role_id: String,
    pub(super) packed_policy_size: usize,
    pub(super) source_identity: Option<String>,
}

impl AssumedRole {
    /// The answer's text; `credentials` is off for the fault in which they are missing.
    pub(super) fn text(&self, credentials: bool) -> String {
        let size = self.packed_policy_size.to_string();
        let mut result = elements(&[
            ("SubjectFromWebIdentityToken", &self.subject),
            ("Audience", &self.audience),
            ("Provider", &self.provider),
            ("PackedPolicySize", &size),
        ]);
        if let Some(identity) = &self.source_identity {
            result += &elements(&[("SourceIdentity", identity)]);
        }
        let user = elements(&[("Arn", &self.arn), ("AssumedRoleId", &self.role_id)]);
        result += &group("AssumedRoleUser", &user);
        if credentials {
            let members = elements(&[
                ("AccessKeyId", &self.access_key_id),
                ("SecretAccessKey", &self.secret),
                ("SessionToken", &self.session_token),
                ("Expiration", &clock::extended(self.expiration)),
            ]);
            result += &group("Credentials", &members);
        }
        format!(
            "<AssumeRoleWithWebIdentityResponse xmlns=\"{NAMESPACE}\">\n  <AssumeRoleWithWebIdentityResult>\n\
             {result}  </AssumeRoleWithWebIdentityResult>\n  <ResponseMetadata>\n    \
             <RequestId>{}</RequestId>\n  </ResponseMetadata>\n</AssumeRoleWithWebIdentityResponse>\n",
            request_id(),
        )
    }
}

fn group(name: &str, members: &str) -> String {
    format!("    <{name}>\n{members}    </{name}>\n")
}

fn elements(pairs: &[(&str, &str)]) -> String {
    pairs.iter().fold(String::new(), |mut text, (name, value)| {
        let _ = writeln!(text, "    <{name}>{}</{name}>", escape(value)); // a String takes everything
        text
    })
}

pub(super) fn xml(status: u16, body: String) -> Answer {
    answer(status, "text/xml", body)
}

fn request_id() -> String {
    let part = |length| random_text(b"0123456789abcdef", length);
    format!("{}-{}-{}-{}-{}", part(8), part(4), part(4), part(4), part(12))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
