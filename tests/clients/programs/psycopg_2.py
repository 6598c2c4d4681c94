"""psycopg2."""

import io
import select

import psycopg2
import psycopg2.errors
from contract import check, env, expect, is_big, logins, restart, rows, once_sleeping, verifies, version

TOKEN = env("JWT_3000")


def connect(token=TOKEN, host=None, ca=None):
    connection = psycopg2.connect(
        host=host or env("HOST"),
        port=env("PORT"),
        user=env("USER"),
        dbname=env("DATABASE"),
        password=token,
        sslmode="verify-full",
        sslrootcert=ca or env("CA"),
        gssencmode="disable",
    )
    connection.autocommit = True
    return connection


def one(connection, sql, values=None):
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return cursor.fetchone()[0]


def user(token=TOKEN, **where):
    return one(connect(token, **where), "select current_user")


libpq = psycopg2.extensions.libpq_version()
version(f"{psycopg2.__version__.split()[0]} (libpq {libpq // 10000}.{libpq % 10000})")
logins(user)
verifies(lambda **change: user(**change))


@check("refused")
def _():
    try:
        connect(env("JWT_EXPIRED"))
    except psycopg2.OperationalError as error:
        for part in ("password authentication failed", "the token expired", "HINT:"):
            expect(part in str(error), True)
        return f"message, detail and hint in the text; `pgcode` is {error.pgcode}"
    raise AssertionError("let in")


@check("prepared")
def _():
    connection = connect()
    with connection.cursor() as cursor:
        cursor.execute("prepare p (int) as select $1 * 2")
    expect([one(connection, "execute p (%s)", (n,)) for n in (21, 4)], [42, 8])
    return "by the SQL command; the driver itself has none"


@check("error")
def _():
    connection = connect()
    states = []
    with connection.cursor() as cursor:
        cursor.execute("begin")
        for sql in ("select 1/0", "select 1"):
            try:
                cursor.execute(sql)
            except psycopg2.Error as error:
                states.append(error.pgcode)
        cursor.execute("rollback")
    expect((states, one(connection, "select 7")), (["22012", "25P02"], 7))


@check("copy")
def _():
    taken = io.StringIO()
    with connect().cursor() as cursor:
        cursor.execute("create temp table t (n int, text text)")
        cursor.copy_expert("copy t from stdin", io.StringIO(rows()))
        cursor.copy_expert("copy t to stdout", taken)
    expect(taken.getvalue(), rows())


@check("cancel")
def _():
    connection = connect()
    pid = connection.info.backend_pid
    with once_sleeping(connection.cancel):
        try:
            one(connection, env("SLEEP_SQL"))
            raise AssertionError("it was not cancelled")
        except psycopg2.errors.QueryCanceled as error:
            expect(error.pgcode, "57014")
    expect(one(connection, "select pg_backend_pid()"), pid)


@check("big")
def _():
    connection = connect()
    connection.autocommit = False
    with connection.cursor("big") as cursor:
        cursor.execute(env("BIG_SQL"))
        is_big(row[0] for row in cursor)
    return "with a server-side cursor"


@check("notify")
def _():
    listener, speaker = connect(), connect()
    with listener.cursor() as ear, speaker.cursor() as mouth:
        ear.execute("listen matrix")
        mouth.execute("notify matrix, 'hello'")
    expect(bool(select.select([listener], [], [], 30)[0]), True)
    listener.poll()
    expect([(notice.channel, notice.payload) for notice in listener.notifies], [("matrix", "hello")])


@check("drain")
def _():
    idle = connect()
    restart()
    try:
        one(idle, "select 1")
        raise AssertionError("the old session goes on")
    except psycopg2.Error as error:
        state = error.pgcode
    expect(user(), env("USER"))
    return f"`pgcode` {state}"
