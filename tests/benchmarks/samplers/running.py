"""The processes that are measured, with what they have started."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil


@dataclass(frozen=True)
class Subject:
    """What is measured.

    Args:
        label: Of its row.
        code: Its program.
        gpus: How many the stub has.
        interval: In seconds; 0 where it has none of its own.
        arguments: Of the program.
        helpers: Whether the processor time is that of what it has started, not its own.
        less: The label of the one whose figures are taken off.
    """

    label: str
    code: str
    gpus: int
    interval: float
    arguments: tuple[str, ...] = ()
    helpers: bool = False
    less: str = ""


@dataclass
class Figures:
    """What was found: seconds of processor time over the measured span and since the start; more of its own words."""

    cpu: float
    whole: float
    said: dict[str, Any]


class Running:
    """A subject's process, begun."""

    def __init__(self, subject: Subject, folder: Path, environment: dict[str, str]) -> None:
        self.subject, self.folder = subject, folder
        self.begun = time.monotonic()
        with (folder / "talk").open("wb") as talk:
            self._process = subprocess.Popen(
                [sys.executable, "-c", subject.code, *subject.arguments],
                cwd=folder,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=talk,
                text=True,
            )

    def wait_ready(self) -> None:
        self._until("ready")

    def begin(self) -> None:
        self._before = self._cpu()
        self._write()

    def end(self) -> Figures:
        now = self._cpu()
        self._write()
        said = json.loads(self._until("{"))
        own = now - self._before
        return Figures(said.get("cpu", own), now, said)

    def ask(self) -> str:
        """Its next word on what it has done for one line of its input."""
        self._write()
        return self._until("{").split()[-1]

    def signal_recorder(self, number: int) -> None:
        for process in self._recorders():
            process.send_signal(number)

    def close(self) -> None:
        with suppress(psutil.Error):
            for process in self._all():
                process.kill()
        self._process.communicate()

    def _cpu(self) -> float:
        own = [one for one in self._all() if (one.pid == self._process.pid) != self.subject.helpers]
        return sum(map(_read_cpu_seconds, own))

    def _all(self) -> list[psutil.Process]:
        own = psutil.Process(self._process.pid)
        return [*self._recorders(), *own.children(recursive=True), own]

    def _recorders(self) -> list[psutil.Process]:
        """They are nobody's children."""
        mark = f"{self.folder}/"
        found = psutil.process_iter(["cmdline"])
        return [one for one in found if any(mark in word for word in one.info["cmdline"] or ())]

    def _write(self) -> None:
        assert self._process.stdin
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def _until(self, beginning: str) -> str:
        assert self._process.stdout
        for line in self._process.stdout:
            if line.startswith(beginning):
                return line
        sys.exit(f"{self.subject.label} ended:\n{(self.folder / 'talk').read_text()[-3000:]}")


def _read_cpu_seconds(process: psutil.Process) -> float:
    """In nanoseconds, where the kernel counts them by thread; /proc/<pid>/stat has hundredths of a second."""
    try:
        spans = Path(f"/proc/{process.pid}/task").glob("*/schedstat")
        return sum(int(span.read_text().split()[0]) for span in spans) / 1e9
    except (OSError, IndexError):
        times = process.cpu_times()
        return float(times.user + times.system)
