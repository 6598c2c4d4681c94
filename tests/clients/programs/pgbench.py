"""pgbench: its loader (COPY), its three query modes, many logins with one token."""

import os
import re
import subprocess

from contract import absent, check, env, expect, logins, restart, sleeping, verifies, version
from libpq import conninfo, environment, fail, refusal_is_whole, run, succeed

TOKEN = env("JWT_3000")
SCHEMA = {"PGOPTIONS": "-c search_path=pgbench"}


def script(text):
    file = os.path.join(env("DIR"), "script.sql")
    with open(file, "w") as out:
        out.write(text)
    return ["-f", file]


def pgbench(*options, token=TOKEN, **where):
    return succeed(["pgbench", "-n", *options, conninfo(**where)], token, **SCHEMA)


def processed(said):
    return int(re.search(r"transactions actually processed: (\d+)", said).group(1))


version(succeed(["pgbench", "--version"]).split()[2])


def login(token):
    # Every transaction has a connection of its own.
    said = pgbench("-C", "-c", "2", "-t", "5", *script("select 1 / (current_user = 'alice')::int;\n"), token=token)
    expect(processed(said), 10)
    return env("USER")


logins(login)
verifies(lambda **change: pgbench("-t", "1", *script("select 1;\n"), **change))


@check("refused")
def _():
    return refusal_is_whole(fail(["pgbench", "-n", "-t", "1", *script("select 1;\n"), conninfo()], env("JWT_EXPIRED")))


@check("copy")
def _():
    succeed(["psql", "-X", "-q", conninfo(), "-c", "create schema pgbench"], TOKEN)
    pgbench("-i", "-q", "-s", "1")
    return "`pgbench -i` loads its tables by COPY; there is no COPY out"


@check("prepared")
def _():
    for mode in ("simple", "extended", "prepared"):
        expect(processed(pgbench("-M", mode, "-c", "4", "-t", "25")), 100)
    return "also `-M simple` and `-M extended`"


@check("error")
def _():
    # It tries again what failed with 40001 or 40P01, and nothing else: so it has seen the state.
    def tries(state):
        text = f"begin;\ndo $$ begin raise sqlstate '{state}'; end $$;\nrollback;\n"
        done = run(["pgbench", "-n", "-t", "1", "--max-tries", "3", *script(text), conninfo()], TOKEN)
        return "number of transactions retried: 1" in done.stdout

    expect((tries("40001"), tries("22012")), (True, False))
    return "40001 is tried again, 22012 is not; it has no other use for an SQLSTATE"


absent("cancel", "no function for it")
absent("big", "results are thrown away")
absent("notify", "no command for it")


@check("drain")
def _():
    command = ["pgbench", "-n", "-t", "1", *script(env("SLEEP_SQL") + ";\n"), conninfo()]
    pipes = dict(stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    with subprocess.Popen(command, env=environment(TOKEN), **pipes) as running:
        sleeping()
        restart()
        said = running.stderr.read()
    expect("terminating connection due to administrator command" in said, True)
    expect(processed(pgbench("-t", "5")), 5)
    return "`terminating connection due to administrator command`; the run ends"
