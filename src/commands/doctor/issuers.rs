//! Doctor: connection to each issuer, and its keys.

use std::time::SystemTime;

use rustls_pki_types::CertificateDer;

use super::LinkProblem;
use super::certificates::CertificateChain;
use super::report::{ChainLink, DoctorReport};
use super::upstream::is_to_be_reissued;
use crate::config::IssuerSettings;
use crate::identity::KeyFetcher;
use crate::identity::jwks::{KeySet, LeftOut};
use crate::identity::jwks_fetch::FetchError;
use crate::net::certificate::CertificateFacts;
use crate::net::https::HttpsError;
use crate::net::outgoing::Outgoing;

/// Links after the connection.
const LINKS: [ChainLink; 2] = [ChainLink::IssuerDiscovery, ChainLink::IssuerKeys];

/// Checks all issuers. Returns the names of those whose keys could be fetched.
pub(super) async fn examine(
    issuers: &[IssuerSettings],
    outgoing: &Outgoing,
    now: SystemTime,
    report: &mut DoctorReport<'_>,
) -> Vec<String> {
    let mut usable = Vec::new();
    for settings in issuers {
        if one(settings, outgoing, now, report).await.is_some() {
            usable.push(settings.name.clone());
        }
    }
    usable
}

async fn one(
    settings: &IssuerSettings,
    outgoing: &Outgoing,
    now: SystemTime,
    report: &mut DoctorReport<'_>,
) -> Option<()> {
    let name = &settings.name;
    let unreached = format!("issuer {name}: not tried, because it cannot be reached");
    let fetcher = match KeyFetcher::new(settings, outgoing) {
        Ok(fetcher) => fetcher,
        Err(error) => {
            let remedy = "Correct issuer.url and issuer.ca_file.";
            report.fail(ChainLink::IssuerTls, LinkProblem::new(format!("issuer {name}: {error}"), remedy));
            report.skip_all(&LINKS, &unreached);
            return None;
        }
    };
    match fetcher.certificates().await {
        Ok(chain) => certificate(settings, &chain, now, report),
        Err(error) => {
            report.fail(ChainLink::IssuerTls, fetching(name, &error));
            report.skip_all(&LINKS, &unreached);
            return None;
        }
    }
    let url = match fetcher.locate().await {
        Ok(url) => url,
        Err(error) => {
            report.fail(ChainLink::IssuerDiscovery, fetching(name, &error));
            report.skip(
                ChainLink::IssuerKeys,
                format!("issuer {name}: not tried, because the URL of the keys is unknown"),
            );
            return None;
        }
    };
    let how =
        if settings.jwks_url.is_some() { "jwks_url is configured, so discovery is not used; " } else { "" };
    report.ok(ChainLink::IssuerDiscovery, format!("issuer {name}: {how}the keys are at {url}"));
    match fetcher.fetch_from(&url).await {
        Ok(fetched) => {
            keys(name, &fetched.keys, report);
            Some(())
        }
        Err(error) => {
            report.fail(ChainLink::IssuerKeys, fetching(name, &error));
            None
        }
    }
}

/// Reports the usable keys, and each other key with the reason.
fn keys(name: &str, keys: &KeySet, report: &mut DoctorReport<'_>) {
    let found = format!("issuer {name}: {} usable key(s)", keys.len());
    let (other_purpose, broken): (Vec<_>, Vec<_>) =
        keys.left_out().iter().partition(|one| one.fault.is_other_purpose());
    let list =
        |left_out: &[&LeftOut]| left_out.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    if !broken.is_empty() {
        let remedy = "Have the issuer publish these keys as RFC 7518 says, or no longer. Tokens signed with them are refused.";
        let found = format!("{found}; {} cannot be used: {}", broken.len(), list(&broken));
        report.warn(ChainLink::IssuerKeys, LinkProblem::new(found, remedy));
    } else if other_purpose.is_empty() {
        report.ok(ChainLink::IssuerKeys, found);
    } else {
        report.ok(ChainLink::IssuerKeys, format!("{found}; not for tokens: {}", list(&other_purpose)));
    }
}

