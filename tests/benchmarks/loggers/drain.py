"""How fast points come into sqlite: MLflow's own `log_batch`, a run's end, the recorder alone, and `dovetail sync`."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

from loggers.processes import copy_database, make_environment, run_worker

POLL_SECONDS = 0.1
METRICS = 10
BATCH = 1000
PLAIN = """
import json, os, sys, time
from pathlib import Path
from mlflow import MlflowClient
from mlflow.entities import Metric
points, batch, metrics = map(int, sys.argv[1:4])
client = MlflowClient()
run_id = client.create_run(client.create_experiment(Path.cwd().name)).info.run_id
begun = time.perf_counter()
for start in range(0, points, batch):
    now = int(time.time() * 1000)
    numbers = range(start, min(start + batch, points))
    client.log_batch(run_id, [Metric(f"bench/metric_{n % metrics:02}", n * 0.5, now, n // metrics) for n in numbers])
Path("figures.json").write_text(json.dumps({"rate": points / (time.perf_counter() - begun)}))
"""

RUN = """
import json, os, sys, time
from pathlib import Path
import mlflow_dovetail
points, metrics, ends = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "ends"
run = mlflow_dovetail.start_run(experiment_name=Path.cwd().name)
for step in range(points // metrics):
    run.log_metrics({f"bench/metric_{n:02}": step * 0.5 + n for n in range(metrics)}, step)
Path("figures.json").write_text(json.dumps({"last_step_at": time.time()}))
if ends:
    run.__exit__(None, None, None)
os._exit(0)
"""


class Growth:
    """Watch the rows of a database's metrics: `MAX(rowid)` is one look into a tree, whatever its size."""

    def __init__(self, database: Path) -> None:
        self.database = database
        self.seen: list[tuple[float, int]] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Growth:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    @property
    def rate(self) -> dict[str, float]:
        """Points a second between the first rows that were seen and the last; empty where all came at once."""
        rows = [(at, count) for at, count in self.seen if count]
        last = next(((at, count) for at, count in rows if count == rows[-1][1]), (0.0, 0))
        return {"rate": (last[1] - rows[0][1]) / (last[0] - rows[0][0])} if rows and last[0] > rows[0][0] else {}

    def _watch(self) -> None:
        with contextlib.closing(sqlite3.connect(self.database, timeout=0)) as connection:
            while True:
                last = self._ended.wait(POLL_SECONDS)
                with contextlib.suppress(sqlite3.OperationalError):
                    count = connection.execute("SELECT MAX(rowid) FROM metrics").fetchone()[0]
                    self.seen.append((time.perf_counter(), count or 0))
                if last:
                    return


def measure_plain(folder: Path, template: Path, points: int) -> dict[str, float]:
    environment = make_environment(folder, f"sqlite:///{copy_database(template, folder)}")
    (folder / "plain.py").write_text(PLAIN)
    return run_worker(str(folder / "plain.py"), [str(points), str(BATCH), str(METRICS)], folder, environment)


def measure_end(folder: Path, template: Path, points: int) -> dict[str, float]:
    """A run that ends after its last step: the trainer sends for 10 s at most, the recorder the rest."""
    return _measure_run(folder, template, points, "ends")


def measure_recorder(folder: Path, template: Path, points: int) -> dict[str, float]:
    """A run whose process is gone after its last step: the recorder sends everything."""
    return _measure_run(folder, template, points, "vanishes")


def _measure_run(folder: Path, template: Path, points: int, ending: str) -> dict[str, float]:
    database = copy_database(template, folder)
    environment = make_environment(folder, f"sqlite:///{database}")
    with Growth(database) as growth:
        figures = _log(folder, environment, points, ending)
    seconds = figures["ended_at"] - figures["last_step_at"]
    return {**growth.rate, "seconds": seconds, "peak_mb": figures["helper_mb"]}


def measure_sync(folder: Path, template: Path, points: int) -> dict[str, float]:
    """`dovetail sync` of a run that was logged offline, and the same again, which has nothing to send."""
    database = copy_database(template, folder)
    environment = make_environment(folder, f"sqlite:///{database}")
    _log(folder, {**environment, "DOVETAIL_OFFLINE": "1"}, points, "ends")
    with Growth(database) as growth:
        seconds = _sync(folder, environment)
    return {**growth.rate, "seconds": seconds, "again_seconds": _sync(folder, environment)}


def _log(folder: Path, environment: dict[str, str], points: int, ending: str) -> dict[str, float]:
    (folder / "run.py").write_text(RUN)
    return run_worker(str(folder / "run.py"), [str(points), str(METRICS), ending], folder, environment)


def _sync(folder: Path, environment: dict[str, str]) -> float:
    runs = environment["DOVETAIL_DIR"]
    command = [sys.executable, "-m", "mlflow_dovetail", "sync", runs]
    command += ["--tracking-uri", environment["MLFLOW_TRACKING_URI"]]
    begun = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return time.perf_counter() - begun
