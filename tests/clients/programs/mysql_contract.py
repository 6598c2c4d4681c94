"""What the programs for MySQL's protocol share: sizes, statements, and the checks of drivers with Python's DB-API."""

import os

from contract import check, env, expect, failure, is_big, logins, restart, rows, verifies

SIZES = ("800", "3000", "16000", "20000")
TOKEN = env("JWT_3000")
# A listener whose certificate has another name.
OTHER = {"host": env("OTHER_HOST"), "port": int(env("OTHER_PORT"))}
ROW_LENGTH = 17 * 1024 * 1024
ROW_SQL = f"select repeat('x', {ROW_LENGTH})"
TABLE = "create temporary table t (n int primary key, text varchar(40)) character set utf8mb4"
ACCESS_DENIED, DUPLICATE_KEY, INTERRUPTED = 1045, 1062, 1317


def infile():
    """Writes the file that is loaded, and gives the statement that loads it."""
    path = os.path.join(env("DIR"), "rows")
    with open(path, "w") as file:
        file.write(rows())
    return f"load data local infile '{path}' into table t character set utf8mb4"


def refused(error, number, text):
    """Checks the error of a login with an expired token."""
    expect((number, env("REASON") in text), (ACCESS_DENIED, True))


def run_checks(driver, limits=None):
    """The checks that all drivers share. `driver` has `connect(token, host=, port=, ca=, **more)`, `query(connection, sql)` for rows,
    `close(connection)`, `error` (its class of errors), and `number(error)`. `limits` are those of [`check`] by its name."""
    limits = limits or {}

    def one(connection, sql):
        return driver.query(connection, sql)[0][0]

    def user(token=TOKEN, **where):
        connection = driver.connect(token, **where)
        try:
            return one(connection, "select current_user()").split("@")[0]
        finally:
            driver.close(connection)

    logins(user, SIZES)
    verifies(lambda **change: user(**change), OTHER, limits.get("verify"))

    @check("refused")
    def _():
        error = failure(driver.error, lambda: user(env("JWT_EXPIRED")))
        refused(error, driver.number(error), str(error))
        return "number 1045 and the reason"

    @check("error")
    def _():
        connection = driver.connect(TOKEN)
        driver.query(connection, TABLE)
        driver.query(connection, "begin")
        driver.query(connection, "insert into t values (1, 'one')")
        error = failure(driver.error, lambda: driver.query(connection, "insert into t values (1, 'two')"))
        expect(driver.number(error), DUPLICATE_KEY)
        driver.query(connection, "rollback")
        expect(one(connection, "select count(*) from t"), 0)

    @check("infile", limits.get("infile"))
    def _():
        connection = driver.connect(TOKEN, infile=True)
        driver.query(connection, TABLE)
        driver.query(connection, infile())
        taken = driver.query(connection, "select n, text from t order by n")
        expect("".join(f"{n}\t{text}\n" for n, text in taken), rows())

    @check("big")
    def _():
        connection = driver.connect(TOKEN)
        is_big(row[0] for row in driver.query(connection, env("BIG_SQL")))

    @check("row", limits.get("row"))
    def _():
        text = one(driver.connect(TOKEN), ROW_SQL)
        expect((len(text), set(text)), (ROW_LENGTH, {"x"}))

    @check("drain")
    def _():
        idle = driver.connect(TOKEN)
        expect(one(idle, "select 7"), 7)
        restart()
        error = failure(Exception, lambda: one(idle, "select 1"))
        expect(user(), env("USER"))
        return f"`{type(error).__name__}`: {str(error)[:120]}"
