"""mysql-connector-python, the implementation in Python."""

import mysql.connector
from contract import check, env, expect, extra, once_sleeping, version
from mysql_contract import INTERRUPTED, TOKEN, run_checks


class Driver:
    error = mysql.connector.Error

    def connect(self, token, host=None, port=None, ca=None, infile=False, **more):
        return mysql.connector.connect(
            host=host or env("HOST"),
            port=port or int(env("PORT")),
            user=env("USER"),
            password=token,
            database=env("DATABASE"),
            allow_local_infile=infile,
            use_pure=True,
            ssl_ca=ca or env("CA"),
            ssl_verify_cert=True,
            ssl_verify_identity=True,
            **more,
        )

    def query(self, connection, sql):
        cursor = connection.cursor()
        cursor.execute(sql)
        found = cursor.fetchall() if cursor.with_rows else []
        cursor.close()
        return found

    def close(self, connection):
        connection.close()

    def number(self, error):
        return error.errno


driver = Driver()
version(mysql.connector.__version__)
run_checks(driver)


@check("prepared")
def _():
    connection = driver.connect(TOKEN)
    cursor = connection.cursor(prepared=True)
    found = []
    for n in (21, 4):
        cursor.execute("select ? * 2", (n,))
        found.append(cursor.fetchall()[0][0])
    expect(found, [42, 8])
    return "`cursor(prepared=True)`"


@check("multi")
def _():
    connection = driver.connect(TOKEN)
    cursor = connection.cursor()
    cursor.execute("select 1; select 2; select 3")
    found = [cursor.fetchall()]
    while cursor.nextset():
        found.append(cursor.fetchall())
    expect(found, [[(n,)] for n in (1, 2, 3)])


@check("cancel")
def _():
    connection, other = driver.connect(TOKEN), driver.connect(TOKEN)
    session = connection.connection_id
    with once_sleeping(lambda: driver.query(other, f"kill query {session}")):
        try:
            driver.query(connection, env("SLEEP_SQL"))
            raise AssertionError("not cancelled")
        except mysql.connector.Error as error:
            expect(error.errno, INTERRUPTED)
    expect(driver.query(connection, "select 7")[0][0], 7)
    return "`KILL QUERY` with the id of `connection_id`"


@check("reset")
def _():
    connection = driver.connect(TOKEN)
    driver.query(connection, "set @kept = 7")
    connection.cmd_reset_connection()
    expect(driver.query(connection, "select @kept")[0][0], None)
    return "`cmd_reset_connection()`, which a pool does for each new owner"


named = driver.connect(TOKEN, auth_plugin="mysql_clear_password")
user = driver.query(named, "select current_user()")[0][0]
extra('`auth_plugin="mysql_clear_password"`: the token goes with the first message', user.split("@")[0] == env("USER"))
