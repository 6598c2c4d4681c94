//! The links of the login chain with their stable ids, and the findings.

use serde::Serialize;

use crate::net::peer_clocks::PeerClocks;
use crate::postgres::error_response;
use crate::postgres::token_method::TokenMethod;
use crate::refusal::Refusal;
use crate::session::explain::clock_note;
use crate::session::outcome::LoginError;

/// A link of the chain from the configuration to a session. The ids are stable, so programs may use them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "described by `ChainLink::checks`")]
pub enum ChainLink {
    Config,
    ListenerCertificate,
    IssuerTls,
    IssuerDiscovery,
    IssuerKeys,
    TokenFile,
    Token,
    TokenIssuer,
    TokenSignature,
    TokenAudience,
    TokenTimes,
    TokenClaims,
    StsAudience,
    Cluster,
    DatabaseUser,
    SessionTag,
    StsEndpoint,
    Sts,
    IamToken,
    Dns,
    Tcp,
    Tls,
    PeerClocks,
    Login,
    CurrentUser,
    RdsIam,
    Privileges,
    ServerVersion,
    Clock,
    Writer,
}

impl ChainLink {
    /// All links, in the order of the chain.
    pub const ALL: [Self; 30] = [
        Self::Config,
        Self::ListenerCertificate,
        Self::IssuerTls,
        Self::IssuerDiscovery,
        Self::IssuerKeys,
        Self::TokenFile,
        Self::Token,
        Self::TokenIssuer,
        Self::TokenSignature,
        Self::TokenAudience,
        Self::TokenTimes,
        Self::TokenClaims,
        Self::StsAudience,
        Self::Cluster,
        Self::DatabaseUser,
        Self::SessionTag,
        Self::StsEndpoint,
        Self::Sts,
        Self::IamToken,
        Self::Dns,
        Self::Tcp,
        Self::Tls,
        Self::PeerClocks,
        Self::Login,
        Self::CurrentUser,
        Self::RdsIam,
        Self::Privileges,
        Self::ServerVersion,
        Self::Clock,
        Self::Writer,
    ];

    /// The links that need no token, in the order of a preflight. With several clusters, those from `cluster` to `tls`
    /// appear once for each.
    pub const PREFLIGHT: [Self; 11] = [
        Self::Config,
        Self::ListenerCertificate,
        Self::IssuerTls,
        Self::IssuerDiscovery,
        Self::IssuerKeys,
        Self::Cluster,
        Self::StsEndpoint,
        Self::Dns,
        Self::Tcp,
        Self::Tls,
        Self::PeerClocks,
    ];

    /// Id and description.
    fn described(self) -> (&'static str, &'static str) {
        match self {
            Self::Config => ("config", "the configuration and the files it names"),
            Self::ListenerCertificate => {
                ("listener-certificate", "the certificate shown to clients: chain, names, days left")
            }
            Self::IssuerTls => ("issuer-tls", "a connection to the issuer, and its certificate"),
            Self::IssuerDiscovery => {
                ("issuer-discovery", "the issuer's discovery document: the URL of its keys")
            }
            Self::IssuerKeys => ("issuer-keys", "the issuer's key set"),
            Self::TokenFile => ("token-file", "the permissions of the token file"),
            Self::Token => ("token", "the token's shape, algorithm and type"),
            Self::TokenIssuer => ("token-issuer", "iss against issuer.url"),
            Self::TokenSignature => ("token-signature", "the signature by the issuer's keys"),
            Self::TokenAudience => ("token-audience", "aud against issuer.audience"),
            Self::TokenTimes => ("token-times", "exp, nbf and iat against the clock"),
            Self::TokenClaims => ("token-claims", "sub, and issuer.require"),
            Self::StsAudience => ("sts-audience", "the audience that STS compares: azp before aud"),
            Self::Cluster => ("cluster", "the cluster that the connection selects, and its access rules"),
            Self::DatabaseUser => ("database-user", "the database user derived from the token"),
            Self::SessionTag => ("session-tag", "the token's tags against cluster.pin"),
            Self::StsEndpoint => {
                ("sts-endpoint", "the STS endpoint by DNS and TCP; without a token by TLS and HTTP, too")
            }
            Self::Sts => ("sts", "AssumeRoleWithWebIdentity with this token"),
            Self::IamToken => ("iam-token", "the IAM token and the host it is signed for"),
            Self::Dns => ("dns", "the endpoint's addresses"),
            Self::Tcp => ("tcp", "a connection to one of them"),
            Self::Tls => ("tls", "the server's certificate and its names"),
            Self::PeerClocks => {
                ("peer-clocks", "this machine's clock against that of each issuer and of STS")
            }
            Self::Login => ("login", "the login as the database user"),
            Self::CurrentUser => ("current-user", "the user of the session"),
            Self::RdsIam => ("rds-iam", "membership in rds_iam; in MySQL the plugin of the account"),
            Self::Privileges => ("privileges", "the user's extra privileges"),
            Self::ServerVersion => ("server-version", "the server's version"),
            Self::Clock => ("clock", "the server's clock against this machine's"),
            Self::Writer => ("writer", "the server's role: writer or reader"),
        }
    }

