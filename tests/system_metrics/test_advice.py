"""What held a run back is said in one sentence with its evidence; of a healthy run, or a short one, nothing is."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import configuration, given, settings
from hypothesis import strategies as st

from mlflow_dovetail.records import TrainingSpeed
from mlflow_dovetail.system_metrics import hardware_rules, speed_rules, wording
from mlflow_dovetail.system_metrics.advice import RULES, HostFacts, advise, rules_table, sentence
from mlflow_dovetail.system_metrics.gpu_fields import MAXIMA, METRICS
from mlflow_dovetail.system_metrics.host import FIELDS, HostSource
from mlflow_dovetail.system_metrics.records import Finding, Gpu, Stat, Summary

HOST = HostFacts(16, 16, 128_000_000_000, 64_000_000_000, sees_gpu_processes=True)
SECONDS = 900.0


@pytest.fixture(autouse=True, scope="module")
def no_database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    configuration.set_hypothesis_home_dir(tmp_path_factory.mktemp("hypothesis"))
    yield
    configuration.set_hypothesis_home_dir(None)


same_each_time = settings(max_examples=300, derandomize=True, database=None, deadline=None)


def gpu(index: int = 0, mig: int | None = None) -> Gpu:
    return Gpu(index, f"GPU-{index}", "NVIDIA H100", f"0000:{index:02x}:00.0", mig)


def still(value: float, seconds: float = SECONDS) -> Stat:
    """A metric that never changed."""
    return Stat(value, value, value, value, seconds)


def between(low: float, high: float) -> Stat:
    return Stat((low + high) / 2, low, high, high, SECONDS)


# A training as it should be.
GPU = {
    "utilization_percentage": between(70, 98), "memory_usage_percentage": between(50, 60),
    "memory_usage_megabytes": between(40_000, 48_000), "memory_usage_megabytes_max": between(41_000, 50_000),
    "memory_total_megabytes": still(80_000, 1), "throttle_thermal_percentage": still(0),
    "throttle_power_cap_percentage": between(5, 40), "throttle_power_brake_percentage": still(0),
    "throttle_hw_slowdown_percentage": still(0), "ecc_uncorrected_errors": still(2),
    "ecc_corrected_errors": between(40, 41), "pcie_generation": between(1, 5), "pcie_generation_maximum": still(5, 1),
    "pcie_width_lanes": still(16), "pcie_width_maximum_lanes": still(16, 1),
    "sm_clock_megahertz": between(1_400, 1_600), "sm_clock_maximum_megahertz": still(2_000, 1),
    "temperature_celsius": between(50, 66),
    "temperature_celsius_max": between(50, 70), "process_memory_megabytes": between(40_000, 47_000),
}  # fmt: skip
MACHINE = {
    "cpu_utilization_percentage": still(22), "process_cpu_utilization_percentage": still(310),
    "system_memory_usage_percentage": between(30, 41), "system_memory_usage_percentage_max": between(31, 44),
    "memory_usage_of_limit_percentage": between(50, 71), "swap_usage_megabytes": still(800),
    "swap_in_megabytes_per_second": between(0, 0.1), "pressure_memory_full_percentage": still(0),
    "pressure_io_full_percentage": still(0.4), "disk_usage_percentage": between(60, 61),
    "disk_available_megabytes": between(390_000, 400_000),
}  # fmt: skip
SPEED = TrainingSpeed(0, 1_200, 76_800, 828.0, 24.0, 3.0, 40.0, 2)


def summary_of(*gpus: Gpu, **changes: Any) -> dict[str, Stat]:
    """A healthy run's metrics, then what is changed: a number, a Stat, or None for absent; of all GPUs, or the host."""
    metrics = {**{f"{one.key}_{field}": stat for one in gpus for field, stat in GPU.items()}, **MACHINE}
    for name, value in changes.items():
        keys = [f"{one.key}_{name}" for one in gpus] if name in GPU else [name]
        for key in keys:
            metrics.pop(key, None)
            if value is not None:
                metrics[key] = value if isinstance(value, Stat) else still(value)
    return metrics


def per_step(rank: int = 0, workers: int | None = 2, steps: int = 1_200, validation: float = 40, **spent: float):
    """A rank's speed from the seconds of a step: `step`, `data`, `logging`."""
    step, data, logging = spent.get("step", 0.69), spent.get("data", 0.02), spent.get("logging", 0.002)
    return TrainingSpeed(rank, steps, steps * 32, steps * step, steps * data, steps * logging, validation, workers)


def say(summary: Summary, *speeds: TrainingSpeed, gpus: tuple[Gpu, ...] = (gpu(),), host: HostFacts = HOST):
    return {finding.rule: finding.sentence for finding in advise(host, summary, speeds, gpus)}


def test_the_sentence_of_the_issue() -> None:
    findings = advise(HOST, summary_of(gpu(), utilization_percentage=39), [per_step(data=0.42)], [gpu()])
    assert [finding.rule for finding in findings] == ["data_loading"]
    assert sentence(findings) == (
        "GPU 0 idle 61 % of the time: loading took 0.42 s of each 0.69 s step; 2 workers on a 16-core host."
    )
    assert findings[0].weight == pytest.approx(0.56, abs=0.01)  # 0.42 s of 1,200 steps, in 900 s


