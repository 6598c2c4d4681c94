//! Whether each issuer can be reached, and what its keys are.

use super::Trouble;
use super::report::{Link, Report};
use crate::auth::KeyFetcher;
use crate::auth::fetch::FetchError;
use crate::config::IssuerSettings;

/// The names of the issuers whose keys could be fetched.
pub(super) async fn examine(issuers: &[IssuerSettings], report: &mut Report<'_>) -> Vec<String> {
    let mut usable = Vec::new();
    for settings in issuers {
        if one(settings, report).await.is_some() {
            usable.push(settings.name.clone());
        }
    }
    usable
}

async fn one(settings: &IssuerSettings, report: &mut Report<'_>) -> Option<()> {
    let name = &settings.name;
    let not_tried = format!("issuer {name}: not tried, it is not known where the keys are");
    let fetcher = match KeyFetcher::new(settings) {
        Ok(fetcher) => fetcher,
        Err(error) => {
            let remedy = "Correct issuer.url and issuer.ca_file.";
            report.fail(Link::IssuerDiscovery, Trouble::new(format!("issuer {name}: {error}"), remedy));
            report.skip(Link::IssuerKeys, not_tried);
            return None;
        }
    };
    let url = match fetcher.locate().await {
        Ok(url) => url,
        Err(error) => {
            report.fail(Link::IssuerDiscovery, fetching(name, &error));
            report.skip(Link::IssuerKeys, not_tried);
            return None;
        }
    };
    let how = match (&settings.jwks_url, &settings.ca_file) {
        (Some(_), _) => "jwks_url is configured, so discovery is not asked".to_owned(),
        (None, _) if url.scheme() == "http" => "reached without TLS, on this machine".to_owned(),
        (None, Some(file)) => format!("reached over TLS, verified by {}", file.display()),
        (None, None) => "reached over TLS, verified by the system's certificate authorities".to_owned(),
    };
    report.ok(Link::IssuerDiscovery, format!("issuer {name}: {how}; the keys are at {url}"));
    match fetcher.fetch_from(&url).await {
        Ok(fetched) => {
            report.ok(Link::IssuerKeys, format!("issuer {name}: {} usable key(s)", fetched.keys.len()));
            Some(())
        }
        Err(error) => {
            report.fail(Link::IssuerKeys, fetching(name, &error));
            None
        }
    }
}

fn fetching(name: &str, error: &FetchError) -> Trouble {
    let remedy = match error {
        FetchError::Http { problem, .. }
            if problem.contains("certificate") || problem.contains("Certificate") =>
        {
            "Set issuer.ca_file to the certificate authorities of the issuer, or renew its certificate. AWS STS checks \
             it against public ones."
        }
        FetchError::Http { problem, .. } if problem.contains("private_network") => {
            "If the issuer is in your own network, set issuer.private_network = true. AWS STS has to reach it too."
        }
        FetchError::Http { .. } | FetchError::TimedOut => {
            "Let this machine reach the issuer: DNS, firewall, and issuer.url as it stands in the tokens. AWS STS has to \
             reach it too."
        }
        FetchError::Status { .. } => {
            "Check issuer.url: below it, /.well-known/openid-configuration has to answer with status 200, without a \
             redirect."
        }
        FetchError::Discovery(_) => {
            "Write issuer.url exactly as the issuer's discovery document and its tokens have it, a slash at the end \
             included."
        }
        FetchError::KeySet(_) => {
            "The issuer has to publish RSA (2048 to 8192 bits), P-256 or P-384 keys for signatures."
        }
    };
    Trouble::new(format!("issuer {name}: {error}"), remedy)
}
