"""pg8000."""

import io
import ssl

import pg8000
import pg8000.native
from contract import absent, check, env, expect, is_big, logins, restart, rows, verifies, version

TOKEN = env("JWT_3000")


def connect(token=TOKEN, host=None, ca=None):
    return pg8000.native.Connection(
        env("USER"),
        host=host or env("HOST"),
        port=int(env("PORT")),
        database=env("DATABASE"),
        password=token,
        # Checks certificate and name: what sslmode=verify-full is elsewhere.
        ssl_context=ssl.create_default_context(cafile=ca or env("CA")),
    )


def user(token=TOKEN, **where):
    return connect(token, **where).run("select current_user")[0][0]


version(pg8000.__version__)
logins(user)
verifies(lambda **change: user(**change))


@check("refused")
def _():
    try:
        connect(env("JWT_EXPIRED"))
    except pg8000.DatabaseError as error:
        fields = error.args[0]
        expect((fields["C"], "the token expired" in fields["D"], "H" in fields), ("28P01", True, True))
        return "SQLSTATE 28P01, detail and hint in the error's fields"
    raise AssertionError("let in")


@check("prepared")
def _():
    statement = connect().prepare("select cast(:n as int) * 2")
    expect([statement.run(n=n)[0][0] for n in (21, 4)], [42, 8])


@check("error")
def _():
    connection = connect()
    states = []
    connection.run("begin")
    for sql in ("select 1/0", "select 1"):
        try:
            connection.run(sql)
        except pg8000.DatabaseError as error:
            states.append(error.args[0]["C"])
    connection.run("rollback")
    expect((states, connection.run("select 7")), (["22012", "25P02"], [[7]]))


@check("copy")
def _():
    connection, taken = connect(), io.BytesIO()
    connection.run("create temp table t (n int, text text)")
    connection.run("copy t from stdin", stream=io.BytesIO(rows().encode()))
    connection.run("copy t to stdout", stream=taken)
    expect(taken.getvalue().decode(), rows())


absent("cancel", "no function for it")


@check("big")
def _():
    is_big(row[0] for row in connect().run(env("BIG_SQL")))


@check("notify")
def _():
    listener, speaker = connect(), connect()
    listener.run("listen matrix")
    speaker.run("notify matrix, 'hello'")
    listener.run("select 1")
    expect([said[1:] for said in listener.notifications], [("matrix", "hello")])
    return "seen after the next statement"


@check("drain")
def _():
    idle = connect()
    restart()
    try:
        idle.run("select 1")
        raise AssertionError("the old session goes on")
    except pg8000.DatabaseError as error:
        said = f"SQLSTATE {error.args[0]['C']}"
    except (pg8000.InterfaceError, OSError) as error:
        said = f"`{type(error).__name__}`"
    expect(user(), env("USER"))
    return said
