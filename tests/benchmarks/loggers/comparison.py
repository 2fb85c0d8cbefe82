"""The measurements of one call of the program: every case in a process of its own, in turns."""

from __future__ import annotations

import random
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from statistics import median

from loggers import drain, processes
from loggers.peers import PEERS, PREFIX, Peer

Figures = dict[str, float]
Case = tuple[str, int, int]  # logger, metrics a step, microseconds of work a step

DRAINS = {
    "log_batch of 1,000": drain.measure_plain,
    "the end of a run": drain.measure_end,
    "the recorder alone": drain.measure_recorder,
    "dovetail sync": drain.measure_sync,
}


class Comparison:
    """What is measured in `root`, with the options of the command line."""

    def __init__(self, root: Path, options: Namespace) -> None:
        self.root, self.options = root, options
        self.template = processes.make_database(root / "template.db")
        self.products = {microseconds: _count_products(root, microseconds) for microseconds in options.work_us}
        self._made = 0

    def compare(self, cases: list[Case], address: str) -> dict[Case, Figures]:
        """Every case once a repetition, in an order that changes: what burdens the machine burdens all."""
        found: dict[Case, list[Figures]] = {case: [] for case in cases}
        for repetition in range(self.options.repetitions):
            for number, case in enumerate(random.Random(repetition).sample(cases, len(cases))):
                self._say(repetition, f"{number + 1}/{len(cases)} {case[0]}, {case[1]} metrics, {case[2]} µs of work")
                found[case].append(self._measure(*case, address))
        return {case: _take_medians(figures) for case, figures in found.items()}

    def compare_drains(self) -> dict[str, Figures]:
        found: dict[str, list[Figures]] = {name: [] for name in DRAINS}
        for repetition in range(self.options.repetitions):
            for name, measure in DRAINS.items():
                self._say(repetition, name)
                found[name].append(measure(self._make_folder("drain"), self.template, self.options.drain_points))
        return {name: _take_medians(figures) for name, figures in found.items()}

    def _measure(self, key: str, metrics: int, microseconds: int, address: str) -> Figures:
        peer, folder = PEERS[key], self._make_folder(key)
        steps = self._steps(peer)
        database = self._database(peer, folder)
        environment = processes.make_environment(folder, address if peer.store == "http" else f"sqlite:///{database}")
        arguments = [key, str(metrics), str(steps), str(self.products[microseconds])]
        figures = processes.run_worker("worker.py", arguments, folder, environment)
        if peer.store:
            figures["kept"] = processes.count_points(database, folder.name, PREFIX)
        elif peer.count is not None:
            command = [sys.executable, str(processes.HERE / "peers.py"), key]
            figures["kept"] = int(subprocess.check_output(command, env=environment, cwd=folder))
        return {
            **figures,
            "steps": steps,
            "logged": steps * metrics,
            "drain_seconds": figures["ended_at"] - figures["last_step_at"] if peer.helper else figures["close_seconds"],
            "helper_cpu_us": figures["helper_cpu_seconds"] * 1e6 / steps,
        }

    def _steps(self, peer: Peer) -> int:
        slow = self.options.slow_steps or max(1, self.options.steps // 5)
        return int(slow if peer.slow else self.options.steps)

    def _database(self, peer: Peer, folder: Path) -> Path:
        return (
            self.root / "server" / "mlflow.db"
            if peer.store == "http"
            else processes.copy_database(self.template, folder)
        )

    def _make_folder(self, name: str) -> Path:
        self._made += 1
        folder = self.root / f"{self._made:03}-{name}"
        folder.mkdir()
        return folder

    def _say(self, repetition: int, text: str) -> None:
        print(f"{repetition + 1}/{self.options.repetitions} {text}", file=sys.stderr, flush=True)


def _take_medians(repetitions: list[Figures]) -> Figures:
    names = [name for name in repetitions[0] if all(name in figures for figures in repetitions)]
    return {name: median(figures[name] for figures in repetitions) for name in names}


def _count_products(root: Path, microseconds: int) -> int:
    command = [sys.executable, str(processes.HERE / "work.py"), str(microseconds)]
    return int(subprocess.check_output(command, env=processes.make_environment(root, ""), cwd=root))
