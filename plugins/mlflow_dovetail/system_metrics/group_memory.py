"""How much of the memory that a control group may have is in use: at its limit the kernel kills.

Source:
    Linux: Documentation/admin-guide/cgroup-v2.rst, "Memory Interface Files"; cgroup-v1/memory.rst.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from mlflow_dovetail.cgroup import ROOT, find_cgroup, read_memory_limit

# By the version of the hierarchy: the limit, the use, and the line of `memory.stat` with what can be taken back.
_NAMES = {
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    2: ("memory.max", "memory.current", "inactive_file"),
}


@dataclass(frozen=True)
class GroupMemory:
    """The control group whose memory limit a process reaches first.

    Args:
        limit_bytes: What the group may have, with all groups inside it.
    """

    limit_bytes: int
    _folder: Path
    _version: int

    def read_used_bytes(self) -> int:
        """The group's working set: without the page cache that the kernel takes back before it kills.

        Raises:
            OSError: A file cannot be read, or is gone with the group.
        """
        _, use, kept = _NAMES[self._version]
        used = int((self._folder / use).read_text("ascii"))
        reclaimable = re.search(rf"^{kept} (\d+)$", (self._folder / "memory.stat").read_text("ascii"), re.MULTILINE)
        return max(0, used - int(reclaimable[1])) if reclaimable else used


def find_group_memory(pid: int, root: Path = ROOT) -> GroupMemory | None:
    """The memory limit of a process; None where no group limits it to less than the host has.

    Args:
        pid: A living process.
        root: Stands for `/`.
    """
    limit = read_memory_limit(pid, root)
    group = find_cgroup("memory", pid, root)
    # Version 1 writes "no limit" as a number that no machine has.
    if limit is None or group is None or limit >= psutil.virtual_memory().total:
        return None
    for folder in group.folders():
        if _read_limit(folder / _NAMES[group.version][0]) == limit:
            return GroupMemory(limit, folder, group.version)
    return None


def _read_limit(file: Path) -> int | None:
    try:
        text = file.read_text("ascii", "replace").strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None
