"""A real recorder samples the machine beside real trainers, on a stub of NVIDIA's library, whatever happens to either.

The runs are made once, some at a time, because they wait most of the time; each test looks at one of them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from ctypes import util
from typing import Any

import psutil
import pytest
from faults.training import wait_until
from mlflow import MlflowClient
from sampled_runs import (
    RUNS,
    attributed,
    empty_mask,
    executed,
    hung,
    hung_at_once,
    observed,
    recorder_killed,
    resumed,
    server_away,
    sick,
    slow,
    switched_off,
    trainer_killed,
)
from sampling_lab import Lab

from mlflow_dovetail.system_metrics import sampling

if not sys.platform.startswith("linux"):
    pytest.skip("/proc and LD_LIBRARY_PATH are Linux's", allow_module_level=True)

AT_ONCE = 4
# Of a run's end, which takes 10 s at most on a machine that is not overloaded.
END_SECONDS = 11.0
# A hung driver may hold the end so much longer than a healthy one.
HELD_SECONDS = 2.0
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
