"""The readings of GPUs: each value from its own field, in its unit; what is not supported is absent, the rest stays."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping

import pynvml
import pytest

from mlflow_dovetail.system_metrics.counters import Energy
from mlflow_dovetail.system_metrics.gpu import GpuSource
from mlflow_dovetail.system_metrics.gpu_fields import METRICS

from .nvml_stub import GPM_NUMBERS, NOT_SUPPORTED, NUMBERS, TIMEOUT, NvmlStub

POLLED = {
    "utilization_percentage": 61,
    "memory_controller_utilization_percentage": 37,
    "memory_usage_megabytes": 34_400,
    "memory_usage_percentage": 43,
    "temperature_celsius": 54,
    "sm_clock_megahertz": 1740,
    "memory_clock_megahertz": 2619,
    "power_usage_watts": 301.5,
    "power_usage_percentage": 301.5 / 7,
}
AT_THE_END = {
    "power_limit_watts": 700,
    "energy_joules": 0,
    "memory_temperature_celsius": 71,
    "graphics_clock_megahertz": 1755,
    "ecc_corrected_errors": 17,
    "ecc_uncorrected_errors": 3,
    "fan_speed_percentage": 44,
    "encoder_utilization_percentage": 12,
    "decoder_utilization_percentage": 19,
    "pcie_generation": 4,
    "pcie_width_lanes": 8,
    "pcie_speed_megabits_per_second": 16_000,
    "pcie_replays": 6,
    "performance_state": 2,
    "process_memory_megabytes": 1500,
    "process_sm_utilization_percentage": 40,
    "sm_active_percentage": 81.5,
    "sm_occupancy_percentage": 23.25,
    "tensor_active_percentage": 46.5,
    "tensor_hmma_active_percentage": 41.5,
    "dram_active_percentage": 67.5,
    "fp64_active_percentage": 1.5,
    "fp32_active_percentage": 13.5,
    "fp16_active_percentage": 5.5,
    "pcie_transmit_megabytes_per_second": 310 * 1.048576,
    "pcie_receive_megabytes_per_second": 420 * 1.048576,
    "nvlink_receive_megabytes_per_second": 53 * 1.048576,
    "nvlink_transmit_megabytes_per_second": 64 * 1.048576,
}
ONCE = {
    "memory_total_megabytes": 80_000,
    "sm_clock_maximum_megahertz": 1980,
    "memory_clock_maximum_megahertz": 2640,
    "graphics_clock_maximum_megahertz": 1995,
    "pcie_generation_maximum": 5,
    "pcie_width_maximum_lanes": 16,
    "pcie_speed_maximum_megabits_per_second": 32_000,
}
# Those with counters, then those of bits alone.
THROTTLES = ["power_cap", "thermal", "sync_boost", "board_limit", "reliability"]
THROTTLES_OF_BITS = ["hw_slowdown", "power_brake", "application_clocks", "display_clocks"]

# What is gone when the field is not supported; what no metric is read from is left out.
GONE_WITH = {
    "utilization": ["utilization_percentage", "memory_controller_utilization_percentage"],
    "memory_controller_utilization": ["utilization_percentage", "memory_controller_utilization_percentage"],
    "memory_total_bytes": ["memory_usage_megabytes", "memory_usage_percentage", "memory_total_megabytes"],
    "memory_used_bytes": ["memory_usage_megabytes", "memory_usage_percentage", "memory_total_megabytes"],
    "power_milliwatts": ["power_usage_watts", "power_usage_percentage"],
    "power_limit_milliwatts": ["power_usage_percentage", "power_limit_watts"],
    "energy_millijoules": ["energy_joules"],
    "temperature": ["temperature_celsius"],
    "clock_0": ["graphics_clock_megahertz"],
    "clock_1": ["sm_clock_megahertz"],
    "clock_2": ["memory_clock_megahertz"],
    "max_clock_0": ["graphics_clock_maximum_megahertz"],
    "max_clock_1": ["sm_clock_maximum_megahertz"],
    "max_clock_2": ["memory_clock_maximum_megahertz"],
    "clocks_event_reasons": [f"throttle_{name}_percentage" for name in THROTTLES_OF_BITS],
    "supported_clocks_event_reasons": [],
    "field_74": [],  # the bits stand in
    "field_75": [],
    "field_76": [],
    "field_77": ["throttle_board_limit_percentage"],  # a bit that this device does not know
    "field_79": ["throttle_reliability_percentage"],
    "field_82": ["memory_temperature_celsius"],
    "ecc_0": ["ecc_corrected_errors"],
    "ecc_1": ["ecc_uncorrected_errors"],
    "fan_percent": ["fan_speed_percentage"],
    "encoder": ["encoder_utilization_percentage"],
    "decoder": ["decoder_utilization_percentage"],
    "pcie_generation": ["pcie_generation"],
    "pcie_max_generation": ["pcie_generation_maximum"],
    "pcie_width": ["pcie_width_lanes"],
    "pcie_max_width": ["pcie_width_maximum_lanes"],
    "pcie_speed": ["pcie_speed_megabits_per_second"],
    "pcie_max_speed": ["pcie_speed_maximum_megabits_per_second"],
    "pcie_throughput_0": [],  # GPM has it
    "pcie_throughput_1": [],
    "pcie_replays": ["pcie_replays"],
    "performance_state": ["performance_state"],
    "gpm": [
        name for name in AT_THE_END if name.endswith("_active_percentage") or "occupancy" in name or "nvlink" in name
    ],
    "gpm_2": ["sm_active_percentage"],
    "gpm_3": ["sm_occupancy_percentage"],
    "gpm_5": ["tensor_active_percentage"],
    "gpm_7": ["tensor_hmma_active_percentage"],
    "gpm_10": ["dram_active_percentage"],
    "gpm_11": ["fp64_active_percentage"],
    "gpm_12": ["fp32_active_percentage"],
    "gpm_13": ["fp16_active_percentage"],
    "gpm_20": [],  # the older call stands in
    "gpm_21": ["pcie_receive_megabytes_per_second"],
    "gpm_60": ["nvlink_receive_megabytes_per_second"],
    "gpm_61": ["nvlink_transmit_megabytes_per_second"],
    "processes": ["process_memory_megabytes", "process_sm_utilization_percentage"],
    "process_utilization": ["process_sm_utilization_percentage"],
}


@pytest.fixture
def gpu(loaded_stub: NvmlStub) -> NvmlStub:
    loaded_stub.add_gpu(0)
    loaded_stub.run(0, os.getpid(), megabytes=1500, sm=40)
    return loaded_stub


def declared(mask: str = "0") -> GpuSource:
    return GpuSource({"CUDA_VISIBLE_DEVICES": mask}, lambda: [os.getpid()])


def of(key: str, values: Mapping[str, float]) -> dict[str, float]:
    return {f"{key}_{name}": value for name, value in values.items()}


def without_throttles(reading: Mapping[str, float]) -> dict[str, float]:
    return {key: value for key, value in reading.items() if "_throttle_" not in key}


def test_each_value_is_its_own_field_in_its_unit(gpu: NvmlStub) -> None:
    source = declared()
    assert source.poll() == pytest.approx(of("gpu_0", POLLED))
    window = source.close_window()
    assert without_throttles(window) == pytest.approx(of("gpu_0", {**AT_THE_END, **ONCE}))
    assert {key: value for key, value in window.items() if "_throttle_" in key} == {
        f"gpu_0_throttle_{name}_percentage": 0 for name in (*THROTTLES, *THROTTLES_OF_BITS)
    }
    assert source.troubles() == {}


def test_the_table_of_metrics_is_what_is_read(gpu: NvmlStub) -> None:
    source = declared()
    read = {key.removeprefix("gpu_0_") for key in (*source.poll(), *source.close_window())}
    assert {metric.name for metric in METRICS} == read
    assert len(METRICS) == len(read)
    ends = {
        "%": "_percentage",
        "MB": "_megabytes",
        "W": "_watts",
        "°C": "_celsius",
        "MHz": "_megahertz",
        "J": "_joules",
    }
    assert not [one for one in METRICS if one.unit in ends and not one.name.endswith(ends[one.unit])]
    assert not [one for one in METRICS if not one.meaning or one.meaning.endswith(".")]


def test_what_never_changes_is_said_once(gpu: NvmlStub) -> None:
    source = declared()
    assert of("gpu_0", ONCE).items() <= source.close_window().items()
    assert not of("gpu_0", ONCE).keys() & source.close_window().keys()


def test_every_field_is_in_the_table_of_what_it_takes_with_it() -> None:
    assert {*NUMBERS, *(f"gpm_{number}" for number in GPM_NUMBERS)} == GONE_WITH.keys() - {
        "processes",
        "process_utilization",
    }


@pytest.mark.parametrize("field", GONE_WITH)
def test_what_is_not_supported_is_absent_and_the_rest_stays(gpu: NvmlStub, field: str) -> None:
    everything = declared()
    before = {**everything.poll(), **everything.close_window()}
    gpu.set(0, **{field: NOT_SUPPORTED})
    source = declared()
    now = {**source.poll(), **source.close_window()}
    assert before.keys() - now.keys() == {f"gpu_0_{name}" for name in GONE_WITH[field]}
    assert not now.keys() - before.keys()
    assert not source.troubles()


@pytest.mark.parametrize("field", ["fan_percent", "power_milliwatts", "memory_used_bytes", "energy_millijoules"])
def test_a_failing_field_comes_back(gpu: NvmlStub, field: str) -> None:
    source = declared()
    source.close_window()
    gpu.set(0, **{field: TIMEOUT})
    reading = {**source.poll(), **source.close_window()}
    assert not {f"gpu_0_{name}" for name in GONE_WITH[field]} & reading.keys()
    assert [count for cause, count in source.troubles().items() if cause.endswith("on GPU 0: Timeout")] == [1]
    assert source.troubles() == {}
    gpu.set(0, **{field: NUMBERS[field]})
    reading = {**source.poll(), **source.close_window()}
    assert {f"gpu_0_{name}" for name in GONE_WITH[field] if name not in ONCE} <= reading.keys()


@pytest.mark.parametrize(
    ("field", "absent", "kept"),
    [
        ("memory_total_bytes", "memory_usage_percentage", "memory_usage_megabytes"),
        ("power_limit_milliwatts", "power_usage_percentage", "power_usage_watts"),
    ],
)
def test_there_is_no_percentage_of_nothing(gpu: NvmlStub, field: str, absent: str, kept: str) -> None:
    gpu.set(0, **{field: 0})
    source = declared()
    reading = source.poll()
    assert f"gpu_0_{absent}" not in reading
    assert reading[f"gpu_0_{kept}"] == POLLED[kept]
    assert reading.keys() == of("gpu_0", POLLED).keys() - {f"gpu_0_{absent}"}
    assert source.troubles() == {}


@pytest.mark.parametrize(
    ("field", "value", "absent"),
    [
        ("performance_state", 32, "performance_state"),  # NVML_PSTATE_UNKNOWN
        ("pcie_max_speed", 0, "pcie_speed_maximum_megabits_per_second"),  # NVML_PCIE_LINK_MAX_SPEED_INVALID
        ("gpm_2", "nan", "sm_active_percentage"),
    ],
)
def test_a_value_that_says_unknown_is_absent(gpu: NvmlStub, field: str, value: object, absent: str) -> None:
    before = declared().close_window()
    gpu.run(0, os.getpid(), megabytes=1500, sm=40)
    gpu.set(0, **{field: value})
    assert before.keys() - declared().close_window().keys() == {f"gpu_0_{absent}"}


def test_a_share_that_cannot_be_is_absent(gpu: NvmlStub) -> None:
    gpu.run(0, os.getpid(), megabytes=1500, sm=4_000_000)
    assert "gpu_0_process_sm_utilization_percentage" not in declared().close_window()


def test_the_limit_of_power_is_the_one_of_now(gpu: NvmlStub) -> None:
    source = declared()
    source.poll()
    gpu.set(0, power_limit_milliwatts=603_000)
    assert source.close_window()["gpu_0_power_limit_watts"] == 603
    assert source.poll()["gpu_0_power_usage_percentage"] == 50


def test_eight_gpus_are_not_mixed_up(loaded_stub: NvmlStub) -> None:
    for index in range(8):
        loaded_stub.add_gpu(index)
    source = GpuSource({"CUDA_VISIBLE_DEVICES": "7,6,5,4,3,2,1,0"}, list)
    reading = {**source.poll(), **source.close_window()}
    for index in range(8):
        assert reading[f"gpu_{index}_utilization_percentage"] == 61 + index
        assert reading[f"gpu_{index}_power_usage_watts"] == 301.5 + index * 3.015
        assert reading[f"gpu_{index}_dram_active_percentage"] == 67.5 + index
    assert len(reading) == 8 * (len(METRICS) - 2)
    assert source.maxima == {
        f"gpu_{index}_{name}" for index in range(8) for name in ("memory_usage_megabytes", "temperature_celsius")
    }


def test_a_lost_gpu_is_one_trouble_and_the_others_stay(gpu: NvmlStub) -> None:
    gpu.add_gpu(1)
    source = declared("0,1")
    both = source.poll()
    source.close_window()
    gpu.lose(0)
    assert source.poll().keys() == {key for key in both if key.startswith("gpu_1_")}
    assert all(key.startswith("gpu_1_") for key in source.close_window())
    source.poll()
    assert source.troubles() == {"GPU 0 was lost": 1}
    # It is back, as another device: its counters began anew.
    gpu.set(0, all=None)
    assert all(key.startswith("gpu_1_") for key in source.poll())


def test_a_slow_call_delays_its_own_thread_only_and_is_no_trouble(gpu: NvmlStub) -> None:
    source = declared()
    source.poll()
    gpu.slow("nvmlDeviceGetPowerUsage", 3)
    began, used = time.monotonic(), time.process_time()
    reading = source.poll()
    assert time.monotonic() - began >= 3
    assert time.process_time() - used < 0.5
    assert reading == pytest.approx(of("gpu_0", POLLED))
    assert source.troubles() == {}


def test_a_mig_instance_has_its_own_values_and_none_of_the_device(gpu: NvmlStub) -> None:
    gpu.add_gpu(1)
    gpu.add_mig(1, 0)
    # PCIe is the whole device's, whatever is said of the instance.
    gpu.add_mig(1, 2, temperature=33, gpm_20=77)
    gpu.run("1/2", os.getpid(), megabytes=600)
    source = declared("MIG-0000000c-aaaa-bbbb-cccc-00000000000c,MIG-0000000a-aaaa-bbbb-cccc-00000000000a")
    assert source.poll() == {
        "gpu_1_mig_2_memory_usage_megabytes": 2536,
        "gpu_1_mig_2_memory_usage_percentage": pytest.approx(100 * 2536 / 10_012),
        "gpu_1_mig_0_memory_usage_megabytes": 2530,
        "gpu_1_mig_0_memory_usage_percentage": pytest.approx(100 * 2530 / 10_010),
    }
    assert source.close_window() == {
        "gpu_1_mig_2_memory_total_megabytes": 10_012,
        "gpu_1_mig_2_process_memory_megabytes": 600,
        "gpu_1_mig_2_sm_active_percentage": 42.5,
        "gpu_1_mig_0_memory_total_megabytes": 10_010,
        "gpu_1_mig_0_sm_active_percentage": 40.5,
    }
    assert source.troubles() == {}
    described = source.describe()["gpus"][0]
    assert (described["key"], described["mig_profile"]) == ("gpu_1_mig_2", "3g.10gb")


def test_a_process_is_seen_on_its_instance(gpu: NvmlStub) -> None:
    gpu.add_mig(0, 1)
    gpu.end(os.getpid())
    gpu.run("0/1", os.getpid(), megabytes=600)
    gpu.add_mig(0, 4)
    source = GpuSource({}, lambda: [os.getpid()])
    assert {key[:11] for key in source.poll()} == {"gpu_0_mig_1"}


def test_memory_of_a_process_that_the_driver_does_not_tell_is_absent(gpu: NvmlStub) -> None:
    gpu.run(0, os.getpid(), megabytes=None, sm=40)
    window = declared().close_window()
    assert "gpu_0_process_memory_megabytes" not in window
    assert window["gpu_0_process_sm_utilization_percentage"] == 40


def test_the_share_of_a_process_is_of_new_samples_only(gpu: NvmlStub) -> None:
    source = declared()
    assert source.close_window()["gpu_0_process_sm_utilization_percentage"] == 40
    assert "gpu_0_process_sm_utilization_percentage" not in source.close_window()
    gpu.run(0, os.getpid(), megabytes=1500, sm=22)
    assert source.close_window()["gpu_0_process_sm_utilization_percentage"] == 22
    assert source.troubles() == {}


def test_energy_counts_on_when_its_counter_begins_anew(gpu: NvmlStub) -> None:
    source = declared()
    source.poll()
    sums = []
    for millijoules in (9_250_000, 9_251_000, 4_000, 4_500):
        gpu.set(0, energy_millijoules=millijoules)
        sums.append(source.close_window()["gpu_0_energy_joules"])
    assert sums == [250, 251, 255, 255.5]


def test_energy_counts_on_when_its_counter_goes_around() -> None:
    energy = Energy()
    around = 2**32
    readings = [(around - 3_000, 0.0), (around - 1_000, 5.0), (1_500, 10.0)]
    assert [energy.add(*reading) for reading in readings] == [0, 2, 4.5]
    # In 5 s no board draws 20 MJ: this one was loaded anew.
    assert energy.add(700, 15.0) == 4.5 + 0.7
    assert Energy().add(2**40, 0.0) == 0
    long = Energy()
    long.add(2**40, 0.0)
    assert long.add(5_000, 5.0) == 5


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the time is, in its only element."""
    now = [1000.0]
    monkeypatch.setattr("mlflow_dovetail.system_metrics.gpu.time.monotonic", lambda: now[0])
    return now