HEALTHY: dict[str, tuple[Summary, list[TrainingSpeed], list[Gpu], HostFacts]] = {
    "a busy GPU": (summary_of(gpu()), [SPEED], [gpu()], HOST),
    "eight busy GPUs": (
        summary_of(*map(gpu, range(8))), [replace(SPEED, rank=i) for i in range(8)], [*map(gpu, range(8))], HOST,
    ),
    "a MIG instance, of which NVML tells little": (
        {"gpu_0_mig_1_memory_usage_megabytes": between(5_000, 6_000), "gpu_0_mig_1_memory_total_megabytes":
         still(10_000), "gpu_0_mig_1_process_memory_megabytes": still(5_000), **MACHINE},
        [SPEED], [gpu(0, 1)], HOST,
    ),
    "digits on the CPU, 3 s": (
        {"cpu_utilization_percentage": still(96, 3), "process_cpu_utilization_percentage": still(101, 3),
         "system_memory_usage_percentage": still(97, 3), "disk_usage_percentage": still(98, 3),
         "disk_available_megabytes": still(3_000, 3)},
        [TrainingSpeed(0, 60, 3_840, 2.4, 1.9, 0.2, 0.5, 0)], [], HostFacts(2, 2),
    ),
    "an hour on the CPU, without workers": (MACHINE, [per_step(data=0.2, workers=0)], [], HOST),
    "a week": (
        {key: replace(stat, seconds=604_800) for key, stat in summary_of(gpu()).items()},
        [per_step(steps=876_000, validation=20_000)], [gpu()], HOST,
    ),
    "a memory that JAX has taken in advance": (
        summary_of(gpu(), memory_usage_megabytes_max=75_000, memory_usage_percentage=93), [SPEED], [gpu()], HOST,
    ),
    "a small model that is tried for five minutes": (
        {key: replace(stat, seconds=300) for key, stat in
         summary_of(gpu(), memory_usage_megabytes=3_000, memory_usage_megabytes_max=3_000).items()},
        [per_step(steps=400)], [gpu()], HOST,
    ),
    "a dense training at the power limit of a good card": (
        summary_of(gpu(), throttle_power_cap_percentage=97), [SPEED], [gpu()], HOST,
    ),
    "loading that the GPU hides behind its work": (summary_of(gpu()), [per_step(data=0.5)], [gpu()], HOST),
    "another program without Lightning": (summary_of(gpu(), utilization_percentage=40), [], [gpu()], HOST),
    "a GPU that nobody knows the users of": (
        summary_of(gpu(), process_memory_megabytes=None, utilization_percentage=0), [SPEED], [gpu()],
        replace(HOST, sees_gpu_processes=False),
    ),
    "nothing was measured": ({}, [SPEED], [gpu()], HostFacts()),
    "nothing at all": ({}, [], [], HostFacts()),
}  # fmt: skip


@pytest.mark.parametrize("case", HEALTHY)
def test_a_healthy_run_is_silent(case: str) -> None:
    summary, speeds, gpus, host = HEALTHY[case]
    assert advise(host, summary, speeds, gpus) == []
    assert sentence([]) == ""


