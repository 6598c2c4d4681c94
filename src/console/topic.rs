//! Topics of SHOW, with their columns. Names of topics and columns are PgBouncer's where the proxy has the same thing.

use crate::postgres::command_server::Column;

/// A topic of SHOW.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Topic {
    Clients,
    Help,
    Sessions,
    Version,
}

const fn t(name: &'static str) -> Column {
    Column::text(name)
}

const fn n(name: &'static str) -> Column {
    Column::number(name)
}

impl Topic {
    /// All topics, in the order of SHOW HELP.
    pub(super) const ALL: [Self; 4] = [Self::Help, Self::Version, Self::Sessions, Self::Clients];

    /// The word after SHOW.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Clients => "CLIENTS",
            Self::Help => "HELP",
            Self::Sessions => "SESSIONS",
            Self::Version => "VERSION",
        }
    }

    /// Description for SHOW HELP.
    pub(super) fn about(self) -> &'static str {
        match self {
            Self::Clients => "clients with a session or on the console, in PgBouncer's columns",
            Self::Help => "this list",
            Self::Sessions => "live sessions: person, database user, state, age, bytes",
            Self::Version => "version of pgpassport",
        }
    }

    /// Columns of the answer.
    pub(super) fn columns(self) -> &'static [Column] {
        match self {
            Self::Clients => {
                const {
                    &[
                        t("type"),
                        t("user"),
                        t("database"),
                        t("state"),
                        t("addr"),
                        n("port"),
                        t("connect_time"),
                        n("wait"),
                        n("wait_us"),
                        n("close_needed"),
                        t("ptr"),
                        t("link"),
                        n("remote_pid"),
                        t("tls"),
                        t("application_name"),
                        t("id"),
                    ]
                }
            }
            Self::Help => const { &[t("command"), t("right"), t("description")] },
            Self::Sessions => {
                const {
                    &[
                        t("id"),
                        t("subject"),
                        t("issuer"),
                        t("cluster"),
                        t("database"),
                        t("db_user"),
                        t("state"),
                        t("age"),
                        n("to_server"),
                        n("to_client"),
                        t("client"),
                        t("listener"),
                        t("since"),
                    ]
                }
            }
            Self::Version => const { &[t("version")] },
        }
    }
}
