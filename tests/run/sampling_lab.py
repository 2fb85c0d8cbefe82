"""Real trainers with a stub of NVIDIA's driver each, and their runs as MLflow has them, for test_system_watch.py."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from faults.training import Training, child_environment, kill, processes_with, wait_until
from faults.truth import read_recorded
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from system_metrics.nvml_stub import NvmlStub, build

from mlflow_dovetail.journal import entries
from mlflow_dovetail.run.abandoned import is_recorders, is_watched
from mlflow_dovetail.run_folder import RunFolder, SegmentReader

OBSERVED_SECONDS = 3.0
GPU = {
    "utilization": 73,
    "memory_used_bytes": 24_600_000_000,
    "memory_total_bytes": 80_000_000_000,
    "power_milliwatts": 350_000,
    "power_limit_milliwatts": 700_000,
    "temperature": 66,
    "energy_millijoules": 9_000_000,
}

# Trainings that look at themselves, one after another: what their process has loaded, and what the store has when their
# block has been left. Of each, the variable that MLflow has for this, and the options of `start_run`.
OBSERVER = """
import json, os, sys, threading, time
import mlflow, mlflow_dovetail, psutil
before = set(sys.modules)
client = mlflow.MlflowClient()
for variable, options in json.loads(sys.argv[2]):
    os.environ["MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING"] = variable
    with mlflow_dovetail.start_run(**options) as run:
        run.monitor("loss", "min")
        for step in range(3):
            run.log_metrics({"loss": 1.0 - step / 10}, step)
        time.sleep(float(sys.argv[1]))
        threads = [thread.name for thread in threading.enumerate()]
        recorders = [one for one in psutil.process_iter(["cmdline"]) if str(run.folder) in (one.info["cmdline"] or ())]
        recorder_threads = max(recorder.num_threads() for recorder in recorders)
        leaving = time.time()
    left = time.time()
    stored = client.get_run(run.run_id)
    there = stored.data
    new = set(sys.modules) - before
    print(json.dumps({
        "token": run.token, "threads": threads, "recorder_threads": recorder_threads,
        "begin": stored.info.start_time / 1000, "leaving": leaving, "left": left,
        "metrics": there.metrics, "tags": there.tags,
        "loaded": [name for name in new if name.startswith(("psutil", "pynvml")) or "system_metrics" in name],
        "best_step": max(point.step for point in client.get_metric_history(run.run_id, "best/loss")),
    }))