IDLE = {"utilization_percentage": 39}
NO_GPU = {"utilization_percentage": None}
UNNAMED = "GPU 0 idle 61 % of the time"
# Rule, what is changed of the healthy run, the speed, and what is said: at each threshold, and on its quiet side.
CASES: list[tuple[str, dict[str, Any], TrainingSpeed, str | None]] = [
    ("data_loading", {"utilization_percentage": 70}, per_step(data=0.35),
     "GPU 0 idle 30 % of the time: loading took 0.35 s of each 0.69 s step; 2 workers on a 16-core host."),
    ("data_loading", {"utilization_percentage": 70.1}, per_step(data=0.35), None),
    ("data_loading", {"utilization_percentage": 65}, per_step(data=0.1381),
     "GPU 0 idle 35 % of the time: loading took 0.14 s of each 0.69 s step; 2 workers on a 16-core host."),
    ("data_loading", {"utilization_percentage": 65}, per_step(data=0.1379), None),
    ("data_loading", {"utilization_percentage": 20}, per_step(data=0.3001),
     "GPU 0 idle 80 % of the time: loading took 0.3 s of each 0.69 s step; 2 workers on a 16-core host."),
    ("data_loading", {"utilization_percentage": 20}, per_step(data=0.2999), None),
    ("data_loading", IDLE, per_step(data=0.42, workers=1), f"{UNNAMED}: loading took 0.42 s of each 0.69 s step; "
     "1 worker on a 16-core host."),
    ("data_loading", IDLE, per_step(data=0.42, workers=0), f"{UNNAMED}: loading took 0.42 s of each 0.69 s step; "
     "0 workers on a 16-core host."),
    ("data_loading", IDLE, per_step(data=0.42, workers=None), f"{UNNAMED}: loading took 0.42 s of each 0.69 s step."),
    ("data_loading", IDLE, per_step(data=0.0042, step=0.0069, steps=120_000),
     f"{UNNAMED}: loading took 4.2 ms of each 6.9 ms step; 2 workers on a 16-core host."),
    ("data_loading", NO_GPU, per_step(data=0.2761),
     "Loading took 0.28 s of each 0.69 s step; 2 workers on a 16-core host."),
    ("data_loading", NO_GPU, per_step(data=0.2759), None),
    ("logging", {"utilization_percentage": 70}, per_step(logging=0.35),
     "GPU 0 idle 30 % of the time: logging took 0.35 s of each 0.69 s step; log less often."),
    ("logging", {"utilization_percentage": 70.1}, per_step(logging=0.35), None),
    ("logging", {"utilization_percentage": 65}, per_step(logging=0.1381),
     "GPU 0 idle 35 % of the time: logging took 0.14 s of each 0.69 s step; log less often."),
    ("logging", {"utilization_percentage": 65}, per_step(logging=0.1379), None),
    ("logging", {"utilization_percentage": 20}, per_step(logging=0.2999), None),
    ("logging", NO_GPU, per_step(logging=0.5), None),
    ("validation", {"utilization_percentage": 70}, per_step(validation=300),
     "GPU 0 idle 30 % of the time: validation took 300 s of the training's 1128 s; validate less often, or give it "
     "workers."),
    ("validation", {"utilization_percentage": 70.1}, per_step(validation=300), None),
    ("validation", {"utilization_percentage": 65}, per_step(validation=207.1),
     "GPU 0 idle 35 % of the time: validation took 207 s of the training's 1035 s; validate less often, or give it "
     "workers."),
    ("validation", {"utilization_percentage": 65}, per_step(validation=206.9), None),
    ("validation", {"utilization_percentage": 20}, per_step(validation=359), None),
    ("validation", NO_GPU, per_step(validation=500), None),
    ("cpu_bound", {**IDLE, "process_cpu_utilization_percentage": 98}, SPEED,
     f"{UNNAMED}: the run kept one core at 98 % on a 16-core host; larger batches or compiled code help."),
    ("cpu_bound", {**IDLE, "process_cpu_utilization_percentage": 80}, SPEED,
     f"{UNNAMED}: the run kept one core at 80 % on a 16-core host; larger batches or compiled code help."),
    ("cpu_bound", {**IDLE, "process_cpu_utilization_percentage": 120}, SPEED,
     f"{UNNAMED}: the run kept one core at 120 % on a 16-core host; larger batches or compiled code help."),
    ("cpu_bound", {**IDLE, "process_cpu_utilization_percentage": 79.9}, SPEED, None),
    ("cpu_bound", {**IDLE, "process_cpu_utilization_percentage": 120.1}, SPEED, None),
    ("cpu_bound", {**IDLE, "process_cpu_utilization_percentage": None}, SPEED, None),
    ("cpu_bound", {"process_cpu_utilization_percentage": 98}, SPEED, None),
    ("cpu_bound", {**IDLE, "process_cpu_utilization_percentage": 98}, per_step(validation=206.9),
     f"{UNNAMED}: the run kept one core at 98 % on a 16-core host; larger batches or compiled code help."),
    ("cpu_bound", {**IDLE, "process_cpu_utilization_percentage": 98}, per_step(validation=207.1), None),
    ("cpu_bound", {**IDLE, "process_cpu_utilization_percentage": 98}, per_step(data=0.1381), None),
    ("cpu_bound", {**IDLE, "process_cpu_utilization_percentage": 98}, per_step(logging=0.1381), None),
    ("thermal_throttling", {"throttle_thermal_percentage": 5, "temperature_celsius_max": between(60, 91)}, SPEED,
     "GPU 0: heat held the clocks down 5 % of the time, at up to 91 °C; see to its cooling."),
    ("thermal_throttling", {"throttle_thermal_percentage": 23.4, "temperature_celsius_max": None}, SPEED,
     "GPU 0: heat held the clocks down 23 % of the time, at up to 66 °C; see to its cooling."),
    ("thermal_throttling", {"throttle_thermal_percentage": 23.4, "temperature_celsius_max": None,
     "temperature_celsius": None}, SPEED, "GPU 0: heat held the clocks down 23 % of the time; see to its cooling."),
    ("thermal_throttling", {"throttle_thermal_percentage": 4.9}, SPEED, None),
    ("power_brake", {"throttle_power_brake_percentage": 1}, SPEED,
     "GPU 0: the power supply held the clocks down 1 % of the time; check it and its cables."),
    ("power_brake", {"throttle_power_brake_percentage": 0.9}, SPEED, None),
    ("hw_slowdown", {"throttle_hw_slowdown_percentage": 5}, SPEED,
     "GPU 0: the hardware held the clocks down 5 % of the time; check cooling and power supply."),
    ("hw_slowdown", {"throttle_hw_slowdown_percentage": 4.9}, SPEED, None),
    ("thermal_throttling", {"throttle_thermal_percentage": 23, "throttle_hw_slowdown_percentage": 23}, SPEED,
     "GPU 0: heat held the clocks down 23 % of the time, at up to 70 °C; see to its cooling."),
    ("power_brake", {"throttle_power_brake_percentage": 23, "throttle_hw_slowdown_percentage": 23}, SPEED,
     "GPU 0: the power supply held the clocks down 23 % of the time; check it and its cables."),
    ("power_cap", {"throttle_power_cap_percentage": 50, "sm_clock_megahertz": 1_400}, SPEED,
     "GPU 0: the power limit held the clocks down 50 % of the time, to 70 % of the highest in the mean."),
    ("power_cap", {"throttle_power_cap_percentage": 49.9, "sm_clock_megahertz": 1_400}, SPEED, None),
    ("power_cap", {"throttle_power_cap_percentage": 97, "sm_clock_megahertz": 1_401}, SPEED, None),
    ("power_cap", {"throttle_power_cap_percentage": 97, "sm_clock_megahertz": None}, SPEED, None),
    ("power_cap", {"throttle_power_cap_percentage": 97, "sm_clock_megahertz": 900, "sm_clock_maximum_megahertz": None},
     SPEED, None),
    ("gpu_memory_full", {"memory_usage_megabytes_max": 76_000}, SPEED,
     "GPU 0: memory 95 % full (76 of 80 GB) at the peak; a larger batch may not fit."),
    ("gpu_memory_full", {"memory_usage_megabytes_max": None, "memory_usage_megabytes": between(5, 79_600)}, SPEED,
     "GPU 0: memory 100 % full (80 of 80 GB) at the peak; a larger batch may not fit."),
    ("gpu_memory_full", {"memory_usage_megabytes_max": 75_990}, SPEED, None),
    ("gpu_memory_full", {"memory_usage_megabytes_max": 76_000, "memory_total_megabytes": None}, SPEED, None),
    ("gpu_memory_full", {"memory_usage_megabytes_max": 76_000, "memory_total_megabytes": 0}, SPEED, None),
    ("gpu_memory_unused", {"memory_usage_megabytes": 9_000, "memory_usage_megabytes_max": 9_640}, SPEED,
     "GPU 0: memory 12 % full (9.6 of 80 GB) at the peak; a larger batch would fit."),
    ("gpu_memory_unused", {"memory_usage_megabytes_max": 23_990}, SPEED,
     "GPU 0: memory 30 % full (24 of 80 GB) at the peak; a larger batch would fit."),
    ("gpu_memory_unused", {"memory_usage_megabytes_max": 24_000}, SPEED, None),
    ("gpu_memory_unused", {"memory_usage_megabytes_max": 9_640, "utilization_percentage": 50}, SPEED,
     "GPU 0: memory 12 % full (9.6 of 80 GB) at the peak; a larger batch would fit."),
    ("gpu_memory_unused", {"memory_usage_megabytes_max": 9_640, "utilization_percentage": 49.9}, SPEED, None),
    ("gpu_memory_unused", {"memory_usage_megabytes_max": 9_640, **NO_GPU}, SPEED, None),
    ("gpu_memory_unused", {"memory_usage_megabytes_max": 9_640, "memory_usage_megabytes": still(9_000, 600)}, SPEED,
     "GPU 0: memory 12 % full (9.6 of 80 GB) at the peak; a larger batch would fit."),
    ("gpu_memory_unused", {"memory_usage_megabytes_max": 9_640, "memory_usage_megabytes": still(9_000, 599)}, SPEED,
     None),
    ("pcie_link", {"pcie_width_lanes": 8}, SPEED, "GPU 0: PCIe link at width x8 of x16 under load; check the slot."),
    ("pcie_link", {"pcie_generation": between(1, 4)}, SPEED,
     "GPU 0: PCIe link at generation 4 of 5 under load; check the slot."),
    ("pcie_link", {"pcie_generation": 3, "pcie_width_lanes": 8}, SPEED,
     "GPU 0: PCIe link at generation 3 of 5 under load; check the slot."),
    ("pcie_link", {"pcie_width_lanes": 8, "utilization_percentage": 50}, SPEED,
     "GPU 0: PCIe link at width x8 of x16 under load; check the slot."),
    ("pcie_link", {"pcie_width_lanes": 8, "utilization_percentage": 49.9}, SPEED, None),
    ("pcie_link", {"pcie_width_lanes": 8, "pcie_width_maximum_lanes": None}, SPEED, None),
    ("pcie_link", {"pcie_generation": None, "pcie_width_lanes": None}, SPEED, None),
    ("pcie_link", {"pcie_generation": 0, "pcie_width_lanes": 0}, SPEED, None),
    ("ecc_uncorrected", {"ecc_uncorrected_errors": Stat(2.1, 2, 3, 3, 900)}, SPEED,
     "GPU 0: 1 memory error that ECC could not correct; the results may be wrong, test the card."),
    ("ecc_uncorrected", {"ecc_uncorrected_errors": Stat(0, 0, 0.2, 0.2, 3)}, replace(SPEED, steps=1),
     "GPU 0: 1 memory error that ECC could not correct; the results may be wrong, test the card."),
    ("ecc_uncorrected", {"ecc_uncorrected_errors": Stat(3, 0, 17, 17, 900)}, SPEED,
     "GPU 0: 17 memory errors that ECC could not correct; the results may be wrong, test the card."),
    ("ecc_uncorrected", {"ecc_uncorrected_errors": 4}, SPEED, None),
    ("ecc_corrected", {"ecc_corrected_errors": between(40, 50)}, SPEED,
     "GPU 0: 10 memory errors that ECC corrected; test the card."),
    ("ecc_corrected", {"ecc_corrected_errors": between(40, 49)}, SPEED, None),
    ("gpu_unused", {"process_memory_megabytes": None}, SPEED,
     "GPU 0 was free for this run, but it trained on the CPU; choose the trainer's accelerator."),
    ("gpu_unused", {"process_memory_megabytes": 0}, SPEED,
     "GPU 0 was free for this run, but it trained on the CPU; choose the trainer's accelerator."),
    ("gpu_unused", {"process_memory_megabytes": still(300, 5)}, SPEED, None),
    ("gpu_unused", {"process_memory_megabytes": None}, replace(SPEED, steps=19), None),
    ("swap", {"swap_in_megabytes_per_second": 1}, SPEED,
     "The host read 1 MB/s back from swap: what runs on it needs more memory than it has."),
    ("swap", {"swap_in_megabytes_per_second": 0.99}, SPEED, None),
    ("memory_pressure", {"pressure_memory_full_percentage": 5}, SPEED,
     "Everything stood still 5 % of the time for want of memory."),
    ("memory_pressure", {"pressure_memory_full_percentage": 4.9}, SPEED, None),
    ("host_memory_full", {"system_memory_usage_percentage_max": 95}, SPEED,
     "95 % of the host's memory of 128 GB was in use at the peak; at 100 % processes are killed."),
    ("host_memory_full", {"system_memory_usage_percentage_max": 94.9}, SPEED, None),
    ("host_memory_full", {"memory_usage_of_limit_percentage": 95, "system_memory_usage_percentage_max": 99}, SPEED,
     "95 % of the run's limit of 64 GB was in use at the peak; at 100 % processes are killed."),
    ("host_memory_full", {"memory_usage_of_limit_percentage": 94.9}, SPEED, None),
    ("disk_full", {"disk_usage_percentage": 90, "disk_available_megabytes": 4_999}, SPEED,
     "The disk was 90 % full, with 5.0 GB left."),
    ("disk_full", {"disk_usage_percentage": 99.4, "disk_available_megabytes": 0}, SPEED,
     "The disk was 99 % full, with 0.0 GB left."),
    ("disk_full", {"disk_usage_percentage": 89.9, "disk_available_megabytes": 4_999}, SPEED, None),
    ("disk_full", {"disk_usage_percentage": 90, "disk_available_megabytes": 5_000}, SPEED, None),
    ("disk_full", {"disk_usage_percentage": 99, "disk_available_megabytes": None}, SPEED, None),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "changes", "speed", "expected"), CASES)
