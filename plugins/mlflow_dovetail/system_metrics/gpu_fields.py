"""What is known of a GPU: each metric's name, unit and meaning, and the question to NVML that it is read from.

A metric of GPU 0 is `system/gpu_0_<name>`, and of its MIG instance 1 `system/gpu_0_mig_1_<name>`. The first names are
MLflow's own, and have its units. What a device does not support is absent.

Source:
    NVIDIA, NVML API reference: device queries, field values (`NVML_FI_*`), clocks event reasons, GPM metrics.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter, itemgetter
from typing import Any

from mlflow_dovetail.system_metrics.nvml import Question

MEGABYTE = 1e6
# GPM has MiB/s.
MEBIBYTES_PER_MEGABYTE = 2**20 / MEGABYTE


@dataclass(frozen=True)
class Metric:
    """One metric of a GPU.

    Args:
        name: Without the GPU.
        unit: For people; empty for a bare number.
        meaning: A phrase for the documentation.
    """

    name: str
    unit: str
    meaning: str


@dataclass(frozen=True)
class Asked:
    """A question, and the metrics that its answer holds: each with how to read it, None where it is not there."""

    question: Question
    metrics: tuple[tuple[Metric, Callable[[Any], float | None]], ...]


@dataclass(frozen=True)
class Throttle:
    """A reason for which the clocks were lowered: in the driver's counter of time, in bits that are polled, or both.

    Args:
        metric: The share of the time.
        counter: The NVML field with nanoseconds; None where there is no counter whose number all drivers agree on:
            those of hardware slowdowns, 251 and up, mean other things in other versions.
        bits: Clocks event reasons, where the counter is not supported.
        uncounted_bits: Those that no counter has.
    """

    metric: Metric
    counter: int | None
    bits: int
    uncounted_bits: int = 0


def percent_of(part: float, whole: float) -> float | None:
    """A share; None of nothing, which a broken or virtual device reports as its total."""
    return 100 * part / whole if whole > 0 else None


def _one(function: str, arguments: tuple[Any, ...], metric: Metric, read: Callable[[Any], float | None]) -> Asked:
    return Asked(Question(function, arguments), ((metric, read),))


_CORE = 0  # NVML_TEMPERATURE_GPU
_GRAPHICS_CLOCK, _SM_CLOCK, _MEMORY_CLOCK = 0, 1, 2  # NVML_CLOCK_*
_CORRECTED, _UNCORRECTED = 0, 1  # NVML_MEMORY_ERROR_TYPE_*
_VOLATILE = 0  # NVML_VOLATILE_ECC
_SENT, _RECEIVED = 0, 1  # NVML_PCIE_UTIL_*
# NVML_PCIE_LINK_MAX_SPEED_*.
_LINK_SPEEDS = {1: 2_500, 2: 5_000, 3: 8_000, 4: 16_000, 5: 32_000, 6: 64_000}

UTILIZATION = Metric("utilization_percentage", "%", "time in which at least one kernel ran")
MEMORY_USED = Metric("memory_usage_megabytes", "MB", "memory in use, by all processes and the driver")
MEMORY_TOTAL = Metric("memory_total_megabytes", "MB", "memory of the device")
POWER = Metric("power_usage_watts", "W", "power drawn by the board")
POWER_SHARE = Metric("power_usage_percentage", "%", "power drawn, of the enforced limit")
TEMPERATURE = Metric("temperature_celsius", "°C", "temperature of the core")
POWER_LIMIT = Metric("power_limit_watts", "W", "the enforced power limit")
ENERGY = Metric("energy_joules", "J", "energy since the first sample, from the device's own counter")
PROCESS_MEMORY = Metric("process_memory_megabytes", "MB", "memory of this run's own processes")
PROCESS_SM = Metric("process_sm_utilization_percentage", "%", "time in which the SMs ran this run's own processes")
PCIE_SENT = Metric("pcie_transmit_megabytes_per_second", "MB/s", "sent by the GPU over PCIe")
PCIE_RECEIVED = Metric("pcie_receive_megabytes_per_second", "MB/s", "received by the GPU over PCIe")

_MEMORY = Asked(
    Question("nvmlDeviceGetMemoryInfo"),
    (
        (MEMORY_USED, lambda memory: memory.used / MEGABYTE),
        (Metric("memory_usage_percentage", "%", "memory in use"), lambda memory: percent_of(memory.used, memory.total)),
    ),
)
_MEMORY_TOTAL = _one("nvmlDeviceGetMemoryInfo", (), MEMORY_TOTAL, lambda memory: memory.total / MEGABYTE)

POLLED = (
    Asked(
        Question("nvmlDeviceGetUtilizationRates"),
        (
            (UTILIZATION, attrgetter("gpu")),
            (
                Metric("memory_controller_utilization_percentage", "%", "time in which memory was read or written"),
                attrgetter("memory"),
            ),
        ),
    ),
    _MEMORY,
    _one("nvmlDeviceGetTemperature", (_CORE,), TEMPERATURE, float),
    _one("nvmlDeviceGetClockInfo", (_SM_CLOCK,), Metric("sm_clock_megahertz", "MHz", "clock of the SMs"), float),
    _one("nvmlDeviceGetClockInfo", (_MEMORY_CLOCK,), Metric("memory_clock_megahertz", "MHz", "clock of memory"), float),
)
"""Of a whole device, asked at each poll, beside power and the clocks event reasons."""

ONCE_A_WINDOW = (
    _one(
        "nvmlDeviceGetClockInfo",
        (_GRAPHICS_CLOCK,),
        Metric("graphics_clock_megahertz", "MHz", "clock of graphics"),
        float,
    ),
    _one(
        "nvmlDeviceGetTotalEccErrors",
        (_CORRECTED, _VOLATILE),
        Metric("ecc_corrected_errors", "", "memory errors corrected since the driver was loaded"),
        float,
    ),
    _one(
        "nvmlDeviceGetTotalEccErrors",
        (_UNCORRECTED, _VOLATILE),
        Metric("ecc_uncorrected_errors", "", "memory errors not corrected since the driver was loaded"),
        float,
    ),
    _one("nvmlDeviceGetFanSpeed", (), Metric("fan_speed_percentage", "%", "intended fan speed, of its maximum"), float),
    _one(
        "nvmlDeviceGetEncoderUtilization",
        (),
        Metric("encoder_utilization_percentage", "%", "time in which video was encoded"),
        itemgetter(0),
    ),
    _one(
        "nvmlDeviceGetDecoderUtilization",
        (),
        Metric("decoder_utilization_percentage", "%", "time in which video was decoded"),
        itemgetter(0),
    ),
    _one(
        "nvmlDeviceGetCurrPcieLinkGeneration",
        (),
        Metric("pcie_generation", "", "generation at which the PCIe link runs now; less than its maximum when idle"),
        float,
    ),
    _one(
        "nvmlDeviceGetCurrPcieLinkWidth", (), Metric("pcie_width_lanes", "lanes", "width of the PCIe link now"), float
    ),
    _one(
        "nvmlDeviceGetPcieSpeed",
        (),
        Metric("pcie_speed_megabits_per_second", "Mb/s", "speed of a lane of the PCIe link now"),
        float,
    ),
    _one(
        "nvmlDeviceGetPcieReplayCounter",
        (),
        Metric("pcie_replays", "", "PCIe packets sent again since the driver was loaded"),
        float,
    ),
    _one(
        "nvmlDeviceGetPerformanceState",
        (),
        Metric("performance_state", "", "0, the fastest, to 15"),
        # NVML_PSTATE_UNKNOWN is 32.
        lambda state: float(state) if state <= 15 else None,
    ),
)
"""Of a whole device, asked at the end of each window, beside what is counted."""

ONCE = (
    _MEMORY_TOTAL,
    _one(
        "nvmlDeviceGetMaxClockInfo",
        (_SM_CLOCK,),
        Metric("sm_clock_maximum_megahertz", "MHz", "highest clock of the SMs"),
        float,
    ),
    _one(
        "nvmlDeviceGetMaxClockInfo",
        (_MEMORY_CLOCK,),
        Metric("memory_clock_maximum_megahertz", "MHz", "highest clock of memory"),
        float,
    ),
    _one(
        "nvmlDeviceGetMaxClockInfo",
        (_GRAPHICS_CLOCK,),
        Metric("graphics_clock_maximum_megahertz", "MHz", "highest clock of graphics"),
        float,
    ),
    _one(
        "nvmlDeviceGetMaxPcieLinkGeneration",
        (),
        Metric("pcie_generation_maximum", "", "highest generation of device and slot"),
        float,
    ),
    _one(
        "nvmlDeviceGetMaxPcieLinkWidth",
        (),
        Metric("pcie_width_maximum_lanes", "lanes", "greatest width of device and slot"),
        float,
    ),
    _one(
        "nvmlDeviceGetPcieLinkMaxSpeed",
        (),
        Metric("pcie_speed_maximum_megabits_per_second", "Mb/s", "highest speed of a lane"),
        _LINK_SPEEDS.get,
    ),
)
"""Of a whole device: what does not change; it is in the first window alone."""

MIG_POLLED, MIG_ONCE = (_MEMORY,), (_MEMORY_TOTAL,)
"""Of a MIG instance: the rest is the whole device's, and shared with others."""

