"""The process that is measured: `python worker.py PEER METRICS STEPS WORK`, with its figures in `figures.json`.

WORK is the number of matrix products that stand for a training step. Torch and Lightning are loaded in every one, also
without a logger, as in a training.
"""

from __future__ import annotations

import json
import random
import sys
import time
from array import array
from collections.abc import Callable
from pathlib import Path

import pytorch_lightning  # noqa: F401
from peers import PEERS, PREFIX, Session
from work import make_work

ROWS = 251


def train(session: Session, metrics: int, steps: int, work: Callable[[], None]) -> dict[str, float]:
    """Log `steps` times; what the work itself took of the processor is no cost of the logger."""
    names = [f"{PREFIX}metric_{number:02}" for number in range(metrics)]
    rows = [[random.random() for _ in names] for _ in range(ROWS)]
    spent_ns, work_ns, log = array("q", bytes(8 * steps)), 0, session.log
    begun, cpu_begun = time.perf_counter(), time.process_time_ns()
    for step in range(steps):
        work_begun = time.thread_time_ns()
        work()
        values = dict(zip(names, rows[step % ROWS], strict=True))
        work_ns += time.thread_time_ns() - work_begun
        log_begun = time.perf_counter_ns()
        log(values, step)
        spent_ns[step] = time.perf_counter_ns() - log_begun
    loop_seconds, cpu_ns = time.perf_counter() - begun, time.process_time_ns() - cpu_begun
    last_step_at = time.time()
    session.close()
    close_seconds, all_cpu_ns = time.time() - last_step_at, time.process_time_ns() - cpu_begun
    ordered = sorted(spent_ns)
    return {
        "p50_us": ordered[steps // 2] / 1000,
        "p99_us": ordered[min(steps - 1, steps * 99 // 100)] / 1000,
        "max_us": ordered[-1] / 1000,
        "step_us": loop_seconds * 1e6 / steps,
        "cpu_us": (cpu_ns - work_ns) / 1000 / steps,
        "cpu_with_end_us": (all_cpu_ns - work_ns) / 1000 / steps,
        "close_seconds": close_seconds,
        "last_step_at": last_step_at,
    }


def read_peak_mb() -> float:
    """This process's VmHWM: the most memory that it held at once."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def main() -> None:
    peer, metrics, steps, products = sys.argv[1], *map(int, sys.argv[2:5])
    work = make_work(products)
    work()
    begun = time.perf_counter()
    session = PEERS[peer].open()
    opened_seconds = time.perf_counter() - begun
    figures = {"open_seconds": opened_seconds, **train(session, metrics, steps, work), "trainer_mb": read_peak_mb()}
    Path("figures.json").write_text(json.dumps(figures), encoding="utf-8")


if __name__ == "__main__":
    main()
