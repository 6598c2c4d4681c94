//! Refusals of logins because the database cannot be reached or trusted.

use super::ASK_OPERATOR;
use crate::net::dial::DialError;
use crate::refusal::{Refusal, Stage, TRY_AGAIN};

pub(super) fn dial(why: &DialError) -> Refusal {
    let refuse = |what, stage, detail| Refusal::cannot_connect_now(what, stage, detail);
    match why {
        DialError::Resolve { .. } => {
            refuse("database unreachable", Stage::UpstreamName, "the name of the database does not resolve")
                .hint(TRY_AGAIN)
        }
        DialError::Connect { .. } | DialError::TimedOut => {
            refuse("database unreachable", Stage::UpstreamConnect, "the database does not take connections")
                .hint(TRY_AGAIN)
        }
        DialError::Handshake { .. } => {
            let detail = "the database takes connections and does not finish the TLS handshake";
            refuse("database unreachable", Stage::UpstreamTls, detail).hint(TRY_AGAIN)
        }
        DialError::NoTls(_) | DialError::WrongProtocol { .. } | DialError::Tls { .. } => {
            let detail = "no TLS connection to the database whose certificate could be verified";
            refuse("database not trusted", Stage::UpstreamTls, detail).hint(ASK_OPERATOR)
        }
    }
}
