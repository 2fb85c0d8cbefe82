"""A real recorder samples the machine beside real trainers, on a stub of NVIDIA's library, whatever happens to either.

The runs are made once, some at a time, because they wait most of the time; each test looks at one of them.
"""

from __future__ import annotations

import itertools
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from ctypes import util
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
from faults.training import Training, child_environment, kill, processes_with, wait_until
from faults.truth import read_recorded
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from system_metrics.nvml_stub import NvmlStub, build

from mlflow_dovetail.journal import entries
from mlflow_dovetail.run.abandoned import is_recorders, is_watched
from mlflow_dovetail.run_folder import RunFolder, SegmentReader
from mlflow_dovetail.system_metrics import sampling

if not sys.platform.startswith("linux"):
    pytest.skip("/proc and LD_LIBRARY_PATH are Linux's", allow_module_level=True)

AT_ONCE = 4
# Of a run's end, which takes 10 s at most on a machine that is not overloaded.
END_SECONDS = 11.0
# A hung driver may hold the end so much longer than a healthy one.
HELD_SECONDS = 2.0
OBSERVED_SECONDS = 3.0
MLFLOW_GPU_NAMES = {
    "utilization_percentage": 73.0,
    "memory_usage_megabytes": 24_600.0,
    "memory_usage_percentage": 30.75,
    "power_usage_watts": 350.0,
    "power_usage_percentage": 50.0,
}
MLFLOW_HOST_NAMES = {
    "cpu_utilization_percentage",
    "system_memory_usage_megabytes",
    "system_memory_usage_percentage",
    "disk_usage_percentage",
    "disk_usage_megabytes",
    "disk_available_megabytes",
    "network_receive_megabytes",
    "network_transmit_megabytes",
}
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
# What a logging process of another program does.
TRACKER = """
import sys, time
from pathlib import Path
import mlflow_dovetail
with mlflow_dovetail.track(sys.argv[1]) as run:
    Path("tracking").touch()
    while not Path("enough").exists():
        run.log_metrics({"tracked": 1.0}, step=int(time.time() * 10) % 10**6)
        time.sleep(0.1)
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


# The runs, by name.


def observed(lab: Lab) -> Sampled:
    (run,) = lab.observe(lab.stub(), ("true", {}), CUDA_VISIBLE_DEVICES="1")
    return run


def sick(lab: Lab) -> Sampled:
    """Of two GPUs that a mask names, one has errors and the other one is lost; two children do nothing."""
    stub = lab.stub()
    uuids = ("GPU-00000002-1111-2222-3333-000000000002", "GPU-00000000")
    training = lab.train(stub, workers="fork", CUDA_VISIBLE_DEVICES=",".join(uuids))
    wait_sampled(training, "gpu_2_utilization_percentage")
    stub.set(2, ecc_1=8)
    stub.lose(0)
    wait_sampled(training, "gpu_2_utilization_percentage", 2)
    return finished(lab, training)


def attributed(lab: Lab) -> Sampled:
    """No mask: the trainer's child is on GPU 2, somebody else is on GPU 0."""
    stub = lab.stub()
    stub.run(0, os.getpid(), megabytes=9000)
    training = lab.train(stub, workers="fork")
    wait_sampled(training, "process_count")
    child = psutil.Process(training.facts["pid"]).children()[0]
    stub.run(2, child.pid, megabytes=1500, sm=40)
    wait_sampled(training, "gpu_2_utilization_percentage")
    return finished(lab, training)


def empty_mask(lab: Lab) -> Sampled:
    """A second process tracks the run, and its recorder takes over from the first."""
    training = lab.train(lab.stub(), workers="fork", CUDA_VISIBLE_DEVICES="")
    wait_sampled(training, "process_count")
    own = {"DOVETAIL_DIR": str(training.folder), "MLFLOW_TRACKING_URI": lab.uri}
    command = [sys.executable, "-c", TRACKER, training.token]
    with subprocess.Popen(command, cwd=training.folder, env=child_environment(**own)) as tracker:
        wait_until(lambda: (training.folder / "tracking").exists() and len(training.recorders()) == 2, "it tracks", 30)
        first, second = sorted(training.recorders(), key=lambda pid: psutil.Process(pid).create_time())
        kill(first)
        wait_sampled(training, "process_count", 2)
        (training.folder / "enough").touch()
        assert tracker.wait(60) == 0
    return finished(lab, training, second=second)