fn certificate(
    settings: &IssuerSettings,
    chain: &[CertificateDer<'_>],
    now: SystemTime,
    report: &mut DoctorReport<'_>,
) {
    let name = &settings.name;
    if chain.is_empty() {
        return report
            .ok(ChainLink::IssuerTls, format!("issuer {name}: reached without TLS, on this machine"));
    }
    let authorities = match &settings.ca_file {
        Some(file) => format!(
            ", verified by {}; AWS STS knows public authorities only, and of others the thumbprint in IAM",
            file.display()
        ),
        None => ", verified by the system's certificate authorities".to_owned(),
    };
    let certificates: Vec<_> = chain.iter().map_while(CertificateFacts::read).collect();
    let chain = CertificateChain {
        whose: &format!("issuer {name}: "),
        what: "its certificate",
        certificates: &certificates,
        remedy: "Have the issuer's certificate renewed.",
        matters: "Neither pgpassport nor AWS STS can fetch the issuer's keys.",
        order: Some("AWS STS takes no such chain."),
    };
    chain.tell(ChainLink::IssuerTls, &authorities, now, report);
}

fn fetching(name: &str, error: &FetchError) -> LinkProblem {
    let remedy = match error {
        FetchError::Http { error, .. } => unreached(error),
        FetchError::Status { .. } => {
            "Check issuer.url: below it, /.well-known/openid-configuration has to answer with status 200, without a \
             redirect."
        }
        FetchError::Discovery(problem) if problem.contains("jwks_uri") => {
            "Set issuer.jwks_url to where the keys are, if whoever is there may say whose tokens are good."
        }
        FetchError::Discovery(_) => {
            "Write issuer.url exactly as the issuer's discovery document and its tokens have it, a slash at the end \
             included."
        }
        FetchError::KeySet(_) => {
            "The issuer has to publish RSA (2048 to 8192 bits), P-256, P-384 or P-521 keys for signatures."
        }
    };
    LinkProblem::new(format!("issuer {name}: {error}"), remedy)
}

const SLOW: &str = "Let this machine reach the issuer: DNS, firewall, and issuer.url as it stands in the tokens. AWS STS has to reach it \
                    too, and waits for about 5 seconds. Set issuer.jwks_timeout for an issuer that is slow and answers.";

const REACH_IT: &str = "Let this machine reach the issuer: DNS, firewall, and issuer.url as it stands in the tokens. AWS \
                        STS has to reach it too.";

fn unreached(error: &HttpsError) -> &'static str {
    match error {
        HttpsError::Broken(problem) => broken(problem),
        HttpsError::Address => IN_PRIVATE,
        HttpsError::TimedOut(_) => SLOW,
        HttpsError::TooLong(_) => {
            "Is this the issuer's own answer? issuer.jwks_max_bytes says how many bytes are read."
        }
        HttpsError::Compressed => "The issuer has to answer uncompressed to Accept-Encoding: identity.",
        HttpsError::Request(_) => REACH_IT,
    }
}

const IN_PRIVATE: &str = "If the issuer is in your own network, set issuer.private_network = true. AWS STS has to reach it \
                          too.";

fn broken(problem: &str) -> &'static str {
    if problem.contains("not valid for name") {
        "Write issuer.url with the name that the certificate is for, if that is iss of the tokens; or have a certificate \
         made for this name."
    } else if problem.contains("certificate expired") {
        "Have the issuer's certificate renewed. AWS STS does not take it either."
    } else if problem.contains("invalid peer certificate") && is_to_be_reissued(problem) {
        "Have the issuer's certificate issued again: X.509 version 3, its own (CA:FALSE), with its name in subjectAltName."
    } else if problem.contains("invalid peer certificate") {
        "Set issuer.ca_file to the certificate authorities of the issuer. AWS STS knows public ones only, and of others \
         the thumbprint in IAM."
    } else if problem.contains("private_network") {
        IN_PRIVATE
    } else if problem.contains("through the proxy") {
        "Let the proxy of egress.proxy connect to the issuer, or write the issuer into egress.no_proxy."
    } else {
        REACH_IT
    }
}
