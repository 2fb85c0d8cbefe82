"""A run's own processes: its trainer, DataLoader workers, the ranks of its launcher; and what they use of the host."""

from __future__ import annotations

import os
import threading
import time
from collections import defaultdict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import psutil  # type: ignore[import-untyped]

from mlflow_dovetail.system_metrics.process_reading import Process, ProcessReading, read_process, read_storage_bytes

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class TreeSample:
    """What a tree of processes holds now, and what it has used so far. Totals never fall: use differences of them.

    Args:
        processes: How many run.
        threads: Of all of them.
        memory_bytes: Sum of what is resident: pages that processes share count in each of them.
        cpu_seconds: User and system time, also of processes that have ended.
        read_bytes: From storage, not from the page cache; None where the system does not tell.
        written_bytes: To storage, as `read_bytes`.
    """

    processes: int
    threads: int
    memory_bytes: int
    cpu_seconds: float
    read_bytes: float | None
    written_bytes: float | None


@dataclass(frozen=True)
class _Counted:
    parent: Process | None
    used: Mapping[str, float]


def find_root(pid: int, environment: Mapping[str, str]) -> int:
    """The process whose descendants are a run: the trainer itself, or the launcher whose children are its ranks.

    Args:
        pid: The trainer's.
        environment: The trainer's.

    Returns:
        The parent under torchrun, and under Slurm's srun where `slurmstepd` starts the trainer itself; else `pid`.

    Source:
        torch.distributed.run, "Environment Variables"; Slurm: slurmstepd starts each task of a step.
    """
    try:
        parent = psutil.Process(pid).parent()
        if parent is None or not _launches(parent, environment):
            return pid
        return int(parent.pid)
    except psutil.Error:
        return pid


def _launches(parent: psutil.Process, environment: Mapping[str, str]) -> bool:
    if parent.name() == "slurmstepd":
        return True
    # A trainer outlives a torchrun that is killed, and is then a child of `init`; in a container torchrun may be 1.
    return "TORCHELASTIC_RUN_ID" in environment and (parent.pid != 1 or "python" in "".join(parent.cmdline()[:1]))


class ProcessTree:
    """A process, all its descendants, and those of them that have lost their parent since they were seen.

    Never in it: the process that asks and its children, unless it is the root. A process whose parent ended before
    the first look at it is not known to belong here. Threads may share one.

    Args:
        root_pid: Of the root. The tree is empty where there is none.
    """

    def __init__(self, root_pid: int) -> None:
        self.root_pid = root_pid
        self._lock = threading.Lock()
        self._asker = os.getpid()
        root = read_process(root_pid)
        self._members: dict[int, ProcessReading] = {root_pid: root} if root else {}
        self._seen = {root_pid}
        self._looked = float("-inf")
        self._counted: dict[Process, _Counted] = {}
        self._used: defaultdict[str, float] = defaultdict(float)

    def pids(self, max_age_seconds: float = 0.0) -> frozenset[int]:
        """Which processes there are; one that has ended and was not waited for is there.

        Args:
            max_age_seconds: How old the knowledge of which belong here may be: a new look costs up to 1 ms on a host
                of 300 processes.
        """
        with self._lock:
            self._look(max_age_seconds)
            return frozenset(self._members)

    def read_memory(self, max_age_seconds: float = 0.0) -> int | None:
        """As `memory_bytes` of `sample`, for less; None when no process is left. `max_age_seconds` as of `pids`."""
        with self._lock:
            self._look(max_age_seconds)
            return sum(reading.memory_bytes for reading in self._members.values()) or None

    def sample(self) -> TreeSample | None:
        """Read every process once; None when none is left."""
        with self._lock:
            self._look(0.0)
            running = [reading for reading in self._members.values() if reading.runs]
            self._add_used()
            return self._describe(running) if running else None

    def _describe(self, running: list[ProcessReading]) -> TreeSample:
        return TreeSample(
            processes=len(running),
            threads=sum(reading.threads for reading in running),
            memory_bytes=sum(reading.memory_bytes for reading in running),
            cpu_seconds=self._used["cpu"],
            read_bytes=self._used.get("read"),
            written_bytes=self._used.get("written"),
        )

    def _look(self, max_age_seconds: float) -> None:
        """Read those that are known, let go of what has ended, and take up what is new."""
        known, self._members = self._members, {}
        for pid, last in known.items():
            reading = read_process(pid)
            if reading is not None and reading.process == last.process:
                self._members[pid] = reading
        self._seen -= known.keys() - self._members.keys()
        if time.monotonic() - self._looked >= max_age_seconds:
            self._looked = time.monotonic()
            self._take_up_new()

    def _take_up_new(self) -> None:
        """Read the pids that were not there at the last look.

        That costs a quarter of reading each process of the host. `/proc/<pid>/task/*/children` is a file for each
        thread, and costs more from a hundred on.
        """
        present = set(psutil.pids())
        new = present - self._seen - {self._asker}
        self._seen = present
        waiting = {pid: reading for pid in new if (reading := read_process(pid)) is not None}
        while joining := [pid for pid, reading in waiting.items() if reading.parent_pid in self._members]:
            for pid in joining:
                self._members[pid] = waiting.pop(pid)

    def _add_used(self) -> None:
        before = self._counted
        self._counted = {reading.process: self._count(reading) for reading in self._members.values()}
        # Elsewhere nobody inherits what a process has used.
        parents = {process: counted.parent for process, counted in before.items()} if psutil.LINUX else {}
        for what in {what for counted in self._counted.values() for what in counted.used}:
            self._used[what] += gain(_column(before, what), _column(self._counted, what), parents)

    def _count(self, reading: ProcessReading) -> _Counted:
        last = self._counted.get(reading.process)
        storage = read_storage_bytes(reading.process.pid)
        parent = self._members.get(reading.parent_pid)
        return _Counted(
            parent=parent.process if parent else None,
            used={
                **(last.used if last else {}),
                "cpu": reading.cpu_seconds,
                **({"read": storage[0], "written": storage[1]} if storage else {}),
            },
        )


def gain(before: Mapping[Key, float], now: Mapping[Key, float], parents: Mapping[Key, Key | None]) -> float:
    """How much processes have used between two looks at their counters, each use counted once.

    When a process is waited for, Linux adds all that it has used to its parent's counters. What was counted while it
    lived is taken off there; what it used after the last look, and what children used that no look has seen, stays.

    Args:
        before: The counters of the first look, by process.
        now: Those of the second, which lacks processes that have ended.
        parents: As of the first look; without those that are not looked at.

    Source:
        Linux, kernel/exit.c, wait_task_zombie: times and I/O accounting alike.
    """
    inherited: defaultdict[Key | None, float] = defaultdict(float)
    for process in before.keys() - now.keys():
        heir = parents.get(process)
        while heir is not None and heir not in now:
            heir = parents.get(heir)
        inherited[heir] += before[process]
    return sum(max(0.0, used - before.get(process, 0.0) - inherited[process]) for process, used in now.items())


def _column(counted: Mapping[Process, _Counted], what: str) -> dict[Process, float]:
    return {process: each.used[what] for process, each in counted.items() if what in each.used}