def slow(lab: Lab) -> Sampled:
    """An old driver, of which a call takes 3 s from the first window on."""
    stub = lab.stub(driver="old")
    training = lab.train(stub, CUDA_VISIBLE_DEVICES="0")
    wait_sampled(training, "gpu_0_utilization_percentage")
    stub.slow("nvmlDeviceGetTemperature", 3.0)
    wait_sampled(training, "process_count", 2)
    return finished(lab, training)


def hung(lab: Lab) -> Sampled:
    """Every call that is still made hangs from the first window on: the driver does."""
    stub = lab.stub()
    training = lab.train(stub, CUDA_VISIBLE_DEVICES="0")
    wait_sampled(training, "gpu_0_utilization_percentage")
    for function in ("nvmlDeviceGetUtilizationRates", "nvmlSystemGetDriverVersion", "nvmlShutdown"):
        stub.slow(function, 60.0)
    wait_sampled(training, "process_count", 2)
    return finished(lab, training)


def hung_at_once(lab: Lab) -> Sampled:
    stub = lab.stub()
    stub.slow("nvmlInitWithFlags", 60.0)
    training = lab.train(stub, CUDA_VISIBLE_DEVICES="0")
    wait_sampled(training, "process_count")
    return finished(lab, training)


def recorder_killed(lab: Lab) -> Sampled:
    stub = lab.stub()
    training = lab.train(stub, CUDA_VISIBLE_DEVICES="0")
    wait_sampled(training, "gpu_0_utilization_percentage")
    stub.set(0, energy_millijoules=9_100_000)
    wait_sampled(training, "gpu_0_energy_joules", 2)
    assert training.kill_recorders() == 1
    # The trainer looks after its recorder each 10 s.
    wait_sampled(training, "gpu_0_energy_joules", len(logged(training, "gpu_0_energy_joules")) + 1)
    stub.set(0, energy_millijoules=9_130_000)
    return finished(lab, training)


def trainer_killed(lab: Lab) -> Sampled:
    """There is no driver."""
    training = lab.train()
    wait_sampled(training, "process_count")
    training.process.kill()
    training.wait()
    training.wait_quiet()
    return lab.read(training.token)


def server_away(lab: Lab) -> Sampled:
    """No server, and a driver without a GPU."""
    with socket.socket() as port:
        port.bind(("127.0.0.1", 0))  # nobody listens, and nobody else will
        training = lab.train(lab.stub(0), uri=f"http://127.0.0.1:{port.getsockname()[1]}")
        wait_sampled(training, "process_count")
        stop(training)
        wait_told(training)
        training.kill_recorders()
        training.sync("--tracking-uri", lab.uri)
    return lab.read(training.token)


def switched_off(lab: Lab) -> list[Sampled]:
    return lab.observe(lab.stub(), ("true", {"log_system_metrics": False}), ("false", {}))


def executed(lab: Lab) -> Sampled:
    """`dovetail exec`, whose command logs to the same run; the driver is there and cannot begin."""
    stub = lab.stub()
    stub.no_driver("!999")
    (run,) = lab.observe(stub, ("true", {}), under=f"{sys.executable} -m mlflow_dovetail exec --")
    return run


def resumed(lab: Lab) -> Sampled:
    stub = lab.stub()
    first = lab.train(stub, CUDA_VISIBLE_DEVICES="0")
    wait_sampled(first, "gpu_0_energy_joules")
    stub.set(0, energy_millijoules=9_200_000)
    stop(first)
    wait_told(first)
    before = len(logged(first, "gpu_0_energy_joules"))
    stub.set(0, energy_millijoules=9_900_000)  # somebody else's
    again = {"MLFLOW_RUN_ID": first.facts["run_id"], "DOVETAIL_DIR": str(first.folder)}
    second = lab.train(stub, CUDA_VISIBLE_DEVICES="0", **again)
    wait_sampled(second, "gpu_0_energy_joules", before + 1)
    stub.set(0, energy_millijoules=9_950_000)
    return finished(lab, second)


