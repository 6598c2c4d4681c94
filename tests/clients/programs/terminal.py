"""A program at a terminal, as a person uses it."""

import os
import pty
import re
import select
import signal
import termios

PATIENCE = 60


class Terminal:
    def __init__(self, arguments, environment):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execvpe(arguments[0], arguments, environment)
        settings = termios.tcgetattr(self.fd)
        settings[3] &= ~termios.ECHO
        termios.tcsetattr(self.fd, termios.TCSANOW, settings)
        self.said = ""

    def type(self, text):
        data = text.encode()
        while data:
            # A line longer than the kernel keeps is dropped by it, so writing never blocks for long.
            data = data[os.write(self.fd, data[:1024]) :]

    def line(self, text):
        self.type(text + "\n")

    def until(self, pattern):
        """Reads until the pattern comes, and forgets everything up to and with it."""
        while not (found := re.search(pattern, self.said)):
            if not select.select([self.fd], [], [], PATIENCE)[0]:
                raise AssertionError(f"no {pattern!r} in {self.said[-300:]!r}")
            try:
                data = os.read(self.fd, 65536)
            except OSError:  # Linux's way to tell that the program has ended
                data = b""
            if not data:
                raise AssertionError(f"ended without {pattern!r}: {self.said[-300:]!r}")
            self.said += data.decode(errors="replace")
        self.said = self.said[found.end() :]
        return found

    def interrupt(self):
        self.type("\x03")

    def close(self):
        try:
            os.kill(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        os.close(self.fd)
        os.waitpid(self.pid, 0)
