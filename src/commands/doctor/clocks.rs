//! Doctor: this machine's clock against those of the HTTPS peers that answered.

use super::LinkProblem;
use super::report::{ChainLink, DoctorReport};
use crate::net::peer_clocks::{NAME_FROM, PeerClocks};

/// Compares with every peer that has sent a `Date` during this run.
pub(super) fn examine(clocks: &PeerClocks, report: &mut DoctorReport<'_>) {
    let link = ChainLink::PeerClocks;
    let peers = clocks.all_seconds_ahead();
    if peers.is_empty() {
        return report.skip(link, "not tried: no HTTPS peer has answered");
    }
    let is_off = |seconds: i64| seconds.unsigned_abs() >= NAME_FROM.as_secs();
    let off: Vec<_> = peers.iter().filter(|(_, seconds)| is_off(*seconds)).collect();
    if off.is_empty() {
        let named: Vec<_> = peers.iter().map(|(peer, _)| peer.as_str()).collect();
        let limit = NAME_FROM.as_secs();
        return report.ok(link, format!("less than {limit} s from {}", named.join(", ")));
    }
    let each: Vec<_> = off.iter().map(|(peer, seconds)| difference(peer, *seconds)).collect();
    let remedy = if off.len() == peers.len() {
        "Synchronize this machine's clock (NTP): tokens and signatures contain times."
    } else {
        "Synchronize this machine's clock (NTP), or have the other machine's clock set: the peers do not agree with each other."
    };
    report.warn(link, LinkProblem::new(format!("this machine's clock is {}", each.join(", ")), remedy));
}

fn difference(peer: &str, seconds_ahead: i64) -> String {
    let side = if seconds_ahead < 0 { "behind" } else { "ahead of" };
    format!("{} s {side} that of {peer}", seconds_ahead.unsigned_abs())
}