def throttled(reading: Mapping[str, float]) -> dict[str, float]:
    begin, end = "gpu_0_throttle_", "_percentage"
    found = {key: value for key, value in reading.items() if key.startswith(begin) and value}
    return {key.removeprefix(begin).removesuffix(end): value for key, value in found.items()}


def test_throttles_are_shares_of_the_time_by_the_drivers_counters(gpu: NvmlStub, clock: list[float]) -> None:
    source = declared()
    source.poll()
    clock[0] += 4
    second = 10**9
    gpu.set(0, field_74=5 * second + second, field_75=6 * second + 2 * second, field_76=7 * second + 3 * second)
    gpu.set(0, field_77=8 * second + second // 2, field_79=9 * second + 40 * second)
    shares = {"power_cap": 25, "thermal": 50, "sync_boost": 75, "board_limit": 12.5, "reliability": 100}
    assert throttled(source.close_window()) == shares
    # Of this window alone.
    clock[0] += 5
    gpu.set(0, field_74=6 * second + second)
    assert throttled(source.close_window()) == {"power_cap": 20}
    # A counter that began anew says nothing of this window; no poll was made that could stand in.
    clock[0] += 5
    gpu.set(0, field_74=second)
    window = source.close_window()
    assert "gpu_0_throttle_power_cap_percentage" not in window
    assert window["gpu_0_throttle_thermal_percentage"] == 0


@pytest.mark.parametrize(
    ("bits", "share"),
    [
        (0x1, {}),  # idle
        (0x2, {"application_clocks": 50}),
        (0x4, {"power_cap": 50}),
        (0x8, {"hw_slowdown": 50}),
        (0x10, {"sync_boost": 50}),
        (0x20, {"thermal": 50}),
        (0x48, {"hw_slowdown": 50, "thermal": 50}),
        (0x88, {"hw_slowdown": 50, "power_brake": 50}),
        (0x100, {"display_clocks": 50}),
        (0x200, {"board_limit": 50}),
        (0x400, {"reliability": 50}),
    ],
)
def test_without_counters_throttles_are_shares_of_the_polls(gpu: NvmlStub, bits: int, share: dict[str, float]) -> None:
    gpu.set(0, **{f"field_{number}": None for number in (74, 75, 76, 77, 79)}, supported_clocks_event_reasons=0x7FF)
    source = declared()
    source.poll()
    gpu.set(0, clocks_event_reasons=bits)
    source.poll()
    assert throttled(source.close_window()) == share
    gpu.set(0, clocks_event_reasons=0)
    source.poll()
    assert throttled(source.close_window()) == {}


def test_heat_that_no_counter_has_is_polled(gpu: NvmlStub) -> None:
    source = declared()
    gpu.set(0, clocks_event_reasons=0x48)
    source.poll()
    assert throttled(source.close_window()) == {"hw_slowdown": 100, "thermal": 100}
    # What the counters have is not taken from the bits: they are exact.
    gpu.set(0, clocks_event_reasons=0x34)
    source.poll()
    assert throttled(source.close_window()) == {}


def test_a_reason_that_the_device_does_not_know_is_absent(gpu: NvmlStub) -> None:
    gpu.set(0, supported_clocks_event_reasons=0x8)
    source = declared()
    source.poll()
    window = source.close_window()
    assert window["gpu_0_throttle_hw_slowdown_percentage"] == 0
    assert not {f"gpu_0_throttle_{name}_percentage" for name in THROTTLES_OF_BITS[1:]} & window.keys()


def test_it_is_described_once(gpu: NvmlStub) -> None:
    source = declared()
    assert source.describe() == {}
    source.poll()
    assert source.describe() == {
        "driver": "570.86.15",
        "cuda_driver": "12.8",
        "attribution": "mask",
        "note": None,
        "gpus": [
            {
                "key": "gpu_0",
                "index": 0,
                "uuid": "GPU-00000000-1111-2222-3333-000000000000",
                "name": "NVIDIA Stub 80GB",
                "pci_bus_id": "00000000:10:00.0",
                "mig": None,
                "mig_profile": None,
                "memory_total_megabytes": 80_000,
            }
        ],
    }
    json.dumps(source.describe())


def test_the_end_is_the_librarys_too(gpu: NvmlStub) -> None:
    source = declared()
    source.poll()
    assert pynvml.nvmlDeviceGetCount() == 1
    source.close()
    with pytest.raises(pynvml.NVMLError, match="Uninitialized"):
        pynvml.nvmlDeviceGetCount()
    assert source.poll() == source.close_window() == source.troubles() == {}


def test_a_doubtful_index_is_said(gpu: NvmlStub) -> None:
    gpu.add_gpu(1, name="Another model")
    source = declared("1")
    assert source.poll()["gpu_1_utilization_percentage"] == 62
    note = "CUDA_DEVICE_ORDER is not PCI_BUS_ID and the GPUs differ: an index may mean another one"
    assert source.troubles() == {note: 1}
    assert source.describe()["note"] == note


MLFLOW = """
import json, sys, pynvml
from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
from mlflow_dovetail.system_metrics.gpu import GpuSource
monitor = GPUMonitor()
monitor.collect_metrics()
source = GpuSource({"CUDA_VISIBLE_DEVICES": "0,1,2"}, list)
print(json.dumps([monitor.aggregate_metrics(), source.poll()]))
"""


def test_the_common_values_are_those_of_mlflows_own_monitor(nvml_stub: NvmlStub) -> None:
    for index in range(3):
        nvml_stub.add_gpu(index)
    environment = {**os.environ, **nvml_stub.environment}
    command = [sys.executable, "-c", MLFLOW]
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    theirs, ours = json.loads(said.stdout)
    assert len(theirs) == 3 * 5
    # They round to a tenth.
    assert {key: ours[key] for key in theirs} == pytest.approx(theirs, abs=0.05)
