//! `[session]`: time limits of sessions.

use std::time::Duration;

use super::reader::SectionReader;
use super::readers::DAY;

/// Largest time limit, near PostgreSQL's longest timeout (24.8 days, in milliseconds of 31 bits).
const LONGEST: Duration = DAY.saturating_mul(24);

/// `[session]`
#[derive(Clone, Debug, PartialEq)]
pub struct SessionSettings {
    /// Longest silence of a client outside a transaction; unlimited if absent.
    pub client_idle_timeout: Option<Duration>,
    /// Longest silence of a client inside a transaction.
    pub idle_transaction_timeout: Option<Duration>,
    /// Longest lifetime of a session.
    pub max_lifetime: Option<Duration>,
    /// Behavior of a session when its token expires.
    pub on_token_expiry: OnTokenExpiry,
    /// Time before the expiry at which the client gets a notice.
    pub token_expiry_notice: Option<Duration>,
}

/// Behavior of a session when its token expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnTokenExpiry {
    /// The session continues: the token was for the login.
    Keep,
    /// The session ends at the first moment outside a transaction.
    CloseWhenIdle,
    /// The session ends within 5 s.
    Close,
}

pub(super) fn session(section: &SectionReader<'_, '_>) -> SessionSettings {
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

impl SessionSettings {
    /// These settings with a lifetime of at most `lifetime`.
    #[must_use]
    pub fn for_at_most(&self, lifetime: Option<Duration>) -> Self {
        let max_lifetime = [self.max_lifetime, lifetime].into_iter().flatten().min();
        Self { max_lifetime, ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shorter_life_counts() {
        let life = |own: Option<u64>, groups: Option<u64>| {
            let text = own.map_or(String::new(), |seconds| format!("max_lifetime = \"{seconds}s\""));
            let reference = include_str!("../../proxy.toml").replacen(
                "\n[session]\n",
                &format!("\n[session]\n{text}\n"),
                1,
            );
            let config = super::super::Config::from_toml(&reference, "proxy.toml").unwrap();
            config
                .session
                .for_at_most(groups.map(Duration::from_secs))
                .max_lifetime
                .map(|life| life.as_secs())
        };
        assert_eq!(life(None, None), None);
        assert_eq!((life(Some(9), None), life(None, Some(7))), (Some(9), Some(7)));
        assert_eq!((life(Some(9), Some(7)), life(Some(7), Some(9))), (Some(7), Some(7)));
    }
}
