//! The loads on MySQL, as those on PostgreSQL: small queries, large results, logins, idle sessions. Each gives figures for
//! one contestant. A client is a thread.

use std::thread;
use std::time::{Duration, Instant};

use aws_emulator::Mysql;

use crate::ground::Contestant;
use crate::loads::{LoadFigures, RunLength};
use crate::measure::{cpu_seconds, figure, kernel_seconds, resident_kib};
use crate::mysql_client::{MysqlRoute, MysqlSession};
use crate::quiet_server::ROW_BYTES;
use crate::sessions::{AT_ONCE, FIRST};

/// Rows of the one table.
const ACCOUNTS: usize = 100_000;

/// A large result.
#[derive(Clone, Copy)]
pub(crate) enum LargeRows {
    /// 20 bytes each.
    Small,
    /// 1 MiB each.
    Large,
}

/// Makes the table of all loads.
pub(crate) fn prepare(server: &Mysql) {
    server.sql(&format!(
        "set cte_max_recursion_depth = {ACCOUNTS}; \
         create table accounts (aid int primary key, abalance int not null); \
         insert into accounts with recursive n as (select 1 i union all select i + 1 from n where i < {ACCOUNTS}) \
         select i, 0 from n; analyze table accounts"
    ));
}

/// A row by its key in each transaction, by a prepared statement, over sessions that are logged in before.
pub(crate) fn queries(to: &Contestant, clients: usize, length: RunLength) -> LoadFigures {
    let route = MysqlRoute::to(to);
    let sessions: Vec<_> = (0..clients)
        .map(|_| {
            let mut session = route.log_in();
            let statement = session.prepare("select abalance from accounts where aid = ?");
            (session, statement)
        })
        .collect();
    let (before, began) = ((cpu_seconds(&to.pids), kernel_seconds(&to.pids)), Instant::now());
    let counts = at_the_same_time(sessions.into_iter().enumerate(), |(client, (mut session, statement))| {
        let mut count = 0;
        while goes_on(length, count, began) {
            let account = (client * 7_919 + count * 31_337) % ACCOUNTS + 1;
            session.execute(statement, account as u64);
            count += 1;
        }
        (count, session)
    });
    let (cpu, kernel) = (cpu_seconds(&to.pids) - before.0, kernel_seconds(&to.pids) - before.1);
    let seconds = began.elapsed().as_secs_f64();
    let count = figure(counts.iter().map(|(count, _)| count).sum());
    LoadFigures { cpu: cpu / count, kernel: kernel / count, rate: count / seconds, ..LoadFigures::default() }
}

/// Each login over a connection of its own, to the answer of its first query.
pub(crate) fn logins(to: &Contestant, clients: usize, seconds: u32) -> LoadFigures {
    let route = MysqlRoute::to(to);
    let (before, began) = (cpu_seconds(&to.pids), Instant::now());
    let counts = at_the_same_time(0..clients, |_| {
        let mut count = 0;
        while goes_on(RunLength::Seconds(seconds), count, began) {
            let mut session = route.log_in();
            session.query("select 1");
            session.quit();
            count += 1;
        }
        count
    });
    let (cpu, seconds) = (cpu_seconds(&to.pids) - before, began.elapsed().as_secs_f64());
    let count = figure(counts.iter().sum());
    LoadFigures { cpu: cpu / count, rate: count / seconds, ..LoadFigures::default() }
}

/// A result of about `mib` MiB.
pub(crate) fn result(to: &Contestant, rows: LargeRows, mib: usize) -> LoadFigures {
    let sql = match rows {
        LargeRows::Small => {
            let times = (mib << 20) / 25 / ACCOUNTS; // 20 bytes, their length, and the header of their packet
            let again = format!("(select aid from accounts limit {times}) again");
            format!("select lpad(accounts.aid, 20, 'x') from accounts cross join {again}")
        }
        LargeRows::Large => format!("select repeat('0123456789abcdef', 65536) from accounts limit {mib}"),
    };
    let mut session = MysqlRoute::to(to).log_in();
    let (before, began) = (cpu_seconds(&to.pids), Instant::now());
    let gigabytes = figure(session.query(&sql)) / 1e9;
    let (cpu, seconds) = (cpu_seconds(&to.pids) - before, began.elapsed().as_secs_f64());
    LoadFigures { cpu: cpu / gigabytes, rate: gigabytes / seconds, ..LoadFigures::default() }
}

/// KiB that each of `count` sessions adds to the contestant once it has sent and received something.
pub(crate) fn idle(to: &Contestant, count: usize) -> f64 {
    let route = MysqlRoute::to(to);
    let first = open(&route, FIRST);
    let before = resident_kib(&to.pids);
    let sessions = open(&route, count);
    thread::sleep(Duration::from_secs(1)); // buffers are given back a moment after they were used
    let kib = (resident_kib(&to.pids) - before) / figure(count);
    drop((first, sessions));
    kib
}

fn open(route: &MysqlRoute, count: usize) -> Vec<MysqlSession> {
    let activity = format!("select /* {} */ repeat('x', {ROW_BYTES})", "x".repeat(ROW_BYTES));
    let sessions = at_the_same_time(0..AT_ONCE, |client| {
        let mine = (client..count).step_by(AT_ONCE);
        let open = mine.map(|_| {
            let mut session = route.log_in();
            session.query(&activity);
            session
        });
        open.collect::<Vec<_>>()
    });
    sessions.into_iter().flatten().collect()
}

fn goes_on(length: RunLength, count: usize, began: Instant) -> bool {
    match length {
        RunLength::Transactions(wanted) => count < wanted,
        RunLength::Seconds(seconds) => began.elapsed() < Duration::from_secs(seconds.into()),
    }
}

/// Runs `load` for each client in a thread of its own.
fn at_the_same_time<C: Send, R: Send>(
    clients: impl Iterator<Item = C>,
    load: impl Fn(C) -> R + Sync,
) -> Vec<R> {
    let load = &load;
    thread::scope(|scope| {
        let threads: Vec<_> = clients.map(|client| scope.spawn(move || load(client))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a client without an error")).collect()
    })
}
