"""psycopg 3 with its own libpq 18: blocking, asyncio, pipeline, pool, server-side cursors."""

import asyncio

import psycopg
import psycopg_pool
from contract import check, env, expect, extra, is_big, limit, logins, restart, rows, once_sleeping, verifies, version

TOKEN = env("JWT_3000")


def options(token=TOKEN, host=None, ca=None, **more):
    return dict(
        host=host or env("HOST"),
        port=env("PORT"),
        user=env("USER"),
        dbname=env("DATABASE"),
        password=token,
        sslmode="verify-full",
        sslrootcert=ca or env("CA"),
        gssencmode="disable",
        **more,
    )


def connect(token=TOKEN, **more):
    return psycopg.connect(**options(token, **more), autocommit=True)


def user(token, **more):
    with connect(token, **more) as connection:
        return connection.execute("select current_user").fetchone()[0]


version(f"{psycopg.__version__} (libpq {psycopg.pq.version() // 10000}.{psycopg.pq.version() % 10000})")
logins(user)
verifies(lambda **change: user(TOKEN, **change))


@check("refused")
def _():
    try:
        connect(env("JWT_EXPIRED"))
    except psycopg.OperationalError as error:
        for part in ("password authentication failed", "the token expired", "HINT:"):
            expect(part in str(error), True)
        return f"message, detail and hint in the text; `sqlstate` is {error.sqlstate}"
    raise AssertionError("let in")


@check("prepared")
def _():
    with connect() as connection:
        for number in (21, 4):
            row = connection.execute("select %s::int * 2", (number,), prepare=True).fetchone()
            expect(row[0], number * 2)
        expect(connection.execute("select count(*) from pg_prepared_statements").fetchone()[0], 1)


@check("error")
def _():
    with connect() as connection:
        states = []
        connection.execute("begin")
        for sql in ("select 1/0", "select 1"):
            try:
                connection.execute(sql)
            except psycopg.Error as error:
                states.append(error.sqlstate)
        connection.execute("rollback")
        expect((states, connection.execute("select 7").fetchone()[0]), (["22012", "25P02"], 7))


@check("copy")
def _():
    with connect() as connection, connection.cursor() as cursor:
        cursor.execute("create temp table t (n int, text text)")
        with cursor.copy("copy t from stdin") as copy:
            copy.write(rows())
        with cursor.copy("copy t to stdout") as copy:
            expect(b"".join(copy).decode(), rows())


@check("cancel")
def _():
    with connect() as connection:
        pid = connection.info.backend_pid
        with once_sleeping(connection.cancel_safe):
            try:
                connection.execute(env("SLEEP_SQL"))
                raise AssertionError("it was not cancelled")
            except psycopg.errors.QueryCanceled as error:
                expect(error.sqlstate, "57014")
        expect(connection.execute("select pg_backend_pid()").fetchone()[0], pid)
    return "`cancel_safe()`"


@check("big")
def _():
    with psycopg.connect(**options()) as connection, connection.cursor("big") as cursor:
        cursor.itersize = 5000
        cursor.execute(env("BIG_SQL"))
        is_big(row[0] for row in cursor)
    return "with a server-side cursor"


@check("notify")
def _():
    with connect() as listener, connect() as speaker:
        listener.execute("listen matrix")
        speaker.execute("notify matrix, 'hello'")
        notice = next(listener.notifies(timeout=30))
        expect((notice.channel, notice.payload), ("matrix", "hello"))


@check("drain")
def _():
    tokens = iter([TOKEN] * 10)
    pool = psycopg_pool.ConnectionPool(
        kwargs=lambda: options(next(tokens)), min_size=1, max_size=2, open=True, check=psycopg_pool.ConnectionPool.check_connection
    )
    pool.wait(30)
    idle = connect()
    restart()
    try:
        idle.execute("select 1")
        raise AssertionError("the old session goes on")
    except psycopg.OperationalError as error:
        state = error.sqlstate
    expect(user(TOKEN), env("USER"))
    with pool.connection(timeout=30) as connection:
        expect(connection.execute("select 7").fetchone()[0], 7)
    pool.close()
    extra("a fresh token for each new connection of a psycopg_pool: `kwargs` as a function", len(list(tokens)) <= 8)
    return f"`sqlstate` {state}; a psycopg_pool with `check` connects again by itself"


async def at_once():
    connection = await psycopg.AsyncConnection.connect(**options(), autocommit=True)
    async with connection:
        async with connection.pipeline():
            cursors = [await connection.execute("select %s::int", (n,)) for n in range(100)]
            got = [(await cursor.fetchone())[0] for cursor in cursors]
        return got == list(range(100))


def broken_pipeline():
    with connect() as connection:
        try:
            with connection.pipeline():
                connection.execute("select 1")
                connection.execute("select 1/0")
                connection.execute("select 'skipped'")
        except psycopg.errors.DivisionByZero:
            return connection.execute("select 7").fetchone()[0] == 7
    return False


def refuses(word, **more):
    try:
        connect(**more).close()
    except psycopg.OperationalError as error:
        return word in str(error)
    return False


extra("asyncio, and pipeline mode with and without an error in it", asyncio.run(at_once()) and broken_pipeline())
extra("direct TLS (`sslnegotiation=direct`)", user(TOKEN, sslnegotiation="direct") == env("USER"))
extra("`require_auth=password`", user(TOKEN, require_auth="password") == env("USER"))
extra("an offer of protocol 3.2 (`max_protocol_version=latest`)", user(TOKEN, max_protocol_version="latest") == env("USER"))
limit("`channel_binding=require` refuses to send a token", refuses("channel binding", channel_binding="require"))
limit(
    "`require_auth=scram-sha-256` refuses to send a token",
    refuses("cleartext password", require_auth="scram-sha-256"),
)