def test_a_rule(rule: str, changes: dict[str, Any], speed: TrainingSpeed, expected: str | None) -> None:
    assert say(summary_of(gpu(), **changes), speed) == ({rule: expected} if expected else {})


RANKS: list[tuple[list[float], str | None]] = [
    ([0.03, 0.02, 0.02, 0.42], "Rank 3 held the other 3 back: it waited 0.42 s of each 0.69 s step for data, the "
     "others at most 30 ms."),
    ([0.42, 0.02], "Rank 0 held the other back: it waited 0.42 s of each 0.69 s step for data, the other 20 ms."),
    ([0.02, 0.4, 0.3, 0.01, 0.02, 0.02], "Ranks 1 and 2 held the other 4 back: they waited 0.4 s of each 0.69 s step "
     "for data, the others at most 20 ms."),
    ([0.02, 0.02, 0.0891], "Rank 2 held the other 2 back: it waited 89 ms of each 0.69 s step for data, the others at "
     "most 20 ms."),
    ([0.02, 0.02, 0.0889], None),
    ([0.1, 0.1, 0.2001], "Rank 2 held the other 2 back: it waited 0.2 s of each 0.69 s step for data, the others at "
     "most 0.1 s."),
    ([0.1, 0.1, 0.1999], None),
    ([0.42] * 4 + [0.02] * 5, "Ranks 0, 1, 2 and 3 held the other 5 back: they waited 0.42 s of each 0.69 s step for "
     "data, the others at most 20 ms."),
    ([0.42] * 5 + [0.02] * 6, "5 ranks held the other 6 back: they waited 0.42 s of each 0.69 s step for data, the "
     "others at most 20 ms."),
    ([0.42, 0.42, 0.42, 0.42], None),
    ([0.42], None),
]  # fmt: skip


