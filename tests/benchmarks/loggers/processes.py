"""The processes of a measurement: the measured one, what it starts, and MLflow's server."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
PLUGINS = HERE.parents[2] / "plugins"
TICKS = os.sysconf("SC_CLK_TCK")
DEADLINE_SECONDS = 900.0
COUNT_POINTS = """
SELECT count(*) FROM metrics JOIN runs USING (run_uuid) JOIN experiments USING (experiment_id)
WHERE experiments.name = ? AND key LIKE ?
"""
MAKE_DATABASE = "import sys, mlflow; mlflow.MlflowClient(sys.argv[1]).search_experiments()"


def make_environment(folder: Path, uri: str) -> dict[str, str]:
    """One thread a library, no telemetry, no network, and every file in `folder`."""
    quiet = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "WANDB_SILENT": "true",
        "WANDB_MODE": "offline",
    }
    offline = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "GRADIO_ANALYTICS_ENABLED": "False"}
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    homes = ("WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR", "HF_HOME", "TRACKIO_DIR", "DOVETAIL_DIR")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("DOVETAIL_", "MLFLOW_", "WANDB_"))}
    files = {home: str(folder / home.lower()) for home in homes}
    return {**kept, **quiet, **offline, **threads, **files, "MLFLOW_TRACKING_URI": uri, "PYTHONPATH": str(PLUGINS)}


class Helpers:
    """What a measured process starts, found by the folder's name in their environment or arguments."""

    def __init__(self, folder: Path, sample_seconds: float) -> None:
        self.folder, self.sample_seconds = folder, sample_seconds
        self.peak_mb = 0.0
        self._cpu: dict[int, float] = {}
        self._trainer = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    @property
    def cpu_seconds(self) -> float:
        return sum(self._cpu.values())

    def watch(self, trainer: int) -> None:
        self._trainer = trainer
        self._thread.start()

    def wait(self) -> None:
        """Until none is left."""
        self._ended.set()
        self._thread.join()
        deadline = time.monotonic() + DEADLINE_SECONDS
        while self._sample() and time.monotonic() < deadline:
            time.sleep(0.1)

    def _watch(self) -> None:
        while not self._ended.wait(self.sample_seconds):
            self._sample()

    def _sample(self) -> list[int]:
        mark = str(self.folder).encode()
        alive = [pid for pid in _pids() if pid not in (self._trainer, os.getpid()) and _carries(pid, mark)]
        peaks = []
        for pid in alive:
            with contextlib.suppress(OSError, StopIteration):
                is_new = pid not in self._cpu  # seen once, it may be a fork that has not loaded its program yet
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
                self._cpu[pid] = (int(fields[11]) + int(fields[12])) / TICKS
                status = Path(f"/proc/{pid}/status").read_text().splitlines()
                peak_mb = next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))
                peaks.append(0.0 if is_new else peak_mb)
        self.peak_mb = max(self.peak_mb, sum(peaks))
        return alive


def _pids() -> Iterator[int]:
    return (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())


def _carries(pid: int, mark: bytes) -> bool:
    with contextlib.suppress(OSError):
        return any(mark in Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ"))
    return False


def run_worker(
    script: str, arguments: list[str], folder: Path, environment: dict[str, str], sample_seconds: float = 0.2
) -> dict[str, float]:
    """Run a program of this folder in `folder`, wait for what it started, and return its figures."""
    helpers = Helpers(folder, sample_seconds)
    with (folder / "output.txt").open("wb") as output:
        command = [sys.executable, str(HERE / script), *arguments]
        worker = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=output)
        helpers.watch(worker.pid)
        code = worker.wait(DEADLINE_SECONDS)
    helpers.wait()
    ended_at = time.time()
    if code:
        sys.exit(f"{script} {' '.join(arguments)} ended with {code}:\n{(folder / 'output.txt').read_text()[-3000:]}")
    figures: dict[str, float] = json.loads((folder / "figures.json").read_text(encoding="utf-8"))
    return {**figures, "ended_at": ended_at, "helper_mb": helpers.peak_mb, "helper_cpu_seconds": helpers.cpu_seconds}


def make_database(path: Path) -> Path:
    """An empty MLflow database: to make its tables takes seconds that are no cost of a logger."""
    environment = make_environment(path.parent, "")
    command = [sys.executable, "-c", MAKE_DATABASE, f"sqlite:///{path}"]
    subprocess.run(command, env=environment, cwd=path.parent, check=True, capture_output=True)
    return path


def copy_database(source: Path, folder: Path) -> Path:
    return Path(shutil.copyfile(source, folder / "mlflow.db"))


def count_points(database: Path, experiment: str, prefix: str) -> int:
    """The points in an experiment's runs whose metric begins with `prefix`."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        return int(connection.execute(COUNT_POINTS, (experiment, f"{prefix}%")).fetchone()[0])


@contextlib.contextmanager
def serve(folder: Path, template: Path) -> Iterator[str]:
    """A real MLflow server on loopback, over a sqlite database of its own.

    Yields:
        Its address; the database is `mlflow.db` in `folder`.
    """
    folder.mkdir()
    database = copy_database(template, folder)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{database}", "--default-artifact-root", str(folder / "artifacts")]
    environment = {**make_environment(folder, ""), "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "server.txt").open("wb") as output:
        server = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=output, stderr=output, start_new_session=True
        )
        try:
            _wait_healthy(f"http://127.0.0.1:{port}", server)
            yield f"http://127.0.0.1:{port}"
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(30)


def _wait_healthy(address: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while server.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/health", timeout=5):
            return
        time.sleep(0.1)
    sys.exit("mlflow server did not start")
