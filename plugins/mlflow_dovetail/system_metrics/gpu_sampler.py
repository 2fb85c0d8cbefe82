"""The readings of one GPU or MIG instance."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from mlflow_dovetail.system_metrics.counters import Energy, ThrottleShares
from mlflow_dovetail.system_metrics.gpm import Gpm
from mlflow_dovetail.system_metrics.gpu_fields import (
    ENERGY,
    ENERGY_COUNTER,
    ENFORCED_LIMIT,
    FIELD_VALUES,
    MEGABYTE,
    MEMORY_TEMPERATURE,
    MEMORY_TEMPERATURE_FIELD,
    MEMORY_TOTAL,
    MIG_ONCE,
    MIG_POLLED,
    ONCE,
    ONCE_A_WINDOW,
    PCIE_SENT,
    PCIE_THROUGHPUT,
    POLLED,
    POWER,
    POWER_LIMIT,
    POWER_SHARE,
    POWER_USAGE,
    PROCESS_LISTS,
    PROCESS_MEMORY,
    PROCESS_SM,
    PROCESS_UTILIZATION,
    THROTTLES,
    Asked,
    percent_of,
)
from mlflow_dovetail.system_metrics.nvml import Device
from mlflow_dovetail.system_metrics.records import Gpu, Reading

FIELDS = (*(throttle.counter for throttle in THROTTLES if throttle.counter), MEMORY_TEMPERATURE_FIELD)
UNSIGNED_INT = 1  # NVML_VALUE_TYPE_UNSIGNED_INT
Processes = Mapping[int, float | None]
"""Megabytes by process; None where NVML does not say."""


class Sampler:
    """What a GPU and a MIG instance have in common: memory, processes, and how busy their parts were.

    Args:
        gpu: As in the metrics.
        device: Its own handle.
        gpm: Of the whole device, or of the instance on it.
    """

    polled: Iterable[Asked] = MIG_POLLED
    once: Iterable[Asked] = MIG_ONCE

    def __init__(self, gpu: Gpu, device: Device, gpm: Gpm) -> None:
        self.gpu = gpu
        self._device = device
        self._gpm = gpm
        self._last_used = 0
        self._constants = _read(device, self.once)
        self._told_constants = False
        self.lists_processes = False
        """Whether the driver has told, at the last call, which processes are on it."""

    def poll(self) -> Reading:
        """By metric, with the GPU's name before it."""
        return self._named(self._poll())

    def close_window(self, own: Processes, now: float) -> Reading:
        """As `poll`; `own` are the run's processes on it."""
        constants = {} if self._told_constants else self._constants
        self._told_constants = True
        return self._named({**constants, **self._close_window(now), **self._of_processes(own)})

    def describe(self) -> dict[str, Any]:
        """What it is; None where that is not known."""
        gpu = self.gpu
        # NVML names an instance "<model> MIG 1g.10gb".
        profile = gpu.name.rpartition(" MIG ")[2] if gpu.mig is not None else None
        memory = self._constants.get(MEMORY_TOTAL.name)
        return {
            "key": gpu.key,
            "index": gpu.index,
            "uuid": gpu.uuid,
            "name": gpu.name,
            "pci_bus_id": gpu.pci_bus_id,
            "mig": gpu.mig,
            "mig_profile": profile,
            MEMORY_TOTAL.name: memory,
        }

    def processes(self) -> Processes:
        """What is on it now; a process that computes and draws is in two lists, with the same memory."""
        found: dict[int, float | None] = {}
        lists = [self._device.ask_first(questions) for questions in PROCESS_LISTS]
        self.lists_processes = any(each is not None for each in lists)
        for each in lists:
            for one in each or ():
                used = one.usedGpuMemory
                found[one.pid] = found.get(one.pid) if used is None else used / MEGABYTE
        return found

    def free(self) -> None:
        """Give back what the library lent."""
        self._gpm.free()

    def _poll(self) -> dict[str, float]:
        return _read(self._device, self.polled)

    def _close_window(self, now: float) -> Reading:
        return self._gpm.close()

    def _of_processes(self, own: Processes) -> Reading:
        if not own:
            return {}
        memory = [used for used in own.values() if used is not None]
        shares = self._sm_shares(own)
        reading = {PROCESS_MEMORY.name: sum(memory)} if memory else {}
        return {**reading, PROCESS_SM.name: min(sum(shares), 100.0)} if shares else reading

    def _sm_shares(self, own: Collection[int]) -> list[float]:
        samples = self._device.ask(PROCESS_UTILIZATION, self._last_used) or ()
        latest: dict[int, Any] = {}
        for sample in sorted(samples, key=lambda sample: int(sample.timeStamp)):
            self._last_used = sample.timeStamp
            latest[sample.pid] = sample
        return [float(sample.smUtil) for pid, sample in latest.items() if pid in own and sample.smUtil <= 100]

    def _named(self, reading: Reading) -> Reading:
        return {f"{self.gpu.key}_{name}": float(value) for name, value in reading.items()}


class DeviceSampler(Sampler):
    """Of a whole GPU.

    Args:
        now: Energy and shares of time count from here, in seconds.
    """

    polled = POLLED
    once = ONCE

    def __init__(self, gpu: Gpu, device: Device, gpm: Gpm, now: float) -> None:
        super().__init__(gpu, device, gpm)
        self._energy = Energy()
        self._add_energy(now)
        self._limit = device.ask(ENFORCED_LIMIT)
        self._throttles = ThrottleShares(device, self._ask_fields(), now)

    def _poll(self) -> dict[str, float]:
        self._throttles.poll()
        reading = super()._poll()
        power = self._device.ask(POWER_USAGE)
        if power is not None:
            reading[POWER.name] = power / 1000
            share = percent_of(power, self._limit or 0)
            if share is not None:
                reading[POWER_SHARE.name] = share
        return reading

    def _close_window(self, now: float) -> Reading:
        fields = self._ask_fields()
        temperature = fields.pop(MEMORY_TEMPERATURE_FIELD, None)
        self._limit = self._device.ask(ENFORCED_LIMIT)
        reading = {
            ENERGY.name: self._add_energy(now),
            POWER_LIMIT.name: None if self._limit is None else self._limit / 1000,
            MEMORY_TEMPERATURE.name: temperature,
        }
        known = {name: value for name, value in reading.items() if value is not None}
        gpm = super()._close_window(now)
        asked = ONCE_A_WINDOW if PCIE_SENT.name in gpm else (*ONCE_A_WINDOW, *PCIE_THROUGHPUT)
        return {**known, **_read(self._device, asked), **self._throttles.close(fields, now), **gpm}

    def _add_energy(self, now: float) -> float | None:
        millijoules = self._device.ask(ENERGY_COUNTER)
        return None if millijoules is None else self._energy.add(millijoules, now)

    def _ask_fields(self) -> dict[int, int]:
        values = self._device.ask(FIELD_VALUES, FIELDS) or ()
        return {value.fieldId: _number(value) for value in values if value.nvmlReturn == 0}


def _number(field: Any) -> int:  # noqa: ANN401
    # Of a shorter one, the rest of the union may hold anything.
    return int(field.value.uiVal if field.valueType == UNSIGNED_INT else field.value.ullVal)


def _read(device: Device, asked: Iterable[Asked]) -> dict[str, float]:
    reading: dict[str, float] = {}
    for one in asked:
        answer = device.ask(one.question)
        if answer is None:
            continue
        for metric, read in one.metrics:
            value = read(answer)
            if value is not None:
                reading[metric.name] = value
    return reading
