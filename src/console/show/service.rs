//! `SHOW DATABASES`, `CLUSTERS`, `POOLS`, `STATS`, `USERS`, `LISTS`, `LIMITS`, `CONFIG`, `MEM` and `FDS`: what the proxy
//! serves, and what it uses.

use std::collections::{BTreeMap, HashSet};

use tokio::time::Instant;

use crate::config::NamePattern;
use crate::console::averages::columns;
use crate::console::show::sessions::{shown, state};
use crate::console::state::ConsoleDesk;
use crate::postgres::command_server::{Cell, RowEncoder};
use crate::session::registry::SessionSnapshot;
use crate::telemetry::process_metrics::ProcessSnapshot;

/// Sessions by cluster.
fn by_cluster(desk: &ConsoleDesk) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for session in desk.shared.registry.list() {
        *counts.entry(session.facts.cluster.clone()).or_default() += 1;
    }
    counts
}

/// Clusters in PgBouncer's columns of databases.
pub(super) fn databases(desk: &ConsoleDesk, rows: &mut RowEncoder) {
    let (current, sessions) = (desk.current.load(), by_cluster(desk));
    for cluster in &current.context.clusters {
        let (settings, gate) = (&cluster.settings, cluster.gate.status());
        let used = sessions.get(&settings.name).copied().unwrap_or(0);
        rows.push(&[
            shown(&settings.name),
            settings.endpoint.host().to_owned().into(),
            usize::from(settings.endpoint.port()).into(),
            names(settings.route.databases.as_deref()),
            Cell::Null,
            Cell::Null,
            Cell::Null,
            Cell::Null,
            "session".into(),
            settings.max_client_conn.unwrap_or(0).into(),
            used.into(),
            Cell::Number(i64::from(gate.paused)),
            Cell::Number(i64::from(gate.draining)),
        ]);
    }
}

/// Clusters with the words of the configuration.
pub(super) fn clusters(desk: &ConsoleDesk, rows: &mut RowEncoder) {
    let (current, sessions) = (desk.current.load(), by_cluster(desk));
    for cluster in &current.context.clusters {
        let (settings, gate) = (&cluster.settings, cluster.gate.status());
        let roles: Vec<_> = settings.roles.all().into_iter().map(|role| role.as_str().to_owned()).collect();
        rows.push(&[
            shown(&settings.name),
            settings.engine.word().into(),
            gate.to_string().into(),
            sessions.get(&settings.name).copied().unwrap_or(0).into(),
            settings.max_client_conn.into(),
            gate.waiting.into(),
            cluster.login_rate.as_ref().map(|queue| queue.queued()).into(),
            settings.region.as_str().to_owned().into(),
            names(settings.route.databases.as_deref()),
            settings.endpoint.to_string().into(),
            roles.join(", ").into(),
        ]);
    }
}

fn names(patterns: Option<&[NamePattern]>) -> Cell {
    let Some(patterns) = patterns else { return "*".into() };
    let name = |pattern: &NamePattern| match pattern {
        NamePattern::Exact(name) => name.clone(),
        NamePattern::Prefix(prefix) => format!("{prefix}*"),
    };
    patterns.iter().map(name).collect::<Vec<_>>().join(", ").into()
}

/// Sessions by cluster, database, and database user, in PgBouncer's columns. Each session has a server connection of its own.
pub(super) fn pools(desk: &ConsoleDesk, rows: &mut RowEncoder) {
    let mut pools: BTreeMap<[String; 3], usize> = BTreeMap::new();
    for session in desk.shared.registry.list() {
        let facts = &session.facts;
        let pool = [&facts.cluster, &facts.database, &facts.db_user].map(String::clone);
        *pools.entry(pool).or_default() += 1;
    }
    for ([cluster, database, user], sessions) in pools {
        let none = || Cell::Number(0);
        rows.push(&[
            shown(&database),
            shown(&user),
            sessions.into(),
            none(),
            none(),
            none(),
            sessions.into(),
            none(),
            none(),
            Cell::Null,
            none(),
            none(),
            none(),
            none(),
            none(),
            "session".into(),
            shown(&cluster),
        ]);
    }
}

/// Sessions, transactions, queries, and bytes by cluster since the start, and per second.
pub(super) fn stats(desk: &ConsoleDesk, rows: &mut RowEncoder) {
    let now = Instant::now();
    let mut totals = desk.shared.registry.totals();
    for name in desk.current.load().context.cluster_names() {
        totals.entry(name).or_default();
    }
    for (cluster, total) in totals {
        let averages = desk.periods.averages(now, &cluster, total);
        let mut row = vec![shown(&cluster)];
        row.extend(columns(total).into_iter().chain(averages).map(Cell::from));
        rows.push(&row);
    }
}

