"""Counters of a host that only grow, in such units that what one has grown in a second is the metric of its name."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

import psutil  # type: ignore[import-untyped]

from mlflow_dovetail.system_metrics.pressure import read_stalled_seconds
from mlflow_dovetail.system_metrics.process_tree import TreeSample

# Of all processors together; they are no metrics, their quotient is one.
BUSY_SECONDS = "busy seconds"
ALL_SECONDS = "all seconds"

# These stand on a disk that is counted itself, or on none.
_STACKED = re.compile(r"(loop|ram|zram|dm-|md)\d")


class Swap(NamedTuple):
    """A host's swap: what there is and what is used of it, and what has gone in and out since the host started."""

    total_bytes: int
    used_bytes: int
    in_bytes: int
    out_bytes: int


def count_processors() -> dict[str, float]:
    """Busy is what is neither idle nor waiting for a disk, as `psutil.cpu_percent` has it; stolen time is busy."""
    times = psutil.cpu_times()._asdict()
    # Linux has the time of guests in `user` and `nice` too.
    total = sum(times.values()) - times.get("guest", 0.0) - times.get("guest_nice", 0.0)
    return {BUSY_SECONDS: total - times["idle"] - times.get("iowait", 0.0), ALL_SECONDS: total}


def count_disks() -> dict[str, float]:
    """Whole local disks: a volume group, an encrypted or a loop device would count its disk's bytes again."""
    disks = [disk for name, disk in (psutil.disk_io_counters(perdisk=True) or {}).items() if _is_whole_disk(name)]
    if not disks:
        return {}
    return {
        "disk_read_megabytes_per_second": sum(disk.read_bytes for disk in disks) / 1e6,
        "disk_write_megabytes_per_second": sum(disk.write_bytes for disk in disks) / 1e6,
    }


def count_network() -> dict[str, float]:
    """All interfaces, loopback too, as MLflow counts."""
    network = psutil.net_io_counters()
    if network is None:
        return {}
    return {
        "network_receive_megabytes_per_second": network.bytes_recv / 1e6,
        "network_transmit_megabytes_per_second": network.bytes_sent / 1e6,
    }


def read_swap() -> Swap | None:
    """None on a host without swap."""
    swap = psutil.swap_memory()
    return Swap(swap.total, swap.used, swap.sin, swap.sout) if swap.total else None


def count_swapping(swap: Swap) -> dict[str, float]:
    """What has gone through a swap."""
    return {
        "swap_in_megabytes_per_second": swap.in_bytes / 1e6,
        "swap_out_megabytes_per_second": swap.out_bytes / 1e6,
    }


def count_pressure(resource: str, file: Path) -> dict[str, float]:
    """Of a file of `find_pressure_files`."""
    stalled = read_stalled_seconds(file)
    return {f"pressure_{resource}_{who}_percentage": 100 * seconds for who, seconds in stalled.items()}


def count_tree(tree: TreeSample) -> dict[str, float]:
    """What the run's processes have used."""
    counted = {"process_cpu_utilization_percentage": 100 * tree.cpu_seconds}
    if tree.read_bytes is not None and tree.written_bytes is not None:
        counted["process_disk_read_megabytes_per_second"] = tree.read_bytes / 1e6
        counted["process_disk_write_megabytes_per_second"] = tree.written_bytes / 1e6
    return counted


@cache
def _is_whole_disk(name: str) -> bool:
    """Linux lists partitions beside their disk; `/sys/block` has disks only, with `!` for a slash in a name."""
    blocks = Path("/sys/block")
    return not _STACKED.match(name) and (not blocks.is_dir() or (blocks / name.replace("/", "!")).exists())
