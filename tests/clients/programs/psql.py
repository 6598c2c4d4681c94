"""psql, at a pipe and at a terminal: psql.py PSQL."""

import hashlib
import os
import subprocess
import sys

from contract import check, env, expect, extra, is_big, limit, logins, restart, rows, sleeping, verifies, version
from libpq import conninfo, environment, fail, refusal_is_whole, run, succeed
from terminal import Terminal

PSQL = sys.argv[1]
TOKEN = env("JWT_3000")
OPTIONS = [PSQL, "-X", "-A", "-t", "-q", "-n", "-P", "pager=off"]


def psql(sql, token=TOKEN, more="", **where):
    return succeed([*OPTIONS, conninfo(more=more, **where), "-v", "ON_ERROR_STOP=1", "-c", sql], token).strip()


def script(text, token=TOKEN):
    done = run([*OPTIONS, conninfo()], token, text)
    return done.stdout.split(), done.stderr


def at_terminal(connection=None, **more):
    return Terminal([*OPTIONS, connection or conninfo()], environment(**more))


VERSION = succeed([PSQL, "--version"]).split()[2]
version(VERSION)
logins(lambda token: psql("select current_user", token))
verifies(lambda **change: psql("select 1", **change))


@check("refused")
def _():
    return refusal_is_whole(fail([*OPTIONS, conninfo(), "-c", "select 1"], env("JWT_EXPIRED")))


@check("prepared")
def _():
    out, _ = script("prepare p (int) as select $1 * 2; execute p (21); execute p (4);")
    expect(out, ["42", "8"])


@check("error")
def _():
    out, said = script(
        "\\set VERBOSITY sqlstate\nbegin; select 1/0;\nselect 1;\nrollback; select 'on';"
    )
    expect(out, ["on"])
    expect([line.split()[-1] for line in said.splitlines()], ["22012", "25P02"])


@check("copy")
def _():
    given, taken = os.path.join(env("DIR"), "in"), os.path.join(env("DIR"), "out")
    with open(given, "w") as file:
        file.write(rows())
    script(f"create temp table t (n int, text text);\n\\copy t from '{given}'\n\\copy t to '{taken}'\n")
    with open(taken) as file:
        expect(hashlib.sha256(file.read().encode()).digest(), hashlib.sha256(rows().encode()).digest())


@check("cancel")
def _():
    terminal = at_terminal(PGPASSWORD=TOKEN)
    terminal.line("\\set VERBOSITY sqlstate")
    terminal.line("select 'pid=' || pg_backend_pid();")
    pid = terminal.until(r"pid=(\d+)").group(1)
    terminal.line(env("SLEEP_SQL") + ";")
    sleeping()
    terminal.interrupt()
    terminal.until("ERROR:  57014")
    terminal.line("select 'pid=' || pg_backend_pid();")
    expect(terminal.until(r"pid=(\d+)").group(1), pid)
    terminal.close()
    return "Ctrl-C"


@check("big")
def _():
    command = [*OPTIONS, conninfo(), "-c", env("BIG_SQL")]
    with subprocess.Popen(command, env=environment(TOKEN), stdout=subprocess.PIPE) as psql:
        is_big(line.rstrip(b"\n") for line in psql.stdout)


@check("notify")
def _():
    terminal = at_terminal(PGPASSWORD=TOKEN)
    terminal.line("listen matrix; select 'list' || 'ening';")
    terminal.until("listening")
    psql("notify matrix, 'hello'")
    terminal.line("select 1;")
    terminal.until('notification "matrix" with payload "hello"')
    terminal.close()
    return "shown after the next command"


@check("drain")
def _():
    terminal = at_terminal(PGPASSWORD=TOKEN)
    terminal.line("select 'rea' || 'dy';")
    terminal.until("ready")
    restart()
    terminal.line("select 1;")
    terminal.until("terminating connection due to administrator command")
    terminal.until("Attempting reset: Succeeded")
    terminal.line("select 'ag' || 'ain';")
    terminal.until("again")
    terminal.close()
    expect(psql("select 7"), "7")
    return "`terminating connection due to administrator command`; at a terminal psql connects again by itself"


def prompt(token):
    terminal = at_terminal()
    terminal.until("Password for user")
    terminal.line(token)
    in_or_out = terminal.until("=> |authentication failed").group()
    terminal.close()
    return in_or_out == "=> "


def service(token):
    file = os.path.join(env("DIR"), "service")
    with open(file, "w") as out:
        out.write(f"[matrix]\npassword={token}\n")
    return run([*OPTIONS, conninfo(more="service=matrix"), "-c", "select 1"], PGSERVICEFILE=file)


def passfile(token):
    file = os.path.join(env("DIR"), "passfile")
    with open(file, "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as out:
        out.write(f"*:*:*:*:{token}\n")
    return run([*OPTIONS, conninfo(more=f"passfile={file}"), "-c", "select 1"])


limit(
    "the password prompt at a terminal passes on 4,095 bytes and no more, so a longer token is refused (16,000 bytes in"
    " PGPASSWORD or in a passfile arrive)",
    prompt(env("JWT_4095")) and not prompt(env("JWT_4096")) and passfile(env("JWT_16000")).returncode == 0,
)
cut = service(env("JWT_1013"))
limit(
    "a service file takes no `password=` over 1,012 bytes: `line 2 too long in service file`",
    service(env("JWT_1012")).returncode == 0 and cut.returncode != 0 and "too long in service file" in cut.stderr,
)


def refuses(more, word):
    return word in fail([*OPTIONS, conninfo(more=more), "-c", "select 1"], TOKEN)


limit("`channel_binding=require` refuses to send a token", refuses("channel_binding=require", "channel binding"))
if int(VERSION.split(".")[0]) >= 16:
    limit(
        "`require_auth=scram-sha-256` refuses to send a token; `require_auth=password` sends it",
        refuses("require_auth=scram-sha-256", "cleartext password")
        and psql("select 1", more="require_auth=password") == "1",
    )
if int(VERSION.split(".")[0]) >= 17:

    def works(more):
        return psql("select current_user", more=more) == env("USER")

    extra("direct TLS (`sslnegotiation=direct`)", works("sslnegotiation=direct"))
if int(VERSION.split(".")[0]) >= 18:
    extra("an offer of protocol 3.2 (`max_protocol_version=latest`)", works("max_protocol_version=latest"))
