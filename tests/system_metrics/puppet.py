"""A real process that does what it is told: the trainer of a test, its workers, its orphans."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

# It says what the code has put into `said`.
PROGRAM = """
import json, os, subprocess, sys, threading, time
def burn(seconds):
    start = time.process_time()
    while time.process_time() - start < seconds:
        pass
scope = {"burn": burn, "os": os, "subprocess": subprocess, "sys": sys, "threading": threading, "time": time}
for line in sys.stdin:
    scope["said"] = None
    exec(json.loads(line), scope)
    print(json.dumps(scope["said"]), flush=True)
"""


class Puppet:
    """A Python process with `burn`, `os`, `subprocess`, `sys`, `threading` and `time` at hand."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.pid = self._process.pid
        self._others: list[int] = []

    def do(self, code: str) -> object:
        """Run code there; what it puts into `said`."""
        self._process.stdin.write(json.dumps(code) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def start(self, code: str, *, others: str = "kept") -> int:
        """Start a process of it that runs code, and wait until that has printed a line."""
        pid = self.do(
            f"p = subprocess.Popen([sys.executable, '-c', {code!r}], stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n"
            f"{others} = globals().get({others!r}, []) + [p]\np.stdout.readline()\nsaid = p.pid"
        )
        self.ends_with(pid)
        return pid

    def ends_with(self, pid: int) -> None:
        """End a process, too, when this one is let go."""
        self._others.append(pid)

    def close(self) -> None:
        for pid in [*self._others, self.pid]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.communicate()


@contextmanager
def puppet() -> Iterator[Puppet]:
    one = Puppet()
    try:
        yield one
    finally:
        one.close()
