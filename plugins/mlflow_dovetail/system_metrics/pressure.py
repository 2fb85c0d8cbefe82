"""Pressure stall information: how long processes have waited for a processor, for memory or for storage.

Source:
    Linux: Documentation/accounting/psi.rst; of a control group, Documentation/admin-guide/cgroup-v2.rst.
"""

from __future__ import annotations

import re
from pathlib import Path

from mlflow_dovetail.cgroup import ROOT, find_cgroup, read_cpu_limit, read_memory_limit

RESOURCES = ("cpu", "memory", "io")
_TOTAL = re.compile(r"^(some|full) .*\btotal=(\d+)", re.MULTILINE)


def find_pressure_files(pid: int, root: Path = ROOT) -> dict[str, Path]:
    """The file that tells a process's pressure, for each resource that has one.

    Args:
        pid: A living process. Where a group of version 2 limits it, the files are its group's, which tell only of what
            runs in it; else the host's.
        root: Stands for `/`.

    Returns:
        By resource. Empty where the kernel does not measure: before 4.20, built without, or started with `psi=0`.
    """
    group = _find_limited_group(pid, root)
    files = {}
    for resource in RESOURCES:
        own = [group / f"{resource}.pressure"] if group else []
        found = next((file for file in [*own, root / "proc/pressure" / resource] if _can_read(file)), None)
        if found:
            files[resource] = found
    return files


def read_stalled_seconds(file: Path) -> dict[str, float]:
    """How long something has waited so far: `some` of the processes, and `full`: all that had work to do at once.

    Raises:
        OSError: The file cannot be read, or is gone with its group.
    """
    return {who: int(total) / 1e6 for who, total in _TOTAL.findall(file.read_text("ascii", "replace"))}


def _find_limited_group(pid: int, root: Path) -> Path | None:
    group = find_cgroup("cpu", pid, root)
    if group is None or group.version == 1:
        return None
    is_limited = read_cpu_limit(pid, root) is not None or read_memory_limit(pid, root) is not None
    return group.folder if is_limited else None


def _can_read(file: Path) -> bool:
    """A kernel with `psi=0` has the files, and refuses to read them."""
    try:
        return bool(read_stalled_seconds(file))
    except OSError:
        return False