/// Server connections of live sessions, in PgBouncer's columns.
pub(super) fn servers(desk: &ConsoleDesk, rows: &mut RowEncoder) {
    for session in desk.shared.registry.list() {
        let facts = &session.facts;
        let id = facts.id.to_string();
        rows.push(&[
            "S".into(),
            shown(&facts.db_user),
            shown(&facts.database),
            state(&session),
            facts.server.map(|(addr, _)| addr.ip().to_string()).into(),
            facts.server.map(|(addr, _)| usize::from(addr.port())).into(),
            facts.server.map_or(Cell::Null, |(_, process)| Cell::Number(process)),
            shown(&facts.cluster),
            id.into(),
        ]);
    }
}

/// People with live sessions.
pub(super) fn users(desk: &ConsoleDesk, rows: &mut RowEncoder) {
    let mut people: BTreeMap<(String, String), Vec<SessionSnapshot>> = BTreeMap::new();
    for session in desk.shared.registry.list() {
        let person = &session.facts.person;
        people.entry((person.subject.clone(), person.issuer.clone())).or_default().push(session);
    }
    for ((subject, issuer), sessions) in people {
        let mut users: Vec<_> = sessions.iter().map(|session| session.facts.db_user.as_str()).collect();
        users.sort_unstable();
        users.dedup();
        rows.push(&[shown(&subject), shown(&issuer), shown(&users.join(", ")), sessions.len().into()]);
    }
}

/// Counts, as PgBouncer lists them.
pub(super) fn lists(desk: &ConsoleDesk, rows: &mut RowEncoder) {
    let (current, sessions) = (desk.current.load(), desk.shared.registry.list());
    let people: HashSet<_> = sessions.iter().map(|session| &session.facts.person.subject).collect();
    let pool = |session: &'_ SessionSnapshot| {
        let facts = &session.facts;
        [&facts.cluster, &facts.database, &facts.db_user].map(String::clone)
    };
    let pools: HashSet<_> = sessions.iter().map(pool).collect();
    let (clients, active) = (desk.shared.permits.clients(), desk.shared.permits.sessions());
    for (name, count) in [
        ("databases", current.context.clusters.len()),
        ("users", people.len()),
        ("pools", pools.len()),
        ("free_clients", current.context.limits.max_client_conn.saturating_sub(clients)),
        ("used_clients", active),
        ("login_clients", clients.saturating_sub(active)),
        ("free_servers", current.context.pool().idle),
        ("used_servers", active),
    ] {
        rows.push(&[name.into(), count.into()]);
    }
}

/// Limits and their use.
pub(super) fn limits(desk: &ConsoleDesk, rows: &mut RowEncoder) {
    let (current, sessions) = (desk.current.load(), by_cluster(desk));
    let (clients, active) = (desk.shared.permits.clients(), desk.shared.permits.sessions());
    rows.push(&[
        "limits.max_client_conn".into(),
        Cell::Null,
        clients.into(),
        current.context.limits.max_client_conn.into(),
    ]);
    let logins = clients.saturating_sub(active);
    rows.push(&[
        "limits.max_logins".into(),
        Cell::Null,
        logins.into(),
        current.context.limits.max_logins.into(),
    ]);
    for cluster in &current.context.clusters {
        let settings = &cluster.settings;
        let used = sessions.get(&settings.name).copied().unwrap_or(0);
        let limit = settings.max_client_conn.into();
        rows.push(&["cluster.max_client_conn".into(), shown(&settings.name), used.into(), limit]);
    }
}

/// Keys of the running configuration, sorted. `log.level` is the level that `SET log_level` has set.
pub(super) fn config(desk: &ConsoleDesk, rows: &mut RowEncoder) {
    for key in desk.current.load().keys.iter() {
        let value = match key.key.as_str() {
            "log.level" => Some(desk.shared.log.level().word().to_owned()),
            _ => key.value.clone(),
        };
        let changeable = if key.needs_restart { "restart" } else { "reload" };
        rows.push(&[key.key.clone().into(), value.into(), key.default.clone().into(), changeable.into()]);
    }
}

/// Memory of the process and of the cache of role credentials.
pub(super) fn memory(desk: &ConsoleDesk, rows: &mut RowEncoder) {
    let (process, cache) = (ProcessSnapshot::read(), desk.shared.federation.memory());
    for (name, size, count) in [
        ("resident", process.resident, None),
        ("virtual", process.virtual_memory, None),
        ("role_credentials", cache.bytes, Some(cache.entries)),
    ] {
        rows.push(&[name.into(), size.into(), Cell::from(count)]);
    }
}

/// File descriptors of the process.
pub(super) fn descriptors(rows: &mut RowEncoder) {
    let process = ProcessSnapshot::read();
    rows.push(&["open".into(), process.open_files.into()]);
    rows.push(&["limit".into(), process.max_files.into()]);
}
