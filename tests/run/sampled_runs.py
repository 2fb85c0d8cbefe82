"""The runs of test_system_watch.py: each makes one, does something to it, and gives it as MLflow has it at last."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import psutil
from faults.training import child_environment, kill, wait_until
from sampling_lab import Lab, Sampled, finished, logged, stop, wait_sampled, wait_told

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
