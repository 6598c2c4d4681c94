//! Root certificates of RDS that ship with the program: the authorities of `ca_file = "rds"`. `scripts/rds-roots` renews
//! them from the global bundle of AWS's commercial Regions.

use std::time::{Duration, SystemTime};

/// The certificates, PEM. A comment above each has its name and the end of its validity.
pub const PEM: &str = include_str!("rds_roots.pem");

/// Age from which `check` warns. AWS adds authorities for new Regions, and sometimes for old ones.
const OLD: Duration = Duration::from_hours(3 * 365 * 24);

/// Time left below which `check` warns of an authority.
const SOON: Duration = Duration::from_hours(365 * 24);

/// Day on which the source had these certificates, as in `2026-11-28`.
pub fn date() -> &'static str {
    PEM.lines().find_map(|line| line.strip_prefix("# Date: ")).unwrap_or_default()
}

/// True if the certificates of databases in this Region are signed by an authority of the bundle.
pub fn covers(region: &str) -> bool {
    authorities().any(|one| one.region == region)
}

/// Warning about an old bundle, or about an authority of the Region that expires soon.
pub fn warning(region: &str, now: SystemTime) -> Option<String> {
    let renew = "install a newer version of pgpassport, or name a file with the RDS bundle";
    let soon = authorities().filter(|one| one.region == region).find(|one| one.expires() < Some(now + SOON));
    if let Some(authority) = soon {
        let (name, until) = (authority.name, authority.until);
        return Some(format!(
            "the authority {name} that ships with pgpassport is valid until {until}; {renew}"
        ));
    }
    let is_old = midnight(date()).is_none_or(|date| date + OLD < now);
    is_old
        .then(|| format!("the authorities of RDS that ship with pgpassport are those of {}; {renew}", date()))
}

struct Authority {
    name: &'static str,
    region: &'static str,
    /// End of validity, as in `2121-05-19`.
    until: &'static str,
}

impl Authority {
    fn expires(&self) -> Option<SystemTime> {
        midnight(self.until)
    }
}

fn authorities() -> impl Iterator<Item = Authority> {
    PEM.lines().filter_map(|line| {
        let (name, until) = line.strip_prefix("# ")?.split_once(", until ")?;
        let region = name.strip_prefix("Amazon RDS ")?.split(' ').next()?;
        Some(Authority { name, region, until })
    })
}

fn midnight(day: &str) -> Option<SystemTime> {
    humantime::parse_rfc3339(&format!("{day}T00:00:00Z")).ok()
}

#[cfg(test)]
mod tests {
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject;
    use x509_cert::Certificate;
    use x509_cert::der::Decode;

    use super::*;

    #[test]
    fn each_comment_tells_of_the_certificate_below_it() {
        let certificates: Vec<_> =
            CertificateDer::pem_slice_iter(PEM.as_bytes()).map(|one| one.unwrap()).collect();
        let listed: Vec<_> = authorities().collect();
        assert!(listed.len() >= 80, "{}", listed.len());
        assert_eq!(certificates.len(), listed.len());
        for (der, told) in certificates.iter().zip(&listed) {
            let tbs = Certificate::from_der(der).unwrap().tbs_certificate;
            let subject = tbs.subject.to_string();
            assert!(subject.contains(&format!("CN={}", told.name)), "{subject}");
            assert_eq!(tbs.subject, tbs.issuer, "{subject}");
            let end = SystemTime::UNIX_EPOCH + tbs.validity.not_after.to_unix_duration();
            let told_end = told.expires().unwrap();
            assert!(told_end <= end && end < told_end + Duration::from_hours(24), "{subject}");
        }
        assert!(covers("eu-central-1") && covers("us-east-1") && covers("ap-southeast-4"));
        assert!(!covers("us-gov-west-1") && !covers("cn-north-1") && !covers("Beta") && !covers(""));
    }

    #[test]
    fn an_old_bundle_is_a_warning() {
        let of = midnight(date()).unwrap();
        assert_eq!(warning("eu-central-1", of), None);
        let old = warning("eu-central-1", of + OLD + Duration::from_secs(1)).unwrap();
        assert!(old.contains(date()) && old.contains("newer version"), "{old}");
        // The RSA-2048 authorities of most Regions are valid until May 2061.
        let late = midnight("2060-12-01").unwrap();
        let soon = warning("eu-central-1", late).unwrap();
        assert!(soon.contains("eu-central-1 Root CA RSA2048 G1") && soon.contains("2061-05-21"), "{soon}");
    }
}
