//! Chains of certificates in words: for whom, signed by whom, in which order, for how many days more.

use std::time::SystemTime;

use super::LinkProblem;
use super::report::{ChainLink, DoctorReport};
use crate::net::certificate::CertificateFacts;

/// A certificate that ends this soon is worth a warning. Ours: time for an order by hand.
const SOON_DAYS: u64 = 14;

/// A chain that someone shows, its own certificate first.
pub(super) struct CertificateChain<'a> {
    /// Who shows it, in front of every sentence, where that has to be said.
    pub(super) whose: &'a str,
    /// What it is in a sentence.
    pub(super) what: &'a str,
    pub(super) certificates: &'a [CertificateFacts],
    /// What to do when it is not good.
    pub(super) remedy: &'a str,
    /// Why it matters when it is not.
    pub(super) matters: &'a str,
    /// Why its order matters, where it does.
    pub(super) order: Option<&'a str>,
}

impl CertificateChain<'_> {
    /// Says how the chain is, as `link`; `more` is known of it besides.
    pub(super) fn tell(&self, link: ChainLink, more: &str, now: SystemTime, report: &mut DoctorReport<'_>) {
        let (what, problem) =
            (format!("{}{}", self.whose, self.what), |found: String| LinkProblem::new(found, self.remedy));
        let Some(own) = self.certificates.first() else {
            return report.fail(link, problem(format!("{what} cannot be read")));
        };
        // A chain is as good as its shortest-lived part.
        let days = self.certificates.iter().map(|one| one.days_left(now)).min().flatten();
        let shown = self.shown(own);
        match days {
            None => report.fail(link, problem(format!("{what} has expired")).because(self.matters)),
            Some(_) if own.not_before > now => {
                report.fail(link, problem(format!("{what} is not valid yet")).because(self.matters));
            }
            Some(_) if own.names.is_empty() => {
                let why = "Clients look at subjectAltName only, so none can check this certificate.";
                report.fail(link, problem(shown).because(why));
            }
            Some(days) => match self.order.filter(|_| !in_order(self.certificates)) {
                Some(why) => {
                    let found = format!("{what} comes in a chain that is out of order");
                    let remedy =
                        "Put it first, behind each certificate the one that signed it, and no other.";
                    report.warn(link, LinkProblem::new(found, remedy).because(why));
                }
                None if days < SOON_DAYS => {
                    report.warn(link, problem(format!("{what} expires in {days} day(s)")));
                }
                None => report.ok(link, format!("{shown}, {days} days left{more}")),
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

/// Whether each is followed by the one that signed it, by their names.
fn in_order(chain: &[CertificateFacts]) -> bool {
    chain.iter().zip(chain.iter().skip(1)).all(|(one, next)| one.issuer == next.subject)
}
