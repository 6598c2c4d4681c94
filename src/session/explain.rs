//! Client texts for failed logins: the event and the remedy, written for the person who connects. All texts
//! that are independent of the protocol are here, and the others in the protocol's `explain.rs`, so that they are consistent and one reading shows that none
//! reveals a secret. Content of a token is repeated only if its signature holds.

#![deny(clippy::wildcard_enum_match_arm)] // a new fault without a text does not pass

mod aws;
mod clock;
mod place;
mod policy;
mod token;
mod upstream;

use super::outcome::LoginError;
use crate::refusal::{FRESH_TOKEN, Refusal, Stage, TRY_AGAIN};

pub use self::clock::{clock_note, name_clock};

const ASK_OPERATOR: &str =
    "This is for the operator of the proxy; the log line with the session id has the cause.";

/// The refusal for `why`.
pub fn explain(why: &LoginError) -> Refusal {
    match why {
        LoginError::Startup(why) => why.refusal(),
        LoginError::NoPlace(why) => place::explain(why),
        LoginError::ClientTimedOut => Refusal::authentication_timeout(),
        LoginError::Ask(why) => why.refusal(),
        LoginError::Verify(why) => token::explain(why),
        LoginError::Policy(why) => policy::explain(why),
        LoginError::Withdrawn(_) => place::withdrawn(),
        LoginError::Audit(_) => place::audit_unwritable(),
        LoginError::Sts(why) => aws::explain(why),
        LoginError::Sign(_) => Refusal::internal(Stage::Signing),
        LoginError::Dial(why) => upstream::dial(why),
        LoginError::Queue(full) => Refusal::login_queue_full(&full.cluster, full.per_second),
        LoginError::Closed(closed) => place::cluster_closed(closed),
        LoginError::Upstream(why) => why.refusal(),
        LoginError::ServerSilent(_) => timed_out(Stage::UpstreamLogin),
        LoginError::TimedOut(stage) => timed_out(*stage),
    }
}

fn timed_out(stage: Stage) -> Refusal {
    Refusal::cannot_connect_now("the login took too long", stage, "this step did not end in time")
        .hint(TRY_AGAIN)
}

/// Duration in seconds for display.
fn span(seconds: u64) -> String {
    let (count, unit) = match seconds {
        0..120 => (seconds, "second"),
        120..7_200 => (seconds / 60, "minute"),
        7_200..172_800 => (seconds / 3_600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {unit}{plural}")
}

#[cfg(test)]
mod tests;
