"""mysqlclient of the distribution (the module MySQLdb), on MariaDB's library."""

import MySQLdb
from contract import absent, check, env, expect, once_sleeping, version
from MySQLdb.constants import CLIENT
from mysql_contract import INTERRUPTED, TOKEN, run_checks


class Driver:
    error = MySQLdb.Error

    def connect(self, token, host=None, port=None, ca=None, infile=False, **more):
        return MySQLdb.connect(
            # `localhost` is a Unix socket for it.
            host=host or env("ADDRESS"),
            port=port or int(env("PORT")),
            user=env("USER"),
            passwd=token,
            db=env("DATABASE"),
            charset="utf8mb4",
            local_infile=int(infile),
            ssl={"ca": ca or env("CA")},
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
version(".".join(str(number) for number in MySQLdb.version_info[:3]))
run_checks(driver, {"verify": ("connected in spite of {'host'", "the authority of the certificate is checked, its name is not")})
absent("prepared", "the driver fills parameters in by itself")
absent("reset", "the driver has no such command")


@check("multi")
def _():
    with driver.connect(TOKEN, client_flag=CLIENT.MULTI_STATEMENTS).cursor() as cursor:
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
        except MySQLdb.Error as error:
            expect(error.args[0], INTERRUPTED)
    expect(driver.query(connection, "select 7")[0][0], 7)
    return "`KILL QUERY` with the id of `thread_id()`"