# The longest begin early; tests ask for them in the order in which they end.
RUNS: tuple[Callable[[Lab], Any], ...] = (
    observed,
    switched_off,
    sick,
    recorder_killed,
    attributed,
    executed,
    empty_mask,
    resumed,
    hung,
    slow,
    hung_at_once,
    server_away,
    trainer_killed,
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, uri: str) -> Iterator[Callable[[Callable[[Lab], Any]], Any]]:
    """`runs(sick)` is that run, when it is over."""
    folder = tmp_path_factory.mktemp("watched")
    with ExitStack() as stack:
        try:
            lab = Lab(folder, uri, stack)
        except FileNotFoundError as missing:
            pytest.skip(str(missing))
        MlflowClient(uri).search_experiments()  # the schema is made once
        pool = ThreadPoolExecutor(AT_ONCE)
        stack.callback(pool.shutdown, cancel_futures=True)
        futures: dict[str, Future[Any]] = {run.__name__: pool.submit(run, lab) for run in RUNS}
        yield lambda run: futures[run.__name__].result(timeout=120)


def test_a_short_run_has_mlflows_names_in_its_units_from_its_begin_to_its_end(runs):
    run = runs(observed)
    for name, value in MLFLOW_GPU_NAMES.items():
        assert {one for _, one in run.series[f"gpu_1_{name}"]} == {value}, name
        assert len(run.series[f"gpu_1_{name}"]) >= 2
    assert all(len(run.series[name]) >= 2 for name in MLFLOW_HOST_NAMES - {"cpu_utilization_percentage"})
    assert run.series["cpu_utilization_percentage"], "a rate needs half a second"
    used, percent = (run.series[f"system_memory_usage_{unit}"][-1][1] for unit in ("megabytes", "percentage"))
    assert 100 * used / percent == pytest.approx(psutil.virtual_memory().total / 1e6, rel=0.01)


def test_steps_are_seconds_since_the_runs_start_and_the_last_sample_is_at_the_end(runs):
    run = runs(observed)
    run.assert_one_series()
    seconds = run.told["leaving"] - run.told["begin"]
    for key in ("gpu_1_temperature_celsius", "process_threads"):
        first, *_, last = run.steps(key)
        assert 0 <= first < last
        assert seconds - 2 <= last <= seconds + END_SECONDS


def test_the_store_has_all_of_it_when_the_block_has_been_left(runs):
    run = runs(observed)
    there = run.told["metrics"]
    assert {key: points[-1][1] for key, points in run.series.items()} == {
        key.removeprefix("system/"): value for key, value in there.items() if key.startswith("system/")
    }
    assert {key: value for key, value in run.told["tags"].items() if key.startswith("dovetail.gpu")} == {
        key: value for key, value in run.tags.items() if key.startswith("dovetail.gpu")
    }
    assert run.told["left"] - run.told["leaving"] < END_SECONDS


def test_only_the_gpu_of_a_mask_by_index_and_what_is_known_of_it(runs):
    run = runs(observed)
    assert run.gpus() == {"gpu_1"}
    uuid = "GPU-00000001-1111-2222-3333-000000000001"
    assert json.loads(run.tags["dovetail.gpu.devices"]) == {"gpu_1": {"uuid": uuid, "name": "NVIDIA Stub 80GB"}}
    assert run.tags["dovetail.gpu.driver"] == "570.86.15, CUDA 12.8"
    assert run.tags["dovetail.gpu.chosen"] == "mask"
    (device,) = run.summary["devices"]["gpus"]
    assert (device["uuid"], device["memory_total_megabytes"]) == (uuid, 80_000)
    stat = run.summary["metrics"]["system/gpu_1_power_usage_watts"]
    assert (stat["mean"], stat["minimum"], stat["maximum"], stat["last"]) == (350, 350, 350, 350)
    assert stat["seconds"] == pytest.approx(run.told["leaving"] - run.told["begin"], abs=END_SECONDS)


def test_a_healthy_run_is_without_advice_and_its_status_is_ok(runs):
    run = runs(observed)
    assert (run.tags["dovetail.status.gpu"], run.tags["dovetail.status.host"]) == ("ok", "ok")
    assert (run.tags["dovetail.advice"], run.summary["advice"]) == ("", [])


def test_the_best_values_and_the_runs_last_step_know_nothing_of_the_machine(runs):
    run = runs(observed)
    metrics = run.told["metrics"]
    assert [key for key in metrics if key.startswith("best/")] == ["best/loss"]
    assert json.loads(run.tags["dovetail.best"]) == {"loss": {"value": 0.8, "step": 2}}
    assert run.steps("process_count")[-1] > 2 and run.told["best_step"] == 2