@pytest.mark.parametrize(("data", "expected"), RANKS)
def test_ranks_that_wait_are_named(data: list[float], expected: str | None) -> None:
    speeds = [per_step(rank, data=seconds) for rank, seconds in enumerate(data)]
    assert say(summary_of(gpu()), *reversed(speeds)) == ({"slow_rank": expected} if expected else {})


EXACT = {"step": 1.0, "steps": 1_024, "logging": 0.0, "validation": 0.0}


def test_at_a_threshold_a_rule_speaks() -> None:
    """With seconds that binary fractions hold, so that the figures are exactly the thresholds."""
    half = summary_of(gpu(), utilization_percentage=Stat(50, 50, 50, 50, 409.6 * 2))
    assert set(say({}, per_step(**EXACT, data=0.4), gpus=())) == {"data_loading"}
    assert set(say(half, per_step(**EXACT, data=0.2))) == {"data_loading"}
    assert set(say(half, per_step(**(EXACT | {"logging": 0.2})))) == {"logging"}
    alone = half | {"process_cpu_utilization_percentage": still(100)}
    assert set(say(alone, per_step(**EXACT, data=0.2))) == {"data_loading"}
    ranks = [per_step(rank, **EXACT, data=data) for rank, data in enumerate([0.125, 0.125, 0.25])]
    assert set(say({}, *ranks, gpus=())) == {"slow_rank"}


def test_a_slow_rank_is_not_called_slow_loading_of_all() -> None:
    gpus = (gpu(0), gpu(1))
    metrics = summary_of(*gpus) | {"gpu_1_utilization_percentage": still(39)}
    assert set(say(metrics, per_step(0), per_step(1, data=0.42), gpus=gpus)) == {"slow_rank"}


def test_one_of_several_ranks_is_not_the_one_core_of_all() -> None:
    metrics = summary_of(gpu(), **IDLE, process_cpu_utilization_percentage=98)
    assert say(metrics, per_step(0), per_step(1)) == {}


IDLE_OF = [
    ([39] * 8, 8, "8 GPUs idle 61 %"),
    ([39, 90], 2, "GPU 0 idle 61 %"),
    ([39, 90, 59], 3, "GPUs 0 and 2 idle 51 %"),
    ([90, 39, 39, 39], 4, "GPUs 1, 2 and 3 idle 61 %"),
    ([39] * 4 + [90] * 4, 8, "GPUs 0, 1, 2 and 3 idle 61 %"),
    ([39] * 5 + [90] * 3, 8, "5 of 8 GPUs idle 61 %"),
    ([39] * 4 + [0] * 4, 4, "4 GPUs idle 61 %"),  # the run is on the first four only
]


@pytest.mark.parametrize(("busy", "used", "begins"), IDLE_OF)
def test_the_gpus_are_named(busy: list[float], used: int, begins: str) -> None:
    gpus = tuple(gpu(index) for index in range(len(busy)))
    metrics = summary_of(*gpus[:used])
    metrics |= {f"{one.key}_utilization_percentage": still(value) for one, value in zip(gpus, busy, strict=True)}
    assert say(metrics, per_step(data=0.6), gpus=gpus)["data_loading"].startswith(f"{begins} of the time: loading")


