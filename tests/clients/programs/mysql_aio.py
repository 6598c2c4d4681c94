"""aiomysql and asyncmy, which have the same interface: mysql_aio.py MODULE."""

import asyncio
import importlib
import ssl
import sys
from importlib import metadata

from contract import absent, check, env, expect, extra, once_sleeping, version
from mysql_contract import INTERRUPTED, TOKEN, run_checks

MODULE = sys.argv[1]
module = importlib.import_module(MODULE)
if MODULE == "aiomysql":
    from pymysql.constants import CLIENT
    from pymysql.err import MySQLError
else:
    from asyncmy.constants import CLIENT
    from asyncmy.errors import MySQLError

loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)


def wait(work, patience=60):
    return loop.run_until_complete(asyncio.wait_for(work, patience))


async def rows_of(connection, sql):
    async with connection.cursor() as cursor:
        await cursor.execute(sql)
        return await cursor.fetchall()


class Driver:
    error = MySQLError

    def options(self, token, host=None, port=None, ca=None, infile=False, **more):
        return dict(
            host=host or env("HOST"),
            port=port or int(env("PORT")),
            user=env("USER"),
            password=token,
            db=env("DATABASE"),
            charset="utf8mb4",
            local_infile=infile,
            # Checks certificate and name.
            ssl=ssl.create_default_context(cafile=ca or env("CA")),
            **more,
        )

    def connect(self, token, **where):
        return wait(module.connect(**self.options(token, **where)))

    def query(self, connection, sql):
        return wait(rows_of(connection, sql))

    def close(self, connection):
        connection.close()

    def number(self, error):
        return error.args[0]


LIMITS = {
    "aiomysql": {},
    "asyncmy": {
        "infile": ("Argument 'filename' has incorrect type", "the driver fails with a TypeError of its own"),
        "row": ("IndexError", "the driver reads no row over 16 MiB"),
    },
}
driver = Driver()
version(metadata.version(MODULE))
run_checks(driver, LIMITS[MODULE])
absent("prepared", "the driver fills parameters in by itself")
absent("reset", "the driver has no such command")


@check("multi")
def _():
    async def results():
        connection = await module.connect(**driver.options(TOKEN, client_flag=CLIENT.MULTI_STATEMENTS))
        async with connection.cursor() as cursor:
            await cursor.execute("select 1; select 2; select 3")
            found = [list(await cursor.fetchall())]
            while await cursor.nextset():
                found.append(list(await cursor.fetchall()))
            return found

    expect(wait(results()), [[(n,)] for n in (1, 2, 3)])
    return "`client_flag=CLIENT.MULTI_STATEMENTS`"


@check("cancel")
def _():
    connection = driver.connect(TOKEN)

    def cancel():
        async def kill():
            other = await module.connect(**driver.options(TOKEN))
            await rows_of(other, f"kill query {connection.thread_id()}")
            other.close()

        asyncio.run(kill())

    with once_sleeping(cancel):
        try:
            driver.query(connection, env("SLEEP_SQL"))
            raise AssertionError("not cancelled")
        except MySQLError as error:
            expect(error.args[0], INTERRUPTED)
    expect(driver.query(connection, "select 7")[0][0], 7)
    return "`KILL QUERY` with the id of `thread_id()`"


async def pooled():
    pool = await module.create_pool(minsize=1, maxsize=2, **driver.options(TOKEN))
    async with pool.acquire() as connection:
        found = await rows_of(connection, "select current_user()")
    pool.close()
    await pool.wait_closed()
    return found[0][0].split("@")[0]


extra("a pool (`create_pool`)", wait(pooled()) == env("USER"))
