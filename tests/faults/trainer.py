"""The program that is hurt: it logs steps, and writes down in a file of its own what `log_metrics` returned from.

A line of the truth file is appended with one `write()` after the call has returned, so a line that is there stands for
values that must be in MLflow. Run as a program; `value()` is shared with those who check.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import mlflow_dovetail

GROWTH_BYTES = 16 << 20
WORKER_ENDS = ("none", "fork", "spawn", "terminated", "forked-exit")


def value(step: int, index: int) -> float:
    """The value of the metric `m<index>` at a step: a double that uses all of its digits."""
    return math.sin(step * 7.3 + index) / 3


def main() -> None:
    arguments = parse()
    if arguments.cgroup:
        (arguments.cgroup / "cgroup.procs").write_text(str(os.getpid()))
    import mlflow  # noqa: F401  its two seconds are no part of what start_run takes

    start = mlflow_dovetail.start_run
    arguments.early.with_suffix(".starting").touch()
    begin = time.monotonic()
    with start(tracking_uri=arguments.uri, experiment_name=arguments.experiment) as run:
        tell(arguments.early, run, time.monotonic() - begin)
        workers = start_workers(arguments.workers)
        train(run, arguments)
        if workers:
            finish_workers(arguments.workers, workers)
        end(arguments.end)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--early", type=Path, required=True, help="gets pid, token, run_id and folder once it runs")
    parser.add_argument("--truth", type=Path, required=True)
    parser.add_argument("--uri")
    parser.add_argument("--experiment")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--until", type=Path, help="end before the last step once this file is there")
    parser.add_argument("--metrics", type=int, default=3, help="a step")
    parser.add_argument("--seconds", type=float, default=0.01, help="a step")
    parser.add_argument("--end", default="normal")
    parser.add_argument("--artifact-every", type=int, default=0, help="log a file each n steps")
    parser.add_argument("--artifact-bytes", type=int, default=1000)
    parser.add_argument("--workers", choices=WORKER_ENDS, default="none")
    parser.add_argument("--cgroup", type=Path, help="join this control group first")
    return parser.parse_args()


def tell(early: Path, run: Any, seconds: float) -> None:
    facts = {"pid": os.getpid(), "token": run.token, "run_id": run.run_id, "folder": str(run.folder)}
    beside = early.with_suffix(".new")
    beside.write_text(json.dumps({**facts, "start_seconds": seconds}))
    beside.replace(early)


def train(run: Any, arguments: argparse.Namespace) -> None:
    truth = os.open(arguments.truth, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    ballast = []
    for step in range(arguments.steps):
        if arguments.until and arguments.until.exists():
            break
        begin = time.monotonic()
        values = {f"m{index}": value(step, index) for index in range(arguments.metrics)}
        run.log_metrics(values, step=step)
        note = {"step": step, "values": values, "seconds": time.monotonic() - begin}
        os.write(truth, json.dumps(note).encode() + b"\n")
        if arguments.artifact_every and step % arguments.artifact_every == 0:
            log_file(run, step, arguments, truth)
        if arguments.end == "grow":
            ballast.append(b"\xff" * GROWTH_BYTES)
        time.sleep(arguments.seconds)
    os.close(truth)


def log_file(run: Any, step: int, arguments: argparse.Namespace, truth: int) -> None:
    path = arguments.early.with_name(f"{arguments.early.stem}-file-{step}.txt")
    path.write_text(f"step {step}\n" + "x" * arguments.artifact_bytes)
    begin = time.monotonic()
    run.log_artifact(path, "files")
    note = {"artifact": f"files/{path.name}", "size": path.stat().st_size, "seconds": time.monotonic() - begin}
    path.unlink()  # it is Dovetail's now
    os.write(truth, json.dumps(note).encode() + b"\n")


def end(how: str) -> None:
    if how == "exception":
        raise ValueError("the loss is not a number")
    if how.startswith("exit"):
        sys.exit(int(how.removeprefix("exit")))
    if how == "os_exit":
        os._exit(0)
    if how == "wait":
        threading.Event().wait(600)


def idle() -> None:
    """What a DataLoader's worker does between batches."""
    time.sleep(600)


def start_workers(how: str) -> list[Any]:
    if how == "none":
        return []
    if how == "forked-exit":
        return [fork_and_exit()]
    context = multiprocessing.get_context("spawn" if how == "spawn" else "fork")
    workers = [context.Process(target=idle, daemon=True) for _ in range(2)]
    for worker in workers:
        worker.start()
    return workers


def fork_and_exit() -> int:
    """A child that leaves the run's block by an exception of its own, as a script that forks by hand does."""
    child = os.fork()
    if child == 0:
        sys.exit(5)
    return child


def finish_workers(how: str, workers: list[Any]) -> None:
    """End the children before the run ends; a way that is none of SIGTERM or their own exit code is an error."""
    if how == "forked-exit":
        code = os.waitstatus_to_exitcode(os.waitpid(workers[0], 0)[1])
        if code != 5:
            raise RuntimeError(f"the forked child ended with {code}")
    elif how != "fork":
        for worker in workers:
            worker.terminate()
            worker.join(10)
            if worker.exitcode not in (-15, 143):
                raise RuntimeError(f"the worker ended with {worker.exitcode}")


if __name__ == "__main__":
    main()
