"""Which process writes a segment, told so that others can see whether it lives."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Literal

import msgspec

Life = Literal["alive", "dead", "unknown"]


class Lease(msgspec.Struct, frozen=True):
    """A process, named so that no later one can be taken for it.

    Attributes:
        host: The machine's name.
        boot_id: Of the machine's present start; empty where the system has none.
        pid_namespace: In which `pid` counts: containers of one machine have their own.
        pid: The process.
        start: When it began, in the system's own units; empty where it cannot be read.
    """

    host: str
    boot_id: str
    pid_namespace: str
    pid: int
    start: str

    @classmethod
    def own(cls) -> Lease:
        """Of this process."""
        pid = os.getpid()
        return cls(socket.gethostname(), _boot_id(), _pid_namespace(), pid, _start_of(pid))

    def life(self) -> Life:
        """Whether the process lives, seen from here.

        A machine that has started again since is dead. A process of another machine or container is unknown: only its
        own recorder's heartbeat tells.
        """
        if self.boot_id != _boot_id():
            return "dead" if self.host == socket.gethostname() and self.boot_id else "unknown"
        if self.pid_namespace != _pid_namespace() or not self.start:
            return "unknown"
        return "alive" if _start_of(self.pid) == self.start else "dead"


@cache
def _boot_id() -> str:
    if sys.platform.startswith("linux"):
        try:
            return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        except OSError:  # a sandbox may hide it
            return ""
    return _said_by("sysctl", "-n", "kern.bootsessionuuid")


def _pid_namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _start_of(pid: int) -> str:
    """When a process began; empty when there is none, or only its remains (a zombie)."""
    if not sys.platform.startswith("linux"):
        return _said_by("ps", "-o", "lstart=", "-p", str(pid))
    try:
        # The name, in parentheses, may hold anything; state and start time are the 3rd and 22nd field.
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in (b"Z", b"X") else fields[19].decode()


def _said_by(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=False).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""
