"""One process as the system has it. Linux is read here: psutil takes five files a process where one tells nearly all.

Source:
    proc_pid_stat(5), proc_pid_io(5); psutil elsewhere.
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple

import psutil  # type: ignore[import-untyped]

_STORAGE = re.compile(rb"^read_bytes: (\d+)\nwrite_bytes: (\d+)$", re.MULTILINE)


class Process(NamedTuple):
    """A pid with the time of its start, in the system's own count: a pid is used again, the two together are not."""

    pid: int
    started: float


class ProcessReading(NamedTuple):
    """What a process is now, and what it has used so far.

    Args:
        process: Whose.
        parent_pid: Another one when the parent has ended.
        runs: Not of one that has ended and that its parent has not waited for.
        threads: How many.
        memory_bytes: Resident, with what it shares.
        cpu_seconds: User and system time; on Linux also of its children that have ended and were waited for.
    """

    process: Process
    parent_pid: int
    runs: bool
    threads: int
    memory_bytes: int
    cpu_seconds: float


def read_process(pid: int) -> ProcessReading | None:
    """A process; None where there is none, or where this user may not see it."""
    return _read_stat(pid) if psutil.LINUX else read_with_psutil(pid)


def read_storage_bytes(pid: int) -> tuple[int, int] | None:
    """What a process has had read from storage and written to it, past the page cache; None where nobody tells.

    On Linux also what its children had that have ended and were waited for. Another user's are not shown, macOS has
    none, and a kernel may be built without.
    """
    if not psutil.LINUX:
        return _read_storage_with_psutil(pid)
    try:
        counted = _STORAGE.search(_read(f"/proc/{pid}/io"))
    except OSError:
        return None
    return (int(counted[1]), int(counted[2])) if counted else None


def _read_stat(pid: int) -> ProcessReading | None:
    try:
        text = _read(f"/proc/{pid}/stat")
    except OSError:
        return None
    # The second field is the name, in parentheses, and may hold anything.
    state, parent, *fields = text[text.rindex(b")") + 2 :].split()
    return ProcessReading(
        process=Process(pid, int(fields[17])),
        parent_pid=int(parent),
        runs=state not in b"ZX",
        threads=int(fields[15]),
        memory_bytes=int(fields[19]) * os.sysconf("SC_PAGE_SIZE"),
        cpu_seconds=sum(map(int, fields[9:13])) / os.sysconf("SC_CLK_TCK"),
    )


def _read(file: str) -> bytes:
    """Half the cost of `Path.read_bytes`; a second would be seen."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        return os.read(descriptor, 4096)
    finally:
        os.close(descriptor)


def read_with_psutil(pid: int) -> ProcessReading | None:
    """As `read_process`, on any system."""
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            return ProcessReading(
                process=Process(pid, process.create_time()),
                parent_pid=process.ppid(),
                runs=process.status() != psutil.STATUS_ZOMBIE,
                threads=process.num_threads(),
                memory_bytes=process.memory_info().rss,
                # User and system time, and those of children, which only Linux fills.
                cpu_seconds=sum(process.cpu_times()[:4]),
            )
    except psutil.Error:
        return None


def _read_storage_with_psutil(pid: int) -> tuple[int, int] | None:
    try:
        counted = psutil.Process(pid).io_counters()
    except (AttributeError, psutil.Error):
        return None
    return counted.read_bytes, counted.write_bytes
