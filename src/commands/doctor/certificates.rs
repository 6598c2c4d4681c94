//! Doctor: description of certificate chains: names, issuer, order, days left.

use std::time::SystemTime;

use super::LinkProblem;
use super::report::{ChainLink, DoctorReport};
use crate::net::certificate::CertificateFacts;

/// Days left below which a certificate causes a warning. Ours: time for an order by hand.
const SOON_DAYS: u64 = 14;

/// A certificate chain, leaf first.
pub(super) struct CertificateChain<'a> {
    /// Prefix of each finding that names the owner, if needed.
    pub(super) whose: &'a str,
    /// Noun phrase for the certificate in a finding.
    pub(super) what: &'a str,
    pub(super) certificates: &'a [CertificateFacts],
    /// Remedy for a bad certificate.
    pub(super) remedy: &'a str,
    /// Effect of a bad certificate.
    pub(super) matters: &'a str,
    /// Effect of a wrong order, if there is one.
    pub(super) order: Option<&'a str>,
}

impl CertificateChain<'_> {
    /// Reports the state of the chain as `link`; `more` is appended to a good finding.
    pub(super) fn tell(&self, link: ChainLink, more: &str, now: SystemTime, report: &mut DoctorReport<'_>) {
        let (what, problem) =
            (format!("{}{}", self.whose, self.what), |found: String| LinkProblem::new(found, self.remedy));
        let Some(own) = self.certificates.first() else {
            return report.fail(link, problem(format!("{what} cannot be read")));
        };
        // The certificate that expires first limits the chain.
        let days = self.certificates.iter().map(|one| one.days_left(now)).min().flatten();
        let shown = self.shown(own);
        match days {
            None => report.fail(link, problem(format!("{what} has expired")).because(self.matters)),
            Some(_) if own.not_before > now => {
                report.fail(link, problem(format!("{what} is not valid yet")).because(self.matters));
            }
            Some(_) if own.names.is_empty() => {
                let why = "Clients check subjectAltName only, so they cannot verify this certificate.";
                report.fail(link, problem(shown).because(why));
            }
            Some(days) => match self.order.filter(|_| !in_order(self.certificates)) {
                Some(why) => {
                    let found = format!("{what} is in a chain in the wrong order");
                    let remedy = "Put the leaf first and after each certificate the one that signed it; remove all others.";
                    report.warn(link, LinkProblem::new(found, remedy).because(why));
                }
                None if days < SOON_DAYS => {
                    report.warn(link, problem(format!("{what} expires in {days} day(s)")));
                }
                None => report.ok(link, format!("{shown}, {}{more}", left(days))),
            },
        }
    }

    fn shown(&self, own: &CertificateFacts) -> String {
        let names = if own.names.is_empty() { "no name at all".to_owned() } else { own.names.join(", ") };
        format!(
            "{}for {names}, {} certificate(s), signed by {}",
            self.whose,
            self.certificates.len(),
            own.issuer
        )
    }
}

/// Time that is left, in a unit of its size.
fn left(days: u64) -> String {
    const YEAR: u64 = 365;
    if days < 10 * YEAR { format!("{days} days left") } else { format!("{} years left", days / YEAR) }
}

/// True if each certificate is followed by its issuer, by their names.
fn in_order(chain: &[CertificateFacts]) -> bool {
    chain.iter().zip(chain.iter().skip(1)).all(|(one, next)| one.issuer == next.subject)
}
