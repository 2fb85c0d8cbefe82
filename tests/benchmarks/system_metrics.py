"""What sampling the machine costs: `python tests/benchmarks/system_metrics.py`.

GPUs are those of the stub of NVIDIA's library (tests/system_metrics/nvml_stub), which reads its answers once; a real
driver takes its own time for a call. All that is compared runs at once, each in a process of its own, and sleeps most
of the time; the processor time is that of the process, or of the helpers that it has started, over `--seconds` in
which nothing begins and nothing ends.

1. Sampling alone: the two threads of Dovetail's recorder, beside a trainer with four children; the collection of
   MLflow's monitor, in the process that trains; W&B's helpers, with its monitor and without. The goal is for 8 GPUs.
2. An idle run, whole: Dovetail's recorder, and the trainer of a run of MLflow's own, with system metrics and without;
   both send to sqlite. `until then` is all that the process has taken since its start.
3. Two trainers that keep every core busy, one with system metrics and one without, in turns of 5 s, in which a window
   ends; the recorder of the one that waits is stopped. Loops a second.

A logger that is not installed has a row that says so. The figures in docs/figures.md stand on

    pip install -e '.[lightning]' wandb==0.31.0
"""

from __future__ import annotations

import sys

# This file's folder, last: it has the name of a module of the standard library, which is to be found first.
sys.path.append(sys.path.pop(0))

import argparse
import importlib.util
import os
import platform
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from statistics import median

import psutil
from loggers import processes
from samplers.programs import DOVETAIL, FAMILY, MLFLOW, MLFLOW_RUN, RUN, TRAINER, WANDB
from samplers.running import Figures, Running, Subject

TESTS = Path(__file__).resolve().parents[1]
sys.path.append(str(TESTS / "system_metrics"))
from nvml_stub import NvmlStub, build  # noqa: E402

GOAL_GPUS, GOAL_PERCENT = 8, 0.2
# A recorder sends for the first time 15 s after its start, and imports MLflow for it.
SETTLED_SECONDS = 25.0
HOUR = 3600.0


class Bench:
    """Makes folders, drivers and environments.

    Args:
        root: For all files.
        family: A process with children: what is sampled.
    """

    def __init__(self, root: Path, family: int) -> None:
        self.root, self.family = root, family
        self.template = processes.make_database(root / "template.db")
        self.library = build(root)
        self._made = 0

    def environment(self, folder: Path, gpus: int) -> dict[str, str]:
        stub = NvmlStub(self.library, folder)
        for index in range(gpus):
            stub.add_gpu(index)
            stub.run(index, self.family, megabytes=1000 + index, sm=40)
        if not gpus:
            stub.no_driver()
        database = processes.copy_database(self.template, folder)
        mask = {"CUDA_VISIBLE_DEVICES": ",".join(map(str, range(gpus)))}
        environment = processes.make_environment(folder, f"sqlite:///{database}")
        return {**environment, **stub.environment, **mask, "NVML_STUB_READ_ONCE": "1"}

    def new_folder(self) -> Path:
        self._made += 1
        folder = self.root / f"{self._made:02}"
        folder.mkdir()
        return folder

    def measure(self, subjects: list[Subject], seconds: float) -> dict[str, Figures]:
        """All at once."""
        with ExitStack() as stack:
            running = [self.start(subject, stack) for subject in subjects]
            time.sleep(max(0.0, max(one.begun for one in running) + SETTLED_SECONDS - time.monotonic()))
            _say(f"{seconds:g} s")
            for one in running:
                one.begin()
            time.sleep(seconds)
            return {one.subject.label: one.end() for one in running}

    def train(self, pairs: int, seconds: float) -> Iterator[dict[str, float]]:
        """Loops a second of two trainers that take turns; while one waits, its recorder stands still."""
        with ExitStack() as stack:
            trainers = {}
            for arm in ("with", "without"):
                subject = Subject(f"trainer {arm}", TRAINER, GOAL_GPUS, 0, (arm, str(os.cpu_count()), str(seconds)))
                trainers[arm] = self.start(subject, stack)
            time.sleep(SETTLED_SECONDS)
            for pair in range(pairs):
                found = {}
                for arm in ("with", "without") if pair % 2 == 0 else ("without", "with"):
                    for name, trainer in trainers.items():
                        trainer.signal_recorder(signal.SIGCONT if name == arm else signal.SIGSTOP)
                    found[arm] = float(trainers[arm].ask())
                yield found

    def start(self, subject: Subject, stack: ExitStack) -> Running:
        _say(subject.label)
        folder = self.new_folder()
        one = Running(subject, folder, self.environment(folder, subject.gpus))
        stack.callback(one.close)
        one.wait_ready()
        return one


