"""What logging costs a training, each logger beside the others: `python tests/benchmarks/log_metrics.py`.

Each logger is measured in a new process, in turns, and each figure is the median of the repetitions; a server is a real
`mlflow server` on loopback. A logger that is not installed has a row that says so. The figures in docs/figures.md
stand on

    pip install -e '.[lightning]' torch==2.13.0 wandb==0.31.0 trackio==0.43.0 tensorboard==2.21.0

p50 and p99 are of the call that logs a step, in the training thread. `step` is the whole step with the work of
`--work-us`, and shows what a logger's threads take from the training. `CPU` is of all threads of the trainer, less the
work; `with end` adds what closing the run takes. `end` is how long closing holds the trainer, `drain` how long after
the last step all points are where they stay: for Dovetail, when the recorder is gone. `helper` is the processes that a
logger starts (the recorder, wandb-core); the server is none of them. `kept` is the points found over the points logged.
"""

from __future__ import annotations

import sys

# This file's folder, last: it has the name of a module of the standard library, which is to be found first.
sys.path.append(sys.path.pop(0))

import argparse
import contextlib
import json
import os
import platform
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from loggers.comparison import Case, Comparison, Figures
from loggers.peers import PEERS
from loggers.processes import serve

VERSIONS = ("mlflow", "pytorch-lightning", "torch", "tensorboard", "wandb", "trackio")
COLUMNS = ("logger", "steps", "p50 µs", "p99 µs", "step µs", "CPU µs", "CPU µs, with end", "end s", "drain s")
MORE_COLUMNS = ("trainer MB", "helper MB", "helper CPU µs", "kept")
GOAL_P50_US = {10: 10.0, 50: 25.0}
GOAL_P99_US, GOAL_CPU_US, GOAL_RATE = 100.0, 20.0, 10_000.0
NOT_OURS = ("log_batch of 1,000",)


def load() -> str:
    return " ".join(f"{one:.1f}" for one in os.getloadavg())


def describe_machine() -> str:
    versions = []
    for name in VERSIONS:
        with contextlib.suppress(PackageNotFoundError):
            versions.append(f"{name} {version(name)}")
    return f"{os.cpu_count()} cores, load {load()}, Python {platform.python_version()}, {', '.join(versions)}"


def print_row(cells: tuple[str, ...]) -> None:
    print(f"| {' | '.join(cells)} |", flush=True)


def print_head(cells: tuple[str, ...]) -> None:
    print_row(cells)
    print_row(tuple("---" for _ in cells))


def show(label: str, one: Figures) -> tuple[str, ...]:
    kept = f"{one['kept'] / one['logged']:.1%}" if "kept" in one else "-"
    costs = (f"{one[name]:,.1f}" for name in ("p50_us", "p99_us", "step_us", "cpu_us", "cpu_with_end_us"))
    seconds = (f"{one[name]:.2f}" for name in ("close_seconds", "drain_seconds"))
    rest = (f"{one[name]:,.0f}" for name in ("trainer_mb", "helper_mb", "helper_cpu_us"))
    return (label, f"{one['steps']:,.0f}", *costs, *seconds, *rest, kept)


def show_missing(key: str) -> tuple[str, ...]:
    peer = PEERS[key]
    return (peer.label, f"not installed: pip install {peer.needs[1]}", *[""] * (len(COLUMNS) + len(MORE_COLUMNS) - 2))


def print_comparison(found: dict[Case, Figures], options: argparse.Namespace) -> None:
    for metrics in options.metrics:
        for work_us in options.work_us:
            print(f"\n{metrics} metrics a step, {work_us} µs of work a step, median of {options.repetitions}\n")
            print_head((*COLUMNS, *MORE_COLUMNS))
            for key in options.peers:
                one = found.get((key, metrics, work_us))
                print_row(show(PEERS[key].label, one) if one else show_missing(key))


def print_drains(found: dict[str, Figures], points: int) -> None:
    print(f"\n{points:,} points into sqlite\n")
    print_head(("", "points a second while writing", "s in all", "s when nothing is left", "recorder MB"))
    formats = {"rate": ",.0f", "seconds": ".1f", "again_seconds": ".1f", "peak_mb": ",.0f"}
    for name, one in found.items():
        print_row((name, *(f"{one[key]:{spec}}" if key in one else "-" for key, spec in formats.items())))


def judge(found: dict[Case, Figures], drains: dict[str, Figures]) -> list[tuple[str, ...]]:
    """Each goal with the worst of Dovetail's rows, and the best of the others'."""
    rows: list[tuple[str, float, float, bool]] = []
    for metrics, work_us in sorted({case[1:] for case in found}):
        here = {case[0]: one for case, one in found.items() if case[1:] == (metrics, work_us)}
        mine = [one for key, one in here.items() if key.startswith("dovetail")]
        others = [one["p50_us"] for key, one in here.items() if not key.startswith("dovetail") and key != "none"]
        limits = {"p50_us": GOAL_P50_US.get(metrics), "p99_us": GOAL_P99_US, "cpu_us": GOAL_CPU_US}
        for name, limit in limits.items():
            worst = max((one[name] for one in mine), default=None)
            if worst is not None and limit is not None:
                rows.append((f"{metrics} metrics, {work_us} µs of work: {name}", worst, limit, worst <= limit))
        if mine and others:
            worst, limit = max(one["p50_us"] for one in mine), min(others)
            rows.append((f"{metrics} metrics, {work_us} µs of work: fastest peer's p50", worst, limit, worst < limit))
    rates = {name: one["rate"] for name, one in drains.items() if "rate" in one and name not in NOT_OURS}
    rows += [(f"{name}: points a second", rate, GOAL_RATE, rate >= GOAL_RATE) for name, rate in rates.items()]
    return [(what, f"{value:,.1f}", f"{limit:,.1f}", "yes" if held else "NO") for what, value, limit, held in rows]


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", nargs="+", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--metrics", type=int, nargs="+", default=[10, 50], help="a step")
    parser.add_argument("--work-us", type=int, nargs="+", default=[200], help="work a step; 0 is a bare loop")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--slow-steps", type=int, help="of MLflow's own loggers; a fifth of --steps when left out")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--drain-points", type=int, default=100_000, help="0 leaves the second table out")
    parser.add_argument("--json", action="store_true", help="the figures as one JSON object")
    return parser.parse_args()


def main() -> None:
    options = read_options()
    installed = [key for key in options.peers if PEERS[key].installed]
    cases = [(key, metrics, work) for key in installed for metrics in options.metrics for work in options.work_us]
    machine = describe_machine()
    with tempfile.TemporaryDirectory(prefix="logging-") as folder, contextlib.ExitStack() as stack:
        comparison = Comparison(Path(folder), options)
        address = ""
        if any(PEERS[key].store == "http" for key in installed):
            address = stack.enter_context(serve(Path(folder) / "server", comparison.template))
        found = comparison.compare(cases, address)
        drains = comparison.compare_drains() if options.drain_points else {}
    goals = judge(found, drains)
    if options.json:
        rows = [{"logger": case[0], "metrics": case[1], "work_us": case[2], **one} for case, one in found.items()]
        print(json.dumps({"machine": machine, "rows": rows, "drain": drains, "goals": goals}, indent=2))
        return
    print(f"{machine}; load at the end {load()}")
    print_comparison(found, options)
    if drains:
        print_drains(drains, options.drain_points)
    if goals:
        print()
        print_head(("goal", "worst", "limit", "held"))
        for row in goals:
            print_row(row)


if __name__ == "__main__":
    main()