POWER_USAGE = Question("nvmlDeviceGetPowerUsage")
ENFORCED_LIMIT = Question("nvmlDeviceGetEnforcedPowerLimit")
ENERGY_COUNTER = Question("nvmlDeviceGetTotalEnergyConsumption")
FIELD_VALUES = Question("nvmlDeviceGetFieldValues")
# Without the first, an older driver; without its field values, one older still.
EVENT_REASONS = (
    Question("nvmlDeviceGetCurrentClocksEventReasons"),
    Question("nvmlDeviceGetCurrentClocksThrottleReasons"),
)
SUPPORTED_REASONS = (
    Question("nvmlDeviceGetSupportedClocksEventReasons"),
    Question("nvmlDeviceGetSupportedClocksThrottleReasons"),
)
PROCESS_LISTS = (
    (Question("nvmlDeviceGetComputeRunningProcesses_v3"), Question("nvmlDeviceGetComputeRunningProcesses_v2")),
    (Question("nvmlDeviceGetGraphicsRunningProcesses_v3"), Question("nvmlDeviceGetGraphicsRunningProcesses_v2")),
)
PROCESS_UTILIZATION = Question("nvmlDeviceGetProcessUtilization")
PCIE_THROUGHPUT = (
    _one("nvmlDeviceGetPcieThroughput", (_SENT,), PCIE_SENT, lambda kilobytes: kilobytes / 1e3),
    _one("nvmlDeviceGetPcieThroughput", (_RECEIVED,), PCIE_RECEIVED, lambda kilobytes: kilobytes / 1e3),
)
"""Over 20 ms, each of which the call takes; only where GPM does not have them over the whole window."""