def list_subjects(family: int, gpus: list[int]) -> tuple[list[Subject], list[Subject]]:
    """Those of the first table and those of the second."""
    sampling = [Subject(f"Dovetail, {one} GPUs", DOVETAIL, one, 5, (str(family),)) for one in gpus]
    sampling += [Subject(f"MLflow, {one} GPUs", MLFLOW, one, 10, ("10",)) for one in gpus]
    most = max(gpus)
    sampling += [Subject(f"MLflow each 5 s, {most} GPUs", MLFLOW, most, 5, ("5",))]
    if importlib.util.find_spec("wandb"):
        bare = Subject("W&B without its monitor", WANDB, most, 0, ("0",), helpers=True)
        for interval in (15, 5):
            label = f"W&B each {interval} s, {most} GPUs"
            sampling += [Subject(label, WANDB, most, interval, (str(interval),), helpers=True, less=bare.label)]
        sampling += [bare]
    bare = Subject("recorder without", RUN, most, 0, ("without",), helpers=True)
    whole = [Subject(f"recorder with, {one} GPUs", RUN, one, 5, ("with",), True, bare.label) for one in gpus]
    other = Subject("MLflow's trainer without", MLFLOW_RUN, most, 0, ("without",))
    whole += [Subject(f"MLflow's trainer with, {most} GPUs", MLFLOW_RUN, most, 10, ("with",), less=other.label)]
    whole += [bare, other]
    return sampling, whole


def print_sampling(subjects: list[Subject], found: dict[str, Figures], seconds: float) -> None:
    print_head(
        "sampling alone", "each, s", "metrics", "a poll, ms", "a window, ms", "s an hour", "% of one core", "goal"
    )
    for subject in subjects:
        one = found[subject.label]
        cpu = one.cpu - (found[subject.less].cpu if subject.less else 0.0)
        percent = 100 * cpu / seconds
        is_goal = subject.code == DOVETAIL and subject.gpus == GOAL_GPUS
        held = ("yes" if percent <= GOAL_PERCENT else "NO") if is_goal else ""
        costs = [f"{one.said[key]:.2f}" if key in one.said else "" for key in ("poll_ms", "window_ms")]
        figures = [str(one.said.get("metrics", "")), *costs, f"{HOUR * cpu / seconds:.1f}", f"{percent:.3f}", held]
        print_row(subject.label, f"{subject.interval:g}", *figures)
    if not importlib.util.find_spec("wandb"):
        print_row("W&B", "not installed: pip install wandb", *[""] * 6)


def print_whole(subjects: list[Subject], found: dict[str, Figures], seconds: float) -> None:
    print_head("an idle run, whole", "each, s", "s an hour", "% of one core", "more than without, %", "until then, s")
    for subject in subjects:
        one = found[subject.label]
        percent = 100 * one.cpu / seconds
        more = f"{percent - 100 * found[subject.less].cpu / seconds:.3f}" if subject.less else ""
        interval = f"{subject.interval:g}" if subject.interval else ""
        print_row(subject.label, interval, f"{36 * percent:.1f}", f"{percent:.3f}", more, f"{one.whole:.2f}")


def print_training(bench: Bench, pairs: int, seconds: float) -> None:
    print_head("a trainer on every core", "pairs", "loops a second with", "without", "slowdown", "of the middle half")
    found = list(bench.train(pairs, seconds))
    ratios = sorted(one["without"] / one["with"] for one in found)
    rates = [f"{median(one[arm] for one in found):,.0f}" for arm in ("with", "without")]
    middle = f"{ratios[pairs // 4]:.4f} to {ratios[-1 - pairs // 4]:.4f}"
    print_row(f"{GOAL_GPUS} GPUs", str(pairs), *rates, f"{median(ratios):.4f}", middle)


def print_head(*cells: str) -> None:
    print()
    print_row(*cells)
    print_row(*("---" for _ in cells))


def print_row(*cells: str) -> None:
    print(f"| {' | '.join(cells)} |", flush=True)


def _say(text: str) -> None:
    print(time.strftime("%X"), text, file=sys.stderr, flush=True)


def _load() -> str:
    return " ".join(f"{one:.1f}" for one in os.getloadavg())


def describe() -> str:
    named = [name for name in ("mlflow", "nvidia-ml-py", "psutil", "wandb") if importlib.util.find_spec(MODULES[name])]
    versions = ", ".join(f"{name} {version(name)}" for name in named)
    machine = f"{os.cpu_count()} cores, {len(psutil.pids())} processes, load {_load()}"
    return f"{machine}, Python {platform.python_version()}, {versions}"


MODULES = {"mlflow": "mlflow", "nvidia-ml-py": "pynvml", "psutil": "psutil", "wandb": "wandb"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gpus", type=int, nargs="+", default=[0, 1, GOAL_GPUS])
    parser.add_argument("--seconds", type=float, default=60, help="of the first two tables; a multiple of 30")
    parser.add_argument("--pairs", type=int, default=8, help="of the third table; 0 leaves it out")
    parser.add_argument("--training-seconds", type=float, default=5, help="of each turn")
    options = parser.parse_args()
    print(describe())
    with tempfile.TemporaryDirectory(prefix="sampling-") as folder, ExitStack() as stack:
        family = subprocess.Popen([sys.executable, "-c", FAMILY])
        stack.callback(end_family, family)
        bench = Bench(Path(folder), family.pid)
        sampling, whole = list_subjects(family.pid, options.gpus)
        # The whole runs first: they settle while the others start.
        found = bench.measure([*whole, *sampling], options.seconds)
        print_sampling(sampling, found, options.seconds)
        print_whole(whole, found, options.seconds)
        if options.pairs:
            print_training(bench, options.pairs, options.training_seconds)
    print(f"\nload at the end {_load()}")


def end_family(family: subprocess.Popen[bytes]) -> None:
    for child in psutil.Process(family.pid).children():
        child.kill()
    family.kill()
    family.wait()


if __name__ == "__main__":
    main()
