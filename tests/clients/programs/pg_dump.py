"""pg_dump and pg_restore, with one connection and with several."""

import contextlib
import os
import signal
import subprocess
import time

from contract import absent, check, env, expect, logins, restart, sleeping, verifies, version
from libpq import conninfo, environment, fail, refusal_is_whole, run, succeed

TOKEN = env("JWT_3000")
SCHEMA = f"dump_{env('PORT')}"
DUMP = os.path.join(env("DIR"), "dump")
HASH = f"select encode(sha256(string_agg(line, '' order by i)::bytea), 'hex') from {SCHEMA}.big"


def psql(sql):
    return succeed(["psql", "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", conninfo(), "-c", sql], TOKEN).strip()


def dump(*options, token=TOKEN, **where):
    return succeed(["pg_dump", "-n", SCHEMA, *options, "-d", conninfo(**where)], token)


version(succeed(["pg_dump", "--version"]).split()[2])
psql(f"create schema {SCHEMA}; create table {SCHEMA}.t (n int primary key, text text);"
     f" insert into {SCHEMA}.t select n, 'text ' || n from generate_series(1, 10000) n")


def login(token):
    said = dump("--schema-only", token=token)
    # The dump names the owner of what was created by this user.
    return said.split(f"ALTER TABLE {SCHEMA}.t OWNER TO ")[1].split(";")[0]


logins(login)
verifies(lambda **change: dump("--schema-only", **change))


@check("refused")
def _():
    return refusal_is_whole(fail(["pg_dump", "-d", conninfo()], env("JWT_EXPIRED")))


absent("prepared", "nothing the user could choose")


@check("copy")
def _():
    before = psql(f"select md5(string_agg(t::text, ',' order by n)) from {SCHEMA}.t")
    dump("-Fd", "-j", "2", "-f", DUMP)
    psql(f"drop schema {SCHEMA} cascade")
    succeed(["pg_restore", "-j", "2", "-d", conninfo(), DUMP], TOKEN)
    expect(psql(f"select md5(string_agg(t::text, ',' order by n)) from {SCHEMA}.t"), before)
    return "`pg_dump -Fd -j 2`, dropped, `pg_restore -j 2`: the same rows, indexes and owner"


@check("error")
def _():
    said = fail(["pg_restore", "--exit-on-error", "-d", conninfo(), DUMP], TOKEN)
    expect(f'schema "{SCHEMA}" already exists' in said, True)
    return "the text is printed, no SQLSTATE"


def until(sql, wanted):
    due = time.monotonic() + 30
    while psql(sql) != wanted:
        if time.monotonic() > due:
            raise AssertionError(f"{sql} never gave {wanted}")


WAITING = f"select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query like '%{SCHEMA}%'"


@contextlib.contextmanager
def waiting_dump():
    """A dump that waits for a lock, whose holder sleeps."""
    hold = f"begin;\nlock table {SCHEMA}.t in access exclusive mode;\n{env('SLEEP_SQL')};\n"
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    holder = subprocess.Popen(["psql", "-X", "-q", conninfo()], env=environment(TOKEN), **pipes)
    holder.stdin.write(hold)
    holder.stdin.flush()
    sleeping()
    dumping = subprocess.Popen(["pg_dump", "-n", SCHEMA, "-d", conninfo()], env=environment(TOKEN), **pipes)
    try:
        until(WAITING, "1")
        yield dumping
    finally:
        # A backend that sleeps does not notice that its client has gone, and would keep the lock.
        psql(f"select pg_terminate_backend(pid) from pg_stat_activity where query = '{env('SLEEP_SQL')};'")
        dumping.kill()
        holder.kill()
        dumping.communicate()
        holder.communicate()


@check("cancel")
def _():
    with waiting_dump() as dumping:
        dumping.send_signal(signal.SIGINT)
        dumping.wait(60)
        # The lock is still held: only a cancel can have ended the wait.
        until(WAITING, "0")
    return "Ctrl-C cancels what the dump waits for"


@check("big")
def _():
    psql(f"create table {SCHEMA}.big as select row_number() over () as i, line from ({env('BIG_SQL')}) b")
    dump("-Fc", "-Z", "0", "-t", f"{SCHEMA}.big", "-f", DUMP + ".big")
    psql(f"drop table {SCHEMA}.big")
    succeed(["pg_restore", "-d", conninfo(), DUMP + ".big"], TOKEN)
    expect(psql(HASH), env("BIG_SHA256"))
    return "dumped and restored"


absent("notify", "not its business")


@check("drain")
def _():
    with waiting_dump() as dumping:
        restart()
        _, said = dumping.communicate(timeout=60)
    expect("terminating connection due to administrator command" in said, True)
    expect(login(TOKEN), env("USER"))
    return "a dump under way ends with `terminating connection due to administrator command`"