    /// Stable id.
    pub fn id(self) -> &'static str {
        self.described().0
    }

    /// Description of the check.
    pub fn checks(self) -> &'static str {
        self.described().1
    }
}

/// Result of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkState {
    /// The check passed.
    Ok,
    /// The check passed, but something is worth knowing.
    Warning,
    /// The check failed.
    Failed,
    /// The check was not run, because of an earlier link.
    Skipped,
}

/// Finding of one link. No string contains a secret.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// The link.
    pub link: ChainLink,
    /// Result.
    pub state: LinkState,
    /// Description of the check.
    pub checked: &'static str,
    /// Observation, or the reason why the check was not run.
    pub found: String,
    /// Cause of the problem.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// Change that solves the problem.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// A problem with its cause and remedy.
#[derive(Clone, Debug)]
pub(super) struct LinkProblem {
    pub(super) found: String,
    pub(super) cause: Option<String>,
    pub(super) remedy: String,
}

impl LinkProblem {
    pub(super) fn new(found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { found: found.into(), cause: None, remedy: remedy.into() }
    }

    /// Appends a note about this machine's clock to the remedy, if the clock can be the cause of `why`.
    pub(super) fn by_clock(mut self, why: &LoginError, clocks: &PeerClocks) -> Self {
        if let Some(note) = clock_note(why, clocks.difference(), "This machine's clock") {
            self.remedy = format!("{} {note}", self.remedy);
        }
        self
    }

    pub(super) fn because(mut self, cause: impl Into<String>) -> Self {
        self.cause = Some(cause.into());
        self
    }
}

/// The remedy that a client would read; the token is a password here.
pub(super) fn hint_of(refusal: &Refusal) -> String {
    let words = |remedy| error_response::hint(remedy, &TokenMethod::Password).to_owned();
    refusal.hint.as_ref().map(words).unwrap_or_default()
}

/// All findings so far, in the order of the chain.
pub struct DoctorReport<'t> {
    findings: Vec<Finding>,
    /// Prefix of each finding.
    subject: String,
    tell: &'t mut (dyn FnMut(&Finding) + Send),
}

impl<'t> DoctorReport<'t> {
    /// `tell` is called with each finding immediately, because some links take seconds.
    pub fn new(tell: &'t mut (dyn FnMut(&Finding) + Send)) -> Self {
        Self { findings: Vec::new(), subject: String::new(), tell }
    }

    /// The findings.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// True if every check ran and none failed.
    pub fn all_well(&self) -> bool {
        self.findings.iter().all(|finding| matches!(finding.state, LinkState::Ok | LinkState::Warning))
    }

    /// Sets the prefix of the findings that follow.
    pub(super) fn set_subject(&mut self, subject: String) {
        self.subject = subject;
    }

    pub(super) fn ok(&mut self, link: ChainLink, found: impl Into<String>) {
        self.add(
            link,
            LinkState::Ok,
            LinkProblem { found: found.into(), cause: None, remedy: String::new() },
        );
    }

    pub(super) fn warn(&mut self, link: ChainLink, problem: LinkProblem) {
        self.add(link, LinkState::Warning, problem);
    }

    pub(super) fn fail(&mut self, link: ChainLink, problem: LinkProblem) {
        self.add(link, LinkState::Failed, problem);
    }

    pub(super) fn skip(&mut self, link: ChainLink, why: impl Into<String>) {
        self.add(
            link,
            LinkState::Skipped,
            LinkProblem { found: why.into(), cause: None, remedy: String::new() },
        );
    }

    pub(super) fn skip_all(&mut self, links: &[ChainLink], why: &str) {
        for link in links {
            self.skip(*link, why);
        }
    }

    fn add(&mut self, link: ChainLink, state: LinkState, problem: LinkProblem) {
        let remedy = Some(problem.remedy).filter(|remedy| !remedy.is_empty());
        let LinkProblem { found, cause, .. } = LinkProblem { remedy: String::new(), ..problem };
        let found = format!("{}{found}", self.subject);
        let finding = Finding { link, state, checked: link.checks(), found, cause, remedy };
        (self.tell)(&finding);
        self.findings.push(finding);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_id_is_written_in_one_way_and_only_once() {
        for link in ChainLink::ALL {
            assert_eq!(serde_json::to_value(link).unwrap(), link.id());
            assert_eq!(ChainLink::ALL.iter().filter(|other| other.id() == link.id()).count(), 1);
        }
    }
}