def test_a_mig_instance_is_named() -> None:
    metrics = summary_of(gpu(0, 1), gpu(0, 2), memory_usage_megabytes_max=79_000)
    assert say(metrics, SPEED, gpus=(gpu(0, 1),)) == {
        "gpu_memory_full": "GPU 0 MIG 1: memory 99 % full (79 of 80 GB) at the peak; a larger batch may not fit."
    }
    del metrics["gpu_0_mig_2_process_memory_megabytes"]
    metrics |= summary_of(gpu(1))
    metrics["gpu_1_memory_usage_megabytes_max"] = still(79_000)
    said = say(metrics, SPEED, gpus=(gpu(0, 1), gpu(0, 2), gpu(1)))["gpu_memory_full"]
    assert said.startswith("2 GPUs: memory 99 %")


def test_where_processes_are_hidden_a_gpu_that_worked_was_used() -> None:
    hidden = replace(HOST, sees_gpu_processes=False)
    gpus = (gpu(0), gpu(1))
    metrics = summary_of(*gpus, process_memory_megabytes=None, **IDLE) | {"gpu_1_utilization_percentage": still(0)}
    assert say(metrics, per_step(data=0.42), gpus=gpus, host=hidden)["data_loading"].startswith("GPU 0 idle 61 %")


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        (HostFacts(16, None), "2 workers on a 16-core host."),
        (HostFacts(8, 8), "2 workers on an 8-core host."),
        (HostFacts(11), "2 workers on an 11-core host."),
        (HostFacts(18), "2 workers on an 18-core host."),
        (HostFacts(80), "2 workers on an 80-core host."),
        (HostFacts(1, 1), "2 workers on a 1-core host."),
        (HostFacts(256, 4), "2 workers on 4 of the host's 256 cores."),
        (HostFacts(256, 128), "2 workers on 128 of the host's 256 cores."),
        (HostFacts(16, 10 / 3), "2 workers on 3.3 of the host's 16 cores."),
        (HostFacts(4, 8), "2 workers on a 4-core host."),
        (HostFacts(None, 4), "2 workers."),
    ],
)
def test_the_cores_are_those_that_the_run_may_use(host: HostFacts, expected: str) -> None:
    said = say({}, per_step(data=0.42), gpus=(), host=host)["data_loading"]
    assert said == f"Loading took 0.42 s of each 0.69 s step; {expected}"


@pytest.mark.parametrize(
    ("limit_percent", "host", "begins"),
    [(99, HostFacts(), "99 % of the run's limit was in use"),
     (None, HostFacts(), "97 % of the host's memory was in use"),
     (None, HOST, "97 % of the host's memory of 128 GB was in use")],
)  # fmt: skip
def test_memory_without_its_size(limit_percent: float | None, host: HostFacts, begins: str) -> None:
    metrics = summary_of(memory_usage_of_limit_percentage=limit_percent, system_memory_usage_percentage_max=97)
    assert say(metrics, gpus=(), host=host)["host_memory_full"].startswith(begins)


BAD = summary_of(gpu(), utilization_percentage=39, throttle_thermal_percentage=80, pressure_memory_full_percentage=50,
                 disk_usage_percentage=99, disk_available_megabytes=1)  # fmt: skip


@pytest.mark.parametrize(("seconds", "silent"), [(3, True), (29.9, True), (30, False)])
def test_windows_of_less_than_30_s_are_not_judged(seconds: float, silent: bool) -> None:
    metrics = {key: replace(stat, seconds=seconds) for key, stat in BAD.items()}
    assert (say(metrics, per_step(steps=20, data=0.42)) == {}) == silent


@pytest.mark.parametrize(
    ("steps", "step", "silent"), [(19, 5, True), (20, 5, False), (100, 0.299, True), (100, 0.3, False)]
)
def test_a_training_of_less_than_20_steps_or_30_s_is_not_judged(steps: int, step: float, silent: bool) -> None:
    assert (say({}, per_step(steps=steps, step=step, data=step * 0.9), gpus=()) == {}) == silent


def test_the_weightiest_comes_first() -> None:
    findings = advise(HOST, BAD | {"gpu_0_ecc_uncorrected_errors": between(0, 1)}, [per_step(data=0.42)], [gpu()])
    assert [finding.rule for finding in findings] == [
        "ecc_uncorrected", "thermal_throttling", "data_loading", "memory_pressure", "disk_full",
    ]  # fmt: skip
    assert sentence(findings).startswith("GPU 0: 1 memory error")


def test_what_may_go_wrong_stands_behind_what_held_the_run_back() -> None:
    risks = {
        "memory_usage_megabytes_max": 79_900, "pcie_width_lanes": 1,
        "ecc_corrected_errors": between(0, 500), "memory_usage_of_limit_percentage": 100, "disk_usage_percentage": 100,
        "disk_available_megabytes": 0, "throttle_thermal_percentage": 21,
    }  # fmt: skip
    findings = advise(HOST, summary_of(gpu(), **risks), [SPEED], [gpu()])
    assert len(findings) == 6
    assert findings[0].rule == "thermal_throttling"


