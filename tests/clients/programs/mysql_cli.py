"""mysql and mariadb, at a pipe and at a terminal: mysql_cli.py PROGRAM."""

import os
import re
import subprocess
import sys

from contract import absent, check, env, expect, extra, is_big, limit, logins, restart, rows, sleeping, verifies, version
from mysql_contract import OTHER, ROW_LENGTH, ROW_SQL, SIZES, TABLE, TOKEN, infile
from terminal import Terminal

PROGRAM = sys.argv[1]
VERSION = subprocess.run([PROGRAM, "--no-defaults", "--version"], capture_output=True, text=True, check=True).stdout
MARIADB = "MariaDB" in VERSION
BATCH = ("--batch", "--raw", "--skip-column-names")


def command(*more, host=None, port=None, ca=None, first="--no-defaults"):
    verified = ["--ssl", "--ssl-verify-server-cert"] if MARIADB else ["--ssl-mode=VERIFY_IDENTITY"]
    cleartext = [] if MARIADB else ["--enable-cleartext-plugin"]
    return [
        PROGRAM, first, "--protocol=tcp", f"--host={host or env('HOST')}", f"--port={port or env('PORT')}",
        f"--user={env('USER')}", f"--ssl-ca={ca or env('CA')}", *verified, *cleartext,
        "--default-character-set=utf8mb4", f"--database={env('DATABASE')}", *more,
    ]  # fmt: skip


def environment(token=None):
    own = dict(os.environ, TERM="dumb")
    return own | {"MYSQL_PWD": token} if token else own


def run(words, token=TOKEN, text=""):
    return subprocess.run(words, env=environment(token), input=text, capture_output=True, text=True, timeout=60)


def query(sql, token=TOKEN, *more, **where):
    done = run(command(*BATCH, *more, "-e", sql, **where), token)
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
    return done.stdout.strip()


def user(token):
    return query("select current_user()", token).split("@")[0]


version(re.search(r"[\d.]+-MariaDB" if MARIADB else r"(?<=Ver )[\d.]+", VERSION).group())
logins(user, SIZES)
verifies(
    lambda **change: query("select 1", TOKEN, **change),
    OTHER,
    # MariaDB 11 does so, 10.11 does not.
    ("connected in spite of {'host'", "the name of the certificate is not compared with `127.0.0.1`") if MARIADB else None,
)


@check("refused")
def _():
    said = run(command("-e", "select 1"), env("JWT_EXPIRED")).stderr
    expect(("ERROR 1045 (28000)" in said, env("REASON") in said), (True, True))
    return "ERROR 1045 (28000) and the reason"


absent("prepared", "only the SQL statement PREPARE")


@check("error")
def _():
    insert = "insert into t values (1, 'one');\n"
    script = f"{TABLE};\nbegin;\n{insert}{insert}rollback;\nselect count(*) from t;\n"
    done = run(command(*BATCH, "--force"), text=script)
    expect((done.stdout.split(), "ERROR 1062 (23000)" in done.stderr), (["0"], True))


@check("multi")
def _():
    done = run(command(*BATCH), text="delimiter //\nselect 1; select 2; select 3//\n")
    expect(done.stdout.split(), ["1", "2", "3"])


@check("infile")
def _():
    script = f"{TABLE};\n{infile()};\nselect n, text from t order by n;\n"
    expect(run(command(*BATCH, "--local-infile=1"), text=script).stdout, rows())


def at_terminal(token=TOKEN, *more):
    return Terminal(command("--prompt=sql> ", "--silent", *more), environment(token))


@check("cancel")
def _():
    terminal = at_terminal()
    terminal.until("sql> ")
    terminal.line("select concat('id=', connection_id());")
    session = terminal.until(r"id=(\d+)").group(1)
    terminal.line(env("SLEEP_SQL") + ";")
    sleeping()
    terminal.interrupt()
    terminal.until("ERROR 1317")
    terminal.line("select concat('id=', connection_id());")
    expect(terminal.until(r"id=(\d+)").group(1), session)
    terminal.close()
    return "Ctrl-C"


@check("big")
def _():
    words = command(*BATCH, "--quick", "-e", env("BIG_SQL"))
    with subprocess.Popen(words, env=environment(TOKEN), stdout=subprocess.PIPE) as client:
        is_big(line.rstrip(b"\n") for line in client.stdout)


@check("row")
def _():
    expect(len(query(ROW_SQL, TOKEN, "--max-allowed-packet=64M")), ROW_LENGTH)


if MARIADB:
    absent("reset", "the program has no such command")
else:

    @check("reset")
    def _():
        terminal = at_terminal()
        terminal.until("sql> ")
        terminal.line("set @kept = 'ke' 'pt';")
        terminal.line("select concat('it is ', ifnull(@kept, 'go' 'ne'));")
        terminal.until("it is kept")
        terminal.line("resetconnection")
        terminal.line("select concat('it is ', ifnull(@kept, 'go' 'ne'));")
        terminal.until("it is gone")
        terminal.close()
        return "`resetconnection`"


@check("drain")
def _():
    terminal = at_terminal()
    terminal.until("sql> ")
    terminal.line("select concat('rea', 'dy');")
    terminal.until("ready")
    restart()
    terminal.line("select concat('ag', 'ain');")
    said = terminal.until(r"ERROR (\d+ \(\w+\)[^\n\r]*)").group(1)
    # It connects again for this statement or for the next.
    terminal.line("select concat('mo', 're');")
    terminal.until("more")
    terminal.close()
    expect(query("select 7"), "7")
    return f"`{said}`; at a terminal the program connects again by itself"


def prompt(token):
    terminal = Terminal(command("--prompt=sql> ", "--silent", "--password"), environment())
    terminal.until("Enter password: ")
    terminal.line(token)
    in_or_out = terminal.until("sql> |ERROR 1045").group()
    terminal.close()
    return in_or_out == "sql> "


def option_file(token):
    file = os.path.join(env("DIR"), "options.cnf")
    with open(file, "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as out:
        out.write(f"[client]\npassword={token}\n")
    return run(command("-e", "select 1", first=f"--defaults-file={file}"), None).returncode == 0


limit("the password prompt at a terminal passes on 79 bytes: a token does not fit", not prompt(env("JWT_800")))
if MARIADB:
    limit(
        "an option file takes no password over 4,084 bytes",
        option_file(env("JWT_3000")) and not option_file(env("JWT_4095")),
    )
else:
    extra("a token of 20,000 bytes in an option file", option_file(env("JWT_20000")))
    without = [word for word in command("-e", "select 1") if "cleartext" not in word]
    said = run(without).stderr
    limit("`--enable-cleartext-plugin` or LIBMYSQL_ENABLE_CLEARTEXT_PLUGIN=1 is necessary", "mysql_clear_password" in said)


def dump():
    """The numbers that the dump program writes of the table `numbers`."""
    program = PROGRAM + ("-dump" if MARIADB else "dump")
    words = [word for word in command() if not word.startswith(("--database=", "--no-defaults"))][1:]
    done = run([program, "--no-defaults", *words, "--no-tablespaces", "--skip-lock-tables", env("DATABASE"), "numbers"])
    if done.returncode:
        raise RuntimeError(done.stderr)
    return {int(n) for n in re.findall(r"\((\d+)\)[,;]", done.stdout)}


extra(f"`{'mariadb-dump' if MARIADB else 'mysqldump'}`", dump() == set(range(1, 51201)))
