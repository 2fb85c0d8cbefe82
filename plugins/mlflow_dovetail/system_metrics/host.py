"""The host of a run, sampled: processors, memory, swap, disk, network, pressure; and the run's own share of them."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import psutil  # type: ignore[import-untyped]

from mlflow_dovetail.cgroup import ROOT, read_cpu_limit
from mlflow_dovetail.system_metrics.group_memory import find_group_memory
from mlflow_dovetail.system_metrics.host_counters import (
    ALL_SECONDS,
    BUSY_SECONDS,
    Swap,
    count_disks,
    count_network,
    count_pressure,
    count_processors,
    count_swapping,
    count_tree,
    read_swap,
)
from mlflow_dovetail.system_metrics.pressure import find_pressure_files
from mlflow_dovetail.system_metrics.process_tree import ProcessTree, TreeSample
from mlflow_dovetail.system_metrics.records import Reading

# A megabyte is 1e6 bytes, as MLflow has it. "The run's processes" are those of `ProcessTree`.
FIELDS: Mapping[str, str] = {
    "cpu_utilization_percentage": "Time that the host's processors were busy; 100 is all of them",
    "cpu_limit_cores": "Processors that a control group leaves the run; absent without a limit",
    "cpu_usage_of_limit_percentage": "Processor time of the run's processes, as a share of cpu_limit_cores",
    "load_average_1_minute": "Processes of the host that ran or waited for a processor or a disk",
    "system_memory_usage_megabytes": "Memory of the host in use",
    "system_memory_usage_percentage": "Memory of the host in use, as a share of all",
    "system_memory_available_megabytes": "Memory of the host that can be given without swapping",
    "memory_limit_megabytes": "Memory that a control group leaves the run; absent without a limit",
    "memory_usage_of_limit_percentage": "Memory of the group that cannot be taken back, as a share of its limit",
    "swap_usage_megabytes": "Swap of the host in use; absent on a host without swap, as all of swap",
    "swap_usage_percentage": "Swap of the host in use, as a share of all",
    "swap_in_megabytes_per_second": "Memory read back from swap",
    "swap_out_megabytes_per_second": "Memory written to swap",
    "disk_usage_percentage": "Use of the file system that holds the project, of what its user may have",
    "disk_usage_megabytes": "Use of the file system that holds the project",
    "disk_available_megabytes": "What is left to the user on the file system that holds the project",
    "disk_read_megabytes_per_second": "Read from all local disks of the host",
    "disk_write_megabytes_per_second": "Written to all local disks of the host",
    "network_receive_megabytes": "Received over all interfaces of the host, loopback too, since the run is watched",
    "network_transmit_megabytes": "Sent over all interfaces of the host, loopback too, since the run is watched",
    "network_receive_megabytes_per_second": "Received over all interfaces of the host, loopback too",
    "network_transmit_megabytes_per_second": "Sent over all interfaces of the host, loopback too",
    "pressure_cpu_some_percentage": "Time in which a process that could run waited for a processor",
    "pressure_memory_some_percentage": "Time in which a process waited for memory",
    "pressure_memory_full_percentage": "Time in which all that had work to do waited for memory",
    "pressure_io_some_percentage": "Time in which a process waited for storage",
    "pressure_io_full_percentage": "Time in which all that had work to do waited for storage",
    "process_cpu_utilization_percentage": "Processor time of the run's processes; 100 is one core",
    "process_memory_megabytes": "Resident memory of the run's processes; what they share counts in each",
    "process_disk_read_megabytes_per_second": "Read from storage by the run's processes, not from the page cache",
    "process_disk_write_megabytes_per_second": "Written to storage by the run's processes",
    "process_threads": "Threads of the run's processes",
    "process_count": "The run's processes",
}

# Processors count time in hundredths of a second: a rate over less would be mostly rounding.
SHORTEST_SECONDS = 0.5
# A look for new processes costs more than the rest of a poll. Each window has one; long windows have more.
LOOK_SECONDS = 6.0
# A total since the first moment, and the rate of the same counter.
_TOTALS = {key: f"{key}_per_second" for key in ("network_receive_megabytes", "network_transmit_megabytes")}

Value = TypeVar("Value")


@dataclass(frozen=True)
class _Moment:
    at: float
    tree: TreeSample | None
    swap: Swap | None
    counters: dict[str, float]


class HostSource:
    """A `Source` of the host's values and of those of a run's processes.

    Rates are over the real time since the last `close_window`, the first since this was made; one that spans less than
    half a second, or whose counter fell, is absent.

    Args:
        tree: The run's processes.
        folder: On the disk to watch: the project's.
        root: Stands for `/`, where control groups and pressure are looked for.
    """

    name = "host"
    maxima = frozenset(
        {"process_memory_megabytes", "system_memory_usage_percentage", "memory_usage_of_limit_percentage"}
    )

    def __init__(self, tree: ProcessTree, folder: Path, root: Path = ROOT) -> None:
        self._tree = tree
        self._folder = folder
        self._troubles: Counter[str] = Counter()
        pid = tree.root_pid
        self._cores = self._ask("the processor limit", lambda: read_cpu_limit(pid, root))
        self._group = self._ask("the memory limit", lambda: find_group_memory(pid, root))
        self._pressure = self._ask("pressure", lambda: find_pressure_files(pid, root)) or {}
        self._last = self._take()
        self._first = dict(self._last.counters)

    def poll(self) -> Reading:
        """Memory: the host's, the run's and the limited group's."""
        return {
            **(self._ask("the host's memory", _read_memory) or {}),
            **(self._ask("the run's memory", self._read_tree_memory) or {}),
            **(self._ask("the control group's memory", self._read_group_memory) or {}),
        }

    def close_window(self) -> Reading:
        """All the rest."""
        now = self._take()
        values = self._totals(now.counters)
        if now.at - self._last.at >= SHORTEST_SECONDS:
            values |= _find_rates(self._last, now)
            self._last = now
        return {
            **values,
            **self._limits(values),
            **(_describe_tree(now.tree) if now.tree else {}),
            **(_describe_swap(now.swap) if now.swap else {}),
            **(self._ask("the load", _read_load) or {}),
            # Last: a file system of a server that is gone lets its callers wait.
            **(self._ask("the disk's use", lambda: _read_disk_use(self._folder)) or {}),
        }

    def troubles(self) -> Mapping[str, int]:
        """Causes since the last call, such as `the disk's use: FileNotFoundError`."""
        found, self._troubles = self._troubles, Counter()
        return found

    def _ask(self, what: str, read: Callable[[], Value]) -> Value | None:
        try:
            return read()
        except NotImplementedError:
            return None  # psutil's word for a system that does not tell
        except Exception as error:  # noqa: BLE001 - whatever one part meets, the others are read
            self._troubles[f"{what}: {type(error).__name__}"] += 1
            return None

    def _take(self) -> _Moment:
        at = time.monotonic()
        tree = self._ask("the run's processes", self._tree.sample)
        swap = self._ask("swap", read_swap)
        parts: dict[str, Callable[[], dict[str, float]]] = {
            "processors": count_processors,
            "disks": count_disks,
            "the network": count_network,
        }
        for resource, file in self._pressure.items():
            parts[f"pressure of {resource}"] = partial(count_pressure, resource, file)
        counters = {**(count_tree(tree) if tree else {}), **(count_swapping(swap) if swap else {})}
        for what, count in parts.items():
            counters.update(self._ask(what, count) or {})
        return _Moment(at, tree, swap, counters)

    def _totals(self, counters: Mapping[str, float]) -> dict[str, float]:
        grown = {
            total: counters[rate] - self._first.setdefault(rate, counters[rate])
            for total, rate in _TOTALS.items()
            if rate in counters
        }
        return {total: value for total, value in grown.items() if value >= 0}

    def _limits(self, values: Mapping[str, float]) -> dict[str, float]:
        limits = {}
        if self._group:
            limits["memory_limit_megabytes"] = self._group.limit_bytes / 1e6
        if self._cores:
            limits["cpu_limit_cores"] = self._cores
            if "process_cpu_utilization_percentage" in values:
                limits["cpu_usage_of_limit_percentage"] = values["process_cpu_utilization_percentage"] / self._cores
        return limits

    def _read_tree_memory(self) -> dict[str, float]:
        used = self._tree.read_memory(LOOK_SECONDS)
        return {} if used is None else {"process_memory_megabytes": used / 1e6}

    def _read_group_memory(self) -> dict[str, float]:
        if self._group is None:
            return {}
        return {"memory_usage_of_limit_percentage": 100 * self._group.read_used_bytes() / self._group.limit_bytes}


