"""asyncpg, with a pool."""

import asyncio
import io
import ssl

import asyncpg
from contract import check, env, expect, extra, is_big, logins, restart, rows, sleeping, verifies, version

TOKEN = env("JWT_3000")


def options(token=TOKEN, host=None, ca=None):
    return dict(
        host=host or env("HOST"),
        port=int(env("PORT")),
        user=env("USER"),
        database=env("DATABASE"),
        password=token,
        # Checks certificate and name: what sslmode=verify-full is elsewhere.
        ssl=ssl.create_default_context(cafile=ca or env("CA")),
    )


async def connect(token=TOKEN, **where):
    return await asyncpg.connect(**options(token, **where))


async def ask(what):
    await asyncio.get_running_loop().run_in_executor(None, what)


async def user(token=TOKEN, **where):
    connection = await connect(token, **where)
    try:
        return await connection.fetchval("select current_user")
    finally:
        await connection.close()


version(asyncpg.__version__)
logins(lambda token: asyncio.run(user(token)))
verifies(lambda **change: asyncio.run(user(**change)))


def checked(name):
    return lambda work: check(name)(lambda: asyncio.run(work()))


@checked("refused")
async def _():
    try:
        await connect(env("JWT_EXPIRED"))
    except asyncpg.InvalidPasswordError as error:
        expect(("the token expired" in error.detail, bool(error.hint)), (True, True))
        return f"`sqlstate` {error.sqlstate}, `detail` and `hint`"
    raise AssertionError("let in")


@checked("prepared")
async def _():
    connection = await connect()
    statement = await connection.prepare("select $1::int * 2")
    expect([await statement.fetchval(n) for n in (21, 4)], [42, 8])


@checked("error")
async def _():
    connection = await connect()
    states = []
    await connection.execute("begin")
    for sql in ("select 1/0", "select 1"):
        try:
            await connection.execute(sql)
        except asyncpg.PostgresError as error:
            states.append(error.sqlstate)
    await connection.execute("rollback")
    expect((states, await connection.fetchval("select 7")), (["22012", "25P02"], 7))


@checked("copy")
async def _():
    connection = await connect()
    await connection.execute("create temp table t (n int, text text)")
    await connection.copy_to_table("t", source=io.BytesIO(rows().encode()))
    taken = io.BytesIO()
    await connection.copy_from_table("t", output=taken)
    expect(taken.getvalue().decode(), rows())


@checked("cancel")
async def _():
    connection = await connect()
    pid = connection.get_server_pid()
    query = asyncio.create_task(connection.execute(env("SLEEP_SQL")))
    await ask(sleeping)
    # The driver sends the cancel in the background and waits for the query's end before the next one.
    query.cancel()
    try:
        await query
    except asyncio.CancelledError:
        pass
    expect(await connection.fetchval("select pg_backend_pid()"), pid)
    return "by cancelling the task; the driver keeps 57014 to itself"


@checked("big")
async def _():
    connection = await connect()
    is_big(row[0] for row in await connection.fetch(env("BIG_SQL")))


@checked("notify")
async def _():
    listener, speaker = await connect(), await connect()
    heard = asyncio.get_running_loop().create_future()
    await listener.add_listener("matrix", lambda *said: heard.set_result(said[2:]))
    await speaker.execute("notify matrix, 'hello'")
    expect(await asyncio.wait_for(heard, 30), ("matrix", "hello"))


@checked("drain")
async def _():
    tokens = iter([TOKEN] * 10)
    fresh = options() | {"password": lambda: next(tokens)}
    pool = await asyncpg.create_pool(**fresh, min_size=1, max_size=2)
    idle = await connect()
    await ask(restart)
    try:
        await idle.fetchval("select 1")
        raise AssertionError("the old session goes on")
    except (asyncpg.PostgresError, asyncpg.InterfaceError, ConnectionError) as error:
        said = type(error).__name__
    expect(await user(), env("USER"))
    async with pool.acquire() as connection:
        expect(await connection.fetchval("select 7"), 7)
    await pool.close()
    extra("a fresh token for each new connection of a pool: `password` as a function", len(list(tokens)) <= 8)
    return f"`{said}`; a pool connects again by itself"
