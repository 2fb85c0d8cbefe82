"""Pressure is that of the group that limits the run, else the host's, and nothing where the kernel measures none."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlflow_dovetail.system_metrics.pressure import RESOURCES, find_pressure_files, read_stalled_seconds

SOME = "some avg10=1.53 avg60=0.87 avg300=0.10 total=157622151\n"
FULL = "full avg10=0.00 avg60=0.00 avg300=0.00 total=2500000\n"
V1 = "32 23 0:34 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
V2 = "31 23 0:33 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
HOST = {f"proc/pressure/{resource}": SOME for resource in RESOURCES}
JOB = "sys/fs/cgroup/a/job"
GROUP = {"proc/42/cgroup": "0::/a/job\n", "proc/self/mountinfo": V2} | {f"{JOB}/{r}.pressure": SOME for r in RESOURCES}
OF_HOST = dict(zip(RESOURCES, HOST, strict=True))
OF_GROUP = {resource: f"{JOB}/{resource}.pressure" for resource in RESOURCES}

TREES = [
    ("a kernel without", {}, {}),
    ("no groups", HOST, OF_HOST),
    ("a group without limits", HOST | GROUP | {f"{JOB}/cpu.max": "max 100000\n"}, OF_HOST),
    ("processors are limited", HOST | GROUP | {f"{JOB}/cpu.max": "50000 100000\n"}, OF_GROUP),
    ("memory is limited, above", HOST | GROUP | {"sys/fs/cgroup/a/memory.max": "1000\n"}, OF_GROUP),
    (
        "a group that measures some",
        HOST | GROUP | {f"{JOB}/cpu.max": "50000 100000\n", f"{JOB}/io.pressure": None},
        OF_GROUP | {"io": "proc/pressure/io"},
    ),
    (
        "version 1 measures none of its own",
        HOST
        | {"proc/42/cgroup": "3:cpu,cpuacct:/job\n", "proc/self/mountinfo": V1}
        | {
            "sys/fs/cgroup/cpu/job/cpu.cfs_quota_us": "50000\n",
            "sys/fs/cgroup/cpu/job/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/cpu/job/cpu.pressure": SOME,
        },
        OF_HOST,
    ),
    ("what cannot be read", HOST | {"proc/pressure/cpu": None}, {r: OF_HOST[r] for r in ("memory", "io")}),
    ("what is empty", HOST | {"proc/pressure/io": ""}, {r: OF_HOST[r] for r in ("cpu", "memory")}),
]


def write(root: Path, files: dict[str, str | None]) -> Path:
    """A tree of files; None is a file that cannot be read: a folder stands there."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        if text is None:
            (root / name).mkdir()
        else:
            (root / name).write_text(text)
    return root


@pytest.mark.parametrize(("files", "found"), [tree[1:] for tree in TREES], ids=[tree[0] for tree in TREES])
def test_files(tmp_path: Path, files: dict[str, str | None], found: dict[str, str]) -> None:
    root = write(tmp_path, files)
    assert find_pressure_files(42, root) == {resource: tmp_path / name for resource, name in found.items()}


@pytest.mark.parametrize(
    ("text", "stalled"),
    [
        (SOME + FULL, {"some": 157.622151, "full": 2.5}),
        (SOME, {"some": 157.622151}),
        ("some avg10=nan\n", {}),
    ],
)  # fmt: skip
def test_totals(tmp_path: Path, text: str, stalled: dict[str, float]) -> None:
    (tmp_path / "cpu").write_text(text)
    assert read_stalled_seconds(tmp_path / "cpu") == stalled
