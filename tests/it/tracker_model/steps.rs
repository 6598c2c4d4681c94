//! The steps of a random client: the messages of each one, and the tables that its statements need.

use crate::world::raw::{message, query};

pub(super) fn parse(sql: &str) -> Vec<u8> {
    message(b'P', format!("\0{sql}\0\0\0").as_bytes())
}

pub(super) fn bind() -> Vec<u8> {
    message(b'B', b"\0\0\0\0\0\0\0\0")
}

pub(super) fn execute() -> Vec<u8> {
    message(b'E', b"\0\0\0\0\0")
}

/// A FunctionCall of `pg_backend_pid()`.
pub(super) fn function_call() -> Vec<u8> {
    message(b'F', &[&2026_u32.to_be_bytes()[..], &[0, 0, 0, 0, 0, 1]].concat())
}

pub(super) fn one(tag: u8) -> Vec<u8> {
    message(tag, b"")
}

/// Steps of a random client. Names in them exist in every session of [`TrackedSession`].
pub(super) const STEPS: [fn() -> Vec<u8>; 37] = [
    || query("select 1"),
    || query("select 1/0"),
    || query(""),
    || query("select 1; select 2 from generate_series(1, 3)"),
    || query("begin"),
    || query("commit"),
    || query("rollback"),
    || query("copy t from stdin"),
    || query("copy t from stdin; select 1; copy t from stdin"),
    || query("copy nowhere from stdin"),
    || query("copy (select generate_series(1, 3)) to stdout"),
    || query("insert into deferred values (1)"),
    || parse("select 1"),
    || parse("select from nowhere"),
    || [parse("copy t from stdin"), bind(), execute()].concat(),
    || [parse("copy (select 1) to stdout"), bind(), execute()].concat(),
    || [parse("insert into deferred values (1)"), bind(), execute()].concat(),
    || [parse("select 1"), bind(), message(b'D', b"P\0"), execute(), one(b'S')].concat(),
    || [bind(), execute()].concat(),
    || message(b'D', b"S\0"),
    || message(b'C', b"S\0"),
    || one(b'S'),
    || one(b'H'),
    || message(b'd', b"1\n"),
    || message(b'd', b"not a number\n"),
    || one(b'c'),
    || message(b'f', b"no more\0"),
    // A COPY that fails before it reads anything, and one that fails at its end.
    || query("copy refused from stdin"),
    || [parse("copy refused from stdin"), bind(), execute()].concat(),
    || [parse("copy refused from stdin"), bind(), execute(), one(b'S')].concat(),
    || [parse("copy t from stdin"), bind(), execute(), one(b'S')].concat(),
    || query("copy deferred from stdin"),
    || [parse("copy deferred from stdin"), bind(), execute(), one(b'S')].concat(),
    // The rest of a COPY, as clients send it that do not know yet whether it failed.
    || [message(b'd', b"1\n"), message(b'd', b"1\n"), one(b'c')].concat(),
    || [message(b'd', b"1\n"), one(b'c'), one(b'S')].concat(),
    || [function_call(), one(b'c'), one(b'c')].concat(),
    || [query("select 1"), one(b'c'), query("copy t from stdin"), one(b'c'), one(b'f')].concat(),
];

/// The tables of the steps: with a key that is checked at the end of the transaction, and with a trigger that refuses
/// a COPY behind its `CopyInResponse` and before its first line.
pub(super) const TABLES: &str = "create temp table t (n int); \
    create temp table deferred (n int primary key deferrable initially deferred); \
    create temp table refused (n int); \
    create function pg_temp.refuse() returns trigger language plpgsql as $$ begin raise 'no'; end $$; \
    create trigger refuse before insert on refused for each statement execute function pg_temp.refuse()";