def test_the_trainer_loads_nothing_of_it_and_has_no_thread_for_it(runs):
    told = runs(observed).told
    assert told["loaded"] == []
    assert told["threads"] == runs(switched_off)[0].told["threads"]
    assert told["recorder_threads"] == 3


@pytest.mark.parametrize("number", [0, 1])
def test_a_run_that_wants_none_has_none(runs, number):
    run = runs(switched_off)[number]
    assert (run.series, run.summary, run.told["recorder_threads"]) == ({}, {}, 1)
    ours = ("dovetail.gpu.", "dovetail.advice", "dovetail.status.gpu", "dovetail.status.host")
    assert not [tag for tag in run.tags if tag.startswith(ours)]


def test_errors_of_a_gpu_are_the_advice_and_the_loss_of_another_the_status(runs):
    run = runs(sick)
    assert run.gpus() == {"gpu_0", "gpu_2"}
    assert run.tags["dovetail.advice"].startswith("GPU 2: ")
    assert "ECC could not correct" in run.tags["dovetail.advice"]
    assert run.summary["advice"][0]["rule"] == "ecc_uncorrected"
    assert run.tags["dovetail.status.gpu"] == "degraded: GPU 0 was lost ×1"
    assert run.tags["dovetail.status.host"] == "ok"
    assert set(json.loads(run.tags["dovetail.gpu.devices"])) == {"gpu_0", "gpu_2"}
    of_lost, of_other = run.series["gpu_0_temperature_celsius"], run.series["gpu_2_temperature_celsius"]
    assert len(of_lost) < len(of_other) and len(run.series["process_count"]) >= 3


def test_a_runs_children_are_in_what_its_processes_use(runs):
    run = runs(sick)
    counts = [value for _, value in run.series["process_count"]]
    assert 3 in counts, "the trainer and its two children"


def test_without_a_mask_the_gpu_on_which_the_run_is_and_no_other(runs):
    run = runs(attributed)
    assert run.gpus() == {"gpu_2"}
    assert (run.tags["dovetail.gpu.chosen"], list(json.loads(run.tags["dovetail.gpu.devices"]))) == (
        "processes",
        ["gpu_2"],
    )
    assert len(run.series["gpu_2_utilization_percentage"]) >= 2
    assert {value for _, value in run.series["gpu_2_process_memory_megabytes"]} == {1500}


def test_a_command_that_logs_to_its_own_run_is_sampled_once(runs):
    run = runs(executed)
    run.assert_one_series()
    assert (run.status, run.tags["dovetail.status.journal"]) == ("FINISHED", "ok")
    assert len(run.series["process_count"]) >= 2
    assert max(value for _, value in run.series["process_count"]) >= 2, "`dovetail exec` and its command"


def test_a_driver_that_cannot_begin_is_told(runs):
    run = runs(executed)
    assert run.gpus() == set()
    assert run.tags["dovetail.status.gpu"].startswith("degraded: NVIDIA's driver cannot be asked")
    assert run.tags["dovetail.status.host"] == "ok"


def test_an_empty_mask_leaves_no_gpu_and_a_second_process_no_second_series(runs):
    run = runs(empty_mask)
    run.assert_one_series()
    assert (run.gpus(), run.tags["dovetail.status.gpu"]) == (set(), "ok")
    assert not [tag for tag in run.tags if tag.startswith("dovetail.gpu.")]
    assert (run.status, run.tags["dovetail.status.journal"]) == ("FINISHED", "ok")
    assert len(run.series["process_count"]) >= 3
    # The second process began later, and its recorder took over: it is still the trainer that is watched.
    assert run.series["process_count"][-1][1] == 3


def test_after_its_recorders_death_another_goes_on_with_the_same_series(runs):
    run = runs(recorder_killed)
    run.assert_one_series()
    assert (run.status, run.tags["dovetail.status.journal"]) == ("FINISHED", "ok")
    for key in ("gpu_0_utilization_percentage", "process_count"):
        assert len(run.series[key]) >= 3
    energy = [value for _, value in run.series["gpu_0_energy_joules"]]
    assert energy == sorted(energy) and energy[-1] == 130, energy
    assert run.series["gpu_energy_joules_total"][-1][1] == run.summary["totals"]["gpu_energy_joules_total"] == 130
    assert "dovetail.advice" in run.tags and "dovetail.gpu.devices" in run.tags


