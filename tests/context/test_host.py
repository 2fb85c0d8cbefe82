"""The host is described as the process may use it, and no secret with it."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from mlflow_dovetail.context import read_host
from mlflow_dovetail.context.host import ENVIRONMENT_VARIABLES

V1 = "31 23 0:33 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
V1 += "32 23 0:34 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
V2 = "31 23 0:33 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
UNLIMITED = "9223372036854771712\n"


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_this_host() -> None:
    host = read_host()
    assert json.loads(json.dumps(host)) == host
    assert host["host"] == platform.node()
    assert platform.release() in host["kernel"]
    assert host["cpu"]["count"] == os.cpu_count()
    assert 1 <= host["cpu"]["affinity"] <= os.cpu_count()
    assert host["memory"]["total_bytes"] > 2**28
    assert host["python"]["version"] == platform.python_version()
    assert Path(host["python"]["executable"]).name == Path(sys.executable).name


def test_the_affinity_of_the_process_counts() -> None:
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); from mlflow_dovetail.context import *; "
    command = [sys.executable, "-c", code + "print(read_host()['cpu']['affinity'])"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "1\n"


TREES = [
    ("no groups", {}, {}, {}),
    (
        "v2, a limit above counts",
        {
            "proc/self/cgroup": "0::/a.slice/b\n",
            "proc/self/mountinfo": V2,
            "sys/fs/cgroup/a.slice/b/memory.max": "max\n",
            "sys/fs/cgroup/a.slice/memory.max": "67108864\n",
            "sys/fs/cgroup/a.slice/b/cpu.max": "150000 100000\n",
            "sys/fs/cgroup/a.slice/cpu.max": "max 100000\n",
        },
        {"cgroup_limit": 1.5},
        {"cgroup_limit_bytes": 67108864},
    ),
    (
        "v1",
        {
            "proc/self/cgroup": "4:memory:/job\n3:cpu,cpuacct:/job\n0::/\n",
            "proc/self/mountinfo": V1,
            "sys/fs/cgroup/memory/job/memory.limit_in_bytes": "67108864\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": UNLIMITED,
            "sys/fs/cgroup/cpu/job/cpu.cfs_quota_us": "50000\n",
            "sys/fs/cgroup/cpu/job/cpu.cfs_period_us": "100000\n",
        },
        {"cgroup_limit": 0.5},
        {"cgroup_limit_bytes": 67108864},
    ),
    (
        "v1 without limits",
        {
            "proc/self/cgroup": "4:memory:/\n3:cpu,cpuacct:/\n",
            "proc/self/mountinfo": V1,
            "sys/fs/cgroup/memory/memory.limit_in_bytes": UNLIMITED,
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        },
        {},
        {},
    ),
]


@pytest.mark.parametrize(("files", "cpu", "memory"), [tree[1:] for tree in TREES], ids=[tree[0] for tree in TREES])
def test_limits_of_groups(
    tmp_path: Path, files: dict[str, str], cpu: dict[str, object], memory: dict[str, object]
) -> None:
    host = read_host(write(tmp_path, files))
    assert {key: value for key, value in host["cpu"].items() if key.startswith("cgroup")} == cpu
    assert {key: value for key, value in host["memory"].items() if key.startswith("cgroup")} == memory


@pytest.mark.parametrize(
    ("text", "driver"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\n", "550.54.15"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  575.57.08  Release Build  (x)\n", "575.57.08"),
        ("GCC version: gcc 12.2.0 (Debian)\n", None),
    ],
)  # fmt: skip
def test_driver(tmp_path: Path, text: str, driver: str | None) -> None:
    assert read_host(write(tmp_path, {"proc/driver/nvidia/version": text}))["gpu"].get("driver") == driver


def test_cpu_model(tmp_path: Path) -> None:
    host = read_host(
        write(tmp_path, {"proc/cpuinfo": "processor\t: 0\nmodel name\t: AMD EPYC 9654\n\nmodel name: no\n"})
    )
    assert host["cpu"]["model"] == "AMD EPYC 9654"


def test_variables_by_name_only_and_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ENVIRONMENT_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    secrets = {"SLURM_JWT": "s", "AWS_SECRET_ACCESS_KEY": "s", "NCCL_TOKEN": "s", "MY_CUDA_VISIBLE_DEVICES": "s"}
    for name, value in {**secrets, "CUDA_VISIBLE_DEVICES": "", "SLURM_JOB_ID": "7", "TZ": "http://u:pw@h"}.items():
        monkeypatch.setenv(name, value)
    assert read_host()["environment"] == {"CUDA_VISIBLE_DEVICES": "", "SLURM_JOB_ID": "7", "TZ": "http://***@h"}


def test_the_home_folder_is_not_named(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.setattr(sys, "executable", str(home / "venv/bin/python"))
    assert read_host()["python"]["executable"] == "~/venv/bin/python"
    monkeypatch.setattr(sys, "executable", f"{home}2/bin/python")
    assert read_host()["python"]["executable"] == f"{home}2/bin/python"