WEIGHTS: list[tuple[str, dict[str, Any], TrainingSpeed, float]] = [
    ("data_loading", {"utilization_percentage": 40}, per_step(step=1.0, steps=900, data=0.5), 0.5),
    ("data_loading", {"utilization_percentage": 40}, per_step(step=1.0, steps=900, data=0.9), 0.6),
    ("data_loading", {"utilization_percentage": None}, per_step(step=1.0, steps=900, data=0.5), 0.5),
    ("cpu_bound", {"utilization_percentage": 40, "process_cpu_utilization_percentage": 100}, SPEED, 0.6),
    ("ecc_uncorrected", {"ecc_uncorrected_errors": between(0, 1)}, SPEED, 1),
    ("ecc_corrected", {"ecc_corrected_errors": between(0, 100)}, SPEED, 0.2),
    ("gpu_unused", {"process_memory_megabytes": None}, SPEED, 1),
    ("thermal_throttling", {"throttle_thermal_percentage": 30}, SPEED, 0.3),
    ("power_cap", {"throttle_power_cap_percentage": 80, "sm_clock_megahertz": 1_200}, SPEED, 0.8 * 0.4),
    ("gpu_memory_full", {"memory_usage_megabytes_max": 80_000}, SPEED, 0.2),
    ("gpu_memory_unused", {"memory_usage_megabytes_max": 8_000}, SPEED, 0.09),
    ("pcie_link", {"pcie_width_lanes": 4}, SPEED, 0.15),
    ("pcie_link", {"pcie_generation": 4}, SPEED, 0.1),
    ("pcie_link", {"pcie_generation": 3}, SPEED, 0.15),
    ("swap", {"swap_in_megabytes_per_second": 10}, SPEED, 0.25),
    ("swap", {"swap_in_megabytes_per_second": 900}, SPEED, 1),
    ("memory_pressure", {"pressure_memory_full_percentage": 30}, SPEED, 0.3),
    ("host_memory_full", {"memory_usage_of_limit_percentage": 100}, SPEED, 0.2),
    ("disk_full", {"disk_usage_percentage": 95, "disk_available_megabytes": 10}, SPEED, 0.19),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "changes", "speed", "weight"), WEIGHTS)
def test_the_weight_of_a_finding(rule: str, changes: dict[str, Any], speed: TrainingSpeed, weight: float) -> None:
    findings = advise(HOST, summary_of(gpu(), **changes), [speed], [gpu()])
    assert [(finding.rule, finding.weight) for finding in findings] == [(rule, pytest.approx(weight))]


# The figures that a rule's words must have: the documentation and the code do not part.
THRESHOLDS: dict[str, list[float]] = {
    "data_loading": [speed_rules.IDLE_PERCENT, speed_rules.CAUSE_SHARE * 100,
                     speed_rules.LOADING_SHARE_WITHOUT_GPU * 100],
    "slow_rank": [speed_rules.RANK_EXCESS_SHARE * 100],
    "logging": [speed_rules.IDLE_PERCENT, speed_rules.CAUSE_SHARE * 100],
    "validation": [speed_rules.IDLE_PERCENT, speed_rules.CAUSE_SHARE * 100],
    "cpu_bound": [speed_rules.IDLE_PERCENT, *speed_rules.ONE_CORE_PERCENT, speed_rules.CAUSE_SHARE * 100],
    "thermal_throttling": [hardware_rules.THERMAL_PERCENT],
    "power_brake": [hardware_rules.POWER_BRAKE_PERCENT],
    "hw_slowdown": [hardware_rules.HW_SLOWDOWN_PERCENT],
    "power_cap": [hardware_rules.POWER_CAP_PERCENT, hardware_rules.SLOW_CLOCK_SHARE * 100],
    "swap": [hardware_rules.SWAP_IN_MEGABYTES],
    "memory_pressure": [hardware_rules.MEMORY_PRESSURE_PERCENT],
    "gpu_memory_full": [hardware_rules.MEMORY_FULL_PERCENT],
    "host_memory_full": [hardware_rules.HOST_MEMORY_PERCENT],
    "disk_full": [hardware_rules.DISK_PERCENT, hardware_rules.DISK_MEGABYTES / 1e3],
    "ecc_corrected": [hardware_rules.CORRECTED_ERRORS],
    "ecc_uncorrected": [],
    "gpu_unused": [],
    "pcie_link": [hardware_rules.BUSY_PERCENT],
    "gpu_memory_unused": [hardware_rules.BUSY_PERCENT, hardware_rules.MEMORY_UNUSED_SECONDS / 60,
                          hardware_rules.MEMORY_UNUSED_PERCENT],
}  # fmt: skip


def test_the_table_of_rules_has_each_rule_with_its_thresholds() -> None:
    table = dict(rules_table())
    assert len(table) == len(RULES)
    assert {name: sorted(map(float, re.findall(r"\d+", words))) for name, words in table.items()} == {
        name: sorted(map(float, thresholds)) for name, thresholds in THRESHOLDS.items()
    }
    assert all(words.endswith(".") for words in table.values())


def test_every_rule_has_its_cases() -> None:
    said = {rule for rule, _, _, expected in CASES if expected} | {"slow_rank"}
    silent = {rule for rule, _, _, expected in CASES if not expected} | {"slow_rank"}
    assert said == silent == {name for name, _ in rules_table()}


# Laws that hold for any figures.
KEYS = [*(f"gpu_{index}_{field}" for index in (0, 1) for field in GPU), "gpu_0_mig_1_utilization_percentage", *MACHINE]
GPUS = [gpu(0), gpu(1), gpu(0, 1)]
SHOWN = st.floats(0, 200) | st.sampled_from([0.0, 5.0, 39.0, 95.0, 1e5])


def stats_of(values: st.SearchStrategy[float]) -> st.SearchStrategy[Stat]:
    return st.builds(Stat, values, values, values, values, values)


def speeds_of(seconds: st.SearchStrategy[float]) -> st.SearchStrategy[list[TrainingSpeed]]:
    one = st.builds(
        TrainingSpeed, st.integers(0, 9), st.integers(-1, 10**9), st.none(), seconds, seconds, seconds, seconds,
        st.none() | st.integers(0, 64),
    )  # fmt: skip
    return st.lists(one, max_size=4)


