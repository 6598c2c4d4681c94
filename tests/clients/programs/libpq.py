"""Running the command-line programs that come with PostgreSQL."""

import os
import subprocess

from contract import env


def conninfo(host=None, ca=None, more=""):
    return (
        f"host={host or env('HOST')} port={env('PORT')} dbname={env('DATABASE')} user={env('USER')}"
        f" sslmode=verify-full sslrootcert={ca or env('CA')} gssencmode=disable {more}"
    )


def environment(token=None, **more):
    told = {name: value for name, value in os.environ.items() if not name.startswith("MATRIX_")}
    if token:
        told["PGPASSWORD"] = token
    told.update(more)
    return told


def run(arguments, token=None, feed="", **more):
    """The program's end: `returncode`, `stdout`, `stderr`."""
    return subprocess.run(
        arguments, env=environment(token, **more), input=feed, capture_output=True, text=True, timeout=120
    )


def succeed(arguments, token=None, feed="", **more):
    """What the program printed; it must not fail."""
    done = run(arguments, token, feed, **more)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip() or f"exit code {done.returncode}")
    return done.stdout


def fail(arguments, token=None, feed="", **more):
    """What the program complained of; it must fail."""
    done = run(arguments, token, feed, **more)
    if done.returncode == 0:
        raise AssertionError(f"{arguments[0]} did not fail: {done.stdout[:200]}")
    return done.stderr


def refusal_is_whole(said):
    """The three lines that a refused person needs."""
    for part in ("password authentication failed for user", "the token expired", "HINT:"):
        if part not in said:
            raise AssertionError(f"no {part!r} in {said!r}")
    return "message, detail and hint are printed; no SQLSTATE"
