"""The contract between a client program in Python and its runner: environment in, one JSON line per check out."""

import concurrent.futures
import contextlib
import hashlib
import json
import os
import sys

REFUSED_BY_TLS = ("certificate", "verif", "host name", "hostname")


def env(name):
    return os.environ["MATRIX_" + name]


def say(**fields):
    print(json.dumps(fields), flush=True)


def version(text):
    say(version=text)


def check(name, limit=None):
    """Runs the decorated function at once; its text is the note, its exception the failure. `limit` is a part of the exception
    and what it means, for a client that is known not to be able."""

    def run(work):
        try:
            note = work()
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"[:600]
            if limit and limit[0] in said:
                say(check=name, result="limit", note=limit[1])
            else:
                say(check=name, result="failed", note=said)
        else:
            say(check=name, result="ok", note=note or "")

    return run


def logins(login, sizes=("800", "3000", "16000")):
    """`login(token)` must give the name of the database user."""
    for size in sizes:

        @check("login-" + size)
        def _(size=size):
            expect(login(env("JWT_" + size)), env("USER"))


def verifies(connect, other=None, limit=None):
    """`connect(host=, ca=)` must fail for another authority and for another name, which `other` leads to."""

    @check("verify", limit)
    def _():
        for change in ({"ca": env("OTHER_CA")}, other or {"host": env("OTHER_HOST")}):
            try:
                connect(**change)
            except Exception as error:
                said = " ".join(str(cause) for cause in (error, error.__cause__)).lower()
                if not any(word in said for word in REFUSED_BY_TLS):
                    raise
            else:
                raise AssertionError(f"connected in spite of {change}")


def absent(name, why):
    say(check=name, result="absent", note=why)


def limit(text, shown):
    """A known limit; `shown` is whether the run has shown it."""
    say(limit=text, result="ok" if shown else "failed")


def extra(text, shown):
    """Something more that works; `shown` is whether the run has shown it."""
    say(extra=text, result="ok" if shown else "failed")


def sleeping():
    """Returns when the database runs the sleeping query."""
    _ask("sleeping")


@contextlib.contextmanager
def once_sleeping(cancel):
    """Cancels from another thread once the query of the `with` block runs; what goes wrong there is raised here."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        cancelling = pool.submit(lambda: (sleeping(), cancel()))
        yield
        cancelling.result(30)


def restart():
    """Returns when the proxy has stopped and started again."""
    _ask("restart")


def _ask(what):
    say(**{"await": what})
    if not sys.stdin.readline():
        sys.exit("the runner has gone")


def expect(got, wanted):
    if got != wanted:
        raise AssertionError(f"{got!r} instead of {wanted!r}")


def failure(kind, work):
    """The error of `work`, which must fail."""
    try:
        work()
    except kind as error:
        return error
    raise AssertionError("it did not fail")


def is_big(lines):
    """Compares a 50 MB result, given as its lines."""
    digest, length = hashlib.sha256(), 0
    for line in lines:
        data = line.encode() if isinstance(line, str) else line
        digest.update(data)
        length += len(data)
    expect(length, 51200 * 1024)
    expect(digest.hexdigest(), env("BIG_SHA256"))


def rows():
    """What is copied in and out."""
    return "".join(f"{n}\ttext, {n} ü\n" for n in range(10_000))