hosts = st.builds(
    HostFacts, st.none() | st.integers(1, 512), st.none() | st.floats(0.1, 512), st.none() | st.integers(0, 10**13),
    st.none() | st.integers(0, 10**13), st.booleans(),
)  # fmt: skip
ANY = st.floats() | st.sampled_from([0.0, 39.0, 95.0, 600.0, 1.7e308, -1.7e308, math.nan])


@given(hosts, st.dictionaries(st.sampled_from(KEYS), stats_of(ANY)), speeds_of(ANY), st.sets(st.sampled_from(GPUS)))
@same_each_time
def test_whatever_the_figures_it_never_raises(
    host: HostFacts, summary: Summary, speeds: list[TrainingSpeed], gpus: set[Gpu]
) -> None:
    findings = advise(host, summary, speeds, list(gpus))
    assert [finding.weight for finding in findings] == sorted((f.weight for f in findings), reverse=True)
    assert all(0 <= finding.weight <= 1 for finding in findings)
    assert {finding.rule for finding in findings} <= {name for name, _ in rules_table()}


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_absent(number: float) -> None:
    assert say(summary_of(gpu(), swap_in_megabytes_per_second=number, pressure_memory_full_percentage=number)) == {}
    assert say(summary_of(gpu(), throttle_thermal_percentage=Stat(50, 0, 99, number, SECONDS))) == {}
    assert say({}, replace(SPEED, data_seconds=number), gpus=()) == {}


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, "0 ms"), (0.0042, "4.2 ms"), (0.0994, "99 ms"), (0.0995, "0.1 s"), (0.42, "0.42 s"), (9.96, "10 s"),
     (99.4, "99 s"), (99.5, "100 s"), (1_234, "1234 s")],
)  # fmt: skip
def test_seconds_have_two_digits(value: float, expected: str) -> None:
    assert wording.seconds(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"), [(0, "0.0"), (9.94e9, "9.9"), (9.95e9, "10"), (79.6e9, "80"), (2e12, "2000")]
)
def test_gigabytes(value: float, expected: str) -> None:
    assert wording.gigabytes(value) == expected


def figures_of(host: HostFacts, summary: Summary, speeds: list[TrainingSpeed], gpus: list[Gpu]) -> list[float]:
    """Every figure that a sentence about one GPU, or ranks, may have."""
    figures = [1.0, *map(float, range(len(speeds) + len(gpus) + 1)), 100.0]
    for stat in summary.values():
        figures += [stat.mean, 100 - stat.mean, stat.maximum, stat.maximum - stat.minimum, stat.minimum / 1e3]
        figures += [stat.maximum / 1e3]
    totals = [stat.maximum for key, stat in summary.items() if key.endswith("total_megabytes") and stat.maximum > 0]
    figures += [100 * stat.maximum / total for stat in summary.values() for total in totals]
    for speed in speeds:
        spent = [speed.step_seconds, speed.data_seconds, speed.logging_seconds, speed.validation_seconds]
        per = [seconds / speed.steps for seconds in spent if speed.steps > 0]
        figures += [*per, *(1e3 * seconds for seconds in per), *spent, spent[0] + spent[3], speed.rank]
        figures += [] if speed.data_workers is None else [speed.data_workers]
    known = [host.cores, host.usable_cores, (host.memory_bytes or 0) / 1e9, (host.memory_limit_bytes or 0) / 1e9]
    return figures + [figure for figure in known if figure is not None]


@given(
    hosts,
    st.dictionaries(st.sampled_from([key for key in KEYS if "gpu_1" not in key]), stats_of(SHOWN | st.just(700.0))),
    speeds_of(st.floats(0, 1e4)),
)
@same_each_time
def test_every_figure_of_a_sentence_comes_from_the_input(
    host: HostFacts, summary: Summary, speeds: list[TrainingSpeed]
) -> None:
    figures = figures_of(host, summary, speeds, [gpu()])
    for finding in advise(host, summary, speeds, [gpu()]):
        for shown in re.findall(r"\d+\.?\d*(?:e[+-]\d+)?", finding.sentence):
            precision = 10.0 ** -len(shown.partition(".")[2].partition("e")[0])
            assert any(math.isclose(float(shown), figure, rel_tol=0.051, abs_tol=precision / 1.9) for figure in figures)


@given(st.sampled_from(sorted(summary_of(gpu()))), st.sampled_from([case[:3] for case in CASES]))
@same_each_time
def test_what_is_absent_is_never_the_ground_of_a_claim(key: str, case: tuple[str, Mapping[str, Any], Any]) -> None:
    """But that the driver tells where the run is not; then, and where no GPU is measured, loading is judged."""
    _, changes, speed = case
    metrics = summary_of(gpu(), **changes)
    allowed = set(say(metrics, speed))
    metrics.pop(key, None)
    allowed |= {"gpu_unused", "data_loading"} if key == "gpu_0_process_memory_megabytes" else set()
    allowed |= {"data_loading"} if key == "gpu_0_utilization_percentage" else set()
    assert set(say(metrics, speed)) <= allowed


def test_a_finding_says_which_rule_it_is() -> None:
    findings = advise(HOST, summary_of(gpu(), pressure_memory_full_percentage=40), [SPEED], [gpu()])
    said = "Everything stood still 40 % of the time for want of memory."
    assert findings == [Finding("memory_pressure", said, 0.4)]


def test_the_rules_ask_for_metrics_that_there_are() -> None:
    names = {metric.name for metric in METRICS} | {f"{metric.name}_max" for metric in MAXIMA}
    assert set(GPU) <= names
    assert set(MACHINE) <= set(FIELDS) | {f"{key}_max" for key in HostSource.maxima}
