//! `[session]`: when a session that works is ended all the same.

use std::time::Duration;

use super::reader::Section;
use super::values::DAY;
use super::{OnTokenExpiry, SessionSettings};

/// Longest of these times, near PostgreSQL's own longest timeout (24.8 days, in milliseconds of 31 bits).
const LONGEST: Duration = DAY.saturating_mul(24);

pub(super) fn session(section: &Section<'_, '_>) -> SessionSettings {
    let off_if_zero = |key| {
        let time = section.duration(key, Duration::ZERO, Duration::ZERO..=LONGEST);
        Some(time).filter(|time| !time.is_zero())
    };
    let words = [
        ("keep", OnTokenExpiry::Keep),
        ("close_when_idle", OnTokenExpiry::CloseWhenIdle),
        ("close", OnTokenExpiry::Close),
    ];
    let session = SessionSettings {
        client_idle_timeout: off_if_zero("client_idle_timeout"),
        idle_transaction_timeout: off_if_zero("idle_transaction_timeout"),
        max_lifetime: off_if_zero("max_lifetime"),
        on_token_expiry: section.choice("on_token_expiry", OnTokenExpiry::Keep, &words),
        token_expiry_notice: off_if_zero("token_expiry_notice"),
    };
    section.finish();
    session
}
