"""PyMySQL."""

import ssl
from importlib import metadata

import pymysql
from contract import absent, check, env, expect, once_sleeping, version
from mysql_contract import INTERRUPTED, TOKEN, run_checks

FLAGS = pymysql.constants.CLIENT


class Driver:
    error = pymysql.MySQLError

    def connect(self, token, host=None, port=None, ca=None, infile=False, **more):
        return pymysql.connect(
            host=host or env("HOST"),
            port=port or int(env("PORT")),
            user=env("USER"),
            password=token,
            database=env("DATABASE"),
            charset="utf8mb4",
            local_infile=infile,
            # Checks certificate and name.
            ssl=ssl.create_default_context(cafile=ca or env("CA")),
            **more,
        )

    def query(self, connection, sql):
        with connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchall()

    def close(self, connection):
        connection.close()

    def number(self, error):
        return error.args[0]


driver = Driver()
version(metadata.version("PyMySQL"))
run_checks(driver)
absent("prepared", "the driver fills parameters in by itself")
absent("reset", "the driver has no such command")


@check("multi")
def _():
    connection = driver.connect(TOKEN, client_flag=FLAGS.MULTI_STATEMENTS)
    with connection.cursor() as cursor:
        cursor.execute("select 1; select 2; select 3")
        found = [cursor.fetchall()]
        while cursor.nextset():
            found.append(cursor.fetchall())
    expect(found, [((n,),) for n in (1, 2, 3)])
    return "`client_flag=CLIENT.MULTI_STATEMENTS`"


@check("cancel")
def _():
    connection, other = driver.connect(TOKEN), driver.connect(TOKEN)
    session = connection.thread_id()
    with once_sleeping(lambda: driver.query(other, f"kill query {session}")):
        try:
            driver.query(connection, env("SLEEP_SQL"))
            raise AssertionError("not cancelled")
        except pymysql.MySQLError as error:
            expect(error.args[0], INTERRUPTED)
    expect(driver.query(connection, "select 7")[0][0], 7)
    # COM_PROCESS_KILL.
    other.kill(session)
    try:
        driver.query(connection, "select 7")
        raise AssertionError("not ended")
    except pymysql.MySQLError:
        return "`KILL QUERY` with the id of `thread_id()`; `kill()` ends a session"