def test_a_resumed_run_goes_on_with_its_series_and_totals(runs):
    run = runs(resumed)
    run.assert_one_series()
    energy = [value for _, value in run.series["gpu_0_energy_joules"]]
    assert energy == sorted(energy) and energy[-1] == 250, energy
    assert [value for _, value in run.series["gpu_energy_joules_total"]] == [200, 250]
    assert run.summary["totals"]["gpu_energy_joules_total"] == 250
    assert "system/gpu_energy_joules_total" not in run.summary["metrics"]


def test_of_a_driver_that_hangs_is_kept_what_was_known_before(runs):
    run = runs(hung)
    assert len(run.series["gpu_0_utilization_percentage"]) == 1
    assert run.tags["dovetail.gpu.driver"] == "570.86.15, CUDA 12.8"
    assert list(json.loads(run.tags["dovetail.gpu.devices"])) == ["gpu_0"]


@pytest.mark.parametrize("which", [slow, hung, hung_at_once])
def test_a_driver_that_hangs_costs_neither_the_host_nor_the_trainer_and_is_told(runs, which):
    run = runs(which)
    hosts = run.steps("process_count")
    assert len(hosts) >= 2 and run.tags["dovetail.status.host"] == "ok"
    assert run.told["ending"] < HELD_SECONDS + 3 * runs(sick).told["ending"], "three: the machine has other work"
    assert "was not answered in time" in run.tags["dovetail.status.gpu"]
    assert (run.status, run.tags["dovetail.status.journal"]) == ("FINISHED", "ok")
    assert run.tags["dovetail.advice"] == "" and run.summary["metrics"]


def test_an_old_driver_gives_what_it_has(runs):
    run = runs(slow)
    for name, value in MLFLOW_GPU_NAMES.items():
        assert {one for _, one in run.series[f"gpu_0_{name}"]} == {value}, name


def test_without_a_server_all_of_it_is_kept_and_sent_later_and_without_a_gpu_nothing_is_amiss(runs):
    run = runs(server_away)
    run.assert_one_series()
    assert run.status == "FINISHED" and len(run.series["process_count"]) >= 2
    assert run.summary["metrics"]["system/process_count"]["last"] == run.series["process_count"][-1][1]
    assert (run.gpus(), run.tags["dovetail.status.gpu"], run.tags["dovetail.advice"]) == (set(), "ok", "")


def test_after_the_trainers_death_the_recorder_looks_once_more(runs):
    run = runs(trainer_killed)
    run.assert_one_series()
    assert (run.status, run.tags["dovetail.end.cause"]) == ("FAILED", "vanished")
    assert len(run.series["system_memory_usage_megabytes"]) >= 2
    assert len(run.series["process_count"]) == len(run.series["system_memory_usage_megabytes"]) - 1
    assert (run.tags["dovetail.status.host"], run.tags["dovetail.advice"]) == ("ok", "")


@pytest.mark.skipif(util.find_library("nvidia-ml") is not None, reason="NVIDIA's driver is here")
def test_without_a_driver_nothing_is_amiss(runs):
    run = runs(trainer_killed)
    assert (run.gpus(), run.tags["dovetail.status.gpu"]) == (set(), "ok")


class Late:
    """A source that has nothing to tell at first, and a trouble all the time."""

    name, maxima = "late", frozenset[str]()

    def __init__(self) -> None:
        self.polls = 0

    def poll(self) -> dict[str, float]:
        self.polls += 1
        return {"polled": 1.0} if self.polls > 3 else {}

    def close_window(self) -> dict[str, float]:
        return {"closed": 1.0} if self.polls > 3 else {}

    def troubles(self) -> dict[str, int]:
        return {}


def test_the_first_values_end_a_window_and_windows_without_any_are_told_too(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sampling, "POLL_SECONDS", 0.01)
    source, windows, failures = Late(), [], []
    one = sampling.Sampling(source, windows.append, failures.append)
    one.start()
    wait_until(lambda: source.polls > 6, "it is polled", 4)  # less than a window
    assert windows == [{}, {"polled": 1.0, "closed": 1.0}]
    one.stop()
    assert one.join(5) and len(windows) == 3 and failures == []
