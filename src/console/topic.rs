//! Topics of SHOW, with their columns. Names of topics and columns are PgBouncer's where the proxy has the same thing.

use crate::postgres::command_server::Column;

/// A topic of SHOW.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Topic {
    Clients,
    Clusters,
    Config,
    Databases,
    Fds,
    Help,
    Issuers,
    Keys,
    Limits,
    Lists,
    Mem,
    Pools,
    Servers,
    Sessions,
    Stats,
    Sts,
    Users,
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
    pub(super) const ALL: [Self; 18] = [
        Self::Help,
        Self::Version,
        Self::Sessions,
        Self::Clients,
        Self::Servers,
        Self::Pools,
        Self::Stats,
        Self::Lists,
        Self::Users,
        Self::Databases,
        Self::Clusters,
        Self::Issuers,
        Self::Keys,
        Self::Sts,
        Self::Limits,
        Self::Config,
        Self::Mem,
        Self::Fds,
    ];

    /// The word after SHOW.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Clients => "CLIENTS",
            Self::Clusters => "CLUSTERS",
            Self::Config => "CONFIG",
            Self::Databases => "DATABASES",
            Self::Fds => "FDS",
            Self::Help => "HELP",
            Self::Issuers => "ISSUERS",
            Self::Keys => "KEYS",
            Self::Limits => "LIMITS",
            Self::Lists => "LISTS",
            Self::Mem => "MEM",
            Self::Pools => "POOLS",
            Self::Servers => "SERVERS",
            Self::Sessions => "SESSIONS",
            Self::Stats => "STATS",
            Self::Sts => "STS",
            Self::Users => "USERS",
            Self::Version => "VERSION",
        }
    }

    /// Description for SHOW HELP.
    pub(super) fn about(self) -> &'static str {
        match self {
            Self::Clients => "clients with a session or on the console, in PgBouncer's columns",
            Self::Servers => "server connections of live sessions, with the process id at the server",
            Self::Pools => "sessions by cluster, database, and user, in PgBouncer's columns",
            Self::Stats => {
                "sessions, transactions, queries, and bytes by cluster since the start, and per second"
            }
            Self::Lists => "counts, in PgBouncer's words",
            Self::Users => "people with live sessions",
            Self::Databases => "clusters in PgBouncer's columns",
            Self::Clusters => {
                "clusters: endpoint, roles, sessions, logins that wait, and whether the cluster is paused or drained"
            }
            Self::Issuers => "issuers: URL, audience, and whether their tokens can be verified",
            Self::Keys => "key sets: size, age in seconds, fetches since the start",
            Self::Sts => "STS endpoints: calls since the start by outcome",
            Self::Limits => "limits and their use",
            Self::Config => "keys of the running configuration, and whether a reload changes them",
            Self::Mem => "memory of the process in bytes",
            Self::Fds => "file descriptors of the process",
            Self::Help => "this list",
            Self::Sessions => {
                "live sessions: person, database user, state, age, bytes, queries, transactions"
            }
            Self::Version => "version of pgpassport",
        }
    }

    /// Columns of the answer.
    #[expect(clippy::too_many_lines, reason = "a table")]
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
                        t("tls"),
                        t("application_name"),
                        t("id"),
                        n("query_count"),
                        n("xact_count"),
                    ]
                }
            }
            Self::Servers => {
                const {
                    &[
                        t("type"),
                        t("user"),
                        t("database"),
                        t("state"),
                        t("addr"),
                        n("port"),
                        n("remote_pid"),
                        t("cluster"),
                        t("link"),
                    ]
                }
            }
            Self::Pools => {
                const {
                    &[
                        t("database"),
                        t("user"),
                        n("cl_active"),
                        n("cl_waiting"),
                        n("cl_active_cancel_req"),
                        n("cl_waiting_cancel_req"),
                        n("sv_active"),
                        n("sv_active_cancel"),
                        n("sv_being_canceled"),
                        n("sv_idle"),
                        n("sv_used"),
                        n("sv_tested"),
                        n("sv_login"),
                        n("maxwait"),
                        n("maxwait_us"),
                        t("pool_mode"),
                        t("cluster"),
                    ]
                }
            }
            Self::Stats => {
                const {
                    &[
                        t("database"),
                        n("total_server_assignment_count"),
                        n("total_xact_count"),
                        n("total_query_count"),
                        n("total_received"),
                        n("total_sent"),
                        n("avg_server_assignment_count"),
                        n("avg_xact_count"),
                        n("avg_query_count"),
                        n("avg_recv"),
                        n("avg_sent"),
                    ]
                }
            }
            Self::Lists => const { &[t("list"), n("items")] },
            Self::Users => const { &[t("name"), t("issuer"), t("db_user"), n("sessions")] },
            Self::Databases => {
                const {
                    &[
                        t("name"),
                        t("host"),
                        n("port"),
                        t("database"),
                        t("force_user"),
                        n("pool_size"),
                        n("min_pool_size"),
                        n("reserve_pool"),
                        t("pool_mode"),
                        n("max_connections"),
                        n("current_connections"),
                        n("paused"),
                        n("disabled"),
                    ]
                }
            }
            Self::Clusters => {
                const {
                    &[
                        t("name"),
                        t("engine"),
                        t("state"),
                        n("sessions"),
                        n("max_sessions"),
                        n("waiting_logins"),
                        n("queued_logins"),
                        t("region"),
                        t("databases"),
                        t("endpoint"),
                        t("roles"),
                    ]
                }
            }
            Self::Issuers => {
                const { &[t("name"), t("url"), t("audience"), t("usable"), n("key_age"), n("clock_ahead")] }
            }
            Self::Keys => {
                const {
                    &[
                        t("issuer"),
                        n("keys"),
                        n("left_out"),
                        n("age"),
                        n("max_age"),
                        n("fetched"),
                        n("failed"),
                        n("for_unknown_key"),
                        n("for_bad_signature"),
                    ]
                }
            }
            Self::Sts => const { &[t("host"), t("paused"), t("outcome"), n("calls"), n("clock_ahead")] },
            Self::Config => const { &[t("key"), t("value"), t("default"), t("changeable")] },
            Self::Limits => const { &[t("limit"), t("scope"), n("used"), n("max")] },
            Self::Mem => const { &[t("name"), n("bytes"), n("entries")] },
            Self::Fds => const { &[t("name"), n("count")] },
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
                        n("queries"),
                        n("transactions"),
                        t("client"),
                        t("listener"),
                        t("protocol"),
                        t("since"),
                    ]
                }
            }
            Self::Version => const { &[t("version")] },
        }
    }
}
