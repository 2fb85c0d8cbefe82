"""What the recorder and the command line need for a table of many epochs: `python tests/benchmarks/tables_epochs.py`.

A million examples in each of 20 epochs, which takes 3 GB of disk for the time. Each row is measured in a new process;
`peak` is by how much its memory grew. The views are what the recorder makes at the run's end.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tables import make_batch, peak_kilobytes, size_mb

from mlflow_dovetail.prediction_tables import (
    TableWriter,
    compact,
    read_last_epoch,
    read_manifest,
    read_table,
    worst_first,
    write_views,
)

_BATCH = 10_000


def append(folder: Path, rows: int, epochs: int) -> None:
    writer = TableWriter(folder / "tables", "val")
    batches = [make_batch(first, _BATCH) for first in range(0, min(rows, 20 * _BATCH), _BATCH)]
    for epoch in range(epochs):
        for number in range(rows // _BATCH):
            ids = [f"img_{number * _BATCH + row:08d}.png" for row in range(_BATCH)]
            writer.append(batches[number % len(batches)] | {"id": ids, "epoch": epoch})
    writer.close()


def views(folder: Path, _: int, __: int) -> None:
    write_views(folder / "out", read_manifest(folder / "out"), {})


def show(folder: Path, _: int, __: int) -> None:
    worst_first(read_last_epoch(folder / "out"), read_manifest(folder / "out"), 20)


def read_all(folder: Path, _: int, __: int) -> None:
    read_table(folder / "out")


STEPS: dict[str, Callable[[Path, int, int], object]] = {
    "append": append,
    "compaction": lambda folder, _, __: compact(folder / "tables" / "val", folder / "out", is_over=True),
    "views": views,
    "predictions show": show,
    "to read every row": read_all,
}


def in_process(step: str, folder: Path, options: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, __file__, "--step", step, "--folder", str(folder)]
    command += ["--rows", str(options.rows), "--epochs", str(options.epochs)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000, help="an epoch")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--step", choices=list(STEPS), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        before, wall, cpu = peak_kilobytes(), time.perf_counter(), time.process_time()
        STEPS[options.step](options.folder, options.rows, options.epochs)
        seconds = {"seconds": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        print(json.dumps(seconds | {"peak_mb": (peak_kilobytes() - before) / 1024}))
        return
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    print(f"{os.cpu_count()} cores, load {load}: {options.epochs} epochs of {options.rows:,} rows\n")
    print("| | s | CPU s | peak MB | table MB |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="tables-") as root:
        for step in STEPS:
            found = in_process(step, Path(root), options)
            size = size_mb(Path(root) / ("tables" if step == "append" else "out"))
            print(f"| {step} | {found['seconds']:.1f} | {found['cpu']:.1f} | {found['peak_mb']:,.0f} | {size:,.0f} |")


if __name__ == "__main__":
    main()
