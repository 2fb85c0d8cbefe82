"""Which GPUs are the run's: by the mask, by its processes, and else all."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from mlflow_dovetail.system_metrics import attribution
from mlflow_dovetail.system_metrics.attribution import PATIENCE_SECONDS, Attribution
from mlflow_dovetail.system_metrics.gpu import GpuSource

from .nvml_stub import NvmlStub

# Says its own number and those of the two children that it starts, and waits to be told to end.
TRAINER = """
import os, subprocess, sys
wait = "import sys; sys.stdin.read()"
children = [subprocess.Popen([sys.executable, "-c", wait], stdin=subprocess.PIPE) for _ in range(int(sys.argv[1]))]
print(os.getpid(), *(child.pid for child in children), flush=True)
sys.stdin.read()
for child in children:
    child.communicate()
"""


def test_a_mask_is_believed_at_once() -> None:
    chosen = Attribution(["gpu_1", "gpu_2"], declared=True, since=100.0)
    assert (chosen.reported(100.0), chosen.how) == (("gpu_1", "gpu_2"), "mask")
    chosen.saw(["gpu_1"])
    assert (chosen.reported(200.0), chosen.how) == (("gpu_1", "gpu_2"), "mask")


def test_processes_decide_and_more_may_come() -> None:
    chosen = Attribution(["gpu_0", "gpu_1", "gpu_2"], declared=False, since=100.0)
    assert (chosen.reported(100.0), chosen.how) == ((), "undecided")
    chosen.saw([])
    assert chosen.how == "undecided"
    chosen.saw(["gpu_2"])
    assert (chosen.reported(101.0), chosen.how) == (("gpu_2",), "processes")
    chosen.saw(["gpu_0"])
    assert chosen.reported(102.0) == ("gpu_0", "gpu_2")
    chosen.saw([])
    assert chosen.reported(300.0) == ("gpu_0", "gpu_2")


def test_after_some_patience_all_are_reported_until_a_process_is_seen() -> None:
    chosen = Attribution(["gpu_0", "gpu_1"], declared=False, since=100.0)
    assert chosen.reported(100.0 + PATIENCE_SECONDS - 0.1) == ()
    assert (chosen.reported(100.0 + PATIENCE_SECONDS), chosen.how) == (("gpu_0", "gpu_1"), "visible")
    chosen.saw(["gpu_1"])
    assert (chosen.reported(130.0), chosen.how) == (("gpu_1",), "processes")


def test_at_the_end_there_is_no_more_waiting() -> None:
    chosen = Attribution(["gpu_0", "gpu_1"], declared=False, since=100.0)
    chosen.decide()
    assert (chosen.reported(101.0), chosen.how) == (("gpu_0", "gpu_1"), "visible")


@pytest.fixture
def trainers() -> Iterator[list[list[int]]]:
    """Two programs, the first with two children: the numbers of each, its own first."""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", TRAINER, str(children)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for children in (2, 0)
    ]
    yield [[int(number) for number in one.stdout.readline().split()] for one in started if one.stdout]
    for one in started:
        one.communicate(timeout=20)


def tree(pid: int) -> list[int]:
    root = psutil.Process(pid)
    return [pid, *(child.pid for child in root.children(recursive=True))]


def gpus(reading: object) -> set[str]:
    return {str(key)[:5] for key in reading}  # type: ignore[attr-defined]


def test_two_runs_on_one_host_each_have_their_own_gpus(loaded_stub: NvmlStub, trainers: list[list[int]]) -> None:
    (first, child, other_child), (second,) = trainers
    for index in range(4):
        loaded_stub.add_gpu(index)
    loaded_stub.run(0, second, megabytes=700, sm=11)
    mine = GpuSource({}, lambda: tree(first))
    others = GpuSource({}, lambda: tree(second))
    assert (mine.poll(), mine.attribution) == ({}, "undecided")
    assert gpus(others.poll()) == {"gpu_0"}
    # A child computes on GPU 2, where the other run is too, and both computes and draws on it.
    loaded_stub.run(2, child, megabytes=1500, sm=31)
    loaded_stub.run(2, child, megabytes=1500, sm=31, kind="graphics")
    loaded_stub.run(2, other_child, megabytes=250, sm=7)
    loaded_stub.run(2, second, megabytes=9000, sm=42)
    assert gpus(mine.poll()) == {"gpu_2"}
    window = mine.close_window()
    assert gpus(window) == {"gpu_2"}
    assert window["gpu_2_process_memory_megabytes"] == 1750
    assert window["gpu_2_process_sm_utilization_percentage"] == 38
    # The other run is seen to have come to GPU 2 when its window closes.
    window = others.close_window()
    assert gpus(window) == {"gpu_0", "gpu_2"}
    assert (window["gpu_0_process_memory_megabytes"], window["gpu_2_process_memory_megabytes"]) == (700, 9000)
    assert (mine.attribution, others.attribution) == ("processes", "processes")
    assert [gpu["uuid"][:12] for gpu in mine.describe()["gpus"]] == ["GPU-00000002"]
    # Its process leaves: the GPU is still the run's, the process has no memory there.
    loaded_stub.end(child)
    loaded_stub.end(other_child)
    window = mine.close_window()
    assert gpus(window) == {"gpu_2"}
    assert "gpu_2_process_memory_megabytes" not in window


def test_a_run_that_is_never_seen_has_what_nobody_else_is_on(
    loaded_stub: NvmlStub, monkeypatch: pytest.MonkeyPatch, trainers: list[list[int]]
) -> None:
    (first, *_), (second,) = trainers
    loaded_stub.add_gpu(0)
    loaded_stub.add_gpu(1)
    loaded_stub.run(1, second, megabytes=700)
    source = GpuSource({}, lambda: tree(first))
    assert source.poll() == source.close_window() == {}
    monkeypatch.setattr(attribution, "PATIENCE_SECONDS", 0.0)
    assert gpus(source.poll()) == {"gpu_0"}
    assert source.attribution == "visible"
    # Late, yet seen.
    loaded_stub.run(1, first, megabytes=600)
    assert gpus(source.close_window()) == gpus(source.poll()) == {"gpu_1"}


def test_a_short_run_has_its_values_at_the_end(loaded_stub: NvmlStub) -> None:
    loaded_stub.add_gpu(0)
    source = GpuSource({}, lambda: [1])
    assert source.poll() == {}
    loaded_stub.set(0, energy_millijoules=9_000_000 + 45_000)
    source.decide()
    assert source.poll()["gpu_0_utilization_percentage"] == 61
    # Counted from the first call, when nothing was reported yet.
    assert source.close_window()["gpu_0_energy_joules"] == 45
    assert source.attribution == "visible"


def test_a_declared_gpu_is_reported_without_a_process(loaded_stub: NvmlStub, tmp_path: Path) -> None:
    loaded_stub.add_gpu(0)
    loaded_stub.add_gpu(1)
    source = GpuSource({"CUDA_VISIBLE_DEVICES": "1"}, list)
    assert gpus(source.poll()) == gpus(source.close_window()) == {"gpu_1"}
    assert source.describe()["attribution"] == "mask"