def _read_memory() -> dict[str, float]:
    memory = psutil.virtual_memory()
    return {
        "system_memory_usage_megabytes": memory.used / 1e6,
        "system_memory_usage_percentage": 100 * memory.used / memory.total,
        "system_memory_available_megabytes": memory.available / 1e6,
    }


def _find_rates(before: _Moment, now: _Moment) -> dict[str, float]:
    seconds = now.at - before.at
    grown = {key: value - before.counters[key] for key, value in now.counters.items() if key in before.counters}
    rates = {key: value / seconds for key, value in grown.items() if value >= 0 and key in FIELDS}
    if grown.get(ALL_SECONDS, 0) > 0:
        rates["cpu_utilization_percentage"] = 100 * grown[BUSY_SECONDS] / grown[ALL_SECONDS]
    return rates


def _describe_tree(tree: TreeSample) -> dict[str, float]:
    return {"process_threads": float(tree.threads), "process_count": float(tree.processes)}


def _describe_swap(swap: Swap) -> dict[str, float]:
    used = swap.used_bytes
    return {"swap_usage_megabytes": used / 1e6, "swap_usage_percentage": 100 * used / swap.total_bytes}


def _read_load() -> dict[str, float]:
    return {"load_average_1_minute": os.getloadavg()[0]} if hasattr(os, "getloadavg") else {}


def _read_disk_use(folder: Path) -> dict[str, float]:
    disk = psutil.disk_usage(str(folder))
    return {
        "disk_usage_percentage": disk.percent,
        "disk_usage_megabytes": disk.used / 1e6,
        "disk_available_megabytes": disk.free / 1e6,
    }
