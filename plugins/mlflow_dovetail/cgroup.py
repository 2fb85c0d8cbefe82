"""Where the control groups of a process lie in the file system, and what they limit: version 1, version 2, or both.

Source:
    Linux: Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/; proc(5), `/proc/[pid]/mountinfo`; cgroups(7).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/")


@dataclass(frozen=True)
class Cgroup:
    """The group of a process that one controller may limit or count.

    Args:
        version: Of the hierarchy, 1 or 2: its files have other names.
        folder: The group's own.
        top: The hierarchy's highest folder that can be seen from here; inside a container, often that of the container.
    """

    version: int
    folder: Path
    top: Path

    def folders(self) -> Iterator[Path]:
        """The group's own folder, then those above it: a limit of any of them holds for the process."""
        folder = self.folder
        yield folder
        while folder != self.top and self.top in folder.parents:
            folder = folder.parent
            yield folder


def find_cgroup(controller: str, pid: int | None = None, root: Path = ROOT) -> Cgroup | None:
    """The group of a living process under a controller (`memory`, `cpu`).

    A controller is in one hierarchy only; where version 1 has it, that is the one.

    Args:
        pid: This process when None. One that has ended, though not been waited for, says the wrong group.
        root: Stands for `/`: `proc` and the mount points are looked for in it.

    Returns:
        None where there is none: another system than Linux, a process that is gone, hierarchies not mounted. A group
        of version 2 may be without the controller; then only those above it have the controller's files.
    """
    try:
        groups = (root / f"proc/{pid or 'self'}/cgroup").read_text("utf-8", "surrogateescape")
        mounts = (root / "proc/self/mountinfo").read_text("utf-8", "surrogateescape")
    except OSError:
        return None
    found = {version: path for version, path in _read_groups(groups, controller) if not path.endswith(" (deleted)")}
    for version in sorted(found):
        for mounted, top in _read_mounts(mounts, controller, version):
            return Cgroup(version, *_locate(found[version], mounted, root / top.lstrip("/")))
    return None


def read_cpu_limit(pid: int | None = None, root: Path = ROOT) -> float | None:
    """How many cores the groups of a process leave it, at the least; None where nothing limits them."""
    return _least(_cpu_limit(version, folder) for version, folder in _levels("cpu", pid, root))


def read_memory_limit(pid: int | None = None, root: Path = ROOT) -> int | None:
    """How many bytes of memory the groups of a process leave it, at the least; None where nothing limits them.

    Version 1 writes "no limit" as a number that no machine has, and so it is returned.
    """
    limit = _least(_memory_limit(version, folder) for version, folder in _levels("memory", pid, root))
    return None if limit is None else int(limit)


def _cpu_limit(version: int, folder: Path) -> float | None:
    text = _read(folder / "cpu.max")
    if version == 1:
        text = f"{_read(folder / 'cpu.cfs_quota_us')} {_read(folder / 'cpu.cfs_period_us')}"
    limit = re.fullmatch(r"(\d+)\s+([1-9]\d*)\s*", text)
    return int(limit[1]) / int(limit[2]) if limit else None


def _memory_limit(version: int, folder: Path) -> float | None:
    text = _read(folder / ("memory.limit_in_bytes" if version == 1 else "memory.max")).strip()
    return int(text) if text.isdecimal() else None


def _levels(controller: str, pid: int | None, root: Path) -> list[tuple[int, Path]]:
    cgroup = find_cgroup(controller, pid, root)
    return [(cgroup.version, folder) for folder in cgroup.folders()] if cgroup else []


def _least(limits: Iterable[float | None]) -> float | None:
    return min((limit for limit in limits if limit is not None), default=None)


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8", "replace")
    except OSError:
        return ""


def _read_groups(groups: str, controller: str) -> Iterator[tuple[int, str]]:
    for line in groups.splitlines():
        number, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            yield 1, path
        elif number == "0" and not controllers:
            yield 2, path


def _read_mounts(mounts: str, controller: str, version: int) -> Iterator[tuple[str, str]]:
    """Of each fitting mount: which group is mounted, and where."""
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        kind, _, options = right.split(" ", 2)
        if (version == 1 and kind == "cgroup" and controller in options.split(",")) or (
            version == 2 and kind == "cgroup2"
        ):
            mounted, top = map(_unescape, left.split(" ")[3:5])
            yield mounted, top


def _locate(path: str, mounted: str, top: Path) -> tuple[Path, Path]:
    inside = path[len(mounted) :] if mounted != "/" and f"{path}/".startswith(f"{mounted}/") else path
    folder = top / inside.lstrip("/")
    # Without a namespace of its own, a container may be told a path of its host.
    return (folder, top) if ".." not in folder.parts and folder.is_dir() else (top, top)


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