"""


@dataclass
class Sampled:
    """A run as MLflow has it.

    Attributes:
        series: By key, without `system/`: (step, value) pairs in the order of their steps.
        told: What the test itself has noted while the run ran.
    """

    status: str
    tags: dict[str, str]
    series: dict[str, list[tuple[int, float]]]
    summary: dict[str, Any]
    told: dict[str, Any] = field(default_factory=dict)

    def steps(self, key: str) -> list[int]:
        return [step for step, _ in self.series[key]]

    def gpus(self) -> set[str]:
        """The GPUs that have metrics, such as gpu_0."""
        return {"_".join(key.split("_")[:2]) for key in self.series if key.startswith("gpu_") and key[4].isdigit()}

    def assert_one_series(self) -> None:
        """No key has two values at a step, and each step is later than the one before."""
        for key, points in self.series.items():
            steps = [step for step, _ in points]
            assert steps == sorted(set(steps)), f"{key}: {points}"


class Lab:
    """Makes runs, each with a folder and a driver of its own."""

    def __init__(self, folder: Path, uri: str, stack: ExitStack) -> None:
        self.folder, self.uri = folder, uri
        self._stack = stack
        self._numbers = itertools.count()
        for name, options in (("new", []), ("old", ["-DOLD_DRIVER"])):
            (folder / name).mkdir()
            build(folder / name, *options)

    def stub(self, gpus: int = 3, *, driver: str = "new") -> NvmlStub:
        """A driver with GPUs that are all alike but for their energy, which has a base of its own."""
        stub = NvmlStub(self.folder / driver / "libnvidia-ml.so.1", self.new_folder("driver"))
        for index in range(gpus):
            stub.add_gpu(index, **{**GPU, "energy_millijoules": (index + 9) * 1_000_000})
        return stub

    def train(
        self, stub: NvmlStub | None = None, *, uri: str = "", folder: Path | None = None, **more: Any
    ) -> Training:
        """A trainer that goes on until it is stopped; variables of its environment are written in capitals."""
        variables = {name: more.pop(name) for name in list(more) if name.isupper()}
        training = Training(
            folder or self.new_folder("trainer"),
            uri or self.uri,
            variables={**(stub.environment if stub else {}), **variables},
            **{"steps": 100_000, "seconds": 0.05, "metrics": 1, **more},
        )
        self._stack.enter_context(training)
        training.wait_started()
        return training

    def observe(self, stub: NvmlStub, *runs: tuple[str, dict[str, Any]], under: str = "", **more: str) -> list[Sampled]:
        """Run OBSERVER to its end; its runs, with what it saw of them."""
        folder = self.new_folder("observer")
        own = {"DOVETAIL_DIR": str(folder), "MLFLOW_TRACKING_URI": self.uri, "MLFLOW_EXPERIMENT_NAME": folder.name}
        self._stack.callback(lambda: [kill(pid) for pid in processes_with(f"{folder}/")])
        command = [*under.split(), sys.executable, "-c", OBSERVER, str(OBSERVED_SECONDS), json.dumps(runs)]
        environment = child_environment(**own, **stub.environment, **more)
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=90)
        assert done.returncode == 0, done.stderr
        seen = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        return [self.read(one["token"], one) for one in seen]

    def new_folder(self, name: str) -> Path:
        made = self.folder / f"{name}-{next(self._numbers)}"
        made.mkdir()
        return made

    def read(self, token: str, told: dict[str, Any] | None = None) -> Sampled:
        client = MlflowClient(self.uri)
        run = read_recorded(self.uri, token).run
        keys = [key for key in run.data.metrics if key.startswith("system/")]
        series = {
            key.removeprefix("system/"): sorted(
                (p.step, p.value) for p in client.get_metric_history(run.info.run_id, key)
            )
            for key in keys
        }
        found = [file.path for file in client.list_artifacts(run.info.run_id, "system")]
        summary = {}
        if found:
            (path,) = found
            uri = f"{run.info.artifact_uri}/{path}"
            local = download_artifacts(uri, dst_path=str(self.new_folder("summary")), tracking_uri=self.uri)
            summary = json.loads(Path(local).read_text())
        return Sampled(run.info.status, dict(run.data.tags), series, summary, told or {})


def logged(training: Training, key: str) -> list[float]:
    """What its recorders have logged of a metric so far, from the journal."""
    folder = RunFolder(training.run_folder)
    numbers = [number for number in folder.segments() if is_recorders(folder, number)]
    payloads = itertools.chain.from_iterable(SegmentReader(folder.segment(number)).read() for number in numbers)
    found = [entries.decode(payload) for payload in payloads]
    metrics = [entry.values for entry in found if isinstance(entry, entries.Metrics)]
    return [values[f"system/{key}"] for values in metrics if f"system/{key}" in values]


def wait_sampled(training: Training, key: str, count: int = 1, seconds: float = 30) -> None:
    """Until so many values of a metric are in the journal."""
    try:
        wait_until(lambda: len(logged(training, key)) >= count, f"{count} values of {key} are there", seconds)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{training.report()}") from None


def wait_told(training: Training) -> None:
    """Until its recorder has said its last word on the machine."""
    wait_until(lambda: not is_watched(RunFolder(training.run_folder)), "the last word is said", 20)


def stop(training: Training) -> float:
    """Have it end; the seconds from its last step to the end of its process."""
    training.stop()
    begin = time.monotonic()
    assert training.wait() == 0, training.report()
    return time.monotonic() - begin


def finished(lab: Lab, training: Training, **told: Any) -> Sampled:
    """The run of a training that is stopped, once its recorder has ended."""
    ending = stop(training)
    training.wait_quiet()
    return lab.read(training.token, {"ending": ending, **told})
