"""psqlODBC through unixODBC, with pyodbc as the application."""

import os

INI = os.path.join(os.environ["MATRIX_DIR"], "odbc.ini")
os.environ["ODBCINI"] = INI  # read when the driver manager starts

import pyodbc  # noqa: E402
from contract import absent, check, env, expect, is_big, limit, logins, restart, once_sleeping, verifies, version  # noqa: E402

pyodbc.pooling = False  # the driver manager's own pool would keep what is closed
TOKEN = env("JWT_3000")


def settings(host=None, ca=None):
    return {
        "Driver": "PostgreSQL Unicode",
        "Server": host or env("HOST"),
        "Port": env("PORT"),
        "Database": env("DATABASE"),
        "SSLmode": "verify-full",
        "pqopt": f"sslrootcert={ca or env('CA')} gssencmode=disable",
    }


def connect(token=TOKEN, **where):
    values = settings(**where) | {"UID": env("USER"), "PWD": token}
    # Braces keep what has spaces together; a token has nothing that needs them.
    text = ";".join(f"{name}={{{value}}}" if " " in value else f"{name}={value}" for name, value in values.items())
    return pyodbc.connect(text, autocommit=True)


def one(connection, sql, *values):
    return connection.execute(sql, *values).fetchone()[0]


def user(token=TOKEN, **where):
    connection = connect(token, **where)
    try:
        return one(connection, "select current_user")
    finally:
        connection.close()


version(f"{connect().getinfo(pyodbc.SQL_DRIVER_VER)} (pyodbc {pyodbc.version})")
logins(user)
verifies(lambda **change: user(**change))


@check("refused")
def _():
    try:
        connect(env("JWT_EXPIRED"))
    except pyodbc.Error as error:
        state, text = error.args
        expect(["password authentication failed" in text, "the token expired" in text, "HINT:" in text], [True] * 3)
        return f"state {state}; message, detail and hint in the text"
    raise AssertionError("let in")


@check("prepared")
def _():
    connection = connect()
    cursor = connection.cursor()
    for number in (21, 4):
        expect(cursor.execute("select ?::int * 2", number).fetchone()[0], number * 2)
    expect(one(connection, "select count(*) from pg_prepared_statements where statement like '%* 2'"), 1)


@check("error")
def _():
    connection = connect()
    connection.autocommit = False
    states = []
    for sql in ("select 1/0", "select 1"):
        try:
            one(connection, sql)
        except pyodbc.Error as error:
            states.append(error.args[0])
    connection.rollback()
    expect(one(connection, "select 7"), 7)
    expect(states[0], "22012")
    expect(states[1:] in ([], ["25P02"]), True)
    return "22012; the driver rolls back by itself" if len(states) == 1 else "22012, then 25P02"


absent("copy", "no function for it")


@check("cancel")
def _():
    connection = connect()
    pid = one(connection, "select pg_backend_pid()")
    cursor = connection.cursor()
    state = None
    with once_sleeping(cursor.cancel):
        try:
            cursor.execute(env("SLEEP_SQL"))
        except pyodbc.Error as error:
            state = error.args[0]
    expect(state in ("57014", "HY008", "S1008"), True)
    expect(one(connection, "select pg_backend_pid()"), pid)
    return f"`SQLCancel`; state {state}"


@check("big")
def _():
    cursor = connect().execute(env("BIG_SQL"))
    is_big(row[0] for row in cursor)


absent("notify", "no function for it")


@check("drain")
def _():
    idle = connect()
    restart()
    state = None
    try:
        one(idle, "select 1")
    except pyodbc.Error as error:
        state = error.args[0]
    expect(state is not None, True)
    expect(user(), env("USER"))
    return f"state {state}"


def by_file(token):
    name = f"matrix{len(token)}"  # unixODBC remembers what it has read of a name
    with open(INI, "w") as file:
        lines = {"Username": env("USER"), "Password": token} | settings()
        lines["Servername"] = lines.pop("Server")
        file.write(f"[{name}]\n" + "".join(f"{key}={value}\n" for key, value in lines.items()))
    try:
        connection = pyodbc.connect(f"DSN={name}")
    except pyodbc.Error as error:
        if "authentication failed" not in str(error):
            raise
        return False
    return one(connection, "select current_user") == env("USER")


limit(
    "`Password` in odbc.ini: a token over 990 bytes is cut without a word and refused; put it into the connection string",
    by_file(env("JWT_990")) and not by_file(env("JWT_991")),
)
