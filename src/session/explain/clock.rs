//! Note about this machine's clock in refusals that it can cause.

use super::span;
use crate::aws::sts::StsError;
use crate::identity::{ClaimFault, VerifyError};
use crate::net::peer_clocks::ClockDifference;
use crate::refusal::Refusal;
use crate::session::outcome::LoginError;

/// Appends a note about the clock to a refusal that depends on time, if the clock differs from those of the
/// HTTPS peers.
pub fn name_clock(refusal: Refusal, why: &LoginError, difference: Option<ClockDifference>) -> Refusal {
    let Some(words) = clock_note(why, difference, "This proxy's clock") else { return refusal };
    refusal.note(&words)
}

/// Sentence about the difference that begins with `whose`, if the difference can be the cause of `why`.
pub fn clock_note(why: &LoginError, difference: Option<ClockDifference>, whose: &str) -> Option<String> {
    difference.filter(|_| is_about_times(why)).map(|difference| clock(difference, whose))
}

fn clock(ClockDifference { seconds_ahead, with_all }: ClockDifference, whose: &str) -> String {
    let by = span(seconds_ahead.unsigned_abs());
    let way = if seconds_ahead < 0 { "behind" } else { "ahead of" };
    if with_all {
        format!("{whose} is {by} {way} that of every server it asks by HTTPS: it has to be set right (NTP).")
    } else {
        format!("{whose} is {by} {way} that of a server it asks by HTTPS, and agrees with another one.")
    }
}

/// True if a wrong clock, of this machine or another, can be the cause.
fn is_about_times(why: &LoginError) -> bool {
    match why {
        LoginError::Verify(why) => matches!(
            why,
            VerifyError::Claims(
                ClaimFault::Expired { .. }
                    | ClaimFault::NotYetValid { .. }
                    | ClaimFault::IssuedInFuture { .. }
            )
        ),
        LoginError::Sts(StsError::Refused { code, .. }) => {
            code.contains("Expired") || code.contains("Signature") || code == "InvalidIdentityToken"
        }
        LoginError::Sts(StsError::BadResponse(_)) => true,
        // The IAM token is signed with this machine's time.
        LoginError::Upstream(why) => why.is_about_credentials(),
        LoginError::Startup(_)
        | LoginError::NoPlace(_)
        | LoginError::ClientTimedOut
        | LoginError::Ask(_)
        | LoginError::Policy(_)
        | LoginError::Withdrawn(_)
        | LoginError::Audit(_)
        | LoginError::Sts(StsError::Unavailable(_) | StsError::Misconfigured { .. })
        | LoginError::Sign(_)
        | LoginError::Dial(_)
        | LoginError::ServerSilent(_)
        | LoginError::Queue(_)
        | LoginError::Closed(_)
        | LoginError::TimedOut(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::TokenFault;
    use crate::session::explain::explain;

    fn hint(why: &LoginError, seconds_ahead: i64, with_all: bool) -> String {
        let refusal = explain(why);
        let named = name_clock(refusal.clone(), why, Some(ClockDifference { seconds_ahead, with_all }));
        assert_eq!(name_clock(refusal.clone(), why, None), refusal);
        format!("{:?} {}", named.hint.unwrap(), named.note.unwrap_or_default())
    }

    #[test]
    fn a_wrong_clock_is_named_where_it_can_be_the_cause() {
        let refused = |code: &str| StsError::Refused { code: code.into(), message: String::new() };
        let about_times: [LoginError; 6] = [
            VerifyError::Claims(ClaimFault::Expired { seconds_ago: 300 }).into(),
            VerifyError::Claims(ClaimFault::NotYetValid { in_seconds: 300 }).into(),
            VerifyError::Claims(ClaimFault::IssuedInFuture { in_seconds: 300 }).into(),
            refused("ExpiredTokenException").into(),
            refused("SignatureDoesNotMatch").into(),
            StsError::BadResponse("x").into(),
        ];
        for why in about_times {
            let words = hint(&why, 300, true);
            assert!(
                words.contains("This proxy's clock is 5 minutes ahead of that of every server"),
                "{words}"
            );
            let words = hint(&why, -90, false);
            assert!(words.contains("clock is 90 seconds behind that of a server it asks"), "{words}");
        }
        for why in [LoginError::Verify(TokenFault::BadSignature.into()), refused("AccessDenied").into()] {
            assert!(!hint(&why, 300, true).contains("clock"), "{why}");
        }
    }
}