MEMORY_TEMPERATURE_FIELD = 82
MEMORY_TEMPERATURE = Metric("memory_temperature_celsius", "°C", "temperature of the memory")

THROTTLES = (
    Throttle(Metric("throttle_power_cap_percentage", "%", "time slowed down by the power limit"), 74, 0x4),
    Throttle(
        Metric("throttle_thermal_percentage", "%", "time slowed down by heat, by software or by hardware"),
        75,
        0x20 | 0x40,
        uncounted_bits=0x40,
    ),
    Throttle(Metric("throttle_sync_boost_percentage", "%", "time slowed down to another GPU's clocks"), 76, 0x10),
    Throttle(Metric("throttle_board_limit_percentage", "%", "time slowed down by a limit of the board"), 77, 0x200),
    Throttle(Metric("throttle_reliability_percentage", "%", "time slowed down for reliability"), 79, 0x400),
    Throttle(
        Metric("throttle_hw_slowdown_percentage", "%", "time slowed down by hardware: heat, brake or power supply"),
        None,
        0x8,
    ),
    Throttle(
        Metric("throttle_power_brake_percentage", "%", "time slowed down by the power supply's brake"), None, 0x80
    ),
    Throttle(
        Metric("throttle_application_clocks_percentage", "%", "time held at clocks that were set by hand"), None, 0x2
    ),
    Throttle(Metric("throttle_display_clocks_percentage", "%", "time held at the display's clocks"), None, 0x100),
)
"""Idle clocks are no throttle."""


def _percentage(name: str, meaning: str) -> Metric:
    return Metric(f"{name}_percentage", "%", meaning)


GPM_METRICS = {
    2: (_percentage("sm_active", "SMs that were busy, over the window"), 1.0),
    3: (_percentage("sm_occupancy", "warps that were active, of those that fit"), 1.0),
    5: (_percentage("tensor_active", "time in which tensor cores computed"), 1.0),
    7: (_percentage("tensor_hmma_active", "time in which tensor cores computed in half precision"), 1.0),
    10: (_percentage("dram_active", "memory bandwidth in use"), 1.0),
    11: (_percentage("fp64_active", "time in which the SMs computed in double precision"), 1.0),
    12: (_percentage("fp32_active", "time in which the SMs computed in single precision"), 1.0),
    13: (_percentage("fp16_active", "time in which the SMs computed in half precision, without tensor cores"), 1.0),
    20: (PCIE_SENT, MEBIBYTES_PER_MEGABYTE),
    21: (PCIE_RECEIVED, MEBIBYTES_PER_MEGABYTE),
    60: (Metric("nvlink_receive_megabytes_per_second", "MB/s", "received over all NVLinks"), MEBIBYTES_PER_MEGABYTE),
    61: (Metric("nvlink_transmit_megabytes_per_second", "MB/s", "sent over all NVLinks"), MEBIBYTES_PER_MEGABYTE),
}
"""By NVML's number: the metric and what its value is multiplied by. From Hopper on, means over the whole window."""

MAXIMA = (MEMORY_USED, TEMPERATURE)
"""Their maximum of a window is a metric too, `<name>_max`."""

METRICS = tuple(
    dict.fromkeys(
        [
            *(metric for asked in (*POLLED, *ONCE_A_WINDOW, *ONCE) for metric, _ in asked.metrics),
            *(POWER, POWER_SHARE, POWER_LIMIT, ENERGY, MEMORY_TEMPERATURE, PROCESS_MEMORY, PROCESS_SM),
            *(throttle.metric for throttle in THROTTLES),
            *(metric for metric, _ in GPM_METRICS.values()),
        ]
    )
)
"""All of them, for the documentation."""
