"""How often the kernel has killed for memory where a process lives: what tells such a death from another SIGKILL.

Source:
    Linux: Documentation/admin-guide/cgroup-v2.rst, `memory.events`; cgroup-v1/memory.rst, `memory.oom_control`.
"""

from __future__ import annotations

import re
from pathlib import Path

from mlflow_dovetail.cgroup import ROOT, find_cgroup

_OOM_KILL = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)


def read_oom_kills(pid: int, root: Path = ROOT) -> int | None:
    """How many processes of a process's control group the kernel has killed for memory, since the group was made.

    The kernel counts in the group of the killed process, whatever limit was reached: that of the group, of a
    container around it, or the machine's whole memory. In version 2 the groups below are counted too.

    Args:
        pid: A living process; of one that has ended the group is not known. A child is in its parent's group unless
            somebody has moved one of them.
        root: Stands for `/`.

    Returns:
        None where nothing counts: another system than Linux, no memory controller, a kernel before 4.13.
    """
    file = find_oom_file(pid, root)
    return None if file is None else read_oom_file(file)


def find_oom_file(pid: int, root: Path = ROOT) -> Path | None:
    """The file that counts for a living process; it can still be read when the process is dead."""
    cgroup = find_cgroup("memory", pid, root)
    if cgroup is None:
        return None
    if cgroup.version == 1:
        file = cgroup.folder / "memory.oom_control"
        return file if file.is_file() else None
    # A group without the memory controller is charged to the nearest one above that has it.
    return next((file for folder in cgroup.folders() if (file := folder / "memory.events").is_file()), None)


def read_oom_file(file: Path) -> int | None:
    """The count in a file of `find_oom_file`; None when the group is gone."""
    try:
        count = _OOM_KILL.search(file.read_text("ascii", "replace"))
    except OSError:
        return None
    return int(count[1]) if count else None
