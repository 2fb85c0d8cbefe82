"""What a prediction table costs the trainer and the recorder: `python tests/benchmarks/tables.py`.

Each row is measured in a new process. Ten columns (id, label, prediction, ten probabilities, loss, epoch, step, text, a
number, a truth value), and where it says so an image more; what is timed is `append`, not the making of the batch.
`again` is a second epoch with the images of the first. CPU is of the whole trainer process; `peak` is by how much its
memory grew. The compaction is what the recorder does after the run, in a process of its own.

Beside them MLflow's `log_table` into a real sqlite store, and W&B's `Table` offline, one logged an append, where an
interpreter that has wandb is named:

    python -m venv /tmp/wandb && /tmp/wandb/bin/pip install wandb==0.31.0 numpy
    python tests/benchmarks/tables.py --rows 1000000 --peer-rows 1000 --wandb-python /tmp/wandb/bin/python
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

BATCH = 1000
GOAL_RATE, GOAL_TIMES_MLFLOW = 500_000.0, 50.0
HEAD = ("", "rows", "rows/s", "µs a row", "CPU µs a row", "peak MB", "raw MB", "stored MB", "compaction s", "its CPU s")

Batch = dict[str, Any]
Figures = dict[str, float]


def make_batch(first: int, rows: int, side: int = 0) -> Batch:
    """Rows of a validation epoch; with images of side × side pixels, in colour from 64 on."""
    random = np.random.default_rng(first)
    numbers = np.arange(first, first + rows)
    batch: Batch = {
        "id": [f"img_{number:08d}.png" for number in numbers],
        "label": random.integers(0, 10, rows),
        "prediction": random.integers(0, 10, rows),
        "probabilities": random.random((rows, 10), dtype=np.float32),
        "loss": random.random(rows, dtype=np.float32),
        "epoch": 3,
        "step": first,
        "split": ["validation"] * rows,
        "margin": random.random(rows),
        "correct": random.random(rows) > 0.5,
    }
    if side:
        shape = (rows, side, side) if side < 64 else (rows, 3, side, side)
        wave = np.linspace(0, 100, side)[:, None] + np.linspace(0, 100, side)
        batch["image"] = (random.integers(0, 55, shape) + wave).astype(np.uint8)
    return batch


def peak_kilobytes() -> int:
    """Of this program alone; what `getrusage` says began with its parent."""
    found = re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())
    return int(found[1]) if found else 0


def timed(append: Callable[[Batch], object], batches: list[Batch], repeat: int = 1) -> Figures:
    """Seconds and CPU seconds of appending, and by how much the memory grew."""
    before = peak_kilobytes()
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(repeat):
        for batch in batches:
            append(batch)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak_mb = (peak_kilobytes() - before) / 1024
    return {"rows": repeat * sum(len(one["id"]) for one in batches), "seconds": wall, "cpu": cpu, "peak_mb": peak_mb}


def run_dovetail(folder: Path, case: dict[str, int]) -> dict[str, Figures]:
    from mlflow_dovetail.prediction_tables.writer import TableWriter

    rows, size, side = case["rows"], case["batch"], case["side"]
    writer = TableWriter(folder / "tables", "val")
    different = [make_batch(first, size, side) for first in range(0, min(rows, 20 * size), size)]
    writer.append(make_batch(1 << 30, 10, side))  # what is paid once
    found = {"": timed(writer.append, different, repeat=max(1, rows // (size * len(different))))}
    if side:
        found["again"] = timed(writer.append, different)
    return found


def run_compaction(folder: Path, _: dict[str, int]) -> dict[str, Figures]:
    from mlflow_dovetail.prediction_tables.compaction import compact

    before = peak_kilobytes()
    wall, cpu = time.perf_counter(), time.process_time()
    manifest = compact(folder / "tables" / "val", folder / "out", is_over=True)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak_mb = (peak_kilobytes() - before) / 1024
    return {"": {"rows": manifest.rows if manifest else 0, "seconds": wall, "cpu": cpu, "peak_mb": peak_mb}}


def run_mlflow(folder: Path, case: dict[str, int]) -> dict[str, Figures]:
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
    mlflow.create_experiment("bench", artifact_location=(folder / "artifacts").as_uri())
    mlflow.set_experiment("bench")
    batches = [make_batch(first, case["batch"]) for first in range(0, case["rows"], case["batch"])]

    def append(batch: Batch) -> None:
        rows = len(batch["id"])
        plain = {name: one.tolist() if isinstance(one, np.ndarray) else one for name, one in batch.items()}
        mlflow.log_table(
            {name: one if isinstance(one, list) else [one] * rows for name, one in plain.items()}, "t.json"
        )

    with mlflow.start_run():
        return {"": timed(append, batches)}


def run_wandb(folder: Path, case: dict[str, int]) -> dict[str, Figures]:
    import wandb

    os.environ["WANDB_SILENT"] = "true"
    run = wandb.init(project="bench", mode="offline", dir=str(folder))
    batches = [make_batch(first, case["batch"], case["side"]) for first in range(0, case["rows"], case["batch"])]

    def append(batch: Batch) -> None:
        rows = len(batch["id"])
        plain = {
            name: one.tolist() if isinstance(one, np.ndarray) and name != "image" else one
            for name, one in batch.items()
        }
        if "image" in plain:
            images = plain["image"] if plain["image"].ndim == 3 else plain["image"].transpose(0, 2, 3, 1)
            plain["image"] = [wandb.Image(one) for one in images]
        columns = [one if isinstance(one, list) else [one] * rows for one in plain.values()]
        run.log({"val": wandb.Table(columns=list(plain), data=[list(row) for row in zip(*columns, strict=True)])})

    found = {"": timed(append, batches)}
    run.finish()
    return found


RUNS = {"dovetail": run_dovetail, "compaction": run_compaction, "mlflow": run_mlflow, "wandb": run_wandb}


def in_process(kind: str, folder: Path, case: dict[str, int], python: str = sys.executable) -> dict[str, Figures]:
    command = [python, __file__, "--run", kind, "--folder", str(folder), "--case", json.dumps(case)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Figures] = json.loads(done.stdout.splitlines()[-1])
    return found


def size_mb(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def measure_dovetail(root: Path, label: str, case: dict[str, int]) -> list[tuple[str, Figures]]:
    folder = root / label
    found = in_process("dovetail", folder, case)
    raw = size_mb(folder / "tables")
    compaction = in_process("compaction", folder, {})[""]
    found[""] |= {"raw_mb": raw, "stored_mb": size_mb(folder / "out"), "compaction": compaction["seconds"]}
    found[""]["compaction_cpu"] = compaction["cpu"]
    return [(f"{label}, {part}" if part else label, one) for part, one in found.items()]


def measure_peers(root: Path, options: argparse.Namespace) -> list[tuple[str, Figures]]:
    case = {"rows": 100 * options.peer_rows, "batch": options.peer_rows, "side": 0}
    rows = [(f"Dovetail, 100 appends of {options.peer_rows}", in_process("dovetail", root / "beside", case)[""])]
    peers = [("MLflow log_table, the same", "mlflow", case, sys.executable)]
    if options.wandb_python:
        small, large = ({"rows": options.image_rows, "batch": options.image_rows, "side": side} for side in (28, 224))
        peers.append(("W&B Table offline, the same", "wandb", case, options.wandb_python))
        peers.append(("W&B Table offline, 28×28", "wandb", small, options.wandb_python))
        peers.append(("W&B Table offline, 224×224×3", "wandb", large, options.wandb_python))
    for label, kind, peers_case, python in peers:
        folder = root / label.replace("/", " ")
        folder.mkdir()
        found = in_process(kind, folder, peers_case, python)[""]
        rows.append((label, found | {"stored_mb": size_mb(folder)}))
    return rows


def measure(root: Path, options: argparse.Namespace) -> list[tuple[str, Figures]]:
    cases = [
        ("no images", {"rows": options.rows, "batch": BATCH, "side": 0}),
        ("no images, batches of 10,000", {"rows": options.rows, "batch": 10_000, "side": 0}),
        ("1,000 appends of 100", {"rows": 100_000, "batch": 100, "side": 0}),
        ("1 append of the same rows", {"rows": 100_000, "batch": 100_000, "side": 0}),
        ("28×28", {"rows": 10 * options.image_rows, "batch": options.image_rows, "side": 28}),
        ("224×224×3", {"rows": options.image_rows, "batch": options.image_rows, "side": 224}),
    ]
    found = [row for label, case in cases for row in measure_dovetail(root, label, case)]
    return found + measure_peers(root, options)


def cells(label: str, one: Figures) -> tuple[str, ...]:
    rate, each, cpu = one["rows"] / one["seconds"], *(one[name] / one["rows"] * 1e6 for name in ("seconds", "cpu"))
    more = ("raw_mb", "stored_mb", "compaction", "compaction_cpu")
    shown = (f"{one[name]:,.2f}" if name in one else "" for name in more)
    return (
        label,
        f"{one['rows']:,.0f}",
        f"{rate:,.0f}",
        f"{each:,.2f}",
        f"{cpu:,.2f}",
        f"{one['peak_mb']:,.0f}",
        *shown,
    )


def judge(found: dict[str, Figures]) -> list[tuple[str, str, str, str]]:
    rate = found["no images"]["rows"] / found["no images"]["seconds"]
    mine = next(one for label, one in found.items() if label.startswith("Dovetail"))
    times = found["MLflow log_table, the same"]["seconds"] / mine["seconds"]
    goals = (("rows/s without images", rate, GOAL_RATE), ("times as fast as MLflow", times, GOAL_TIMES_MLFLOW))
    return [(name, f"{one:,.0f}", f"{goal:,.0f}", "yes" if one >= goal else "NO") for name, one, goal in goals]


def print_row(row: tuple[str, ...]) -> None:
    print(f"| {' | '.join(row)} |", flush=True)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=200_000, help="without images")
    parser.add_argument(
        "--image-rows", type=int, default=500, help="with images of 224×224; ten times as many of 28×28"
    )
    parser.add_argument("--peer-rows", type=int, default=200, help="an append, of 100, beside MLflow")
    parser.add_argument("--wandb-python", help="an interpreter that has wandb and numpy")
    parser.add_argument("--run", choices=list(RUNS), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--case", type=json.loads, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    options = read_options()
    if options.run:
        print(json.dumps(RUNS[options.run](options.folder, options.case)))
        return
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    print(f"{os.cpu_count()} cores, load {load}, Python {platform.python_version()}, NumPy {np.__version__}\n")
    with tempfile.TemporaryDirectory(prefix="tables-") as root:
        found = measure(Path(root), options)
    print_row(HEAD)
    print_row(tuple("---" for _ in HEAD))
    for label, one in found:
        print_row(cells(label, one))
    print()
    print_row(("goal", "measured", "at least", "held"))
    print_row(("---",) * 4)
    for row in judge(dict(found)):
        print_row(row)


if __name__ == "__main__":
    main()
